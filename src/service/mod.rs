//! A service: the endpoints of one name, and how one of them is chosen.
//!
//! `shared.rs` is what all workers share, `endpoints.rs` the set that discovery publishes, `layout.rs` how requests are
//! shared out among it, `neighbourhood.rs` how near its members are, `view.rs` one worker's way to it, `ejected.rs` that way while not all of it is usable, `standing.rs` whether it
//! takes requests that may go elsewhere, `budgets.rs` what its requests may cost in further attempts, `follow.rs` the wire to discovery.

mod budgets;
mod clock;
mod ejected;
mod endpoints;
mod follow;
mod layout;
mod neighbourhood;
mod shared;
mod standing;
#[cfg(test)]
mod tests;
mod view;

pub use budgets::Spend;
pub use endpoints::{Endpoint, EndpointSet, Health, Known};
pub use follow::follow;
pub use neighbourhood::Neighbourhood;
pub use shared::Service;
pub use standing::Turn;
pub use view::{Choice, Picked, ServiceView, Wish};
