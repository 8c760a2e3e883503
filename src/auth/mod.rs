//! Who a caller is, and what it may do: pure decisions. Facts come from above: the kernel's, those of a certificate, a request's.

mod claims;
mod identity;

pub use claims::claim_is;
pub use identity::Identity;
