//! Failover: another service takes a request that the drawn one cannot take, and the way back has hysteresis.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::Value;
use tonic::Request;

use crate::support::{
    Answer, Backend, Client, Daemon, RawServer, Speaks,
    backend::AS_ASKED,
    body, call, client,
    daemon::service,
    eventually, get,
    grpc::{GrpcServer, Plain, connect, method},
    ports, within,
};

/// Longer than any test.
const LONG: &str = "1h";

/// The route `all` to `primary`, for which `dr` stands in; the services are left to the caller.
fn route(back_after: &str) -> String {
    format!(
        "[[routes]]\nname = \"all\"\nhosts = [\"*\"]\nbackends = [{{ service = \"primary\" }}]\n\
         failover = [\"dr\"]\nfailover_back_after = \"{back_after}\"\n"
    )
}

/// That route with both services, of one endpoint each.
fn config(back_after: &str, primary: SocketAddr, dr: SocketAddr) -> String {
    route(back_after) + &service("primary", "http1", &[primary]) + &service("dr", "http1", &[dr])
}

async fn ask(daemon: &Daemon) -> Answer {
    client::ask(daemon.address(), Speaks::Http1, get("svc", "/")).await
}

async fn took(daemon: &Daemon, service: &str, count: f64) {
    let labels = [("route", "all"), ("service", service)];
    daemon.metric_becomes("failovers_total", &labels, count).await;
}

/// A service as `/api/services` shows it.
async fn state(daemon: &Daemon, name: &str) -> Value {
    let services = daemon.admin_get("/api/services").await.json();
    let all = services["services"].as_array().unwrap();
    all.iter().find(|service| service["name"] == name).unwrap().clone()
}

over_both_protocols! {
    async fn a_request_that_finds_no_connection_goes_to_the_stand_in_as_it_is(speaks: Speaks) {
        let dr = Backend::start("dr").await;
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("access.log");
        let logging = format!("[access_log]\npath = \"{}\"\n", log.display());
        let daemon = Daemon::start(&(logging + &config(LONG, ports::reserved(), dr.address)));
        let request = call("POST", "svc:8080", "/a?b=c").body(body::full("all of it")).header("x-tag", "blue");
        let answer = client::ask(daemon.address(), speaks, request).await;
        assert_eq!((answer.status, answer.backend(), answer.reason()), (200, "dr", ""));
        let seen = answer.json();
        assert_eq!((&seen["host"], &seen["uri"]), (&"svc:8080".into(), &"/a?b=c".into()), "{seen}");
        assert_eq!((&seen["body"], &seen["headers"]["x-tag"]), (&"all of it".into(), &"blue".into()), "{seen}");
        took(&daemon, "dr", 1.0).await;
        daemon.metric_becomes("requests_total", &[("service", "dr"), ("code", "200")], 1.0).await;
        daemon.metric_becomes("requests_total", &[("service", "primary")], 0.0).await;
        for service in ["primary", "dr"] {
            daemon.metric_becomes("requests_in_flight", &[("service", service)], 0.0).await;
        }
        let read = || std::fs::read_to_string(&log).unwrap();
        eventually("the line", async || read().ends_with('\n')).await;
        let line: Value = serde_json::from_str(&read()).unwrap();
        assert_eq!((&line["service"], &line["endpoint"]), (&"dr".into(), &dr.address.to_string().into()), "{line}");
        assert_eq!(line["attempts"], 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_service_without_endpoints_is_stood_in_for() {
    let dr = Backend::start("dr").await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("endpoints");
    std::fs::write(&file, "# none\n").unwrap();
    let primary = format!("[services.primary]\nprotocol = \"http1\"\nfile = \"{}\"\n", file.display());
    let daemon = Daemon::start(&(route("100ms") + &primary + &service("dr", "http1", &[dr.address])));
    for _ in 0..3 {
        assert_eq!(ask(&daemon).await.backend(), "dr");
    }
    took(&daemon, "dr", 3.0).await;
    let found = Backend::start("primary").await;
    let next = directory.path().join("next");
    std::fs::write(&next, found.address.to_string()).unwrap();
    std::fs::rename(&next, &file).unwrap();
    eventually("it is found and used", async || ask(&daemon).await.backend() == "primary").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_service_whose_endpoints_are_all_ejected_is_stood_in_for_and_comes_back() {
    let backends = [Backend::start("primary").await, Backend::start("primary").await];
    let dr = Backend::start("dr").await;
    let ejection =
        "ejection = { consecutive_failures = 1, backoff = [\"300ms\", \"300ms\"], max_percent = 100 }\n";
    let endpoints = backends.each_ref().map(|backend| backend.address);
    let primary = service("primary", "http1", &endpoints) + ejection;
    let daemon = Daemon::start(&(route("100ms") + &primary + &service("dr", "http1", &[dr.address])));
    backends.iter().for_each(|backend| backend.answers(500));
    let mut failed = 0;
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(200) {
        let answer = client.ask(get("svc", "/")).await;
        failed += u32::from(answer.status == 500);
        assert!(answer.status == 500 || answer.backend() == "dr", "{answer:?}");
    }
    assert_eq!(failed, 2, "each endpoint is ejected by its first answer");
    backends.iter().for_each(|backend| backend.answers(AS_ASKED));
    eventually("it is used again by all requests", async || {
        for _ in 0..20 {
            let answer = client.ask(get("svc", "/")).await;
            assert_eq!(answer.status, 200);
            if answer.backend() != "primary" {
                return false;
            }
        }
        true
    })
    .await;
    assert_eq!(state(&daemon, "primary").await["passed_over"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_service_comes_back_when_it_has_been_able_for_a_while() {
    let (address, dr) = (ports::reserved(), Backend::start("dr").await);
    let back_after = Duration::from_millis(400);
    let daemon = Daemon::start(&config("400ms", address, dr.address));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let start = Instant::now();
    assert_eq!(client.ask(get("svc", "/")).await.backend(), "dr");
    let primary = Backend::again("primary", address).await;
    let mut before = 0.0;
    loop {
        let answer = client.ask(get("svc", "/")).await;
        assert_eq!(answer.status, 200);
        if answer.backend() == "primary" {
            break;
        }
        before += 1.0;
    }
    // It was seen unable after `start`, up to 0.1 s of which is not noted.
    assert!(start.elapsed() >= back_after, "{:?}", start.elapsed());
    assert_eq!(primary.requests(), 1);
    for _ in 0..20 {
        assert_eq!(client.ask(get("svc", "/")).await.backend(), "primary", "one was taken: all go there");
    }
    took(&daemon, "dr", before + 1.0).await;
    assert_eq!(state(&daemon, "primary").await["passed_over"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn all_workers_pass_a_service_over_and_so_does_a_reload() {
    let dr = Backend::start("dr").await;
    let toml = config(LONG, ports::reserved(), dr.address);
    let daemon = Daemon::start(&toml);
    assert_eq!(ask(&daemon).await.backend(), "dr");
    let shown = state(&daemon, "primary").await["passed_over"].clone();
    let left = shown["for_seconds"].as_f64().unwrap();
    assert!((3500.0..=3600.0).contains(&left) && shown["since_seconds"].as_f64().unwrap() < 60.0, "{shown}");
    assert_eq!(state(&daemon, "dr").await["passed_over"], Value::Null);
    daemon
        .reload(Some(&toml.replace("[services.primary]\n", "[services.primary]\nconnect_timeout = \"2s\"\n")))
        .unwrap();
    for _ in 0..4 {
        // The acceptor gives every other connection to the other worker.
        assert_eq!(ask(&daemon).await.backend(), "dr");
    }
    took(&daemon, "dr", 5.0).await;
    daemon.metric_becomes("attempts_total", &[("service", "primary")], 1.0).await;
}

over_both_protocols! {
    async fn when_nobody_can_the_caller_is_told_of_the_drawn_service(speaks: Speaks) {
        let (primary, dr) = (ports::reserved(), ports::reserved());
        let daemon = Daemon::start(&config(LONG, primary, dr));
        let mut client = Client::connect(daemon.address(), speaks).await;
        for round in 1..4 {
            let answer = client.ask(get("svc", "/")).await;
            assert_eq!((answer.status, answer.reason()), (502, "connect_failed"), "round {round}");
            let error = &answer.json()["error"];
            assert_eq!(error["service"], "primary");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains(&primary.to_string()) && message.contains("nor can dr"), "{error}");
            for service in ["primary", "dr"] {
                // Both are passed over, and tried all the same.
                daemon.metric_becomes("attempts_total", &[("service", service)], f64::from(round)).await;
            }
        }
        daemon.metric_becomes("requests_total", &[("service", "primary"), ("code", "502")], 3.0).await;
        took(&daemon, "dr", 0.0).await;
        for service in ["primary", "dr"] {
            daemon.metric_becomes("requests_in_flight", &[("service", service)], 0.0).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_service_that_is_passed_over_takes_what_nobody_else_can() {
    let address = ports::reserved();
    let dr = Backend::start("dr").await;
    let daemon = Daemon::start(&config(LONG, address, dr.address));
    assert_eq!(ask(&daemon).await.backend(), "dr");
    let _primary = Backend::again("primary", address).await;
    assert_eq!(ask(&daemon).await.backend(), "dr");
    drop(dr);
    eventually("the drawn one takes it", async || {
        let answer = ask(&daemon).await;
        // A connection to the stand-in that is just closing may still be used once.
        answer.backend() == "primary"
    })
    .await;
    assert_ne!(state(&daemon, "primary").await["passed_over"], Value::Null, "the hysteresis holds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn stand_ins_are_asked_in_order() {
    let second = Backend::start("second").await;
    let first = ports::reserved();
    let toml = route(LONG).replace("[\"dr\"]", "[\"first\", \"second\"]")
        + &service("primary", "http1", &[ports::reserved()])
        + &service("first", "http1", &[first])
        + &service("second", "http1", &[second.address]);
    let daemon = Daemon::start(&toml.replace("\"1h\"", "\"300ms\""));
    assert_eq!(ask(&daemon).await.backend(), "second");
    let _first = Backend::again("first", first).await;
    eventually("the first of them is back", async || ask(&daemon).await.backend() == "first").await;
    daemon.metric_becomes("failovers_total", &[("service", "first")], 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_has_been_sent_stays_with_its_service() {
    let primary = RawServer::start().await;
    let dr = Backend::start("dr").await;
    let daemon = Daemon::start(&config(LONG, primary.address, dr.address));
    let breaking = tokio::spawn(async move {
        let mut connection = primary.accept().await;
        // More than is kept for another attempt.
        connection.read_until(&"x".repeat(200_000)).await;
    });
    let request = call("PUT", "svc", "/count").body(body::endless(1 << 20).1);
    let answer = client::ask(daemon.address(), Speaks::Http1, request).await;
    assert_eq!((answer.status, answer.reason()), (502, "upstream_reset"), "{answer:?}");
    within("the server", breaking).await.unwrap();
    assert_eq!(dr.requests(), 0);
    assert_eq!(state(&daemon, "primary").await["passed_over"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stand_in_may_speak_another_protocol() {
    let dr = Backend::start("dr").await;
    let primary = ports::reserved();
    for (first, second, version) in [("http1", "http2", "HTTP/2.0"), ("http2", "http1", "HTTP/1.1")] {
        let services = service("primary", first, &[primary]) + &service("dr", second, &[dr.address]);
        let daemon = Daemon::start(&(route(LONG) + &services));
        let answer = ask(&daemon).await;
        assert_eq!((answer.backend(), &answer.json()["host"]), ("dr", &"svc".into()));
        assert_eq!(answer.json()["version"], version);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_grpc_call_fails_over_with_its_message() {
    let dr = GrpcServer::start().await;
    let services = service("primary", "auto", &[ports::reserved()]) + &service("dr", "auto", &[dr.address]);
    let daemon = Daemon::start(&(route(LONG) + &services));
    let mut caller = connect(daemon.address(), "echo.test").await;
    within("ready", caller.ready()).await.unwrap();
    let request = Request::new(Bytes::from("hello"));
    let response = within("the call", caller.unary(request, method("Unary"), Plain)).await.unwrap();
    assert_eq!(response.get_ref(), "hello");
    took(&daemon, "dr", 1.0).await;
}

/// By a hash, each service has its own key and ring.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stand_in_that_goes_by_a_hash_keeps_its_callers_apart() {
    let backends = [Backend::start("a").await, Backend::start("b").await, Backend::start("c").await];
    let endpoints = backends.each_ref().map(|backend| backend.address);
    let hash = "balancer = { hash = \"header:x-user\" }\n";
    let services =
        service("primary", "http1", &[ports::reserved()]) + &service("dr", "http1", &endpoints) + hash;
    let daemon = Daemon::start(&(route(LONG) + &services));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let mut used = std::collections::BTreeSet::new();
    for user in 0..20 {
        let mut of_user = std::collections::BTreeSet::new();
        for _ in 0..3 {
            let answer = client.ask(get("svc", "/").header("x-user", &user.to_string())).await;
            of_user.insert(answer.backend().to_owned());
        }
        assert_eq!(of_user.len(), 1, "user {user}: {of_user:?}");
        used.extend(of_user);
    }
    assert_eq!(used.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn explain_shows_who_stands_in_and_what_is_injected() {
    let toml = config("5s", ports::reserved(), ports::reserved()).replace(
        "[services.primary]",
        "fault = { delay = \"10ms\", delay_percent = 0.5, abort = \"reset\" }\n[services.primary]",
    );
    let daemon = Daemon::start(&toml);
    let route = daemon.admin_get("/api/explain?url=http://svc/").await.json()["route"].clone();
    assert_eq!(route["failover"], serde_json::json!(["dr"]));
    assert_eq!(route["failover_back_after"], "5s");
    assert_eq!(route["fault"], "delay 10ms for 0.5 %, abort reset for 100 %");
}

/// What `defaults.route` names stands in for the backends of other routes only.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_default_stand_in_does_not_stand_in_for_itself() {
    let dr = ports::reserved();
    let toml = config(LONG, ports::reserved(), dr).replace("failover = [\"dr\"]\n", "")
        + "[[routes]]\nname = \"dr\"\nhosts = [\"dr\"]\nbackends = [{ service = \"dr\" }]\n\
           [defaults.route]\nfailover = [\"dr\"]\n";
    let daemon = Daemon::start(&toml);
    let routes = daemon.admin_get("/api/routes").await.json();
    let failover = |index: usize| routes["routes"][index]["failover"].clone();
    assert_eq!((failover(0), failover(1)), (serde_json::json!(["dr"]), serde_json::json!([])));
    let answer = client::ask(daemon.address(), Speaks::Http1, get("dr", "/")).await;
    assert_eq!(answer.json()["error"]["service"], "dr");
    daemon.metric_becomes("attempts_total", &[("service", "dr")], 1.0).await;
}

/// Where nobody answers a SYN, the attempt may be over before the connection is given up. Nothing was sent all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_attempt_that_is_over_before_there_is_a_connection_fails_over() {
    let dr = Backend::start("dr").await;
    // 192.0.2.0/24 is for documentation: either there is no way to it, or nobody answers.
    let toml = config(LONG, "192.0.2.1:9".parse().unwrap(), dr.address).replace(
        "[services.primary]\n",
        "attempt_timeout = \"100ms\"\n[services.primary]\nconnect_timeout = \"20s\"\n",
    );
    let daemon = Daemon::start(&toml);
    assert_eq!(ask(&daemon).await.backend(), "dr");
    took(&daemon, "dr", 1.0).await;
}

/// An attempt that is over after the request was sent is none of this.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_attempt_that_takes_too_long_stays_with_its_service() {
    let (primary, dr) = (Backend::start("primary").await, Backend::start("dr").await);
    let toml = config(LONG, primary.address, dr.address)
        .replace("[services.primary]\n", "attempt_timeout = \"100ms\"\n[services.primary]\n");
    let daemon = Daemon::start(&toml);
    let answer = client::ask(daemon.address(), Speaks::Http1, get("svc", "/hang")).await;
    assert_eq!((answer.status, answer.reason()), (504, "timeout"));
    assert_eq!(dr.requests(), 0);
}

/// A connection that is found closed, and then none: the request goes on, whatever its method.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_service_that_dies_with_connections_open_costs_no_request() {
    for m in ["GET", "POST"] {
        let (primary, dr) = (Backend::start("primary").await, Backend::start("dr").await);
        let toml = config(LONG, primary.address, dr.address);
        let daemon = Daemon::start(&toml);
        let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
        assert_eq!(client.ask(get("svc", "/")).await.backend(), "primary");
        drop(primary);
        daemon.metric_becomes("upstream_connections", &[("service", "primary")], 0.0).await;
        let answer = client.ask(call(m, "svc", "/").body(body::full("content"))).await;
        assert_eq!((answer.status, answer.backend()), (200, "dr"), "{m}");
        assert_eq!(answer.json()["body"], "content");
    }
}

/// Each service has attempts of its own: here three at the one that is down, and two at the stand-in, one of whose endpoints is.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stand_in_has_attempts_of_its_own() {
    let dr = Backend::start("dr").await;
    let down = || ports::reserved();
    for _ in 0..4 {
        let services = service("primary", "http1", &[down(), down(), down(), down()])
            + &service("dr", "http1", &[down(), dr.address])
            + "balancer = \"round-robin\"\n";
        let daemon = Daemon::start(&(route(LONG) + &services));
        for _ in 0..4 {
            assert_eq!(ask(&daemon).await.backend(), "dr");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_service_whose_health_checks_fail_is_stood_in_for_until_they_have_passed_for_a_while() {
    let (primary, dr) = (Backend::start("primary").await, Backend::start("dr").await);
    let checked = service("primary", "http1", &[primary.address])
        + "health_check = { http = \"/healthz\", interval = \"30ms\", healthy = 1, unhealthy = 1 }\n";
    let daemon = Daemon::start(&(route("300ms") + &checked + &service("dr", "http1", &[dr.address])));
    assert_eq!(ask(&daemon).await.backend(), "primary");
    primary.answers(503);
    eventually("the check has failed", async || state(&daemon, "primary").await["usable"] == 0).await;
    assert_eq!(ask(&daemon).await.backend(), "dr");
    let well = Instant::now();
    primary.answers(AS_ASKED);
    eventually("it is back", async || {
        let answer = ask(&daemon).await;
        assert_eq!(answer.status, 200, "no request goes to it before it is well");
        answer.backend() == "primary"
    })
    .await;
    // Up to 0.1 s of the last time it was seen unable is not noted.
    assert!(well.elapsed() >= Duration::from_millis(200), "{:?}", well.elapsed());
}

over_both_protocols! {
    async fn a_service_that_is_full_is_stood_in_for_and_comes_back_when_there_is_room(speaks: Speaks) {
        let (primary, dr) = (Backend::start("primary").await, Backend::start("dr").await);
        let full = "breaker = { max_requests = 1, max_pending = 0 }\n";
        let services = service("primary", "http1", &[primary.address]) + full;
        let toml = route("300ms") + &services + &service("dr", "http1", &[dr.address]) + full;
        let daemon = Daemon::start(&toml);
        let address = daemon.address();
        let hang = || tokio::spawn(async move { client::ask(address, Speaks::Http1, get("svc", "/hang")).await });
        let first = hang();
        eventually("it runs", async || primary.running() == 1).await;
        let mut client = Client::connect(address, speaks).await;
        for _ in 0..3 {
            assert_eq!(client.ask(get("svc", "/")).await.backend(), "dr");
        }
        took(&daemon, "dr", 3.0).await;
        assert_ne!(state(&daemon, "primary").await["passed_over"], Value::Null);
        daemon.metric_becomes("errors_total", &[], 0.0).await;

        // Nor has the stand-in a place: the caller is told why the drawn service could not.
        let second = hang();
        eventually("it runs there", async || dr.running() == 1).await;
        let refused = client.ask(get("svc", "/")).await;
        assert_eq!((refused.status, refused.reason(), refused.header("retry-after")), (503, "overloaded", "1"));
        let error = &refused.json()["error"];
        assert_eq!((&error["cause"], &error["service"]), (&"max_requests".into(), &"primary".into()), "{error}");
        assert_eq!((primary.requests(), dr.requests()), (1, 4), "what is refused was not sent");

        first.abort();
        second.abort();
        for name in ["primary", "dr"] {
            let what = format!("every place of {name} is given back");
            eventually(&what, async || state(&daemon, name).await["breaker"]["running"] == 0).await;
        }
        // Both were full: until either has been able for a while, the drawn one is asked first, and takes what it can.
        eventually("it is used by all requests", async || {
            let answer = client.ask(get("svc", "/")).await;
            assert_eq!((answer.status, answer.backend()), (200, "primary"));
            state(&daemon, "primary").await["passed_over"].is_null()
        })
        .await;
    }
}

/// A request that has waited at one service for nothing takes no place with it to the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_that_waits_in_vain_for_a_place_goes_to_the_stand_in() {
    let (primary, dr) = (Backend::start("primary").await, Backend::start("dr").await);
    let services = service("primary", "http1", &[primary.address])
        + "breaker = { max_requests = 1, max_pending = 1, pending_timeout = \"50ms\" }\n"
        + &service("dr", "http1", &[dr.address]);
    let daemon = Daemon::start(&(route(LONG) + &services));
    let address = daemon.address();
    let hang = tokio::spawn(async move { client::ask(address, Speaks::Http1, get("svc", "/hang")).await });
    eventually("it runs", async || primary.running() == 1).await;
    assert_eq!(ask(&daemon).await.backend(), "dr");
    let breaker = state(&daemon, "primary").await["breaker"].clone();
    assert_eq!((&breaker["running"], &breaker["pending"]), (&1.into(), &0.into()), "{breaker}");
    assert_eq!(primary.requests(), 1);
    hang.abort();
}
