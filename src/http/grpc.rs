//! gRPC's conventions over HTTP: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// The statuses that towpath itself gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The caller gave up.
    Cancelled = 1,
    /// Nothing better is known.
    Unknown = 2,
    /// The deadline passed.
    DeadlineExceeded = 4,
    /// Not allowed.
    PermissionDenied = 7,
    /// Too much.
    ResourceExhausted = 8,
    /// No such method here.
    Unimplemented = 12,
    /// The protocol was broken.
    Internal = 13,
    /// Try again later.
    Unavailable = 14,
    /// Who are you?
    Unauthenticated = 16,
}

/// Codes by their names in lower case, from 0: <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>.
const CODES: [&str; 17] = [
    "ok",
    "cancelled",
    "unknown",
    "invalid-argument",
    "deadline-exceeded",
    "not-found",
    "already-exists",
    "permission-denied",
    "resource-exhausted",
    "failed-precondition",
    "aborted",
    "out-of-range",
    "unimplemented",
    "internal",
    "unavailable",
    "data-loss",
    "unauthenticated",
];

/// The name of a code, as the configuration file writes it.
pub fn name(code: u8) -> Option<&'static str> {
    CODES.get(usize::from(code)).copied()
}

/// The code of this name, in lower or upper case, with `-` or `_`.
pub fn code(name: &str) -> Option<u8> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    CODES.iter().position(|known| **known == *name).and_then(|code| u8::try_from(code).ok())
}

/// The code that stands for an HTTP status where a response has none of its own:
/// <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>.
pub fn code_for_http(status: u16) -> u8 {
    match status {
        400 => Status::Internal as u8,
        401 => Status::Unauthenticated as u8,
        403 => Status::PermissionDenied as u8,
        404 => Status::Unimplemented as u8,
        429 | 502 | 503 | 504 => Status::Unavailable as u8,
        _ => Status::Unknown as u8,
    }
}

/// Whether a request is gRPC (and not gRPC-Web, which is ordinary HTTP to a proxy).
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(CONTENT_TYPE) else { return false };
    match content_type.as_bytes().strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest.first(), None | Some(b'+' | b';' | b' ')),
        None => false,
    }
}

/// Whether the status among `fields` blames the server: UNKNOWN (what many servers make of an exception), INTERNAL, UNAVAILABLE,
/// DATA_LOSS. The others are about the call; DEADLINE_EXCEEDED is often the caller's doing, and RESOURCE_EXHAUSTED is load.
pub fn is_server_error(fields: &HeaderMap) -> bool {
    let status = fields.get("grpc-status").map(HeaderValue::as_bytes);
    matches!(status, Some(b"2" | b"13" | b"14" | b"15"))
}

/// Whether the status among `fields` says that there was too much to do: RESOURCE_EXHAUSTED.
pub fn is_overloaded(fields: &HeaderMap) -> bool {
    fields.get("grpc-status").is_some_and(|status| status.as_bytes() == b"8")
}

/// The value of `grpc-timeout`: up to eight digits and a unit.
pub fn parse_timeout(value: &HeaderValue) -> Option<Duration> {
    let (digits, unit) = value.as_bytes().split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount = digits.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b"H" => Duration::from_secs(amount * 3600),
        b"M" => Duration::from_secs(amount * 60),
        b"S" => Duration::from_secs(amount),
        b"m" => Duration::from_millis(amount),
        b"u" => Duration::from_micros(amount),
        b"n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// `left` as a `grpc-timeout`, in the finest unit that eight digits hold; rounded down, never to zero.
pub fn format_timeout(left: Duration) -> HeaderValue {
    let units = [("u", left.as_micros()), ("m", left.as_millis()), ("S", u128::from(left.as_secs()))];
    let text = units
        .iter()
        .find(|(_, amount)| *amount < 100_000_000)
        .map_or_else(|| "99999999S".to_owned(), |(unit, amount)| format!("{}{unit}", amount.max(&1)));
    HeaderValue::from_str(&text).expect("digits and a letter")
}

/// What `grpc-message` must encode: everything outside of visible ASCII, and the percent sign itself.
const MESSAGE: &AsciiSet = &CONTROLS.add(b'%');

/// A text as `grpc-message`.
pub fn message(text: &str) -> HeaderValue {
    HeaderValue::from_str(&utf8_percent_encode(text, MESSAGE).to_string()).expect("encoded to visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_told_apart() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            assert_eq!(is_grpc(&headers), expected, "{value}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn timeouts_of_every_unit_are_read() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("7n", Some(Duration::from_nanos(7))),
            ("", None),
            ("m", None),
            ("1", None),
            ("1x", None),
            ("-1S", None),
            ("123456789S", None),
        ] {
            assert_eq!(parse_timeout(&HeaderValue::from_static(text)), expected, "{text}");
        }
    }

    #[test]
    fn a_written_timeout_is_never_longer_than_what_is_left() {
        for millis in [0u64, 1, 250, 99_999, 100_000, 10_000_000, 40_000_000_000] {
            let left = Duration::from_millis(millis);
            let read = parse_timeout(&format_timeout(left)).expect("what is written can be read");
            assert!(read <= left.max(Duration::from_micros(1)), "{left:?} became {read:?}");
            assert!(read + Duration::from_secs(1) > left, "{left:?} became {read:?}");
        }
    }

    #[test]
    fn messages_survive_any_text() {
        assert_eq!(message("50% off\nü"), "50%25 off%0A%C3%BC");
    }
}
