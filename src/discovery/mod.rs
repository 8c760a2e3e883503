//! Where a service's endpoints come from: fixed lists, DNS, SRV records and files.
//!
//! Says what the endpoints are and when that was last confirmed; whoever listens balances over them and decides whether
//! an endpoint may be used. `sources.rs` is the way in, `endpoint.rs` and `update.rs` are what comes out; `dns/` and `files/`
//! are the two kinds of source that change by themselves.

mod dns;
mod endpoint;
mod files;
mod sources;
#[cfg(test)]
mod tests;
mod update;

#[doc(hidden)]
pub use dns::answer::fuzz_answer;
pub use dns::schedule::Schedule;
pub use endpoint::{Endpoint, fixed};
#[doc(hidden)]
pub use files::lines::fuzz_endpoint_file;
pub use sources::{ByName, Discovery, Following, Prepared};
pub use update::{Failure, FailureKind, Update};
