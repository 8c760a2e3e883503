//! How many connections a listener and a caller may have, how many requests a caller may have under way, and how long a target may be.

use crate::support::{
    Backend, Client, Daemon, Raw, Speaks, client, daemon::one_service, eventually, get, within,
};

async fn limited(limits: &str) -> (Daemon, Backend) {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&format!("[limits]\n{limits}\n{}", one_service("http1", &[backend.address])));
    (daemon, backend)
}

/// A connection that is being served.
async fn open(daemon: &Daemon) -> Client {
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    assert_eq!(client.ask(get("svc", "/")).await.status, 200);
    client
}

async fn assert_refused(daemon: &Daemon) {
    let mut raw = Raw::connect(daemon.address()).await;
    let _ = raw.try_send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
    assert_eq!(within("it is closed", raw.read_to_end()).await.0, b"");
}

async fn beyond(limit: &str, cause: &str) {
    let (daemon, backend) = limited(&format!("{limit} = 3")).await;
    let mut held = vec![open(&daemon).await, open(&daemon).await, open(&daemon).await];
    assert_refused(&daemon).await;
    assert_refused(&daemon).await;
    daemon.metric_becomes("connections_refused_total", &[("cause", cause)], 2.0).await;
    assert_eq!(held[0].ask(get("svc", "/")).await.status, 200, "those who are there are served");
    held.pop();
    eventually("there is room again", async || {
        let mut raw = Raw::connect(daemon.address()).await;
        let _ = raw.try_send("GET / HTTP/1.1\r\nhost: svc\r\nconnection: close\r\n\r\n").await;
        !raw.read_to_end().await.0.is_empty()
    })
    .await;
    let toml = format!("[limits]\n{limit} = 30\n{}", one_service("http1", &[backend.address]));
    daemon.reload(Some(&toml)).unwrap();
    held.extend([open(&daemon).await, open(&daemon).await]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connections_beyond_those_of_a_listener_are_closed_at_once() {
    beyond("connections", "listener").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connections_beyond_those_of_a_caller_are_closed_at_once() {
    beyond("connections_per_caller", "caller").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_status_says_what_is_allowed_and_who_has_most() {
    let (daemon, _backend) = limited("connections = 30\nconnections_per_caller = 20").await;
    let _held = (open(&daemon).await, open(&daemon).await);
    let status = daemon.admin_get("/api/status").await.json();
    assert_eq!(status["limits"]["connections"], 30, "{status}");
    assert_eq!(status["limits"]["connections_per_caller"], 20, "{status}");
    assert!(status["limits"]["requests_per_caller"].is_null(), "{status}");
    let largest = &status["limits"]["callers"][0];
    assert_eq!((&largest["caller"], &largest["connections"]), (&"127.0.0.1".into(), &2.into()), "{status}");
}

over_both_protocols! {
    async fn requests_beyond_those_of_a_caller_are_refused(speaks: Speaks) {
        let (daemon, backend) = limited("requests_per_caller = 2").await;
        let mut hanging = Vec::new();
        for _ in 0..2 {
            let mut client = Client::connect(daemon.address(), speaks).await;
            hanging.push(tokio::spawn(async move { client.try_ask(get("svc", "/hang")).await.is_ok() }));
        }
        eventually("two run", async || backend.running() == 2).await;
        let answer = client::ask(daemon.address(), speaks, get("svc", "/")).await;
        assert_eq!((answer.status, answer.reason()), (503, "caller_limit"), "{answer:?}");
        assert_eq!(answer.header("retry-after"), "1");
        daemon.metric_becomes("errors_total", &[("reason", "caller_limit")], 1.0).await;
        hanging.pop().unwrap().abort();
        eventually("its place is free", async || {
            client::ask(daemon.address(), speaks, get("svc", "/")).await.status == 200
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_caller_that_a_reload_names_counts_by_its_name_from_then_on() {
    let (daemon, backend) = limited("requests_per_caller = 1").await;
    let mut first = open(&daemon).await;
    let called = "[[callers]]\nname = \"shop\"\naddress = \"127.0.0.0/8\"\n";
    let toml = one_service("http1", &[backend.address]);
    daemon.reload(Some(&format!("[limits]\nrequests_per_caller = 1\n{called}{toml}"))).unwrap();
    let hanging = tokio::spawn(async move { first.try_ask(get("svc", "/hang")).await.is_ok() });
    eventually("it runs", async || backend.running() == 1).await;
    let status = daemon.admin_get("/api/status").await.json();
    let largest = &status["limits"]["callers"];
    assert_eq!((&largest[0]["caller"], &largest[0]["requests"]), (&"shop".into(), &1.into()), "{status}");
    assert!(largest[1].is_null(), "{status}");
    let answer = client::ask(daemon.address(), Speaks::Http1, get("svc", "/")).await;
    assert_eq!(
        (answer.status, answer.reason()),
        (503, "caller_limit"),
        "a new connection of the same caller"
    );
    hanging.abort();
}

over_both_protocols! {
    async fn a_target_that_is_too_long_is_headers_too_large(speaks: Speaks) {
        let (daemon, backend) = limited("uri_bytes = \"1KiB\"").await;
        let path = |length| format!("/{}", "p".repeat(length));
        let fine = client::ask(daemon.address(), speaks, get("svc", &path(900))).await;
        assert_eq!(fine.status, 200, "{fine:?}");
        let answer = client::ask(daemon.address(), speaks, get("svc", &path(1100))).await;
        assert_eq!((answer.status, answer.reason()), (431, "headers_too_large"), "{answer:?}");
        assert!(answer.text().contains("limits.uri_bytes"), "{answer:?}");
        assert_eq!(backend.requests(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_target_without_end_is_refused_before_its_line_has_come() {
    let (daemon, _backend) = limited("uri_bytes = \"1KiB\"").await;
    let mut client = Raw::connect(daemon.address()).await;
    client.send(format!("GET /{}", "p".repeat(1200))).await;
    let response = client.read_response().await;
    assert_eq!((response.status, response.reason().as_str()), (431, "headers_too_large"));
}
