//! The admin API: what operators and dashboards read and press.

use crate::support::{Backend, Client, Daemon, Speaks, client, daemon::one_service, get};

async fn started() -> (Daemon, Backend) {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http1", &[backend.address]));
    (daemon, backend)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_running_node_is_live_and_ready() {
    let (daemon, _backend) = started().await;
    for path in ["/live", "/ready"] {
        assert_eq!(daemon.admin_get(path).await.status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn status_names_the_generation_and_config_services_and_routes_what_is_in_force() {
    let (daemon, backend) = started().await;
    assert_eq!(daemon.generation().await, 1);
    let expected = [
        ("/api/config", vec!["echo".to_owned()]),
        ("/api/services", vec!["echo".to_owned(), backend.address.to_string()]),
        ("/api/routes", vec!["all".to_owned(), "echo".to_owned()]),
    ];
    for (path, parts) in expected {
        let answer = daemon.admin_get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        let text = answer.json().to_string();
        for part in parts {
            assert!(text.contains(&format!("\"{part}")), "{path} without {part}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_not_there_is_404_and_a_get_changes_nothing() {
    let (daemon, _backend) = started().await;
    assert_eq!(daemon.admin_get("/nothing").await.status, 404);
    for path in ["/api/drain", "/api/reload"] {
        assert_eq!(daemon.admin_get(path).await.status, 405, "{path}");
    }
    assert_eq!(daemon.admin_get("/ready").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn metrics_have_every_name_of_the_contract_with_help_and_type() {
    let (daemon, _backend) = started().await;
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    client.ask(get("svc", "/")).await;
    daemon.metric_becomes("requests_total", &[("code", "200")], 1.0).await;
    let answer = daemon.admin_get("/metrics").await;
    assert!(answer.header("content-type").starts_with("text/plain"), "{answer:?}");
    let text = answer.text();
    let names = [
        ("requests_total", "counter"),
        ("request_duration_seconds", "histogram"),
        ("requests_in_flight", "gauge"),
        ("attempts_total", "counter"),
        ("endpoint_requests_total", "counter"),
        ("connections", "gauge"),
        ("upstream_connections", "gauge"),
        ("config_generation", "gauge"),
        ("config_last_reload_success", "gauge"),
    ];
    for (name, kind) in names {
        assert!(text.contains(&format!("# TYPE towpath_{name} {kind}\n")), "{name}: {text}");
        assert!(text.contains(&format!("# HELP towpath_{name} ")), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn series_stay_bounded_whatever_callers_send() {
    let (daemon, _backend) = started().await;
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    for number in 0..200 {
        client.ask(get(&format!("h{number}.test"), &format!("/{number}"))).await;
    }
    daemon.metric_becomes("requests_total", &[("route", "all")], 200.0).await;
    let text = daemon.admin_get("/metrics").await.text();
    assert!(!text.contains("h7.test"));
    let series = text.lines().filter(|line| line.starts_with("towpath_requests_total{")).count();
    assert!(series < 10, "{series} series");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_admin_api_answers_while_every_worker_is_busy() {
    let (daemon, backend) = started().await;
    let address = daemon.address();
    let hanging: Vec<_> = (0..20)
        .map(|_| {
            tokio::spawn(async move {
                Client::connect(address, Speaks::Http1).await.try_ask(get("svc", "/hang")).await
            })
        })
        .collect();
    crate::support::eventually("all hang", async || backend.running() == 20).await;
    assert_eq!(daemon.admin_get("/live").await.status, 200);
    daemon.metric_becomes("requests_in_flight", &[("service", "echo")], 20.0).await;
    hanging.iter().for_each(|task| task.abort());
    assert_eq!(client::ask(address, Speaks::Http2, get("svc", "/")).await.status, 200);
}
