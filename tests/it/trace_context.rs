//! Trace context on the wire: what endpoints are told, attempt by attempt, and what passes where towpath does not trace.

use std::net::SocketAddr;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::support::{
    Backend, Call, Client, Daemon, Raw, RawServer, Speaks, client,
    daemon::{one_service, service},
    get,
    grpc::{GrpcServer, Plain, connect, method},
    within,
};

const TRACE: &str = "12345678901234567890123456789012";
const SPAN: &str = "1234567890123456";
const SAMPLED: &str = "00-12345678901234567890123456789012-1234567890123456-01";

/// One service behind a daemon that traces.
fn traced(tracing: &str, protocol: &str, endpoints: &[SocketAddr]) -> String {
    format!("[tracing]\n{tracing}\n{}", one_service(protocol, endpoints))
}

/// A `traceparent` in its parts: trace id, parent id, flags.
fn parts(traceparent: &str) -> (&str, &str, &str) {
    let parts: Vec<_> = traceparent.split('-').collect();
    let [version, trace, parent, flags] = parts[..] else { panic!("{traceparent}") };
    let is_hex = |text: &str, length| {
        text.len() == length && text.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
    };
    assert!(version == "00" && is_hex(trace, 32) && is_hex(parent, 16) && is_hex(flags, 2), "{traceparent}");
    assert!(trace.contains(|c| c != '0') && parent.contains(|c| c != '0'), "{traceparent}");
    (trace, parent, flags)
}

fn field<'a>(seen: &'a Value, name: &str) -> &'a str {
    seen["headers"][name].as_str().unwrap_or_else(|| panic!("no {name} in {seen}"))
}

/// What the endpoint saw.
async fn seen(daemon: &Daemon, speaks: Speaks, fields: &[(&str, &str)]) -> Value {
    let call = fields.iter().fold(get("svc", "/"), |call: Call, (name, value)| call.header(name, value));
    client::ask(daemon.address(), speaks, call).await.json()
}

over_both_protocols! {
    async fn a_trace_goes_on_with_a_span_of_the_attempts_own(speaks: Speaks) {
        for protocol in ["http1", "http2"] {
            let backend = Backend::start("one").await;
            let daemon = Daemon::start(&traced("sample = 0", protocol, &[backend.address]));
            let given = [
                ("traceparent", SAMPLED),
                ("tracestate", "foo=1, bar=2"),
                ("tracestate", ""),
                ("tracestate", "baz=3"),
                ("baggage", "user=ann, tier=gold;x"),
            ];
            let mut spans = Vec::new();
            for _ in 0..2 {
                let seen = seen(&daemon, speaks, &given).await;
                let (trace, parent, flags) = parts(field(&seen, "traceparent"));
                assert_eq!((trace, flags), (TRACE, "01"), "the caller has decided: {seen}");
                spans.push(parent.to_owned());
                assert_eq!(field(&seen, "tracestate"), "foo=1,bar=2,baz=3");
                assert_eq!(field(&seen, "baggage"), "user=ann, tier=gold;x");
            }
            assert!(spans[0] != spans[1] && !spans.contains(&SPAN.to_owned()), "{spans:?}");
        }
    }
}

over_both_protocols! {
    async fn a_trace_begins_where_there_is_none_and_the_rate_decides_about_it(speaks: Speaks) {
        let backend = Backend::start("one").await;
        for (rate, expected) in [(100, "01"), (0, "00")] {
            let daemon = Daemon::start(&traced(&format!("sample = {rate}"), "http1", &[backend.address]));
            let (first, second) = (seen(&daemon, speaks, &[]).await, seen(&daemon, speaks, &[]).await);
            let [first, second] = [&first, &second].map(|seen| parts(field(seen, "traceparent")));
            assert_ne!((first.0, first.1), (second.0, second.1));
            assert_eq!((first.2, second.2), (expected, expected), "{rate} %");
            let denied = SAMPLED.replace("-01", "-00");
            for (given, flags) in [(SAMPLED, "01"), (&*denied, "00")] {
                let seen = seen(&daemon, speaks, &[("traceparent", given)]).await;
                assert_eq!(parts(field(&seen, "traceparent")).2, flags, "{given} at {rate} %");
            }
        }
    }
}

over_both_protocols! {
    async fn without_tracing_what_is_valid_passes_as_it_came_and_nothing_else_does(speaks: Speaks) {
        let backend = Backend::start("one").await;
        let daemon = Daemon::start(&one_service("http1", &[backend.address]));
        let later = format!("cc{}-what-the-future-will-be-like", &SAMPLED[2..]);
        for traceparent in [SAMPLED, &later] {
            let given = [
                ("traceparent", traceparent),
                ("tracestate", "foo=1 ,bar=2"),
                ("b3", "80f198ee56343ba8-e457b5a2e4d86bd1"),
                ("x-b3-sampled", "true"),
                ("uber-trace-id", "1%3A2%3A0%3A1"),
            ];
            let seen = seen(&daemon, speaks, &given).await;
            for (name, value) in given {
                assert_eq!(field(&seen, name), value, "{name}");
            }
        }
        let invalid = [
            ("traceparent", "ff-12345678901234567890123456789012-1234567890123456-01"),
            ("tracestate", "foo=1"),
            ("b3", "nonsense"),
            ("x-b3-traceid", "1"),
            ("x-b3-sampled", "1"),
            ("uber-trace-id", "1:2:3"),
        ];
        let seen = seen(&daemon, speaks, &invalid).await;
        let (trace, _, flags) = parts(field(&seen, "traceparent"));
        assert_ne!(trace, TRACE);
        assert_eq!(flags, "00", "nobody has sampled it");
        for (name, _) in &invalid[1..] {
            assert!(seen["headers"][name].is_null(), "{name} in {seen}");
        }
    }
}

over_both_protocols! {
    async fn endpoints_are_told_in_the_formats_of_the_caller_and_of_the_configuration(speaks: Speaks) {
        let backend = Backend::start("one").await;
        let more = "propagate = [\"b3\", \"b3-single\", \"jaeger\"]";
        let (plain, all) = (
            Daemon::start(&traced("", "http1", &[backend.address])),
            Daemon::start(&traced(more, "http2", &[backend.address])),
        );
        let short = &TRACE[16..];
        let (single, jaeger) = (format!("{short}-{SPAN}-1"), format!("{short}:{SPAN}:0:1"));
        let callers = [
            (&["traceparent"][..], vec![("traceparent", SAMPLED)]),
            (&["b3"][..], vec![("b3", &*single)]),
            (
                &["x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled"][..],
                vec![("x-b3-traceid", short), ("x-b3-spanid", SPAN), ("x-b3-sampled", "1")],
            ),
            (&["uber-trace-id"][..], vec![("uber-trace-id", &*jaeger)]),
        ];
        let names: Vec<&str> = callers.iter().flat_map(|(names, _)| names.iter().copied()).collect();
        for (expected, given) in &callers {
            let told = seen(&plain, speaks, given).await;
            for name in &names {
                let is_told = expected.contains(name) || *name == "traceparent";
                assert_eq!(!told["headers"][name].is_null(), is_told, "{name} of {given:?} in {told}");
            }
            let told = seen(&all, speaks, given).await;
            let (trace, span, flags) = parts(field(&told, "traceparent"));
            assert!(trace.ends_with(short) && flags == "01" && span != SPAN, "{told}");
            assert_eq!(field(&told, "x-b3-spanid"), span);
            assert_eq!(field(&told, "x-b3-sampled"), "1");
            assert_eq!(field(&told, "b3").split('-').nth(1), Some(span));
            assert_eq!(field(&told, "b3").split('-').nth(3), Some(field(&told, "x-b3-parentspanid")));
            let span = span.trim_start_matches('0');
            assert_eq!(field(&told, "uber-trace-id").split(':').nth(1), Some(span));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn fields_are_read_by_the_rules_of_http() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&traced("sample = 0", "http1", &[backend.address]));
    let mut client = Raw::connect(daemon.address()).await;
    // Lines of a request; whether the trace goes on; what is left of its state.
    let cases = [
        (format!("TraceParent: {SAMPLED}\r\nTRACESTATE: foo=1\r\n"), true, Some("foo=1")),
        (format!("TrAcEpArEnT:\t {SAMPLED} \t\r\ntracestate:\t foo=1 \t\r\n"), true, Some("foo=1")),
        (format!("traceparent:{SAMPLED}\r\ntracestate:\r\n"), true, None),
        (
            format!("tracestate: foo=1\r\ntraceparent: {SAMPLED}\r\ntracestate: bar=2 \t , \t baz=3\r\n"),
            true,
            Some("foo=1,bar=2,baz=3"),
        ),
        (format!("traceparent: {SAMPLED}\r\ntracestate: foo=1\r\ntracestate: foo\r\n"), true, None),
        (format!("traceparent: {SAMPLED}\r\ntrace-state: foo=1\r\n"), true, None),
        (format!("traceparent: {SAMPLED}\r\ntraceparent: {SAMPLED}\r\ntracestate: foo=1\r\n"), false, None),
        (format!("traceparent: {SAMPLED}, {SAMPLED}\r\ntracestate: foo=1\r\n"), false, None),
        (format!("trace-parent: {SAMPLED}\r\ntracestate: foo=1\r\n"), false, None),
        ("tracestate: foo=1\r\n".to_owned(), false, None),
        (format!("connection: traceparent, tracestate\r\ntraceparent: {SAMPLED}\r\n"), true, None),
    ];
    for (lines, goes_on, state) in cases {
        client.send(format!("GET / HTTP/1.1\r\nhost: svc\r\n{lines}\r\n")).await;
        let seen = client.read_response().await.json();
        let (trace, parent, _) = parts(field(&seen, "traceparent"));
        assert_eq!(trace == TRACE, goes_on, "{lines}");
        assert_ne!(parent, SPAN, "{lines}");
        assert_eq!(seen["headers"]["tracestate"].as_str(), state, "{lines}");
    }
}

/// A server over HTTP/1.1 that gives these answers, the last of them from then on, and tells of each request's trace; no
/// answer is one that never comes.
async fn scripted(answers: &'static [&'static str]) -> (SocketAddr, UnboundedReceiver<String>) {
    let server = RawServer::start().await;
    let (address, (tell, told)) = (server.address, unbounded_channel());
    tokio::spawn(async move {
        let mut connections = Vec::new();
        for number in 0.. {
            let Ok(mut connection) = server.try_accept().await else { return };
            let head = connection.read_head().await;
            let _ = tell.send(head.field("traceparent"));
            let answer = answers[number.min(answers.len() - 1)];
            let _ = connection.try_send(answer).await;
            connections.push(connection);
        }
    });
    (address, told)
}

async fn next(told: &mut UnboundedReceiver<String>) -> String {
    within("another attempt", told.recv()).await.unwrap()
}

const BUSY: &str = "HTTP/1.1 503 Busy\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";

/// A daemon of one endpoint whose route has `keys`.
fn persistent(keys: &str, tracing: &str, endpoints: &[SocketAddr]) -> Daemon {
    let toml = one_service("http1", endpoints).replace("hosts =", &format!("{keys}\nhosts ="));
    Daemon::start(&format!("{tracing}{toml}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_retry_has_a_span_of_its_own_in_one_trace() {
    let retry = "retry = { on = [\"5xx\"], attempts = 3, backoff = [\"1ms\", \"2ms\"] }";
    for (tracing, distinct) in [("[tracing]\n", 3), ("", 1)] {
        let (address, mut told) = scripted(&[BUSY, BUSY, OK]).await;
        let daemon = persistent(retry, tracing, &[address]);
        let answer =
            client::ask(daemon.address(), Speaks::Http1, get("svc", "/").header("traceparent", SAMPLED))
                .await;
        assert_eq!(answer.status, 200);
        let mut spans = Vec::new();
        for _ in 0..3 {
            let traceparent = next(&mut told).await;
            let (trace, span, flags) = parts(&traceparent);
            assert_eq!((trace, flags), (TRACE, "01"));
            spans.push(span.to_owned());
        }
        assert_eq!(spans.contains(&SPAN.to_owned()), tracing.is_empty(), "{spans:?}");
        spans.sort();
        spans.dedup();
        assert_eq!(spans.len(), distinct, "{tracing}: {spans:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_hedge_has_a_span_of_its_own_in_the_same_trace() {
    let (first, second) = (scripted(&["", OK]).await, scripted(&["", OK]).await);
    let daemon = persistent("hedge = { after = \"20ms\" }", "[tracing]\n", &[first.0, second.0]);
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let asking = tokio::spawn(async move {
        let _ = client.try_ask(get("svc", "/").header("traceparent", SAMPLED)).await;
    });
    let (mut first, mut second) = (first.1, second.1);
    let (one, other) = (next(&mut first).await, next(&mut second).await);
    let (one, other) = (parts(&one), parts(&other));
    assert_eq!((one.0, other.0), (TRACE, TRACE));
    assert!(one.1 != other.1 && one.1 != SPAN && other.1 != SPAN, "{one:?} {other:?}");
    asking.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_grpc_call_has_its_trace_in_its_metadata() {
    let server = GrpcServer::start().await;
    let daemon = Daemon::start(&traced("propagate = [\"b3-single\"]", "auto", &[server.address]));
    let mut grpc = connect(daemon.address(), "svc").await;
    within("ready", grpc.ready()).await.unwrap();
    let mut request = tonic::Request::new(Bytes::from_static(b"hi"));
    request.metadata_mut().insert("traceparent", SAMPLED.parse().unwrap());
    request.metadata_mut().insert("tracestate", "foo=1".parse().unwrap());
    let answer = within("the call", grpc.unary(request, method("Unary"), Plain)).await.unwrap();
    let told = |name: &str| answer.metadata().get(name).unwrap().to_str().unwrap();
    let (trace, span, flags) = parts(told("traceparent"));
    assert_eq!((trace, flags, told("tracestate")), (TRACE, "01", "foo=1"));
    assert!(span != SPAN && told("b3").starts_with(&format!("{TRACE}-{span}-1-")), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn over_two_nodes_there_is_one_trace_and_the_first_decides() {
    let backend = Backend::start("one").await;
    for (first, second, flags) in [("sample = 100", "sample = 0", "01"), ("sample = 0", "sample = 100", "00")]
    {
        let second = Daemon::start(&traced(second, "http1", &[backend.address]));
        for protocol in ["http1", "http2"] {
            let first = Daemon::start(&traced(first, protocol, &[second.address()]));
            let begun = seen(&first, Speaks::Http1, &[]).await;
            assert_eq!(parts(field(&begun, "traceparent")).2, flags);
            let given = [("traceparent", SAMPLED), ("tracestate", "foo=1")];
            let told = seen(&first, Speaks::Http2, &given).await;
            let (trace, span, flags) = parts(field(&told, "traceparent"));
            assert_eq!((trace, flags, field(&told, "tracestate")), (TRACE, "01", "foo=1"));
            assert_ne!(span, SPAN);
        }
    }
    // A node that does not trace is no hop: the endpoint is the child of the attempt of the first.
    let (address, mut told) = scripted(&[OK]).await;
    let passing = Daemon::start(&one_service("http1", &[address]));
    let first = Daemon::start(&traced("propagate = [\"b3\"]", "http1", &[passing.address()]));
    client::ask(first.address(), Speaks::Http1, get("svc", "/").header("traceparent", SAMPLED)).await;
    let direct = next(&mut told).await;
    let (trace, span, flags) = parts(&direct);
    assert_eq!((trace, flags), (TRACE, "01"));
    assert_ne!(span, SPAN);
}

/// Whom a route asks is told of the request's span, and the endpoint of the attempt's: so all spans of a request hang together.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whom_a_route_asks_is_a_child_of_the_request() {
    let (authorizer, backend) = (RawServer::start().await, Backend::start("one").await);
    let route = "authorize = { service = \"authz\", on_failure = \"deny\" }";
    let toml = traced("propagate = [\"b3-single\"]", "http1", &[backend.address])
        .replace("hosts =", &format!("{route}\nhosts ="));
    let daemon = Daemon::start(&format!("{toml}{}", service("authz", "http1", &[authorizer.address])));
    let answer = async {
        let mut question = authorizer.accept().await;
        let asked = question.read_head().await;
        question.send(OK).await;
        (asked, question)
    };
    let given = [("traceparent", SAMPLED)];
    let (told, (asked, _question)) = tokio::join!(seen(&daemon, Speaks::Http1, &given), answer);
    let (traceparent, b3) = (asked.field("traceparent"), asked.field("b3"));
    let (trace, request, _) = parts(&traceparent);
    assert_eq!(b3, format!("{trace}-{request}-1-{SPAN}"), "the request is the caller's child");
    let (_, attempt, _) = parts(field(&told, "traceparent"));
    assert_eq!(
        field(&told, "b3"),
        format!("{TRACE}-{attempt}-1-{request}"),
        "the attempt is the request's child"
    );
    assert!(trace == TRACE && attempt != request && ![attempt, request].contains(&SPAN), "{asked:?} {told}");
}
