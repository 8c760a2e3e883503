//! Where a message ends, as the other side is told: one way to read it, whatever the peer wrote.

use crate::support::{
    Client, Daemon, Raw, RawServer, Speaks,
    daemon::one_service,
    frames::{DATA, END_HEADERS, END_STREAM, Frames, HEADERS, request},
    get, within,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn started() -> (RawServer, Daemon) {
    let server = RawServer::start().await;
    let daemon = Daemon::start(&one_service("http1", &[server.address]));
    (server, daemon)
}

/// What a caller sees of an answer.
#[derive(Debug, PartialEq)]
struct Seen {
    status: u16,
    reason: String,
    lengths: Vec<String>,
    chunked: bool,
    body: String,
}

/// Has the server answer one GET with these bytes; the caller reads by hand over HTTP/1.1.
async fn see_over_http1(answer: &str) -> Seen {
    let (server, daemon) = started().await;
    let mut client = Raw::connect(daemon.address()).await;
    client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
    let mut upstream = server.accept().await;
    upstream.read_head().await;
    upstream.send(answer).await;
    let response = client.read_response().await;
    let lengths = response.head.fields.iter().filter(|(name, _)| name == "content-length");
    Seen {
        status: response.status,
        reason: response.reason(),
        lengths: lengths.map(|(_, value)| value.clone()).collect(),
        chunked: response.head.field("transfer-encoding") == "chunked",
        body: response.text(),
    }
}

async fn see_over_http2(answer: &str) -> Seen {
    let (server, daemon) = started().await;
    let mut client = Client::connect(daemon.address(), Speaks::Http2).await;
    let asking = tokio::spawn(async move { client.ask(get("svc", "/")).await });
    let mut upstream = server.accept().await;
    upstream.read_head().await;
    upstream.send(answer).await;
    let response = within("the answer", asking).await.unwrap();
    let lengths = response.headers.get_all("content-length").iter();
    Seen {
        status: response.status,
        reason: response.reason().to_owned(),
        lengths: lengths.map(|length| length.to_str().unwrap().to_owned()).collect(),
        chunked: response.headers.contains_key("transfer-encoding"),
        body: response.text(),
    }
}

async fn see(speaks: Speaks, answer: &str) -> Seen {
    match speaks {
        Speaks::Http1 => see_over_http1(answer).await,
        Speaks::Http2 => see_over_http2(answer).await,
    }
}

over_both_protocols! {
    async fn an_answer_without_one_sound_length_is_upstream_reset(speaks: Speaks) {
        for lengths in [
            "content-length: 5, 6",
            "content-length: 5, 5",
            "content-length: 5\r\ncontent-length: 6",
            "content-length: 5\r\ncontent-length: 5",
            "content-length: x",
        ] {
            let seen = see(speaks, &format!("HTTP/1.1 200 OK\r\n{lengths}\r\n\r\nhello!")).await;
            assert_eq!((seen.status, seen.reason.as_str()), (502, "upstream_reset"), "{lengths}");
        }
    }
}

over_both_protocols! {
    async fn an_answer_with_a_length_beside_chunks_is_upstream_reset(speaks: Speaks) {
        let fields = ["content-length: 3", "transfer-encoding: chunked"];
        for (first, second) in [(0, 1), (1, 0)] {
            let (first, second) = (fields[first], fields[second]);
            let seen =
                see(speaks, &format!("HTTP/1.1 200 OK\r\n{first}\r\n{second}\r\n\r\n5\r\nhello\r\n0\r\n\r\n")).await;
            assert_eq!((seen.status, seen.reason.as_str()), (502, "upstream_reset"), "{first} before {second}");
        }
    }
}

over_both_protocols! {
    async fn a_204_has_no_length(speaks: Speaks) {
        for length in ["0", "5"] {
            let seen = see(speaks, &format!("HTTP/1.1 204 No Content\r\ncontent-length: {length}\r\n\r\n")).await;
            assert_eq!((seen.status, seen.lengths), (204, Vec::new()), "{length}");
        }
    }
}

over_both_protocols! {
    async fn a_switch_of_protocols_that_nobody_asked_for_is_upstream_reset(speaks: Speaks) {
        let answer = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
        let seen = see(speaks, answer).await;
        assert_eq!((seen.status, seen.reason.as_str()), (502, "upstream_reset"));
    }
}

over_both_protocols! {
    async fn hop_by_hop_fields_of_an_interim_answer_do_not_cost_the_final_one(speaks: Speaks) {
        let hints = "HTTP/1.1 103 Early Hints\r\nconnection: keep-alive\r\nkeep-alive: timeout=5\r\nlink: </a>\r\n\r\n";
        let seen = see(speaks, &format!("{hints}{OK}")).await;
        assert_eq!((seen.status, seen.body.as_str()), (200, "ok"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn hop_by_hop_fields_of_an_interim_answer_are_not_passed_on() {
    let (server, daemon) = started().await;
    let mut client = Raw::connect(daemon.address()).await;
    client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
    let mut upstream = server.accept().await;
    upstream.read_head().await;
    upstream
        .send(format!("HTTP/1.1 103 Early Hints\r\nconnection: x-own\r\nx-own: 1\r\nlink: </a>\r\n\r\n{OK}"))
        .await;
    let response = client.read_response().await;
    let (status, hints) = &response.interim[0];
    assert_eq!((*status, hints.field("link").as_str()), (103, "</a>"), "{hints:?}");
    assert!(!hints.has("connection") && !hints.has("x-own"), "{hints:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn te_of_an_answer_is_not_passed_on() {
    let (server, daemon) = started().await;
    let mut client = Raw::connect(daemon.address()).await;
    client.send("GET / HTTP/1.1\r\nhost: svc\r\nte: trailers\r\nconnection: te\r\n\r\n").await;
    let mut upstream = server.accept().await;
    assert_eq!(upstream.read_head().await.field("te"), "trailers", "of a request it is");
    upstream.send("HTTP/1.1 200 OK\r\nte: trailers\r\ncontent-length: 2\r\n\r\nok").await;
    let response = client.read_response().await;
    assert!(!response.head.has("te"), "{response:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_get_keeps_its_chunked_body() {
    let (server, daemon) = started().await;
    let mut client = Raw::connect(daemon.address()).await;
    client.send("GET /one HTTP/1.1\r\nhost: svc\r\ntransfer-encoding: chunked\r\n\r\n").await;
    client.send("5\r\nhello\r\n0\r\n\r\n").await;
    let mut upstream = server.accept().await;
    let (head, body) = upstream.read_request().await;
    assert_eq!((body.as_slice(), head.field("content-length").as_str()), (&b"hello"[..], ""), "{head:?}");
    upstream.send(OK).await;
    assert_eq!(client.read_response().await.status, 200);
    client.send("GET /two HTTP/1.1\r\nhost: svc\r\n\r\n").await;
    let (head, body) = upstream.read_request().await;
    assert!(head.first.starts_with("GET /two ") && body.is_empty(), "{head:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_get_over_http2_keeps_its_body_without_a_length() {
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        let (server, daemon) = started().await;
        let mut client = Frames::connect(daemon.address()).await;
        client.send(HEADERS, END_HEADERS, 1, &request(method, "/", &[])).await;
        let mut upstream = server.accept().await;
        let head = upstream.read_head().await;
        assert_eq!(head.field("transfer-encoding"), "chunked", "{method}: {head:?}");
        client.send(DATA, 0, 1, b"hel").await;
        client.send(DATA, END_STREAM, 1, b"lo").await;
        assert_eq!(upstream.read_chunked().await.0, b"hello", "{method}");
        upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(client.next_of(&[HEADERS]).await.payload[0], 0x89, "204 for {method}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_chunked_answer_that_breaks_off_does_not_look_whole_to_an_http10_caller() {
    let (server, daemon) = started().await;
    let mut client = Raw::connect(daemon.address()).await;
    client.send("GET / HTTP/1.0\r\nhost: svc\r\n\r\n").await;
    let mut upstream = server.accept().await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
    assert!(!client.read_head().await.has("transfer-encoding"));
    assert_eq!(client.read_exact(5).await, b"hello");
    drop(upstream);
    let (rest, end) = client.read_to_end().await;
    assert!(rest.is_empty() && end.is_err(), "{rest:?}, {end:?}");
}
