//! What must be refused and never forwarded: a table of raw requests, each with its verdict.

use std::time::Duration;

use crate::support::{
    Backend, Client, Daemon, Raw, RawServer, Speaks,
    daemon::one_service,
    eventually,
    frames::{END_HEADERS, END_STREAM, Frames, HEADERS, request},
    get, within,
};

/// Heads that are the caller's fault: 400, the connection closes, no server hears of them.
const BAD_HEADS: &[(&str, &str)] = &[
    ("no target", "GET HTTP/1.1\r\nhost: svc\r\n\r\n"),
    ("garbage", "\x16\x03\x01\x02\r\n\r\n"),
    ("a method that is no token", "G@T / HTTP/1.1\r\nhost: svc\r\n\r\n"),
    ("a space in the target", "GET /a b HTTP/1.1\r\nhost: svc\r\n\r\n"),
    ("a control character in the target", "GET /a\x01b HTTP/1.1\r\nhost: svc\r\n\r\n"),
    ("a target that is neither a path nor absolute", "GET svc/path HTTP/1.1\r\nhost: svc\r\n\r\n"),
    ("an asterisk without OPTIONS", "GET * HTTP/1.1\r\nhost: svc\r\n\r\n"),
    ("no version", "GET /\r\nhost: svc\r\n\r\n"),
    ("a version that is none", "GET / HTTP/1.x\r\nhost: svc\r\n\r\n"),
    ("a lower case version", "GET / http/1.1\r\nhost: svc\r\n\r\n"),
    ("no Host", "GET / HTTP/1.1\r\nx: y\r\n\r\n"),
    ("two Hosts", "GET / HTTP/1.1\r\nhost: svc\r\nhost: svc\r\n\r\n"),
    ("two different Hosts", "GET / HTTP/1.1\r\nhost: svc\r\nhost: other\r\n\r\n"),
    ("a Host that is none", "GET / HTTP/1.1\r\nhost: a b\r\n\r\n"),
    ("a Host with a path", "GET / HTTP/1.1\r\nhost: svc/path\r\n\r\n"),
    ("a Host with user information", "GET / HTTP/1.1\r\nhost: user@svc\r\n\r\n"),
    ("a Host with a bad port", "GET / HTTP/1.1\r\nhost: svc:99999\r\n\r\n"),
    ("a Host that contradicts the target", "GET http://svc/ HTTP/1.1\r\nhost: other\r\n\r\n"),
    ("a Host whose port contradicts the target", "GET http://svc:81/ HTTP/1.1\r\nhost: svc:82\r\n\r\n"),
    (
        "two lengths that differ",
        "POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    ),
    (
        "a length said twice",
        "POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\na",
    ),
    ("a list of lengths", "POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: 1, 1\r\n\r\na"),
    ("a signed length", "POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: +1\r\n\r\na"),
    ("a negative length", "POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: -1\r\n\r\na"),
    ("a hexadecimal length", "POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: 0x1\r\n\r\na"),
    ("a length with a tail", "POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: 1a\r\n\r\na"),
    ("an empty length", "POST / HTTP/1.1\r\nhost: svc\r\ncontent-length:\r\n\r\na"),
    (
        "a length beyond 64 bits",
        "POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: 18446744073709551617\r\n\r\na",
    ),
    ("chunked twice", "POST / HTTP/1.1\r\nhost: svc\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    (
        "two fields of chunked",
        "POST / HTTP/1.1\r\nhost: svc\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked before another coding",
        "POST / HTTP/1.1\r\nhost: svc\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    ),
    (
        "identity after chunked",
        "POST / HTTP/1.1\r\nhost: svc\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
    ),
    ("chunked in HTTP/1.0", "POST / HTTP/1.0\r\nhost: svc\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("a bare LF after the request line", "GET / HTTP/1.1\nhost: svc\r\n\r\n"),
    ("a bare LF after a field", "GET / HTTP/1.1\r\nhost: svc\nx: y\r\n\r\n"),
    ("bare LFs only", "GET / HTTP/1.1\nhost: svc\n\n"),
    ("a bare LF before the end", "GET / HTTP/1.1\r\nhost: svc\r\n\n"),
    ("a bare CR in a value", "GET / HTTP/1.1\r\nhost: svc\r\nx: a\rb\r\n\r\n"),
    ("a bare CR that hides a field", "GET / HTTP/1.1\r\nhost: svc\r\nx: a\rcontent-length: 5\r\n\r\n"),
    ("a space before the colon", "POST / HTTP/1.1\r\nhost: svc\r\ncontent-length : 1\r\n\r\na"),
    ("a tab before the colon", "GET / HTTP/1.1\r\nhost: svc\r\nx\t: y\r\n\r\n"),
    ("a space inside a name", "GET / HTTP/1.1\r\nhost: svc\r\nx y: z\r\n\r\n"),
    ("a space before the first field", "GET / HTTP/1.1\r\n host: svc\r\n\r\n"),
    ("a folded field", "GET / HTTP/1.1\r\nhost: svc\r\nx: a\r\n b\r\n\r\n"),
    ("a field without a colon", "GET / HTTP/1.1\r\nhost: svc\r\nnonsense\r\n\r\n"),
    ("a field without a name", "GET / HTTP/1.1\r\nhost: svc\r\n: x\r\n\r\n"),
    ("a NUL in a value", "GET / HTTP/1.1\r\nhost: svc\r\nx: a\0b\r\n\r\n"),
    ("a control character in a value", "GET / HTTP/1.1\r\nhost: svc\r\nx: a\x01b\r\n\r\n"),
    ("DEL in a value", "GET / HTTP/1.1\r\nhost: svc\r\nx: a\x7fb\r\n\r\n"),
    ("a NUL in a name", "GET / HTTP/1.1\r\nhost: svc\r\nx\0: a\r\n\r\n"),
];

/// Bodies that turn out malformed after a good head.
const BAD_BODIES: &[(&str, &str)] = &[
    ("a chunk size that is none", "zz\r\nabc\r\n0\r\n\r\n"),
    ("an empty chunk size", "\r\nabc\r\n0\r\n\r\n"),
    ("a negative chunk size", "-3\r\nabc\r\n0\r\n\r\n"),
    ("a chunk size with 0x", "0x3\r\nabc\r\n0\r\n\r\n"),
    ("a signed chunk size", "+3\r\nabc\r\n0\r\n\r\n"),
    ("a chunk size beyond 64 bits", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
    ("a space before the chunk size", " 3\r\nabc\r\n0\r\n\r\n"),
    ("a chunk that is longer than it says", "3\r\nabcd\r\n0\r\n\r\n"),
    ("a chunk without its line end", "3\r\nabc0\r\n\r\n"),
    ("a bare LF after the chunk size", "3\nabc\r\n0\r\n\r\n"),
    ("a bare LF after the chunk", "3\r\nabc\n0\r\n\r\n"),
    ("a bare CR after the chunk size", "3\rabc\r\n0\r\n\r\n"),
    ("a bare LF in a chunk extension", "3;a\nb\r\nabc\r\n0\r\n\r\n"),
    ("a trailer without a colon", "3\r\nabc\r\n0\r\nnonsense\r\n\r\n"),
    ("a trailer with a space before the colon", "3\r\nabc\r\n0\r\nx : y\r\n\r\n"),
    ("a trailer with a bare LF", "3\r\nabc\r\n0\r\nx: y\n\r\n"),
];

/// Sends these bytes, and gives status, reason and all that the daemon says until it closes. A connection that it
/// leaves open has the status 0, so that a table goes on to its end.
async fn verdict(daemon: &Daemon, request: &str) -> (u16, String, String) {
    let mut client = Raw::connect(daemon.address()).await;
    client.send(request).await;
    let Ok(answer) = tokio::time::timeout(Duration::from_secs(2), client.read_to_close()).await else {
        return (0, String::new(), "the connection stays open".to_owned());
    };
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let head = answer.split("\r\n\r\n").next().unwrap_or_default().to_ascii_lowercase();
    let reason = head.split("towpath-error: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    (status, reason.unwrap_or_default().to_owned(), answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn malformed_heads_get_400_and_no_server_hears_of_them() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http1", &[backend.address]));
    let mut wrong = Vec::new();
    for (name, request) in BAD_HEADS {
        let (status, reason, answer) = verdict(&daemon, request).await;
        if (status, reason.as_str()) != (400, "bad_request") || answer.matches("HTTP/1.").count() != 1 {
            wrong.push(format!("{name}: {answer:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!((backend.connections(), backend.requests()), (0, 0));
    daemon.metric_becomes("errors_total", &[("reason", "bad_request")], BAD_HEADS.len() as f64).await;
    daemon.metric_becomes("connections", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_bad_head_behind_a_good_request_ends_the_connection_after_the_good_answer() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http1", &[backend.address]));
    let mut client = Raw::connect(daemon.address()).await;
    client.send("GET /good HTTP/1.1\r\nhost: svc\r\n\r\nGET / HTTP/1.1\r\nno colon\r\n\r\n").await;
    assert_eq!(client.read_response().await.json()["uri"], "/good");
    let refused = client.read_response().await;
    assert_eq!((refused.status, refused.reason().as_str()), (400, "bad_request"));
    client.closes().await;
    assert_eq!(backend.requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn transfer_encoding_with_a_length_never_smuggles() {
    let orders = [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        "transfer-encoding: CHUNKED\r\ncontent-length: 0\r\n",
    ];
    for fields in orders {
        let backend = Backend::start("one").await;
        let daemon = Daemon::start(&one_service("http1", &[backend.address]));
        let smuggled = "GET /smuggled HTTP/1.1\r\nhost: svc\r\n\r\n";
        let request = format!("POST / HTTP/1.1\r\nhost: svc\r\n{fields}\r\n0\r\n\r\n{smuggled}");
        let (status, _, answer) = verdict(&daemon, &request).await;
        assert!(matches!(status, 200 | 400), "{fields:?}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "one answer, then the close: {answer:?}");
        assert!(!answer.contains("\"content-length\""), "the length was forwarded: {answer:?}");
        assert_eq!(backend.requests(), u64::from(status == 200), "{fields:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn codings_that_towpath_does_not_know_are_refused() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http1", &[backend.address]));
    for coding in ["xchunked", "gzip", "chunked\x0b", "\"chunked\"", "chunked;q=1", "identity"] {
        let request = format!("POST / HTTP/1.1\r\nhost: svc\r\ntransfer-encoding: {coding}\r\n\r\n0\r\n\r\n");
        let (status, _, answer) = verdict(&daemon, &request).await;
        assert!(matches!(status, 400 | 501), "{coding:?}: {answer:?}");
    }
    assert_eq!(backend.requests(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn oversize_heads_get_431() {
    let backend = Backend::start("one").await;
    let toml = format!(
        "[limits]\nheader_bytes = \"8KiB\"\nheader_count = 50\n{}",
        one_service("http1", &[backend.address])
    );
    let daemon = Daemon::start(&toml);
    let large = "x".repeat(9000);
    let many = (0..60).map(|number| format!("x-{number}: 1\r\n")).collect::<String>();
    let requests = [
        format!("GET / HTTP/1.1\r\nhost: svc\r\nx: {large}\r\n\r\n"),
        format!("GET /{large} HTTP/1.1\r\nhost: svc\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nhost: svc\r\n{many}\r\n"),
        format!("GET / HTTP/1.1\r\nhost: svc\r\nx: {large}"), // not even finished
    ];
    for (number, request) in requests.iter().enumerate() {
        let (status, reason, answer) = verdict(&daemon, request).await;
        assert_eq!((status, reason.as_str()), (431, "headers_too_large"), "request {number}: {answer:?}");
    }
    assert_eq!(backend.connections(), 0);
    let (status, _, _) = verdict(
        &daemon,
        &format!("GET / HTTP/1.1\r\nhost: svc\r\nconnection: close\r\nx: {}\r\n\r\n", "x".repeat(7000)),
    )
    .await;
    assert_eq!(status, 200, "what fits is served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn malformed_bodies_are_the_callers_fault_and_never_look_whole_to_a_server() {
    let mut wrong = Vec::new();
    for (name, body) in BAD_BODIES {
        let backend = Backend::start("one").await;
        let daemon = Daemon::start(&one_service("http1", &[backend.address]));
        let head = "POST /count HTTP/1.1\r\nhost: svc\r\ntransfer-encoding: chunked\r\n\r\n";
        let (status, reason, answer) = verdict(&daemon, &format!("{head}{body}")).await;
        if (status, reason.as_str()) != (400, "bad_request") {
            wrong.push(format!("{name}: {answer:?}"));
        }
        eventually("the server gives up", async || backend.running() == 0).await;
        eventually("the upstream connection is gone", async || backend.open_connections() == 0).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_body_that_turns_bad_in_the_middle_costs_the_upstream_connection() {
    for protocol in ["http1", "http2"] {
        let backend = Backend::start("one").await;
        let daemon = Daemon::start(&one_service(protocol, &[backend.address]));
        let mut client = Raw::connect(daemon.address()).await;
        client
            .send("POST /count HTTP/1.1\r\nhost: svc\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
            .await;
        eventually("the first chunk is at the server", async || backend.running() == 1).await;
        client.send("what?\r\n").await;
        let response = client.read_response().await;
        assert_eq!((response.status, response.reason().as_str()), (400, "bad_request"), "{protocol}");
        client.closes().await;
        eventually("the server gives up", async || backend.running() == 0).await;
        daemon.metric_becomes("errors_total", &[("reason", "bad_request")], 1.0).await;
        assert_eq!(daemon.metric("errors_total", &[("reason", "upstream_reset")]).await, 0.0);
        if protocol == "http1" {
            eventually("its connection is closed", async || backend.open_connections() == 0).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_body_that_turns_bad_after_the_answers_head_cuts_the_answer() {
    let server = RawServer::start().await;
    let daemon = Daemon::start(&one_service("http1", &[server.address]));
    let mut client = Raw::connect(daemon.address()).await;
    client.send("POST / HTTP/1.1\r\nhost: svc\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    let mut upstream = server.accept().await;
    upstream.read_until("abc").await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    client.read_until("half").await;
    client.send("what?\r\n").await;
    client.closes().await;
    let rest = upstream.read_to_close().await;
    assert!(!String::from_utf8_lossy(&rest).contains("0\r\n\r\n"), "{rest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_upload_that_ends_early_never_looks_whole_to_a_server() {
    let heads = ["content-length: 10\r\n\r\nhalf", "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"];
    for head in heads {
        let server = RawServer::start().await;
        let daemon = Daemon::start(&one_service("http1", &[server.address]));
        let mut client = Raw::connect(daemon.address()).await;
        client.send(format!("POST / HTTP/1.1\r\nhost: svc\r\n{head}")).await;
        let mut upstream = server.accept().await;
        upstream.read_until("half").await;
        client.finish().await;
        let rest = upstream.read_to_close().await;
        assert!(!String::from_utf8_lossy(&rest).contains('0'), "{rest:?}");
        daemon.metric_becomes("requests_in_flight", &[], 0.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn odd_but_lawful_requests_are_served() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http1", &[backend.address]));
    let requests = [
        "GET / HTTP/1.1\r\nhost:svc\r\nconnection:close\r\n\r\n",
        "GET / HTTP/1.1\r\nHOST: \t svc \t \r\nCONNECTION: Close\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: svc:80\r\nx-empty:\r\nconnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: [::1]:80\r\nconnection: close\r\n\r\n",
        "GET /%7e/../a;b=c?d=e&f[]=g|h HTTP/1.1\r\nhost: svc\r\nconnection: close\r\n\r\n",
        "M-SEARCH / HTTP/1.1\r\nhost: svc\r\nconnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: svc\r\nx-text: caf\u{e9}\r\nconnection: close\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: svc\r\ntransfer-encoding: Chunked\r\nconnection: close\r\n\r\n003;a=\"b\"\r\nabc\r\n000\r\n\r\n",
    ];
    for request in requests {
        let (status, _, answer) = verdict(&daemon, request).await;
        assert_eq!(status, 200, "{request:?}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_authority_that_contradicts_host_is_refused_over_http2() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http2", &[backend.address]));
    let fields =
        [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "svc"), ("host", "other")];
    assert!(refuses(&daemon, &fields).await);
    assert_eq!(backend.requests(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn malformed_http2_requests_are_refused_and_no_server_hears_of_them() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http2", &[backend.address]));
    let (method, scheme, path, host) =
        ((":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "svc"));
    let bad: &[(&str, &[(&str, &str)])] = &[
        ("no method", &[scheme, path, host]),
        ("no path", &[method, scheme, host]),
        ("an empty path", &[method, scheme, (":path", ""), host]),
        ("no scheme", &[method, path, host]),
        ("no authority and no Host", &[method, scheme, path]),
        ("two paths", &[method, scheme, path, path, host]),
        ("a pseudo field behind a field", &[method, scheme, ("x", "y"), path, host]),
        ("an unknown pseudo field", &[method, scheme, path, host, (":x", "y")]),
        ("a pseudo field of answers", &[method, scheme, path, host, (":status", "200")]),
        ("an upper case name", &[method, scheme, path, host, ("X-Upper", "y")]),
        ("a connection field", &[method, scheme, path, host, ("connection", "close")]),
        ("transfer-encoding", &[method, scheme, path, host, ("transfer-encoding", "chunked")]),
        ("a line end in a value", &[method, scheme, path, host, ("x", "a\r\nb: c")]),
        ("a NUL in a value", &[method, scheme, path, host, ("x", "a\0b")]),
        ("a space in a name", &[method, scheme, path, host, ("x y", "z")]),
        ("a space in the path", &[method, scheme, (":path", "/a b"), host]),
        ("a length that the end contradicts", &[method, scheme, path, host, ("content-length", "5")]),
        ("two lengths", &[method, scheme, path, host, ("content-length", "0"), ("content-length", "1")]),
    ];
    let mut wrong = Vec::new();
    for (name, fields) in bad {
        if !refuses(&daemon, fields).await {
            wrong.push(*name);
        }
    }
    assert!(wrong.is_empty(), "served: {wrong:?}");
    assert_eq!(backend.requests(), 0);
    assert!(!refuses(&daemon, &[method, scheme, path, host]).await, "the same without a fault is served");
}

/// Sends one HEADERS frame with END_STREAM by hand; whether the answer is 400, a reset or a GOAWAY.
async fn refuses(daemon: &Daemon, fields: &[(&str, &str)]) -> bool {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0); // a literal without indexing and without Huffman coding
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    let mut client = Raw::connect(daemon.address()).await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    client.send([0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
    client.send([&[0, 0, u8::try_from(block.len()).unwrap(), 1, 0x5, 0, 0, 0, 1][..], &block].concat()).await;
    loop {
        let head = client.read_exact(9).await;
        let size = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = client.read_exact(size).await;
        match head[3] {
            1 => return payload.first() == Some(&0x8c), // the static table's `:status: 400`
            3 | 7 => return true,
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_refused_http2_request_leaves_the_connection_to_the_next() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http2", &[backend.address]));
    let mut client = Client::connect(daemon.address(), Speaks::Http2).await;
    let refused = client.try_ask(get("svc", "/").header("host", "other")).await;
    assert!(refused.is_err() || refused.unwrap().status == 400);
    assert_eq!(client.ask(get("svc", "/")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_caller_that_goes_on_sending_after_its_400_still_reads_it() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http1", &[backend.address]));
    let mut client = Raw::connect(daemon.address()).await;
    client.send("POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: -1\r\n\r\n").await;
    for _ in 0..20 {
        let _ = client.try_send(vec![b'x'; 10_000]).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let response = within("the 400", client.read_response()).await;
    assert_eq!(response.status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_star_is_the_target_of_options_only() {
    let backend = Backend::start("one").await;
    for protocol in ["http1", "http2"] {
        let daemon = Daemon::start(&one_service(protocol, &[backend.address]));
        let mut two = Frames::connect(daemon.address()).await;
        two.send(HEADERS, END_STREAM | END_HEADERS, 1, &request("GET", "*", &[])).await;
        assert_eq!(two.next_of(&[HEADERS]).await.payload[0], 0x8c, "400 over HTTP/2 for {protocol}");
        let mut one = Raw::connect(daemon.address()).await;
        one.send("GET * HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        assert_eq!(one.read_response().await.status, 400, "{protocol}");
    }
    assert_eq!(backend.requests(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_without_a_host_goes_nowhere_that_needs_one() {
    let backend = Backend::start("one").await;
    let per_host = "[[routes]]\nname = \"all\"\nhosts = [\"*\"]\nbackends = [{ dns = \"{host}\" }]\n";
    for toml in [one_service("http2", &[backend.address]), per_host.to_owned()] {
        let daemon = Daemon::start(&toml);
        let mut client = Raw::connect(daemon.address()).await;
        client.send("GET / HTTP/1.0\r\n\r\n").await;
        let response = client.read_response().await;
        assert_eq!((response.status, response.reason().as_str()), (400, "bad_request"), "{toml}");
        let services = daemon.admin_get("/api/services").await.text();
        assert!(!services.contains(":80\""), "a service without a name: {services}");
    }
    assert_eq!(backend.requests(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connect_is_refused_and_its_connection_closed() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http1", &[backend.address]));
    let mut client = Raw::connect(daemon.address()).await;
    client.send("CONNECT svc:443 HTTP/1.1\r\nhost: svc:443\r\n\r\n").await;
    let response = client.read_response().await;
    assert_eq!((response.status, response.reason().as_str()), (400, "bad_request"));
    assert_eq!(response.head.field("connection"), "close");
    client.closes().await;
    assert_eq!(backend.requests(), 0);
}
