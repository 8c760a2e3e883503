//! HTTP/2 callers with prior knowledge: streams, trailers, resets, windows, GOAWAY.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::{net::TcpStream, task::JoinSet};

use crate::support::{
    Backend, Client, Daemon, Raw, Speaks, body, call, client, daemon::one_service, eventually, get, within,
};

/// A daemon in front of an echoing server, and an HTTP/2 connection to it.
async fn echoing(protocol: &str) -> (Daemon, Backend, Client) {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service(protocol, &[backend.address]));
    let client = Client::connect(daemon.address(), Speaks::Http2).await;
    (daemon, backend, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn prior_knowledge_is_recognised_on_the_port_that_also_speaks_http1() {
    let (daemon, _backend, mut two) = echoing("http2").await;
    let seen = two.ask(get("svc:8080", "/x?y=1")).await.json();
    assert_eq!((&seen["version"], &seen["uri"]), (&"HTTP/2.0".into(), &"/x?y=1".into()));
    assert_eq!(seen["host"], "svc:8080");
    let one = client::ask(daemon.address(), Speaks::Http1, get("svc", "/")).await;
    assert_eq!(one.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_preface_in_pieces_is_recognised() {
    let (daemon, _backend, _) = echoing("http2").await;
    let mut raw = Raw::connect(daemon.address()).await;
    for piece in ["P", "RI * HT", "TP/2.0\r\n\r\nSM", "\r\n\r\n"] {
        raw.send(piece).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    raw.send([0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
    let frame = raw.read_exact(9).await;
    assert_eq!(frame[3], 4, "the daemon's SETTINGS: {frame:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn many_streams_run_side_by_side_on_one_connection() {
    let (daemon, backend, client) = echoing("http2").await;
    let mut asking = JoinSet::new();
    for number in 0..100 {
        let mut client = client.same_connection();
        asking.spawn(async move { client.ask(get("svc", &format!("/slow?ms=100&n={number}"))).await });
    }
    eventually("many at the server together", async || backend.running() > 20).await;
    while let Some(answer) = asking.join_next().await {
        assert_eq!(answer.unwrap().status, 200);
    }
    daemon.metric_becomes("requests_total", &[("code", "200")], 100.0).await;
    assert!(backend.connections() <= 4, "{} connections", backend.connections());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_slow_stream_does_not_hold_up_the_others() {
    let (_daemon, _backend, client) = echoing("http2").await;
    let mut hanging = client.same_connection();
    let hang = tokio::spawn(async move { hanging.try_ask(get("svc", "/hang")).await });
    let mut quick = client.same_connection();
    for _ in 0..10 {
        assert_eq!(quick.ask(get("svc", "/")).await.status, 200);
    }
    assert!(!hang.is_finished());
    hang.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn trailers_pass_in_both_directions() {
    let (_daemon, _backend, mut client) = echoing("http2").await;
    let request = call("POST", "svc", "/mirror").body(body::with_trailers(&["ab", "cd"], &[("x-sum", "4")]));
    let answer = client.ask(request).await;
    assert_eq!((answer.text().as_str(), answer.trailer("x-sum")), ("abcd", "4"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_callers_reset_reaches_the_server() {
    let (daemon, backend, mut client) = echoing("http2").await;
    let asking = tokio::spawn(async move { client.try_ask(get("svc", "/hang")).await });
    eventually("the request is at the server", async || backend.running() == 1).await;
    asking.abort();
    eventually("the server sees it go", async || backend.running() == 0).await;
    daemon.metric_becomes("requests_in_flight", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_servers_reset_in_the_middle_of_an_answer_reaches_the_caller() {
    let (_daemon, _backend, mut client) = echoing("http2").await;
    let response = client.send(get("svc", "/broken")).await;
    let outcome = within("the reset", response.into_body().collect()).await;
    assert!(outcome.is_err(), "half an answer must not look whole: {outcome:?}");
    assert_eq!(client.ask(get("svc", "/")).await.status, 200, "the connection lives on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_caller_that_breaks_off_its_upload_does_not_look_finished_to_the_server() {
    let (_daemon, backend, client) = echoing("http2").await;
    let (sender, upload) = body::piecewise();
    let mut uploading = client.same_connection();
    let request = call("POST", "svc", "/count").body(upload);
    let asking = tokio::spawn(async move { uploading.try_ask(request).await });
    sender.send(Ok(Bytes::from_static(b"half"))).await.unwrap();
    eventually("the upload is at the server", async || backend.running() == 1).await;
    sender.send(Err("changed my mind".into())).await.unwrap();
    eventually("the server gives up", async || backend.running() == 0).await;
    assert!(within("the outcome", asking).await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stream_that_nobody_reads_leaves_the_connection_to_the_others() {
    let (_daemon, _backend, client) = echoing("http2").await;
    let mut idle = client.same_connection();
    let unread = idle.send(get("svc", "/bytes?n=10000000")).await;
    let mut other = client.same_connection();
    let answer = other.ask(get("svc", "/bytes?n=100000")).await;
    assert_eq!(answer.body.len(), 100_000);
    drop(unread);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_upload_that_the_server_does_not_read_stops() {
    let (_daemon, _backend, client) = echoing("http2").await;
    let mut uploading = client.same_connection();
    let (taken, upload) = body::endless(1 << 30);
    let response = uploading.send(call("POST", "svc", "/unread").body(upload)).await;
    let mut last = u64::MAX;
    eventually("the upload stands still", async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = taken.load(Ordering::Relaxed);
        std::mem::replace(&mut last, now) == now
    })
    .await;
    assert!(last < 64 << 20, "{last} bytes went into a server that reads none");
    drop(response);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_draining_daemon_says_goaway_and_finishes_what_runs() {
    let (daemon, _backend, _) = echoing("http2").await;
    let stream = TcpStream::connect(daemon.address()).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get("http://svc/slow?ms=300").body(()).unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    daemon.metric_becomes("requests_in_flight", &[], 1.0).await;
    daemon.drain();
    let response = within("the running request", response).await.unwrap();
    assert_eq!(response.status(), 200);
    drop(response);
    drop(sender);
    within("the connection's end", connection).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_head_over_the_limit_is_refused_and_the_connection_lives() {
    let backend = Backend::start("one").await;
    let toml = format!("[limits]\nheader_bytes = \"16KiB\"\n{}", one_service("http2", &[backend.address]));
    let daemon = Daemon::start(&toml);
    let mut client = Client::connect(daemon.address(), Speaks::Http2).await;
    let big = "x".repeat(20_000);
    match client.try_ask(get("svc", "/").header("x-big", &big)).await {
        Ok(answer) => assert_eq!(answer.status, 431),
        Err(error) => assert!(!error.is_timeout(), "{error}"), // the caller's own check of the daemon's SETTINGS
    }
    assert_eq!(client.ask(get("svc", "/")).await.status, 200);
    assert_eq!(backend.requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connection_fields_of_http1_do_not_reach_an_http2_caller() {
    let (_daemon, _backend, mut client) = echoing("http1").await;
    let answer = client.ask(get("svc", "/trailers")).await;
    for name in ["connection", "transfer-encoding", "keep-alive"] {
        assert!(!answer.headers.contains_key(name), "{name} in {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn cookies_that_were_split_arrive_whole_at_an_http1_server() {
    let (_daemon, _backend, mut client) = echoing("http1").await;
    let seen = client.ask(get("svc", "/").header("cookie", "a=1").header("cookie", "b=2")).await.json();
    assert_eq!(seen["headers"]["cookie"], "a=1; b=2");
}
