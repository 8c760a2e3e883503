//! The trace that a request belongs to.

use http::HeaderMap;

use crate::config::TraceFormats;

/// The ids of a request's trace and spans, and what has been decided about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// Never 0.
    pub trace_id: u128,
    /// The caller's span; none of a new trace.
    pub parent: Option<u64>,
    /// This request's own span; never 0.
    pub span: u64,
    /// Whether the trace is sampled.
    pub sampled: bool,
    /// The caller asks for all of it, whatever the rates (B3's and Jaeger's debug).
    pub debug: bool,
    /// The trace id is random, as far as W3C's second flag says.
    pub random: bool,
    /// The formats in which it came.
    pub came: TraceFormats,
}

impl TraceContext {
    /// The context that `headers` tell; a new trace where they tell none that is valid. What is invalid is removed.
    ///
    /// `sample` decides about a trace about which nobody has decided yet; `random` are three uniform numbers.
    pub fn take(headers: &mut HeaderMap, sample: impl FnOnce() -> bool, random: [u64; 3]) -> Self {
        let _ = headers;
        Self {
            trace_id: u128::from(random[0]) << 64 | u128::from(random[1].max(1)),
            parent: None,
            span: random[2].max(1),
            sampled: sample(),
            debug: false,
            random: true,
            came: TraceFormats::default(),
        }
    }

    /// Tells the callee: its parent is `span`. Written in the formats in which it came, and in those of `besides`.
    pub fn write(&self, headers: &mut HeaderMap, span: u64, besides: TraceFormats) {
        let _ = (headers, span, besides);
    }
}
