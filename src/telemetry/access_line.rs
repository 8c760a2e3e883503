//! A request as one line of JSON, whatever bytes its caller sent.
//!
//! Written by hand: a record borrows from the request, and one buffer is all that it costs.

use std::{
    fmt::{self, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use super::Record;

/// The line, newline included.
pub(super) fn format(record: &Record<'_>) -> Vec<u8> {
    let mut line = Line(String::with_capacity(512));
    line.0.push_str("{\"time\":\"");
    // Writing to a string does not fail, here and below.
    let _ = write_time(&mut line.0, record.time);
    line.0.push('"');
    line.text("listener", record.listener);
    line.display("peer", record.peer);
    line.text("caller", record.caller);
    line.text("method", record.method);
    line.bytes("host", record.host);
    line.bytes("path", record.path);
    line.text("protocol", record.protocol);
    line.optional("route", record.route);
    line.optional("service", record.service);
    match record.endpoint {
        Some(endpoint) => line.display("endpoint", endpoint),
        None => line.raw("endpoint", "null"),
    }
    line.raw("status", itoa::Buffer::new().format(record.status));
    line.optional("reason", record.reason);
    if record.cause.is_some() {
        line.optional("cause", record.cause);
    }
    if record.fault.is_some() {
        line.optional("fault", record.fault);
    }
    if record.policy.is_some() {
        line.optional("policy", record.policy);
    }
    line.raw("attempts", itoa::Buffer::new().format(record.attempts));
    line.raw("duration_ms", format_args!("{:.3}", record.duration.as_secs_f64() * 1e3));
    line.raw("bytes_in", itoa::Buffer::new().format(record.bytes_in));
    line.raw("bytes_out", itoa::Buffer::new().format(record.bytes_out));
    line.bytes("request_id", record.request_id);
    if let Some(status) = record.grpc_status {
        line.raw("grpc_status", itoa::Buffer::new().format(status));
    }
    line.0.push_str("}\n");
    line.0.into_bytes()
}

struct Line(String);

impl Line {
    fn key(&mut self, key: &str) {
        self.0.push_str(",\"");
        self.0.push_str(key);
        self.0.push_str("\":");
    }

    fn raw(&mut self, key: &str, value: impl fmt::Display) {
        self.key(key);
        let _ = write!(self.0, "{value}");
    }

    fn text(&mut self, key: &str, value: &str) {
        self.bytes(key, value.as_bytes());
    }

    fn optional(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => self.text(key, value),
            None => self.raw(key, "null"),
        }
    }

    /// What is not UTF-8 shows as U+FFFD.
    fn bytes(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        self.0.push('"');
        for chunk in value.utf8_chunks() {
            let _ = Escaped(&mut self.0).write_str(chunk.valid());
            if !chunk.invalid().is_empty() {
                self.0.push('\u{fffd}');
            }
        }
        self.0.push('"');
    }

    fn display(&mut self, key: &str, value: impl fmt::Display) {
        self.key(key);
        self.0.push('"');
        let _ = write!(Escaped(&mut self.0), "{value}");
        self.0.push('"');
    }
}

/// Writes what may stand between a JSON string's quotes.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| c < ' ' || c == '"' || c == '\\' || c == '\x7f') {
            self.0.push_str(&rest[..at]);
            match rest.as_bytes()[at] {
                quoted @ (b'"' | b'\\') => self.0.extend(['\\', char::from(quoted)]),
                control => write!(self.0, "\\u{control:04x}")?,
            }
            rest = &rest[at + 1..];
        }
        self.0.push_str(rest);
        Ok(())
    }
}

/// RFC 3339 in UTC with milliseconds. A time before 1970 is written as 1970.
///
/// # Errors
/// Never: a string takes everything.
pub fn write_time(to: &mut String, time: SystemTime) -> fmt::Result {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let milli = since.subsec_millis();
    write!(to, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Year, month and day of a day since 1970-01-01, counted in 400-year eras of years that begin in March, so that the
/// leap day is a year's last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day + 2) / 153;
    let day = day - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::{
        net::{IpAddr, Ipv4Addr, SocketAddr},
        time::Duration,
    };

    use serde_json::{Value, json};

    use super::*;
    use crate::{net::Address, telemetry::Phases};

    static PEER: Address = Address::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5000));

    fn refused() -> Record<'static> {
        Record {
            time: UNIX_EPOCH + Duration::from_millis(1_709_251_199_042),
            listener: "outgoing",
            peer: &PEER,
            caller: "unknown",
            method: "GET",
            host: b"reviews",
            path: b"/v2?x=1",
            protocol: "HTTP/1.1",
            route: None,
            service: None,
            endpoint: None,
            status: 404,
            reason: Some("no_route"),
            cause: None,
            fault: None,
            policy: None,
            attempts: 0,
            duration: Duration::from_micros(1_250),
            bytes_in: 3,
            bytes_out: u64::MAX,
            request_id: b"id",
            grpc_status: None,
            trace: None,
            is_grpc: false,
            phases: Phases::default(),
            notes: &[],
        }
    }

    fn line(record: &Record<'_>) -> Value {
        let line = String::from_utf8(format(record)).unwrap();
        assert_eq!(line.find('\n'), Some(line.len() - 1), "{line:?}");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    #[test]
    fn a_line_says_everything_that_is_known() {
        let expected = json!({
            "time": "2024-02-29T23:59:59.042Z", "listener": "outgoing", "peer": "127.0.0.1:5000", "caller": "unknown", "method": "GET",
            "host": "reviews", "path": "/v2?x=1", "protocol": "HTTP/1.1", "route": null, "service": null,
            "endpoint": null, "status": 404, "reason": "no_route", "attempts": 0, "duration_ms": 1.25, "bytes_in": 3,
            "bytes_out": u64::MAX, "request_id": "id",
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

    #[test]
    fn times_are_right_across_leap_years_and_centuries() {
        let at = |seconds| {
            let mut text = String::new();
            write_time(&mut text, UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
            text
        };
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(at(seconds), expected);
        }
        assert!((0..200 * 366).map(|day| at(day * 86_400)).is_sorted());
    }
}
