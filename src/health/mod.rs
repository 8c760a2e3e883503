//! The gate that says whether an endpoint may be used, and what feeds it.
//!
//! All of it but the probes is synchronous, is shared by all workers without a lock, and takes `now` and randomness as arguments.
//! `now` is in milliseconds from any moment in the process's life, and never 0.
//!
//! - `gate.rs`: one endpoint: usable, ejected, tried again, unwell. Fed by how its requests and its health checks end.
//! - `sign.rs`: what the end of a request says, and why one is ejected; `window.rs`: the share of late that succeeded.
//! - `check.rs`: what the results of its health checks make of an endpoint. `probe.rs` and `grpc_health.rs`: one such check.
//! - `ward.rs`: one service: how many of its endpoints may be ejected, how many are, and when one is to be tried.
//!
//! Which endpoint takes a request is left to `service/`, and what becomes of a service without usable ones.

mod check;
mod gate;
mod grpc_health;
mod probe;
mod sign;
#[cfg(test)]
mod tests;
mod ward;
mod window;

pub use check::{Check, Status};
pub use gate::{Admission, Change, Ejected, Gate};
pub use probe::{ProbeResult, Prober, Seen, probe};
pub use sign::{Sign, Why};
pub use ward::Ward;
