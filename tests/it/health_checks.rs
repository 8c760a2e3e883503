//! Active health checks: what they ask, what their results do, and what becomes of them in a reload.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::net::TcpListener;

use crate::support::{
    Answer, Backend, Client, Daemon, Process, Speaks,
    daemon::{one_service, service},
    eventually, get,
    grpc::GrpcServer,
    health::{GrpcHealth, HealthServer},
};

/// Round robin over these, checked as `check` says.
fn toml(protocol: &str, addresses: &[SocketAddr], check: &str) -> String {
    format!("{}balancer = \"round-robin\"\nhealth_check = {{ {check} }}\n", one_service(protocol, addresses))
}

/// Probed often.
const OFTEN: &str = "http = \"/healthz\", interval = \"30ms\"";
/// Probed once, as far as a test is concerned.
const ONCE: &str = "http = \"/healthz\", interval = \"100h\"";

async fn ask(daemon: &Daemon, count: usize) -> Vec<Answer> {
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let mut answers = Vec::new();
    for _ in 0..count {
        answers.push(client.ask(get("svc", "/")).await);
    }
    answers
}

/// An endpoint as `/api/services` shows it.
async fn state(daemon: &Daemon, endpoint: SocketAddr) -> Value {
    let services = daemon.admin_get("/api/services").await.json();
    let services = services["services"].as_array().unwrap().clone();
    let mut endpoints = services.iter().flat_map(|service| service["endpoints"].as_array().unwrap());
    let found = endpoints.find(|one| one["address"] == endpoint.to_string());
    found.unwrap_or_else(|| panic!("no {endpoint} in {services:?}")).clone()
}

/// Waits until the endpoint's checks say this; returns what the last probe saw.
async fn becomes(daemon: &Daemon, endpoint: SocketAddr, status: &str) -> String {
    let mut last = String::new();
    eventually(&format!("{endpoint} is {status}"), async || {
        let check = state(daemon, endpoint).await["health_check"].clone();
        last = check["last"].as_str().unwrap_or_default().to_owned();
        check["status"] == status
    })
    .await;
    last
}

async fn available(daemon: &Daemon, endpoint: SocketAddr, available: bool) {
    let labels = [("service", "echo"), ("endpoint", &*endpoint.to_string())];
    daemon.metric_becomes("endpoint_available", &labels, f64::from(u8::from(available))).await;
}

/// Waits until so many probes had this result.
async fn probes(daemon: &Daemon, result: &str, count: f64) {
    eventually(&format!("{count} probes: {result}"), async || {
        daemon.metric("health_checks_total", &[("service", "echo"), ("result", result)]).await >= count
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_endpoint_whose_checks_fail_gets_no_request_until_they_pass() {
    let (good, bad) = (HealthServer::start().await, HealthServer::start().await);
    bad.answers(503);
    let daemon = Daemon::start(&toml("http1", &[good.address, bad.address], OFTEN));
    assert_eq!(becomes(&daemon, bad.address, "unhealthy").await, "HTTP 503");
    becomes(&daemon, good.address, "healthy").await;
    available(&daemon, bad.address, false).await;
    let before = bad.requests();
    assert!(ask(&daemon, 20).await.iter().all(|answer| answer.status == 200));
    assert_eq!(bad.requests(), before);
    let endpoint = state(&daemon, bad.address).await;
    assert_eq!((&endpoint["state"], &endpoint["ejected_since"]), (&"unhealthy".into(), &Value::Null));
    assert!(endpoint["health_check"]["in_a_row"].as_u64().unwrap() >= 1);
    assert!(endpoint["health_check"]["last_seconds_ago"].as_f64().unwrap() < 5.0);
    probes(&daemon, "fail", 3.0).await;
    bad.answers(200);
    becomes(&daemon, bad.address, "healthy").await;
    available(&daemon, bad.address, true).await;
    ask(&daemon, 20).await;
    assert!(bad.requests() >= 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn probes_say_who_they_are_and_count_as_no_requests() {
    let server = HealthServer::start().await;
    let check = "http = \"/healthz?full=1\", interval = \"30ms\"";
    let daemon = Daemon::start(&toml("auto", &[server.address], check));
    probes(&daemon, "pass", 3.0).await;
    let agent = concat!("towpath-health/", env!("CARGO_PKG_VERSION"));
    assert_eq!(server.last_probe(), format!("GET /healthz?full=1 {} {agent}", server.address));
    for metric in ["requests_total", "attempts_total", "endpoint_requests_total", "upstream_connections"] {
        assert!(daemon.metric(metric, &[]).await < 0.5, "{metric}");
    }
    daemon.reload(Some(&toml("auto", &[server.address], &format!("{check}, host = \"h.test\"")))).unwrap();
    eventually("the host is another", async || server.last_probe().contains(" h.test ")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_service_of_http2_is_probed_by_http2() {
    let server = HealthServer::http2().await;
    let daemon = Daemon::start(&toml("http2", &[server.address], OFTEN));
    assert_eq!(becomes(&daemon, server.address, "healthy").await, "HTTP 200");
    assert!(server.last_probe().starts_with(&format!("GET /healthz {} towpath", server.address)));
    server.answers(500);
    assert_eq!(becomes(&daemon, server.address, "unhealthy").await, "HTTP 500");
    daemon.reload(Some(&toml("http1", &[server.address], OFTEN))).unwrap();
    server.answers(200);
    eventually("HTTP/1.1 is not understood", async || {
        let last = state(&daemon, server.address).await["health_check"]["last"].clone();
        last.as_str().unwrap().starts_with("no answer: ")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn only_expected_statuses_pass() {
    let backend = Backend::start("one").await;
    for (path, expect, status) in [
        ("/status/204", "[200, 204]", "healthy"),
        ("/status/301", "[301]", "healthy"),
        ("/status/200", "[204]", "unhealthy"),
        ("/status/404", "[200]", "unhealthy"),
    ] {
        let check = format!("http = \"{path}\", expect = {expect}, interval = \"30ms\"");
        let daemon = Daemon::start(&toml("http1", &[backend.address], &check));
        let last = becomes(&daemon, backend.address, status).await;
        assert_eq!(last, format!("HTTP {}", &path[8..]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_whose_body_does_not_end_is_an_answer() {
    let backend = Backend::start("one").await;
    let check = "http = \"/drip\", interval = \"30ms\", timeout = \"5s\"";
    let daemon = Daemon::start(&toml("http1", &[backend.address], check));
    becomes(&daemon, backend.address, "healthy").await;
    probes(&daemon, "pass", 3.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_accepts_and_says_nothing_is_unhealthy_after_the_timeout() {
    // The kernel accepts for it.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    for probe in ["http = \"/\"", "grpc = \"\""] {
        let check = format!("{probe}, interval = \"50ms\", timeout = \"100ms\"");
        let daemon = Daemon::start(&toml("auto", &[address], &check));
        assert_eq!(becomes(&daemon, address, "unhealthy").await, "no answer within 100ms");
        probes(&daemon, "timeout", 2.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn with_every_endpoint_unhealthy_requests_fail_and_say_what_the_probe_saw() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let daemon = Daemon::start(&toml("http1", &[address], "tcp = true, interval = \"30ms\""));
    assert_eq!(becomes(&daemon, address, "healthy").await, "connected");
    drop(listener);
    assert!(becomes(&daemon, address, "unhealthy").await.starts_with("cannot connect: "));
    let answer = ask(&daemon, 1).await.remove(0);
    assert_eq!((answer.status, answer.reason()), (503, "all_unhealthy"));
    let error = &answer.json()["error"];
    assert_eq!(error["cause"], "health_checks");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.starts_with("all 1 endpoints of echo are unhealthy: the health check of ")
            && message.contains("ago: cannot connect: "),
        "{message}"
    );
    let labels = [("reason", "all_unhealthy"), ("cause", "health_checks")];
    daemon.metric_becomes("error_causes_total", &labels, 1.0).await;
    probes(&daemon, "unreachable", 3.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn grpc_health_passes_only_while_it_says_serving() {
    let server = GrpcHealth::start().await;
    let daemon = Daemon::start(&toml("auto", &[server.address], "grpc = \"\", interval = \"30ms\""));
    assert_eq!(becomes(&daemon, server.address, "healthy").await, "SERVING");
    server.answers(2);
    assert_eq!(becomes(&daemon, server.address, "unhealthy").await, "NOT_SERVING");
    server.answers(1);
    becomes(&daemon, server.address, "healthy").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn grpc_health_asks_for_the_service_that_is_named_and_tells_what_is_not_served() {
    let server = GrpcHealth::start().await;
    let plain = GrpcServer::start().await;
    let (one, other) = (server.address, plain.address);
    for (address, name, said) in [
        (one, "sick", "NOT_SERVING"),
        (one, "else", "gRPC status 5 (not found): it does not know that service"),
        (other, "", "gRPC status 12 (unimplemented): it does not serve grpc.health.v1.Health"),
    ] {
        let check = format!("grpc = \"{name}\", interval = \"30ms\"");
        let daemon = Daemon::start(&toml("auto", &[address], &check));
        assert_eq!(becomes(&daemon, address, "unhealthy").await, said);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn fewer_failures_than_the_threshold_change_nothing() {
    let server = HealthServer::start().await;
    // Once unhealthy, it would stay so.
    let check = format!("{OFTEN}, unhealthy = 3, healthy = 1000");
    let daemon = Daemon::start(&toml("http1", &[server.address], &check));
    probes(&daemon, "pass", 1.0).await;
    server.fails_next(2);
    probes(&daemon, "fail", 2.0).await;
    becomes(&daemon, server.address, "healthy").await;
    server.fails_next(3);
    probes(&daemon, "fail", 5.0).await;
    becomes(&daemon, server.address, "unhealthy").await;
    let passed = daemon.metric("health_checks_total", &[("result", "pass")]).await;
    probes(&daemon, "pass", passed + 3.0).await;
    assert_eq!(state(&daemon, server.address).await["state"], "unhealthy", "three passes are not enough");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_new_endpoint_may_have_to_pass_first() {
    let server = HealthServer::start().await;
    server.holds(true);
    let check = format!("{ONCE}, timeout = \"60s\", initially = \"unhealthy\"");
    let daemon = Daemon::start(&toml("http1", &[server.address], &check));
    let answer = ask(&daemon, 1).await.remove(0);
    let said = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!((answer.status, answer.reason()), (503, "all_unhealthy"));
    assert_eq!(said, "all 1 endpoints of echo are unhealthy: no health check has passed yet");
    available(&daemon, server.address, false).await;
    assert_eq!(state(&daemon, server.address).await["health_check"]["status"], "unknown");
    eventually("the first probe is out", async || server.probes() == 1).await;
    server.holds(false);
    becomes(&daemon, server.address, "healthy").await;
    available(&daemon, server.address, true).await;
    assert_eq!((ask(&daemon, 1).await[0].status, server.probes()), (200, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn results_and_schedule_survive_a_reload() {
    let (good, bad) = (HealthServer::start().await, HealthServer::start().await);
    bad.answers(500);
    let addresses = [good.address, bad.address];
    let config = toml("http1", &addresses, ONCE);
    let daemon = Daemon::start(&config);
    becomes(&daemon, bad.address, "unhealthy").await;
    becomes(&daemon, good.address, "healthy").await;
    daemon.reload(Some(&format!("{config}connect_timeout = \"2s\"\n"))).unwrap();
    available(&daemon, bad.address, false).await;
    assert_eq!(state(&daemon, bad.address).await["health_check"]["status"], "unhealthy");
    ask(&daemon, 10).await;
    assert_eq!((bad.requests(), bad.probes(), good.probes()), (0, 1, 1));
    daemon.reload(Some(&toml("http1", &addresses, &format!("{ONCE}, healthy = 1")))).unwrap();
    eventually("another policy is tried at once", async || bad.probes() == 2 && good.probes() == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn checks_that_a_reload_removes_hold_nothing_against_an_endpoint() {
    let (good, bad) = (HealthServer::start().await, HealthServer::start().await);
    bad.answers(500);
    let addresses = [good.address, bad.address];
    let daemon = Daemon::start(&toml("http1", &addresses, OFTEN));
    available(&daemon, bad.address, false).await;
    let unchecked = format!("{}balancer = \"round-robin\"\n", one_service("http1", &addresses));
    daemon.reload(Some(&unchecked)).unwrap();
    available(&daemon, bad.address, true).await;
    let endpoint = state(&daemon, bad.address).await;
    assert_eq!((&endpoint["state"], &endpoint["health_check"]), (&"healthy".into(), &Value::Null));
    ask(&daemon, 10).await;
    assert!(bad.requests() >= 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn checks_that_a_reload_adds_leave_known_endpoints_in_use_until_their_threshold() {
    let server = HealthServer::start().await;
    server.answers(500);
    let daemon = Daemon::start(&one_service("http1", &[server.address]));
    assert_eq!(ask(&daemon, 1).await[0].status, 200);
    let checks = |unhealthy: u32| {
        let check = format!("{OFTEN}, initially = \"unhealthy\", unhealthy = {unhealthy}");
        toml("http1", &[server.address], &check)
    };
    daemon.reload(Some(&checks(1000))).unwrap();
    probes(&daemon, "fail", 3.0).await;
    assert_eq!(state(&daemon, server.address).await["health_check"]["status"], "unknown");
    assert_eq!(ask(&daemon, 1).await[0].status, 200);
    daemon.reload(Some(&checks(2))).unwrap();
    becomes(&daemon, server.address, "unhealthy").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_endpoint_that_leaves_is_not_probed_any_longer() {
    let (stays, leaves) = (HealthServer::start().await, HealthServer::start().await);
    let daemon = Daemon::start(&toml("http1", &[stays.address, leaves.address], OFTEN));
    eventually("both are probed", async || stays.probes() > 2 && leaves.probes() > 2).await;
    daemon.reload(Some(&toml("http1", &[stays.address], OFTEN))).unwrap();
    let before = [stays.probes(), leaves.probes()];
    eventually("the other is probed", async || stays.probes() > before[0] + 10).await;
    assert!(leaves.probes() <= before[1] + 1, "one may have been on its way");
    assert!(daemon.metric("endpoint_available", &[("endpoint", &leaves.address.to_string())]).await < 0.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_more_probes_than_the_bound_run_at_a_time() {
    let server = HealthServer::at("0.0.0.0:0", false).await;
    server.holds(true);
    let address = |number: u8| SocketAddr::from(([127, 0, 3, number], server.address.port()));
    let addresses: Vec<SocketAddr> = (1..=100).map(address).collect();
    let daemon = Daemon::start(&toml("http1", &addresses, &format!("{ONCE}, timeout = \"60s\"")));
    eventually("all places are taken", async || server.running() == 64).await;
    assert_eq!(daemon.admin_get("/ready").await.status, 200, "the control thread has other things to do");
    server.holds(false);
    probes(&daemon, "pass", 100.0).await;
    assert_eq!((server.peak(), server.probes()), (64, 100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn services_made_on_first_use_are_checked_as_the_defaults_say() {
    let server = HealthServer::start().await;
    server.answers(503);
    let config = format!(
        "[[routes]]\nname = \"all\"\nhosts = [\"*\"]\nbackends = [{{ dns = \"{{host}}\" }}]\n\
         [defaults.service]\nhealth_check = {{ {OFTEN} }}\n"
    );
    let daemon = Daemon::start(&config);
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let mut asked = async || client.ask(get(&server.address.to_string(), "/")).await;
    eventually("it is found out", async || asked().await.reason() == "all_unhealthy").await;
    server.answers(200);
    eventually("it is well", async || asked().await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_probe_of_the_services_own_takes_the_place_of_another_kind_in_the_defaults() {
    let server = HealthServer::start().await;
    server.answers(503);
    let config = format!(
        "[defaults.service]\nhealth_check = {{ {OFTEN}, unhealthy = 1 }}\n{}health_check = {{ tcp = true }}\n{}",
        one_service("http1", &[server.address]),
        service("other", "http1", &[server.address])
    );
    let daemon = Daemon::start(&config);
    assert_eq!(becomes(&daemon, server.address, "healthy").await, "connected");
    let labels = [("service", "other"), ("endpoint", &*server.address.to_string())];
    daemon.metric_becomes("endpoint_available", &labels, 0.0).await;
    probes(&daemon, "pass", 3.0).await;
    available(&daemon, server.address, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn another_port_may_be_probed() {
    let (server, admin) = (HealthServer::start().await, HealthServer::start().await);
    admin.answers(500);
    let check = format!("{OFTEN}, port = {}", admin.address.port());
    let daemon = Daemon::start(&toml("http1", &[server.address], &check));
    becomes(&daemon, server.address, "unhealthy").await;
    assert_eq!((server.probes(), admin.last_probe().contains(&admin.address.to_string())), (0, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_ejected_endpoint_is_not_brought_back_by_checks_that_pass() {
    let (good, bad) = (Backend::start("good").await, Backend::start("bad").await);
    bad.answers(500);
    let check = "http = \"/\", expect = [200, 500], interval = \"30ms\"";
    let config = toml("http1", &[good.address, bad.address], check);
    let daemon = Daemon::start(&format!("{config}ejection = {{ backoff = [\"1h\", \"1h\"] }}\n"));
    probes(&daemon, "pass", 2.0).await;
    ask(&daemon, 20).await;
    available(&daemon, bad.address, false).await;
    let passed = daemon.metric("health_checks_total", &[("result", "pass")]).await;
    probes(&daemon, "pass", passed + 10.0).await;
    let endpoint = state(&daemon, bad.address).await;
    assert_eq!(
        (&endpoint["state"], &endpoint["health_check"]["status"]),
        (&"ejected".into(), &"healthy".into())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn with_too_few_healthy_endpoints_all_are_used() {
    let servers = [HealthServer::start().await, HealthServer::start().await];
    servers.iter().for_each(|server| server.answers(503));
    let addresses = [servers[0].address, servers[1].address];
    let config = format!("{}panic_percent = 60\n", toml("http1", &addresses, OFTEN));
    let daemon = Daemon::start(&config);
    for address in addresses {
        available(&daemon, address, false).await;
    }
    assert!(ask(&daemon, 20).await.iter().all(|answer| answer.status == 200));
    assert!(servers.iter().all(|server| server.requests() >= 8));
    daemon.metric_becomes("service_panic", &[("service", "echo")], 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_checks_find_out_is_logged() {
    let server = HealthServer::start().await;
    server.answers(503);
    let process = Process::start(&toml("http1", &[server.address], OFTEN));
    let logged = async |text: &str| eventually(text, async || process.log().contains(text)).await;
    logged("an endpoint fails its health checks and gets no requests").await;
    server.answers(200);
    logged("an endpoint passes its health checks").await;
    let line = process.log().lines().find(|line| line.contains("fails its health")).unwrap().to_owned();
    assert!(line.contains(&server.address.to_string()) && line.contains("HTTP 503"), "{line}");
}
