//! `[overload]`, adaptive limits and `limits.memory`: what the node as a whole carries, and who is refused first.

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::support::{
    Answer, Backend, Client, Daemon, Speaks, client,
    daemon::{one_service, service},
    eventually, get, within,
};

/// A route for each priority, by host, to one service.
fn by_priority(backend: &Backend, overload: &str) -> String {
    let route = |priority: &str| {
        format!(
            "[[routes]]\nname = \"{priority}\"\nhosts = [\"{priority}\"]\npriority = \"{priority}\"\nbackends = [{{ service = \"echo\" }}]\n"
        )
    };
    let routes: String = ["low", "normal", "high"].map(route).concat();
    format!("[overload]\n{overload}\n{routes}{}", service("echo", "http1", &[backend.address]))
}

fn asks(daemon: &Daemon, host: &'static str, path: &'static str) -> JoinHandle<Answer> {
    let address = daemon.address();
    tokio::spawn(async move { client::ask(address, Speaks::Http1, get(host, path)).await })
}

async fn node(daemon: &Daemon) -> serde_json::Value {
    daemon.admin_get("/api/status").await.json()["overload"].clone()
}

async fn runs(daemon: &Daemon, running: u64, pending: u64) {
    eventually(&format!("{running} run and {pending} wait"), async || {
        let node = node(daemon).await;
        node["running"] == running && node["pending"] == pending
    })
    .await;
}

fn assert_overloaded(answer: &Answer, cause: &str) {
    assert_eq!((answer.status, answer.reason()), (503, "overloaded"), "{answer:?}");
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.json()["error"]["cause"], cause);
}

over_both_protocols! {
    async fn a_request_over_the_limit_of_the_node_waits_or_is_refused_unsent(speaks: Speaks) {
        let backend = Backend::start("one").await;
        let daemon = Daemon::start(&by_priority(&backend, "max_requests = 2\nmax_pending = 1\npending_timeout = \"300ms\""));
        let run = [asks(&daemon, "normal", "/hang"), asks(&daemon, "low", "/hang")];
        runs(&daemon, 2, 0).await;
        let waits = asks(&daemon, "normal", "/");
        runs(&daemon, 2, 1).await;
        let refused = client::ask(daemon.address(), speaks, get("normal", "/")).await;
        assert_overloaded(&refused, "node_max_requests");
        assert_overloaded(&waits.await.unwrap(), "node_pending_timeout");
        assert_eq!(backend.requests(), 2);
        assert_eq!(daemon.metric("node_limit", &[]).await, 2.0);
        assert_eq!(daemon.metric("attempts_total", &[("outcome", "success")]).await, 0.0);
        run.iter().for_each(JoinHandle::abort);
        runs(&daemon, 0, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_higher_priority_goes_first_and_takes_the_place_of_a_lower_one() {
    let backend = Backend::start("one").await;
    let daemon =
        Daemon::start(&by_priority(&backend, "max_requests = 1\nmax_pending = 2\npending_timeout = \"9s\""));
    let runs_now = asks(&daemon, "low", "/hang");
    runs(&daemon, 1, 0).await;
    let low = asks(&daemon, "low", "/");
    runs(&daemon, 1, 1).await;
    let normal = asks(&daemon, "normal", "/hang");
    runs(&daemon, 1, 2).await;
    let high = asks(&daemon, "high", "/hang");
    assert_overloaded(&low.await.unwrap(), "displaced");
    assert_overloaded(&asks(&daemon, "low", "/").await.unwrap(), "node_max_requests");
    runs_now.abort();
    runs(&daemon, 1, 1).await;
    let by = async |route: &str| daemon.metric("requests_total", &[("route", route), ("code", "499")]).await;
    high.abort();
    runs(&daemon, 1, 0).await;
    assert_eq!((by("high").await, by("normal").await), (1.0, 0.0), "high ran before normal");
    normal.abort();
    runs(&daemon, 0, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn admin_and_health_answer_while_the_node_is_overloaded() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&by_priority(&backend, "max_requests = 1\nmax_pending = 0"));
    let hangs = asks(&daemon, "normal", "/hang");
    runs(&daemon, 1, 0).await;
    let storm: Vec<_> = (0..4)
        .map(|_| {
            let address = daemon.address();
            tokio::spawn(async move {
                let mut client = Client::connect(address, Speaks::Http1).await;
                loop {
                    assert_eq!(client.ask(get("normal", "/")).await.status, 503);
                }
            })
        })
        .collect();
    for path in ["/live", "/ready", "/metrics", "/api/status", "/api/services"].iter().cycle().take(50) {
        let answer = within(path, daemon.admin_get(path)).await;
        assert_eq!(answer.status, 200, "{path}");
    }
    assert!(node(&daemon).await["open_since"].is_string());
    assert!(storm.iter().all(|caller| !caller.is_finished()), "somebody got another answer");
    storm.iter().for_each(JoinHandle::abort);
    hangs.abort();
    runs(&daemon, 0, 0).await;
    eventually("it no longer refuses", async || node(&daemon).await["open_since"].is_null()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reload_changes_the_limit_of_the_node_and_keeps_what_runs() {
    let backend = Backend::start("one").await;
    let toml = |max: u32| {
        by_priority(&backend, &format!("max_requests = {max}\nmax_pending = 1\npending_timeout = \"9s\""))
    };
    let daemon = Daemon::start(&toml(1));
    let callers = [asks(&daemon, "normal", "/hang"), asks(&daemon, "normal", "/hang")];
    runs(&daemon, 1, 1).await;
    daemon.reload(Some(&toml(3))).unwrap();
    runs(&daemon, 2, 0).await;
    assert_eq!(asks(&daemon, "normal", "/").await.unwrap().status, 200);
    callers.iter().for_each(JoinHandle::abort);
    runs(&daemon, 0, 0).await;
}

fn with_ceiling(backend: &Backend, ceiling: &str) -> String {
    format!("[limits]\nmemory = \"{ceiling}\"\n{}", one_service("http1", &[backend.address]))
}

/// As this process has it, which the daemon is in.
async fn memory(daemon: &Daemon) -> serde_json::Value {
    daemon.admin_get("/api/status").await.json()["memory"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn at_the_memory_ceiling_new_work_is_refused_and_admin_answers() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&with_ceiling(&backend, "1024GiB"));
    let (mut one, mut two) = (
        Client::connect(daemon.address(), Speaks::Http1).await,
        Client::connect(daemon.address(), Speaks::Http2).await,
    );
    assert_eq!(one.ask(get("svc", "/")).await.status, 200);
    assert_eq!(two.ask(get("svc", "/")).await.status, 200);
    assert!(memory(&daemon).await["short_since"].is_null());
    // Less than any process of tests has.
    let _ballast = std::hint::black_box(vec![1u8; 24 << 20]);
    daemon.reload(Some(&with_ceiling(&backend, "16MiB"))).unwrap();
    daemon.metric_becomes("memory_pressure", &[], 1.0).await;
    let refused = one.ask(get("svc", "/")).await;
    assert_overloaded(&refused, "memory");
    assert_eq!(refused.header("connection"), "close");
    assert_overloaded(&two.ask(get("svc", "/")).await, "memory");
    assert!(memory(&daemon).await["short_since"].is_string());
    let mut new = Client::connect(daemon.address(), Speaks::Http1).await;
    assert!(new.try_ask(get("svc", "/")).await.is_err(), "a new connection is closed at once");
    daemon.metric_becomes("connections_refused_total", &[("cause", "memory")], 1.0).await;
    assert_eq!(backend.requests(), 2);

    daemon.reload(Some(&with_ceiling(&backend, "1024GiB"))).unwrap();
    daemon.metric_becomes("memory_pressure", &[], 0.0).await;
    assert_eq!(two.ask(get("svc", "/")).await.status, 200);
    assert_eq!(client::ask(daemon.address(), Speaks::Http1, get("svc", "/")).await.status, 200);

    assert!(memory(&daemon).await["ceiling_bytes"].is_u64());
    let without = one_service("http1", &[backend.address]);
    daemon.reload(Some(&without)).unwrap();
    // What the cgroup of these tests allows, if anything.
    let meant = Daemon::start(&without);
    assert_eq!(memory(&daemon).await["ceiling_bytes"], memory(&meant).await["ceiling_bytes"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_adaptive_limit_is_shown_and_lets_a_service_that_keeps_up_have_what_it_needs() {
    let backend = Backend::start("one").await;
    let toml = format!(
        "{}breaker = {{ adaptive = true, max_requests = 500 }}\n",
        one_service("http1", &[backend.address])
    );
    let daemon = Daemon::start(&toml);
    let breaker = daemon.admin_get("/api/services").await.json()["services"][0]["breaker"].clone();
    assert_eq!((&breaker["max_requests"], &breaker["limit"]), (&500.into(), &64.into()));
    backend.answer_after(Duration::from_millis(5));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..48 {
        let address = daemon.address();
        callers.spawn(async move {
            let mut client = Client::connect(address, Speaks::Http1).await;
            loop {
                assert_eq!(client.ask(get("svc", "/")).await.status, 200);
            }
        });
    }
    eventually("the limit grows", async || {
        daemon.metric("service_limit", &[("service", "echo")]).await > 64.0
    })
    .await;
    assert!(callers.try_join_next().is_none(), "a request was refused");
}
