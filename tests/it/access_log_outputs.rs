//! The access log: templates, filters, rotation, sockets, and outputs that fail or are slow.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::net::{UnixDatagram, UnixListener},
    path::Path,
    time::{Duration, Instant},
};

use crate::support::{
    Backend, Client, Daemon, Process, Speaks, call, client, daemon::one_service, eventually, get,
};

const USR1: rustix::process::Signal = rustix::process::Signal::USR1;

fn logging(path: &Path, more: &str) -> String {
    format!("[access_log]\npath = \"{}\"\n{more}\n", path.display())
}

fn count(path: &Path) -> usize {
    fs::read_to_string(path).unwrap_or_default().lines().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_template_is_a_line_per_request_that_no_caller_can_break() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let backend = Backend::start("one").await;
    let template = r#"format = '{caller} {method} {host}{path} {status} {endpoint} "{request_id}" {reason}{reason?} {{'"#;
    let daemon = Daemon::start(&(logging(&path, template) + &one_service("http1", &[backend.address])));
    let request = get("svc", "/a\"b").header("x-request-id", "x\"\\y");
    client::ask(daemon.address(), Speaks::Http1, request).await;
    eventually("the line", async || count(&path) == 1).await;
    let expected = format!("unknown GET svc/a\\\"b 200 {} \"x\\\"\\\\y\" - {{\n", backend.address);
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn only_requests_for_which_all_that_is_written_holds_have_a_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let backend = Backend::start("one").await;
    let only = r#"only = { status = ["5xx"], slower_than = "50ms", services = ["ec*"], sample = 100 }"#;
    let daemon = Daemon::start(&(logging(&path, only) + &one_service("http1", &[backend.address])));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    client.ask(get("svc", "/status/503")).await;
    backend.answer_after(Duration::from_millis(60));
    client.ask(get("svc", "/")).await;
    client.ask(get("svc", "/status/503")).await;
    daemon.join();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(line["status"] == 503 && line["duration_ms"].as_f64().unwrap() > 50.0, "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_rename_and_sigusr1_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let [path, rotated] = ["access.log", "access.log.1"].map(|name| directory.path().join(name));
    let backend = Backend::start("one").await;
    let process = Process::start(&(logging(&path, "") + &one_service("http1", &[backend.address])));
    let mut client = Client::connect(process.address().await, Speaks::Http1).await;
    for number in 0..300 {
        assert_eq!(client.ask(get("svc", "/")).await.status, 200);
        if number == 100 {
            eventually("the first lines", async || count(&path) > 0).await;
            fs::rename(&path, &rotated).unwrap();
            process.signal(USR1);
        } else if number == 200 {
            eventually("the new file", async || path.exists()).await;
        }
    }
    eventually("all lines", async || count(&path) + count(&rotated) == 300).await;
    assert!(count(&path) > 0 && count(&rotated) > 0);
    assert_eq!(process.log().matches("was opened again").count(), 1, "{}", process.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sigusr1_without_an_access_log_changes_nothing() {
    let backend = Backend::start("one").await;
    let process = Process::start(&one_service("http1", &[backend.address]));
    process.signal(USR1);
    eventually("it says so", async || process.log().contains("SIGUSR1")).await;
    assert_eq!(client::ask(process.address().await, Speaks::Http1, get("svc", "/")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn each_request_is_a_datagram_to_a_socket_that_may_come_later() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.sock");
    let backend = Backend::start("one").await;
    let section = format!("[access_log]\npath = \"unix:{}\"\nformat = \"{{path}}\"\n", path.display());
    let daemon = Daemon::start(&(section + &one_service("http1", &[backend.address])));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    client.ask(get("svc", "/lost")).await;
    daemon.metric_becomes("access_log_dropped_total", &[], 1.0).await;
    let status = daemon.admin_get("/api/status").await.json();
    assert_eq!(status["access_log"]["state"], "failing", "{status}");
    assert_eq!(status["access_log"]["dropped"], 1, "{status}");
    let listener = UnixDatagram::bind(&path).unwrap();
    listener.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for number in 0..3 {
        client.ask(get("svc", &format!("/{number}"))).await;
        let mut buffer = [0; 100];
        let length = tokio::task::block_in_place(|| listener.recv(&mut buffer)).unwrap();
        assert_eq!(buffer[..length], *format!("/{number}\n").as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stream_is_connected_again_when_its_listener_was_started_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.sock");
    let backend = Backend::start("one").await;
    let section = format!("[access_log]\npath = \"unix:{}\"\nformat = \"{{path}}\"\n", path.display());
    let daemon = Daemon::start(&(section + &one_service("http1", &[backend.address])));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    for number in 0..2 {
        let listener = UnixListener::bind(&path).unwrap();
        client.ask(get("svc", &format!("/{number}"))).await;
        let mut line = String::new();
        tokio::task::block_in_place(|| {
            let (stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            BufReader::new(stream).read_line(&mut line).unwrap();
        });
        assert_eq!(line, format!("/{number}\n"));
        fs::remove_file(&path).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_full_disk_and_a_reader_that_is_stuck_slow_no_request() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.sock");
    let _nobody_reads = UnixListener::bind(&path).unwrap();
    let backend = Backend::start("one").await;
    for output in ["/dev/full".to_owned(), format!("unix:{}", path.display())] {
        let section = format!("[access_log]\npath = \"{output}\"\n");
        let process = Process::start(&(section + &one_service("http1", &[backend.address])));
        let mut client = Client::connect(process.address().await, Speaks::Http1).await;
        // More than the buffers of a socket take.
        let long = format!("/{}", "x".repeat(8000));
        let mut slow = 0;
        for _ in 0..200 {
            let start = Instant::now();
            assert_eq!(client.ask(call("GET", "svc", &long)).await.status, 200);
            // The writer waits a second for the reader, again and again.
            slow += usize::from(start.elapsed() > Duration::from_millis(900));
        }
        assert!(slow <= 2, "{output}: {slow} were slow, more than a busy machine explains");
        eventually("drops are counted", async || process.metric("access_log_dropped_total", &[]).await > 0.0)
            .await;
        let said = "cannot write the access log";
        assert_eq!(process.log().matches(said).count(), 1, "{}", process.log());
    }
}
