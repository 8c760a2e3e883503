//! What connections to endpoints count with: a service's, or those to the towpaths of other nodes.

use super::series::{Counter, Gauge};

/// Clones count in the same series.
#[derive(Clone)]
pub struct ConnectionSeries {
    /// Those that are open, idle, busy and being made.
    pub open: Gauge,
    /// None: not told apart.
    pub(super) further: Option<(Gauge, Counter)>,
}

impl ConnectionSeries {
    /// One more has been made.
    pub fn made(&self) {
        if let Some((_, made)) = &self.further {
            made.inc();
        }
    }

    /// So many more wait for a request; negative: fewer.
    pub fn idle(&self, more: i64) {
        if let Some((idle, _)) = &self.further {
            idle.add(more);
        }
    }
}
