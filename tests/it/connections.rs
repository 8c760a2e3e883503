//! Connections of callers: many idle ones, silent ones, ones that vanish.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    time::Duration,
};

use crate::support::{
    Backend, Client, Daemon, Raw, Speaks, body, call, client, daemon::one_service, eventually, get,
    wait::HEAVY,
};

const MANY: usize = 10_000;

/// As many files as the system lets this process have.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ten_thousand_idle_connections_are_kept_and_served() {
    let _alone = HEAVY.lock().await;
    raise_file_limit();
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http1", &[backend.address]));
    let mut callers = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "connections::callers_of_a_process_of_their_own", "--ignored", "--nocapture"])
        .env("TOWPATH_TEST_ADDRESS", daemon.address().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(callers.stdout.take().unwrap()).lines();
    let mut orders = callers.stdin.take().unwrap();
    let mut wait_for =
        |what: &str| tokio::task::block_in_place(|| said.any(|line| line.unwrap().ends_with(what)));
    assert!(wait_for("connected"), "the callers gave up");
    daemon.metric_becomes("connections", &[("listener", "outgoing")], MANY as f64).await;
    assert_eq!(client::ask(daemon.address(), Speaks::Http2, get("svc", "/")).await.status, 200);
    writeln!(orders, "again").unwrap();
    assert!(wait_for("served"), "idle connections were lost");
    drop(orders);
    assert!(tokio::task::block_in_place(|| callers.wait()).unwrap().success());
    daemon.metric_becomes("connections", &[], 0.0).await;
    assert_eq!(client::ask(daemon.address(), Speaks::Http1, get("svc", "/")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "the other half of ten_thousand_idle_connections_are_kept_and_served, which starts it"]
async fn callers_of_a_process_of_their_own() {
    let Ok(address) = std::env::var("TOWPATH_TEST_ADDRESS") else { return };
    let address = address.parse().unwrap();
    raise_file_limit();
    let mut idle = Vec::new();
    for _ in 0..MANY {
        let mut connection = Raw::connect(address).await;
        ask(&mut connection).await;
        idle.push(connection);
    }
    println!("\nconnected");
    let mut order = String::new();
    std::io::stdin().read_line(&mut order).unwrap();
    for connection in idle.iter_mut().step_by(100) {
        ask(connection).await;
    }
    println!("\nserved");
    std::io::stdin().read_line(&mut order).unwrap();
}

async fn ask(connection: &mut Raw) {
    connection.send("GET /status/200 HTTP/1.1\r\nhost: svc\r\n\r\n").await;
    assert_eq!(connection.read_response().await.status, 200);
}

/// A daemon with one short limit.
async fn limited(limit: &str) -> (Daemon, Backend) {
    let backend = Backend::start("one").await;
    let toml = format!("[limits]\n{limit} = \"200ms\"\n{}", one_service("http1", &[backend.address]));
    (Daemon::start(&toml), backend)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_that_sends_nothing_is_closed_at_its_deadline() {
    let (daemon, _backend) = limited("first_byte_timeout").await;
    let mut silent = Raw::connect(daemon.address()).await;
    assert!(silent.stays_silent(Duration::from_millis(100)).await);
    silent.closes().await;
    daemon.metric_becomes("connections", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_that_does_not_finish_its_head_is_closed_at_its_deadline() {
    let (daemon, backend) = limited("head_timeout").await;
    for head in ["G", "GET / HTTP/1.1\r\nhost:", "PRI * HTTP/2.0\r\n"] {
        let mut slow = Raw::connect(daemon.address()).await;
        slow.send(head).await;
        slow.read_to_close().await;
    }
    let mut second = Raw::connect(daemon.address()).await;
    ask(&mut second).await;
    second.send("GET / HT").await;
    second.read_to_close().await;
    assert_eq!(backend.requests(), 1);
    daemon.metric_becomes("connections", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_idle_connection_is_closed_in_time_and_a_busy_one_is_not() {
    let (daemon, _backend) = limited("idle_timeout").await;
    let mut idle = Raw::connect(daemon.address()).await;
    ask(&mut idle).await;
    idle.closes().await;
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let mut client = Client::connect(daemon.address(), speaks).await;
        assert_eq!(client.ask(get("svc", "/slow?ms=600")).await.status, 200, "{speaks:?}");
    }
    daemon.metric_becomes("connections", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_idle_http2_connection_is_closed_in_time() {
    let (daemon, _backend) = limited("idle_timeout").await;
    let mut client = Client::connect(daemon.address(), Speaks::Http2).await;
    client.ask(get("svc", "/")).await;
    eventually("it is closed", async || client.is_closed()).await;
    daemon.metric_becomes("connections", &[], 0.0).await;
}

/// Nothing of a request is left: gauges, the server's work, its connection.
async fn assert_all_freed(daemon: &Daemon, backend: &Backend) {
    eventually("the server's request is cancelled", async || backend.running() == 0).await;
    daemon.metric_becomes("requests_in_flight", &[], 0.0).await;
    daemon.metric_becomes("connections", &[], 0.0).await;
    daemon.metric_becomes("upstream_connections", &[], 0.0).await;
    eventually("the server's connections are closed", async || backend.open_connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_http1_caller_that_disappears_mid_request_frees_everything() {
    let requests = [
        "GET /hang HTTP/1.1\r\nhost: svc\r\n\r\n",
        "POST /count HTTP/1.1\r\nhost: svc\r\ncontent-length: 100\r\n\r\nhalf",
        "POST /count HTTP/1.1\r\nhost: svc\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ];
    for request in requests {
        let backend = Backend::start("one").await;
        let daemon = Daemon::start(&one_service("http1", &[backend.address]));
        let mut callers = Vec::new();
        for _ in 0..5 {
            let mut caller = Raw::connect(daemon.address()).await;
            caller.send(request).await;
            callers.push(caller);
        }
        daemon.metric_becomes("requests_in_flight", &[("service", "echo")], 5.0).await;
        eventually("all at the server", async || backend.running() == 5).await;
        callers.into_iter().for_each(Raw::reset);
        assert_all_freed(&daemon, &backend).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_http1_caller_that_disappears_mid_answer_frees_everything() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http1", &[backend.address]));
    for path in ["/drip", "/bytes?n=1000000000"] {
        let mut caller = Raw::connect(daemon.address()).await;
        caller.send(format!("GET {path} HTTP/1.1\r\nhost: svc\r\n\r\n")).await;
        caller.read_head().await;
        daemon.metric_becomes("requests_in_flight", &[], 1.0).await;
        caller.reset();
        assert_all_freed(&daemon, &backend).await;
        let timeouts = daemon.metric("errors_total", &[("reason", "timeout")]).await;
        assert_eq!(timeouts, 0.0, "a caller that goes away is no timeout");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_http2_caller_that_disappears_mid_request_frees_everything() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http1", &[backend.address]));
    let (sender, upload) = body::piecewise();
    let address = daemon.address();
    let caller = tokio::spawn(async move {
        let client = Client::connect(address, Speaks::Http2).await;
        let (mut hanging, mut uploading) = (client.same_connection(), client);
        let upload = uploading.try_ask(call("POST", "svc", "/count").body(upload));
        let _ = tokio::join!(hanging.try_ask(get("svc", "/hang")), upload);
    });
    sender.send(Ok("half".into())).await.unwrap();
    eventually("both at the server", async || backend.running() == 2).await;
    caller.abort();
    drop(sender);
    assert_all_freed(&daemon, &backend).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_caller_that_resets_between_requests_harms_nobody() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http1", &[backend.address]));
    for _ in 0..50 {
        Raw::connect(daemon.address()).await.reset();
    }
    let mut idle = Raw::connect(daemon.address()).await;
    ask(&mut idle).await;
    idle.reset();
    assert_eq!(client::ask(daemon.address(), Speaks::Http1, get("svc", "/")).await.status, 200);
    daemon.metric_becomes("connections", &[], 0.0).await;
}
