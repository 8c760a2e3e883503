//! A and AAAA of one name, when the server is slow or silent about one of them.

use super::*;

/// Follows a name with two IPv4 addresses by the defaults, and a server that is silent about its IPv6 addresses.
async fn with_silent_aaaa(ttl: u32) -> (DnsServer, Followed) {
    let server = DnsServer::start();
    server.set_a("reviews.test", ttl, &[V4, V4_OTHER]);
    server.silent_aaaa("reviews.test");
    let dns = config(&[server.address()]);
    let started = Instant::now();
    let mut followed = Followed::scheduled(&dns, "reviews.test", Schedule::default());
    assert_eq!(followed.endpoints().await, ["10.1.2.3:80", "10.1.2.4:80"]);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    (server, followed)
}

#[tokio::test(flavor = "local")]
async fn a_silent_family_delays_neither_the_first_answer_nor_a_removal() {
    let (server, mut followed) = with_silent_aaaa(1).await;
    // Long enough for a lookup after the one that met the silence.
    followed.endpoints().await;
    followed.endpoints().await;
    server.set_a("reviews.test", 1, &[V4]);
    let changed = Instant::now();
    followed.until(&["10.1.2.3:80"]).await;
    assert!(changed.elapsed() <= Duration::from_secs(2), "{:?}", changed.elapsed());
}

#[tokio::test(flavor = "local")]
async fn a_late_family_is_an_answer_of_its_own() {
    let (server, mut followed) = with_silent_aaaa(60).await;
    server.set_aaaa("reviews.test", 60, &[V6]);
    let both = ["10.1.2.3:80", "10.1.2.4:80", "[fd00::7]:80"];
    assert_eq!(followed.endpoints().await, both, "when the query is sent again");
}

#[tokio::test(flavor = "local")]
async fn a_family_that_speaks_again_is_heard_with_the_next_lookup() {
    let (server, mut followed) = with_silent_aaaa(1).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    server.set_aaaa("reviews.test", 1, &[V6]);
    followed.until(&["10.1.2.3:80", "10.1.2.4:80", "[fd00::7]:80"]).await;
    server.set_aaaa("reviews.test", 1, &[]);
    let changed = Instant::now();
    followed.until(&["10.1.2.3:80", "10.1.2.4:80"]).await;
    assert!(changed.elapsed() <= Duration::from_secs(2), "{:?}", changed.elapsed());
}

#[tokio::test(flavor = "local")]
async fn one_family_suffices_when_the_other_is_not_answered() {
    let server = DnsServer::start();
    server.set_a("reviews.test", 60, &[V4]);
    server.silent_aaaa("reviews.test");
    let answer = lookup(&impatient(&[server.address()]), "reviews.test").await.unwrap();
    assert_eq!(ips(&answer), [V4]);
    assert!(!answer.covers(&Member::Address(V6.into())), "nothing is known of the other family");
}

#[tokio::test(flavor = "local")]
async fn a_family_that_is_not_answered_keeps_its_addresses() {
    let server = DnsServer::start();
    server.set_a("reviews.test", 0, &[V4]);
    server.set_aaaa("reviews.test", 0, &[V6]);
    let dns = Dns { timeout: Duration::from_millis(100), ..config(&[server.address()]) };
    let mut followed = Followed::scheduled(&dns, "reviews.test", quick());
    assert_eq!(followed.endpoints().await.len(), 2);
    server.silent_aaaa("reviews.test");
    for _ in 0..5 {
        assert_eq!(followed.endpoints().await, ["10.1.2.3:80", "[fd00::7]:80"]);
    }
}
