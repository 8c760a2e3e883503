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

/// One allocation, which a clone shares.
fn value<const N: usize>(text: [u8; N]) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from_owner(text))
        .expect("hex digits and dashes are valid in a value")
}

/// `version-trace_id-parent_id-flags`. A later version may say more behind a further dash.
fn is_traceparent(text: &[u8]) -> bool {
    let (Some((fields, rest)), true) = (text.split_at_checked(55), text.is_ascii()) else { return false };
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
