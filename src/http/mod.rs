//! What is true of HTTP itself, whatever towpath does with it: the one body type, hop-by-hop rules, authorities,
//! gRPC's conventions, interim answers, and HTTP/1.1 framing. Nothing here knows a route or a socket's owner.

pub mod authority;
pub mod body;
pub mod grpc;
pub mod hop_by_hop;
pub mod http1;
pub mod interim;
pub mod method;

pub use body::{Body, BodyError};
pub use interim::Interim;
