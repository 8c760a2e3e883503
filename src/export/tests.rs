//! What spans say of requests that are over; what a collector gets of it stands in tests/it/tracing.rs.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use opentelemetry_proto::tonic::{
    common::v1::any_value::Value,
    trace::v1::{ScopeSpans, Span},
};
use prost::Message;

use super::{batch::Batch, facts::Facts, spans};
use crate::{
    config,
    net::Address,
    telemetry::{AttemptNote, AttemptOutcome, Finished, Phases, TraceContext},
};

const MS: Duration = Duration::from_millis(1);

fn facts(routes: &str) -> Facts {
    let text = format!(
        "[node]\nname = \"n\"\n\
         [[listeners]]\nname = \"out\"\nkind = \"outgoing\"\nlisten = \"127.0.0.1:4140\"\n\
         {routes}\n[services.s]\nendpoints = [\"10.0.0.1:80\"]\n"
    );
    Facts::of(&config::parse(&text, Path::new("t.toml")).unwrap_or_else(|problems| panic!("{problems}")))
}

fn route(entries: &str) -> String {
    format!("[[routes]]\nname = \"r\"\nhosts = [\"*\"]\n{entries}\nbackends = [{{ service = \"s\" }}]\n")
}

fn finished() -> Finished {
    let trace = TraceContext::take(&mut http::HeaderMap::new(), || true, [1, 2, 3]);
    Finished {
        trace,
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(10),
        duration: 9 * MS,
        listener: "out".into(),
        peer: Address::Tcp(([127, 0, 0, 1], 5000).into()),
        caller: "unknown".into(),
        method: "GET".into(),
        host: (*b"reviews").into(),
        path: (*b"/a?b=c").into(),
        protocol: "HTTP/2".into(),
        route: Some("r".into()),
        service: Some("s".into()),
        endpoint: None,
        status: 200,
        reason: None,
        cause: None,
        fault: None,
        attempts: 0,
        request_id: (*b"id").into(),
        grpc_status: None,
        is_grpc: false,
        failed: false,
        phases: Phases::default(),
        notes: [].into(),
    }
}

fn note(outcome: AttemptOutcome, status: Option<u16>) -> AttemptNote {
    AttemptNote {
        service: "s".into(),
        endpoint: Address::Tcp(([10, 0, 0, 1], 80).into()),
        why: None,
        begun: MS,
        sent: None,
        head: status.map(|_| 2 * MS),
        ended: Some(3 * MS),
        outcome,
        status,
        span: 7,
    }
}

fn told(request: &Finished) -> Vec<Span> {
    spans::of(request, &facts(&route(""))).collect()
}

fn get(span: &Span, key: &str) -> Option<String> {
    let mut of_key = span.attributes.iter().filter(|pair| pair.key == key);
    let found = of_key.next()?.value.clone()?.value?;
    assert!(of_key.next().is_none(), "{key} is told twice");
    match found {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{other:?}"),
    }
}

fn is_error(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code == 2)
}

#[test]
fn a_method_that_the_conventions_do_not_know_is_no_name() {
    let span = &told(&Finished { method: "BREW".into(), ..finished() })[0];
    assert_eq!(span.name, "HTTP");
    assert_eq!(get(span, "http.request.method").as_deref(), Some("_OTHER"));
    assert_eq!(get(span, "http.request.method_original").as_deref(), Some("BREW"));
}

#[test]
fn what_was_not_sent_has_no_status() {
    let gone = Finished { status: 499, reason: Some("timeout".into()), ..finished() };
    let span = &told(&gone)[0];
    assert_eq!(get(span, "http.response.status_code"), None);
    assert_eq!(get(span, "towpath.code").as_deref(), Some("499"));
    assert!(!is_error(span));
    // An endpoint may say so itself.
    let notes = [note(AttemptOutcome::Success, Some(499))].into();
    let spans = told(&Finished { status: 499, notes, ..finished() });
    assert_eq!(get(&spans[0], "http.response.status_code").as_deref(), Some("499"));
    assert!(
        is_error(&spans[1]) && !is_error(&spans[0]),
        "a client holds 4xx to be errors, a server does not"
    );
}

#[test]
fn what_a_caller_writes_is_a_name_only_where_a_route_wanted_it() {
    let call = || Finished { is_grpc: true, path: (*b"/pkg.Svc/Do").into(), ..finished() };
    assert_eq!(told(&call())[0].name, "pkg.Svc/Do");
    assert_eq!(told(&Finished { route: None, ..call() })[0].name, "GET");
    let name = |routes: &str| spans::of(&finished(), &facts(&route(routes))).next().unwrap().name;
    for (entries, expected) in [
        ("", "GET"),
        ("match = [{ path = \"/a\" }]", "GET /a"),
        ("match = [{ path_prefix = \"/v2\" }]", "GET /v2/*"),
        ("match = [{ path_prefix = \"/\" }]", "GET"),
        ("match = [{ path_regex = \"/a.*\" }]", "GET"),
        ("match = [{ path = \"/a\" }, { path = \"/b\" }]", "GET"),
        (
            "match = [{ path = \"/a\", methods = [\"GET\"] }, { path = \"/a\", methods = [\"PUT\"] }]",
            "GET /a",
        ),
    ] {
        assert_eq!(name(entries), expected, "{entries}");
    }
}

#[test]
fn only_what_went_wrong_is_an_error_of_an_attempt() {
    for (outcome, status, code, error) in [
        (AttemptOutcome::Success, Some(200), None, None),
        (AttemptOutcome::Success, Some(404), None, Some("404")),
        (AttemptOutcome::ServerError, Some(503), None, Some("503")),
        (AttemptOutcome::Reset, Some(200), None, Some("reset")),
        (AttemptOutcome::Timeout, None, None, Some("timeout")),
        (AttemptOutcome::Cancelled, None, None, None),
        (AttemptOutcome::Success, Some(200), Some(5), Some("NOT_FOUND")),
        (AttemptOutcome::Success, Some(200), Some(0), None),
    ] {
        let notes = [note(outcome, status)].into();
        let span = &told(&Finished { is_grpc: code.is_some(), grpc_status: code, notes, ..finished() })[1];
        assert_eq!(get(span, "error.type").as_deref(), error, "{outcome:?} {status:?} {code:?}");
        assert_eq!(is_error(span), error.is_some());
    }
}

#[test]
fn the_status_of_a_grpc_call_belongs_to_the_attempt_that_gave_it() {
    let notes = || [note(AttemptOutcome::ServerError, Some(200)), note(AttemptOutcome::Success, Some(200))];
    let call = Finished { is_grpc: true, grpc_status: Some(0), notes: notes().into(), ..finished() };
    let codes: Vec<_> = told(&call).iter().map(|span| get(span, "rpc.grpc.status_code")).collect();
    assert_eq!(codes, [Some("0".to_owned()), None, Some("0".to_owned())]);
    let own = Finished { reason: Some("timeout".into()), grpc_status: Some(4), ..call };
    let codes: Vec<_> = told(&own).iter().map(|span| get(span, "rpc.grpc.status_code")).collect();
    assert_eq!(codes, [Some("4".to_owned()), None, None]);
}

#[test]
fn times_and_numbers_are_whole_whatever_is_missing() {
    let open = AttemptNote { ended: None, span: 0, ..note(AttemptOutcome::Cancelled, None) };
    let request = Finished { notes: [open].into(), ..finished() };
    let spans = told(&request);
    let times = |span: &Span| (span.start_time_unix_nano, span.end_time_unix_nano);
    assert_eq!(times(&spans[0]), (10_000_000_000, 10_009_000_000));
    assert_eq!(times(&spans[1]), (10_001_000_000, 10_009_000_000));
    assert!(spans[1].span_id.len() == 8 && spans[1].span_id != [0; 8]);
    assert_eq!(spans[1].parent_span_id, spans[0].span_id);
    assert_eq!(spans[0].trace_id, [[0, 0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 2]].concat());
    assert_eq!(spans[0].flags & 1, 1);
}

#[test]
fn a_host_that_is_none_and_bytes_that_are_no_text_are_told_as_far_as_they_go() {
    let odd = Finished { host: (*b"a b").into(), path: (*b"/\xff").into(), ..finished() };
    let span = &told(&odd)[0];
    assert_eq!(get(span, "server.address").as_deref(), Some("a b"));
    assert_eq!(get(span, "url.path").as_deref(), Some("/"));
}

#[test]
fn only_a_span_that_has_a_parent_says_that_it_is_remote() {
    let (known, remote) = (0x100, 0x200);
    let mut request = finished();
    assert_eq!(told(&request)[0].flags & (known | remote), known);
    request.trace.parent = Some(9);
    assert_eq!(told(&request)[0].flags & (known | remote), known | remote);
}

#[test]
fn a_batch_is_full_long_before_a_receiver_would_refuse_it() {
    let gathered = |request: &Finished| {
        let (mut batch, facts) = (Batch::default(), facts(&route("")));
        while !batch.is_full() {
            batch.add(spans::of(request, &facts));
        }
        let spans = batch.into_spans();
        (spans.len(), ScopeSpans { spans, ..ScopeSpans::default() }.encoded_len())
    };
    let notes = || [note(AttemptOutcome::Success, Some(200))].into();
    assert_eq!(gathered(&Finished { notes: notes(), ..finished() }).0, 512);
    let path = format!("/{}/m", "s".repeat(1021)).into_bytes().into();
    let long: Box<[u8]> = [b'x'; 1024].into();
    let (host, request_id) = (long.clone(), long);
    let (spans, bytes) =
        gathered(&Finished { is_grpc: true, path, host, request_id, notes: notes(), ..finished() });
    assert!(spans < 512 && (2 << 20..3 << 20).contains(&bytes), "{spans} spans of {bytes} bytes");
}
