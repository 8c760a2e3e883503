//! Which endpoint takes a request.

use std::{collections::HashMap, time::Duration};

use crate::support::{Backend, Client, Daemon, RawServer, Speaks, daemon::one_service, get};

/// What a balancer does about an endpoint that fails shows only while that is not ejected.
const NO_EJECTION: &str = "ejection = { consecutive_failures = 0 }\n";

async fn backends(names: &[&str]) -> Vec<Backend> {
    let mut backends = Vec::new();
    for name in names {
        backends.push(Backend::start(name).await);
    }
    backends
}

/// How many of `count` requests, one after the other, each backend answers.
async fn shares(daemon: &Daemon, count: u32) -> HashMap<String, u32> {
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let mut shares = HashMap::new();
    for _ in 0..count {
        *shares.entry(client.ask(get("svc", "/")).await.backend().to_owned()).or_default() += 1;
    }
    shares
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn round_robin_is_even() {
    let backends = backends(&["a", "b", "c"]).await;
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let daemon = Daemon::start(&format!("{}balancer = \"round-robin\"\n", one_service("http1", &addresses)));
    let shares = shares(&daemon, 300).await;
    assert!(shares.len() == 3 && shares.values().all(|share| (99..=101).contains(share)), "{shares:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn least_request_uses_every_endpoint() {
    let backends = backends(&["a", "b", "c"]).await;
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let daemon =
        Daemon::start(&format!("{}balancer = \"least-request\"\n", one_service("http1", &addresses)));
    let shares = shares(&daemon, 300).await;
    assert!(shares.len() == 3 && shares.values().all(|share| *share > 40), "{shares:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn weights_of_endpoints_count() {
    for balancer in ["round-robin", "least-request"] {
        let backends = backends(&["light", "heavy"]).await;
        let daemon = Daemon::start(&format!(
            "[[routes]]\nname = \"all\"\nhosts = [\"*\"]\nbackends = [{{ service = \"echo\" }}]\n[services.echo]\n\
             balancer = \"{balancer}\"\nendpoints = [\"{}\", {{ address = \"{}\", weight = 3 }}]\n",
            backends[0].address, backends[1].address
        ));
        let shares = shares(&daemon, 400).await;
        assert!((50..=150).contains(&shares["light"]), "{balancer}: {shares:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn least_request_avoids_a_stuck_endpoint_from_every_worker() {
    let good = Backend::start("good").await;
    let stuck = RawServer::start().await;
    let (address, _listener) = (stuck.address, stuck.stuck());
    let daemon = Daemon::start(&one_service("http1", &[good.address, address]));
    let mut hanging = Vec::new();
    for _ in 0..60 {
        let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
        let mut asking = tokio::spawn(async move { client.try_ask(get("svc", "/")).await });
        if tokio::time::timeout(Duration::from_millis(500), &mut asking).await.is_err() {
            hanging.push(asking);
        }
    }
    assert!(hanging.len() <= 2, "{} of 60 requests went to the stuck endpoint", hanging.len());
    hanging.iter().for_each(|asking| asking.abort());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn round_robin_comes_to_an_endpoint_that_refuses_connections_no_more_often_than_its_turn() {
    let good = Backend::start("good").await;
    // Bound, so that nobody else gets the port, and not listening.
    let dead = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    dead.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let refusing = dead.local_addr().unwrap().as_socket().unwrap();
    let service = one_service("http1", &[good.address, refusing]);
    let daemon = Daemon::start(&format!("{service}balancer = \"round-robin\"\n{NO_EJECTION}"));
    assert_eq!(shares(&daemon, 100).await["good"], 100);
    daemon.metric_becomes("retries_total", &[("reason", "connect_failed")], 50.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn peak_ewma_leaves_an_endpoint_that_fails_at_once_alone() {
    for (balancer, most) in [("least-request", 100.0), ("peak-ewma", 10.0)] {
        let good = backends(&["a", "b"]).await;
        let refusing = crate::support::ports::reserved();
        let addresses = [good[0].address, good[1].address, refusing];
        let more = format!("balancer = \"{balancer}\"\n{NO_EJECTION}");
        let daemon = Daemon::start(&format!("{}{more}", one_service("http1", &addresses)));
        shares(&daemon, 200).await;
        let failed = daemon.metric("retries_total", &[("reason", "connect_failed")]).await;
        assert!(failed <= most && failed > 0.0, "{balancer}: {failed} of 200");
        assert!(most < 50.0 || failed > 30.0, "{balancer} is no contrast: {failed} of 200");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn peak_ewma_prefers_the_endpoint_that_answers_sooner() {
    let (soon, late) = (Backend::start("soon").await, Backend::start("late").await);
    let daemon = Daemon::start(&format!(
        "{}balancer = \"peak-ewma\"\n",
        one_service("http1", &[soon.address, late.address])
    ));
    late.answer_after(Duration::from_millis(30));
    let shares = shares(&daemon, 200).await;
    assert!(shares["late"] <= 5, "{shares:?}");
    let services = daemon.admin_get("/api/services").await.json();
    let endpoints = services["services"][0]["endpoints"].as_array().unwrap();
    let latency = |backend: &Backend| {
        let found = endpoints.iter().find(|found| found["address"] == backend.address.to_string());
        found.unwrap()["latency_ms"].as_f64().unwrap()
    };
    assert!(latency(&late) > 20.0 && latency(&soon) < latency(&late), "{endpoints:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_endpoint_that_joins_others_starts_slowly_and_those_of_the_first_answer_do_not() {
    let all = backends(&["a", "b", "c"]).await;
    let toml = |addresses: &[std::net::SocketAddr]| {
        let service = one_service("http1", addresses);
        crate::support::daemon::complete(&format!(
            "{service}slow_start = \"1h\"\nbalancer = \"round-robin\"\n"
        ))
    };
    let daemon = Daemon::start(&toml(&[all[0].address, all[1].address]));
    let before = shares(&daemon, 100).await;
    assert_eq!((before["a"], before["b"]), (50, 50));
    daemon.reload(Some(&toml(&[all[0].address, all[1].address, all[2].address]))).unwrap();
    let after = shares(&daemon, 600).await;
    // A tenth of its turns, which are 200.
    assert!((5..=45).contains(&after["c"]), "{after:?}");
    let services = daemon.admin_get("/api/services").await.json();
    let endpoints = services["services"][0]["endpoints"].as_array().unwrap();
    let warming: Vec<_> = endpoints.iter().filter(|found| found["state"] == "warming").collect();
    assert_eq!(warming.len(), 1);
    assert_eq!(warming[0]["address"], all[2].address.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_known_of_an_endpoint_survives_a_reload_and_not_a_move_to_another_service() {
    let only = Backend::start("only").await;
    let toml = |name: &str, more: &str| {
        let service = one_service("http1", &[only.address]).replace("echo", name);
        crate::support::daemon::complete(&format!("{service}{more}"))
    };
    let daemon = Daemon::start(&toml("one", ""));
    shares(&daemon, 3).await;
    let latency = async || {
        daemon.admin_get("/api/services").await.json()["services"][0]["endpoints"][0]["latency_ms"].clone()
    };
    assert!(latency().await.is_f64());
    daemon.reload(Some(&toml("one", "balancer = \"peak-ewma\"\n"))).unwrap();
    assert!(latency().await.is_f64(), "a reload has forgotten it");
    daemon.reload(Some(&toml("two", ""))).unwrap();
    assert!(latency().await.is_null(), "another service starts fresh");
}
