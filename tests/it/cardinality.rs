//! However many hosts callers ask for, the metrics stay few.

use crate::support::{Client, Daemon, Speaks, daemon::sum_of_series, dns::DnsServer, get, ports::reserved};

/// Lines that are series.
fn series(page: &str) -> usize {
    page.lines().filter(|line| !line.starts_with('#')).count()
}

async fn page(daemon: &Daemon) -> String {
    daemon.admin_get("/metrics").await.text()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_hosts_stays_under_ten_thousand_series_and_the_excess_is_counted_together() {
    let dns = DnsServer::start();
    let toml = format!(
        "[dns]\nservers = [\"{}\"]\n[[routes]]\nname = \"per-host\"\nhosts = [\"*\"]\n\
         match = [{{ path_prefix = \"/mesh\" }}]\nbackends = [{{ dns = \"{{host}}\" }}]\n",
        dns.address()
    );
    let daemon = Daemon::start(&toml);
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let port = reserved().port();
    // Services with an endpoint have the most series.
    for n in 0..700 {
        client.ask(get(&format!("127.77.{}.{}:{port}", n / 250, n % 250 + 1), "/mesh")).await;
    }
    for n in 0..700 {
        client.ask(get(&format!("h{n}.test"), "/mesh")).await;
        client.ask(get(&format!("unmatched-{n}.test"), "/")).await;
    }
    let page = page(&daemon).await;
    assert!(series(&page) < 10_000, "{} series", series(&page));
    let requests = |labels: &[(&str, &str)]| sum_of_series(&page, "towpath_requests_total", labels);
    assert_eq!(requests(&[]) as usize, 2_100, "none is lost");
    assert_eq!(requests(&[("code", "404"), ("service", "")]) as usize, 700);
    let other = requests(&[("service", "other")]);
    assert!(other > 700.0, "{other} requests to services without series of their own");
    let overflow = "towpath_metrics_overflow_total";
    let of = |metric: &str| sum_of_series(&page, overflow, &[("metric", metric)]);
    assert!(of("towpath_requests_total") > 0.0 && of("towpath_request_duration_seconds") > 0.0);
    assert!(of("towpath_connections") < 1.0, "what callers cannot choose has room");
}
