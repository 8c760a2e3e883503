//! A service: the endpoints of one name, and how one of them is chosen.
//!
//! `shared.rs` is what all workers share, `endpoints.rs` the set that discovery publishes, `view.rs` one worker's way
//! to it, `follow.rs` the wire to discovery.

mod endpoints;
mod follow;
mod shared;
mod view;

pub use endpoints::{Endpoint, EndpointSet, Known};
pub use follow::follow;
pub use shared::Service;
pub use view::{Choice, Picked, ServiceView};
