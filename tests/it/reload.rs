//! Reload: built whole, swapped in once, or nothing changes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{net::TcpStream, task::JoinSet};
use towpath::app::Reloaded;

use crate::support::{
    Backend, Client, Daemon, Speaks, client,
    daemon::{complete, one_service, service},
    dns::DnsServer,
    eventually, get,
};

const BOTH: [Speaks; 2] = [Speaks::Http1, Speaks::Http2];

fn listener(name: &str, address: &str) -> String {
    format!("[[listeners]]\nname = \"{name}\"\nkind = \"outgoing\"\nlisten = \"{address}\"\n")
}

over_both_protocols! {
    async fn a_live_connection_obeys_the_new_routes_from_its_next_request_on(speaks: Speaks) {
        let (old, new) = (Backend::start("old").await, Backend::start("new").await);
        let daemon = Daemon::start(&one_service("http1", &[old.address]));
        let mut client = Client::connect(daemon.address(), speaks).await;
        assert_eq!(client.ask(get("svc", "/")).await.backend(), "old");
        let before = daemon.generation().await;
        let outcome = daemon.reload(Some(&one_service("http1", &[new.address]))).unwrap();
        let Reloaded::Applied { generation } = outcome else { panic!("{outcome:?}") };
        assert!(generation > before);
        assert_eq!(client.ask(get("svc", "/")).await.backend(), "new");
        assert_eq!(daemon.generation().await, generation);
        daemon.metric_becomes("config_generation", &[], generation as f64).await;
        daemon.metric_becomes("config_last_reload_success", &[], 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_running_request_ends_under_the_generation_that_it_began_in() {
    let (old, new) = (Backend::start("old").await, Backend::start("new").await);
    let daemon = Daemon::start(&one_service("http1", &[old.address]));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let asking = tokio::spawn(async move { client.ask(get("svc", "/slow?ms=300")).await });
    crate::support::eventually("at the old server", async || old.running() == 1).await;
    daemon.reload(Some(&one_service("http1", &[new.address]))).unwrap();
    let answer = crate::support::within("the answer", asking).await.unwrap();
    assert_eq!((answer.status, answer.backend()), (200, "old"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_bad_configuration_changes_nothing_and_says_why() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http1", &[backend.address]));
    let before = daemon.generation().await;
    let good = one_service("http1", &[backend.address]);
    let bad = [
        ("not = [toml", "test.toml:"),
        ("unknown_key = 1\n", "unknown_key"),
        (&good.replace("service = \"echo\"", "service = \"ecko\""), "ecko"),
    ];
    for (text, part) in bad {
        let problems = daemon.reload(Some(text)).unwrap_err();
        assert!(problems.contains(part), "{problems}");
        assert_eq!(daemon.generation().await, before);
        daemon.metric_becomes("config_last_reload_success", &[], 0.0).await;
    }
    daemon.metric_becomes("config_generation", &[], before as f64).await;
    assert_eq!(client::ask(daemon.address(), Speaks::Http1, get("svc", "/")).await.backend(), "one");
    assert!(daemon.metric("config_reloads_total", &[]).await >= 3.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_address_that_cannot_be_bound_changes_nothing() {
    let backend = Backend::start("one").await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let daemon = Daemon::start(&one_service("http1", &[backend.address]));
    let before = daemon.generation().await;
    let toml = listener("outgoing", "127.0.0.1:0")
        + &listener("second", &taken.local_addr().unwrap().to_string())
        + &one_service("http1", &[backend.address]);
    let problems = daemon.reload(Some(&toml)).unwrap_err();
    assert!(problems.contains(&taken.local_addr().unwrap().to_string()), "{problems}");
    assert_eq!(daemon.generation().await, before);
    assert_eq!(client::ask(daemon.address(), Speaks::Http1, get("svc", "/")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_cannot_be_read_or_bound_does_not_start() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap().to_string();
    let toml = listener("outgoing", &taken) + &one_service("http1", &["127.0.0.1:9".parse().unwrap()]);
    assert!(Daemon::try_start(&toml).err().unwrap().contains(&taken));
    drop(held);
    let problems = Daemon::try_start("surprise = 1\n[[routes]]\nname = 5\n").err().unwrap();
    assert!(problems.lines().count() >= 2, "every problem at once: {problems}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_equal_configuration_is_no_new_generation() {
    let backend = Backend::start("one").await;
    let toml = one_service("http1", &[backend.address]);
    let daemon = Daemon::start(&toml);
    let before = daemon.generation().await;
    let outcome = daemon.reload(Some(&format!("# a remark\n{toml}"))).unwrap();
    assert!(matches!(outcome, Reloaded::Unchanged { generation } if generation == before), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_file_is_read_again() {
    let (old, new) = (Backend::start("old").await, Backend::start("new").await);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("towpath.toml");
    std::fs::write(&path, complete(&one_service("http1", &[old.address]))).unwrap();
    let daemon = Daemon::from_file(&path);
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    assert_eq!(client.ask(get("svc", "/")).await.backend(), "old");
    std::fs::write(&path, complete(&one_service("http1", &[new.address]))).unwrap();
    assert_eq!(daemon.admin_post("/api/reload").await.status, 200);
    assert_eq!(client.ask(get("svc", "/")).await.backend(), "new");
    std::fs::write(&path, "nonsense").unwrap();
    let refused = daemon.admin_post("/api/reload").await;
    assert!(refused.status >= 400, "{refused:?}");
    assert!(refused.text().contains("towpath.toml:1:"), "{refused:?}");
    assert_eq!(client.ask(get("svc", "/")).await.backend(), "new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connections_to_servers_survive_a_reload() {
    for protocol in ["http1", "http2"] {
        let backend = Backend::start("one").await;
        let toml = one_service(protocol, &[backend.address]);
        let daemon = Daemon::start(&toml);
        let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
        for name in ["all", "renamed", "again"] {
            daemon.reload(Some(&toml.replace("name = \"all\"", &format!("name = \"{name}\"")))).unwrap();
            assert_eq!(client.ask(get("svc", "/")).await.status, 200);
        }
        assert_eq!(backend.connections(), 1, "{protocol}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_service_that_gets_another_source_keeps_its_endpoints_until_that_answers() {
    let backend = Backend::start("one").await;
    let dns = DnsServer::start();
    dns.servfail("x.test");
    dns.set_a("y.test", 60, &[std::net::Ipv4Addr::LOCALHOST]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("endpoints");
    std::fs::write(&path, format!("{}\n", backend.address)).unwrap();
    let with = |source: &str| {
        let toml = one_service("http1", &[backend.address]);
        let fixed = format!("endpoints = [\"{}\"]", backend.address);
        assert!(toml.contains(&fixed));
        format!("[dns]\nservers = [\"{}\"]\n{}", dns.address(), toml.replace(&fixed, source))
    };
    let daemon = Daemon::start(&with(&format!("endpoints = [\"{}\"]", backend.address)));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    assert_eq!(client.ask(get("svc", "/")).await.status, 200);
    let becomes = async |state: &str| {
        crate::support::eventually(state, async || {
            daemon.admin_get("/api/services").await.json()["services"][0]["state"] == state
        })
        .await;
    };
    let port = backend.address.port();
    for (source, state) in [
        (format!("dns = \"x.test:{port}\""), "failing"),
        (format!("file = \"{}\"", path.display()), "current"),
        (format!("dns = \"y.test:{port}\""), "current"),
    ] {
        daemon.reload(Some(&with(&source))).unwrap();
        assert_eq!(client.ask(get("svc", "/")).await.status, 200, "{source}");
        becomes(state).await;
        assert_eq!(client.ask(get("svc", "/")).await.status, 200, "{source}");
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connections_of_a_removed_service_are_closed() {
    let (old, new) = (Backend::start("old").await, Backend::start("new").await);
    let daemon = Daemon::start(&one_service("http1", &[old.address]));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    client.ask(get("svc", "/")).await;
    daemon.reload(Some(&one_service("http1", &[new.address]).replace("echo", "other"))).unwrap();
    client.ask(get("svc", "/")).await;
    crate::support::eventually("nothing left open", async || old.open_connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn listeners_are_added_and_removed_and_the_others_not_touched() {
    let backend = Backend::start("one").await;
    let first = listener("outgoing", "127.0.0.1:0");
    let rest = one_service("http1", &[backend.address]);
    let daemon = Daemon::start(&format!("{first}{rest}"));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let address = daemon.address();
    client.ask(get("svc", "/")).await;

    daemon.reload(Some(&format!("{first}{}{rest}", listener("second", "127.0.0.1:0")))).unwrap();
    let second = daemon.listener("second").unwrap();
    for speaks in BOTH {
        assert_eq!(client::ask(second, speaks, get("svc", "/")).await.status, 200);
    }
    assert_eq!(daemon.address(), address);
    assert_eq!(client.ask(get("svc", "/")).await.status, 200, "the same connection still");

    daemon.reload(Some(&format!("{first}{rest}"))).unwrap();
    assert!(daemon.listener("second").is_none());
    crate::support::eventually("it refuses", async || TcpStream::connect(second).await.is_err()).await;
    assert_eq!(client.ask(get("svc", "/")).await.status, 200, "the same connection still");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_listener_moves_to_its_new_address() {
    let backend = Backend::start("one").await;
    let free = crate::support::ports::reserved();
    let rest = one_service("http1", &[backend.address]);
    let daemon = Daemon::start(&(listener("outgoing", "127.0.0.1:0") + &rest));
    let old = daemon.address();
    daemon.reload(Some(&(listener("outgoing", &free.to_string()) + &rest))).unwrap();
    assert_eq!(daemon.address(), free);
    assert_eq!(client::ask(free, Speaks::Http1, get("svc", "/")).await.status, 200);
    crate::support::eventually("the old one refuses", async || TcpStream::connect(old).await.is_err()).await;
}

/// Asks until told to stop; a connection that the daemon has closed is replaced. Gives the first failure.
async fn load(daemon: std::net::SocketAddr, speaks: Speaks, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) {
    let mut client = Client::connect(daemon, speaks).await;
    while !stop.load(Ordering::Relaxed) {
        let answer = client.ask(get("svc", "/status/200")).await;
        assert_eq!((answer.status, answer.reason()), (200, ""), "{answer:?}");
        done.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reload_every_10_ms_for_10_s_under_load_fails_no_request_and_mixes_no_generations() {
    let (even, odd) = (Backend::start("even").await, Backend::start("odd").await);
    let generation = |name: &str, backend: &Backend| {
        format!(
            "[[routes]]\nname = \"{name}\"\nhosts = [\"*\"]\nbackends = [{{ service = \"{name}\" }}]\n{}",
            service(name, "auto", &[backend.address])
        )
    };
    let texts = [generation("even", &even), generation("odd", &odd)];
    let daemon = Daemon::start(&texts[0]);
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut loads = JoinSet::new();
    for number in 0..8 {
        loads.spawn(load(daemon.address(), BOTH[number % 2], stop.clone(), done.clone()));
    }
    let start = Instant::now();
    let before = daemon.generation().await;
    let mut reloads = 0;
    // A slow machine takes longer over them.
    while start.elapsed() < Duration::from_secs(10) || reloads < 200 {
        assert!(start.elapsed() < Duration::from_secs(100), "only {reloads} reloads");
        reloads += 1;
        let outcome = daemon.reload(Some(&texts[reloads % 2])).unwrap();
        assert!(matches!(outcome, Reloaded::Applied { .. }), "{outcome:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(outcome) = loads.join_next().await {
        outcome.unwrap();
    }
    assert_eq!(daemon.generation().await, before + reloads as u64);
    assert_eq!(even.requests() + odd.requests(), done.load(Ordering::Relaxed));
    let served = [even.requests(), odd.requests()];
    assert!(served.iter().all(|requests| *requests > 20), "both generations took part: {served:?}");
    for (name, backend) in [("even", &even), ("odd", &odd)] {
        let labels = [("route", name), ("service", name), ("code", "200")];
        daemon.metric_becomes("requests_total", &labels, backend.requests() as f64).await;
    }
    daemon.metric_becomes("errors_total", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_that_waits_for_a_connection_is_served_although_a_reload_removes_its_service() {
    let four = Backend::start("four").await;
    let six = Backend::again("six", "[::1]:0".parse().unwrap()).await;
    for endpoints in [&[four.address][..], &[four.address, six.address]] {
        let one_worker = "[node]\nname = \"test\"\nworkers = 1\n";
        let keys = "pool = { max_connections = 1 }\nbreaker = { pending_timeout = \"9s\" }\n";
        let before = format!("{one_worker}{}{keys}", one_service("http1", endpoints));
        let daemon = Daemon::start(&before);
        let address = daemon.address();
        let busy: Vec<_> = endpoints
            .iter()
            .map(|_| tokio::spawn(client::ask(address, Speaks::Http1, get("svc", "/slow?ms=2500"))))
            .collect();
        let running = endpoints.len() as f64;
        let in_flight = [("service", "echo")];
        eventually("all connections are taken", async || {
            f64::from(four.running() as i32 + six.running() as i32) >= running
        })
        .await;
        let waiting = tokio::spawn(client::ask(address, Speaks::Http1, get("svc", "/")));
        eventually("one more waits", async || {
            daemon.metric("requests_in_flight", &in_flight).await > running + 0.5
        })
        .await;
        daemon.reload(Some(&complete(one_worker))).unwrap();
        let answer = waiting.await.unwrap();
        assert_eq!(answer.status, 200, "{} endpoints: {answer:?}", endpoints.len());
        for busy in busy {
            assert_eq!(busy.await.unwrap().status, 200);
        }
    }
}
