//! Connections to servers: reuse, retry on a fresh one, limits, HTTP/2 streams and GOAWAY.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{net::TcpListener, task::JoinSet};

use crate::support::{
    Answer, Backend, Client, Daemon, RawServer, Speaks, body, call,
    daemon::one_service,
    eventually,
    frames::{END_HEADERS, END_STREAM, Frames, HEADERS, RST_STREAM},
    get, within,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A daemon in front of one server, with these further keys of its service.
async fn started(protocol: &str, backend: &Backend, keys: &str) -> (Daemon, Client) {
    let daemon = Daemon::start(&format!("{}{keys}\n", one_service(protocol, &[backend.address])));
    let client = Client::connect(daemon.address(), Speaks::Http2).await;
    (daemon, client)
}

/// Sends so many requests side by side.
async fn together(client: &Client, count: usize, path: &str) -> Vec<Answer> {
    let mut asking = JoinSet::new();
    for _ in 0..count {
        let (mut client, path) = (client.same_connection(), path.to_owned());
        asking.spawn(async move { client.ask(get("svc", &path)).await });
    }
    asking.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_request_after_the_other_uses_one_connection() {
    for protocol in ["http1", "http2"] {
        let backend = Backend::start("one").await;
        let (daemon, mut client) = started(protocol, &backend, "").await;
        for _ in 0..20 {
            assert_eq!(client.ask(get("svc", "/")).await.status, 200);
        }
        assert_eq!(backend.connections(), 1, "{protocol}");
        daemon.metric_becomes("upstream_connections", &[("service", "echo")], 1.0).await;
        daemon.metric_becomes("attempts_total", &[("service", "echo")], 20.0).await;
        let endpoint = backend.address.to_string();
        daemon.metric_becomes("endpoint_requests_total", &[("endpoint", &endpoint)], 20.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_whose_reused_connection_closes_under_it_is_sent_again() {
    let server = RawServer::start().await;
    let daemon = Daemon::start(&one_service("http1", &[server.address]));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let asking = tokio::spawn(async move {
        let first = client.ask(get("svc", "/first")).await;
        let second = client.ask(get("svc", "/second")).await;
        (first.status, second.status, second.text())
    });
    let mut upstream = server.accept().await;
    upstream.read_head().await;
    upstream.send(OK).await;
    upstream.read_head().await;
    drop(upstream); // the second request came, and not a byte of an answer goes back
    let mut fresh = server.accept().await;
    assert!(fresh.read_head().await.first.starts_with("GET /second "));
    fresh.send(OK).await;
    assert_eq!(within("both answers", asking).await.unwrap(), (200, 200, "ok".to_owned()));
    daemon.metric_becomes("retries_total", &[("service", "echo")], 1.0).await;
    daemon.metric_becomes("errors_total", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_that_may_have_been_processed_is_not_sent_again() {
    let server = RawServer::start().await;
    let daemon = Daemon::start(&one_service("http1", &[server.address]));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let asking = tokio::spawn(async move {
        client.ask(get("svc", "/first")).await;
        client.ask(call("POST", "svc", "/second").body(body::full("order"))).await
    });
    let mut upstream = server.accept().await;
    upstream.read_head().await;
    upstream.send(OK).await;
    upstream.read_request().await;
    drop(upstream);
    let answer = within("the answer", asking).await.unwrap();
    assert_eq!((answer.status, answer.reason()), (502, "upstream_reset"));
    assert!(server.stays_alone(Duration::from_millis(200)).await, "an order was sent twice");
    daemon.metric_becomes("retries_total", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_on_a_fresh_connection_is_not_sent_again() {
    let server = RawServer::start().await;
    let daemon = Daemon::start(&one_service("http1", &[server.address]));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let asking = tokio::spawn(async move { client.ask(call("POST", "svc", "/")).await });
    let mut upstream = server.accept().await;
    upstream.read_head().await;
    drop(upstream);
    let answer = within("the answer", asking).await.unwrap();
    assert_eq!((answer.status, answer.reason()), (502, "upstream_reset"));
    daemon.metric_becomes("retries_total", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_idle_connection_that_its_server_closed_is_not_used() {
    for protocol in ["http1", "http2"] {
        let backend = Backend::start("one").await;
        let (daemon, mut client) = started(protocol, &backend, "").await;
        assert_eq!(client.ask(get("svc", "/")).await.status, 200);
        backend.close_connections();
        daemon.metric_becomes("upstream_connections", &[], 0.0).await;
        let answer = client.ask(call("POST", "svc", "/").body(body::full("order"))).await;
        assert_eq!((answer.status, answer.json()["body"].as_str()), (200, Some("order")), "{protocol}");
        assert_eq!(backend.connections(), 2, "{protocol}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_whose_server_says_close_is_not_used_again() {
    let server = RawServer::start().await;
    let daemon = Daemon::start(&one_service("http1", &[server.address]));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let asking = tokio::spawn(async move {
        [client.ask(get("svc", "/1")).await.status, client.ask(call("POST", "svc", "/2")).await.status]
    });
    let mut first = server.accept().await;
    first.read_head().await;
    first.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
    let mut second = server.accept().await;
    second.read_head().await;
    second.send(OK).await;
    assert_eq!(within("both answers", asking).await.unwrap(), [200, 200]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn bytes_behind_an_answer_are_not_taken_for_the_next_answer() {
    let server = RawServer::start().await;
    let daemon = Daemon::start(&one_service("http1", &[server.address]));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let asking = tokio::spawn(async move {
        [client.ask(get("svc", "/1")).await.text(), client.ask(get("svc", "/2")).await.text()]
    });
    let mut first = server.accept().await;
    first.read_head().await;
    first.send(format!("{OK}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison")).await;
    let mut second = server.accept().await;
    second.read_head().await;
    second.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nright").await;
    assert_eq!(within("both answers", asking).await.unwrap(), ["ok", "right"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_that_its_caller_left_costs_the_connection_not_the_next_answer() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http1", &[backend.address]));
    for _ in 0..5 {
        let mut leaving = Client::connect(daemon.address(), Speaks::Http1).await;
        drop(leaving.send(get("svc", "/bytes?n=10000000")).await);
        drop(leaving);
        let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
        assert_eq!(client.ask(get("svc", "/right")).await.json()["uri"], "/right");
    }
    daemon.metric_becomes("requests_in_flight", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn idle_connections_are_closed_in_time() {
    for protocol in ["http1", "http2"] {
        let backend = Backend::start("one").await;
        let (daemon, mut client) = started(protocol, &backend, "pool = { idle_timeout = \"200ms\" }").await;
        assert_eq!(client.ask(get("svc", "/")).await.status, 200);
        eventually("the idle connection is closed", async || backend.open_connections() == 0).await;
        daemon.metric_becomes("upstream_connections", &[], 0.0).await;
        assert_eq!(client.ask(get("svc", "/")).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_serves_no_longer_than_its_lifetime() {
    for protocol in ["http1", "http2"] {
        let backend = Backend::start("one").await;
        let (_daemon, mut client) = started(protocol, &backend, "pool = { max_lifetime = \"100ms\" }").await;
        eventually("a second connection", async || {
            assert_eq!(client.ask(get("svc", "/")).await.status, 200);
            backend.connections() >= 2
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_more_idle_connections_are_kept_than_allowed() {
    let backend = Backend::start("one").await;
    let (_daemon, client) = started("http1", &backend, "pool = { max_idle = 2 }").await;
    for answer in together(&client, 8, "/slow?ms=200").await {
        assert_eq!(answer.status, 200);
    }
    eventually("two are left", async || backend.open_connections() == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_over_the_most_connections_waits_for_one() {
    let backend = Backend::start("one").await;
    let (_daemon, client) = started("http1", &backend, "pool = { max_connections = 2 }").await;
    for answer in together(&client, 8, "/slow?ms=20").await {
        assert_eq!(answer.status, 200);
    }
    assert!(backend.connections() <= 2, "{} connections", backend.connections());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn further_http2_connections_open_when_the_streams_are_used_up() {
    let backend = Backend::with_streams("one", 2).await;
    let (_daemon, client) = started("http2", &backend, "").await;
    assert_eq!(together(&client, 1, "/").await[0].status, 200); // the limit is known from here on
    let asking = {
        let client = client.same_connection();
        tokio::spawn(async move { together(&client, 6, "/slow?ms=500").await })
    };
    eventually("all six at the server together", async || backend.running() == 6).await;
    assert!(backend.connections() >= 3, "{} connections", backend.connections());
    for answer in within("the answers", asking).await.unwrap() {
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_says_goaway_finishes_what_runs_and_gets_nothing_new_there() {
    let backend = Backend::start("one").await;
    let (daemon, client) = started("http2", &backend, "").await;
    let running = {
        let client = client.same_connection();
        tokio::spawn(async move { together(&client, 3, "/slow?ms=300").await })
    };
    eventually("three at the server", async || backend.running() == 3).await;
    backend.leave();
    for answer in together(&client, 3, "/").await {
        assert_eq!(answer.status, 200);
    }
    for answer in within("the running ones", running).await.unwrap() {
        assert_eq!(answer.status, 200);
    }
    assert_eq!(backend.connections(), 2);
    daemon.metric_becomes("errors_total", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn not_a_request_fails_while_servers_come_and_go() {
    let backend = Backend::start("one").await;
    let (daemon, client) = started("http2", &backend, "").await;
    for _ in 0..20 {
        let asking = {
            let client = client.same_connection();
            tokio::spawn(async move { together(&client, 10, "/").await })
        };
        backend.leave();
        for answer in within("the answers", asking).await.unwrap() {
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }
    daemon.metric_becomes("errors_total", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_refused_stream_is_sent_again_whatever_its_method() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let daemon = Daemon::start(&one_service("http2", &[listener.local_addr().unwrap()]));
    let server = tokio::spawn(refuse_once(listener));
    let mut client = Client::connect(daemon.address(), Speaks::Http2).await;
    let answer = client.ask(call("POST", "svc", "/").body(body::full("order"))).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "order"));
    daemon.metric_becomes("retries_total", &[("service", "echo")], 1.0).await;
    server.abort();
}

/// Refuses the first stream and gives the next one's body back.
async fn refuse_once(listener: TcpListener) {
    let mut first = true;
    while let Ok((stream, _)) = listener.accept().await {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let refusing = std::mem::take(&mut first);
        tokio::spawn(async move {
            let mut refusing = refusing;
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                if std::mem::take(&mut refusing) {
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                    continue;
                }
                tokio::spawn(async move {
                    let mut body = request.into_body();
                    let mut all = Vec::new();
                    while let Some(Ok(data)) = body.data().await {
                        all.extend_from_slice(&data);
                    }
                    let mut answer = respond.send_response(http::Response::new(()), false).unwrap();
                    answer.send_data(Bytes::from(all), true).unwrap();
                });
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_endpoint_that_comes_back_is_used_again() {
    let backend = Backend::start("first").await;
    let (_daemon, mut client) = started("http1", &backend, "").await;
    assert_eq!(client.ask(get("svc", "/")).await.backend(), "first");
    let address = backend.address;
    drop(backend);
    eventually("it is gone", async || client.ask(get("svc", "/")).await.reason() == "connect_failed").await;
    let _again = Backend::again("second", address).await;
    assert_eq!(client.ask(get("svc", "/")).await.backend(), "second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_protocols_of_an_auto_service_share_the_only_place_of_a_pool() {
    let backend = Backend::start("one").await;
    let toml = format!(
        "[node]\nname = \"test\"\nworkers = 1\n{}pool = {{ max_connections = 1 }}\n",
        one_service("auto", &[backend.address])
    );
    let daemon = Daemon::start(&toml);
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let mut grpc = Client::connect(daemon.address(), Speaks::Http2).await;
    for _ in 0..3 {
        let answer = client.ask(get("svc", "/")).await;
        assert_eq!(answer.json()["version"], "HTTP/1.1", "{answer:?}");
        let called =
            call("POST", "svc", "/").header("content-type", "application/grpc").body(body::full("hi"));
        let answer = grpc.ask(called).await;
        assert_eq!(answer.json()["version"], "HTTP/2.0", "{answer:?}");
    }
    eventually("one connection is open", async || backend.open_connections() == 1).await;
}

/// `:status: 200` and no content.
async fn answer_empty(server: &mut Frames, stream: u32) {
    server.send(HEADERS, END_STREAM | END_HEADERS, stream, &[0x88]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_whose_reused_http2_connection_closes_under_it_is_sent_again() {
    let server = RawServer::start().await;
    let daemon = Daemon::start(&one_service("http2", &[server.address]));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let asking = tokio::spawn(async move {
        [client.ask(get("svc", "/1")).await.status, client.ask(get("svc", "/2")).await.status]
    });
    let mut first = Frames::accept(&server).await;
    let stream = first.next_of(&[HEADERS]).await.stream;
    answer_empty(&mut first, stream).await;
    first.next_of(&[HEADERS]).await;
    drop(first);
    let mut second = Frames::accept(&server).await;
    let stream = second.next_of(&[HEADERS]).await.stream;
    answer_empty(&mut second, stream).await;
    assert_eq!(within("both answers", asking).await.unwrap(), [200, 200]);
    daemon.metric_becomes("retries_total", &[("service", "echo")], 1.0).await;
    daemon.metric_becomes("errors_total", &[], 0.0).await;
}

/// A server that refuses every stream; the number of its connections.
fn refusing(server: RawServer) -> Arc<AtomicU64> {
    let connections = Arc::<AtomicU64>::default();
    let count = connections.clone();
    tokio::spawn(async move {
        loop {
            let Ok(raw) = server.try_accept().await else { return };
            let mut connection = Frames::serve(raw).await;
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                loop {
                    let stream = connection.next_of(&[HEADERS]).await.stream;
                    connection.send(RST_STREAM, 0, stream, &7u32.to_be_bytes()).await;
                }
            });
        }
    });
    connections
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_refuses_every_stream_is_not_flooded_with_connections() {
    let server = RawServer::start().await;
    let toml = format!("[node]\nname = \"test\"\nworkers = 1\n{}", one_service("http2", &[server.address]));
    let daemon = Daemon::start(&toml);
    let connections = refusing(server);
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    for method in ["GET", "POST", "GET", "POST"] {
        let answer = client.ask(call(method, "svc", "/")).await;
        assert_eq!((answer.status, answer.reason()), (502, "upstream_reset"), "{method}");
    }
    let connections = connections.load(Ordering::SeqCst);
    assert!(connections <= 2, "{connections} connections");
}
