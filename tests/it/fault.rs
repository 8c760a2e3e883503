//! Fault injection: delays and aborts by share and by request, marked wherever anybody may look, switched by reload.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{
    Answer, Backend, Client, Daemon, Process, Speaks, body, call,
    client::{self, was_reset},
    daemon::service,
    eventually, get, within,
};

/// One route `all` that injects `fault`, to a service `echo`; with an access log.
fn config(backend: &Backend, fault: &str, log: &std::path::Path) -> String {
    format!("[access_log]\npath = \"{}\"\n{}", log.display(), without_log(backend, fault, ""))
}

fn without_log(backend: &Backend, fault: &str, keys: &str) -> String {
    format!(
        "[[routes]]\nname = \"all\"\nhosts = [\"*\"]\nbackends = [{{ service = \"echo\" }}]\n\
         fault = {{ {fault} }}\n{keys}\n{}",
        service("echo", "auto", &[backend.address])
    )
}

/// A daemon with faults, and what it logs of its requests.
struct Faulty {
    daemon: Daemon,
    backend: Backend,
    directory: tempfile::TempDir,
}

impl Faulty {
    async fn start(fault: &str) -> Self {
        let backend = Backend::start("echo").await;
        let directory = tempfile::tempdir().unwrap();
        let daemon = Daemon::start(&config(&backend, fault, &directory.path().join("access.log")));
        Self { daemon, backend, directory }
    }

    async fn ask(&self, speaks: Speaks, call: crate::support::Call) -> Answer {
        client::ask(self.daemon.address(), speaks, call).await
    }

    /// The only line of the access log.
    async fn line(&self) -> Value {
        let read = || std::fs::read_to_string(self.directory.path().join("access.log")).unwrap();
        eventually("the line", async || read().ends_with('\n')).await;
        serde_json::from_str(&read()).unwrap()
    }

    async fn injected(&self, kind: &str, count: f64) {
        let labels = [("route", "all"), ("kind", kind)];
        self.daemon.metric_becomes("faults_injected_total", &labels, count).await;
    }
}

/// A gRPC call by hand.
fn grpc_call() -> crate::support::Call {
    call("POST", "svc", "/test.Echo/Unary")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
}

over_both_protocols! {
    async fn an_aborted_request_gets_the_status_and_is_marked_everywhere(speaks: Speaks) {
        let faulty = Faulty::start("abort = 418").await;
        let answer = faulty.ask(speaks, get("svc", "/")).await;
        assert_eq!((answer.status, answer.reason(), answer.header("towpath-fault")), (418, "fault_injected", "abort"));
        let error = &answer.json()["error"];
        assert_eq!((&error["reason"], &error["cause"]), (&"fault_injected".into(), &"abort".into()));
        assert_eq!((&error["route"], &error["service"]), (&"all".into(), &"echo".into()));
        assert_eq!(faulty.backend.requests(), 0);
        let line = faulty.line().await;
        assert_eq!((&line["status"], &line["reason"], &line["fault"]), (&418.into(), &"fault_injected".into(), &"abort".into()));
        faulty.injected("abort", 1.0).await;
        faulty.injected("delay", 0.0).await;
        faulty.daemon.metric_becomes("errors_total", &[("reason", "fault_injected")], 1.0).await;
        faulty.daemon.metric_becomes("requests_total", &[("route", "all"), ("code", "418")], 1.0).await;
        faulty.daemon.metric_becomes("attempts_total", &[("service", "echo")], 0.0).await;
    }
}

over_both_protocols! {
    async fn an_abort_whose_status_has_no_content_has_none(speaks: Speaks) {
        let faulty = Faulty::start("abort = 204").await;
        let mut client = Client::connect(faulty.daemon.address(), speaks).await;
        for _ in 0..2 {
            let answer = client.ask(get("svc", "/")).await;
            assert_eq!((answer.status, answer.reason(), answer.body.len()), (204, "fault_injected", 0));
            assert_eq!(answer.header("content-length"), "");
        }
    }
}

over_both_protocols! {
    async fn a_delayed_request_succeeds_late_and_is_marked(speaks: Speaks) {
        let faulty = Faulty::start("delay = \"150ms\"").await;
        let start = Instant::now();
        let request = call("POST", "svc", "/count").body(body::full("12345"));
        let answer = faulty.ask(speaks, request).await;
        assert!(start.elapsed() >= Duration::from_millis(150), "{:?}", start.elapsed());
        assert_eq!((answer.status, &*answer.text()), (200, "5"));
        assert_eq!((answer.reason(), answer.header("towpath-fault")), ("", "delay"));
        let line = faulty.line().await;
        assert_eq!((&line["status"], &line["reason"], &line["fault"]), (&200.into(), &Value::Null, &"delay".into()));
        assert!(line["duration_ms"].as_f64().unwrap() >= 150.0, "{line}");
        faulty.injected("delay", 1.0).await;
        faulty.daemon.metric_becomes("errors_total", &[], 0.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_can_be_delayed_and_aborted() {
    let faulty = Faulty::start("delay = \"100ms\", delay_max = \"120ms\", abort = 500").await;
    let start = Instant::now();
    let answer = faulty.ask(Speaks::Http1, get("svc", "/")).await;
    assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
    assert_eq!((answer.status, answer.header("towpath-fault")), (500, "delay+abort"));
    assert_eq!(faulty.line().await["fault"], "delay+abort");
    faulty.injected("delay", 1.0).await;
    faulty.injected("abort", 1.0).await;
}

over_both_protocols! {
    /// Also where the caller has a deadline of its own: the earlier one counts.
    async fn a_delay_ends_at_the_deadline(speaks: Speaks) {
        let backend = Backend::start("echo").await;
        let daemon = Daemon::start(&without_log(&backend, "delay = \"1m\"", "timeout = \"100ms\""));
        let start = Instant::now();
        let answer = client::ask(daemon.address(), speaks, get("svc", "/")).await;
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert_eq!((answer.status, answer.reason(), answer.header("towpath-fault")), (504, "timeout", "delay"));
        assert_eq!(answer.json()["error"]["cause"], "timeout");
        assert_eq!(backend.requests(), 0);
        let hurried = client::ask(daemon.address(), speaks, grpc_call().header("grpc-timeout", "20m")).await;
        assert_eq!((hurried.header("grpc-status"), hurried.header("towpath-fault")), ("4", "delay"));
        daemon.metric_becomes("error_causes_total", &[("cause", "caller_deadline")], 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_caller_that_leaves_in_a_delay_ends_it() {
    let faulty = Faulty::start("delay = \"1h\"").await;
    let mut client = Client::connect(faulty.daemon.address(), Speaks::Http1).await;
    let asking = tokio::spawn(async move { client.try_ask(get("svc", "/")).await.is_ok() });
    faulty.injected("delay", 1.0).await;
    asking.abort();
    let line = faulty.line().await;
    assert_eq!((&line["status"], &line["fault"]), (&499.into(), &"delay".into()));
    faulty.daemon.metric_becomes("requests_in_flight", &[("service", "echo")], 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn shares_hold_for_delays_and_aborts_apart() {
    let faulty = Faulty::start("delay = \"1ms\", delay_percent = 50, abort = 503, abort_percent = 25").await;
    let mut client = Client::connect(faulty.daemon.address(), Speaks::Http1).await;
    let mut seen = [0u32; 4];
    for _ in 0..400 {
        let answer = client.ask(get("svc", "/")).await;
        let fault =
            ["", "delay", "abort", "delay+abort"].iter().position(|of| *of == answer.header("towpath-fault"));
        assert_eq!(answer.status, if fault.unwrap() < 2 { 200 } else { 503 });
        seen[fault.unwrap()] += 1;
    }
    // Of 400: 150, 150, 50, 50 on average. The bounds are more than six standard deviations away.
    assert!((90..210).contains(&seen[0]) && (90..210).contains(&seen[1]), "{seen:?}");
    assert!((10..95).contains(&seen[2]) && (10..95).contains(&seen[3]), "{seen:?}");
    faulty.injected("delay", f64::from(seen[1] + seen[3])).await;
    faulty.injected("abort", f64::from(seen[2] + seen[3])).await;
    assert_eq!(faulty.backend.requests(), u64::from(seen[0] + seen[1]));
}

over_both_protocols! {
    async fn only_requests_that_meet_the_match_are_touched(speaks: Speaks) {
        let entries = r#"match = [{ headers = { x-chaos = "on" }, methods = ["GET"] }, { path_prefix = "/bad", query = { q = "1" } }]"#;
        let faulty = Faulty::start(&format!("abort = 503, {entries}")).await;
        let mut client = Client::connect(faulty.daemon.address(), speaks).await;
        for (request, expected) in [
            (get("svc", "/"), 200),
            (get("svc", "/").header("x-chaos", "on"), 503),
            (get("svc", "/").header("x-chaos", "off"), 200),
            (call("PUT", "svc", "/").header("x-chaos", "on"), 200),
            (get("svc", "/bad?q=1"), 503),
            (get("svc", "/bad/x?a=b&q=1"), 503),
            (get("svc", "/bad?q=2"), 200),
            (get("svc", "/badly?q=1"), 200),
        ] {
            assert_eq!(client.ask(request).await.status, expected);
        }
        faulty.injected("abort", 3.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_grpc_caller_gets_the_code_that_stands_for_the_status_or_the_one_that_is_written() {
    for (abort, code, status) in
        [("503", "14", 503), ("404", "12", 404), ("500", "2", 500), ("\"grpc:not-found\"", "5", 503)]
    {
        let faulty = Faulty::start(&format!("abort = {abort}")).await;
        let answer = faulty.ask(Speaks::Http2, grpc_call()).await;
        assert_eq!((answer.status, answer.header("grpc-status")), (200, code), "{abort}");
        assert_eq!((answer.reason(), answer.header("towpath-fault")), ("fault_injected", "abort"));
        assert!(answer.body.is_empty() && answer.trailers.is_none(), "{answer:?}");
        let line = faulty.line().await;
        assert_eq!(
            (&line["grpc_status"], &line["fault"]),
            (&code.parse::<u32>().unwrap().into(), &"abort".into())
        );
        assert_eq!(faulty.ask(Speaks::Http2, get("svc", "/")).await.status, status, "{abort}");
        assert_eq!(faulty.backend.requests(), 0);
    }
}

/// A reset of requests with `x-chaos: on`.
const RESET: &str = "abort = \"reset\", match = [{ headers = { x-chaos = \"on\" } }]";

async fn is_recorded_as_reset(faulty: &Faulty) {
    let line = faulty.line().await;
    assert_eq!((&line["status"], &line["fault"]), (&444.into(), &"reset".into()));
    assert_eq!((&line["reason"], &line["cause"]), (&"fault_injected".into(), &"abort".into()));
    faulty.injected("reset", 1.0).await;
    faulty.daemon.metric_becomes("requests_total", &[("route", "all"), ("code", "444")], 1.0).await;
    faulty.daemon.metric_becomes("errors_total", &[("reason", "fault_injected")], 1.0).await;
    assert_eq!(faulty.backend.requests(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reset_breaks_an_http1_connection_without_an_answer() {
    let faulty = Faulty::start(RESET).await;
    let mut client = Client::connect(faulty.daemon.address(), Speaks::Http1).await;
    let request = call("POST", "svc", "/count").body(body::full("12345")).header("x-chaos", "on");
    let error = within("the reset", client.try_ask(request)).await.unwrap_err();
    assert!(was_reset(&error), "{error:?}");
    is_recorded_as_reset(&faulty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reset_breaks_an_http2_stream_and_leaves_the_others() {
    let faulty = Faulty::start(RESET).await;
    let mut client = Client::connect(faulty.daemon.address(), Speaks::Http2).await;
    let request = get("svc", "/").header("x-chaos", "on");
    let error = within("the reset", client.try_ask(request)).await.unwrap_err();
    let cause =
        std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<h2::Error>()).unwrap();
    // Not REFUSED_STREAM, which callers send again unasked.
    assert_eq!((cause.is_reset(), cause.reason()), (true, Some(h2::Reason::INTERNAL_ERROR)), "{cause:?}");
    is_recorded_as_reset(&faulty).await;
    assert_eq!(client.ask(get("svc", "/")).await.status, 200, "the connection lives");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reload_switches_faults_on_and_off_at_once() {
    let backend = Backend::start("echo").await;
    let with = |fault: &str| without_log(&backend, fault, "");
    let daemon = Daemon::start(&with("abort = 503, abort_percent = 0"));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    for (fault, status) in [("abort = 500", 500), ("", 200), ("delay = \"1ms\", abort = 501", 501)] {
        let toml = if fault.is_empty() { with("").replace("fault = {  }\n", "") } else { with(fault) };
        daemon.reload(Some(&toml)).unwrap();
        assert_eq!(client.ask(get("svc", "/")).await.status, status, "{fault}");
        let state = daemon.admin_get("/api/status").await.json();
        assert_eq!(state["routes_with_faults"], u32::from(status != 200), "{state}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_log_and_the_status_say_that_faults_are_injected() {
    let backend = Backend::start("echo").await;
    let plain = without_log(&backend, "", "").replace("fault = {  }\n", "");
    let process = Process::start(&plain);
    let warned = || process.log().matches("on purpose (fault)").count();
    assert_eq!(warned(), 0, "{}", process.log());
    process.configure(&without_log(&backend, "delay = \"1ms\"", ""));
    process.signal(Signal::HUP);
    eventually("the warning", async || warned() == 1).await;
    let log = process.log();
    let line = log.lines().find(|line| line.contains("on purpose (fault)")).unwrap();
    assert!(line.contains("WARN") && line.contains("all"), "{line}");
    drop(process);
    let process = Process::start(&without_log(&backend, "abort = 503", ""));
    assert!(process.log().contains("on purpose (fault)"), "{}", process.log());
}
