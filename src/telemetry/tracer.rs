//! Which requests get spans, and the way of those from workers to the exporter.

use super::Record;
use crate::config::Tracing;

/// Decides about spans, and hands them on.
pub struct Tracer {
    wanted: Tracing,
}

impl Tracer {
    /// As `wanted`.
    pub fn new(wanted: Tracing) -> Self {
        Self { wanted }
    }

    /// What is configured.
    pub fn wanted(&self) -> &Tracing {
        &self.wanted
    }

    /// Whether a new trace is sampled; `random` is uniform.
    pub fn samples(&self, random: u64) -> bool {
        // The upper half, scaled: no division, no bias that matters at a millionth.
        ((random >> 32) * 1_000_000) >> 32 < u64::from(self.wanted.sample_ppm)
    }

    /// A request that is over.
    pub fn finish(&self, _record: &Record<'_>) {}
}
