//! A request as one attempt sends it.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};

use crate::http::{Body, grpc, http1::encode};

/// How long the sender still waits, in whole milliseconds.
pub static DEADLINE: HeaderName = HeaderName::from_static("towpath-deadline");
/// The same of a gRPC call, as gRPC says it.
pub static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// To another node's towpath: the service of the endpoint that the request is for.
pub static SERVICE: HeaderName = HeaderName::from_static("towpath-service");
/// To another node's towpath: the address of that endpoint.
pub static ENDPOINT: HeaderName = HeaderName::from_static("towpath-endpoint");
/// To another node's towpath: who asks.
pub static CALLER: HeaderName = HeaderName::from_static("towpath-caller");

/// Who asks, where its name cannot stand in a field.
const UNKNOWN: HeaderValue = HeaderValue::from_static("unknown");

/// A request for one attempt. What all attempts have in common is borrowed.
pub struct Outgoing<'r> {
    /// Method, target and fields, written for the version of the connection; none of the fields of `left`.
    pub parts: &'r Parts,
    /// The content, from its beginning.
    pub body: Body,
    /// What the endpoint is told of the deadline.
    pub left: Option<TimeLeft>,
    /// What another node's towpath is told, if that is whom it goes to.
    pub node: Option<ToNode<'r>>,
}

/// What the towpath of an endpoint's node is told. Always over HTTP/2.
#[derive(Clone, Copy)]
pub struct ToNode<'r> {
    /// The endpoint's service.
    pub service: &'r HeaderValue,
    /// The endpoint.
    pub endpoint: &'r HeaderValue,
    /// Who asks.
    pub caller: &'r str,
}

impl ToNode<'_> {
    /// Adds the fields to those of an HTTP/2 head.
    pub(super) fn insert(self, fields: &mut HeaderMap) {
        fields.insert(&SERVICE, self.service.clone());
        fields.insert(&ENDPOINT, self.endpoint.clone());
        // Always there: without it, the other node would take this one for the caller.
        let caller = HeaderValue::from_str(self.caller).unwrap_or(UNKNOWN);
        fields.insert(&CALLER, caller);
    }
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
        // Another each time: no place in the table of fields is lost to it (RFC 7541 6.2.3).
        let mut millis = HeaderValue::from(self.millis());
        millis.set_sensitive(true);
        fields.insert(&DEADLINE, millis);
        if self.is_grpc {
            fields.insert(&GRPC_TIMEOUT, grpc::format_timeout(self.time));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_node_is_always_told_of_a_caller() {
        let value = HeaderValue::from_static("x");
        for (caller, expected) in [("shop", "shop"), ("a\nb", "unknown"), ("", "")] {
            let mut fields = HeaderMap::new();
            fields.insert(&CALLER, HeaderValue::from_static("root"));
            ToNode { service: &value, endpoint: &value, caller }.insert(&mut fields);
            assert_eq!(fields.get_all(&CALLER).iter().collect::<Vec<_>>(), [expected], "{caller:?}");
        }
    }
}
