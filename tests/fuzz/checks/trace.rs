//! Trace context: what towpath lets pass and what it writes, before a second reader of all formats that shares no code with it.

use http::{HeaderMap, HeaderName, HeaderValue};
use towpath::{config::TraceFormats, telemetry::TraceContext};

const OWN: &str = "00000000000abcde";

/// The fields that are about a trace.
const NAMES: [&str; 9] = [
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "uber-trace-id",
];

/// Lines of `name: value`. What comes out is valid, and the same when it goes through once more; what is written is read back.
pub fn context(bytes: &[u8]) {
    let headers = fields(bytes);
    passes(&headers);
    let wanted = bytes.first().copied().unwrap_or_default();
    let [w3c, b3, b3_single, jaeger] = [1, 2, 4, 8].map(|bit| wanted & bit != 0);
    goes_on(&headers, TraceFormats { w3c, b3, b3_single, jaeger });
}

fn fields(bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(64) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) =
            (&line[..colon], line[colon + 1..].strip_prefix(b" ").unwrap_or(&line[colon + 1..]));
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    headers
}

/// Where towpath does not trace.
fn passes(given: &HeaderMap) {
    let mut passed = given.clone();
    let told = TraceContext::pass(&mut passed, [1, 2, 3]);
    judge(&passed);
    others_stay(given, &passed);
    let traceparent = only(&passed, "traceparent").expect("there is one always");
    if told.came.w3c {
        assert_eq!(Some(traceparent), only(given, "traceparent"), "as it came");
    }
    assert_eq!(&traceparent[3..35], format!("{:032x}", told.trace_id));
    let mut again = passed.clone();
    let once_more = TraceContext::pass(&mut again, [4, 5, 6]);
    assert_eq!((again, once_more.trace_id), (passed, told.trace_id), "through another node");
}

/// Where it does.
fn goes_on(given: &HeaderMap, besides: TraceFormats) {
    let mut headers = given.clone();
    let context = TraceContext::take(&mut headers, || false, [1, 2, 3]);
    judge(&headers);
    let own = u64::from_str_radix(OWN, 16).expect("digits");
    context.write(&mut headers, own, besides);
    judge(&headers);
    others_stay(given, &headers);
    assert!(headers.get_all("tracestate").iter().count() <= 1);
    assert!(only(&headers, "traceparent").is_some_and(|text| text.len() == 55 && &text[36..52] == OWN));
    let (written, came) = (headers.clone(), context.came);
    for (name, is_written) in [
        ("b3", came.b3_single || besides.b3_single),
        ("x-b3-traceid", came.b3 || besides.b3),
        ("uber-trace-id", came.jaeger || besides.jaeger),
    ] {
        assert_eq!(written.contains_key(name), is_written, "{name}");
    }
    let read = TraceContext::take(&mut headers, || panic!("W3C has decided"), [4, 5, 6]);
    assert_eq!((read.trace_id, read.parent, read.random), (context.trace_id, Some(own), context.random));
    assert_eq!(read.sampled, context.sampled || context.debug);
    assert_eq!(headers, written, "what is written is valid");
}

fn others_stay(before: &HeaderMap, after: &HeaderMap) {
    let others = |headers: &HeaderMap| {
        let mut headers = headers.clone();
        NAMES.iter().for_each(|name| drop(headers.remove(*name)));
        headers
    };
    assert_eq!(others(before), others(after));
}

/// Everything about a trace is valid.
fn judge(headers: &HeaderMap) {
    let traceparent = only(headers, "traceparent");
    assert!(traceparent.is_none_or(is_traceparent), "{traceparent:?}");
    let state: Vec<_> = headers.get_all("tracestate").iter().map(text).collect();
    assert!(state.is_empty() || traceparent.is_some() && is_tracestate(&state.join(",")), "{state:?}");
    assert!(only(headers, "b3").is_none_or(is_b3), "{headers:?}");
    assert!(only(headers, "uber-trace-id").is_none_or(is_jaeger), "{headers:?}");
    let [trace, span, parent, sampled, flags] = ["traceid", "spanid", "parentspanid", "sampled", "flags"]
        .map(|name| only(headers, &format!("x-b3-{name}")));
    assert!(trace.is_none_or(|text| is_id(text, 16) || is_id(text, 32)), "{headers:?}");
    assert!(span.is_none_or(|text| is_id(text, 16)), "{headers:?}");
    assert!(parent.is_none_or(|text| text.len() == 16 && is_hex(text)), "{headers:?}");
    assert!(trace.is_some() == span.is_some() && (trace.is_some() || parent.is_none()), "{headers:?}");
    assert!(sampled.is_none_or(|text| ["0", "1", "true", "false"].contains(&text)), "{headers:?}");
    assert!(
        flags.is_none_or(|text| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit())),
        "{headers:?}"
    );
}

/// The value of a field that may be there once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all: Vec<_> = headers.get_all(name).iter().map(text).collect();
    assert!(all.len() <= 1, "{name}: {all:?}");
    all.first().copied()
}

fn text(value: &HeaderValue) -> &str {
    std::str::from_utf8(value.as_bytes()).expect("what passes is ASCII")
}

fn is_hex(text: &str) -> bool {
    text.chars().all(|c| "0123456789abcdef".contains(c))
}

fn is_id(text: &str, length: usize) -> bool {
    text.len() == length && is_hex(text) && text.contains(|c| c != '0')
}

fn is_traceparent(text: &str) -> bool {
    let parts: Vec<_> = text.splitn(5, '-').collect();
    let [version, trace, parent, flags, more @ ..] = &parts[..] else { return false };
    version.len() == 2
        && is_hex(version)
        && *version != "ff"
        && (more.is_empty() || *version != "00")
        && !text.contains(',')
        && is_id(trace, 32)
        && is_id(parent, 16)
        && flags.len() == 2
        && is_hex(flags)
}

fn is_tracestate(text: &str) -> bool {
    let members: Vec<_> = text.split(',').map(|member| member.trim_matches([' ', '\t'])).collect();
    let pairs: Vec<_> =
        members.iter().filter(|member| !member.is_empty()).map(|member| member.split_once('=')).collect();
    let is_pair = |pair: &Option<(&str, &str)>| {
        let Some((key, value)) = pair else { return false };
        let first = key.chars().next().is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let keychar = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-*/@".contains(c);
        let chr = |c: char| matches!(c, ' '..='~') && !",=".contains(c);
        first
            && key.len() <= 256
            && key.chars().all(keychar)
            && (1..=256).contains(&value.len())
            && value.chars().all(chr)
    };
    let mut keys: Vec<_> = pairs.iter().flatten().map(|(key, _)| key).collect();
    keys.sort();
    keys.dedup();
    (1..=32).contains(&pairs.len()) && pairs.iter().all(is_pair) && keys.len() == pairs.len()
}

fn is_b3(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let is_decision = |text: &str| ["0", "1", "d"].contains(&text);
    let is_parent = |text: &str| text.len() == 16 && is_hex(text);
    let are_ids = |trace, span| (is_id(trace, 16) || is_id(trace, 32)) && is_id(span, 16);
    match parts[..] {
        [decision] => is_decision(decision),
        [trace, span] => are_ids(trace, span),
        [trace, span, third] => are_ids(trace, span) && (is_decision(third) || is_parent(third)),
        [trace, span, decision, parent] => are_ids(trace, span) && is_decision(decision) && is_parent(parent),
        _ => false,
    }
}

fn is_jaeger(text: &str) -> bool {
    let Some(plain) = decoded(text) else { return false };
    let parts: Vec<_> = plain.split(':').collect();
    let [trace, span, parent, flags] = parts[..] else { return false };
    let is_number = |text: &str, longest: usize| {
        (1..=longest).contains(&text.len()) && text.chars().all(|c| c.is_ascii_hexdigit())
    };
    let is_some = |text: &str| text.contains(|c| c != '0');
    is_number(trace, 32)
        && is_some(trace)
        && is_number(span, 16)
        && is_some(span)
        && is_number(parent, 16)
        && is_number(flags, 2)
}

fn decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.chars().all(|c| c.is_ascii_hexdigit()))?;
        plain.push(char::from(u8::from_str_radix(digits, 16).ok()?));
        plain.push_str(&part[2..]);
    }
    Some(plain)
}
