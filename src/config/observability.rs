//! What towpath tells about requests, as meant: `[tracing]`.

use std::{path::PathBuf, time::Duration};

/// Distributed tracing.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    /// Where spans go; none: nowhere, and trace context is passed on all the same.
    pub otlp: Option<Otlp>,
    /// Of new traces, in millionths of all.
    pub sample_ppm: u32,
    /// In which endpoints are told of a trace, besides those in which the caller told towpath.
    pub propagate: TraceFormats,
    /// Requests of traces that are not sampled.
    pub keep: Keep,
}

/// A collector that speaks OTLP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// With port; with a path where it is OTLP over HTTP.
    pub url: String,
    /// Over gRPC, else over HTTP.
    pub grpc: bool,
    /// Who may vouch for the collector of an https URL; none: whom the system trusts.
    pub ca: Option<PathBuf>,
}

/// Which spans are exported although their trace is not sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Those of requests that take as long. Default 1 s.
    pub slower_than: Duration,
    /// As many requests each second at most, failed or slow. Default 10.
    pub per_second: u32,
}

/// A set of formats of trace context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceFormats {
    /// `traceparent` and `tracestate`.
    pub w3c: bool,
    /// `x-b3-*`.
    pub b3: bool,
    /// `b3`.
    pub b3_single: bool,
    /// `uber-trace-id`.
    pub jaeger: bool,
}
