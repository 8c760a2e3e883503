//! `towpath ca`: an authority and certificates for development, in one command each. In production, certificates come from files that
//! cert-manager or SPIRE's helper write.
//!
//! `command.rs` is what can be asked, `authority.rs` makes certificates, `files.rs` writes them.

mod authority;
mod command;
mod files;

pub(super) use command::{DEFAULT_DOMAIN, perform};
