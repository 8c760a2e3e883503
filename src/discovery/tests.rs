//! Names resolved over the wire, against a DNS server in process.

#[path = "../../tests/it/support/dns.rs"]
pub(super) mod dns;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use self::dns::DnsServer;
use super::{
    Discovery, FailureKind, Following, Prepared, Schedule, Update,
    dns::{
        members::{Answer, Kind, Member, Question, Unanswered},
        resolver::Resolver,
        system::SystemFiles,
    },
};
use crate::{
    config::{Dns, Source},
    telemetry::{DnsSeries, Metrics},
};

mod families;
mod odd;
mod searched;
mod shared;
mod srv;

const V4: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);
const V4_OTHER: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 4);
const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7);
/// Of a resolver that is to meet silence.
const IMPATIENT: Duration = Duration::from_millis(600);

/// What `[dns]` says when all else is as usual.
fn config(servers: &[SocketAddr]) -> Dns {
    let timeout = Duration::from_secs(2);
    let max_stale = Duration::from_secs(3600);
    Dns { servers: servers.to_vec(), timeout, first_answer_timeout: timeout, max_stale }
}

fn impatient(servers: &[SocketAddr]) -> Dns {
    Dns { timeout: IMPATIENT, ..config(servers) }
}

fn series() -> Arc<DnsSeries> {
    Metrics::new(1).dns.clone()
}

fn resolver(dns: &Dns) -> Resolver {
    Resolver::new(dns, &SystemFiles::default(), &series()).unwrap()
}

fn addresses_of(host: &str) -> Question {
    Question { host: host.to_owned(), kind: Kind::Addresses }
}

async fn lookup(dns: &Dns, host: &str) -> Result<Answer, Unanswered> {
    resolve(&resolver(dns), host).await
}

/// The answer without what comes late.
async fn resolve(resolver: &Resolver, host: &str) -> Result<Answer, Unanswered> {
    resolver.lookup(&addresses_of(host), None).await.map(|found| found.answer)
}

fn ips(answer: &Answer) -> Vec<IpAddr> {
    let mut ips: Vec<_> = answer
        .found
        .iter()
        .map(|(member, _)| match member {
            Member::Address(ip) => *ip,
            Member::Target(target) => panic!("{target:?}"),
        })
        .collect();
    ips.sort();
    ips
}

/// Fast enough for tests: what the TTL says, but no less than 20 ms.
fn quick() -> Schedule {
    let ms = Duration::from_millis;
    Schedule { floor: ms(20), first_retry: ms(20), last_retry: ms(40), ..Schedule::default() }
}

/// Discovery that asks as often as `schedule` says, and takes every address for reachable.
fn discovery(dns: &Dns, schedule: Schedule) -> Discovery {
    Discovery::scheduled(Prepared::new(dns, &series()).unwrap(), schedule, |_| false)
}

/// A service's source, as configured.
fn named(host: &str, port: u16) -> Source {
    Source::Dns { host: host.to_owned(), port }
}

/// The updates of one followed source; following ends when this is dropped.
struct Followed {
    updates: mpsc::UnboundedReceiver<Update>,
    following: Following,
    _discovery: Option<Discovery>,
}

impl Followed {
    fn start(servers: &[SocketAddr], host: &str) -> Self {
        Self::scheduled(&config(servers), host, quick())
    }

    fn scheduled(dns: &Dns, host: &str, schedule: Schedule) -> Self {
        let discovery = discovery(dns, schedule);
        let followed = Self::by(&discovery, &named(host, 80));
        Self { _discovery: Some(discovery), ..followed }
    }

    fn by(discovery: &Discovery, source: &Source) -> Self {
        let (sender, updates) = mpsc::unbounded_channel();
        let following = discovery.follow(source, move |update| {
            let _ = sender.send(update);
        });
        Self { updates, following: following.unwrap(), _discovery: None }
    }

    async fn next(&mut self) -> Update {
        let next = tokio::time::timeout(Duration::from_secs(5), self.updates.recv());
        next.await.expect("an update within 5 s").expect("following never ends")
    }

    /// The next answer, written as addresses.
    async fn endpoints(&mut self) -> Vec<String> {
        match self.next().await {
            Update::Endpoints(endpoints) => endpoints.iter().map(|e| e.address.to_string()).collect(),
            Update::Failed(failure) | Update::Expired(failure) => panic!("{}", failure.message),
        }
    }

    /// The next update, which is a failure.
    async fn failure(&mut self) -> (FailureKind, String) {
        match self.next().await {
            Update::Failed(failure) => (failure.kind, failure.message),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until an answer is `expected`.
    async fn until(&mut self, expected: &[&str]) {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let update = self.next().await;
            if let Update::Endpoints(found) = &update
                && found.iter().map(|e| e.address.to_string()).eq(expected.iter().copied())
            {
                return;
            }
            assert!(Instant::now() < deadline, "still {update:?}");
        }
    }
}

/// A server that takes queries and answers none.
fn deaf_server() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test(flavor = "local")]
async fn ipv4_addresses_become_endpoints_in_order() {
    let server = DnsServer::start();
    server.set_a("reviews.test", 60, &[V4_OTHER, V4]);
    let mut followed = Followed::start(&[server.address()], "reviews.test");
    assert_eq!(followed.endpoints().await, ["10.1.2.3:80", "10.1.2.4:80"]);
}

#[tokio::test(flavor = "local")]
async fn ipv6_addresses_alone_suffice() {
    let server = DnsServer::start();
    server.set_aaaa("reviews.test", 60, &[V6]);
    let mut followed = Followed::start(&[server.address()], "reviews.test");
    assert_eq!(followed.endpoints().await, ["[fd00::7]:80"]);
}

#[tokio::test(flavor = "local")]
async fn both_families_are_used() {
    let server = DnsServer::start();
    server.set_a("reviews.test", 60, &[V4]);
    server.set_aaaa("reviews.test", 60, &[V6]);
    let mut followed = Followed::start(&[server.address()], "reviews.test");
    assert_eq!(followed.endpoints().await, ["10.1.2.3:80", "[fd00::7]:80"]);
}

#[tokio::test(flavor = "local")]
async fn a_cname_chain_is_followed_and_its_shortest_ttl_counts() {
    let server = DnsServer::start();
    server.set_cname("reviews.test", 300, "alias.test");
    server.set_cname("alias.test", 7, "real.test");
    server.set_a("real.test", 60, &[V4]);
    let answer = lookup(&config(&[server.address()]), "reviews.test").await.unwrap();
    assert_eq!(ips(&answer), [V4]);
    assert_eq!(answer.ttl, Duration::from_secs(7));
}

#[tokio::test(flavor = "local")]
async fn the_shorter_ttl_of_the_two_families_counts() {
    let server = DnsServer::start();
    server.set_a("reviews.test", 60, &[V4]);
    server.set_aaaa("reviews.test", 9, &[V6]);
    let answer = lookup(&config(&[server.address()]), "reviews.test").await.unwrap();
    assert_eq!(answer.ttl, Duration::from_secs(9));
}

#[tokio::test(flavor = "local")]
async fn an_answer_too_large_for_udp_is_fetched_over_tcp() {
    let server = DnsServer::start();
    let many: Vec<_> = (0..100).map(|n| Ipv4Addr::new(10, 9, 9, n)).collect();
    server.set_a("reviews.test", 60, &many);
    let mut followed = Followed::start(&[server.address()], "reviews.test");
    assert_eq!(followed.endpoints().await.len(), 100);
    assert!(server.tcp_queries("reviews.test") > 0);
}

#[tokio::test(flavor = "local")]
async fn a_name_is_asked_for_again_when_its_ttl_is_nearly_over_and_not_before() {
    let server = DnsServer::start();
    server.set_a("brief.test", 1, &[V4]);
    server.set_a("long.test", 60, &[V4]);
    let mut brief = Followed::start(&[server.address()], "brief.test");
    let mut long = Followed::start(&[server.address()], "long.test");
    brief.endpoints().await;
    long.endpoints().await;
    let answered = Instant::now();
    brief.endpoints().await;
    let delay = answered.elapsed();
    assert!((Duration::from_millis(750)..Duration::from_millis(2500)).contains(&delay), "{delay:?}");
    assert!(long.updates.try_recv().is_err());
}

#[tokio::test(flavor = "local")]
async fn a_ttl_of_0_is_asked_for_at_the_floor() {
    let server = DnsServer::start();
    server.set_a("reviews.test", 0, &[V4]);
    let schedule = Schedule { floor: Duration::from_millis(150), ..Schedule::default() };
    let mut followed = Followed::scheduled(&config(&[server.address()]), "reviews.test", schedule);
    followed.endpoints().await;
    let answered = Instant::now();
    followed.endpoints().await;
    let delay = answered.elapsed();
    assert!((Duration::from_millis(140)..Duration::from_millis(1000)).contains(&delay), "{delay:?}");
}

#[tokio::test(flavor = "local")]
async fn a_changed_answer_is_reported() {
    let server = DnsServer::start();
    server.set_a("reviews.test", 0, &[V4]);
    let mut followed = Followed::start(&[server.address()], "reviews.test");
    followed.until(&["10.1.2.3:80"]).await;
    server.set_a("reviews.test", 0, &[V4_OTHER]);
    followed.until(&["10.1.2.4:80"]).await;
}

#[tokio::test(flavor = "local")]
async fn a_name_that_does_not_exist_is_reported_as_such() {
    let server = DnsServer::start();
    server.nxdomain("reviews.test");
    let (kind, message) = Followed::start(&[server.address()], "reviews.test").failure().await;
    assert_eq!(kind, FailureKind::NoSuchName);
    assert_eq!(message, format!("reviews.test: no such name (NXDOMAIN, asked {})", server.address()));
}

#[tokio::test(flavor = "local")]
async fn a_name_without_addresses_is_reported_as_such() {
    let server = DnsServer::start();
    server.set_a("reviews.test", 60, &[]);
    let (kind, message) = Followed::start(&[server.address()], "reviews.test").failure().await;
    assert_eq!(kind, FailureKind::NoRecords);
    assert_eq!(message, format!("reviews.test: no A or AAAA records (asked {})", server.address()));
}

#[tokio::test(flavor = "local")]
async fn servfail_and_refused_are_reported_as_such() {
    let server = DnsServer::start();
    server.servfail("broken.test");
    server.refuse("refused.test");
    let (kind, message) = Followed::start(&[server.address()], "broken.test").failure().await;
    assert_eq!(kind, FailureKind::ServFail);
    assert_eq!(message, format!("broken.test: the server failed (SERVFAIL, asked {})", server.address()));
    let (kind, message) = Followed::start(&[server.address()], "refused.test").failure().await;
    assert_eq!(kind, FailureKind::Refused);
    assert_eq!(message, format!("refused.test: the server refuses (REFUSED, asked {})", server.address()));
}

#[tokio::test(flavor = "local")]
async fn silence_is_reported_after_the_configured_timeout_in_total() {
    let server = DnsServer::start();
    server.silent("reviews.test");
    let (_socket, deaf) = deaf_server();
    let started = Instant::now();
    let dns = impatient(&[server.address(), deaf]);
    let (kind, message) = Followed::scheduled(&dns, "reviews.test", quick()).failure().await;
    let took = started.elapsed();
    assert!((IMPATIENT..IMPATIENT * 2).contains(&took), "{took:?}");
    assert_eq!(kind, FailureKind::Timeout);
    assert!(message.starts_with("reviews.test: no answer within 600ms (asked 127.0.0.1:"), "{message}");
    assert!(
        message.contains(&deaf.to_string()) && message.contains(&server.address().to_string()),
        "{message}"
    );
}

#[tokio::test(flavor = "local")]
async fn the_next_server_is_asked_when_one_is_silent_or_fails() {
    let (_socket, deaf) = deaf_server();
    let (failing, good) = (DnsServer::start(), DnsServer::start());
    failing.servfail("reviews.test");
    good.set_a("reviews.test", 0, &[V4]);
    let resolver = resolver(&impatient(&[deaf, failing.address(), good.address()]));
    assert_eq!(ips(&resolve(&resolver, "reviews.test").await.unwrap()), [V4]);
    let started = Instant::now();
    assert_eq!(ips(&resolve(&resolver, "reviews.test").await.unwrap()), [V4]);
    assert!(started.elapsed() < IMPATIENT / 3, "the server that answered is asked first");
}

/// Passes questions on to `server`, and its answers back after `delay`.
async fn relay(server: SocketAddr, delay: Duration) -> SocketAddr {
    let socket = std::rc::Rc::new(tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let address = socket.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        let mut question = [0; 512];
        while let Ok((length, asker)) = socket.recv_from(&mut question).await {
            let (socket, question) = (socket.clone(), question[..length].to_vec());
            tokio::task::spawn_local(async move {
                let onward = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
                onward.send_to(&question, server).await.unwrap();
                let mut answer = [0; 2048];
                let length = onward.recv(&mut answer).await.unwrap();
                tokio::time::sleep(delay).await;
                socket.send_to(&answer[..length], asker).await.unwrap();
            });
        }
    });
    address
}

#[tokio::test(flavor = "local")]
async fn a_server_that_is_slow_has_the_whole_timeout_although_the_next_is_asked_meanwhile() {
    let (_socket, deaf) = deaf_server();
    let good = DnsServer::start();
    good.set_a("reviews.test", 0, &[V4]);
    let slow = relay(good.address(), IMPATIENT * 2 / 3).await;
    let resolver = resolver(&impatient(&[slow, deaf]));
    assert_eq!(ips(&resolve(&resolver, "reviews.test").await.unwrap()), [V4]);
}

/// How long an answer takes.
async fn ask_once(resolver: &Resolver) -> Duration {
    let started = Instant::now();
    assert_eq!(ips(&resolve(resolver, "reviews.test").await.unwrap()), [V4]);
    started.elapsed()
}

#[tokio::test(flavor = "local")]
async fn a_dead_first_server_costs_its_share_once_and_is_asked_again_when_the_other_dies() {
    let (first, second) = (DnsServer::start(), DnsServer::start());
    first.silent("reviews.test");
    second.set_a("reviews.test", 0, &[V4]);
    let resolver = resolver(&impatient(&[first.address(), second.address()]));
    let share = IMPATIENT / 2;
    assert!(ask_once(&resolver).await >= share);
    for _ in 0..3 {
        assert!(ask_once(&resolver).await < share);
    }
    first.set_a("reviews.test", 0, &[V4]);
    second.silent("reviews.test");
    assert!(ask_once(&resolver).await >= share);
    assert!(ask_once(&resolver).await < share);
}

#[tokio::test(flavor = "local")]
async fn a_name_that_flaps_keeps_its_endpoints() {
    let server = DnsServer::start();
    server.set_a("reviews.test", 0, &[V4]);
    let mut followed = Followed::start(&[server.address()], "reviews.test");
    let flap: [fn(&DnsServer); 5] = [
        |server| server.nxdomain("reviews.test"),
        |server| server.servfail("reviews.test"),
        |server| server.refuse("reviews.test"),
        |server| server.set_a("reviews.test", 0, &[]),
        |server| server.silent("reviews.test"),
    ];
    for fail in flap {
        followed.until(&["10.1.2.3:80"]).await;
        fail(&server);
        loop {
            match followed.next().await {
                Update::Endpoints(found) => assert_eq!(found.len(), 1),
                Update::Failed(_) => break,
                Update::Expired(failure) => panic!("{}", failure.message),
            }
        }
        server.set_a("reviews.test", 0, &[V4]);
    }
}

#[tokio::test(flavor = "local")]
async fn a_negative_answer_tells_how_long_it_holds() {
    let server = DnsServer::start();
    server.set_negative_ttl(17);
    let unanswered = lookup(&config(&[server.address()]), "reviews.test").await.unwrap_err();
    assert_eq!(unanswered.negative_ttl, Some(Duration::from_secs(17)));
}

#[tokio::test(flavor = "local")]
async fn a_name_that_fails_is_retried_until_it_recovers() {
    let server = DnsServer::start();
    server.set_a("reviews.test", 0, &[V4]);
    let mut followed = Followed::start(&[server.address()], "reviews.test");
    followed.until(&["10.1.2.3:80"]).await;
    server.servfail("reviews.test");
    while matches!(followed.next().await, Update::Endpoints(_)) {}
    assert_eq!(followed.failure().await.0, FailureKind::ServFail);
    server.set_a("reviews.test", 0, &[V4_OTHER]);
    followed.until(&["10.1.2.4:80"]).await;
}

#[tokio::test(flavor = "local")]
async fn an_ip_address_is_its_own_endpoint_and_needs_no_server() {
    let (_socket, deaf) = deaf_server();
    let mut followed = Followed::start(&[deaf], "10.1.2.3");
    assert_eq!(followed.endpoints().await, ["10.1.2.3:80"]);
    assert_eq!(Followed::start(&[deaf], "[fd00::7]").endpoints().await, ["[fd00::7]:80"]);
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert!(followed.updates.try_recv().is_err(), "it is reported once");
}

#[tokio::test(flavor = "local")]
async fn localhost_resolves_without_a_server() {
    let (_socket, deaf) = deaf_server();
    let endpoints = Followed::start(&[deaf], "localhost").endpoints().await;
    assert!(endpoints.iter().any(|e| e == "127.0.0.1:80" || e == "[::1]:80"), "{endpoints:?}");
}

#[tokio::test(flavor = "local")]
async fn a_host_that_is_no_name_fails_with_the_reason() {
    let (_socket, deaf) = deaf_server();
    let (kind, message) = Followed::start(&[deaf], &"x".repeat(64)).failure().await;
    assert_eq!(kind, FailureKind::Other);
    assert!(message.contains(": not a DNS name: "), "{message}");
}
