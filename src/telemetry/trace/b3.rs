//! B3, Zipkin's format (<https://github.com/openzipkin/b3-propagation>): one field `b3`, or the fields `x-b3-*`.
//!
//! # Without ids
//! A caller may say no more than what it wants: `b3: 0`, `x-b3-sampled: 1`, `x-b3-flags: 1`. That holds for the trace that begins.
//!
//! # Nobody has decided
//! Ids without a decision leave it to the callee. Towpath decides for its own spans, and leaves it to the callee all the same: that is
//! what the caller wanted, and a towpath on the way changes nothing in how many traces a service samples.
//!
//! # Debug
//! Is more than sampled, and written in place of it.

use http::{HeaderMap, HeaderValue};

use super::{
    TraceContext,
    digits::{self, Text},
    fields::{B3, B3_FLAGS, B3_PARENT, B3_SAMPLED, B3_SPAN, B3_TRACE, Fields},
    reading::{Decision, Ids, Said},
};

/// Bytes of the longest `b3`: two ids, the decision, the parent.
const LONGEST: usize = 32 + 1 + 16 + 1 + 1 + 1 + 16;

/// What a `b3` says; none when it is invalid.
pub(super) fn read_single(text: &[u8]) -> Option<Said> {
    let nothing = Said { ids: None, decision: None, random: false };
    if let [decision] = text {
        return Some(Said { decision: Some(decision_of(*decision)?), ..nothing });
    }
    let mut parts = text.split(|byte| *byte == b'-');
    let ids = Ids { trace_id: digits::trace_id(parts.next()?)?, span: digits::span_id(parts.next()?)? };
    let (third, fourth) = (parts.next(), parts.next());
    // The decision may be left out before a parent.
    let (decision, parent) = match (third, fourth) {
        (Some([decision]), parent) => (Some(decision_of(*decision)?), parent),
        (parent, None) => (None, parent),
        _ => return None,
    };
    if parts.next().is_some() || !parent.is_none_or(is_parent) {
        return None;
    }
    Some(Said { ids: Some(ids), decision, ..nothing })
}

fn decision_of(byte: u8) -> Option<Decision> {
    match byte {
        b'0' => Some(Decision::Deny),
        b'1' => Some(Decision::Accept),
        b'd' => Some(Decision::Debug),
        _ => None,
    }
}

/// Zeros stand for none.
fn is_parent(text: &[u8]) -> bool {
    text.len() == 16 && digits::number(text).is_some()
}

/// Whether any `x-b3-*` is there.
pub(super) fn has_multi(fields: &Fields<'_>) -> bool {
    let all = [fields.b3_trace, fields.b3_span, fields.b3_parent, fields.b3_sampled, fields.b3_flags];
    all.iter().any(|field| !field.is_absent())
}

/// What `x-b3-*` say; none when any of them is invalid.
pub(super) fn read_multi(fields: &Fields<'_>) -> Option<Said> {
    let ids = match (fields.b3_trace.only()?, fields.b3_span.only()?) {
        (Some(trace), Some(span)) => {
            Some(Ids { trace_id: digits::trace_id(trace)?, span: digits::span_id(span)? })
        }
        (None, None) => None,
        _ => return None,
    };
    if let Some(parent) = fields.b3_parent.only()?
        && (ids.is_none() || !is_parent(parent))
    {
        return None;
    }
    let sampled = match fields.b3_sampled.only()? {
        None => None,
        Some(b"1" | b"true") => Some(Decision::Accept),
        Some(b"0" | b"false") => Some(Decision::Deny),
        Some(_) => return None,
    };
    let is_debug = match fields.b3_flags.only()? {
        None => false,
        Some(flags) => is_debug(flags)?,
    };
    Some(Said { ids, decision: if is_debug { Some(Decision::Debug) } else { sampled }, random: false })
}

/// `1`; finagle, and with it linkerd 1, writes a decimal number of which that is one bit.
fn is_debug(flags: &[u8]) -> Option<bool> {
    let is_number = (1..=20).contains(&flags.len()) && flags.iter().all(u8::is_ascii_digit);
    is_number.then(|| flags.last().is_some_and(|digit| digit % 2 == 1))
}

/// Writes `b3` for one whose parent is `span`.
pub(super) fn write_single(context: &TraceContext, span: u64, headers: &mut HeaderMap) {
    let mut text = Text::<LONGEST>::new();
    text.trace_id(context.trace_id);
    text.byte(b'-');
    text.hex(span, 16);
    if !context.is_deferred() {
        text.byte(b'-');
        text.byte(match (context.debug, context.sampled) {
            (true, _) => b'd',
            (_, true) => b'1',
            _ => b'0',
        });
    }
    if let Some(parent) = context.parent_of(span) {
        text.byte(b'-');
        text.hex(parent, 16);
    }
    headers.insert(&B3, text.into_value());
}

/// Writes `x-b3-*` for one whose parent is `span`.
pub(super) fn write_multi(context: &TraceContext, span: u64, headers: &mut HeaderMap) {
    let mut trace = Text::<32>::new();
    trace.trace_id(context.trace_id);
    headers.insert(&B3_TRACE, trace.into_value());
    headers.insert(&B3_SPAN, id(span));
    match context.parent_of(span) {
        Some(parent) => headers.insert(&B3_PARENT, id(parent)),
        None => headers.remove(&B3_PARENT),
    };
    let is_said = |said: bool| HeaderValue::from_static(if said { "1" } else { "0" });
    if context.debug {
        headers.insert(&B3_FLAGS, is_said(true));
    } else {
        headers.remove(&B3_FLAGS);
    }
    if context.debug || context.is_deferred() {
        headers.remove(&B3_SAMPLED);
    } else {
        headers.insert(&B3_SAMPLED, is_said(context.sampled));
    }
}

fn id(number: u64) -> HeaderValue {
    let mut text = Text::<16>::new();
    text.hex(number, 16);
    text.into_value()
}

/// Removes `x-b3-*`.
pub(super) fn remove_multi(headers: &mut HeaderMap) {
    for name in [&B3_TRACE, &B3_SPAN, &B3_PARENT, &B3_SAMPLED, &B3_FLAGS] {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
    const SPAN: &str = "e457b5a2e4d86bd1";
    const PARENT: &str = "05e3ac9a4f6e3b90";
    const IDS: Ids = Ids { trace_id: 0x80f1_98ee_5634_3ba8_64fe_8b2a_57d3_eff7, span: 0xe457_b5a2_e4d8_6bd1 };
    const SHORT: Ids = Ids { trace_id: 0x64fe_8b2a_57d3_eff7, ..IDS };

    #[test]
    fn the_one_field_is_read_exactly_when_it_is_valid() {
        let (accept, deny, debug) = (Some(Decision::Accept), Some(Decision::Deny), Some(Decision::Debug));
        let cases = [
            (format!("{TRACE}-{SPAN}-1"), Some((Some(IDS), accept))),
            (format!("{TRACE}-{SPAN}-0"), Some((Some(IDS), deny))),
            (format!("{TRACE}-{SPAN}-d"), Some((Some(IDS), debug))),
            (format!("{TRACE}-{SPAN}-1-{PARENT}"), Some((Some(IDS), accept))),
            (format!("{TRACE}-{SPAN}-1-0000000000000000"), Some((Some(IDS), accept))),
            (format!("{TRACE}-{SPAN}"), Some((Some(IDS), None))),
            (format!("{TRACE}-{SPAN}-{PARENT}"), Some((Some(IDS), None))),
            (format!("{}-{SPAN}-1", &TRACE[16..]), Some((Some(SHORT), accept))),
            ("0".into(), Some((None, deny))),
            ("1".into(), Some((None, accept))),
            ("d".into(), Some((None, debug))),
            (String::new(), None),
            ("2".into(), None),
            ("D".into(), None),
            ("-".into(), None),
            ("true".into(), None),
            (TRACE.into(), None),
            (format!("{TRACE}-"), None),
            (format!("{TRACE}-{SPAN}-"), None),
            (format!("{TRACE}-{SPAN}-2"), None),
            (format!("{TRACE}-{SPAN}-1-"), None),
            (format!("{TRACE}-{SPAN}-1-{PARENT}-"), None),
            (format!("{TRACE}-{SPAN}-1-{PARENT}-1"), None),
            (format!("{TRACE}-{SPAN}-{PARENT}-1"), None),
            (format!("{TRACE}-{SPAN}--{PARENT}"), None),
            (format!("{TRACE}-{SPAN}-1-05e3"), None),
            (format!("{TRACE}-{SPAN}-1,{TRACE}-{SPAN}-1"), None),
            (format!("{}-{SPAN}-1", &TRACE[1..]), None),
            (format!("{TRACE}-{}-1", &SPAN[1..]), None),
            (format!("{}-{SPAN}-1", TRACE.to_uppercase()), None),
            (format!("{}-{SPAN}-1", "0".repeat(32)), None),
            (format!("{}-{SPAN}-1", "0".repeat(16)), None),
            (format!("{TRACE}-0000000000000000-1"), None),
        ];
        for (given, expected) in cases {
            let said = read_single(given.as_bytes()).map(|said| (said.ids, said.decision));
            assert_eq!(said, expected, "{given}");
        }
    }

    /// Of these pairs of what follows `x-b3-` and its value.
    fn multi(given: &[(&str, &str)]) -> Option<(Option<Ids>, Option<Decision>)> {
        let pair = |(name, value): &(&str, &str)| {
            let name: http::HeaderName = format!("x-b3-{name}").parse().unwrap();
            (name, HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        let headers: HeaderMap = given.iter().map(pair).collect();
        let fields = Fields::of(&headers);
        assert!(has_multi(&fields));
        read_multi(&fields).map(|said| (said.ids, said.decision))
    }

    #[test]
    fn the_many_fields_are_read_exactly_when_all_are_valid() {
        let (accept, deny, debug) = (Some(Decision::Accept), Some(Decision::Deny), Some(Decision::Debug));
        let ids = [("traceid", TRACE), ("spanid", SPAN)];
        let cases: &[(&[(&str, &str)], _)] = &[
            (&[], Some((Some(IDS), None))),
            (&[("sampled", "1")], Some((Some(IDS), accept))),
            (&[("sampled", "true")], Some((Some(IDS), accept))),
            (&[("sampled", "0")], Some((Some(IDS), deny))),
            (&[("sampled", "false")], Some((Some(IDS), deny))),
            (&[("parentspanid", PARENT)], Some((Some(IDS), None))),
            (&[("parentspanid", PARENT), ("sampled", "1")], Some((Some(IDS), accept))),
            (&[("flags", "1")], Some((Some(IDS), debug))),
            (&[("flags", "1"), ("sampled", "0")], Some((Some(IDS), debug))),
            (&[("flags", "0"), ("sampled", "1")], Some((Some(IDS), accept))),
            (&[("flags", "6"), ("sampled", "1")], Some((Some(IDS), accept))),
            (&[("flags", "7")], Some((Some(IDS), debug))),
            (&[("sampled", "d")], None),
            (&[("sampled", "")], None),
            (&[("sampled", "yes")], None),
            (&[("sampled", "1"), ("sampled", "1")], None),
            (&[("flags", "")], None),
            (&[("flags", "-1")], None),
            (&[("flags", "d")], None),
            (&[("flags", "111111111111111111111")], None),
            (&[("parentspanid", "05e3")], None),
            (&[("parentspanid", "")], None),
            (&[("parentspanid", PARENT), ("parentspanid", PARENT)], None),
            (&[("spanid", SPAN)], None),
            (&[("traceid", TRACE)], None),
        ];
        for (more, expected) in cases {
            assert_eq!(multi(&[&ids[..], more].concat()), *expected, "ids and {more:?}");
        }
        assert_eq!(multi(&[("traceid", &TRACE[16..]), ("spanid", SPAN)]), Some((Some(SHORT), None)));
        assert_eq!(multi(&[("traceid", &TRACE[1..]), ("spanid", SPAN)]), None);
        assert_eq!(multi(&[("traceid", &TRACE.to_uppercase()), ("spanid", SPAN)]), None);
        assert_eq!(multi(&[("traceid", &"0".repeat(32)), ("spanid", SPAN)]), None);
        assert_eq!(multi(&[("traceid", TRACE), ("spanid", "0000000000000000")]), None);
    }

    #[test]
    fn the_many_fields_may_say_only_what_is_wanted_but_no_half_of_the_ids() {
        let cases: &[(&[(&str, &str)], _)] = &[
            (&[("sampled", "1")], Some((None, Some(Decision::Accept)))),
            (&[("sampled", "0")], Some((None, Some(Decision::Deny)))),
            (&[("flags", "1")], Some((None, Some(Decision::Debug)))),
            (&[("flags", "0")], Some((None, None))),
            (&[("traceid", TRACE)], None),
            (&[("spanid", SPAN), ("sampled", "1")], None),
            (&[("parentspanid", PARENT), ("sampled", "1")], None),
        ];
        for (given, expected) in cases {
            assert_eq!(multi(given), *expected, "{given:?}");
        }
    }
}
