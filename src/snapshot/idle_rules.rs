//! Warnings of callers and policies that decide nothing, when a configuration takes force.

use crate::{auth, config::Config};

/// Warnings that are logged.
const NAMED: usize = 10;

/// Warns of them, if there are any.
pub(super) fn warn(config: &Config) {
    let warnings = auth::warnings(config);
    for warning in warnings.iter().take(NAMED) {
        tracing::warn!("{warning}");
    }
    if warnings.len() > NAMED {
        tracing::warn!(more = warnings.len() - NAMED, "further warnings: `towpath check` tells all");
    }
}
