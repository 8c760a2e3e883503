//! `[limits]`: heads that are too large, and HTTP/2 streams over the most allowed.

use tokio::task::JoinSet;

use crate::support::{Backend, Call, Client, Daemon, Raw, Speaks, daemon::one_service, eventually, get};

async fn limited(limits: &str) -> (Daemon, Backend) {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&format!("[limits]\n{limits}\n{}", one_service("http1", &[backend.address])));
    (daemon, backend)
}

/// With a field of this many bytes.
fn with_bytes(size: usize) -> Call {
    get("svc", "/").header("x-big", &"x".repeat(size))
}

/// With this many fields of its own.
fn with_fields(count: usize) -> Call {
    (0..count).fold(get("svc", "/"), |request, number| request.header(&format!("x-{number}"), "1"))
}

/// Refused with 431 in a way that a caller understands; the next request is served, on this connection or another.
async fn assert_refused(daemon: &Daemon, speaks: Speaks, request: Call) {
    let mut client = Client::connect(daemon.address(), speaks).await;
    let answer = client.ask(request).await;
    assert_eq!((answer.status, answer.reason()), (431, "headers_too_large"), "{answer:?}");
    assert_eq!(answer.json()["error"]["reason"], "headers_too_large");
}

over_both_protocols! {
    async fn a_head_with_too_many_bytes_is_headers_too_large(speaks: Speaks) {
        let (daemon, backend) = limited("header_bytes = \"8KiB\"").await;
        let mut client = Client::connect(daemon.address(), speaks).await;
        assert_eq!(client.ask(with_bytes(7 * 1024)).await.status, 200, "just under the limit");
        assert_refused(&daemon, speaks, with_bytes(9 * 1024)).await;
        assert_eq!(client.ask(get("svc", "/")).await.status, 200, "other connections are not touched");
        assert_eq!(backend.requests(), 2);
        daemon.metric_becomes("errors_total", &[("reason", "headers_too_large")], 1.0).await;
        daemon.metric_becomes("requests_total", &[("code", "431"), ("route", ""), ("service", "")], 1.0).await;
    }
}

over_both_protocols! {
    async fn a_head_with_too_many_fields_is_headers_too_large(speaks: Speaks) {
        let (daemon, backend) = limited("header_count = 20").await;
        let mut client = Client::connect(daemon.address(), speaks).await;
        assert_eq!(client.ask(with_fields(18)).await.status, 200, "just under the limit");
        assert_refused(&daemon, speaks, with_fields(21)).await;
        assert_refused(&daemon, speaks, with_fields(200)).await;
        assert_eq!(backend.requests(), 1);
    }
}

over_both_protocols! {
    async fn a_long_path_counts_as_well(speaks: Speaks) {
        let (daemon, backend) = limited("header_bytes = \"8KiB\"").await;
        assert_refused(&daemon, speaks, get("svc", &format!("/{}", "p".repeat(9 * 1024)))).await;
        assert_eq!(backend.requests(), 0);
    }
}

over_both_protocols! {
    async fn a_reload_changes_the_limits_of_new_connections(speaks: Speaks) {
        let (daemon, backend) = limited("header_count = 20").await;
        assert_refused(&daemon, speaks, with_fields(40)).await;
        let toml = format!("[limits]\nheader_count = 60\n{}", one_service("http1", &[backend.address]));
        daemon.reload(Some(&toml)).unwrap();
        let mut client = Client::connect(daemon.address(), speaks).await;
        assert_eq!(client.ask(with_fields(40)).await.status, 200);
        assert_refused(&daemon, speaks, with_fields(70)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_head_without_end_is_refused_before_it_has_all_come() {
    let (daemon, backend) = limited("header_bytes = \"8KiB\"").await;
    let mut client = Raw::connect(daemon.address()).await;
    client.send("GET / HTTP/1.1\r\nhost: svc\r\n").await;
    for _ in 0..20 {
        let line = format!("x-more: {}\r\n", "y".repeat(1000));
        if client.try_send(line).await.is_err() {
            break;
        }
    }
    let response = client.read_response().await;
    assert_eq!((response.status, response.reason().as_str()), (431, "headers_too_large"));
    assert_eq!(backend.requests(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn streams_over_the_most_allowed_wait_and_none_is_lost() {
    let (daemon, backend) = limited("max_streams = 4").await;
    let client = Client::connect(daemon.address(), Speaks::Http2).await;
    let mut first = client.same_connection();
    assert_eq!(first.ask(get("svc", "/")).await.status, 200); // the daemon's SETTINGS have come
    let mut asking = JoinSet::new();
    for _ in 0..20 {
        let mut client = client.same_connection();
        asking.spawn(async move { client.ask(get("svc", "/slow?ms=50")).await.status });
    }
    let mut most = 0;
    eventually("all are answered", async || {
        most = most.max(backend.running());
        while let Some(status) = asking.try_join_next() {
            assert_eq!(status.unwrap(), 200);
        }
        asking.is_empty()
    })
    .await;
    assert!((1..=4).contains(&most), "{most} at once");
    assert_eq!(backend.requests(), 21);
}
