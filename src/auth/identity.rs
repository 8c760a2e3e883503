//! Who a caller is.

use super::Origin;
use crate::{config::Name, tls::Names};

/// Who is at the other end of a connection, or whom that speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// In policies, metrics and logs.
    pub name: Name,
    /// What it got that name by.
    pub origin: Origin,
    /// It is a node of the mesh, which may speak for its callers.
    pub is_node: bool,
}

impl Identity {
    /// What a caller is called of whom nothing is known.
    pub const UNKNOWN: &str = "unknown";

    /// Of whom nothing is known.
    pub fn unknown() -> Self {
        Self { name: Self::UNKNOWN.into(), origin: Origin::default(), is_node: false }
    }

    /// The names in its certificate, which was verified; none without one.
    pub fn certificate(&self) -> Option<&Names> {
        self.origin.certificate.as_ref()
    }
}
