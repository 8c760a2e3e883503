//! Where a service's endpoints come from: fixed lists, files and DNS.
//!
//! Says what the endpoints are and when that was last confirmed; whoever listens keeps the last good answer, balances
//! over it and decides whether an endpoint may be used.

mod cause;
mod endpoint;
mod file;
mod follow;
mod lines;
mod notice;
mod resolver;
mod schedule;
mod search;
#[cfg(test)]
mod tests;
mod update;
mod watch;

pub use endpoint::{Endpoint, fixed};
pub use file::follow as follow_file;
pub use follow::follow;
pub use resolver::Resolver;
pub use schedule::Schedule;
pub use update::{Failure, FailureKind, Update};
