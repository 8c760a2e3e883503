//! Nearer endpoints first, as far as they can take it; apertures; address families.

use std::{
    collections::HashMap,
    net::{Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::{Backend, Client, Daemon, Speaks, client, eventually, get};

/// A daemon in zone `a`, with a service whose endpoints are in these zones.
fn in_zone_a(endpoints: &[(&Backend, &str)], more: &str) -> Daemon {
    let endpoint = |(backend, zone): &(&Backend, &str)| {
        format!("{{ address = \"{}\", zone = \"{zone}\" }}", backend.address)
    };
    let endpoints: Vec<String> = endpoints.iter().map(endpoint).collect();
    Daemon::start(&format!(
        "[node]\nname = \"test\"\nworkers = 2\nzone = \"a\"\n\
         [[routes]]\nname = \"all\"\nhosts = [\"*\"]\nbackends = [{{ service = \"echo\" }}]\n\
         [services.echo]\nprotocol = \"http1\"\nendpoints = [{}]\n{more}",
        endpoints.join(", ")
    ))
}

async fn shares(daemon: &Daemon, count: u32) -> HashMap<String, u32> {
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let mut shares = HashMap::new();
    for _ in 0..count {
        let answer = client.ask(get("svc", "/")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        *shares.entry(answer.backend().to_owned()).or_default() += 1;
    }
    shares
}

async fn echo(daemon: &Daemon) -> Value {
    daemon.admin_get("/api/services").await.json()["services"][0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn requests_stay_in_the_zone_that_has_its_share_of_endpoints() {
    let (here, there) = (Backend::start("here").await, Backend::start("there").await);
    for balancer in ["\"least-request\"", "\"round-robin\"", "\"peak-ewma\""] {
        let more = format!("balancer = {balancer}\nlocality = {{ prefer = \"zone\" }}\n");
        let daemon = in_zone_a(&[(&here, "a"), (&there, "b")], &more);
        assert_eq!(shares(&daemon, 100).await, HashMap::from([("here".to_owned(), 100)]), "{balancer}");
        let endpoints = &echo(&daemon).await["endpoints"];
        let place = |name: &Backend| {
            let address = name.address.to_string();
            let found = endpoints.as_array().unwrap().iter().find(|found| found["address"] == address);
            found.unwrap()["place"].clone()
        };
        assert_eq!([place(&here), place(&there)], ["node", "elsewhere"], "{endpoints}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_zone_that_has_less_than_its_share_spills_the_rest() {
    let mut backends = Vec::new();
    for name in ["here", "there-1", "there-2", "there-3"] {
        backends.push(Backend::start(name).await);
    }
    let zoned: Vec<_> = backends.iter().zip(["a", "b", "b", "b"]).collect();
    let daemon = in_zone_a(&zoned, "locality = { prefer = \"zone\" }\n");
    // A quarter of the endpoints, where half would be the zone's share.
    let here = shares(&daemon, 400).await["here"];
    assert!((150..=250).contains(&here), "{here} of 400");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_a_preference_zones_do_not_count() {
    let (here, there) = (Backend::start("here").await, Backend::start("there").await);
    let daemon = in_zone_a(&[(&here, "a"), (&there, "b")], "locality = { prefer = \"none\" }\n");
    let here = shares(&daemon, 200).await["here"];
    assert!((60..=140).contains(&here), "{here} of 200");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_near_endpoint_that_is_loaded_gives_way() {
    let (here, there) = (Backend::start("here").await, Backend::start("there").await);
    let more = "locality = { prefer = \"node\", max_requests = 4 }\n";
    let daemon = in_zone_a(&[(&here, "a"), (&there, "b")], more);
    let mut running = JoinSet::new();
    for _ in 0..40 {
        let address = daemon.address();
        running.spawn(async move { client::ask(address, Speaks::Http1, get("svc", "/slow?ms=800")).await });
    }
    let mut shares: HashMap<String, u32> = HashMap::new();
    while let Some(answer) = running.join_next().await {
        *shares.entry(answer.unwrap().backend().to_owned()).or_default() += 1;
    }
    // Both at once: 22 here, 18 there. Requests that come together may see each other late.
    assert!((17..=27).contains(&shares["here"]), "{shares:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_aperture_bounds_the_endpoints_that_a_node_talks_to_and_peers_share_them_out_evenly() {
    let mut backends = Vec::new();
    for name in 0..12 {
        backends.push(Backend::start(&name.to_string()).await);
    }
    let addresses: Vec<SocketAddr> = backends.iter().map(|backend| backend.address).collect();
    let mut total: HashMap<String, u32> = HashMap::new();
    for index in 0..6 {
        let service = crate::support::daemon::one_service("http1", &addresses);
        let daemon = Daemon::start(&format!(
            "[node]\nname = \"test\"\nworkers = 1\nposition = {{ index = {index}, count = 6 }}\n{service}\
             aperture = 4\nlocality = {{ prefer = \"none\" }}\nbalancer = \"round-robin\"\n"
        ));
        let used = shares(&daemon, 60).await;
        assert!((4..=5).contains(&used.len()), "{used:?}");
        used.into_iter().for_each(|(name, count)| *total.entry(name).or_default() += count);
    }
    assert_eq!(total.len(), 12);
    assert!(total.values().all(|count| (27..=33).contains(count)), "{total:?}");
}

/// An IPv6 address that takes no connection and says nothing: a queue that is full drops each SYN, as a network does that
/// loses them.
struct Lossy {
    address: SocketAddr,
    _listener: socket2::Socket,
    waiting: Vec<tokio::task::JoinHandle<std::io::Result<tokio::net::TcpStream>>>,
}

impl Lossy {
    async fn start() -> Self {
        let listener = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from((Ipv6Addr::LOCALHOST, 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let waiting = (0..3).map(|_| tokio::spawn(tokio::net::TcpStream::connect(address))).collect();
        let lossy = Self { address, _listener: listener, waiting };
        eventually("its queue is full", async || {
            let connecting = tokio::net::TcpStream::connect(lossy.address);
            tokio::time::timeout(Duration::from_millis(100), connecting).await.is_err()
        })
        .await;
        lossy
    }
}

impl Drop for Lossy {
    fn drop(&mut self) {
        self.waiting.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_address_family_that_loses_packets_costs_a_quarter_of_a_second() {
    let (lossy, good) = (Lossy::start().await, Backend::start("good").await);
    let daemon = Daemon::start(&format!(
        "{}balancer = \"round-robin\"\nconnect_timeout = \"10s\"\n",
        crate::support::daemon::one_service("http1", &[good.address, lossy.address])
    ));
    for _ in 0..4 {
        let begun = Instant::now();
        let answer = client::ask(daemon.address(), Speaks::Http1, get("svc", "/")).await;
        assert_eq!((answer.status, answer.backend()), (200, "good"), "{answer:?}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_address_family_that_loses_packets_is_left_alone_before_long_and_the_other_is_not_blamed() {
    for balancer in ["round-robin", "peak-ewma"] {
        let (lossy, good) = (Lossy::start().await, Backend::start("good").await);
        let daemon = Daemon::start(&format!(
            "{}balancer = \"{balancer}\"\nconnect_timeout = \"400ms\"\n",
            crate::support::daemon::one_service("http1", &[good.address, lossy.address])
        ));
        let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
        // Peak EWMA comes to it too rarely for an ejection.
        let ejected = if balancer == "round-robin" { 1.0 } else { 0.0 };
        eventually("the lossy endpoint is known", async || {
            for _ in 0..10 {
                assert_eq!(client.ask(get("svc", "/")).await.backend(), "good");
            }
            let failed = [("service", "echo"), ("endpoint", &*lossy.address.to_string())];
            daemon.metric("ejections_total", &[("service", "echo")]).await >= ejected
                && daemon.metric("endpoint_requests_total", &failed).await >= 1.0
        })
        .await;
        let mut late = 0;
        for _ in 0..30 {
            let begun = Instant::now();
            client.ask(get("svc", "/")).await;
            late += u32::from(begun.elapsed() > Duration::from_millis(200));
        }
        assert!(late <= 2, "{balancer}: {late} of 30 were late");
        let endpoints = echo(&daemon).await["endpoints"].clone();
        let found =
            endpoints.as_array().unwrap().iter().find(|one| one["address"] == good.address.to_string());
        let latency = found.unwrap()["latency_ms"].as_f64().unwrap();
        assert!(latency < 100.0, "{balancer}: the good one is charged the other's delay: {latency} ms");
    }
}
