//! A request as one line of JSON, whatever bytes its caller sent.
//!
//! Written by hand into a buffer that many records share: a record borrows from the request, and costs no allocation.

use std::time::Duration;

use super::{
    Record,
    line_text::{address, escaped, hex_digits, millis, number, time},
};

/// Writes the object, without a newline.
pub(super) fn write(to: &mut Vec<u8>, record: &Record<'_>) {
    // Most lines are shorter; a longer one grows the buffer on its way.
    to.reserve(1024);
    to.extend_from_slice(b"{\"time\":\"");
    time(to, record.time);
    let mut line = Line(to);
    line.text(b"\",\"listener\":\"", record.listener);
    line.0.extend_from_slice(b"\",\"peer\":\"");
    address(line.0, record.peer);
    line.text(b"\",\"caller\":\"", record.caller);
    line.text(b"\",\"method\":\"", record.method);
    line.bytes(b"\",\"host\":\"", record.host);
    line.bytes(b"\",\"path\":\"", record.path);
    line.text(b"\",\"protocol\":\"", record.protocol);
    line.0.push(b'"');
    line.optional(b",\"route\":", record.route);
    line.optional(b",\"service\":", record.service);
    line.endpoint(record);
    line.number(b",\"status\":", record.status);
    line.optional(b",\"reason\":", record.reason);
    line.where_known(record);
    line.number(b",\"attempts\":", record.attempts);
    line.millis(b",\"duration_ms\":", record.duration);
    line.number(b",\"bytes_in\":", record.bytes_in);
    line.number(b",\"bytes_out\":", record.bytes_out);
    line.bytes(b",\"request_id\":\"", record.request_id);
    line.0.push(b'"');
    if let Some(status) = record.grpc_status {
        line.number(b",\"grpc_status\":", status);
    }
    line.trace(record);
    line.timings(record);
    line.0.push(b'}');
}

/// Each takes what stands before the value: keys are known, so that copying one is a few moves.
struct Line<'a>(&'a mut Vec<u8>);

impl Line<'_> {
    #[inline]
    fn text<const N: usize>(&mut self, before: &[u8; N], value: &str) {
        self.bytes(before, value.as_bytes());
    }

    #[inline]
    fn bytes<const N: usize>(&mut self, before: &[u8; N], value: &[u8]) {
        self.0.extend_from_slice(before);
        escaped(self.0, value);
    }

    #[inline]
    fn optional<const N: usize>(&mut self, before: &[u8; N], value: Option<&str>) {
        self.0.extend_from_slice(before);
        match value {
            Some(value) => {
                self.0.push(b'"');
                escaped(self.0, value.as_bytes());
                self.0.push(b'"');
            }
            None => self.0.extend_from_slice(b"null"),
        }
    }

    #[inline]
    fn number<const N: usize>(&mut self, before: &[u8; N], value: impl itoa::Integer) {
        self.0.extend_from_slice(before);
        number(self.0, value);
    }

    #[inline]
    fn millis<const N: usize>(&mut self, before: &[u8; N], value: impl Into<Option<Duration>>) {
        self.0.extend_from_slice(before);
        match value.into() {
            Some(value) => millis(self.0, value),
            None => self.0.extend_from_slice(b"null"),
        }
    }

    fn endpoint(&mut self, record: &Record<'_>) {
        match record.endpoint {
            Some(endpoint) => {
                self.0.extend_from_slice(b",\"endpoint\":\"");
                address(self.0, endpoint);
                self.0.push(b'"');
            }
            None => self.0.extend_from_slice(b",\"endpoint\":null"),
        }
    }

    /// What few requests have has no key where there is none.
    fn where_known(&mut self, record: &Record<'_>) {
        if record.cause.is_some() {
            self.optional(b",\"cause\":", record.cause);
        }
        if record.fault.is_some() {
            self.optional(b",\"fault\":", record.fault);
        }
        if record.policy.is_some() {
            self.optional(b",\"policy\":", record.policy);
        }
    }

    fn trace(&mut self, record: &Record<'_>) {
        let Some(trace) = record.trace else {
            return self.0.extend_from_slice(b",\"trace_id\":null,\"span_id\":null");
        };
        self.0.extend_from_slice(b",\"trace_id\":\"");
        self.0.extend_from_slice(&hex_digits::<16>((trace.trace_id >> 64) as u64));
        self.0.extend_from_slice(&hex_digits::<16>(trace.trace_id as u64));
        self.0.extend_from_slice(b"\",\"span_id\":\"");
        self.0.extend_from_slice(&hex_digits::<16>(trace.span));
        self.0.push(b'"');
    }

    fn timings(&mut self, record: &Record<'_>) {
        let last = record.answering;
        self.millis(b",\"timings_ms\":{\"routed\":", record.phases.routed);
        self.millis(b",\"admitted\":", record.phases.admitted);
        self.millis(b",\"sent\":", last.and_then(|note| note.sent));
        self.millis(b",\"head\":", last.and_then(|note| note.head));
        self.millis(b",\"answered\":", record.phases.answered);
        self.0.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        config::TraceFormats,
        net::Address,
        telemetry::{
            AttemptNote, Phases, TraceContext,
            record::samples::{attempt, sample},
        },
    };

    fn refused() -> Record<'static> {
        let refused =
            Record { route: None, service: None, status: 404, reason: Some("no_route"), ..sample() };
        Record { attempts: 0, bytes_in: 3, bytes_out: u64::MAX, ..refused }
    }

    fn line(record: &Record<'_>) -> Value {
        let mut line = Vec::new();
        write(&mut line, record);
        let line = String::from_utf8(line).unwrap();
        assert!(!line.chars().any(char::is_control), "{line:?}");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    #[test]
    fn a_line_says_everything_that_is_known() {
        let expected = json!({
            "time": "2024-02-29T23:59:59.042Z", "listener": "outgoing", "peer": "127.0.0.1:5000", "caller": "unknown", "method": "GET",
            "host": "reviews", "path": "/v2?x=1", "protocol": "HTTP/1.1", "route": null, "service": null,
            "endpoint": null, "status": 404, "reason": "no_route", "attempts": 0, "duration_ms": 1.25, "bytes_in": 3,
            "bytes_out": u64::MAX, "request_id": "id", "trace_id": null, "span_id": null,
            "timings_ms": { "routed": null, "admitted": null, "sent": null, "head": null, "answered": null },
        });
        assert_eq!(line(&refused()), expected);
        let endpoint = Address::Unix("/run/\"a\".sock".into());
        let (route, service, endpoint) = (Some("r"), Some("s"), Some(&endpoint));
        let proxied = Record { route, service, endpoint, reason: None, grpc_status: Some(14), ..refused() };
        let proxied = line(&proxied);
        assert_eq!(proxied["endpoint"], "unix:/run/\"a\".sock");
        let rest = ["route", "service", "reason", "grpc_status"].map(|key| proxied[key].clone());
        assert_eq!(rest, [json!("r"), json!("s"), json!(null), json!(14)]);
    }

    #[test]
    fn traces_and_timings_are_told_where_they_are_known() {
        let trace = TraceContext {
            trace_id: 0x0af7651916cd43dd8448eb211c80319c,
            parent: None,
            span: 0x7ad6b7169203331,
            sampled: true,
            deferred: false,
            debug: false,
            random: true,
            came: TraceFormats::default(),
        };
        let ms = |millis| Some(Duration::from_millis(millis));
        let note = |sent, head| AttemptNote { sent: ms(sent), head: ms(head), ..attempt() };
        let notes = [note(1, 2), note(3, 40)];
        let phases = Phases { routed: ms(0), admitted: Some(Duration::from_micros(1500)), answered: ms(41) };
        let told = line(&Record { trace: Some(&trace), notes: &notes, phases, ..refused() });
        assert_eq!(told["trace_id"], "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(told["span_id"], "07ad6b7169203331");
        let timings = json!({ "routed": 0.0, "admitted": 1.5, "sent": 3.0, "head": 40.0, "answered": 41.0 });
        assert_eq!(told["timings_ms"], timings, "those of the last attempt");
    }

    #[test]
    fn any_byte_of_a_host_or_path_is_one_valid_string() {
        let ascii: Vec<u8> = (0..128).collect();
        assert_eq!(
            line(&Record { path: &ascii, ..refused() })["path"],
            String::from_utf8(ascii.clone()).unwrap()
        );
        let text = "ü→🦀\u{2028}\u{7f}";
        assert_eq!(line(&Record { host: text.as_bytes(), ..refused() })["host"], text);
        let broken = b"a\xff\xfe\"b\xe2\x82";
        assert_eq!(line(&Record { host: broken, ..refused() })["host"], "a\u{fffd}\u{fffd}\"b\u{fffd}");
        for byte in 0..=255 {
            line(&Record { path: &[byte], request_id: &[byte, b'"'], ..refused() });
        }
    }
}
