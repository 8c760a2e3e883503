//! Deadlines on every hop, and timeouts that say which they are.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::Value;

use crate::support::{
    Answer, Backend, Call, Client, Daemon, RawServer, Speaks, body, call, client,
    daemon::one_service,
    eventually,
    frames::{Frames, HEADERS, RST_STREAM},
    get, within,
};

/// Of RST_STREAM: the stream is no longer needed.
const CANCEL: u32 = 8;

fn toml(protocol: &str, address: SocketAddr, route: &str) -> String {
    one_service(protocol, &[address]).replace("hosts =", &format!("{route}\nhosts ="))
}

fn grpc() -> Call {
    call("POST", "svc", "/").header("content-type", "application/grpc").header("te", "trailers")
}

/// A field as an echoing server got it.
fn seen(answer: &Answer, field: &str) -> Option<String> {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["headers"][field].as_str().map(str::to_owned)
}

/// Milliseconds, from a field that may be nothing else.
fn millis(field: Option<String>) -> u64 {
    field.as_deref().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{field:?}"))
}

async fn cause_is_counted(daemon: &Daemon, cause: &str) {
    daemon.metric_becomes("error_causes_total", &[("reason", "timeout"), ("cause", cause)], 1.0).await;
}

fn assert_timeout(answer: &Answer, cause: &str) {
    assert_eq!((answer.status, answer.reason()), (504, "timeout"), "{answer:?}");
    assert_eq!(answer.json()["error"]["cause"], cause, "{answer:?}");
}

over_both_protocols! {
    async fn what_is_left_is_passed_on(speaks: Speaks) {
        for protocol in ["http1", "http2"] {
            let backend = Backend::start("one").await;
            let daemon = Daemon::start(&toml(protocol, backend.address, "timeout = \"9s\""));
            let mut client = Client::connect(daemon.address(), speaks).await;
            let answer = client.ask(get("svc", "/").header("towpath-deadline", "5000")).await;
            let left = millis(seen(&answer, "towpath-deadline"));
            assert!((3000..5000).contains(&left), "{left}");
            for callers in ["60000", "soon"] {
                let answer = client.ask(get("svc", "/").header("towpath-deadline", callers)).await;
                let left = millis(seen(&answer, "towpath-deadline"));
                assert!((7000..9000).contains(&left), "the route's, not {callers}: {left}");
            }
            assert_eq!(seen(&answer, "grpc-timeout"), None, "it is no gRPC call");
        }
    }
}

over_both_protocols! {
    async fn without_a_deadline_nothing_is_said_of_one(speaks: Speaks) {
        let backend = Backend::start("one").await;
        let daemon = Daemon::start(&toml("http1", backend.address, ""));
        let mut client = Client::connect(daemon.address(), speaks).await;
        assert_eq!(seen(&client.ask(get("svc", "/")).await, "towpath-deadline"), None);
        let unreadable = get("svc", "/").header("towpath-deadline", "1.5");
        assert_eq!(seen(&client.ask(unreadable).await, "towpath-deadline"), None);
        assert_eq!(seen(&client.ask(grpc().header("grpc-timeout", "x")).await, "grpc-timeout"), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_grpc_call_is_told_in_both_ways_whichever_way_towpath_was_told() {
    let backend = Backend::start("one").await;
    for (route, field) in [
        ("", ("grpc-timeout", "5S")),
        ("", ("towpath-deadline", "5000")),
        ("timeout = \"5s\"", ("x-none", "")),
        ("timeout = \"5s\"", ("grpc-timeout", "1H")),
    ] {
        let daemon = Daemon::start(&toml("auto", backend.address, route));
        let answer = client::ask(daemon.address(), Speaks::Http2, grpc().header(field.0, field.1)).await;
        let left = millis(seen(&answer, "towpath-deadline"));
        assert!((3000..5000).contains(&left), "{field:?}: {left}");
        let micros = seen(&answer, "grpc-timeout").and_then(|text| Some(text.strip_suffix('u')?.to_owned()));
        let left = millis(micros);
        assert!((3_000_000..5_000_000).contains(&left), "{field:?}: {left}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn each_attempt_is_told_what_is_left_when_it_is_made() {
    let server = RawServer::start().await;
    let daemon = Daemon::start(&toml("http1", server.address, "timeout = \"8s\""));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let asking = tokio::spawn(async move {
        client.ask(get("svc", "/first")).await;
        client.ask(get("svc", "/second")).await
    });
    let mut first = server.accept().await;
    first.read_head().await;
    first.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let before = first.read_head().await.field("towpath-deadline").parse::<u64>().unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await; // what the second attempt has less
    drop(first);
    let mut again = server.accept().await;
    let after = again.read_head().await.field("towpath-deadline").parse::<u64>().unwrap();
    again.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(within("the answer", asking).await.unwrap().status, 200);
    assert!(after + 100 <= before, "{before}, then {after}");
}

over_both_protocols! {
    async fn a_request_with_nothing_left_is_refused_without_an_attempt(speaks: Speaks) {
        let backend = Backend::start("one").await;
        let daemon = Daemon::start(&toml("http1", backend.address, "timeout = \"5s\""));
        let mut client = Client::connect(daemon.address(), speaks).await;
        let answer = client.ask(get("svc", "/").header("towpath-deadline", "0")).await;
        assert_timeout(&answer, "caller_deadline");
        cause_is_counted(&daemon, "caller_deadline").await;
        let answer = client.ask(grpc().header("grpc-timeout", "0m")).await;
        assert_eq!((answer.header("grpc-status"), answer.reason()), ("4", "timeout"), "{answer:?}");
        assert_eq!(backend.connections(), 0);
        daemon.metric_becomes("attempts_total", &[], 0.0).await;
        assert_eq!(client.ask(get("svc", "/").header("towpath-deadline", "5000")).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_deadline_that_passes_closes_the_connection_or_cancels_the_stream() {
    for protocol in ["http1", "http2"] {
        let server = RawServer::start().await;
        let daemon = Daemon::start(&toml(protocol, server.address, ""));
        let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
        let call = get("svc", "/").header("towpath-deadline", "200");
        let asking = tokio::spawn(async move { client.ask(call).await });
        let mut upstream = server.accept().await;
        if protocol == "http1" {
            upstream.read_head().await;
            upstream.closes().await;
        } else {
            let mut upstream = Frames::serve(upstream).await;
            let stream = upstream.next_of(&[HEADERS]).await.stream;
            let reset = upstream.next_of(&[RST_STREAM]).await;
            assert_eq!((reset.stream, reset.code()), (stream, CANCEL));
        }
        assert_timeout(&within("the answer", asking).await.unwrap(), "caller_deadline");
        // It was the caller who did not wait longer.
        daemon.metric_becomes("attempts_total", &[("outcome", "cancelled")], 1.0).await;
        daemon.metric_becomes("requests_in_flight", &[], 0.0).await;
    }
}

/// The only line of an access log, once it is there.
async fn line(path: &std::path::Path) -> Value {
    let read = || std::fs::read_to_string(path).unwrap_or_default();
    eventually("a line", async || read().ends_with('\n')).await;
    serde_json::from_str(read().trim_end()).unwrap()
}

over_both_protocols! {
    async fn each_timeout_says_which_it_is(speaks: Speaks) {
        for (route, of_service, field, cause, outcome) in [
            ("timeout = \"150ms\"", "", "", "timeout", "timeout"),
            ("attempt_timeout = \"150ms\"", "", "", "attempt_timeout", "timeout"),
            ("timeout = \"5s\"", "", "150", "caller_deadline", "cancelled"),
            ("timeout = \"5s\"", "head_timeout = \"150ms\"", "", "head_timeout", "timeout"),
            ("timeout = \"8s\"", "stream_idle_timeout = \"150ms\"", "", "stream_idle_timeout", "timeout"),
        ] {
            let backend = Backend::start("one").await;
            let directory = tempfile::tempdir().unwrap();
            let log = directory.path().join("access.log");
            let toml = toml("http1", backend.address, route);
            let daemon = Daemon::start(&format!("[access_log]\npath = \"{}\"\n{toml}{of_service}\n", log.display()));
            let mut call = get("svc", "/hang");
            if !field.is_empty() {
                call = call.header("towpath-deadline", field);
            }
            let start = Instant::now();
            let answer = client::ask(daemon.address(), speaks, call).await;
            assert!((0.15..4.0).contains(&start.elapsed().as_secs_f64()), "{cause}: {:?}", start.elapsed());
            assert_timeout(&answer, cause);
            let message = answer.json()["error"]["message"].to_string();
            assert!(message.contains(cause), "{message}");
            let line = line(&log).await;
            assert_eq!((&line["reason"], &line["cause"]), (&"timeout".into(), &cause.into()), "{line}");
            cause_is_counted(&daemon, cause).await;
            daemon.metric_becomes("attempts_total", &[("outcome", outcome)], 1.0).await;
            eventually("the server's request is cancelled", async || backend.running() == 0).await;
        }
    }
}

over_both_protocols! {
    async fn a_deadline_in_the_middle_of_an_answer_says_whose_it_was(speaks: Speaks) {
        for (route, field, cause) in
            [("timeout = \"200ms\"", "9000", "timeout"), ("timeout = \"9s\"", "200", "caller_deadline")]
        {
            let backend = Backend::start("one").await;
            let daemon = Daemon::start(&toml("http1", backend.address, route));
            let mut client = Client::connect(daemon.address(), speaks).await;
            let response = client.send(get("svc", "/drip").header("towpath-deadline", field)).await;
            assert!(within("the cut", Answer::read(response)).await.is_err(), "half an answer is no answer");
            cause_is_counted(&daemon, cause).await;
            daemon.metric_becomes("attempts_total", &[("outcome", "timeout")], 1.0).await;
            eventually("the server's connection is closed", async || backend.open_connections() == 0).await;
        }
    }
}

over_both_protocols! {
    async fn the_head_timeout_leaves_a_slow_upload_alone_and_ends_a_slow_endpoint(speaks: Speaks) {
        let backend = Backend::start("one").await;
        let toml = toml("http1", backend.address, "") + "head_timeout = \"200ms\"\n";
        let daemon = Daemon::start(&toml);
        let (sender, body) = body::piecewise();
        tokio::spawn(async move {
            for _ in 0..6 {
                let _ = sender.send(Ok(Bytes::from_static(b"piece"))).await;
                tokio::time::sleep(Duration::from_millis(100)).await; // the upload takes three times as long
            }
        });
        let mut client = Client::connect(daemon.address(), speaks).await;
        let answer = client.ask(call("POST", "svc", "/count").body(body)).await;
        assert_eq!((answer.status, &*answer.text()), (200, "30"), "{answer:?}");
        let late = call("POST", "svc", "/hang").body(body::full("all of it"));
        assert_timeout(&client.ask(late).await, "head_timeout");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_head_timeout_is_held_against_the_endpoint() {
    let slow = RawServer::start().await;
    let good = Backend::start("good").await;
    let keys = "balancer = \"round-robin\"\nhead_timeout = \"50ms\"\n";
    let daemon = Daemon::start(&(one_service("http1", &[slow.address, good.address]) + keys));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    eventually("it is ejected", async || {
        client.ask(get("svc", "/")).await;
        daemon.metric("ejections_total", &[]).await > 0.0
    })
    .await;
    daemon.metric_becomes("attempts_total", &[("outcome", "timeout")], 5.0).await;
}

/// A daemon behind a daemon.
fn hops(protocol: &str, backend: SocketAddr, route: &str) -> (Daemon, Daemon) {
    let second = Daemon::start(&toml(protocol, backend, ""));
    let first = Daemon::start(&toml(protocol, second.address(), route));
    (first, second)
}

over_both_protocols! {
    async fn two_hops_share_one_deadline(speaks: Speaks) {
        for protocol in ["http1", "http2"] {
            let backend = Backend::start("one").await;
            for (route, field) in [("timeout = \"5s\"", "60000"), ("", "5000")] {
                let (first, _second) = hops(protocol, backend.address, route);
                let call = get("svc", "/").header("towpath-deadline", field);
                let left = millis(seen(&client::ask(first.address(), speaks, call).await, "towpath-deadline"));
                assert!((3000..5000).contains(&left), "{left}");
            }
            let (first, second) = hops(protocol, backend.address, "timeout = \"300ms\"");
            let start = Instant::now();
            let answer = client::ask(first.address(), speaks, get("svc", "/hang")).await;
            assert_eq!((answer.status, answer.reason()), (504, "timeout"), "{answer:?}");
            assert!((0.25..3.0).contains(&start.elapsed().as_secs_f64()), "{:?}", start.elapsed());
            eventually("the server's request is cancelled", async || backend.running() == 0).await;
            first.metric_becomes("requests_in_flight", &[], 0.0).await;
            second.metric_becomes("requests_in_flight", &[], 0.0).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_grpc_deadline_reaches_the_server_behind_two_hops() {
    let backend = Backend::start("one").await;
    let (first, _second) = hops("auto", backend.address, "");
    let answer = client::ask(first.address(), Speaks::Http2, grpc().header("grpc-timeout", "4S")).await;
    let left = millis(seen(&answer, "towpath-deadline"));
    assert!((2000..4000).contains(&left), "{left}");
    assert!(seen(&answer, "grpc-timeout").is_some());
}

over_both_protocols! {
    /// The next hop is told whole milliseconds, so its deadline passes first as often as not.
    async fn a_caller_that_does_not_wait_is_held_against_no_hop(speaks: Speaks) {
        for protocol in ["http1", "http2"] {
            let backend = Backend::start("one").await;
            let (first, second) = hops(protocol, backend.address, "");
            let mut client = Client::connect(first.address(), speaks).await;
            for _ in 0..20 {
                let answer = client.ask(get("svc", "/hang").header("towpath-deadline", "20")).await;
                assert_eq!((answer.status, answer.reason()), (504, "timeout"), "{answer:?}");
            }
            for hop in [first, second] {
                hop.metric_becomes("requests_total", &[], 20.0).await;
                assert!(hop.metric("attempts_total", &[("outcome", "cancelled")]).await >= 1.0);
                hop.metric_becomes("attempts_total", &[("outcome", "server_error")], 0.0).await;
            }
        }
    }
}
