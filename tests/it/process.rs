//! The program as a process: signals, exit codes, the end of its file descriptors, its sockets' files.

use std::{
    net::SocketAddr,
    os::unix::fs::FileTypeExt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tokio::{net::TcpStream, task::JoinSet};

use crate::support::{
    Backend, Client, Process, Raw, Speaks, call, client,
    daemon::{one_service, sum_of_series},
    eventually, get,
    load::until_refused,
    process::refused,
    within,
};

async fn started() -> (Process, Backend) {
    let backend = Backend::start("one").await;
    let toml = format!("[drain]\ntimeout = \"20s\"\n{}", one_service("http1", &[backend.address]));
    (Process::start(&toml), backend)
}

async fn last_reload(process: &Process) -> (String, u64) {
    let status = process.admin_get("/api/status").await.json();
    (status["last_reload"]["result"].as_str().unwrap().to_owned(), status["generation"].as_u64().unwrap())
}

async fn reloads_to(process: &Process, result: &str, generation: u64) {
    process.signal(Signal::HUP);
    let wanted = (result.to_owned(), generation);
    eventually(result, async || last_reload(process).await == wanted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sighup_applies_a_changed_file_and_refuses_a_broken_one() {
    let (process, one) = started().await;
    let two = Backend::start("two").await;
    let mut client = Client::connect(process.address().await, Speaks::Http1).await;
    assert_eq!(client.ask(get("svc", "/")).await.backend(), "one");
    let changed = |backend: &Backend| {
        let drain = "[drain]\ntimeout = \"20s\"\n";
        format!("{drain}{}", one_service("http1", &[backend.address]))
    };
    process.configure(&changed(&two));
    reloads_to(&process, "applied", 2).await;
    assert_eq!(client.ask(get("svc", "/")).await.backend(), "two", "the connection obeys the new routes");
    process.configure(&changed(&one).replace("hosts", "hots"));
    reloads_to(&process, "rejected", 2).await;
    assert_eq!(client.ask(get("svc", "/")).await.backend(), "two", "the old generation stays");
    assert!(process.metric("config_last_reload_success", &[]).await.abs() < f64::EPSILON);
    let place = format!("{}:", process.config().display());
    eventually("the log says where", async || {
        let log = process.log();
        log.contains(&place) && log.contains("hots") && log.contains("hosts")
    })
    .await;
    std::fs::remove_file(process.config()).unwrap();
    reloads_to(&process, "rejected", 2).await;
    process.configure(&changed(&two));
    reloads_to(&process, "unchanged", 2).await;
    process.configure(&changed(&one));
    reloads_to(&process, "applied", 3).await;
    assert_eq!(client.ask(get("svc", "/")).await.backend(), "one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sigterm_and_sigint_let_a_running_request_finish_and_exit_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let (mut process, backend) = started().await;
        let address = process.address().await;
        let asking = tokio::spawn(client::ask(address, Speaks::Http1, get("svc", "/slow?ms=700")));
        eventually("it runs", async || backend.running() == 1).await;
        process.signal(signal);
        eventually("not ready", async || process.admin_get("/ready").await.status == 503).await;
        eventually("connections are refused", async || TcpStream::connect(address).await.is_err()).await;
        let answer = within("the answer", asking).await.unwrap();
        assert_eq!((answer.status, answer.backend()), (200, "one"));
        assert_eq!(process.ends().await.code(), Some(0), "{}", process.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_second_sigterm_exits_at_once() {
    let (mut process, backend) = started().await;
    let address = process.address().await;
    let asking = tokio::spawn(async move {
        Client::connect(address, Speaks::Http2).await.try_ask(get("svc", "/hang")).await
    });
    eventually("it runs", async || backend.running() == 1).await;
    process.signal(Signal::TERM);
    eventually("not ready", async || process.admin_get("/ready").await.status == 503).await;
    let start = Instant::now();
    process.signal(Signal::TERM);
    let code = process.ends().await.code();
    assert_eq!(code, Some(1), "not 0: requests were cut off");
    assert!(start.elapsed() < Duration::from_secs(8), "the drain would take 20 s: {:?}", start.elapsed());
    assert!(within("the end", asking).await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_sighup_while_draining_neither_reloads_nor_harms() {
    let (mut process, backend) = started().await;
    let address = process.address().await;
    let asking = tokio::spawn(client::ask(address, Speaks::Http2, get("svc", "/slow?ms=700")));
    eventually("it runs", async || backend.running() == 1).await;
    process.signal(Signal::TERM);
    eventually("not ready", async || process.admin_get("/ready").await.status == 503).await;
    process.signal(Signal::HUP);
    assert_eq!(within("the answer", asking).await.unwrap().status, 200);
    assert_eq!(process.ends().await.code(), Some(0));
}

#[test]
fn what_cannot_be_parsed_exits_2_with_every_place() {
    let (code, text) =
        refused("[[routes]]\nname = \"a\"\nhots = [\"x\"]\nbackends = [{ service = \"nobody\" }]\n");
    assert_eq!(code, Some(2), "{text}");
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("towpath.toml:")).collect();
    assert!(lines.len() >= 2, "each problem has its place: {text}");
    for line in &lines {
        let (_, place) = line.split_once("towpath.toml:").unwrap();
        let mut parts = place.splitn(3, ':');
        let mut number = || parts.next().unwrap().parse::<u32>();
        assert!(number().is_ok() && number().is_ok(), "FILE:LINE:COL: {line}");
    }
    assert!(text.contains("hots") && text.contains("hosts") && text.contains("nobody"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_cannot_be_bound_exits_2_and_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let routes = one_service("http1", &[address]);
    let listener = "[[listeners]]\nname = \"x\"\nkind = \"outgoing\"\n";
    let cases = [
        (format!("[admin]\nlisten = \"{address}\"\n"), address.to_string()),
        (format!("{listener}listen = \"{address}\"\n"), address.to_string()),
        (format!("{listener}listen = \"unix:/nowhere/towpath.sock\"\n"), "/nowhere/towpath.sock".to_owned()),
    ];
    for (toml, named) in cases {
        let (code, text) = refused(&(toml + &routes));
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(&named), "{named} not in {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_file_descriptors_it_waits_and_counts_and_serves_again_when_there_are_some() {
    let backend = Backend::start("one").await;
    let toml = format!("[node]\nworkers = 1\n{}", one_service("http1", &[backend.address]));
    let process = Process::with_descriptors(&toml, 64);
    let address = process.address().await;
    let mut admin = process.admin().await;
    let mut served = Raw::connect(address).await;
    served.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
    assert_eq!(served.read_response().await.status, 200);
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(TcpStream::connect(address).await.unwrap());
    }
    eventually("it runs out", async || {
        let text = admin.ask(call("GET", "localhost", "/metrics")).await.text();
        sum_of_series(&text, "towpath_accept_errors_total", &[]) > 0.0
    })
    .await;
    served.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
    assert_eq!(served.read_response().await.status, 200, "the connections that it has are served");
    drop(crowd);
    let answer = client::ask(address, Speaks::Http1, get("svc", "/")).await;
    assert_eq!((answer.status, answer.backend()), (200, "one"));
    eventually("the crowd is gone", async || process.metric("connections", &[]).await < 3.0).await;
    let before = process.metric("accept_errors_total", &[]).await;
    for speaks in [Speaks::Http1, Speaks::Http2] {
        assert_eq!(client::ask(address, speaks, get("svc", "/")).await.status, 200);
    }
    let after = process.metric("accept_errors_total", &[]).await;
    assert!((after - before).abs() < f64::EPSILON, "it still cannot accept");
    assert!(before < 1000.0, "{before} errors: it did not pause between them");
}

/// As [`until_refused`], by hand: a caller that keeps its one connection until an answer tells it not to.
async fn load_by_hand(address: SocketAddr, done: Arc<AtomicU64>) {
    let mut client = Raw::connect(address).await;
    loop {
        client.send("POST /count HTTP/1.1\r\nhost: svc\r\ncontent-length: 5\r\n\r\nhello").await;
        let response = client.read_response().await;
        assert_eq!((response.status, response.text().as_str()), (200, "5"));
        done.fetch_add(1, Ordering::Relaxed);
        if response.head.field("connection") == "close" {
            return client.closes().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_fails_no_request() {
    for protocol in ["http1", "http2"] {
        let backend = Backend::start("one").await;
        let toml = format!("[drain]\ntimeout = \"20s\"\n{}", one_service(protocol, &[backend.address]));
        let mut process = Process::start(&toml);
        let address = process.address().await;
        let done = Arc::new(AtomicU64::new(0));
        let mut loads = JoinSet::new();
        for _ in 0..6 {
            for speaks in [Speaks::Http1, Speaks::Http2] {
                loads.spawn(until_refused(address, speaks, "/slow?ms=3", done.clone()));
            }
        }
        for _ in 0..4 {
            loads.spawn(load_by_hand(address, done.clone()));
        }
        eventually("the load runs", async || done.load(Ordering::Relaxed) > 500).await;
        process.signal(Signal::TERM);
        while let Some(outcome) = within("the loads end", loads.join_next()).await {
            outcome.unwrap();
        }
        assert_eq!(process.ends().await.code(), Some(0), "{}", process.log());
        assert_eq!(backend.requests(), done.load(Ordering::Relaxed), "what the server saw was answered");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_unix_sockets_file_is_there_while_it_runs_and_gone_after_and_a_killed_ones_is_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("towpath.sock");
    let backend = Backend::start("one").await;
    let listener = format!(
        "[[listeners]]\nname = \"unix\"\nkind = \"outgoing\"\nlisten = \"unix:{}\"\n",
        path.display()
    );
    let toml = listener + &one_service("http1", &[backend.address]);
    let asked = async || {
        let stream = within("connect", tokio::net::UnixStream::connect(&path)).await.unwrap();
        Client::over(stream, Speaks::Http1).await.ask(get("svc", "/")).await.status
    };
    let mut killed = Process::start(&toml);
    assert_eq!(asked().await, 200);
    killed.signal(Signal::KILL);
    killed.ends().await;
    assert!(path.exists(), "nobody could clean up");
    let mut process = Process::start(&toml);
    assert!(std::fs::metadata(&path).unwrap().file_type().is_socket());
    assert_eq!(asked().await, 200);
    process.signal(Signal::TERM);
    assert_eq!(process.ends().await.code(), Some(0));
    assert!(!path.exists(), "the socket's file is left behind");
}

#[test]
fn everything_that_cannot_be_opened_is_said_at_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = taken.local_addr().unwrap().to_string();
    let missing = tempfile::tempdir().unwrap();
    let missing = missing.path().join("missing");
    let (socket, log) = (missing.join("towpath.sock"), missing.join("access.log"));
    let (socket, log) = (socket.display().to_string(), log.display().to_string());
    let toml = format!(
        "[admin]\nlisten = \"{admin}\"\n[access_log]\npath = \"{log}\"\n\
         [[listeners]]\nname = \"unix\"\nkind = \"outgoing\"\nlisten = \"unix:{socket}\"\n{}",
        one_service("http1", &["127.0.0.1:9".parse().unwrap()])
    );
    let (code, said) = refused(&toml);
    assert_eq!(code, Some(2), "{said}");
    for what in [admin, socket, log] {
        let lines = said.lines().filter(|line| line.contains(&what)).count();
        assert_eq!(lines, 1, "one line about {what} in:\n{said}");
    }
}
