//! `/api/tap` and `towpath tap`: requests as they happen.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use serde_json::Value;

use crate::support::{
    Backend, Client, Daemon, Raw, Speaks, client, daemon::one_service, eventually, get, within,
};

/// Somebody who looks on.
struct Looker(Raw);

impl Looker {
    async fn start(daemon: &Daemon, query: &str) -> Self {
        let mut raw = Raw::connect(daemon.admin()).await;
        raw.send(format!("GET /api/tap?{query} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
        let head = raw.read_head().await;
        assert!(head.first.contains(" 200 "), "{head:?}");
        assert_eq!(head.field("content-type"), "text/event-stream");
        raw.read_until(": requests from now on\n\n").await;
        Self(raw)
    }

    /// The next request that is shown.
    async fn next(&mut self) -> Value {
        self.0.read_until("data: ").await;
        let line = self.0.read_until("\n\n").await;
        serde_json::from_str(line.trim_end()).unwrap_or_else(|error| panic!("{error}: {line}"))
    }
}

async fn wrong(daemon: &Daemon, query: &str) -> (u16, String) {
    let answer = daemon.admin_get(&format!("/api/tap?{query}")).await;
    (answer.status, answer.json()["error"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_looks_on_sees_each_request_as_the_access_log_writes_it_whatever_its_format() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("access.log");
    let backend = Backend::start("one").await;
    let section = format!("[access_log]\npath = \"{}\"\nformat = \"{{path}}\"\n", log.display());
    let daemon = Daemon::start(&(section + &one_service("http1", &[backend.address])));
    let mut looker = Looker::start(&daemon, "").await;
    client::ask(daemon.address(), Speaks::Http1, get("svc", "/a")).await;
    let record = looker.next().await;
    assert_eq!(
        (&record["path"], &record["status"], &record["service"]),
        (&"/a".into(), &200.into(), &"echo".into())
    );
    assert_eq!(record["endpoint"], backend.address.to_string());
    assert!(record["timings_ms"]["head"].as_f64().unwrap() > 0.0, "{record}");
    daemon.metric_becomes("tap_events_total", &[("result", "sent")], 1.0).await;
    eventually("the log", async || std::fs::read_to_string(&log).unwrap() == "/a\n").await;
    assert_eq!(daemon.admin_get("/api/status").await.json()["taps"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn filters_choose_and_who_leaves_is_forgotten() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http1", &[backend.address]));
    let mut failed = Looker::start(&daemon, "status=5xx&route=all&service=e*&caller=unknown").await;
    let nothing = Looker::start(&daemon, "route=other").await;
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    client.ask(get("svc", "/")).await;
    client.ask(get("svc", "/status/503")).await;
    assert_eq!(failed.next().await["status"], 503);
    daemon.metric_becomes("tap_events_total", &[], 1.0).await;
    drop((failed, nothing));
    let taps = async || daemon.admin_get("/api/status").await.json()["taps"] == 0;
    eventually("nobody looks on", taps).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_asked_wrongly_is_told_and_no_more_than_eight_look_on() {
    let daemon = Daemon::start(&one_service("http1", &["127.0.0.1:9".parse().unwrap()]));
    for (query, said) in [
        ("status=5x", "\"5x\" is no status"),
        ("rate=1001", "\"1001\" is no rate"),
        ("who=me", "there is no parameter \"who\""),
    ] {
        let (status, error) = wrong(&daemon, query).await;
        assert!(
            status == 400 && error.starts_with(said) && error.contains("allowed are route"),
            "{status} {error}"
        );
    }
    let mut lookers = Vec::new();
    for _ in 0..8 {
        lookers.push(Looker::start(&daemon, "").await);
    }
    assert_eq!(wrong(&daemon, "").await.0, 503);
    lookers.pop();
    eventually("a place is free", async || daemon.admin_get("/api/status").await.json()["taps"] == 7).await;
    Looker::start(&daemon, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn beyond_the_rate_requests_are_dropped_and_told() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http1", &[backend.address]));
    let mut looker = Looker::start(&daemon, "rate=1").await;
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    for _ in 0..20 {
        client.ask(get("svc", "/")).await;
    }
    looker.0.read_until(": dropped ").await;
    let dropped = daemon.metric("tap_events_total", &[("result", "dropped")]).await;
    let sent = daemon.metric("tap_events_total", &[("result", "sent")]).await;
    assert!(dropped > 0.0 && sent > 0.0 && dropped + sent == 20.0, "{dropped} {sent}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_drain_ends_it() {
    let daemon = Daemon::start(&one_service("http1", &["127.0.0.1:9".parse().unwrap()]));
    let mut looker = Looker::start(&daemon, "").await;
    daemon.drain();
    looker.0.read_until("0\r\n\r\n").await;
}

/// The command, and the lines that it prints.
fn command(daemon: &Daemon, arguments: &[&str]) -> (Child, mpsc::Receiver<String>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_towpath"))
        .args(["tap", "--admin", &format!("http://{}", daemon.admin())])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (line, lines) = mpsc::channel();
    let out = BufReader::new(child.stdout.take().unwrap());
    thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|text| line.send(text)));
    (child, lines)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_command_shows_requests_until_the_daemon_drains() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http1", &[backend.address]));
    let (mut people, for_people) = command(&daemon, &["--status", "5xx"]);
    let (mut program, for_programs) = command(&daemon, &["--service", "echo", "--json"]);
    eventually("both look on", async || daemon.admin_get("/api/status").await.json()["taps"] == 2).await;
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    client.ask(get("svc", "/")).await;
    client.ask(get("svc", "/status/503")).await;
    let lines = async |of: &mpsc::Receiver<String>| {
        let mut line = None;
        eventually("a line", async || {
            line = line.take().or_else(|| of.try_recv().ok());
            line.is_some()
        })
        .await;
        line.unwrap()
    };
    let line = lines(&for_people).await;
    assert!(line.contains(" unknown GET svc/status/503 503 ") && !line.contains('\x1b'), "{line}");
    let record: Value = serde_json::from_str(&lines(&for_programs).await).unwrap();
    assert_eq!(record["path"], "/");
    daemon.drain();
    for child in [&mut people, &mut program] {
        let ended = within("its end", async { tokio::task::block_in_place(|| child.wait()) });
        assert_eq!(ended.await.unwrap().code(), Some(0));
        let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
        assert_eq!(said, "no more requests are shown: the node drains\n");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_command_says_what_was_asked_wrongly() {
    let daemon = Daemon::start(&one_service("http1", &["127.0.0.1:9".parse().unwrap()]));
    let (child, _) = command(&daemon, &["--status", "5x"]);
    let output = tokio::task::block_in_place(|| child.wait_with_output()).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(1) && said.starts_with("\"5x\" is no status; allowed are"),
        "{said}"
    );
}
