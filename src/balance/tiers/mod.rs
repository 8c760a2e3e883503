//! Levels of preference: which part of an endpoint set a request goes to, before a balancer picks an endpoint of it.
//!
//! `plan.rs` takes a set apart once, by priority and place. `shares.rs` says how much of the node's requests each zone takes,
//! by what is usable. `choose.rs` takes one request through both. Which endpoint of a group it is, is left to the
//! balancers, and by which health an endpoint is usable to the caller.

mod choose;
mod plan;
mod shares;
#[cfg(test)]
mod tests;

pub use plan::{Group, Member, Options, Place, Plan, Prefer};
pub use shares::Shares;
