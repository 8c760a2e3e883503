//! Where a service's endpoints come from: fixed lists and DNS.
//!
//! Says what the endpoints are and when that was last confirmed; whoever listens keeps the last good answer, balances
//! over it and decides whether an endpoint may be used.

mod cause;
mod endpoint;
mod follow;
mod resolver;
mod schedule;
mod search;
#[cfg(test)]
mod tests;
mod update;

pub use endpoint::{Endpoint, fixed};
pub use follow::follow;
pub use resolver::Resolver;
pub use schedule::Schedule;
pub use update::{Failure, FailureKind, Update};
