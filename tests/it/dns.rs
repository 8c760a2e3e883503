//! Services whose endpoints DNS tells: the first answer is awaited, changes are followed, the last good answer is kept.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{net::UdpSocket, task::JoinHandle};

use crate::support::{Backend, Client, Daemon, Speaks, client, dns::DnsServer, eventually, get, within};

mod names;
mod srv;

const NAME: &str = "reviews.test";
const ONE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const TWO: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The service `reviews`, resolved at `server`.
fn named(server: SocketAddr, port: u16) -> String {
    format!(
        "[dns]\nservers = [\"{server}\"]\ntimeout = \"300ms\"\n\
         [[routes]]\nname = \"all\"\nhosts = [\"*\"]\nbackends = [{{ service = \"reviews\" }}]\n\
         [services.reviews]\nprotocol = \"http1\"\nbalancer = \"round-robin\"\ndns = \"{NAME}:{port}\"\n"
    )
}

/// Two servers on one port, at [`ONE`] and [`TWO`].
async fn two_servers() -> (Backend, Backend) {
    for _ in 0..20 {
        let one = Backend::start("one").await;
        let second = SocketAddr::new(TWO.into(), one.address.port());
        if std::net::TcpListener::bind(second).is_ok() {
            return (one, Backend::again("two", second).await);
        }
    }
    panic!("no port is free at both addresses");
}

async fn state(daemon: &Daemon) -> Value {
    let services = daemon.admin_get("/api/services").await.json();
    services["services"][0].clone()
}

async fn becomes(daemon: &Daemon, wanted: &str) {
    eventually(wanted, async || state(daemon).await["state"] == wanted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_changed_answer_moves_the_traffic_once_its_ttl_is_over_and_no_request_fails() {
    let (one, _two) = two_servers().await;
    let dns = DnsServer::start();
    dns.set_a(NAME, 1, &[ONE]);
    let daemon = Daemon::start(&named(dns.address(), one.address.port()));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let answer = client.ask(get("svc", "/")).await;
    assert_eq!((answer.status, answer.backend()), (200, "one"), "{answer:?}");
    dns.set_a(NAME, 1, &[TWO]);
    let change = Instant::now();
    let (mut to_one, mut to_two) = (Duration::ZERO, None);
    while change.elapsed() < Duration::from_millis(2600) {
        let asked = change.elapsed();
        let answer = client.ask(get("svc", "/")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        match answer.backend() {
            "one" => to_one = asked,
            _ => to_two = to_two.or(Some(asked)),
        }
    }
    assert!(to_one < Duration::from_secs(2), "TTL + 1 s, and still a request at {to_one:?}");
    assert!(to_two.unwrap() < to_one, "what is new counts at once, what is gone after the hold-down");
    daemon.metric_becomes("upstream_connections", &[("service", "reviews")], 1.0).await;
    let changed =
        daemon.metric("discovery_updates_total", &[("service", "reviews"), ("result", "changed")]).await;
    assert!((changed - 3.0).abs() < f64::EPSILON, "{changed} changes: the first answer, one more, one less");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_unchanged_answer_is_refreshed_and_a_long_one_is_not_asked_for_again() {
    let (one, _two) = two_servers().await;
    let dns = DnsServer::start();
    dns.set_a(NAME, 1, &[ONE, TWO]);
    dns.set_a("long.test", 60, &[ONE]);
    let toml = named(dns.address(), one.address.port()) + "[services.zlong]\ndns = \"long.test:80\"\n";
    let daemon = Daemon::start(&toml);
    let unchanged = [("service", "reviews"), ("result", "unchanged")];
    eventually("two refreshes", async || daemon.metric("discovery_updates_total", &unchanged).await >= 2.0)
        .await;
    assert_eq!(dns.queries("long.test"), 2, "A and AAAA once");
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let first = client.ask(get("svc", "/")).await.backend().to_owned();
    let second = client.ask(get("svc", "/")).await.backend().to_owned();
    assert_ne!(first, second, "both addresses are used in turn");
    let available = daemon.metric("endpoint_available", &[("service", "reviews")]).await;
    assert!((available - 2.0).abs() < f64::EPSILON, "{available}");
}

/// The last good answer stays in force through an outage, however it shows, and the next good one ends it.
async fn outage(begin: impl FnOnce(&DnsServer), reason: &str) {
    let (one, _two) = two_servers().await;
    let dns = DnsServer::start();
    dns.set_a(NAME, 1, &[ONE]);
    let daemon = Daemon::start(&named(dns.address(), one.address.port()));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    assert_eq!(client.ask(get("svc", "/")).await.backend(), "one");
    assert_eq!(state(&daemon).await["state"], "current");
    begin(&dns);
    becomes(&daemon, "failing").await;
    let service = state(&daemon).await;
    let message = service["message"].as_str().unwrap();
    assert!(message.contains(NAME) && message.contains(reason), "{message}");
    assert_eq!(service["endpoints"][0]["address"], one.address.to_string(), "{service}");
    for _ in 0..10 {
        let answer = client.ask(get("svc", "/")).await;
        assert_eq!((answer.status, answer.backend()), (200, "one"));
    }
    let failed = [("service", "reviews"), ("result", "failed")];
    assert!(daemon.metric("discovery_updates_total", &failed).await >= 1.0);
    let age = state(&daemon).await["discovery_age_seconds"].as_f64().unwrap();
    assert!(age >= 0.9, "the age is that of the last good answer, not of the failure: {age}");
    eventually("the metric says so too", async || {
        daemon.metric("discovery_age_seconds", &[("service", "reviews")]).await >= 0.9
    })
    .await;
    dns.set_a(NAME, 60, &[TWO]);
    becomes(&daemon, "current").await;
    let service = state(&daemon).await;
    assert!(
        service["discovery_age_seconds"].as_f64().unwrap() < 1.0 && service["message"].is_null(),
        "{service}"
    );
    eventually("the other address alone", async || {
        let service = state(&daemon).await;
        let endpoints = service["endpoints"].as_array().unwrap();
        endpoints.len() == 1 && endpoints[0]["address"].as_str().unwrap().starts_with("127.0.0.2:")
    })
    .await;
    assert_eq!(client.ask(get("svc", "/")).await.backend(), "two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_last_good_answer_is_kept_through_servfail() {
    outage(|dns| dns.servfail(NAME), "SERVFAIL").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_last_good_answer_is_kept_through_nxdomain() {
    outage(|dns| dns.nxdomain(NAME), "NXDOMAIN").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_last_good_answer_is_kept_through_silence() {
    outage(|dns| dns.silent(NAME), "no answer within 300ms").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_last_good_answer_is_kept_when_the_records_are_gone() {
    outage(|dns| dns.set_a(NAME, 60, &[]), "no A or AAAA records").await;
}

/// Hands datagrams to `server` and its answers back, each that much later.
async fn late(server: SocketAddr, delay: Duration) -> (SocketAddr, JoinHandle<()>) {
    let front = std::sync::Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let address = front.local_addr().unwrap();
    let relay = tokio::spawn(async move {
        let mut buffer = [0; 1500];
        while let Ok((size, from)) = front.recv_from(&mut buffer).await {
            let (query, front) = (buffer[..size].to_vec(), front.clone());
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                back.send_to(&query, server).await.unwrap();
                let mut answer = [0; 1500];
                let size = back.recv(&mut answer).await.unwrap();
                front.send_to(&answer[..size], from).await.unwrap();
            });
        }
    });
    (address, relay)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_first_requests_wait_for_the_first_answer() {
    let (one, _two) = two_servers().await;
    let dns = DnsServer::start();
    dns.set_a(NAME, 60, &[ONE]);
    let delay = Duration::from_millis(500);
    let (relay, task) = late(dns.address(), delay).await;
    let toml = named(relay, one.address.port()).replace("300ms", "5s");
    let start = Instant::now();
    let daemon = Daemon::start(&toml);
    assert_eq!(state(&daemon).await["state"], "waiting");
    assert!(state(&daemon).await["discovery_age_seconds"].is_null());
    let address = daemon.address();
    let asking: Vec<_> = [Speaks::Http1, Speaks::Http2, Speaks::Http1]
        .map(|speaks| tokio::spawn(client::ask(address, speaks, get("svc", "/"))))
        .into();
    for answer in asking {
        let answer = within("the answer", answer).await.unwrap();
        assert_eq!((answer.status, answer.backend()), (200, "one"), "{answer:?}");
    }
    assert!(start.elapsed() >= delay);
    task.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_wait_for_the_first_answer_is_bounded_by_the_first_answer_timeout_and_by_the_routes() {
    let dns = DnsServer::start();
    dns.silent(NAME);
    let patient = named(dns.address(), 80).replace("timeout = \"300ms\"", "timeout = \"20s\"");
    let toml = patient.replace("[[routes]]", "first_answer_timeout = \"300ms\"\n[[routes]]");
    let daemon = Daemon::start(&toml);
    let answer = client::ask(daemon.address(), Speaks::Http1, get("svc", "/")).await;
    assert_eq!((answer.status, answer.reason()), (503, "no_endpoints"), "{answer:?}");
    let daemon = Daemon::start(&patient.replace("hosts =", "timeout = \"200ms\"\nhosts ="));
    let answer = client::ask(daemon.address(), Speaks::Http1, get("svc", "/")).await;
    assert_eq!((answer.status, answer.reason()), (504, "timeout"), "{answer:?}");
    assert_eq!(answer.json()["error"]["cause"], "timeout");
}

/// What the server does, and how the message tells it.
type Case = (fn(&DnsServer), &'static str);

over_both_protocols! {
    async fn a_name_that_never_resolved_is_no_endpoints_and_the_message_says_why(speaks: Speaks) {
        let cases: [Case; 4] = [
            (|dns| dns.nxdomain(NAME), "NXDOMAIN"),
            (|dns| dns.servfail(NAME), "SERVFAIL"),
            (|dns| dns.set_a(NAME, 60, &[]), "no A or AAAA records"),
            (|dns| dns.silent(NAME), "no answer within 300ms"),
        ];
        for (behave, reason) in cases {
            let dns = DnsServer::start();
            behave(&dns);
            let daemon = Daemon::start(&named(dns.address(), 80));
            let answer = client::ask(daemon.address(), speaks, get("svc", "/")).await;
            assert_eq!((answer.status, answer.reason()), (503, "no_endpoints"), "{answer:?}");
            let error = answer.json()["error"].clone();
            let message = error["message"].as_str().unwrap();
            assert!(message.contains(NAME) && message.contains(reason), "{reason} not in {message}");
            assert_eq!(error["service"], "reviews");
            assert_eq!(state(&daemon).await["state"], "failing");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_name_that_comes_to_exist_is_served_from_then_on() {
    let (one, _two) = two_servers().await;
    let dns = DnsServer::start();
    let daemon = Daemon::start(&named(dns.address(), one.address.port()));
    let mut client = Client::connect(daemon.address(), Speaks::Http2).await;
    assert_eq!(client.ask(get("svc", "/")).await.reason(), "no_endpoints");
    dns.set_a(NAME, 60, &[ONE]);
    eventually("it is served", async || client.ask(get("svc", "/")).await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ipv6_addresses_are_used_alone_and_beside_ipv4() {
    let one = Backend::start("four").await;
    let port = one.address.port();
    let _six = Backend::again("six", SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port)).await;
    let dns = DnsServer::start();
    dns.set_aaaa(NAME, 1, &[Ipv6Addr::LOCALHOST]);
    let daemon = Daemon::start(&named(dns.address(), port));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    assert_eq!(client.ask(get("svc", "/")).await.backend(), "six");
    assert_eq!(state(&daemon).await["endpoints"][0]["address"], format!("[::1]:{port}"));
    dns.set_a(NAME, 1, &[ONE]);
    eventually("both", async || client.ask(get("svc", "/")).await.backend() == "four").await;
    let again: Vec<String> = [client.ask(get("svc", "/")).await, client.ask(get("svc", "/")).await]
        .map(|a| a.backend().to_owned())
        .into();
    assert_eq!(again, ["six", "four"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reload_with_other_dns_servers_asks_those() {
    let (one, _two) = two_servers().await;
    let (old, new) = (DnsServer::start(), DnsServer::start());
    old.set_a(NAME, 60, &[ONE]);
    new.set_a(NAME, 60, &[TWO]);
    let port = one.address.port();
    let daemon = Daemon::start(&named(old.address(), port));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    assert_eq!(client.ask(get("svc", "/")).await.backend(), "one");
    daemon.reload(Some(&named(new.address(), port))).unwrap();
    eventually("the new server's answer", async || {
        let answer = client.ask(get("svc", "/")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.backend() == "two"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_that_waits_for_the_first_answer_while_a_reload_replaces_the_service_gets_one() {
    let (one, _two) = two_servers().await;
    let dns = DnsServer::start();
    dns.set_a(NAME, 60, &[ONE]);
    let (relay, task) = late(dns.address(), Duration::from_millis(700)).await;
    let toml = named(relay, one.address.port()).replace("300ms", "5s");
    let daemon = Daemon::start(&toml);
    let start = Instant::now();
    let asking = tokio::spawn(client::ask(daemon.address(), Speaks::Http1, get("svc", "/")));
    daemon.metric_becomes("requests_in_flight", &[("service", "reviews")], 1.0).await;
    daemon.reload(Some(&toml.replace("round-robin", "least-request"))).unwrap();
    let answer = within("the answer", asking).await.unwrap();
    assert_eq!((answer.status, answer.backend()), (200, "one"), "{answer:?}");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    task.abort();
}
