//! Services by SRV records: port, priority and weight from DNS.

use super::*;

const SRV: &str = "_http._tcp.reviews.test";

/// Two backends on ports of their own, behind the targets `one.test` and `two.test`, and the daemon before them.
struct Fixture {
    dns: DnsServer,
    one: Backend,
    two: Backend,
}

impl Fixture {
    async fn new() -> Self {
        let dns = DnsServer::start();
        dns.set_a("one.test", 60, &[ONE]);
        dns.set_a("two.test", 60, &[ONE]);
        Self { dns, one: Backend::start("one").await, two: Backend::start("two").await }
    }

    /// `(priority, weight)` of each; none: no record.
    fn records(&self, one: Option<(u16, u16)>, two: Option<(u16, u16)>) {
        let one = one.map(|(priority, weight)| (priority, weight, self.one.address.port(), "one.test"));
        let two = two.map(|(priority, weight)| (priority, weight, self.two.address.port(), "two.test"));
        let records: Vec<_> = one.into_iter().chain(two).collect();
        self.dns.set_srv(SRV, 1, &records);
    }

    fn toml(&self) -> String {
        named(self.dns.address(), 1).replace(&format!("dns = \"{NAME}:1\""), &format!("srv = \"{SRV}\""))
    }
}

/// How many of `count` requests went to `one`.
async fn to_one(client: &mut Client, count: usize) -> usize {
    let mut to_one = 0;
    for _ in 0..count {
        let answer = client.ask(get("svc", "/")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        to_one += usize::from(answer.backend() == "one");
    }
    to_one
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_lowest_priority_is_used_and_the_next_one_when_it_is_gone() {
    let fixture = Fixture::new().await;
    fixture.records(Some((1, 0)), Some((2, 0)));
    let daemon = Daemon::start(&fixture.toml());
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    assert_eq!(to_one(&mut client, 10).await, 10);
    fixture.records(None, Some((2, 0)));
    eventually("the other priority is used", async || to_one(&mut client, 1).await == 0).await;
    fixture.records(Some((1, 0)), Some((2, 0)));
    eventually("the lower one is back", async || to_one(&mut client, 1).await == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn weights_share_the_requests() {
    let fixture = Fixture::new().await;
    fixture.records(Some((1, 10)), Some((1, 30)));
    let daemon = Daemon::start(&fixture.toml());
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    assert_eq!(to_one(&mut client, 40).await, 10);
    let service = state(&daemon).await;
    let ports: Vec<_> = service["endpoints"].as_array().unwrap().iter().map(|e| &e["address"]).collect();
    assert_eq!(ports.len(), 2, "{ports:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_target_that_does_not_exist_is_left_out_and_no_target_at_all_is_told() {
    let fixture = Fixture::new().await;
    fixture.dns.nxdomain("two.test");
    fixture.records(Some((1, 1)), Some((1, 1)));
    let daemon = Daemon::start(&fixture.toml());
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    assert_eq!(to_one(&mut client, 10).await, 10);
    fixture.dns.nxdomain("one.test");
    let daemon = Daemon::start(&fixture.toml());
    let answer = client::ask(daemon.address(), Speaks::Http1, get("svc", "/")).await;
    assert_eq!((answer.status, answer.reason()), (503, "no_endpoints"), "{answer:?}");
    let error = answer.json()["error"].clone();
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains(SRV) && message.contains("one.test") && message.contains("NXDOMAIN"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_last_good_records_are_kept_through_an_outage() {
    let fixture = Fixture::new().await;
    fixture.records(Some((1, 1)), None);
    let daemon = Daemon::start(&fixture.toml());
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    assert_eq!(to_one(&mut client, 1).await, 1);
    fixture.dns.servfail(SRV);
    becomes(&daemon, "failing").await;
    let service = state(&daemon).await;
    assert!(service["message"].as_str().unwrap().contains("SERVFAIL"), "{service}");
    assert_eq!(to_one(&mut client, 10).await, 10);
    fixture.records(Some((1, 1)), None);
    becomes(&daemon, "current").await;
}
