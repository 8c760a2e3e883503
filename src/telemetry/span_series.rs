//! What became of spans.

use super::series::Counter;

/// Handles to `towpath_spans_total`, one for each result.
#[derive(Clone)]
pub struct SpanSeries {
    /// The collector has them.
    pub exported: Counter,
    /// More came than the exporter took.
    pub dropped: Counter,
    /// The collector did not take them.
    pub failed: Counter,
    /// Those of requests that would have been kept but for the rate.
    pub not_kept: Counter,
}
