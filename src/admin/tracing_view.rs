//! The collector that spans go to, as the admin API shows it.

use serde::{Deserialize, Serialize};

use super::words;
use crate::{export::CollectorState, snapshot::Snapshot};

/// How it goes with the collector.
#[derive(Debug, Serialize, Deserialize)]
pub struct TracingState {
    /// `[tracing] otlp`; it has no credentials in it.
    pub url: String,
    /// `grpc` or `http`.
    pub protocol: String,
    /// `idle` before anything was sent, `working` or `failing`.
    pub state: String,
    /// Since when; RFC 3339.
    pub since: String,
    /// Why it did not take spans the last time that it did not.
    pub last_error: Option<String>,
    /// Spans that some collector has taken since this process began.
    pub exported: u64,
    /// That were more than the exporter took.
    pub dropped: u64,
    /// That the collector did not take.
    pub failed: u64,
    /// Of failed and slow requests, because of `keep.per_second`.
    pub not_kept: u64,
}

impl TracingState {
    pub(super) fn of(snapshot: &Snapshot) -> Option<Self> {
        let otlp = snapshot.config.tracing.as_ref()?.otlp.as_ref()?;
        let standing = snapshot.observers.exporter.as_ref()?.standing();
        let series = snapshot.metrics.span_series();
        let state = match standing.state {
            CollectorState::Idle => "idle",
            CollectorState::Working => "working",
            CollectorState::Failing => "failing",
        };
        Some(Self {
            url: otlp.url.clone(),
            protocol: if otlp.grpc { "grpc" } else { "http" }.to_owned(),
            state: state.to_owned(),
            since: words::time(standing.since),
            last_error: standing.last_error,
            exported: series.exported.get(),
            dropped: series.dropped.get(),
            failed: series.failed.get(),
            not_kept: series.not_kept.get(),
        })
    }
}
