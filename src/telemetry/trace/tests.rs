//! All formats together: what is read, which counts, what is written, and that nothing invalid passes.

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::TraceContext;
use crate::config::TraceFormats;

const PARENT: &str = "00-12345678901234567890123456789012-1234567890123456-01";
const TRACE_ID: u128 = 0x1234_5678_9012_3456_7890_1234_5678_9012;
const SPAN: u64 = 0x1234_5678_9012_3456;
/// With [`RANDOM`], and not sampled.
const MADE: &str = "00-0000000000000001000000000000000a-000000000000ffff-00";
const RANDOM: [u64; 3] = [1, 10, 0xffff];
/// The id of an attempt's span.
const OWN: u64 = 0xabc;
const NONE: TraceFormats = TraceFormats { w3c: false, b3: false, b3_single: false, jaeger: false };
const ALL: TraceFormats = TraceFormats { w3c: true, b3: true, b3_single: true, jaeger: true };

const B3_IDS: [(&str, &str); 2] =
    [("x-b3-traceid", "12345678901234567890123456789012"), ("x-b3-spanid", "1234567890123456")];

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    fields.iter().map(pair).collect()
}

/// Name and value of each, sorted.
fn fields(headers: &HeaderMap) -> Vec<(&str, &str)> {
    let mut fields: Vec<_> =
        headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    fields.sort_by_key(|(name, _)| *name);
    fields
}

/// Takes what `given` say where new traces are not sampled, and writes it for an attempt.
fn sent(given: &[(&str, &str)], besides: TraceFormats) -> (TraceContext, HeaderMap) {
    let mut headers = map(given);
    let context = TraceContext::take(&mut headers, || false, RANDOM);
    context.write(&mut headers, OWN, besides);
    (context, headers)
}

fn passed(given: &[(&str, &str)]) -> HeaderMap {
    let mut headers = map(given);
    TraceContext::pass(&mut headers, RANDOM);
    headers
}

#[test]
fn a_trace_goes_on_with_the_attempt_as_its_parent() {
    for (came, flags) in [("01", "01"), ("00", "00"), ("02", "02"), ("03", "03"), ("ff", "03"), ("fc", "00")]
    {
        for version in ["00", "01", "cc"] {
            let given = format!("{version}-12345678901234567890123456789012-1234567890123456-{came}");
            let (context, headers) = sent(&[("traceparent", &given), ("tracestate", "foo=1,bar=2")], NONE);
            assert_eq!(
                (context.trace_id, context.parent, context.span),
                (TRACE_ID, Some(SPAN), RANDOM[2]),
                "{given}"
            );
            let expected = format!("00-12345678901234567890123456789012-0000000000000abc-{flags}");
            assert_eq!(
                fields(&headers),
                [("traceparent", &*expected), ("tracestate", "foo=1,bar=2")],
                "{given}"
            );
        }
    }
}

#[test]
fn a_later_version_is_written_as_the_present_one_without_what_it_has_more() {
    let (_, headers) =
        sent(&[("traceparent", &format!("cc{}-what-the-future-will-be-like", &PARENT[2..]))], NONE);
    assert_eq!(headers["traceparent"], "00-12345678901234567890123456789012-0000000000000abc-01");
}

#[test]
fn a_trace_begins_where_none_is_told_or_what_is_told_is_invalid() {
    let twice = format!("{PARENT},{PARENT}");
    let upper = PARENT.replace("12", "AB");
    let given: [&[(&str, &str)]; 8] = [
        &[],
        &[("trace-parent", PARENT)],
        &[("traceparent", "")],
        &[("traceparent", PARENT), ("traceparent", PARENT)],
        &[("traceparent", &twice)],
        &[("traceparent", &upper)],
        &[("traceparent", &PARENT[..54])],
        &[("traceparent", "00-00000000000000000000000000000000-1234567890123456-01")],
    ];
    for given in given {
        let given = [given, &[("tracestate", "foo=1"), ("tracestate", "bar=2")]].concat();
        let (context, headers) = sent(&given, NONE);
        assert_eq!((context.parent, context.sampled, context.random), (None, false, false), "{given:?}");
        let expected = "00-0000000000000001000000000000000a-0000000000000abc-00";
        assert_eq!(headers.get_all("traceparent").iter().collect::<Vec<_>>(), [expected], "{given:?}");
        assert!(!headers.contains_key("tracestate"), "{given:?}");

        let headers = passed(&given);
        assert_eq!(headers.get_all("traceparent").iter().collect::<Vec<_>>(), [MADE], "{given:?}");
        assert!(!headers.contains_key("tracestate"), "{given:?}");
    }
}

#[test]
fn a_tracestate_that_is_invalid_goes_and_its_trace_stays() {
    for state in ["foo", "FOO=1", "foo=1,bar=", "foo=bar=baz", "@foo=1", "foo=é"] {
        let given = [("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", state)];
        let (context, headers) = sent(&given, NONE);
        assert_eq!(context.trace_id, TRACE_ID, "{state}");
        assert!(!headers.contains_key("tracestate"), "{state}");
        assert_eq!(fields(&passed(&given)), [("traceparent", PARENT)], "{state}");
    }
}

#[test]
fn tracestate_is_one_field_in_order_where_the_trace_goes_on_and_as_it_came_where_it_passes() {
    let given = [
        ("traceparent", PARENT),
        ("tracestate", "foo=1, bar=2"),
        ("tracestate", ""),
        ("tracestate", "baz=3"),
    ];
    let (_, headers) = sent(&given, NONE);
    assert_eq!(headers.get_all("tracestate").iter().collect::<Vec<_>>(), ["foo=1,bar=2,baz=3"]);
    assert_eq!(passed(&given), map(&given));
    let repeated = [("traceparent", PARENT), ("tracestate", "foo=1,bar=2,foo=3")];
    let once = [("traceparent", PARENT), ("tracestate", "foo=1,bar=2")];
    assert_eq!(fields(&passed(&repeated)), once, "the earlier of one key is out of date");
}

#[test]
fn what_is_valid_passes_as_it_came() {
    let later = format!("cc{}-what-the-future-will-be-like", &PARENT[2..]);
    let cases: [&[(&str, &str)]; 4] = [
        &[("traceparent", PARENT), ("tracestate", "foo=1 , bar=2"), ("baggage", "a=b=c,,")],
        &[("traceparent", &later), ("tracestate", "foo=1")],
        &[("traceparent", PARENT), ("b3", "0")],
        &[
            ("traceparent", PARENT),
            ("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1"),
            ("x-b3-traceid", "80f198ee56343ba8"),
            ("x-b3-spanid", "e457b5a2e4d86bd1"),
            ("x-b3-sampled", "true"),
            ("uber-trace-id", "1%3A2%3A0%3A1"),
        ],
    ];
    for given in cases {
        assert_eq!(passed(given), map(given), "{given:?}");
    }
}

#[test]
fn what_is_invalid_passes_in_no_format() {
    let cases: [&[(&str, &str)]; 9] = [
        &[("b3", "x")],
        &[("b3", "1"), ("b3", "1")],
        &[("x-b3-traceid", "1"), ("x-b3-spanid", "2"), ("x-b3-sampled", "1")],
        &[("x-b3-traceid", B3_IDS[0].1), ("x-b3-parentspanid", "1234567890123456"), ("x-b3-flags", "0")],
        &[("x-b3-sampled", "maybe")],
        &[("x-b3-flags", "debug")],
        &[("x-b3-sampled", "1"), ("x-b3-sampled", "0")],
        &[("uber-trace-id", "1:2:3")],
        &[("uber-trace-id", "1:2:0:1"), ("uber-trace-id", "1:2:0:1")],
    ];
    for invalid in cases {
        let given = [&[("traceparent", PARENT)], invalid].concat();
        assert_eq!(fields(&passed(&given)), [("traceparent", PARENT)], "{invalid:?}");
        let (context, headers) = sent(&given, NONE);
        assert_eq!(context.came, TraceFormats { w3c: true, ..NONE }, "{invalid:?}");
        assert_eq!(headers.len(), 1, "{invalid:?}");
    }
}

#[test]
fn the_first_valid_format_counts() {
    let order: [(&str, &str, u128); 4] = [
        ("traceparent", "00-0000000000000000000000000000000a-000000000000000a-01", 0xa),
        ("b3", "000000000000000b-000000000000000b-1", 0xb),
        ("x-b3-traceid", "000000000000000c", 0xc),
        ("uber-trace-id", "d:d:0:1", 0xd),
    ];
    for first in 0..4 {
        let mut given: Vec<_> = order.iter().map(|(name, value, _)| (*name, *value)).collect();
        given.push(("x-b3-spanid", "000000000000000c"));
        given.iter_mut().take(first).for_each(|field| field.1 = "nonsense");
        let context = TraceContext::take(&mut map(&given), || false, RANDOM);
        assert_eq!(context.trace_id, order[first].2, "{given:?}");
        assert_eq!(context.parent, Some(order[first].2 as u64), "{given:?}");
        let came =
            [context.came.w3c, context.came.b3_single, context.came.b3 || first > 2, context.came.jaeger];
        assert_eq!(came, [first < 1, first < 2, true, true], "{given:?}");
    }
}

#[test]
fn it_is_written_in_w3c_in_the_formats_in_which_it_came_and_in_those_that_are_wanted() {
    let w3c = ("traceparent", "00-12345678901234567890123456789012-0000000000000abc-01");
    let single = ("b3", "12345678901234567890123456789012-0000000000000abc-1-000000000000ffff");
    let jaeger = ("uber-trace-id", "12345678901234567890123456789012:abc:ffff:1");
    let multi = [
        ("x-b3-parentspanid", "000000000000ffff"),
        ("x-b3-sampled", "1"),
        ("x-b3-spanid", "0000000000000abc"),
        ("x-b3-traceid", "12345678901234567890123456789012"),
    ];
    let came_single = [("b3", "12345678901234567890123456789012-1234567890123456-1-00000000000000ab")];
    let came_multi =
        [&B3_IDS[..], &[("x-b3-sampled", "true"), ("x-b3-parentspanid", "00000000000000ab")]].concat();
    let came_jaeger = [("uber-trace-id", "12345678901234567890123456789012:1234567890123456:ab:1")];
    assert_eq!(fields(&sent(&[("traceparent", PARENT)], NONE).1), [w3c]);
    assert_eq!(fields(&sent(&came_single, NONE).1), [single, w3c]);
    assert_eq!(fields(&sent(&came_multi, NONE).1), [&[w3c][..], &multi].concat());
    assert_eq!(fields(&sent(&came_jaeger, NONE).1), [w3c, jaeger]);
    let all = [&[single, w3c, jaeger][..], &multi].concat();
    for came in [&[("traceparent", PARENT)][..], &came_single, &came_multi, &came_jaeger] {
        let (context, headers) = sent(came, ALL);
        assert_eq!(fields(&headers), all, "{came:?}");
        assert_eq!((context.trace_id, context.parent), (TRACE_ID, Some(SPAN)), "{came:?}");
    }
}

#[test]
fn what_another_format_said_of_another_trace_is_written_over() {
    let given = [
        ("traceparent", PARENT),
        ("b3", "d"),
        ("x-b3-traceid", "000000000000000c"),
        ("x-b3-spanid", "000000000000000c"),
        ("x-b3-parentspanid", "000000000000000d"),
        ("x-b3-flags", "0"),
        ("uber-trace-id", "d:d:0:3"),
    ];
    let (_, headers) = sent(&given, NONE);
    for (name, id) in [("b3", 0), ("x-b3-traceid", 0), ("uber-trace-id", 0), ("traceparent", 3)] {
        assert_eq!(&headers[name].to_str().unwrap()[id..][..32], &PARENT[3..35], "{name}");
    }
    assert_eq!(headers["x-b3-parentspanid"], "000000000000ffff");
}

#[test]
fn short_trace_ids_stay_short_where_a_format_has_them() {
    let given = [("x-b3-traceid", "000000000000000c"), ("x-b3-spanid", "000000000000000c")];
    let (_, headers) = sent(&given, ALL);
    assert_eq!(headers["x-b3-traceid"], "000000000000000c");
    assert_eq!(headers["b3"], "000000000000000c-0000000000000abc-000000000000ffff");
    assert_eq!(headers["uber-trace-id"], "c:abc:ffff:0");
    assert_eq!(headers["traceparent"], "00-0000000000000000000000000000000c-0000000000000abc-00");
}

#[test]
fn a_decision_of_the_caller_holds_and_without_one_the_rate_decides() {
    let decided: [(&[(&str, &str)], bool); 10] = [
        (&[("traceparent", PARENT)], true),
        (&[("traceparent", "00-12345678901234567890123456789012-1234567890123456-02")], false),
        (&[("b3", "12345678901234567890123456789012-1234567890123456-0")], false),
        (&[("b3", "12345678901234567890123456789012-1234567890123456-1")], true),
        (&[("b3", "0")], false),
        (&[("b3", "1")], true),
        (&[("x-b3-sampled", "0")], false),
        (&[("x-b3-sampled", "1")], true),
        (&[("uber-trace-id", "1:2:0:0")], false),
        (&[("uber-trace-id", "1:2:0:1")], true),
    ];
    for (given, sampled) in decided {
        let context = TraceContext::take(&mut map(given), || panic!("{given:?} is decided"), RANDOM);
        assert_eq!((context.sampled, context.debug, context.deferred), (sampled, false, false), "{given:?}");
    }
    for given in [&[][..], &[("x-b3-flags", "0")], &B3_IDS] {
        for rate in [true, false] {
            let context = TraceContext::take(&mut map(given), || rate, RANDOM);
            assert_eq!(context.sampled, rate, "{given:?}");
            assert_eq!(context.deferred, context.parent.is_some(), "{given:?}");
        }
    }
}

#[test]
fn what_b3_leaves_to_the_callee_stays_with_the_callee() {
    let single = [("b3", "12345678901234567890123456789012-1234567890123456")];
    for given in [&single[..], &B3_IDS] {
        let mut headers = map(given);
        let context = TraceContext::take(&mut headers, || true, RANDOM);
        context.write(&mut headers, OWN, ALL);
        assert_eq!(headers["b3"], "12345678901234567890123456789012-0000000000000abc-000000000000ffff");
        assert!(!headers.contains_key("x-b3-sampled") && !headers.contains_key("x-b3-flags"));
        assert!(headers["traceparent"].to_str().unwrap().ends_with("-01"), "W3C has no word for it");
    }
    let sampled = [&single[..], &[("x-b3-sampled", "1")]].concat();
    assert_eq!(passed(&sampled)["b3"], single[0].1);
}

#[test]
fn debug_is_told_in_all_formats_that_know_it() {
    let single = [("b3", "12345678901234567890123456789012-1234567890123456-d")];
    let multi = [&B3_IDS[..], &[("x-b3-flags", "1"), ("x-b3-sampled", "0")]].concat();
    let jaeger = [("uber-trace-id", "12345678901234567890123456789012:1234567890123456:0:3")];
    let alone = [("traceparent", PARENT), ("x-b3-flags", "1")];
    let deferred = [&B3_IDS[..], &[("b3", "d")]].concat();
    for given in [&single[..], &multi, &jaeger, &alone, &deferred] {
        let (context, headers) = sent(given, ALL);
        assert!(context.debug, "{given:?}");
        assert_eq!(
            headers["b3"], "12345678901234567890123456789012-0000000000000abc-d-000000000000ffff",
            "{given:?}"
        );
        assert_eq!(headers["x-b3-flags"], "1", "{given:?}");
        assert!(!headers.contains_key("x-b3-sampled"), "{given:?}");
        assert!(headers["uber-trace-id"].to_str().unwrap().ends_with(":3"), "{given:?}");
        assert!(headers["traceparent"].to_str().unwrap().ends_with("-01"), "{given:?}");
    }
    let of_another = [("traceparent", PARENT), ("uber-trace-id", "d:d:0:3")];
    assert!(!sent(&of_another, NONE).0.debug);
}

#[test]
fn debug_that_the_caller_may_not_ask_for_leaves_no_trace() {
    let mut headers = map(&[("traceparent", &PARENT.replace("-01", "-00")), ("x-b3-flags", "1")]);
    let context = TraceContext::take(&mut headers, || false, RANDOM);
    TraceContext { debug: false, ..context }.write(&mut headers, OWN, NONE);
    assert!(!headers.contains_key("x-b3-flags"));
    assert_eq!(headers["x-b3-sampled"], "0");
    assert!(headers["traceparent"].to_str().unwrap().ends_with("-00"));
}

#[test]
fn the_parent_of_the_requests_own_span_is_the_callers() {
    let mut headers = map(&[("traceparent", PARENT)]);
    let context = TraceContext::take(&mut headers, || false, RANDOM);
    context.write(&mut headers, context.span, ALL);
    assert_eq!(headers["b3"], "12345678901234567890123456789012-000000000000ffff-1-1234567890123456");
    let mut headers = map(&[]);
    let context = TraceContext::take(&mut headers, || false, RANDOM);
    context.write(&mut headers, context.span, ALL);
    assert_eq!(headers["b3"], "0000000000000001000000000000000a-000000000000ffff-0");
    assert!(!headers.contains_key("x-b3-parentspanid"));
    assert!(headers["uber-trace-id"].to_str().unwrap().ends_with(":ffff:0:0"));
}

#[test]
fn a_trace_that_passes_in_another_format_is_told_in_w3cs_too() {
    let cases: [(&[(&str, &str)], &str); 9] = [
        (&[("b3", "000000000000000c-000000000000000d-1")], "000000000000000c-000000000000000d-01"),
        (&[("b3", "000000000000000c-000000000000000d")], "000000000000000c-000000000000000d-00"),
        (
            &[("x-b3-traceid", "000000000000000c"), ("x-b3-spanid", "000000000000000d"), ("x-b3-flags", "1")],
            "000000000000000c-000000000000000d-01",
        ),
        (&[("uber-trace-id", "c:d:0:1")], "000000000000000c-000000000000000d-01"),
        // Nobody exports the span that this would tell of as sampled.
        (&[("b3", "1")], "000000000000000a-000000000000ffff-00"),
        (&[("b3", "d")], "000000000000000a-000000000000ffff-00"),
        (&[("x-b3-sampled", "1")], "000000000000000a-000000000000ffff-00"),
        (&[("x-b3-flags", "1")], "000000000000000a-000000000000ffff-00"),
        (&[("b3", "0")], "000000000000000a-000000000000ffff-00"),
    ];
    for (given, expected) in cases {
        let mut headers = passed(given);
        let made = headers.remove("traceparent").unwrap();
        assert!(made.to_str().unwrap().ends_with(expected), "{given:?}: {made:?}");
        assert_eq!(headers, map(given), "{given:?}");
    }
    let given = [("traceparent", "nonsense"), ("tracestate", "a=1"), ("uber-trace-id", "c:d:0:1")];
    let expected = "00-0000000000000000000000000000000c-000000000000000d-01";
    assert_eq!(fields(&passed(&given)), [("traceparent", expected), ("uber-trace-id", "c:d:0:1")]);
}

#[test]
fn what_is_written_again_replaces_what_was_written_before() {
    let (context, mut headers) = sent(&[("traceparent", PARENT), ("accept", "*/*")], ALL);
    let before = headers.len();
    context.write(&mut headers, OWN + 1, ALL);
    assert_eq!(headers.len(), before);
    assert_eq!(headers["traceparent"], "00-12345678901234567890123456789012-0000000000000abd-01");
    assert_eq!(headers["x-b3-spanid"], "0000000000000abd");
    assert_eq!(headers["accept"], "*/*");
}

#[test]
fn a_made_trace_is_valid_whatever_the_random_numbers() {
    for random in [[0; 3], [u64::MAX; 3], [0x0123_4567_89ab_cdef, 0, 7]] {
        let mut headers = HeaderMap::new();
        let made = TraceContext::pass(&mut headers, random);
        let read = TraceContext::take(&mut headers, || false, [1, 2, 3]);
        assert_eq!((read.trace_id, read.parent), (made.trace_id, Some(made.span)), "{random:?}");
    }
}

fn formats() -> impl Strategy<Value = TraceFormats> {
    any::<[bool; 4]>().prop_map(|[w3c, b3, b3_single, jaeger]| TraceFormats { w3c, b3, b3_single, jaeger })
}

prop_compose! {
    fn context()(
        (trace_id, short) in (1_u128.., any::<bool>()),
        (parent, span) in (proptest::option::of(1_u64..), 1_u64..),
        (sampled, deferred, debug, random) in any::<(bool, bool, bool, bool)>(),
        came in formats(),
    ) -> TraceContext {
        let trace_id = if short { (trace_id as u64).max(1).into() } else { trace_id };
        TraceContext { trace_id, parent, span, sampled, deferred, debug, random, came }
    }
}

proptest! {
    #[test]
    fn what_is_written_in_a_format_can_be_read_back(context in context(), span in 1_u64.., besides in formats()) {
        let mut written = HeaderMap::new();
        context.write(&mut written, span, besides);
        let no_rate = || false;
        let read = TraceContext::take(&mut written.clone(), no_rate, RANDOM);
        prop_assert_eq!((read.trace_id, read.parent, read.random), (context.trace_id, Some(span), context.random));
        prop_assert_eq!(read.sampled, context.sampled || context.debug);
        // And each format of its own.
        for family in ["b3", "x-b3-", "uber-trace-id"] {
            let mut alone: HeaderMap = written
                .iter()
                .filter(|(name, _)| name.as_str().starts_with(family))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            if alone.is_empty() {
                continue;
            }
            let read = TraceContext::take(&mut alone, no_rate, RANDOM);
            prop_assert_eq!((read.trace_id, read.parent, read.debug), (context.trace_id, Some(span), context.debug));
            if family == "uber-trace-id" || !context.deferred {
                prop_assert_eq!(read.sampled, context.sampled || context.debug);
            } else {
                prop_assert_eq!(read.deferred, !context.debug);
            }
        }
    }
}
