//! Which endpoint takes a request.

use std::{collections::HashMap, time::Duration};

use crate::support::{Backend, Client, Daemon, RawServer, Speaks, daemon::one_service, get};

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
    let daemon = Daemon::start(&format!("{service}balancer = \"round-robin\"\n"));
    assert_eq!(shares(&daemon, 100).await["good"], 100);
    daemon.metric_becomes("retries_total", &[("reason", "connect_failed")], 50.0).await;
}
