//! What a limit on requests shows of itself: the node's, or a service's.

use super::series::{Gauge, Level};

/// One limit.
pub struct LimitSeries {
    /// Requests that may run.
    pub limit: Level,
    /// Requests that wait.
    pub pending: Gauge,
}
