//! `/metrics` as scrapers get it: the form that they ask for, whole, and never held up by another one.

use std::fmt::Write;

use crate::support::{
    Answer, Backend, Client, Daemon, Raw, Speaks, call, client, daemon::one_service, dns::DnsServer,
    eventually, get, within,
};

const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

async fn scrape(daemon: &Daemon, accept: &str) -> Answer {
    let request = call("GET", "localhost", "/metrics").header("accept", accept);
    client::ask(daemon.admin(), Speaks::Http1, request).await
}

/// A node that knows more endpoints than a metric has series.
fn large() -> (Daemon, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("endpoints");
    let mut lines = String::new();
    (0..12_000).for_each(|n| writeln!(lines, "10.{}.{}.1:80", n / 250, n % 250).unwrap());
    std::fs::write(&path, lines).unwrap();
    let service = format!("[services.many]\nfile = \"{}\"\n", path.display());
    let route = "[[routes]]\nname = \"many\"\nhosts = [\"*\"]\nbackends = [{ service = \"many\" }]\n";
    (Daemon::start(&format!("{route}{service}")), directory)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_scraper_gets_the_form_that_it_asks_for() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http1", &[backend.address]));
    let asks = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    for (accept, form) in [(asks, OPEN_METRICS), ("*/*", PROMETHEUS), ("text/html,*/*;q=0.8", PROMETHEUS)] {
        let answer = scrape(&daemon, accept).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, form), "{accept}");
        assert_eq!(answer.header("vary"), "accept");
        let text = answer.text();
        assert_eq!(text.ends_with("\n# EOF\n"), form == OPEN_METRICS, "{accept}");
        let family =
            if form == OPEN_METRICS { "towpath_accept_errors" } else { "towpath_accept_errors_total" };
        assert!(
            text.contains(&format!("# TYPE {family} counter\ntowpath_accept_errors_total 0\n")),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_dns_and_a_drain_are_seen() {
    let (backend, dns) = (Backend::start("one").await, DnsServer::start());
    dns.set_a("named.test", 60, &[std::net::Ipv4Addr::LOCALHOST]);
    let daemon = Daemon::start(&format!(
        "[dns]\nservers = [\"{}\"]\n[drain]\ntimeout = \"20s\"\n[[routes]]\nname = \"all\"\nhosts = [\"*\"]\n\
         backends = [{{ service = \"named\" }}]\n[services.named]\ndns = \"named.test:{}\"\nprotocol = \"http1\"\n",
        dns.address(),
        backend.address.port()
    ));
    let mut caller = Client::connect(daemon.address(), Speaks::Http1).await;
    for _ in 0..3 {
        assert_eq!(caller.ask(get("svc", "/")).await.status, 200);
    }
    let of = [("service", "named")];
    daemon.metric_becomes("upstream_connections_made_total", &of, 1.0).await;
    daemon.metric_becomes("upstream_idle_connections", &of, 1.0).await;
    assert!(daemon.metric("dns_queries_total", &[("result", "answered")]).await >= 1.0, "A");
    assert!(daemon.metric("dns_queries_total", &[("result", "no_records")]).await >= 1.0, "AAAA");
    assert!(daemon.metric("dns_query_duration_seconds_count", &[]).await >= 2.0);
    let slow = tokio::spawn(async move { caller.ask(get("svc", "/slow?ms=3000")).await });
    eventually("it runs", async || backend.running() == 1).await;
    assert!(daemon.metric("draining", &[]).await < 1.0);
    daemon.drain();
    daemon.metric_becomes("draining", &[], 1.0).await;
    assert_eq!(slow.await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_page_of_many_pieces_arrives_whole_beside_scrapers_that_do_not_read() {
    let (daemon, _directory) = large();
    eventually("the file is read", async || daemon.metric("endpoint_available", &[]).await > 9_999.0).await;
    let mut stuck = Vec::new();
    for _ in 0..5 {
        let mut connection = Raw::connect(daemon.admin()).await;
        connection.send(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        stuck.push(connection);
    }
    let page = within("another scrape", scrape(&daemon, "application/openmetrics-text")).await.text();
    let available = page.lines().filter(|line| line.starts_with("towpath_endpoint_available{")).count();
    assert_eq!(available, 10_000, "as many as a metric may have");
    assert!(page.ends_with("\n# EOF\n") && page.len() > 500_000, "{}", page.len());
    let overflow = "towpath_metrics_overflow_total{metric=\"towpath_endpoint_available\"} 2000\n";
    assert!(page.contains(overflow), "the excess is counted");
}
