//! HTTP/1.1 callers of HTTP/2 services and the other way round.

use crate::support::{
    Backend, Client, Daemon, Raw, Speaks, body, call,
    daemon::{one_service, service},
    get, within,
};

const BOTH: [Speaks; 2] = [Speaks::Http1, Speaks::Http2];

async fn pair(protocol: &str, speaks: Speaks) -> (Daemon, Backend, Client) {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service(protocol, &[backend.address]));
    let client = Client::connect(daemon.address(), speaks).await;
    (daemon, backend, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_services_protocol_decides_what_its_server_is_spoken_to_in() {
    for (protocol, version) in [("http1", "HTTP/1.1"), ("http2", "HTTP/2.0"), ("auto", "HTTP/1.1")] {
        for speaks in BOTH {
            let (_daemon, _backend, mut client) = pair(protocol, speaks).await;
            let seen = client.ask(get("svc.test:81", "/x?y=%20").header("x-kept", "yes")).await.json();
            assert_eq!(seen["version"], version, "{protocol} {speaks:?}");
            assert_eq!(seen["host"], "svc.test:81", "{protocol} {speaks:?}");
            assert_eq!(seen["uri"], "/x?y=%20", "{protocol} {speaks:?}");
            assert_eq!(seen["headers"]["x-kept"], "yes", "{protocol} {speaks:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn bodies_with_and_without_a_length_arrive_whole() {
    for protocol in ["http1", "http2"] {
        for speaks in BOTH {
            let (_daemon, _backend, mut client) = pair(protocol, speaks).await;
            let whole = client.ask(call("PUT", "svc", "/").body(body::full("whole"))).await.json();
            assert_eq!(whole["body"], "whole", "{protocol} {speaks:?}");
            assert_eq!(whole["headers"]["content-length"], "5", "{protocol} {speaks:?}");
            let (_, endless) = body::endless(300_000);
            assert_eq!(client.ask(call("PUT", "svc", "/count").body(endless)).await.text(), "300000");
            let pieces = body::with_trailers(&["a", "b"], &[]);
            assert_eq!(client.ask(call("PUT", "svc", "/").body(pieces)).await.json()["body"], "ab");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn trailers_of_an_answer_pass_between_the_protocols() {
    for protocol in ["http1", "http2"] {
        for speaks in BOTH {
            let (_daemon, _backend, mut client) = pair(protocol, speaks).await;
            let answer = client.ask(get("svc", "/trailers").header("te", "trailers")).await;
            assert_eq!(answer.text(), "onetwo", "{protocol} {speaks:?}");
            if protocol == "http2" {
                assert_eq!(answer.trailer("x-checksum"), "42", "{protocol} {speaks:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn trailers_of_an_http1_request_reach_an_http2_server() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http2", &[backend.address]));
    let mut client = Raw::connect(daemon.address()).await;
    client
        .send("POST / HTTP/1.1\r\nhost: svc\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nx-sum: 2\r\n\r\n")
        .await;
    let seen = client.read_response().await.json();
    assert_eq!((&seen["body"], &seen["trailers"]["x-sum"]), (&"ab".into(), &"2".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn declared_trailers_of_an_http2_request_reach_an_http1_server() {
    let server = crate::support::RawServer::start().await;
    let daemon = Daemon::start(&one_service("http1", &[server.address]));
    let mut client = Client::connect(daemon.address(), Speaks::Http2).await;
    let request = call("POST", "svc", "/").header("trailer", "x-sum");
    let request = request.body(body::with_trailers(&["ab"], &[("x-sum", "2")]));
    let asking = tokio::spawn(async move { client.ask(request).await });
    let mut upstream = server.accept().await;
    let head = upstream.read_head().await;
    assert_eq!((head.first.as_str(), head.field("host").as_str()), ("POST / HTTP/1.1", "svc"));
    let (body, trailers) = upstream.read_chunked().await;
    assert_eq!((body.as_slice(), trailers), (&b"ab"[..], vec![("x-sum".to_owned(), "2".to_owned())]));
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(within("the answer", asking).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn head_and_bodyless_answers_pass_between_the_protocols() {
    for protocol in ["http1", "http2"] {
        for speaks in BOTH {
            let (_daemon, _backend, mut client) = pair(protocol, speaks).await;
            let head = client.ask(call("HEAD", "svc", "/bytes?n=7")).await;
            assert_eq!((head.status, head.body.len()), (200, 0), "{protocol} {speaks:?}");
            let none = client.ask(get("svc", "/status/304")).await;
            assert_eq!((none.status, none.body.len()), (304, 0), "{protocol} {speaks:?}");
            assert_eq!(client.ask(get("svc", "/")).await.status, 200, "{protocol} {speaks:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn early_answers_pass_between_the_protocols() {
    for protocol in ["http1", "http2"] {
        for speaks in BOTH {
            let (_daemon, _backend, mut client) = pair(protocol, speaks).await;
            let (_sender, upload) = body::piecewise(); // kept: the upload never ends
            let response = client.send(call("POST", "svc", "/early").body(upload)).await;
            assert_eq!(response.status(), 403, "{protocol} {speaks:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_http1_server_gets_many_streams_of_one_http2_caller_at_once() {
    let (_daemon, backend, client) = pair("http1", Speaks::Http2).await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let mut client = client.same_connection();
        asking.spawn(async move { client.ask(get("svc", "/slow?ms=200")).await.status });
    }
    crate::support::eventually("together at the server", async || backend.running() >= 10).await;
    while let Some(status) = asking.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_service_may_be_http1_and_the_next_http2() {
    let (old, new) = (Backend::start("old").await, Backend::start("new").await);
    let daemon = Daemon::start(&format!(
        "[[routes]]\nname = \"old\"\nhosts = [\"old\"]\nbackends = [{{ service = \"old\" }}]\n\
         [[routes]]\nname = \"new\"\nhosts = [\"new\"]\nbackends = [{{ service = \"new\" }}]\n{}{}",
        service("old", "http1", &[old.address]),
        service("new", "http2", &[new.address])
    ));
    for speaks in BOTH {
        let mut client = Client::connect(daemon.address(), speaks).await;
        for (host, version) in [("old", "HTTP/1.1"), ("new", "HTTP/2.0"), ("old", "HTTP/1.1")] {
            let answer = client.ask(get(host, "/")).await;
            assert_eq!((answer.backend(), &answer.json()["version"]), (host, &version.into()));
        }
    }
}
