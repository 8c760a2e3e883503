//! Services by SRV records, over the wire.

use super::*;
use crate::discovery::Endpoint;

const NAME: &str = "_http._tcp.reviews.test";

struct Srv {
    server: DnsServer,
    discovery: Discovery,
}

impl Srv {
    /// With these records, each `(priority, weight, port, target)`.
    fn new(ttl: u32, records: &[(u16, u16, u16, &str)]) -> Self {
        let server = DnsServer::start();
        server.set_srv(NAME, ttl, records);
        let discovery = discovery(&impatient(&[server.address()]), quick());
        Self { server, discovery }
    }

    fn follow(&self) -> Followed {
        Followed::by(&self.discovery, &Source::Srv(NAME.to_owned()))
    }
}

/// Priority, address and weight of each.
fn written(endpoints: &[Endpoint]) -> Vec<String> {
    endpoints.iter().map(|e| format!("{} {} {}", e.priority, e.address, e.weight)).collect()
}

async fn next(followed: &mut Followed) -> Vec<String> {
    match followed.next().await {
        Update::Endpoints(endpoints) => written(&endpoints),
        other => panic!("{other:?}"),
    }
}

async fn until(followed: &mut Followed, expected: &[&str]) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let update = followed.next().await;
        if matches!(&update, Update::Endpoints(found) if written(found) == expected) {
            return;
        }
        assert!(Instant::now() < deadline, "still {update:?}");
    }
}

#[tokio::test(flavor = "local")]
async fn targets_are_resolved_with_port_priority_and_weight() {
    let srv = Srv::new(60, &[(1, 10, 8080, "a.test"), (1, 30, 8081, "B.test"), (2, 5, 80, "c.test")]);
    srv.server.set_a("a.test", 60, &[V4]);
    srv.server.set_a("b.test", 60, &[V4]);
    srv.server.set_aaaa("c.test", 60, &[V6]);
    let mut followed = srv.follow();
    assert_eq!(next(&mut followed).await, ["1 10.1.2.3:8080 1", "1 10.1.2.3:8081 3", "2 [fd00::7]:80 1"]);
}

#[tokio::test(flavor = "local")]
async fn a_target_without_addresses_is_left_out_until_it_has_some() {
    let srv = Srv::new(60, &[(1, 1, 80, "a.test"), (1, 1, 80, "missing.test"), (1, 1, 80, "silent.test")]);
    srv.server.set_a("a.test", 60, &[V4]);
    srv.server.silent("silent.test");
    let mut followed = srv.follow();
    assert_eq!(next(&mut followed).await, ["1 10.1.2.3:80 1"]);
    srv.server.set_a("missing.test", 60, &[V4_OTHER]);
    until(&mut followed, &["1 10.1.2.3:80 1", "1 10.1.2.4:80 1"]).await;
}

#[tokio::test(flavor = "local")]
async fn a_silent_target_holds_up_the_others_for_a_moment_only() {
    let server = DnsServer::start();
    server.set_srv(NAME, 60, &[(1, 1, 80, "a.test"), (1, 1, 80, "b.test"), (1, 1, 80, "silent.test")]);
    server.set_a("a.test", 60, &[V4]);
    server.set_a("b.test", 60, &[V4_OTHER]);
    server.silent("silent.test");
    let discovery = discovery(&config(&[server.address()]), Schedule::default());
    let started = Instant::now();
    let mut followed = Followed::by(&discovery, &Source::Srv(NAME.to_owned()));
    assert_eq!(next(&mut followed).await, ["1 10.1.2.3:80 1", "1 10.1.2.4:80 1"]);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "local")]
async fn a_target_that_fails_keeps_its_last_addresses_and_makes_the_service_fail() {
    let srv = Srv::new(0, &[(1, 1, 80, "a.test"), (1, 1, 80, "b.test")]);
    srv.server.set_a("a.test", 0, &[V4]);
    srv.server.set_a("b.test", 0, &[V4_OTHER]);
    let mut followed = srv.follow();
    let both = ["1 10.1.2.3:80 1", "1 10.1.2.4:80 1"];
    assert_eq!(next(&mut followed).await, both);
    srv.server.servfail("b.test");
    while matches!(followed.next().await, Update::Endpoints(found) if written(&found) == both) {}
    // The records are answered all the while, which does not make the target's addresses any younger.
    for _ in 0..5 {
        let (kind, message) = followed.failure().await;
        let asked = srv.server.address();
        let why = format!("{NAME}: of its SRV target b.test: the server failed (SERVFAIL, asked {asked})");
        assert_eq!((kind, message), (FailureKind::ServFail, why));
    }
    assert_eq!(next(&mut srv.follow()).await, both, "for a later service too");
}

#[tokio::test(flavor = "local")]
async fn a_target_that_recovers_is_told_before_the_records_are_asked_for_again() {
    let srv = Srv::new(300, &[(1, 1, 80, "a.test")]);
    srv.server.set_a("a.test", 0, &[V4]);
    let mut followed = srv.follow();
    assert_eq!(next(&mut followed).await, ["1 10.1.2.3:80 1"]);
    srv.server.servfail("a.test");
    assert_eq!(followed.failure().await.0, FailureKind::ServFail);
    srv.server.set_a("a.test", 0, &[V4]);
    assert_eq!(next(&mut followed).await, ["1 10.1.2.3:80 1"]);
}

#[tokio::test(flavor = "local")]
async fn no_target_with_an_address_is_a_failure_that_names_one_of_them() {
    let srv = Srv::new(60, &[(1, 1, 80, "a.test"), (1, 1, 80, "b.test")]);
    let (kind, message) = srv.follow().failure().await;
    assert_eq!(kind, FailureKind::NoSuchName);
    let asked = srv.server.address();
    assert_eq!(
        message,
        format!(
            "{NAME}: no target of its SRV records has an address: a.test: no such name (NXDOMAIN, asked {asked})"
        )
    );
}

#[tokio::test(flavor = "local")]
async fn a_name_without_srv_records_is_reported_as_such() {
    let srv = Srv::new(60, &[]);
    let (kind, message) = srv.follow().failure().await;
    assert_eq!(kind, FailureKind::NoRecords);
    assert_eq!(message, format!("{NAME}: no SRV records (asked {})", srv.server.address()));
}

#[tokio::test(flavor = "local")]
async fn the_root_as_target_is_an_empty_answer_with_words_of_its_own() {
    let srv = Srv::new(0, &[(1, 1, 80, "a.test")]);
    srv.server.set_a("a.test", 60, &[V4]);
    let mut followed = srv.follow();
    next(&mut followed).await;
    srv.server.set_srv(NAME, 0, &[(0, 0, 0, ".")]);
    let message = loop {
        match followed.next().await {
            Update::Endpoints(found) => assert_eq!(written(&found), ["1 10.1.2.3:80 1"]),
            Update::Failed(failure) => break failure.message,
            Update::Expired(failure) => panic!("{}", failure.message),
        }
    };
    assert!(message.contains("the service is not available"), "{message}");
}

#[tokio::test(flavor = "local")]
async fn changed_records_count_at_once_and_missing_ones_after_the_hold_down() {
    let srv = Srv::new(0, &[(1, 1, 80, "a.test"), (1, 1, 80, "b.test")]);
    srv.server.set_a("a.test", 60, &[V4]);
    srv.server.set_a("b.test", 60, &[V4_OTHER]);
    let mut followed = srv.follow();
    next(&mut followed).await;
    srv.server.set_srv(NAME, 0, &[(1, 2, 80, "a.test")]);
    until(&mut followed, &["1 10.1.2.3:80 2", "1 10.1.2.4:80 1"]).await;
    until(&mut followed, &["1 10.1.2.3:80 1"]).await;
    assert_eq!(srv.discovery.names(), 2, "the other target is followed no more");
}

#[tokio::test(flavor = "local")]
async fn a_target_that_is_a_service_too_is_asked_for_once() {
    let srv = Srv::new(60, &[(1, 1, 80, "a.test")]);
    srv.server.set_a("a.test", 60, &[V4]);
    let mut plain = Followed::by(&srv.discovery, &named("a.test", 81));
    assert_eq!(plain.endpoints().await, ["10.1.2.3:81"]);
    assert_eq!(next(&mut srv.follow()).await, ["1 10.1.2.3:80 1"]);
    assert_eq!(srv.server.queries("a.test"), 2, "A and AAAA once");
}

#[tokio::test(flavor = "local")]
async fn an_alias_of_srv_records_is_followed() {
    let srv = Srv::new(60, &[(1, 1, 80, "a.test")]);
    srv.server.set_a("a.test", 60, &[V4]);
    srv.server.set_cname("alias.test", 60, NAME);
    let mut followed = Followed::by(&srv.discovery, &Source::Srv("alias.test".to_owned()));
    assert_eq!(next(&mut followed).await, ["1 10.1.2.3:80 1"]);
}

#[tokio::test(flavor = "local")]
async fn before_a_request_gives_up_it_hears_which_target_was_asked_for() {
    let server = DnsServer::start();
    server.set_srv(NAME, 60, &[(1, 1, 80, "silent.test")]);
    server.silent("silent.test");
    let first_answer_timeout = Duration::from_millis(200);
    let dns = Dns { first_answer_timeout, ..config(&[server.address()]) };
    let discovery = discovery(&dns, quick());
    let mut followed = Followed::by(&discovery, &Source::Srv(NAME.to_owned()));
    followed.following.urgent();
    let (kind, message) = followed.failure().await;
    assert_eq!(kind, FailureKind::Timeout);
    let end = format!("silent.test: no answer yet after 190ms (asked {})", server.address());
    assert!(message.ends_with(&end), "{message}");
}
