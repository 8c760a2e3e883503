//! The metrics of the contract: each appears after the traffic that it is about, with its labels and its value.

use std::collections::BTreeMap;

use crate::support::{
    Answer, Backend, Client, Daemon, Raw, RawServer, Speaks, call, client,
    daemon::{one_service, service, sum_of_series},
    dns::DnsServer,
    eventually, get,
    ports::reserved,
    within,
};

/// Name, type and labels.
const CONTRACT: &[(&str, &str, &[&str])] = &[
    ("accept_errors_total", "counter", &[]),
    ("access_log_dropped_total", "counter", &[]),
    ("attempts_total", "counter", &["outcome", "service"]),
    ("build_info", "gauge", &["version"]),
    ("config_generation", "gauge", &[]),
    ("config_last_reload_success", "gauge", &[]),
    ("config_reloads_total", "counter", &["result"]),
    ("connection_panics_total", "counter", &[]),
    ("connections", "gauge", &["listener"]),
    ("discovery_age_seconds", "gauge", &["service"]),
    ("discovery_updates_total", "counter", &["result", "service"]),
    ("dns_queries_total", "counter", &["result"]),
    ("dns_query_duration_seconds", "histogram", &[]),
    ("draining", "gauge", &[]),
    ("endpoint_available", "gauge", &["endpoint", "service"]),
    ("endpoint_requests_total", "counter", &["endpoint", "outcome", "service"]),
    ("errors_total", "counter", &["reason"]),
    ("request_duration_seconds", "histogram", &["route", "service"]),
    ("requests_in_flight", "gauge", &["service"]),
    ("requests_total", "counter", &["code", "listener", "route", "service"]),
    ("retries_total", "counter", &["reason", "service"]),
    ("upstream_connections", "gauge", &["service"]),
    ("upstream_connections_made_total", "counter", &["service"]),
    ("upstream_idle_connections", "gauge", &["service"]),
    ("worker_connections", "gauge", &["worker"]),
    ("worker_cpu_seconds_total", "counter", &["worker"]),
];

/// A metric's name to its type and the names of its labels.
type Page = BTreeMap<String, (String, Vec<BTreeMap<String, String>>)>;

/// Reads the text format strictly: every series belongs to a family that was announced, each is there once.
fn parsed(answer: &Answer) -> Page {
    let mut page = Page::new();
    let mut seen = std::collections::BTreeSet::new();
    let text = answer.text();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(
                page.insert(name.to_owned(), (kind.to_owned(), Vec::new())).is_none(),
                "{name} is announced twice"
            );
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(seen.insert(series.to_owned()), "{series} is there twice");
            let (name, labels) = read_series(series);
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let family = family.filter(|family| page.contains_key(*family)).unwrap_or(&name);
            page.get_mut(family).unwrap_or_else(|| panic!("{line}: without a type")).1.push(labels);
        }
    }
    page
}

fn read_series(series: &str) -> (String, BTreeMap<String, String>) {
    let Some((name, rest)) = series.split_once('{') else { return (series.to_owned(), BTreeMap::new()) };
    let mut labels = BTreeMap::new();
    let mut rest = rest.strip_suffix('}').unwrap();
    while let Some((label, after)) = rest.split_once("=\"") {
        let end = closing_quote(after);
        labels.insert(label.trim_start_matches(',').to_owned(), after[..end].to_owned());
        rest = &after[end + 1..];
    }
    assert!(rest.is_empty(), "{series}");
    (name.to_owned(), labels)
}

fn closing_quote(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    });
    end.unwrap_or_else(|| panic!("no closing quote in {text}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_metric_of_the_contract_appears_with_its_labels() {
    let (backend, dns) = (Backend::start("one").await, DnsServer::start());
    dns.set_a("named.test", 60, &[std::net::Ipv4Addr::LOCALHOST]);
    let route = |name: &str| {
        format!(
            "[[routes]]\nname = \"{name}\"\nhosts = [\"{name}\"]\nbackends = [{{ service = \"{name}\" }}]\n"
        )
    };
    let toml = format!(
        "[dns]\nservers = [\"{}\"]\n{}{}{}{}{}[services.named]\ndns = \"named.test:{}\"\n",
        dns.address(),
        route("echo"),
        route("broken"),
        route("named"),
        service("echo", "http1", &[backend.address]),
        service("broken", "http1", &[reserved(), reserved()]),
        backend.address.port()
    );
    let daemon = Daemon::start(&toml);
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let mut client = Client::connect(daemon.address(), speaks).await;
        for (host, path, status) in
            [("echo", "/", 200), ("named", "/status/500", 500), ("broken", "/", 502), ("x", "/", 404)]
        {
            assert_eq!(client.ask(get(host, path)).await.status, status);
        }
    }
    assert!(daemon.reload(Some("nonsense")).is_err());
    daemon.reload(Some(&toml)).unwrap();
    let page = parsed(&daemon.admin_get("/metrics").await);
    for (name, kind, labels) in CONTRACT {
        let (found, series) = page.get(&format!("towpath_{name}")).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(found, kind, "{name}");
        assert!(!series.is_empty(), "{name} has no series");
        for series in series {
            let names: Vec<&str> = series.keys().map(String::as_str).filter(|label| *label != "le").collect();
            assert_eq!(&names, labels, "{name}");
        }
    }
    for name in [
        "process_cpu_seconds_total",
        "process_max_fds",
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "process_virtual_memory_bytes",
    ] {
        assert_eq!(page[name].1.len(), 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn requests_attempts_and_endpoints_are_counted_by_what_became_of_them() {
    let backend = Backend::start("one").await;
    let toml = one_service("http1", &[backend.address]).replace("hosts =", "timeout = \"300ms\"\nhosts =");
    let daemon = Daemon::start(&toml);
    let endpoint = backend.address.to_string();
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    for (path, count) in [("/status/200", 3), ("/status/404", 2), ("/status/503", 1), ("/hang", 1)] {
        for _ in 0..count {
            client.ask(get("svc", path)).await;
        }
    }
    for (code, count) in [("200", 3.0), ("404", 2.0), ("503", 1.0), ("504", 1.0)] {
        let labels = [("listener", "outgoing"), ("route", "all"), ("service", "echo"), ("code", code)];
        daemon.metric_becomes("requests_total", &labels, count).await;
    }
    for (outcome, count) in [("success", 5.0), ("server_error", 1.0), ("timeout", 1.0)] {
        daemon.metric_becomes("attempts_total", &[("service", "echo"), ("outcome", outcome)], count).await;
        let labels = [("service", "echo"), ("endpoint", endpoint.as_str()), ("outcome", outcome)];
        daemon.metric_becomes("endpoint_requests_total", &labels, count).await;
    }
    daemon.metric_becomes("attempts_total", &[], 7.0).await;
    daemon.metric_becomes("errors_total", &[("reason", "timeout")], 1.0).await;
    daemon.metric_becomes("errors_total", &[], 1.0).await;
    daemon.metric_becomes("endpoint_available", &[("service", "echo"), ("endpoint", &endpoint)], 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn attempts_that_fail_are_counted_by_how() {
    let server = RawServer::start().await;
    let backend = Backend::start("one").await;
    let route = |name: &str| {
        format!(
            "[[routes]]\nname = \"{name}\"\nhosts = [\"{name}\"]\nbackends = [{{ service = \"{name}\" }}]\n"
        )
    };
    let services = [
        service("refused", "http1", &[reserved()]),
        service("reset", "http1", &[server.address]),
        service("echo", "http1", &[backend.address]),
    ];
    let toml = [route("refused"), route("reset"), route("echo")].concat() + &services.concat();
    let daemon = Daemon::start(&toml);
    let address = daemon.address();
    client::ask(address, Speaks::Http1, get("refused", "/")).await;
    let asking = tokio::spawn(client::ask(address, Speaks::Http1, call("POST", "reset", "/")));
    let mut upstream = server.accept().await;
    upstream.read_head().await;
    upstream.reset();
    assert_eq!(within("the answer", asking).await.unwrap().reason(), "upstream_reset");
    let mut leaves = Raw::connect(address).await;
    leaves.send("GET /hang HTTP/1.1\r\nhost: echo\r\n\r\n").await;
    eventually("it hangs", async || backend.running() == 1).await;
    leaves.reset();
    let cases = [("refused", "connect_failed"), ("reset", "reset"), ("echo", "cancelled")];
    for (service, outcome) in cases {
        daemon.metric_becomes("attempts_total", &[("service", service), ("outcome", outcome)], 1.0).await;
        daemon.metric_becomes("attempts_total", &[("service", service)], 1.0).await;
    }
    daemon.metric_becomes("requests_total", &[("service", "echo"), ("code", "499")], 1.0).await;
    daemon.metric_becomes("requests_in_flight", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn requests_that_are_sent_again_are_counted_by_why() {
    let backend = Backend::start("one").await;
    let toml = one_service("http1", &[reserved(), backend.address]) + "balancer = \"round-robin\"\n";
    let daemon = Daemon::start(&toml);
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    for _ in 0..4 {
        assert_eq!(client.ask(get("svc", "/")).await.status, 200);
    }
    let refused = daemon.metric("attempts_total", &[("outcome", "connect_failed")]).await;
    assert!(refused >= 1.0, "the turn comes to the endpoint where nobody listens");
    daemon
        .metric_becomes("retries_total", &[("service", "echo"), ("reason", "connect_failed")], refused)
        .await;
    daemon.metric_becomes("requests_total", &[("code", "200")], 4.0).await;
    daemon.metric_becomes("attempts_total", &[], 4.0 + refused).await;
    assert!(daemon.metric("errors_total", &[]).await.abs() < f64::EPSILON, "no caller saw a failure");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn durations_fall_in_their_buckets() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http1", &[backend.address]));
    client::ask(daemon.address(), Speaks::Http1, get("svc", "/slow?ms=300")).await;
    let labels = [("route", "all"), ("service", "echo")];
    daemon.metric_becomes("request_duration_seconds_count", &labels, 1.0).await;
    let sum = daemon.metric("request_duration_seconds_sum", &labels).await;
    assert!((0.3..3.0).contains(&sum), "{sum}");
    let text = daemon.admin_get("/metrics").await.text();
    let buckets =
        text.lines().filter_map(|line| line.strip_prefix("towpath_request_duration_seconds_bucket"));
    let mut last = 0.0;
    let mut infinite = None;
    for bucket in buckets {
        let (_, rest) = bucket.split_once("le=\"").unwrap();
        let (bound, _) = rest.split_once('"').unwrap();
        let value: f64 = bucket.rsplit_once(' ').unwrap().1.parse().unwrap();
        assert!(value >= last, "buckets are cumulative: {bucket}");
        last = value;
        match bound.parse::<f64>() {
            Ok(bound) if bound.is_finite() => assert_eq!(value >= 1.0, bound >= sum, "{bucket} for {sum}"),
            _ => infinite = Some(value),
        }
    }
    assert_eq!(infinite, Some(1.0), "+Inf has them all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_a_reload_removes_breaks_no_series_and_what_comes_back_counts_on() {
    let backend = Backend::start("one").await;
    let with = one_service("http1", &[backend.address]);
    let without = with.replace("echo", "other").replace("name = \"all\"", "name = \"rest\"");
    let daemon = Daemon::start(&with);
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    client.ask(get("svc", "/")).await;
    daemon.reload(Some(&without)).unwrap();
    client.ask(get("svc", "/")).await;
    daemon.metric_becomes("upstream_connections", &[("service", "echo")], 0.0).await;
    let page = parsed(&daemon.admin_get("/metrics").await);
    assert!(page["towpath_requests_total"].1.len() >= 2);
    daemon.reload(Some(&with)).unwrap();
    client.ask(get("svc", "/")).await;
    daemon.metric_becomes("requests_total", &[("route", "all"), ("service", "echo")], 2.0).await;
    daemon.metric_becomes("requests_total", &[("route", "rest"), ("service", "other")], 1.0).await;
    daemon.metric_becomes("requests_in_flight", &[], 0.0).await;
    parsed(&daemon.admin_get("/metrics").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_endpoint_that_is_gone_is_not_available_any_more() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let daemon = Daemon::start(&one_service("http1", &[one.address, two.address]));
    let gone = two.address.to_string();
    daemon.metric_becomes("endpoint_available", &[("endpoint", &gone)], 1.0).await;
    daemon.reload(Some(&one_service("http1", &[one.address]))).unwrap();
    daemon.metric_becomes("endpoint_available", &[("endpoint", &gone)], 0.0).await;
    daemon.metric_becomes("endpoint_available", &[("service", "echo")], 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_scrape_under_load_loses_nothing() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http1", &[backend.address]));
    let address = daemon.address();
    let asking: Vec<_> = (0..8)
        .map(|_| {
            tokio::spawn(async move {
                let mut client = Client::connect(address, Speaks::Http1).await;
                for _ in 0..100 {
                    assert_eq!(client.ask(get("svc", "/status/200")).await.status, 200);
                }
            })
        })
        .collect();
    let mut last = 0.0;
    while !asking.iter().all(tokio::task::JoinHandle::is_finished) {
        let answer = daemon.admin_get("/metrics").await;
        parsed(&answer);
        let count = sum_of_series(&answer.text(), "towpath_requests_total", &[]);
        assert!(count >= last, "a counter went back from {last} to {count}");
        last = count;
    }
    for task in asking {
        task.await.unwrap();
    }
    daemon.metric_becomes("requests_total", &[("code", "200")], 800.0).await;
    daemon.metric_becomes("request_duration_seconds_count", &[], 800.0).await;
}
