//! Pure matching: which rule of a listener a request belongs to, why, and how a rule's requests split over backends.
//!
//! A [`Router`] is built from checked configuration and never changes. What a rule then does is left to `proxy/`.

mod condition;
mod explain;
mod hosts;
mod matcher;
mod paths;
mod precedence;
mod request;
mod rule;
mod split;
mod table;

pub use condition::value_is;
pub use explain::{Explanation, LostBy, Mismatch, RuleVerdict, Verdict};
pub use matcher::Matcher;
pub use request::RequestView;
pub use rule::path_is;
pub use split::Split;
pub use table::Router;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
