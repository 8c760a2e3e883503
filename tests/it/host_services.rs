//! Services made on first use from a `{host}` backend: one per host and port, however it is written; capped; dropped.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::Value;

use crate::support::{
    Answer, Backend, Client, Daemon, Speaks, client, daemon::service, dns::DnsServer, eventually, get,
};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Every host goes to the service that `template` makes of it.
fn per_host(dns: &DnsServer, template: &str, limits: &str) -> String {
    let server = dns.address();
    format!(
        "[dns]\nservers = [\"{server}\"]\ntimeout = \"500ms\"\n[host_services]\n{limits}\n\
         [[routes]]\nname = \"per-host\"\nhosts = [\"*\"]\nbackends = [{{ dns = \"{template}\" }}]\n"
    )
}

/// With names that all lead to one server.
async fn started(limits: &str, names: &[&str]) -> (Daemon, DnsServer, Backend) {
    let backend = Backend::start("one").await;
    let dns = DnsServer::start();
    names.iter().for_each(|name| dns.set_a(name, 60, &[HERE]));
    let template = format!("{{host}}:{}", backend.address.port());
    let daemon = Daemon::start(&per_host(&dns, &template, limits));
    (daemon, dns, backend)
}

/// The services made for hosts, by name.
async fn made(daemon: &Daemon) -> Vec<String> {
    let services = daemon.admin_get("/api/services").await.json();
    let all = services["services"].as_array().unwrap();
    let of_hosts = all.iter().filter(|service| service["origin"] == "host");
    of_hosts.map(|service| service["name"].as_str().unwrap().to_owned()).collect()
}

async fn ask(daemon: &Daemon, host: &str) -> Answer {
    client::ask(daemon.address(), Speaks::Http1, get(host, "/")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_first_requests_together_make_one_service_and_ask_dns_once() {
    let (daemon, dns, backend) = started("", &["busy.test"]).await;
    let two = Client::connect(daemon.address(), Speaks::Http2).await;
    let mut clients: Vec<Client> = (0..50).map(|_| two.same_connection()).collect();
    for _ in 0..50 {
        clients.push(Client::connect(daemon.address(), Speaks::Http1).await);
    }
    let asking: Vec<_> = clients
        .into_iter()
        .map(|mut client| tokio::spawn(async move { client.ask(get("busy.test", "/")).await }))
        .collect();
    for answer in asking {
        let answer = answer.await.unwrap();
        assert_eq!((answer.status, answer.backend()), (200, "one"), "{answer:?}");
    }
    assert_eq!(dns.queries("busy.test"), 2, "A and AAAA once");
    let name = format!("busy.test:{}", backend.address.port());
    assert_eq!(made(&daemon).await, [name.as_str()]);
    daemon.metric_becomes("requests_total", &[("route", "per-host"), ("service", &name)], 100.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_port_is_the_templates_else_the_authoritys_else_80() {
    let backend = Backend::start("one").await;
    let port = backend.address.port();
    let dns = DnsServer::start();
    dns.set_a("a.test", 60, &[HERE]);
    let daemon = Daemon::start(&per_host(&dns, "{host}", ""));
    let answer = ask(&daemon, &format!("a.test:{port}")).await;
    assert_eq!((answer.status, answer.backend()), (200, "one"));
    ask(&daemon, "nowhere.test").await;
    assert_eq!(made(&daemon).await, [format!("a.test:{port}"), "nowhere.test:80".to_owned()]);
    let daemon = Daemon::start(&per_host(&dns, &format!("{{host}}:{port}"), ""));
    let answer = ask(&daemon, "a.test:1").await;
    assert_eq!((answer.status, answer.backend()), (200, "one"), "the authority's port is not used");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_template_may_say_more_than_the_host() {
    let backend = Backend::start("one").await;
    let dns = DnsServer::start();
    dns.set_a("x-reviews.prod.test", 60, &[HERE]);
    let template = format!("x-{{host}}.prod.test:{}", backend.address.port());
    let daemon = Daemon::start(&per_host(&dns, &template, ""));
    let answer = ask(&daemon, "reviews").await;
    assert_eq!((answer.status, answer.backend()), (200, "one"), "{answer:?}");
    assert_eq!(answer.json()["host"], "reviews", "the server sees the host that the caller named");
}

over_both_protocols! {
    async fn upper_case_and_a_trailing_dot_are_the_same_service(speaks: Speaks) {
        let (daemon, dns, _backend) = started("", &["svc.test"]).await;
        let mut client = Client::connect(daemon.address(), speaks).await;
        for host in ["svc.test", "Svc.Test", "SVC.TEST.", "svc.test."] {
            assert_eq!(client.ask(get(host, "/")).await.status, 200, "{host}");
        }
        assert_eq!(made(&daemon).await.len(), 1, "{:?}", made(&daemon).await);
        assert_eq!(dns.queries("svc.test"), 2);
    }
}

over_both_protocols! {
    async fn an_ip_address_is_its_own_endpoint(speaks: Speaks) {
        let four = Backend::start("four").await;
        let port = four.address.port();
        let six = SocketAddr::new("::1".parse().unwrap(), port);
        let _six = Backend::again("six", six).await;
        let dns = DnsServer::start();
        let daemon = Daemon::start(&per_host(&dns, "{host}", ""));
        let mut client = Client::connect(daemon.address(), speaks).await;
        for (host, backend) in [(four.address, "four"), (six, "six")] {
            let answer = client.ask(get(&host.to_string(), "/")).await;
            assert_eq!((answer.status, answer.backend()), (200, backend), "{answer:?}");
        }
        assert_eq!(made(&daemon).await, [format!("127.0.0.1:{port}"), format!("[::1]:{port}")]);
        assert_eq!(dns.queries("127.0.0.1"), 0);
    }
}

over_both_protocols! {
    async fn a_host_over_the_most_allowed_is_overloaded_and_the_others_are_served(speaks: Speaks) {
        let (daemon, dns, _backend) = started("max = 2", &["a.test", "b.test", "c.test"]).await;
        let mut client = Client::connect(daemon.address(), speaks).await;
        for host in ["a.test", "b.test"] {
            assert_eq!(client.ask(get(host, "/")).await.status, 200);
        }
        let answer = client.ask(get("c.test", "/")).await;
        assert_eq!((answer.status, answer.reason()), (503, "overloaded"), "{answer:?}");
        let error = answer.json()["error"].clone();
        assert!(error["message"].as_str().unwrap().contains("host_services.max"), "{error}");
        assert_eq!(error["route"], "per-host");
        assert_eq!(dns.queries("c.test"), 0);
        daemon.metric_becomes("errors_total", &[("reason", "overloaded")], 1.0).await;
        for host in ["a.test", "b.test"] {
            assert_eq!(client.ask(get(host, "/")).await.status, 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_host_that_nobody_asks_for_any_more_is_dropped_and_makes_room() {
    let (daemon, dns, backend) = started("max = 1\nidle_timeout = \"1s\"", &["a.test", "b.test"]).await;
    dns.set_a("a.test", 1, &[HERE]);
    assert_eq!(ask(&daemon, "a.test").await.status, 200);
    assert_eq!(ask(&daemon, "b.test").await.reason(), "overloaded");
    eventually("it is dropped", async || made(&daemon).await.is_empty()).await;
    daemon.metric_becomes("upstream_connections", &[], 0.0).await;
    eventually("its connections are closed", async || backend.open_connections() == 0).await;
    let asked = dns.queries("a.test");
    assert_eq!(ask(&daemon, "b.test").await.status, 200);
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await; // more than the TTL: nobody follows the name
    assert_eq!(dns.queries("a.test"), asked, "nobody follows the name any more");
    eventually("the other is dropped", async || made(&daemon).await.is_empty()).await;
    assert_eq!(ask(&daemon, "a.test").await.status, 200, "it is made again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_host_in_use_is_kept() {
    let (daemon, dns, backend) = started("idle_timeout = \"2s\"", &["a.test", "b.test"]).await;
    let address = daemon.address();
    let hanging = tokio::spawn(async move {
        Client::connect(address, Speaks::Http1).await.try_ask(get("b.test", "/hang")).await
    });
    eventually("it hangs", async || backend.running() == 1).await;
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    for _ in 0..20 {
        assert_eq!(client.ask(get("a.test", "/")).await.status, 200);
        tokio::time::sleep(std::time::Duration::from_millis(200)).await; // twice the idle time in all
    }
    assert_eq!((dns.queries("a.test"), dns.queries("b.test")), (2, 2));
    assert_eq!(made(&daemon).await.len(), 2);
    hanging.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reload_keeps_the_services_of_a_template_that_stays_and_drops_the_others() {
    let (daemon, dns, backend) = started("", &["a.test"]).await;
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    assert_eq!(client.ask(get("a.test", "/")).await.status, 200);
    let template = format!("{{host}}:{}", backend.address.port());
    let more = service("more", "http1", &[backend.address]);
    daemon.reload(Some(&(per_host(&dns, &template, "") + &more))).unwrap();
    assert_eq!(client.ask(get("a.test", "/")).await.status, 200);
    assert_eq!(
        (dns.queries("a.test"), backend.connections()),
        (2, 1),
        "the service and its connection live on"
    );
    let toml = per_host(&dns, &template, "").replace("dns = \"{host}", "service = \"more\" }] # ");
    daemon.reload(Some(&(toml + &more))).unwrap();
    eventually("it is dropped", async || made(&daemon).await.is_empty()).await;
    let answer = client.ask(get("a.test", "/")).await;
    assert_eq!((answer.status, answer.backend()), (200, "one"));
    daemon.metric_becomes("requests_total", &[("service", "more")], 1.0).await;
}

over_both_protocols! {
    async fn a_reload_that_moves_the_node_keeps_what_is_known_of_hosts(speaks: Speaks) {
        let (daemon, dns, backend) = started("", &["a.test"]).await;
        let template = format!("{{host}}:{}", backend.address.port());
        let toml = per_host(&dns, &template, "");
        let mut client = Client::connect(daemon.address(), speaks).await;
        assert_eq!(client.ask(get("a.test", "/")).await.status, 200);
        dns.servfail("a.test");
        let moved = [
            "[node]\nname = \"test\"\nworkers = 2\nzone = \"a\"\n",
            "[node]\nname = \"other\"\nworkers = 2\n",
            "[node]\nname = \"test\"\nworkers = 2\nposition = { index = 0, count = 2 }\n",
            "[node]\nname = \"test\"\nworkers = 2\nsubnets = [\"10.0.0.0/8\"]\n",
            "[zones]\na = [\"127.0.0.0/8\"]\n",
        ];
        for node in moved {
            daemon.reload(Some(&format!("{node}{toml}"))).unwrap();
            let answer = client.ask(get("a.test", "/")).await;
            assert_eq!((answer.status, answer.backend()), (200, "one"), "{node}: {answer:?}");
        }
        assert_eq!((dns.queries("a.test"), backend.connections()), (2, 1));
        let services = daemon.admin_get("/api/services").await.json();
        let of_host = services["services"].as_array().unwrap().iter().find(|of| of["origin"] == "host").unwrap();
        assert_eq!((&of_host["state"], &of_host["endpoints"][0]["zone"]), (&"current".into(), &"a".into()));
        assert!(of_host["endpoints"][0]["latency_ms"].is_f64());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_service_of_a_host_is_followed_and_dropped_as_before_when_a_reload_has_moved_the_node() {
    let (daemon, dns, backend) = started("idle_timeout = \"2s\"", &[]).await;
    dns.set_a("a.test", 1, &[HERE]);
    dns.silent("late.test");
    assert_eq!(ask(&daemon, "a.test").await.status, 200);
    let address = daemon.address();
    let waiting =
        tokio::spawn(async move { client::ask(address, Speaks::Http1, get("late.test", "/")).await });
    eventually("both are made", async || made(&daemon).await.len() == 2).await;
    let template = format!("{{host}}:{}", backend.address.port());
    let toml = per_host(&dns, &template, "idle_timeout = \"2s\"") + "[zones]\na = [\"127.0.0.0/8\"]\n";
    daemon.reload(Some(&toml)).unwrap();
    dns.set_a("late.test", 60, &[HERE]);
    assert_eq!(waiting.await.unwrap().status, 200, "what waited for the first answer has it");
    let asked = dns.queries("a.test");
    eventually("the name is asked for again", async || dns.queries("a.test") > asked).await;
    eventually("they are dropped", async || made(&daemon).await.is_empty()).await;
    daemon.metric_becomes("upstream_connections", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reload_with_other_dns_servers_counts_for_services_that_were_made_before() {
    let (daemon, old, backend) = started("", &[]).await;
    let new = DnsServer::start();
    old.set_a("a.test", 1, &[HERE]);
    new.set_a("a.test", 1, &[HERE]);
    assert_eq!(ask(&daemon, "a.test").await.status, 200);
    let template = format!("{{host}}:{}", backend.address.port());
    daemon.reload(Some(&per_host(&new, &template, ""))).unwrap();
    eventually("the new server is asked", async || new.queries("a.test") > 0).await;
    let asked = old.queries("a.test");
    eventually("it is asked again", async || new.queries("a.test") > 2).await;
    assert_eq!(old.queries("a.test"), asked, "the old server is left alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn hosts_that_are_no_dns_names_are_refused_with_the_reason() {
    let (daemon, _dns, backend) = started("", &[]).await;
    let long = "x".repeat(64) + ".test";
    for host in ["a..test", &long, "_", "-"] {
        let answer = ask(&daemon, host).await;
        assert!(matches!(answer.status, 400 | 503), "{host}: {answer:?}");
        let message: Value = answer.json()["error"]["message"].clone();
        assert!(!message.as_str().unwrap().is_empty());
    }
    assert_eq!(backend.requests(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_host_outside_the_allowed_domains_is_denied_and_never_looked_up() {
    let (daemon, dns, _backend) =
        started("suffixes = [\"Good.test\", \".local\"]", &["a.good.test", "evil.test", "a.local"]).await;
    for host in ["a.good.test", "A.Local"] {
        assert_eq!(ask(&daemon, host).await.status, 200, "{host}");
    }
    for host in ["evil.test", "notgood.test", "good.test.evil", "127.0.0.1"] {
        let answer = ask(&daemon, host).await;
        assert_eq!((answer.status, answer.reason()), (403, "denied"), "{host}");
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(host) && message.contains("host_services.suffixes"), "{message}");
        assert_eq!(dns.queries(host), 0, "{host}");
    }
    assert_eq!(made(&daemon).await.len(), 2);
}
