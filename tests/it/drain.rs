//! Drain: no new connections, running requests finish, a deadline ends the rest.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{net::TcpStream, task::JoinSet};

use crate::support::{
    Backend, Client, Daemon, Raw, Speaks, daemon::one_service, eventually, get, load::until_refused, within,
};

/// Far below the 20 s that a drain may take, and far above what a slow machine needs when there is nothing to wait for.
const AT_ONCE: Duration = Duration::from_secs(10);

async fn started(drain: &str) -> (Daemon, Backend) {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&format!(
        "[drain]\ntimeout = \"{drain}\"\n{}",
        one_service("auto", &[backend.address])
    ));
    (daemon, backend)
}

over_both_protocols! {
    async fn a_running_request_finishes_and_no_new_connection_is_taken(speaks: Speaks) {
        let (daemon, backend) = started("20s").await;
        let address = daemon.address();
        let mut client = Client::connect(address, speaks).await;
        let asking = tokio::spawn(async move { client.ask(get("svc", "/slow?ms=800")).await });
        eventually("it runs", async || backend.running() == 1).await;
        assert_eq!(daemon.admin_get("/ready").await.status, 200);
        daemon.drain();
        eventually("not ready", async || daemon.admin_get("/ready").await.status == 503).await;
        assert_eq!(daemon.admin_get("/live").await.status, 200);
        eventually("connections are refused", async || TcpStream::connect(address).await.is_err()).await;
        let answer = within("the answer", asking).await.unwrap();
        assert_eq!((answer.status, answer.backend()), (200, "one"));
        assert!(daemon.join() < AT_ONCE, "nothing was left to wait for");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_http1_answer_says_connection_close_and_the_connection_closes() {
    let (daemon, backend) = started("20s").await;
    let mut client = Raw::connect(daemon.address()).await;
    client.send("GET /slow?ms=300 HTTP/1.1\r\nhost: svc\r\n\r\n").await;
    eventually("it runs", async || backend.running() == 1).await;
    daemon.drain();
    let response = client.read_response().await;
    assert_eq!((response.status, response.head.field("connection").as_str()), (200, "close"));
    client.closes().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_idle_connection_is_closed() {
    let (daemon, _backend) = started("20s").await;
    let mut client = Raw::connect(daemon.address()).await;
    client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
    client.read_response().await;
    daemon.drain();
    client.closes().await;
    assert!(daemon.join() < AT_ONCE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_that_has_sent_nothing_holds_nothing_up() {
    let (daemon, _backend) = started("20s").await;
    let _silent = Raw::connect(daemon.address()).await;
    let mut half = Raw::connect(daemon.address()).await;
    half.send("PRI * HT").await;
    daemon.metric_becomes("connections", &[], 2.0).await;
    assert!(daemon.join() < AT_ONCE);
}

over_both_protocols! {
    async fn the_deadline_ends_what_still_runs(speaks: Speaks) {
        let (daemon, backend) = started("300ms").await;
        let mut client = Client::connect(daemon.address(), speaks).await;
        let asking = tokio::spawn(async move { client.try_ask(get("svc", "/hang")).await });
        eventually("it runs", async || backend.running() == 1).await;
        let took = daemon.join();
        assert!((Duration::from_millis(300)..AT_ONCE).contains(&took), "{took:?}");
        match within("the end", asking).await.unwrap() {
            Ok(answer) => assert_eq!((answer.status, answer.reason()), (503, "draining")),
            Err(error) => assert!(!error.is_user(), "{error:?}"),
        }
        eventually("the server sees it go", async || backend.running() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_admin_api_drains() {
    let (daemon, backend) = started("20s").await;
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let asking = tokio::spawn(async move { client.ask(get("svc", "/slow?ms=500")).await });
    eventually("it runs", async || backend.running() == 1).await;
    let answer = daemon.admin_post("/api/drain").await;
    assert!((200..300).contains(&answer.status), "{answer:?}");
    eventually("not ready", async || daemon.admin_get("/ready").await.status == 503).await;
    assert_eq!(within("the answer", asking).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_drain_under_load_fails_no_request() {
    for _ in 0..3 {
        let (daemon, backend) = started("20s").await;
        let done = Arc::new(AtomicU64::new(0));
        let mut loads = JoinSet::new();
        for number in 0..16 {
            let speaks = if number % 2 == 0 { Speaks::Http1 } else { Speaks::Http2 };
            loads.spawn(until_refused(daemon.address(), speaks, "/status/200", done.clone()));
        }
        eventually("the load runs", async || done.load(Ordering::Relaxed) > 500).await;
        daemon.drain();
        while let Some(outcome) = within("the loads end", loads.join_next()).await {
            outcome.unwrap();
        }
        assert!(daemon.join() < AT_ONCE);
        assert_eq!(backend.requests(), done.load(Ordering::Relaxed), "what the server saw was answered");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reload_while_draining_is_refused_at_once() {
    let (daemon, backend) = started("20s").await;
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let asking = tokio::spawn(async move { client.ask(get("svc", "/slow?ms=4000")).await });
    eventually("it runs", async || backend.running() == 1).await;
    daemon.admin_post("/api/drain").await;
    eventually("not ready", async || daemon.admin_get("/ready").await.status == 503).await;
    let start = std::time::Instant::now();
    let answer = daemon.admin_post("/api/reload").await;
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(answer.status >= 400, "{answer:?}");
    assert!(answer.text().contains("drain"), "{answer:?}");
    let outcome = daemon.reload(None); // past the admin API's own look at the drain
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(outcome.is_err(), "{outcome:?}");
    assert_eq!(backend.running(), 1, "the running request goes on");
    assert_eq!(within("the answer", asking).await.unwrap().status, 200);
}
