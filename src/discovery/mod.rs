//! Where a service's endpoints come from: fixed lists, DNS, SRV records and files.
//!
//! Says what the endpoints are and when that was last confirmed; whoever listens balances over them and decides whether
//! an endpoint may be used.

mod answer;
mod cause;
mod endpoint;
mod file;
mod holddown;
mod inotify;
mod lines;
mod members;
mod names;
mod notice;
mod pace;
mod reach;
mod resolver;
mod schedule;
mod search;
mod server;
mod sources;
mod srv;
mod standing;
mod system;
#[cfg(test)]
mod tests;
mod update;
mod watch;

#[doc(hidden)]
pub use answer::fuzz_answer;
pub use endpoint::{Endpoint, fixed};
#[doc(hidden)]
pub use lines::fuzz_endpoint_file;
pub use schedule::Schedule;
pub use sources::{Discovery, Following, Prepared};
pub use update::{Failure, FailureKind, Update};
