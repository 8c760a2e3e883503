//! Answers that come before the request's body, and callers that wait before they send it: nothing is held for a body that
//! never comes, and nobody waits for a permission that never comes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use crate::support::{
    Backend, Client, Daemon, Raw, RawServer, Speaks,
    daemon::one_service,
    eventually,
    frames::{DATA, END_HEADERS, Frames, HEADERS, request},
    get, within,
};

/// One worker: the limits of a pool are per worker.
const ONE_WORKER: &str = "[node]\nname = \"test\"\nworkers = 1\n";
const EXPECTING: &str = "POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n";
const BEGUN: &str = "POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: 100000\r\n\r\nab";

/// A server that answers each head at once, whatever is to follow it, and never closes a connection by itself.
struct Hasty {
    server: std::net::SocketAddr,
    open: Arc<AtomicI64>,
    accepting: JoinHandle<()>,
}

impl Hasty {
    async fn start(answer: &'static str) -> Self {
        let server = RawServer::start().await;
        let (address, open) = (server.address, Arc::new(AtomicI64::new(0)));
        let count = open.clone();
        let accepting = tokio::spawn(async move {
            while let Ok(connection) = server.try_accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let count = count.clone();
                tokio::spawn(async move {
                    answer_heads(connection, answer).await;
                    count.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { server: address, open, accepting }
    }

    /// A daemon whose pool has one place.
    fn daemon(&self) -> Daemon {
        // An upload in vain may keep the only place for two seconds, which is longer than a request waits by default.
        let pool = "pool = { max_connections = 1 }\nbreaker = { pending_timeout = \"10s\" }\n";
        Daemon::start(&format!("{ONE_WORKER}{}{pool}", one_service("http1", &[self.server])))
    }

    async fn is_left_alone(&self, daemon: &Daemon) {
        daemon.metric_becomes("connections", &[], 0.0).await;
        daemon.metric_becomes("requests_in_flight", &[], 0.0).await;
        daemon.metric_becomes("upstream_connections", &[], 0.0).await;
        eventually("no connection is open", async || self.open.load(Ordering::SeqCst) == 0).await;
    }
}

impl Drop for Hasty {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn answer_heads(mut connection: Raw, answer: &str) {
    while connection.skip_past("\r\n\r\n").await {
        if connection.try_send(answer).await.is_err() {
            return;
        }
    }
}

/// The head of an upload whose body stays away, from several callers in turn; then a request of another.
async fn upload_in_vain(answer: &'static str, status: u16, head: &str) {
    let hasty = Hasty::start(answer).await;
    let daemon = hasty.daemon();
    for _ in 0..3 {
        let mut client = Raw::connect(daemon.address()).await;
        client.send(head).await;
        assert_eq!(client.read_response().await.status, status);
    }
    hasty.is_left_alone(&daemon).await;
    let mut staying = Raw::connect(daemon.address()).await;
    staying.send(head).await;
    assert_eq!(staying.read_response().await.status, status);
    let mut other = Client::connect(daemon.address(), Speaks::Http1).await;
    assert_eq!(other.ask(get("svc", "/")).await.status, status, "the pool's only place is free again");
}

const REFUSED: &str = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n";
const DONE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_refused_expectation_holds_no_connection() {
    upload_in_vain(REFUSED, 401, EXPECTING).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_ahead_of_the_body_holds_no_connection() {
    upload_in_vain(DONE, 200, BEGUN).await;
}

/// The same over HTTP/2: the head, `sent` of the body, and no end.
async fn upload_in_vain_over_http2(answer: &'static str, fields: &[(&str, &str)], sent: &[u8]) {
    let hasty = Hasty::start(answer).await;
    let daemon = hasty.daemon();
    let begin = async || {
        let mut client = Frames::connect(daemon.address()).await;
        client.send(HEADERS, END_HEADERS, 1, &request("POST", "/", fields)).await;
        client.send(DATA, 0, 1, sent).await;
        assert_eq!(client.next_of(&[HEADERS]).await.stream, 1);
        client
    };
    for _ in 0..3 {
        begin().await;
    }
    hasty.is_left_alone(&daemon).await;
    let _staying = begin().await;
    let mut other = Client::connect(daemon.address(), Speaks::Http2).await;
    let status = other.ask(get("svc", "/")).await.status;
    assert!([200, 401].contains(&status), "the pool's only place is free again: {status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_refused_expectation_holds_no_connection_over_http2() {
    upload_in_vain_over_http2(REFUSED, &[("content-length", "4"), ("expect", "100-continue")], b"").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_ahead_of_the_body_holds_no_connection_over_http2() {
    upload_in_vain_over_http2(DONE, &[("content-length", "100000")], b"ab").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_ahead_of_the_body_holds_no_stream_of_an_http2_server() {
    let backend = Backend::with_streams("one", 1).await;
    let keys = "pool = { max_connections = 1 }\n";
    let daemon = Daemon::start(&format!("{ONE_WORKER}{}{keys}", one_service("http2", &[backend.address])));
    let head = BEGUN.replace("/ ", "/early ");
    let mut staying = Vec::new();
    for _ in 0..3 {
        let mut client = Raw::connect(daemon.address()).await;
        client.send(&head).await;
        assert_eq!(client.read_response().await.status, 403);
        staying.push(client);
    }
    let mut other = Client::connect(daemon.address(), Speaks::Http2).await;
    assert_eq!(other.ask(get("svc", "/")).await.status, 200);
    drop(staying);
    daemon.metric_becomes("requests_in_flight", &[], 0.0).await;
}

/// A server that ignores `Expect`: it answers once the body is there. `keys` belong to the route.
async fn ignoring(keys: &str) -> (RawServer, Daemon) {
    let server = RawServer::start().await;
    let toml = one_service("http1", &[server.address]).replacen("hosts =", &format!("{keys}\nhosts ="), 1);
    let daemon = Daemon::start(&toml);
    (server, daemon)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_body_that_comes_along_with_its_expectation_waits_for_no_permission() {
    let (server, daemon) = ignoring("").await;
    let mut client = Raw::connect(daemon.address()).await;
    client.send(format!("{EXPECTING}body")).await;
    let mut upstream = server.accept().await;
    let (head, body) = upstream.read_request().await;
    assert_eq!(
        (head.field("expect").as_str(), body.as_slice()),
        ("", &b"body"[..]),
        "nobody waits for a 100"
    );
    upstream.send(DONE).await;
    let response = client.read_response().await;
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
}

/// The caller withholds its body until it hears 100; says how long that took.
async fn withhold(server: RawServer, daemon: &Daemon) -> Duration {
    let mut client = Raw::connect(daemon.address()).await;
    let start = Instant::now();
    client.send(EXPECTING).await;
    let mut upstream = server.accept().await;
    let asking = tokio::spawn(async move {
        let (_, body) = upstream.read_request().await;
        upstream.send(DONE).await;
        (upstream, body)
    });
    let head = client.read_head().await;
    let waited = start.elapsed();
    assert!(head.first.starts_with("HTTP/1.1 100"), "{head:?} after {waited:?}");
    client.send("body").await;
    assert_eq!(client.read_response().await.status, 200);
    assert_eq!(within("the body", asking).await.unwrap().1, b"body");
    waited
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_caller_is_told_to_go_on_when_the_server_says_nothing() {
    let (server, daemon) = ignoring("").await;
    let waited = withhold(server, &daemon).await;
    assert!(waited >= Duration::from_millis(500), "{waited:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_wait_for_a_servers_100_leaves_time_to_answer_within_the_attempt() {
    let (server, daemon) = ignoring("attempt_timeout = \"500ms\"").await;
    withhold(server, &daemon).await;
}
