//! Requests in which nothing moves end after `stream_idle_timeout`, whoever it is that stands still.

use bytes::Bytes;
use tonic::{Code, Request};

use crate::support::{
    Answer, Backend, Client, Daemon, Raw, RawServer, Speaks, body, call,
    daemon::one_service,
    eventually,
    frames::{END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, RST_STREAM, request},
    get,
    grpc::{GrpcServer, Plain, connect, messages, method},
    within,
};

fn toml(protocol: &str, address: std::net::SocketAddr) -> String {
    one_service(protocol, &[address]) + "stream_idle_timeout = \"200ms\"\n"
}

/// It is counted as what it is, and nothing of it is left.
async fn ends_as_idle(daemon: &Daemon, outcome: &str) {
    let labels = [("reason", "timeout"), ("cause", "stream_idle_timeout")];
    daemon.metric_becomes("error_causes_total", &labels, 1.0).await;
    daemon.metric_becomes("attempts_total", &[("outcome", outcome)], 1.0).await;
    daemon.metric_becomes("requests_in_flight", &[], 0.0).await;
}

over_both_protocols! {
    async fn an_endpoint_that_falls_silent_within_its_answer(speaks: Speaks) {
        for protocol in ["http1", "http2"] {
            let backend = Backend::start("one").await;
            let daemon = Daemon::start(&toml(protocol, backend.address));
            let mut client = Client::connect(daemon.address(), speaks).await;
            let response = client.send(get("svc", "/drip")).await;
            assert_eq!(response.status(), 200);
            assert!(within("the cut", Answer::read(response)).await.is_err(), "it must not look whole");
            ends_as_idle(&daemon, "timeout").await;
            if protocol == "http1" {
                eventually("the server's connection is closed", async || backend.open_connections() == 0).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_grpc_stream_gets_a_status() {
    let server = GrpcServer::start().await;
    let daemon = Daemon::start(&toml("auto", server.address));
    let mut caller = connect(daemon.address(), "echo.test").await;
    within("ready", caller.ready()).await.unwrap();
    let call = caller.server_streaming(Request::new(Bytes::from("a")), method("Forever"), Plain);
    let mut incoming = within("the call", call).await.unwrap().into_inner();
    assert_eq!(within("a message", incoming.message()).await.unwrap(), Some("a".into()));
    let status = within("the end", incoming.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(status.message().contains("stream_idle_timeout"), "{status:?}");
    eventually("the server's call is cancelled", async || server.running() == 0).await;
    ends_as_idle(&daemon, "timeout").await;
}

over_both_protocols! {
    async fn a_caller_that_does_not_go_on_with_its_request(speaks: Speaks) {
        let server = RawServer::start().await;
        let daemon = Daemon::start(&toml("http1", server.address));
        let (sender, body) = body::piecewise();
        let mut client = Client::connect(daemon.address(), speaks).await;
        let asking = tokio::spawn(async move { client.ask(call("POST", "svc", "/").body(body)).await });
        sender.send(Ok(Bytes::from_static(b"begun"))).await.unwrap();
        let mut upstream = server.accept().await;
        upstream.read_until("begun").await;
        let answer = within("the answer", asking).await.unwrap();
        assert_eq!((answer.status, answer.reason()), (504, "timeout"), "{answer:?}");
        assert_eq!(answer.json()["error"]["cause"], "stream_idle_timeout");
        upstream.read_to_close().await;
        // The endpoint waited as everybody did.
        ends_as_idle(&daemon, "cancelled").await;
        drop(sender);
    }
}

const LARGE: &str = "/bytes?n=1000000000";

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_caller_that_does_not_read() {
    for protocol in ["http1", "http2"] {
        let backend = Backend::start("one").await;
        let daemon = Daemon::start(&toml(protocol, backend.address));
        let mut caller = Raw::connect(daemon.address()).await;
        caller.send(format!("GET {LARGE} HTTP/1.1\r\nhost: svc\r\n\r\n")).await;
        assert_eq!(caller.read_head().await.field("content-length"), "1000000000");
        ends_as_idle(&daemon, "timeout").await;
        daemon.metric_becomes("connections", &[], 0.0).await;
        if protocol == "http1" {
            daemon.metric_becomes("upstream_connections", &[], 0.0).await;
        }
        let rest = caller.read_to_close().await;
        assert!(rest.len() < 500_000_000, "{protocol}: {} bytes", rest.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_caller_of_a_stream_that_does_not_open_its_window() {
    for protocol in ["http1", "http2"] {
        let backend = Backend::start("one").await;
        let daemon = Daemon::start(&toml(protocol, backend.address));
        let mut caller = Frames::connect(daemon.address()).await;
        caller.send(HEADERS, END_STREAM | END_HEADERS, 1, &request("GET", LARGE, &[])).await;
        let ended = caller.next_of(&[RST_STREAM, GOAWAY]).await;
        assert_eq!((ended.kind, ended.stream), (RST_STREAM, 1), "{protocol}: {ended:?}");
        ends_as_idle(&daemon, "timeout").await;
        let mut other = Client::connect(daemon.address(), Speaks::Http2).await;
        assert_eq!(other.ask(get("svc", "/")).await.status, 200, "{protocol}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stream_that_moves_either_way_goes_on() {
    let server = GrpcServer::start().await;
    let daemon = Daemon::start(&toml("auto", server.address));
    let mut caller = connect(daemon.address(), "echo.test").await;
    within("ready", caller.ready()).await.unwrap();
    let (sender, outgoing) = messages();
    let call = caller.streaming(Request::new(outgoing), method("Chat"), Plain);
    let mut incoming = within("the call", call).await.unwrap().into_inner();
    let start = std::time::Instant::now();
    // Longer than the worker takes to find out what stands still.
    while start.elapsed() < std::time::Duration::from_millis(3500) {
        sender.send("again".into()).await.unwrap();
        assert_eq!(within("its echo", incoming.message()).await.unwrap(), Some("again".into()));
        tokio::time::sleep(std::time::Duration::from_millis(50)).await; // the pace of the stream
    }
    drop(sender);
    assert_eq!(within("the end", incoming.message()).await.unwrap(), None);
    daemon.metric_becomes("attempts_total", &[("outcome", "success")], 1.0).await;
}
