//! Trace context and request ids: kept when they are valid, else made.
//!
//! towpath exports no spans, so it is no hop of a trace: a valid `traceparent` is passed on as it came.
//! Randomness is an argument.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Bytes of a request id that is kept.
const MAX_REQUEST_ID: usize = 128;

/// Keeps the one valid `traceparent` (W3C Trace Context), else makes one that is not sampled: trace id from
/// `random[0..2]`, span id from `random[2]`. The `tracestate` of a trace that was not kept goes with it.
pub fn ensure_trace(headers: &mut HeaderMap, random: [u64; 3]) {
    if only(headers, &TRACEPARENT).is_some_and(|value| is_traceparent(value.as_bytes())) {
        return;
    }
    headers.remove(&TRACESTATE);
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    write_hex(&mut text[3..19], random[0]);
    // An id of zeroes is invalid.
    write_hex(&mut text[19..35], random[1].max(1));
    write_hex(&mut text[36..52], random[2].max(1));
    headers.insert(&TRACEPARENT, value(text));
}

/// The request's id: the one `x-request-id` when it is 1 to 128 visible ASCII characters, else 32 hex digits of
/// `random`, which then stand in the headers.
pub fn ensure_request_id(headers: &mut HeaderMap, random: [u64; 2]) -> HeaderValue {
    if let Some(kept) = only(headers, &REQUEST_ID).filter(|value| is_request_id(value.as_bytes())) {
        return kept.clone();
    }
    let mut text = [0; 32];
    write_hex(&mut text[..16], random[0]);
    write_hex(&mut text[16..], random[1]);
    let made = value(text);
    headers.insert(&REQUEST_ID, made.clone());
    made
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut all = headers.get_all(name).iter();
    let first = all.next();
    first.filter(|_| all.next().is_none())
}

/// One allocation, which a clone shares. Over HTTP/2 it is sent without a place in the table of fields (RFC 7541 6.2.3), where it would
/// push out what does come again.
fn value<const N: usize>(text: [u8; N]) -> HeaderValue {
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(text))
        .expect("hex digits and dashes are valid in a value");
    value.set_sensitive(true);
    value
}

/// `version-trace_id-parent_id-flags`. A later version may say more behind a further dash.
fn is_traceparent(text: &[u8]) -> bool {
    let Some((fields, rest)) = text.split_at_checked(55) else { return false };
    let (version, trace_id, parent_id, flags) =
        (&fields[..2], &fields[3..35], &fields[36..52], &fields[53..]);
    let dashes = [2, 35, 52].iter().all(|&index| fields[index] == b'-');
    let tail = rest.is_empty() || (version != b"00" && rest[0] == b'-');
    dashes
        && tail
        && is_hex(version)
        && version != b"ff"
        && is_id(trace_id)
        && is_id(parent_id)
        && is_hex(flags)
}

fn is_id(text: &[u8]) -> bool {
    is_hex(text) && text.iter().any(|&digit| digit != b'0')
}

fn is_hex(text: &[u8]) -> bool {
    text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_request_id(text: &[u8]) -> bool {
    (1..=MAX_REQUEST_ID).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic)
}

/// Fills 16 bytes with the digits of `number`.
fn write_hex(digits: &mut [u8], number: u64) {
    for (index, digit) in digits.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (4 * index) & 0xf) as usize];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const MADE: &str = "00-0000000000000001000000000000000a-000000000000ffff-00";

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        fields.iter().map(pair).collect()
    }

    #[test]
    fn a_traceparent_is_kept_exactly_when_it_is_valid() {
        let cases = [
            (VALID, true),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff", true),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what comes later", true),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-", false),
            ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false),
            ("00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333g-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0", false),
            ("0x-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-x1", false),
            ("00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319cab7ad6b71692033310-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331é", false),
            ("", false),
        ];
        for (given, kept) in cases {
            let mut headers = headers(&[("traceparent", given), ("tracestate", "a=b")]);
            ensure_trace(&mut headers, [1, 10, 0xffff]);
            let expected = if kept { given } else { MADE };
            assert_eq!(headers["traceparent"], expected, "{given}");
            assert_eq!(headers.contains_key("tracestate"), kept, "{given}");
        }
    }

    #[test]
    fn a_missing_or_repeated_traceparent_is_made_new_and_not_sampled() {
        for given in [headers(&[]), headers(&[("traceparent", VALID), ("traceparent", VALID)])] {
            let mut headers = given;
            headers.insert("tracestate", HeaderValue::from_static("a=b"));
            ensure_trace(&mut headers, [1, 10, 0xffff]);
            assert_eq!(headers.get_all("traceparent").iter().collect::<Vec<_>>(), [MADE]);
            assert!(!headers.contains_key("tracestate"));
        }
    }

    #[test]
    fn a_made_traceparent_is_valid_whatever_the_random_numbers() {
        for random in [[0; 3], [u64::MAX; 3], [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, 7]] {
            let mut headers = HeaderMap::new();
            ensure_trace(&mut headers, random);
            assert!(is_traceparent(headers["traceparent"].as_bytes()), "{:?}", headers["traceparent"]);
        }
    }

    #[test]
    fn a_request_id_is_kept_exactly_when_it_is_short_visible_ascii() {
        let (longest, too_long) = ("x".repeat(128), "x".repeat(129));
        let cases = [
            ("a", true),
            ("7f3c~!\"{}", true),
            (&longest, true),
            (&too_long, false),
            ("", false),
            ("two words", false),
            ("tab\there", false),
            ("é", false),
        ];
        for (given, kept) in cases {
            let mut headers = headers(&[("x-request-id", given)]);
            let id = ensure_request_id(&mut headers, [0xab, 1]);
            let expected = if kept { given } else { "00000000000000ab0000000000000001" };
            assert_eq!((id.to_str().unwrap(), &headers["x-request-id"]), (expected, &id), "{given}");
        }
    }

    #[test]
    fn a_missing_or_repeated_request_id_is_made_new() {
        for given in [headers(&[]), headers(&[("x-request-id", "a"), ("x-request-id", "b")])] {
            let mut headers = given;
            let id = ensure_request_id(&mut headers, [1, 2]);
            assert_eq!(headers.get_all("x-request-id").iter().collect::<Vec<_>>(), [&id]);
            assert_eq!(id, "00000000000000010000000000000002");
        }
    }
}
