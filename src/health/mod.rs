//! The gate that says whether an endpoint may be used, and what feeds it.
//!
//! All of it is synchronous, is shared by all workers without a lock, and takes `now` and randomness as arguments.
//! `now` is in milliseconds from any moment in the process's life, and never 0.
//!
//! - `gate.rs`: one endpoint: usable, ejected, tried again. Fed by how its requests end.
//! - `ward.rs`: one service: how many of its endpoints may be ejected, how many are, and when one is to be tried.
//!
//! Which endpoint takes a request is left to `service/`, and what becomes of a service without usable ones.

mod gate;
#[cfg(test)]
mod tests;
mod ward;

pub use gate::{Admission, Change, Gate};
pub use ward::Ward;
