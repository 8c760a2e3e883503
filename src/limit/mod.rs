//! Limits as pure arithmetic: what may still be done, given what was done. No clock but `now` as an argument, no socket, no request.
//!
//! - [`Budget`]: how many attempts beyond the first a service's requests may cause.
//! - [`Quantile`]: as long as a share of the latest answers took.

mod budget;
mod quantile;

pub use budget::Budget;
pub use quantile::Quantile;
