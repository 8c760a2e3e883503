//! HTTP/1.1 towards servers, byte by byte: what is sent to them, and what odd answers of theirs do to the connection.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::task::JoinHandle;

use crate::support::{
    Answer, Call, Client, Daemon, Raw, RawServer, Speaks, body, call, daemon::one_service, eventually, get,
    within,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// One worker, whose pool has one place.
const NODE: &str = "[node]\nname = \"test\"\nworkers = 1\n";
const POOL: &str = "pool = { max_connections = 1 }\nbreaker = { pending_timeout = \"9s\" }\n";

async fn started() -> (RawServer, Daemon) {
    let server = RawServer::start().await;
    let daemon = Daemon::start(&format!("{NODE}{}{POOL}", one_service("http1", &[server.address])));
    (server, daemon)
}

/// One request on a connection of its own.
fn asking(daemon: &Daemon, speaks: Speaks, call: Call) -> JoinHandle<Answer> {
    let address = daemon.address();
    tokio::spawn(async move { Client::connect(address, speaks).await.ask(call).await })
}

/// A request that is answered well over the next connection, or over `upstream`.
async fn answered(daemon: &Daemon, upstream: &mut Raw) {
    let next = asking(daemon, Speaks::Http1, get("svc", "/next"));
    assert!(upstream.read_head().await.first.starts_with("GET /next "));
    upstream.send(OK).await;
    assert_eq!(within("the next answer", next).await.unwrap().text(), "ok");
}

/// One GET that is answered with these bytes, and the server's end of the connection.
async fn see(speaks: Speaks, answer: &str) -> (Answer, RawServer, Daemon, Raw) {
    let (server, daemon) = started().await;
    let first = asking(&daemon, speaks, get("svc", "/first"));
    let mut upstream = server.accept().await;
    upstream.read_head().await;
    upstream.send(answer).await;
    (within("the answer", first).await.unwrap(), server, daemon, upstream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn trailers_that_nobody_declared_are_sent_and_those_that_frame_are_not() {
    let (server, daemon) = started().await;
    let trailers = [("x-checksum", "42"), ("authorization", "me")];
    let call = call("POST", "svc", "/").body(body::with_trailers(&["one", "two"], &trailers));
    let asking = asking(&daemon, Speaks::Http2, call);
    let mut upstream = server.accept().await;
    assert_eq!(upstream.read_head().await.field("transfer-encoding"), "chunked");
    let (content, trailers) = upstream.read_chunked().await;
    assert_eq!(content, b"onetwo");
    assert_eq!(trailers, [("x-checksum".to_owned(), "42".to_owned())]);
    upstream.send(OK).await;
    assert_eq!(within("the answer", asking).await.unwrap().status, 200);
}

over_both_protocols! {
    async fn a_post_without_content_says_so_and_a_get_does_not(speaks: Speaks) {
        for (method, length) in [("POST", "0"), ("PUT", "0"), ("PATCH", "0"), ("GET", ""), ("DELETE", "")] {
            let (server, daemon) = started().await;
            let asking = asking(&daemon, speaks, call(method, "svc", "/"));
            let mut upstream = server.accept().await;
            let head = upstream.read_head().await;
            assert_eq!(head.field("content-length"), length, "{method}");
            assert!(!head.has("transfer-encoding"), "{method}");
            upstream.send(OK).await;
            assert_eq!(within("the answer", asking).await.unwrap().status, 200);
        }
    }
}

over_both_protocols! {
    async fn a_server_that_answers_early_gets_the_whole_upload_and_keeps_its_connection(speaks: Speaks) {
        let (server, daemon) = started().await;
        let content = "x".repeat(3_000_000);
        let asking = asking(&daemon, speaks, call("POST", "svc", "/").body(body::full(content)));
        let mut upstream = server.accept().await;
        let head = upstream.read_head().await;
        upstream.send(OK).await;
        let uploaded = match head.field("content-length").parse() {
            Ok(length) => upstream.read_exact(length).await,
            Err(_) => upstream.read_chunked().await.0,
        };
        assert_eq!(uploaded.len(), 3_000_000);
        assert_eq!(within("the answer", asking).await.unwrap().text(), "ok");
        answered(&daemon, &mut upstream).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_early_answer_of_a_server_that_closes_reaches_the_caller() {
    let (server, daemon) = started().await;
    let mut client = Raw::connect(daemon.address()).await;
    client.send("POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: 100000\r\n\r\nab").await;
    let mut upstream = server.accept().await;
    upstream.read_until("\r\n\r\nab").await;
    upstream.send("HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno").await;
    drop(upstream);
    let response = client.read_response().await;
    assert_eq!((response.status, response.text().as_str()), (413, "no"));
    answered(&daemon, &mut after_close(&server, &daemon).await).await;
}

/// The connection of a further request, which is answered.
async fn after_close(server: &RawServer, daemon: &Daemon) -> Raw {
    let next = asking(daemon, Speaks::Http1, get("svc", "/again"));
    let mut upstream = server.accept().await;
    assert!(upstream.read_head().await.first.starts_with("GET /again "));
    upstream.send(OK).await;
    assert_eq!(within("the answer on a new connection", next).await.unwrap().text(), "ok");
    upstream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_answers_early_and_never_reads_the_rest_loses_its_connection() {
    let (server, daemon) = started().await;
    let (taken, endless) = body::endless(1 << 40);
    let asking = asking(&daemon, Speaks::Http2, call("POST", "svc", "/").body(endless));
    let mut stuck = server.accept().await;
    stuck.read_head().await;
    // The kernel's buffers are full then, and the daemon's.
    let mut before = 0;
    eventually("the upload stands still", async || {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = taken.load(Ordering::SeqCst);
        std::mem::replace(&mut before, now) == now && now > 0
    })
    .await;
    stuck.send(OK).await;
    assert_eq!(within("the answer", asking).await.unwrap().text(), "ok");
    after_close(&server, &daemon).await;
    drop(stuck);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_on_which_something_comes_unasked_is_not_used_again() {
    for unasked in ["HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n", "x"] {
        let (_, server, daemon, mut upstream) = see(Speaks::Http1, OK).await;
        upstream.send(unasked).await;
        daemon.metric_becomes("upstream_connections", &[], 0.0).await;
        after_close(&server, &daemon).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_order_does_not_meet_what_came_unasked_just_before_it() {
    for _ in 0..20 {
        let (_, server, daemon, mut upstream) = see(Speaks::Http1, OK).await;
        upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison").await;
        let order = asking(&daemon, Speaks::Http1, call("POST", "svc", "/order").body(body::full("one")));
        let mut fresh = server.accept().await;
        assert_eq!(fresh.read_request().await.1, b"one");
        fresh.send(OK).await;
        assert_eq!(within("the answer", order).await.unwrap().text(), "ok");
    }
}

over_both_protocols! {
    async fn a_head_that_breaks_off_is_upstream_reset_and_not_asked_for_again(speaks: Speaks) {
        for part in ["H", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-le", "HTTP/1.1 103 Early Hints\r\n\r\n"] {
            let (_, server, daemon, mut upstream) = see(speaks, OK).await;
            let second = asking(&daemon, speaks, get("svc", "/second"));
            upstream.read_head().await;
            upstream.send(part).await;
            // So that what was sent and the end do not come as one.
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(upstream);
            let answer = within("the answer", second).await.unwrap();
            assert_eq!((answer.status, answer.reason()), (502, "upstream_reset"), "{part:?}");
            daemon.metric_becomes("retries_total", &[], 0.0).await;
            after_close(&server, &daemon).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_flood_of_interim_answers_is_cut_short_and_the_final_one_comes() {
    let (server, daemon) = started().await;
    let mut client = Raw::connect(daemon.address()).await;
    client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
    let mut upstream = server.accept().await;
    upstream.read_head().await;
    for _ in 0..100 {
        upstream.send("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(100)).await;
    }
    upstream.send(OK).await;
    let response = client.read_response().await;
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    let interim = response.interim.len();
    assert!((1..=256).contains(&interim), "{interim} interim answers");
    answered(&daemon, &mut upstream).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_of_version_1_0_keeps_its_connection_when_it_says_so() {
    let kept = "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok";
    let (answer, _server, daemon, mut upstream) = see(Speaks::Http1, kept).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    answered(&daemon, &mut upstream).await;

    let silent = "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let (_, server, daemon, mut upstream) = see(Speaks::Http1, silent).await;
    upstream.closes().await;
    after_close(&server, &daemon).await;
}

over_both_protocols! {
    async fn content_that_ends_with_the_connection_is_whole(speaks: Speaks) {
        let (server, daemon) = started().await;
        let asking = asking(&daemon, speaks, get("svc", "/"));
        let mut upstream = server.accept().await;
        upstream.read_head().await;
        upstream.send("HTTP/1.1 200 OK\r\n\r\n").await;
        upstream.send("y".repeat(200_000)).await;
        drop(upstream);
        let answer = within("the answer", asking).await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, 200_000));
        after_close(&server, &daemon).await;
    }
}

over_both_protocols! {
    async fn content_that_is_shorter_than_its_length_does_not_look_whole(speaks: Speaks) {
        let (server, daemon) = started().await;
        let mut client = Client::connect(daemon.address(), speaks).await;
        let asking = tokio::spawn(async move { client.try_ask(get("svc", "/")).await });
        let mut upstream = server.accept().await;
        upstream.read_head().await;
        upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort").await;
        drop(upstream);
        let outcome = within("the answer", asking).await.unwrap();
        assert!(outcome.is_err(), "{outcome:?}");
        after_close(&server, &daemon).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_that_has_no_content_but_declares_some_costs_the_connection() {
    for field in ["content-length: 5", "transfer-encoding: chunked"] {
        let answer = format!("HTTP/1.1 204 No Content\r\n{field}\r\n\r\n");
        let (answer, server, daemon, mut upstream) = see(Speaks::Http1, &answer).await;
        assert_eq!(answer.status, 204);
        upstream.closes().await;
        after_close(&server, &daemon).await;
    }
}
