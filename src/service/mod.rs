//! A service: the endpoints of one name, and how one of them is chosen.
//!
//! `shared.rs` is what all workers share, `breaker.rs` how much the service may have, `endpoints.rs` the set that discovery
//! publishes, `layout.rs` how requests are shared out among it, `neighbourhood.rs` how near its members are, `view.rs` one worker's way
//! to it, `ejected.rs` that way while not all of it is usable, `why.rs` what is said when none is, `standing.rs` whether it takes requests
//! that may go elsewhere, `follow.rs` the wire to discovery, `checks.rs` the health checks, `checked.rs` what they know of an endpoint,
//! `budgets.rs` what its requests may cost in further attempts, `way.rs` how its endpoints are reached, `hops.rs` the towpaths of other
//! nodes that lead to them, `reached.rs` what becomes of them when that changes, `pinned.rs` those that other nodes choose.

mod breaker;
mod budgets;
mod checked;
mod checks;
mod clock;
mod ejected;
mod endpoints;
mod follow;
mod hops;
mod layout;
mod neighbourhood;
mod pinned;
mod reached;
mod shared;
mod standing;
#[cfg(test)]
mod tests;
mod view;
mod way;
mod why;

pub use breaker::Breaker;
pub use budgets::Spend;
pub use checked::CheckState;
pub use checks::check;
pub use clock::{millis, unix_millis};
pub use endpoints::{Ejection, Endpoint, EndpointSet, Health, Known};
pub use follow::follow;
pub use hops::{Hop, Hops, follow_names};
pub use neighbourhood::Neighbourhood;
pub use shared::Service;
pub use standing::Turn;
pub use view::{Ailment, Choice, Picked, ServiceView, Wish};
pub use way::{Through, Way};
