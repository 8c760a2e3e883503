//! Who a caller is, and what it may do: pure decisions. Facts come from above: the kernel's, those of a certificate, a request's.
//!
//! `callers.rs` gives connections their names, `policy.rs` decides about requests.

mod callers;
mod claims;
mod identity;
mod policy;
mod readings;

pub use callers::{Origin, Wanted, named, wanted};
pub use claims::claim_is;
pub use identity::Identity;
pub use policy::{By, Decision, Facts, Policy, PolicySet, Side};
