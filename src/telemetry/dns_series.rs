//! What questions to DNS servers count with.

use std::{sync::Arc, time::Duration};

use super::{
    family::{ByLabel, Family},
    series::Histogram,
};

/// All of one node.
pub struct DnsSeries {
    queries: Arc<Family>,
    by_result: ByLabel<8>,
    durations: Histogram,
}

impl DnsSeries {
    pub(super) fn new(queries: Arc<Family>, durations: Histogram) -> Self {
        Self { queries, by_result: ByLabel::new(), durations }
    }

    /// A server has answered, or could not: with a result of a small fixed set, after so long.
    pub fn query(&self, result: &'static str, took: Duration) {
        self.by_result.inc(result, || self.queries.counter(&[result]));
        self.durations.record(took);
    }
}
