//! HTTP/1.x callers and servers, byte by byte.

use std::time::Duration;

use crate::support::{
    Backend, Daemon, Raw, RawServer,
    daemon::{one_service, service},
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A daemon in front of one server whose bytes the test writes.
async fn scripted() -> (Daemon, RawServer, Raw) {
    let server = RawServer::start().await;
    let daemon = Daemon::start(&one_service("http1", &[server.address]));
    let client = Raw::connect(daemon.address()).await;
    (daemon, server, client)
}

async fn echoing() -> (Daemon, Backend, Raw) {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http1", &[backend.address]));
    let client = Raw::connect(daemon.address()).await;
    (daemon, backend, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_carries_request_after_request() {
    let (daemon, _backend, mut client) = echoing().await;
    for number in 0..5 {
        client.send(format!("GET /{number} HTTP/1.1\r\nhost: svc\r\n\r\n")).await;
        let response = client.read_response().await;
        assert_eq!(response.status, 200);
        assert_eq!(response.json()["uri"], format!("/{number}"));
        assert!(!response.head.field("connection").contains("close"));
    }
    daemon.metric_becomes("requests_total", &[("route", "all"), ("code", "200")], 5.0).await;
    daemon.metric_becomes("connections", &[("listener", "outgoing")], 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connection_close_is_obeyed() {
    let (_daemon, _backend, mut client) = echoing().await;
    client.send("GET / HTTP/1.1\r\nhost: svc\r\nconnection: close\r\n\r\n").await;
    let response = client.read_response().await;
    assert_eq!(response.status, 200);
    assert_eq!(response.head.field("connection"), "close");
    client.closes().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn pipelined_requests_are_answered_in_their_order() {
    let (_daemon, _backend, mut client) = echoing().await;
    let slow = "GET /slow?ms=50 HTTP/1.1\r\nhost: svc\r\n\r\n";
    let post = "POST /two HTTP/1.1\r\nhost: svc\r\ncontent-length: 3\r\n\r\nabc";
    let chunked =
        "POST /three HTTP/1.1\r\nhost: svc\r\ntransfer-encoding: chunked\r\n\r\n3\r\ndef\r\n0\r\n\r\n";
    client.send([slow, post, chunked, "GET /four HTTP/1.1\r\nhost: svc\r\n\r\n"].concat()).await;
    let expected = [("/slow?ms=50", ""), ("/two", "abc"), ("/three", "def"), ("/four", "")];
    for (uri, body) in expected {
        let seen = client.read_response().await.json();
        assert_eq!((seen["uri"].as_str(), seen["body"].as_str()), (Some(uri), Some(body)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn chunks_and_trailers_pass_in_both_directions() {
    let (_daemon, server, mut client) = scripted().await;
    client
        .send(concat!(
            "POST / HTTP/1.1\r\nhost: svc\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\nte: trailers\r\n\r\n",
            "3;ext=1\r\nabc\r\nA\r\n0123456789\r\n0\r\nx-sum: 13\r\n\r\n"
        ))
        .await;
    let mut upstream = server.accept().await;
    let head = upstream.read_head().await;
    assert_eq!(head.field("transfer-encoding"), "chunked");
    let (body, trailers) = upstream.read_chunked().await;
    assert_eq!(body, b"abc0123456789");
    assert_eq!(trailers, [("x-sum".to_owned(), "13".to_owned())]);

    upstream
        .send(concat!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-back\r\n\r\n",
            "4\r\nwxyz\r\n0\r\nx-back: yes\r\n\r\n"
        ))
        .await;
    let response = client.read_response().await;
    assert_eq!(response.text(), "wxyz");
    assert_eq!(response.trailers, [("x-back".to_owned(), "yes".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn each_chunk_arrives_before_the_next_is_sent() {
    let (_daemon, server, mut client) = scripted().await;
    client.send("POST / HTTP/1.1\r\nhost: svc\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    let mut upstream = server.accept().await;
    upstream.read_head().await;
    upstream.read_until("abc").await;
    client.send("3\r\ndef\r\n").await;
    upstream.read_until("def").await;
    upstream.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n").await;
    client.read_until("ok").await;
    upstream.send("4\r\nmore\r\n0\r\n\r\n").await;
    client.read_until("more").await;
    client.send("0\r\n\r\n").await;
    upstream.read_until("0\r\n\r\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_says_100_gets_the_body() {
    let (_daemon, server, mut client) = scripted().await;
    client.send("PUT / HTTP/1.1\r\nhost: svc\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n").await;
    let mut upstream = server.accept().await;
    let head = upstream.read_head().await;
    assert_eq!(head.field("expect"), "100-continue");
    upstream.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    let interim = client.read_head().await;
    assert!(interim.first.starts_with("HTTP/1.1 100"), "{interim:?}");
    client.send("body").await;
    assert_eq!(upstream.read_exact(4).await, b"body");
    upstream.send(OK).await;
    let response = client.read_response().await;
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_refuses_the_expectation_answers_without_the_body() {
    let (_daemon, server, mut client) = scripted().await;
    client.send("PUT / HTTP/1.1\r\nhost: svc\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n").await;
    let mut upstream = server.accept().await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 2\r\n\r\nno").await;
    let response = client.read_response().await;
    assert_eq!((response.status, response.text().as_str()), (417, "no"));
    assert!(response.interim.is_empty(), "{:?}", response.interim);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn early_hints_and_other_1xx_are_forwarded() {
    let (_daemon, server, mut client) = scripted().await;
    client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
    let mut upstream = server.accept().await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n").await;
    upstream.send("HTTP/1.1 102 Processing\r\n\r\n").await;
    upstream.send(OK).await;
    let response = client.read_response().await;
    let codes: Vec<u16> = response.interim.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [103, 102]);
    assert_eq!(response.interim[0].1.field("link"), "</a.css>; rel=preload");
    assert_eq!(response.text(), "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_http_1_0_client_gets_no_1xx() {
    let (_daemon, server, mut client) = scripted().await;
    client.send("GET / HTTP/1.0\r\nhost: svc\r\n\r\n").await;
    let mut upstream = server.accept().await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n").await;
    upstream.send(OK).await;
    let response = client.read_response().await;
    assert_eq!((response.status, response.interim.len()), (200, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn head_has_the_length_and_no_body() {
    let (_daemon, server, mut client) = scripted().await;
    let mut upstream = None;
    for _ in 0..2 {
        client.send("HEAD /file HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        if upstream.is_none() {
            upstream = Some(server.accept().await);
        }
        let upstream = upstream.as_mut().unwrap();
        assert!(upstream.read_head().await.first.starts_with("HEAD /file "));
        upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n").await;
        let response = client.read_response_to("HEAD").await;
        assert_eq!(response.head.field("content-length"), "1234");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn answers_without_a_body_keep_the_connection() {
    let (_daemon, server, mut client) = scripted().await;
    client.send("GET /1 HTTP/1.1\r\nhost: svc\r\n\r\nGET /2 HTTP/1.1\r\nhost: svc\r\n\r\n").await;
    let mut upstream = server.accept().await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(client.read_response().await.status, 204);
    upstream.read_head().await;
    upstream.send("HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\ncontent-length: 77\r\n\r\n").await;
    assert_eq!(client.read_response().await.status, 304);
    client.send("GET /3 HTTP/1.1\r\nhost: svc\r\n\r\n").await;
    upstream.read_head().await;
    upstream.send(OK).await;
    assert_eq!(client.read_response().await.text(), "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_that_ends_with_the_connection_is_passed_whole() {
    let (_daemon, server, mut client) = scripted().await;
    client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
    let mut upstream = server.accept().await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 200 OK\r\n\r\nuntil the end").await;
    drop(upstream);
    let response = client.read_response().await;
    assert_eq!((response.status, response.text().as_str()), (200, "until the end"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn options_asterisk_is_forwarded_as_it_is() {
    let (_daemon, server, mut client) = scripted().await;
    client.send("OPTIONS * HTTP/1.1\r\nhost: svc\r\n\r\n").await;
    let mut upstream = server.accept().await;
    let head = upstream.read_head().await;
    assert_eq!(head.first, "OPTIONS * HTTP/1.1");
    assert_eq!(head.field("host"), "svc");
    upstream.send(OK).await;
    assert_eq!(client.read_response().await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_absolute_target_routes_by_its_authority_and_is_sent_on_in_origin_form() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let daemon = Daemon::start(&format!(
        "[[routes]]\nname = \"a\"\nhosts = [\"a.test\"]\nbackends = [{{ service = \"a\" }}]\n\
         [[routes]]\nname = \"b\"\nhosts = [\"b.test\"]\nbackends = [{{ service = \"b\" }}]\n{}{}",
        service("a", "http1", &[a.address]),
        service("b", "http1", &[b.address])
    ));
    let mut client = Raw::connect(daemon.address()).await;
    client.send("GET http://b.test:8080/x?y=1 HTTP/1.1\r\nhost: b.test:8080\r\n\r\n").await;
    let seen = client.read_response().await.json();
    assert_eq!((&seen["backend"], &seen["uri"]), (&"b".into(), &"/x?y=1".into()));
    assert_eq!(seen["host"], "b.test:8080");
    client.send("GET http://A.TEST HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
    let seen = client.read_response().await.json();
    assert_eq!((&seen["backend"], &seen["uri"]), (&"a".into(), &"/".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn http_1_0_closes_after_the_answer() {
    let (_daemon, _backend, mut client) = echoing().await;
    client.send("GET / HTTP/1.0\r\nhost: svc\r\n\r\n").await;
    let response = client.read_response().await;
    assert_eq!(response.status, 200);
    assert!(!response.head.has("transfer-encoding"));
    client.closes().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn http_1_0_with_keep_alive_goes_on() {
    let (_daemon, _backend, mut client) = echoing().await;
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nhost: svc\r\nconnection: keep-alive\r\n\r\n").await;
        let response = client.read_response().await;
        assert_eq!(response.status, 200);
        assert_eq!(response.head.field("connection").to_ascii_lowercase(), "keep-alive");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn http_1_0_never_gets_chunks() {
    let (_daemon, _backend, mut client) = echoing().await;
    client.send("GET /trailers HTTP/1.0\r\nhost: svc\r\nconnection: keep-alive\r\n\r\n").await;
    let response = client.read_response().await;
    assert!(!response.head.has("transfer-encoding"), "{:?}", response.head);
    assert_eq!(response.text(), "onetwo");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_that_comes_before_the_upload_ends_is_passed_on_at_once() {
    let (_daemon, server, mut client) = scripted().await;
    client.send("POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: 1000000\r\n\r\nsome").await;
    let mut upstream = server.accept().await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nearly").await;
    let response = client.read_response().await;
    assert_eq!((response.status, response.text().as_str()), (200, "early"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_upload_goes_on_after_an_early_answers_head() {
    let (_daemon, server, mut client) = scripted().await;
    client.send("POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: 8\r\n\r\nhalf").await;
    let mut upstream = server.accept().await;
    upstream.read_until("half").await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhead").await;
    client.read_until("head").await;
    client.send("rest").await;
    assert_eq!(upstream.read_exact(4).await, b"rest");
    upstream.send("tail").await;
    assert_eq!(client.read_exact(4).await, b"tail");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_that_has_ended_its_half_gets_its_answer() {
    let (_daemon, _backend, mut client) = echoing().await;
    client.send("POST /slow?ms=50 HTTP/1.1\r\nhost: svc\r\ncontent-length: 3\r\n\r\nabc").await;
    client.finish().await;
    let response = client.read_response().await;
    assert_eq!((response.status, response.json()["body"].as_str()), (200, Some("abc")));
    client.closes().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn hop_by_hop_fields_of_a_request_are_removed() {
    let (_daemon, server, mut client) = scripted().await;
    client
        .send(concat!(
            "GET / HTTP/1.1\r\nhost: svc\r\nconnection: keep-alive, X-Private\r\nx-private: 1\r\n",
            "keep-alive: timeout=5\r\nproxy-connection: keep-alive\r\nte: trailers, deflate\r\n",
            "upgrade: other\r\nx-kept: yes\r\n\r\n"
        ))
        .await;
    let head = server.accept().await.read_head().await;
    for name in ["x-private", "keep-alive", "proxy-connection", "upgrade"] {
        assert!(!head.has(name), "{name} in {head:?}");
    }
    assert!(!head.field("connection").to_ascii_lowercase().contains("x-private"), "{head:?}");
    assert!(!head.field("te").contains("deflate"), "{head:?}");
    assert_eq!(head.field("x-kept"), "yes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn hop_by_hop_fields_of_an_answer_are_removed() {
    let (_daemon, server, mut client) = scripted().await;
    client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
    let mut upstream = server.accept().await;
    upstream.read_head().await;
    upstream
        .send(concat!(
            "HTTP/1.1 200 OK\r\nconnection: close, x-secret\r\nx-secret: 1\r\nkeep-alive: timeout=5\r\n",
            "proxy-connection: close\r\nx-kept: yes\r\nset-cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: 2\r\n\r\nok"
        ))
        .await;
    let head = client.read_response().await.head;
    for name in ["x-secret", "keep-alive", "proxy-connection"] {
        assert!(!head.has(name), "{name} in {head:?}");
    }
    assert!(
        !head.field("connection").contains("close"),
        "the caller's connection is not the server's: {head:?}"
    );
    assert_eq!(head.field("x-kept"), "yes");
    assert_eq!(head.field("set-cookie"), "a=1, b=2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_id_and_a_trace_are_kept_or_made() {
    let (_daemon, _backend, mut client) = echoing().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    client
        .send(format!("GET / HTTP/1.1\r\nhost: svc\r\nx-request-id: mine\r\ntraceparent: {trace}\r\n\r\n"))
        .await;
    let seen = client.read_response().await.json();
    assert_eq!(seen["headers"]["x-request-id"], "mine");
    let passed = seen["headers"]["traceparent"].as_str().unwrap();
    assert_eq!(&passed[..35], &trace[..35], "the trace stays the same");
    client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
    let seen = client.read_response().await.json();
    assert!(!seen["headers"]["x-request-id"].as_str().unwrap().is_empty());
    assert_eq!(seen["headers"]["traceparent"].as_str().unwrap().len(), trace.len());
    assert!(seen["headers"]["via"].as_str().unwrap().contains("1.1 "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_that_trickles_its_head_is_served() {
    let (_daemon, _backend, mut client) = echoing().await;
    for byte in b"GET /x HTTP/1.1\r\nhost: svc\r\n\r\n" {
        client.send([*byte]).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(client.read_response().await.json()["uri"], "/x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_bare_line_end_before_a_request_is_ignored() {
    let (_daemon, _backend, mut client) = echoing().await;
    client.send("\r\nGET /x HTTP/1.1\r\nhost: svc\r\n\r\n").await;
    assert_eq!(client.read_response().await.json()["uri"], "/x");
}
