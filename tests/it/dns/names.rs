//! What happens to a name over its life: shared, reloaded, too old.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_is_dropped_after_max_stale_and_the_next_good_one_is_used() {
    let (one, _two) = two_servers().await;
    let dns = DnsServer::start();
    dns.set_a(NAME, 1, &[ONE]);
    let toml = named(dns.address(), one.address.port());
    let daemon = Daemon::start(&toml.replace("[[routes]]", "max_stale = \"2s\"\n[[routes]]"));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    assert_eq!(client.ask(get("svc", "/")).await.backend(), "one");
    dns.nxdomain(NAME);
    becomes(&daemon, "failing").await;
    assert_eq!(client.ask(get("svc", "/")).await.backend(), "one");
    eventually("nothing is left", async || client.ask(get("svc", "/")).await.status == 503).await;
    let answer = client.ask(get("svc", "/")).await;
    assert_eq!(answer.reason(), "no_endpoints");
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains(NAME) && message.contains("NXDOMAIN"), "{message}");
    let expired = [("service", "reviews"), ("result", "expired")];
    assert!((daemon.metric("discovery_updates_total", &expired).await - 1.0).abs() < f64::EPSILON);
    dns.set_a(NAME, 60, &[TWO]);
    eventually("it is served again", async || client.ask(get("svc", "/")).await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn services_of_one_name_and_a_reload_of_their_policies_share_its_queries() {
    let (one, _two) = two_servers().await;
    let dns = DnsServer::start();
    dns.set_a(NAME, 60, &[ONE]);
    let port = one.address.port();
    let second = format!("[services.second]\ndns = \"{NAME}:{}\"\n", port + 1);
    let toml = named(dns.address(), port) + &second;
    let daemon = Daemon::start(&toml);
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    assert_eq!(client.ask(get("svc", "/")).await.backend(), "one");
    let age = async || state(&daemon).await["discovery_age_seconds"].as_f64().unwrap();
    eventually("some age", async || age().await >= 0.3).await;
    daemon.reload(Some(&toml.replace("round-robin", "least-request"))).unwrap();
    assert_eq!(state(&daemon).await["state"], "current");
    assert!(age().await >= 0.3, "a reload makes old knowledge no newer");
    assert_eq!(client.ask(get("svc", "/")).await.backend(), "one");
    assert_eq!(dns.queries(NAME), 2, "A and AAAA once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_rotating_answer_moves_no_traffic() {
    let (one, _two) = two_servers().await;
    let dns = DnsServer::start();
    dns.set_a(NAME, 1, &[ONE, TWO]);
    let daemon = Daemon::start(&named(dns.address(), one.address.port()));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    assert_eq!(client.ask(get("svc", "/")).await.status, 200);
    let changed = [("service", "reviews"), ("result", "changed")];
    assert!((daemon.metric("discovery_updates_total", &changed).await - 1.0).abs() < f64::EPSILON);
    dns.rotate(NAME, 1);
    let unchanged = [("service", "reviews"), ("result", "unchanged")];
    eventually("some answers", async || daemon.metric("discovery_updates_total", &unchanged).await >= 4.0)
        .await;
    assert!((daemon.metric("discovery_updates_total", &changed).await - 1.0).abs() < f64::EPSILON);
}
