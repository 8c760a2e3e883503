//! Spans to an OpenTelemetry collector, over OTLP.
//!
//! `exporter.rs` is the thread and its order of work, `batch.rs` what goes together, `collector.rs` the connection, `answer.rs` what a collector's answer means,
//! `spans.rs` and `attributes.rs` what a request looks like in OpenTelemetry's words, `facts.rs` what of that stands in the configuration,
//! `standing.rs` what is shown of it all. Which requests get spans is decided in `telemetry/tracer.rs`.

mod answer;
mod attributes;
mod batch;
mod collector;
mod exporter;
mod facts;
mod redact;
mod spans;
mod standing;
#[cfg(test)]
mod tests;

pub use exporter::{Exporter, check};
pub use standing::{CollectorState, Standing};
