//! Endpoints that fail again and again get no requests for a while, and come back when they work.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{
    Answer, Backend, Client, Daemon, Process, Speaks,
    backend::{AS_ASKED, BREAKS_OFF},
    daemon::one_service,
    eventually, get,
};

async fn backends(count: usize) -> Vec<Backend> {
    let mut backends = Vec::new();
    for number in 0..count {
        backends.push(Backend::start(&format!("backend-{number}")).await);
    }
    backends
}

/// Round robin, so that each endpoint gets its share of every few requests.
fn toml(addresses: &[SocketAddr], keys: &str) -> String {
    format!("{}balancer = \"round-robin\"\n{keys}\n", one_service("http1", addresses))
}

fn service(backends: &[Backend], keys: &str) -> String {
    let addresses: Vec<SocketAddr> = backends.iter().map(|backend| backend.address).collect();
    toml(&addresses, keys)
}

/// An ejection lasts longer than any test.
const LONG: &str = "ejection = { backoff = [\"1h\", \"1h\"] }";
/// An ejection is soon over.
const SHORT: &str = "ejection = { backoff = [\"200ms\", \"400ms\"] }";

/// The answers to `count` requests, one after the other.
async fn ask(daemon: &Daemon, count: usize) -> Vec<Answer> {
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let mut answers = Vec::new();
    for _ in 0..count {
        answers.push(client.ask(get("svc", "/")).await);
    }
    answers
}

/// The service as `/api/services` shows it, and one of its endpoints.
async fn state(daemon: &Daemon, endpoint: SocketAddr) -> (Value, Value) {
    let services = daemon.admin_get("/api/services").await.json();
    let service = services["services"][0].clone();
    let endpoints = service["endpoints"].as_array().unwrap();
    let endpoint = endpoints.iter().find(|one| one["address"] == endpoint.to_string()).unwrap().clone();
    (service, endpoint)
}

async fn available(daemon: &Daemon, endpoint: SocketAddr, available: bool) {
    let labels = [("service", "echo"), ("endpoint", &*endpoint.to_string())];
    daemon.metric_becomes("endpoint_available", &labels, f64::from(u8::from(available))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_endpoint_that_fails_five_times_in_a_row_gets_no_further_request() {
    for status in [500, 503, BREAKS_OFF] {
        let backends = backends(3).await;
        let bad = &backends[1];
        bad.answers(status);
        let daemon = Daemon::start(&service(&backends, LONG));
        let failed = ask(&daemon, 60).await.iter().filter(|answer| answer.status != 200).count();
        assert_eq!((bad.requests(), failed), (5, 5), "{status}");
        daemon.metric_becomes("ejections_total", &[("service", "echo")], 1.0).await;
        available(&daemon, bad.address, false).await;
        available(&daemon, backends[0].address, true).await;
        let (service, endpoint) = state(&daemon, bad.address).await;
        assert_eq!((&service["usable"], &service["panic"]), (&2.into(), &false.into()), "{service}");
        assert_eq!((&endpoint["state"], &endpoint["probing"]), (&"ejected".into(), &false.into()));
        let left = endpoint["ejected_for_seconds"].as_f64().unwrap();
        assert!((3500.0..4501.0).contains(&left), "{left}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn failures_of_all_workers_count_and_a_success_among_them_begins_anew() {
    let backends = backends(2).await;
    let bad = &backends[0];
    let daemon = Daemon::start(&service(&backends, LONG));
    let mut clients = Vec::new();
    for _ in 0..2 {
        // The acceptor gives the second connection to the other worker.
        clients.push(Client::connect(daemon.address(), Speaks::Http1).await);
    }
    for fails in [4, 0, 4, 0, 5, 20] {
        bad.answers(if fails == 0 { AS_ASKED } else { 500 });
        let before = bad.requests();
        for number in 0..40 {
            if bad.requests() - before < fails.max(1) {
                clients[number % 2].ask(get("svc", "/")).await;
            }
        }
    }
    assert_eq!(bad.requests(), 4 + 1 + 4 + 1 + 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_endpoint_that_refuses_connections_costs_five_retries_and_no_request() {
    let mut backends = backends(3).await;
    let config = service(&backends, LONG);
    let gone = backends.remove(2).address;
    let daemon = Daemon::start(&config);
    assert!(ask(&daemon, 100).await.iter().all(|answer| answer.status == 200));
    daemon.metric_becomes("retries_total", &[("reason", "connect_failed")], 5.0).await;
    available(&daemon, gone, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_healed_endpoint_comes_back_after_its_backoff() {
    for refuses in [false, true] {
        let mut backends = backends(3).await;
        let daemon = Daemon::start(&service(&backends, SHORT));
        let address = backends[2].address;
        if refuses {
            drop(backends.pop());
        } else {
            backends[2].answers(500);
        }
        ask(&daemon, 20).await;
        daemon.metric_becomes("ejections_total", &[("service", "echo")], 1.0).await;
        let healed = if refuses {
            Backend::again("healed", address).await
        } else {
            backends[2].answers(AS_ASKED);
            backends.pop().unwrap()
        };
        let before = healed.requests();
        eventually("it is used again", async || {
            assert!(ask(&daemon, 3).await.iter().all(|answer| answer.status == 200));
            healed.requests() > before + 5
        })
        .await;
        available(&daemon, address, true).await;
        assert_eq!(state(&daemon, address).await.1["state"], "healthy");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_ejected_endpoint_is_probed_by_one_request_at_a_time() {
    let backends = backends(2).await;
    let bad = &backends[0];
    bad.answers(500);
    let daemon = Daemon::start(&service(&backends, "ejection = { backoff = [\"100ms\", \"100ms\"] }"));
    ask(&daemon, 20).await;
    daemon.metric_becomes("ejections_total", &[("service", "echo")], 1.0).await;
    bad.take_peak();
    let (before, start) = (bad.requests(), Instant::now());
    let load = (0..10).map(|_| {
        let address = daemon.address();
        tokio::spawn(async move {
            let mut client = Client::connect(address, Speaks::Http1).await;
            while start.elapsed() < Duration::from_secs(2) {
                client.ask(get("svc", "/slow?ms=50")).await;
            }
        })
    });
    for task in load.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(bad.take_peak(), 1);
    let probes = bad.requests() - before;
    assert!((2..=20).contains(&probes), "one each 150 ms at the most: {probes}");
    available(&daemon, bad.address, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_probe_whose_caller_goes_away_leaves_the_place_to_the_next() {
    let backends = backends(2).await;
    let bad = &backends[0];
    bad.answers(500);
    let daemon = Daemon::start(&service(&backends, "ejection = { backoff = [\"100ms\", \"100ms\"] }"));
    ask(&daemon, 20).await;
    daemon.metric_becomes("ejections_total", &[("service", "echo")], 1.0).await;
    bad.answers(AS_ASKED);
    let before = bad.requests();
    let mut hanging = Vec::new();
    eventually("one request is the probe", async || {
        let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
        hanging.push(tokio::spawn(async move { client.try_ask(get("svc", "/hang")).await }));
        bad.requests() > before
    })
    .await;
    assert_eq!(state(&daemon, bad.address).await.1["probing"], true);
    assert!(ask(&daemon, 10).await.iter().all(|answer| answer.backend() != "backend-0"));
    hanging.iter().for_each(|asking| asking.abort());
    eventually("the next request is the probe", async || {
        ask(&daemon, 1).await;
        state(&daemon, bad.address).await.1["state"] == "healthy"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_more_endpoints_than_the_maximum_are_ejected() {
    let backends = backends(2).await;
    backends.iter().for_each(|backend| backend.answers(500));
    let daemon = Daemon::start(&service(&backends, LONG));
    let answers = ask(&daemon, 60).await;
    assert!(answers.iter().all(|answer| answer.status == 500 && answer.reason().is_empty()));
    daemon.metric_becomes("ejections_total", &[("service", "echo")], 1.0).await;
    daemon.metric_becomes("endpoint_available", &[("service", "echo")], 1.0).await;
    let fewest = backends.iter().map(Backend::requests).min().unwrap();
    assert_eq!(fewest, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_only_endpoint_is_never_ejected() {
    let backends = backends(1).await;
    backends[0].answers(500);
    let keys = "ejection = { max_percent = 100, backoff = [\"1h\", \"1h\"] }\npanic_percent = 0";
    let daemon = Daemon::start(&service(&backends, keys));
    ask(&daemon, 30).await;
    assert_eq!(backends[0].requests(), 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn with_every_endpoint_ejected_requests_fail_and_say_why() {
    let backends = backends(2).await;
    backends.iter().for_each(|backend| backend.answers(500));
    let keys = "ejection = { max_percent = 100, backoff = [\"1h\", \"1h\"] }";
    let daemon = Daemon::start(&service(&backends, keys));
    let answers = ask(&daemon, 20).await;
    assert!(answers[..10].iter().all(|answer| answer.reason().is_empty()));
    for answer in &answers[10..] {
        assert_eq!((answer.status, answer.reason()), (503, "all_unhealthy"));
        let body = answer.json();
        let message = body["error"]["message"].as_str().unwrap();
        let start = "all 2 endpoints of echo are ejected: 5 failures in a row; the next is tried in ";
        assert!(message.starts_with(start) && message.ends_with('s'), "{message}");
    }
    daemon.metric_becomes("errors_total", &[("reason", "all_unhealthy")], 10.0).await;
    assert_eq!(backends.iter().map(Backend::requests).sum::<u64>(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn with_too_few_usable_endpoints_all_are_used_and_that_is_seen() {
    let backends = backends(2).await;
    backends.iter().for_each(|backend| backend.answers(500));
    let keys = "ejection = { max_percent = 100, backoff = [\"1h\", \"1h\"] }\npanic_percent = 60";
    let daemon = Daemon::start(&service(&backends, keys));
    let answers = ask(&daemon, 40).await;
    assert!(answers.iter().all(|answer| answer.reason().is_empty()), "no answer is towpath's own");
    assert!(backends.iter().all(|backend| backend.requests() > 10));
    daemon.metric_becomes("service_panic", &[("service", "echo")], 1.0).await;
    let (service, endpoint) = state(&daemon, backends[0].address).await;
    assert_eq!(
        (&service["panic"], &service["usable"], &endpoint["state"]),
        (&true.into(), &0.into(), &"ejected".into())
    );
    backends.iter().for_each(|backend| backend.answers(BREAKS_OFF));
    let failed = &ask(&daemon, 1).await[0];
    let message = failed.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("0 of 2 endpoints are healthy, so all are used"), "{message}");
    backends.iter().for_each(|backend| backend.answers(AS_ASKED));
    ask(&daemon, 10).await;
    daemon.metric_becomes("service_panic", &[("service", "echo")], 0.0).await;
    daemon.metric_becomes("endpoint_available", &[("service", "echo")], 2.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_ejection_survives_a_reload_and_ends_when_ejection_is_turned_off() {
    let backends = backends(3).await;
    let bad = &backends[0];
    bad.answers(500);
    let daemon = Daemon::start(&service(&backends, LONG));
    ask(&daemon, 30).await;
    assert_eq!(bad.requests(), 5);
    daemon.reload(Some(&service(&backends, &format!("{LONG}\nconnect_timeout = \"2s\"")))).unwrap();
    ask(&daemon, 30).await;
    assert_eq!(bad.requests(), 5);
    available(&daemon, bad.address, false).await;
    daemon.reload(Some(&service(&backends, "ejection = { consecutive_failures = 0 }"))).unwrap();
    available(&daemon, bad.address, true).await;
    ask(&daemon, 60).await;
    assert!(bad.requests() >= 20, "{}", bad.requests());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_endpoint_that_a_reload_removes_gives_its_place_to_another() {
    let backends = backends(3).await;
    backends[0].answers(500);
    let daemon = Daemon::start(&service(&backends, LONG));
    ask(&daemon, 30).await;
    available(&daemon, backends[0].address, false).await;
    daemon.reload(Some(&service(&backends[1..], LONG))).unwrap();
    backends[1].answers(500);
    ask(&daemon, 30).await;
    assert_eq!(state(&daemon, backends[1].address).await.1["state"], "ejected");
    available(&daemon, backends[1].address, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn keys_of_an_ejected_endpoint_go_to_another_and_come_back() {
    let backends = backends(3).await;
    let config = service(&backends, SHORT).replace("\"round-robin\"", "{ hash = \"header:x-user\" }");
    let daemon = Daemon::start(&config);
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let mut keyed = async || client.ask(get("svc", "/").header("x-user", "mine")).await;
    let home = keyed().await.backend().to_owned();
    let own = backends.iter().find(|backend| backend.name() == home).unwrap();
    own.answers(500);
    for _ in 0..5 {
        assert_eq!(keyed().await.status, 500);
    }
    let other = keyed().await;
    assert!(other.status == 200 && other.backend() != home, "{other:?}");
    own.answers(AS_ASKED);
    eventually("the key is at home again", async || keyed().await.backend() == home).await;
    assert_eq!(keyed().await.backend(), home);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_ejection_and_its_end_are_logged() {
    let backends = backends(2).await;
    backends[0].answers(500);
    let process = Process::start(&service(&backends, SHORT));
    let mut client = Client::connect(process.address().await, Speaks::Http1).await;
    for _ in 0..12 {
        client.ask(get("svc", "/")).await;
    }
    eventually("the ejection is in the log", async || {
        process.log().contains("an endpoint fails and is ejected")
    })
    .await;
    backends[0].answers(AS_ASKED);
    eventually("so is the return", async || {
        client.ask(get("svc", "/")).await;
        process.log().contains("an ejected endpoint is used again")
    })
    .await;
    let line = process.log().lines().find(|line| line.contains("fails and is ejected")).unwrap().to_owned();
    assert!(line.contains(&backends[0].address.to_string()) && line.contains("echo"), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_caller_that_does_not_wait_ejects_nobody() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    one.answer_after(Duration::from_millis(60));
    two.answer_after(Duration::from_millis(60));
    let daemon = Daemon::start(&one_service("http2", &[one.address, two.address]));
    let mut client = Client::connect(daemon.address(), Speaks::Http2).await;
    for _ in 0..20 {
        let call = crate::support::call("POST", "svc", "/x");
        let call = call.header("content-type", "application/grpc").header("te", "trailers");
        let answer = client.ask(call.header("grpc-timeout", "5m")).await;
        assert_eq!(answer.header("towpath-error"), "timeout", "{answer:?}");
    }
    assert!(daemon.metric("ejections_total", &[]).await < 0.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_endpoint_of_which_too_few_requests_succeed_is_ejected() {
    let backends = backends(2).await;
    let bad = &backends[0];
    let keys = "ejection = { success_percent = 60, min_requests = 20, backoff = [\"1h\", \"1h\"] }";
    let daemon = Daemon::start(&service(&backends, keys));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    for _ in 0..80 {
        // Three of five fail, and never five in a row.
        bad.answers(if bad.requests() % 5 < 3 { 500 } else { AS_ASKED });
        client.ask(get("svc", "/")).await;
    }
    // The first failure from the twentieth on.
    assert_eq!(bad.requests(), 21);
    available(&daemon, bad.address, false).await;
    let (_, endpoint) = state(&daemon, bad.address).await;
    assert_eq!(endpoint["ejected_because"], "success_rate", "{endpoint}");
    let moment = |key: &str| endpoint[key].as_str().unwrap().to_owned();
    assert!(moment("ejected_since") < moment("ejected_until") && moment("ejected_since").ends_with('Z'));
    assert_eq!(endpoint["ejections_in_a_row"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_endpoint_that_answers_too_late_is_ejected() {
    let backends = backends(2).await;
    let slow = &backends[0];
    slow.answer_after(Duration::from_millis(150));
    let keys = "ejection = { max_latency = \"100ms\", max_percent = 100, backoff = [\"1h\", \"1h\"] }";
    let daemon = Daemon::start(&service(&backends, keys));
    let answers = ask(&daemon, 20).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "its answers are used");
    assert_eq!(slow.requests(), 5);
    assert_eq!(state(&daemon, slow.address).await.1["ejected_because"], "latency");
    backends[1].answer_after(Duration::from_millis(150));
    let answers = ask(&daemon, 20).await;
    let last = answers.last().unwrap().json();
    assert_eq!(last["error"]["cause"], "ejected");
    let message = last["error"]["message"].as_str().unwrap();
    assert!(message.contains("are ejected: answers after more than 100ms; the next"), "{message}");
}
