//! The access log: one JSON line per request, whatever became of it; nothing unless it is asked for. Templates, filters and outputs are in
//! `access_log_outputs.rs`.

use std::path::Path;

use serde_json::Value;

use crate::support::{
    Backend, Client, Daemon, Process, Speaks, body, call, client,
    daemon::one_service,
    eventually, get,
    grpc::{self, GrpcServer},
    within,
};

fn logging(path: &Path) -> String {
    format!("[access_log]\npath = \"{}\"\n", path.display())
}

/// A daemon that logs to a file.
struct Logged {
    daemon: Daemon,
    directory: tempfile::TempDir,
}

impl Logged {
    fn start(toml: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let daemon = Daemon::start(&(logging(&directory.path().join("access.log")) + toml));
        Self { daemon, directory }
    }

    fn lines(&self) -> Vec<Value> {
        lines(&std::fs::read_to_string(self.directory.path().join("access.log")).unwrap())
    }

    /// Waits for this many lines, and hands back the last.
    async fn line(&self, count: usize) -> Value {
        eventually("the line", async || self.lines().len() >= count).await;
        let lines = self.lines();
        assert_eq!(lines.len(), count, "one line per request: {lines:?}");
        lines[count - 1].clone()
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// Every field given must have this value.
fn assert_fields(line: &Value, expected: &Value) {
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&line[name], value, "{name} of {line}");
    }
}

over_both_protocols! {
    async fn a_request_that_succeeds_is_one_line(speaks: Speaks) {
        let backend = Backend::start("one").await;
        let logged = Logged::start(&one_service("http1", &[backend.address]));
        let request = call("POST", "svc:8080", "/count?a=%22b").body(body::full("12345")).header("x-request-id", "mine");
        let answer = client::ask(logged.daemon.address(), speaks, request).await;
        assert_eq!(answer.text(), "5");
        let line = logged.line(1).await;
        assert_fields(&line, &serde_json::json!({
            "listener": "outgoing", "method": "POST", "host": "svc:8080", "path": "/count?a=%22b",
            "protocol": if speaks == Speaks::Http1 { "HTTP/1.1" } else { "HTTP/2" },
            "route": "all", "service": "echo", "endpoint": backend.address.to_string(),
            "status": 200, "reason": null, "attempts": 1, "bytes_in": 5, "bytes_out": 1, "request_id": "mine",
        }));
        assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
        assert!(line["duration_ms"].as_f64().unwrap() > 0.0, "{line}");
        let time = line["time"].as_str().unwrap();
        assert!(time.len() == 24 && time.starts_with("20") && time.ends_with('Z'), "{time}");
        assert!(line.get("grpc_status").is_none(), "{line}");
        let timings = ["routed", "admitted", "sent", "head", "answered"];
        let timings = timings.map(|phase| line["timings_ms"][phase].as_f64().unwrap_or_else(|| panic!("{phase}: {line}")));
        assert!(timings.is_sorted(), "{line}");
        assert!(timings[4] <= line["duration_ms"].as_f64().unwrap(), "{line}");
        for (id, length) in [("trace_id", 32), ("span_id", 16)] {
            let id = line[id].as_str().unwrap_or_else(|| panic!("{id}: {line}"));
            assert!(id.len() == length && id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{line}");
        }
    }
}

over_both_protocols! {
    async fn a_request_that_towpath_answers_has_the_reason(speaks: Speaks) {
        let nobody = crate::support::ports::reserved();
        let logged = Logged::start(&one_service("http1", &[nobody]).replace("\"*\"", "\"svc\""));
        let mut client = Client::connect(logged.daemon.address(), speaks).await;
        client.ask(get("svc", "/")).await;
        let line = logged.line(1).await;
        assert_fields(&line, &serde_json::json!({
            "route": "all", "service": "echo", "endpoint": nobody.to_string(),
            "status": 502, "reason": "connect_failed", "attempts": 1,
        }));
        let answer = client.ask(get("other", "/x")).await;
        let line = logged.line(2).await;
        assert_fields(&line, &serde_json::json!({
            "host": "other", "path": "/x", "route": null, "service": null, "endpoint": null,
            "status": 404, "reason": "no_route", "attempts": 0, "bytes_out": answer.body.len(),
        }));
        assert_eq!(line["request_id"], answer.json()["error"]["request_id"], "the line is found by the answer's id");
    }
}

over_both_protocols! {
    async fn a_servers_own_failure_has_its_status_and_no_reason(speaks: Speaks) {
        let backend = Backend::start("one").await;
        let logged = Logged::start(&one_service("http1", &[backend.address]));
        client::ask(logged.daemon.address(), speaks, get("svc", "/status/503")).await;
        assert_fields(&logged.line(1).await, &serde_json::json!({ "status": 503, "reason": null }));
    }
}

over_both_protocols! {
    async fn a_caller_that_goes_away_is_499(speaks: Speaks) {
        let backend = Backend::start("one").await;
        let logged = Logged::start(&one_service("http1", &[backend.address]));
        let address = logged.daemon.address();
        let asking = tokio::spawn(async move { Client::connect(address, speaks).await.try_ask(get("svc", "/hang")).await });
        eventually("it hangs", async || backend.running() == 1).await;
        asking.abort();
        let line = logged.line(1).await;
        assert_fields(&line, &serde_json::json!({ "status": 499, "service": "echo", "attempts": 1 }));
        assert!(logged.daemon.metric("requests_total", &[("code", "499")]).await > 0.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_grpc_call_has_its_grpc_status_whoever_gave_it() {
    let server = GrpcServer::start().await;
    let logged = Logged::start(
        &one_service("http2", &[server.address])
            .replace("hosts =", "match = [{ path_regex = \".*/(Unary|Fail)\" }]\nhosts ="),
    );
    let mut grpc = grpc::connect(logged.daemon.address(), "svc").await;
    let cases = [("Unary", 0), ("Fail", 9)];
    for (number, (method, status)) in cases.into_iter().enumerate() {
        grpc.ready().await.unwrap();
        let request = tonic::Request::new(bytes::Bytes::from_static(b"hi"));
        let _ = within("the call", grpc.unary(request, grpc::method(method), grpc::Plain)).await;
        let line = logged.line(number + 1).await;
        assert_fields(&line, &serde_json::json!({ "status": 200, "grpc_status": status, "reason": null }));
    }
    grpc.ready().await.unwrap();
    let request = tonic::Request::new(bytes::Bytes::new());
    assert!(grpc.unary(request, grpc::method("Lost"), grpc::Plain).await.is_err());
    let line = logged.line(3).await;
    assert_fields(&line, &serde_json::json!({ "reason": "no_route", "grpc_status": 12 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_callers_send_cannot_break_a_line() {
    let backend = Backend::start("one").await;
    let logged = Logged::start(&one_service("http1", &[backend.address]));
    let mut client = crate::support::Raw::connect(logged.daemon.address()).await;
    client.send("GET /a\"b\\c HTTP/1.1\r\nhost: svc\r\nx-request-id: \"},{\"\r\n\r\n").await;
    assert_eq!(client.read_response().await.status, 200);
    let line = logged.line(1).await;
    assert_fields(&line, &serde_json::json!({ "path": "/a\"b\\c", "request_id": "\"},{\"" }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_log_that_a_reload_turns_on_and_off_has_the_requests_between() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let backend = Backend::start("one").await;
    let toml = one_service("http1", &[backend.address]);
    let daemon = Daemon::start(&toml);
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    client.ask(get("svc", "/before")).await;
    daemon.reload(Some(&(logging(&path) + &toml))).unwrap();
    client.ask(get("svc", "/between")).await;
    daemon.reload(Some(&toml)).unwrap();
    client.ask(get("svc", "/after")).await;
    daemon.join();
    let lines = lines(&std::fs::read_to_string(&path).unwrap());
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["path"], "/between");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn standard_output_is_silent_unless_the_log_goes_there_and_no_line_is_lost_at_the_end() {
    let backend = Backend::start("one").await;
    let toml = one_service("http1", &[backend.address]);
    for (section, count) in [("", 0), ("[access_log]\npath = \"stdout\"\n", 200)] {
        let mut process = Process::start(&format!("{section}{toml}"));
        let mut client = Client::connect(process.address().await, Speaks::Http1).await;
        for _ in 0..200 {
            assert_eq!(client.ask(get("svc", "/")).await.status, 200);
        }
        process.signal(rustix::process::Signal::TERM);
        assert_eq!(process.ends().await.code(), Some(0));
        eventually("all its lines", async || lines(&process.out()).len() == count).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_cannot_be_read_as_a_request_is_one_line_as_well() {
    let logged = Logged::start(&one_service("http1", &["127.0.0.1:9".parse().unwrap()]));
    let large = format!("GET / HTTP/1.1\r\nhost: svc\r\nx: {}\r\n\r\n", "x".repeat(100_000));
    let cases = [
        ("GET / HTTP/1.1\r\nhost : svc\r\n\r\n", 400, "bad_request"),
        ("nonsense\r\n\r\n", 400, "bad_request"),
        (&large, 431, "headers_too_large"),
    ];
    for (number, (bytes, status, reason)) in cases.into_iter().enumerate() {
        let mut client = crate::support::Raw::connect(logged.daemon.address()).await;
        let _ = client.try_send(bytes).await;
        let response = client.read_response().await;
        assert_eq!((response.status, response.reason().as_str()), (status, reason));
        let line = logged.line(number + 1).await;
        assert_fields(
            &line,
            &serde_json::json!({ "listener": "outgoing", "status": status, "reason": reason }),
        );
        assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
        let id = &response.json()["error"]["request_id"];
        assert!(id.as_str().is_some_and(|id| !id.is_empty()), "{}", response.text());
        assert_eq!(&line["request_id"], id, "the line is found by the answer's id");
    }
}

#[test]
fn the_example_of_the_contract_loads_as_it_is_written() {
    use towpath::config::{LogFormat, LogPath, RecordFilter, StatusRange, parse};
    let text = r#"
[access_log]
path   = "/var/log/towpath/access.log"  # or "stdout"
format = "json"                         # json | a template
only   = { status = ["5xx"], slower_than = "250ms", sample = 100 }
[[listeners]]
name = "outgoing"
kind = "outgoing"
listen = "127.0.0.1:4140"
"#;
    let log = parse(text, Path::new("/etc/towpath/towpath.toml")).unwrap().access_log.unwrap();
    assert_eq!(
        (log.path, log.format),
        (LogPath::File("/var/log/towpath/access.log".into()), LogFormat::Json)
    );
    let status = vec![StatusRange { first: 500, last: 599 }];
    let slower_than = Some(std::time::Duration::from_millis(250));
    assert_eq!(log.only, RecordFilter { status, slower_than, ..RecordFilter::default() });
}
