//! Towards endpoints: connect, worker-local pools, HTTP/1.1 and HTTP/2.
//!
//! Everything here belongs to one worker. Which endpoint, how often, and what a failure means to the caller are
//! decided above.

mod connect;
mod error;
mod http1;
mod http2;
mod lease;
mod outgoing;
mod pool;
mod scarcity;
mod secure;
mod target;

pub use error::{CallerFault, ConnectError, SendError, Sent};
pub use lease::Lease;
pub use outgoing::{CALLER, DEADLINE, ENDPOINT, GRPC_TIMEOUT, Outgoing, SERVICE, TimeLeft, ToNode};
pub use pool::{Pools, Want};
pub use secure::Secure;
pub use target::{Target, Version};
