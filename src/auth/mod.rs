//! Who a caller is, and what it may do: pure decisions. Facts come from above: the kernel's, those of a certificate, a request's.
//!
//! Of tokens: `token.rs` judges one, by the keys of a `key_set.rs`; `tokens.rs` remembers, for one worker, what was judged;
//! `claims.rs` compares what stands in them. `provider.rs` is an issuer as the control thread keeps it: its keys come from a file,
//! or by `fetch.rs` from a URL, when `refresh.rs` says so.
//! `callers.rs` gives connections their names, `policy.rs` decides about requests, `lint.rs` finds rules that decide nothing.

mod callers;
mod claims;
mod fetch;
mod identity;
mod key_set;
mod lint;
mod policy;
mod provider;
mod readings;
mod refresh;
#[cfg(test)]
mod testing;
mod token;
mod tokens;

pub use callers::{Origin, Wanted, named, rule, wanted};
pub use claims::claim_is;
pub use identity::Identity;
pub use lint::warnings;
pub use policy::{By, Decision, Facts, Policy, PolicySet, Side};
pub use provider::{KeyState, Provider};
pub use refresh::{Resolved, keep_current};
pub use token::Refused;
pub use tokens::{Holder, Tokens};
