//! `breaker` of a service: requests that run and wait, connections, all of it over a reload.

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::support::{
    Answer, Backend, Client, Daemon, Speaks, client,
    daemon::{one_service, service},
    eventually, get,
};

/// One service with these keys of its breaker.
fn limited(backend: &Backend, breaker: &str) -> String {
    format!("{}breaker = {{ {breaker} }}\n", one_service("http1", &[backend.address]))
}

/// A request on a connection of its own, answered or not.
fn asks(daemon: &Daemon, path: &'static str) -> JoinHandle<Answer> {
    let address = daemon.address();
    tokio::spawn(async move { client::ask(address, Speaks::Http1, get("svc", path)).await })
}

/// What `/api/services` says of the only service's breaker.
async fn breaker(daemon: &Daemon) -> serde_json::Value {
    daemon.admin_get("/api/services").await.json()["services"][0]["breaker"].clone()
}

async fn assert_overloaded(answer: &Answer, cause: &str) {
    assert_eq!((answer.status, answer.reason()), (503, "overloaded"), "{answer:?}");
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.json()["error"]["cause"], cause);
}

async fn runs(daemon: &Daemon, running: u64, pending: u64) {
    eventually(&format!("{running} run and {pending} wait"), async || {
        let breaker = breaker(daemon).await;
        breaker["running"] == running && breaker["pending"] == pending
    })
    .await;
}

over_both_protocols! {
    async fn a_request_over_the_limit_waits_and_one_over_the_queue_is_refused_at_once(speaks: Speaks) {
        let backend = Backend::start("one").await;
        backend.answer_after(Duration::from_secs(1));
        let daemon = Daemon::start(&limited(&backend, "max_requests = 2, max_pending = 1, pending_timeout = \"9s\""));
        let first = [asks(&daemon, "/"), asks(&daemon, "/")];
        runs(&daemon, 2, 0).await;
        let waits = asks(&daemon, "/");
        runs(&daemon, 2, 1).await;
        assert_eq!(backend.running(), 2);
        let refused = client::ask(daemon.address(), speaks, get("svc", "/")).await;
        assert_overloaded(&refused, "max_requests").await;
        assert!(breaker(&daemon).await["open_since"].is_string());
        backend.answer_after(Duration::ZERO);
        for answer in first.into_iter().chain([waits]) {
            assert_eq!(answer.await.unwrap().status, 200);
        }
        assert_eq!((backend.requests(), backend.take_peak()), (3, 2));
        runs(&daemon, 0, 0).await;
        daemon.metric_becomes("error_causes_total", &[("cause", "max_requests")], 1.0).await;
        assert_eq!(daemon.metric("service_limit", &[("service", "echo")]).await, 2.0);
        assert_eq!(daemon.metric("service_pending", &[("service", "echo")]).await, 0.0);
        eventually("the breaker is closed", async || breaker(&daemon).await["open_since"].is_null()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_that_waits_too_long_is_refused() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&limited(&backend, "max_requests = 1, pending_timeout = \"50ms\""));
    let hangs = asks(&daemon, "/hang");
    runs(&daemon, 1, 0).await;
    assert_overloaded(&asks(&daemon, "/").await.unwrap(), "pending_timeout").await;
    assert_eq!(backend.requests(), 1);
    hangs.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_wait_ends_with_the_deadline_of_the_request() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&limited(&backend, "max_requests = 1, pending_timeout = \"9s\""));
    let hangs = asks(&daemon, "/hang");
    runs(&daemon, 1, 0).await;
    let request = get("svc", "/").header("towpath-deadline", "100");
    let answer = client::ask(daemon.address(), Speaks::Http1, request).await;
    assert_eq!((answer.status, answer.reason()), (504, "timeout"), "{answer:?}");
    assert_eq!(answer.json()["error"]["cause"], "caller_deadline");
    assert_eq!(backend.requests(), 1);
    hangs.abort();
    runs(&daemon, 0, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn callers_that_go_away_give_back_their_places_and_those_in_the_queue() {
    let backend = Backend::start("one").await;
    let daemon =
        Daemon::start(&limited(&backend, "max_requests = 2, max_pending = 3, pending_timeout = \"9s\""));
    for _ in 0..3 {
        let callers: Vec<_> = (0..5).map(|_| asks(&daemon, "/hang")).collect();
        runs(&daemon, 2, 3).await;
        callers.iter().for_each(JoinHandle::abort);
        runs(&daemon, 0, 0).await;
    }
    assert_eq!(asks(&daemon, "/").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_place_is_kept_until_the_response_has_ended() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&limited(&backend, "max_requests = 1, max_pending = 0"));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let response = client.send(get("svc", "/drip")).await;
    assert_overloaded(&asks(&daemon, "/").await.unwrap(), "max_requests").await;
    drop((response, client));
    runs(&daemon, 0, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_runs_and_waits_survives_a_reload_that_changes_the_limit() {
    let backend = Backend::start("one").await;
    backend.answer_after(Duration::from_secs(1));
    let toml = |max: u32| {
        limited(&backend, &format!("max_requests = {max}, max_pending = 2, pending_timeout = \"9s\""))
    };
    let daemon = Daemon::start(&toml(1));
    let callers: Vec<_> = (0..3).map(|_| asks(&daemon, "/")).collect();
    runs(&daemon, 1, 2).await;
    daemon.reload(Some(&toml(2))).unwrap();
    runs(&daemon, 2, 1).await;
    assert_eq!(breaker(&daemon).await["limit"], 2);
    daemon.reload(Some(&toml(1))).unwrap();
    assert_eq!(breaker(&daemon).await["running"], 2);
    for caller in callers {
        assert_eq!(caller.await.unwrap().status, 200);
    }
    backend.take_peak();
    backend.answer_after(Duration::ZERO);
    let callers: Vec<_> = (0..3).map(|_| asks(&daemon, "/slow?ms=30")).collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap().status, 200);
    }
    assert_eq!(backend.take_peak(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connections_over_the_limit_are_waited_for_and_then_refused() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&limited(&backend, "max_connections = 2, pending_timeout = \"200ms\""));
    let hang = [asks(&daemon, "/hang"), asks(&daemon, "/hang")];
    eventually("both have a connection", async || breaker(&daemon).await["connections"] == 2).await;
    assert_overloaded(&asks(&daemon, "/").await.unwrap(), "max_connections").await;
    hang.iter().for_each(JoinHandle::abort);
    // It waits for the places, and gets one.
    eventually("there is room again", async || asks(&daemon, "/").await.unwrap().status == 200).await;
    assert!(backend.open_connections() <= 2);
    assert_eq!(breaker(&daemon).await["max_connections"], 2);
    let state = daemon.admin_get("/api/services").await.json();
    assert_eq!(
        state["services"][0]["endpoints"][0]["failing_percent"], 0.0,
        "not the endpoint's doing: {state}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_idle_connection_gives_way_to_one_to_another_endpoint_or_from_another_worker() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let routes = "[[routes]]\nname = \"all\"\nhosts = [\"*\"]\nbackends = [{ service = \"echo\" }]\n";
    let echo = service("echo", "http1", &[one.address, two.address]);
    let daemon = Daemon::start(&format!(
        "{routes}{echo}balancer = \"round-robin\"\nbreaker = {{ max_connections = 1, pending_timeout = \"9s\" }}\n"
    ));
    // Each connection of a caller goes to the worker that has fewer; each request to the next endpoint.
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(Client::connect(daemon.address(), Speaks::Http1).await);
    }
    for _ in 0..2 {
        for client in &mut clients {
            assert_eq!(client.ask(get("svc", "/")).await.status, 200);
            assert!(one.open_connections() + two.open_connections() <= 2, "one that closes, one that opens");
        }
    }
    assert!(one.requests() > 0 && two.requests() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_full_pool_of_an_endpoint_refuses_in_time_as_well() {
    let backend = Backend::start("one").await;
    let toml = limited(&backend, "pending_timeout = \"100ms\"");
    let daemon = Daemon::start(&format!("{toml}pool = {{ max_connections = 1 }}\n"));
    // One on each worker.
    let hang =
        [asks(&daemon, "/hang"), asks(&daemon, "/hang"), asks(&daemon, "/hang"), asks(&daemon, "/hang")];
    eventually("some are refused", async || {
        daemon.metric("error_causes_total", &[("cause", "max_connections")]).await >= 2.0
    })
    .await;
    hang.iter().for_each(JoinHandle::abort);
}
