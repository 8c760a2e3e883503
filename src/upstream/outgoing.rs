//! A request as one attempt sends it.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};

use crate::http::{Body, grpc, http1::encode};

/// How long the sender still waits, in whole milliseconds.
pub static DEADLINE: HeaderName = HeaderName::from_static("towpath-deadline");
/// The same of a gRPC call, as gRPC says it.
pub static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// A request for one attempt. What all attempts have in common is borrowed.
pub struct Outgoing<'r> {
    /// Method, target and fields, written for the version of the connection; none of the fields of `left`.
    pub parts: &'r Parts,
    /// The content, from its beginning.
    pub body: Body,
    /// What the endpoint is told of the deadline.
    pub left: Option<TimeLeft>,
}

/// The time that is left when an attempt is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLeft {
    /// Until the deadline.
    pub time: Duration,
    /// The endpoint of a gRPC call is told as gRPC has it, too.
    pub is_grpc: bool,
}

impl TimeLeft {
    /// Rounded down, and never to nothing while there is something.
    pub fn millis(self) -> u64 {
        u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// Writes the fields behind an HTTP/1.1 head's others.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        encode::raw_field(out, DEADLINE.as_str(), itoa::Buffer::new().format(self.millis()).as_bytes());
        if self.is_grpc {
            encode::field(out, &GRPC_TIMEOUT, &grpc::format_timeout(self.time));
        }
    }

    /// Adds the fields to those of an HTTP/2 head.
    pub(super) fn insert(self, fields: &mut HeaderMap) {
        fields.insert(&DEADLINE, HeaderValue::from(self.millis()));
        if self.is_grpc {
            fields.insert(&GRPC_TIMEOUT, grpc::format_timeout(self.time));
        }
    }
}
