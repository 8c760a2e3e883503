//! Spans that go to the collector together.
//!
//! A batch is full by spans, and by bytes: gRPC receivers refuse messages of more than 4 MiB unless they are told otherwise, and callers
//! write hosts and paths, each of which is in several attributes.

use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// Spans of a batch, as OpenTelemetry's own exporters have it; a request's are not torn apart.
const SPANS: usize = 512;
/// Bytes of a batch; what one request adds at the end is a small part of as much again.
const BYTES: usize = 2 << 20;
/// Bytes that a span takes beside its own: a tag, and its length.
const FRAME: usize = 6;

/// Spans that are gathered.
#[derive(Default)]
pub(super) struct Batch {
    spans: Vec<Span>,
    bytes: usize,
}

impl Batch {
    /// Those of one request.
    pub(super) fn add(&mut self, spans: impl Iterator<Item = Span>) {
        for span in spans {
            self.bytes += span.encoded_len() + FRAME;
            self.spans.push(span);
        }
    }

    /// Whether it is to be sent at once.
    pub(super) fn is_full(&self) -> bool {
        self.spans.len() >= SPANS || self.bytes >= BYTES
    }

    pub(super) fn into_spans(self) -> Vec<Span> {
        self.spans
    }
}
