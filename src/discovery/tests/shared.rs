//! Each name is asked for once, for all who want it, and thousands without a burst.

use super::*;

#[tokio::test(flavor = "local")]
async fn services_of_one_name_share_its_queries_and_a_later_one_hears_at_once() {
    let server = DnsServer::start();
    server.set_a("reviews.test", 60, &[V4]);
    let discovery = discovery(&config(&[server.address()]), Schedule::default());
    let mut first = Followed::by(&discovery, &named("reviews.test", 80));
    let mut second = Followed::by(&discovery, &named("reviews.test", 81));
    assert_eq!(first.endpoints().await, ["10.1.2.3:80"]);
    assert_eq!(second.endpoints().await, ["10.1.2.3:81"]);
    let mut third = Followed::by(&discovery, &named("reviews.test", 82));
    assert!(matches!(third.updates.try_recv(), Ok(Update::Endpoints(found)) if found.len() == 1));
    assert_eq!(server.queries("reviews.test"), 2, "A and AAAA once");
}

#[tokio::test(flavor = "local")]
async fn a_name_that_nobody_follows_any_more_is_not_asked_for() {
    let server = DnsServer::start();
    server.set_a("reviews.test", 0, &[V4]);
    let discovery = discovery(&config(&[server.address()]), quick());
    let mut first = Followed::by(&discovery, &named("reviews.test", 80));
    let mut second = Followed::by(&discovery, &named("reviews.test", 81));
    first.endpoints().await;
    drop(first);
    second.endpoints().await;
    second.endpoints().await;
    assert_eq!(discovery.names(), 1);
    drop(second);
    assert_eq!(discovery.names(), 0);
    tokio::time::sleep(Duration::from_millis(30)).await;
    let before = server.queries("reviews.test");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.queries("reviews.test"), before);
}

#[tokio::test(flavor = "local")]
async fn two_thousand_names_are_followed_without_a_burst_and_an_urgent_one_comes_first() {
    let server = DnsServer::start();
    let discovery = discovery(&config(&[server.address()]), Schedule::default());
    let names: Vec<_> = (0..2000).map(|n| format!("s{n}.test")).collect();
    names.iter().for_each(|name| server.set_a(name, 60, &[V4]));
    server.set_a("urgent.test", 60, &[V4]);
    let start = Instant::now();
    let follow = |name: &String| Followed::by(&discovery, &named(name, 80));
    let mut followed: Vec<_> = names.iter().map(follow).collect();
    let mut urgent = Followed::by(&discovery, &named("urgent.test", 80));
    urgent.following.urgent();
    urgent.endpoints().await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    for one in &mut followed {
        assert_eq!(one.endpoints().await, ["10.1.2.3:80"]);
    }
    let peak = server.peak(Duration::from_millis(100));
    assert!(peak <= 300, "{peak} queries within 100 ms");
    assert_eq!(server.queries("s1999.test"), 2);
}

#[tokio::test(flavor = "local")]
async fn a_rotating_subset_never_removes_anybody() {
    let server = DnsServer::start();
    let all: Vec<_> = (0..10).map(|n| Ipv4Addr::new(10, 0, 0, n)).collect();
    server.set_a("reviews.test", 1, &all);
    let schedule = Schedule { floor: Duration::from_millis(300), ..Schedule::default() };
    let mut followed = Followed::scheduled(&config(&[server.address()]), "reviews.test", schedule);
    assert_eq!(followed.endpoints().await.len(), 10);
    server.rotate("reviews.test", 8);
    for _ in 0..6 {
        assert_eq!(followed.endpoints().await.len(), 10);
    }
}

#[tokio::test(flavor = "local")]
async fn a_removed_address_goes_within_its_ttl_and_a_second() {
    let server = DnsServer::start();
    server.set_a("reviews.test", 1, &[V4, V4_OTHER]);
    let dns = config(&[server.address()]);
    let mut followed = Followed::scheduled(&dns, "reviews.test", Schedule::default());
    assert_eq!(followed.endpoints().await.len(), 2);
    server.set_a("reviews.test", 1, &[V4]);
    let changed = Instant::now();
    followed.until(&["10.1.2.3:80"]).await;
    assert!(changed.elapsed() <= Duration::from_secs(2), "{:?}", changed.elapsed());
}

#[tokio::test(flavor = "local")]
async fn a_removed_address_goes_in_time_when_nothing_confirms_its_end() {
    let server = DnsServer::start();
    server.set_a("reviews.test", 1, &[V4, V4_OTHER]);
    let dns = config(&[server.address()]);
    let mut followed = Followed::scheduled(&dns, "reviews.test", Schedule::default());
    assert_eq!(followed.endpoints().await.len(), 2);
    server.set_a("reviews.test", 1, &[V4]);
    let changed = Instant::now();
    assert_eq!(followed.endpoints().await.len(), 2, "the first answer without it");
    server.silent("reviews.test");
    followed.until(&["10.1.2.3:80"]).await;
    assert!(changed.elapsed() <= Duration::from_secs(2), "{:?}", changed.elapsed());
}

#[tokio::test(flavor = "local")]
async fn names_whose_server_is_silent_delay_no_other() {
    let server = DnsServer::start();
    server.set_a("reviews.test", 1, &[V4, V4_OTHER]);
    let discovery = discovery(&config(&[server.address()]), Schedule::default());
    let mut followed = Followed::by(&discovery, &named("reviews.test", 80));
    assert_eq!(followed.endpoints().await.len(), 2);
    let names: Vec<_> = (0..300).map(|n| format!("s{n}.test")).collect();
    names.iter().for_each(|name| server.silent(name));
    let _silent: Vec<_> = names.iter().map(|name| Followed::by(&discovery, &named(name, 80))).collect();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    server.set_a("reviews.test", 1, &[V4]);
    let changed = Instant::now();
    followed.until(&["10.1.2.3:80"]).await;
    assert!(changed.elapsed() <= Duration::from_secs(2), "{:?}", changed.elapsed());
}

#[tokio::test(flavor = "local")]
async fn names_whose_server_falls_silent_delay_others_for_a_moment_only() {
    let server = DnsServer::start();
    server.set_a("reviews.test", 1, &[V4, V4_OTHER]);
    let names: Vec<_> = (0..120).map(|n| format!("s{n}.test")).collect();
    names.iter().for_each(|name| server.set_a(name, 1, &[V4]));
    let discovery = discovery(&config(&[server.address()]), Schedule::default());
    let mut others: Vec<_> = names.iter().map(|name| Followed::by(&discovery, &named(name, 80))).collect();
    for other in &mut others {
        other.endpoints().await;
    }
    names.iter().for_each(|name| server.silent(name));
    let mut followed = Followed::by(&discovery, &named("reviews.test", 80));
    assert_eq!(followed.endpoints().await.len(), 2);
    let heard = Instant::now();
    followed.endpoints().await;
    let took = heard.elapsed();
    assert!(took < Duration::from_millis(3500), "1 s, and 0.5 s for each 40 names that are tried: {took:?}");
}

#[tokio::test(flavor = "local")]
async fn the_last_answer_is_kept_for_max_stale_and_no_longer() {
    let server = DnsServer::start();
    server.set_a("reviews.test", 0, &[V4]);
    let dns = Dns { max_stale: Duration::from_millis(400), ..config(&[server.address()]) };
    let mut followed = Followed::scheduled(&dns, "reviews.test", quick());
    followed.endpoints().await;
    let good = Instant::now();
    server.nxdomain("reviews.test");
    let mut failures = 0;
    let expired = loop {
        match followed.next().await {
            Update::Endpoints(_) if failures == 0 => {}
            Update::Failed(_) => failures += 1,
            Update::Expired(failure) => break failure,
            other => panic!("{other:?}"),
        }
    };
    assert!(failures > 0 && expired.message.contains("NXDOMAIN"), "{failures} failures, {}", expired.message);
    assert!((Duration::from_millis(390)..Duration::from_millis(900)).contains(&good.elapsed()));
    assert_eq!(followed.failure().await.0, FailureKind::NoSuchName);
    server.set_a("reviews.test", 0, &[V4_OTHER]);
    followed.until(&["10.1.2.4:80"]).await;
}

#[tokio::test(flavor = "local")]
async fn a_later_service_of_a_failing_name_hears_the_last_answer_and_the_failure() {
    let server = DnsServer::start();
    server.set_a("reviews.test", 0, &[V4]);
    let discovery = discovery(&config(&[server.address()]), quick());
    let mut first = Followed::by(&discovery, &named("reviews.test", 80));
    first.endpoints().await;
    server.servfail("reviews.test");
    while matches!(first.next().await, Update::Endpoints(_)) {}
    let mut second = Followed::by(&discovery, &named("reviews.test", 81));
    assert_eq!(second.endpoints().await, ["10.1.2.3:81"]);
    assert_eq!(second.failure().await.0, FailureKind::ServFail);
}

#[tokio::test(flavor = "local")]
async fn other_servers_are_asked_at_once_and_what_is_known_stays_until_they_answer() {
    let (old, new) = (DnsServer::start(), DnsServer::start());
    old.set_a("reviews.test", 300, &[V4]);
    new.servfail("reviews.test");
    let mut discovery = discovery(&config(&[old.address()]), quick());
    let mut followed = Followed::by(&discovery, &named("reviews.test", 80));
    followed.endpoints().await;
    discovery.reconfigure(Prepared::new(&config(&[new.address()]), &series()).unwrap());
    assert_eq!(followed.failure().await.0, FailureKind::ServFail);
    new.set_a("reviews.test", 300, &[V4_OTHER]);
    followed.until(&["10.1.2.3:80", "10.1.2.4:80"]).await;
    followed.until(&["10.1.2.4:80"]).await;
}

#[tokio::test(flavor = "local")]
async fn before_a_request_gives_up_it_hears_who_was_asked_and_the_answer_still_counts() {
    let server = DnsServer::start();
    server.silent("reviews.test");
    let first_answer_timeout = Duration::from_millis(200);
    let dns = Dns { first_answer_timeout, ..config(&[server.address()]) };
    let mut followed = Followed::scheduled(&dns, "reviews.test", quick());
    let started = Instant::now();
    followed.following.urgent();
    let (kind, message) = followed.failure().await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let asked = server.address();
    let why = format!("reviews.test: no answer yet after 190ms (asked {asked})");
    assert_eq!((kind, message), (FailureKind::Timeout, why));
    server.set_a("reviews.test", 60, &[V4]);
    followed.until(&["10.1.2.3:80"]).await;
}
