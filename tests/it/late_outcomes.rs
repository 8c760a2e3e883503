//! An attempt counts as its answer ends, and load is not death.

use std::net::SocketAddr;

use bytes::Bytes;
use tonic::Request;

use crate::support::{
    Answer, Backend, Client, Daemon, Speaks,
    backend::AS_ASKED,
    daemon::one_service,
    eventually, get,
    grpc::{GrpcServer, Plain, connect, method},
    within,
};

const LONG: &str = "ejection = { backoff = [\"1h\", \"1h\"] }\n";
const SHORT: &str = "ejection = { backoff = [\"200ms\", \"400ms\"] }\n";

fn toml(protocol: &str, addresses: &[SocketAddr], keys: &str) -> String {
    format!("{}balancer = \"round-robin\"\n{keys}", one_service(protocol, addresses))
}

async fn two() -> (Backend, Backend) {
    (Backend::start("one").await, Backend::start("two").await)
}

/// Asks for `path`; whether all of an answer came.
async fn whole(daemon: &Daemon, speaks: Speaks, path: &str) -> bool {
    let mut client = Client::connect(daemon.address(), speaks).await;
    let Ok(response) = within("a head", client.try_send(get("svc", path))).await else { return false };
    within("the rest", Answer::read(response)).await.is_ok()
}

async fn attempts(daemon: &Daemon, outcome: &str, count: f64) {
    daemon.metric_becomes("attempts_total", &[("outcome", outcome)], count).await;
    daemon.metric_becomes("endpoint_requests_total", &[("outcome", outcome)], count).await;
}

over_both_protocols! {
    async fn an_endpoint_that_always_breaks_its_answers_off_is_ejected(speaks: Speaks) {
        for protocol in ["http1", "http2"] {
            let (one, two) = two().await;
            let daemon = Daemon::start(&toml(protocol, &[one.address, two.address], LONG));
            // Both break theirs off; one has to stay.
            for _ in 0..12 {
                assert!(!whole(&daemon, speaks, "/broken").await);
            }
            daemon.metric_becomes("ejections_total", &[], 1.0).await;
            attempts(&daemon, "reset", 12.0).await;
            assert!(one.requests() <= 5 || two.requests() <= 5, "{} {}", one.requests(), two.requests());
        }
    }
}

over_both_protocols! {
    async fn an_answer_that_was_whole_counts_once_and_as_success(speaks: Speaks) {
        let (one, two) = two().await;
        let daemon = Daemon::start(&toml("http1", &[one.address, two.address], LONG));
        for path in ["/", "/bytes?n=300000", "/trailers", "/status/404"] {
            assert!(whole(&daemon, speaks, path).await, "{path}");
        }
        attempts(&daemon, "success", 4.0).await;
        daemon.metric_becomes("attempts_total", &[], 4.0).await;
        assert!(whole(&daemon, speaks, "/status/503").await);
        attempts(&daemon, "server_error", 1.0).await;
        daemon.metric_becomes("attempts_total", &[], 5.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_grpc_status_in_the_trailers_counts_like_one_in_the_head() {
    let (one, two) = (GrpcServer::start().await, GrpcServer::start().await);
    let daemon = Daemon::start(&toml("auto", &[one.address, two.address], LONG));
    let mut caller = connect(daemon.address(), "echo.test").await;
    for _ in 0..12 {
        within("ready", caller.ready()).await.unwrap();
        let call = caller.server_streaming(Request::new(Bytes::from("x")), method("Late"), Plain);
        let mut stream = within("the call", call).await.unwrap().into_inner();
        assert!(within("a message", stream.message()).await.is_ok());
        assert!(within("DATA_LOSS", stream.message()).await.is_err());
    }
    daemon.metric_becomes("ejections_total", &[], 1.0).await;
    attempts(&daemon, "server_error", 12.0).await;
}

over_both_protocols! {
    async fn a_caller_that_goes_away_within_an_answer_says_nothing_against_the_endpoint(speaks: Speaks) {
        let (one, two) = two().await;
        let daemon = Daemon::start(&toml("http1", &[one.address, two.address], LONG));
        for _ in 0..12 {
            let mut client = Client::connect(daemon.address(), speaks).await;
            drop(client.send(get("svc", "/drip")).await);
        }
        attempts(&daemon, "success", 12.0).await;
        daemon.metric_becomes("ejections_total", &[], 0.0).await;
    }
}

over_both_protocols! {
    async fn a_deadline_within_an_answer_says_nothing_against_the_endpoint(speaks: Speaks) {
        let (one, two) = two().await;
        let toml = toml("http1", &[one.address, two.address], LONG);
        let daemon = Daemon::start(&toml.replace("hosts =", "timeout = \"50ms\"\nhosts ="));
        for _ in 0..12 {
            assert!(!whole(&daemon, speaks, "/drip").await);
        }
        attempts(&daemon, "timeout", 12.0).await;
        daemon.metric_becomes("ejections_total", &[], 0.0).await;
    }
}

/// One of two endpoints has been ejected for its errors.
async fn ejected(bad: &Backend, good: &Backend) -> Daemon {
    bad.answers(500);
    let daemon = Daemon::start(&toml("http1", &[bad.address, good.address], SHORT));
    eventually("it is ejected", async || {
        whole(&daemon, Speaks::Http1, "/").await;
        daemon.metric("ejections_total", &[]).await > 0.0
    })
    .await;
    daemon
}

async fn is_available(daemon: &Daemon, endpoint: &Backend) -> bool {
    let labels = [("endpoint", &*endpoint.address.to_string())];
    daemon.metric("endpoint_available", &labels).await > 0.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_probe_with_a_long_answer_brings_its_endpoint_back_at_once() {
    let (bad, good) = two().await;
    let daemon = ejected(&bad, &good).await;
    bad.answers(AS_ASKED);
    let mut open = Vec::new();
    eventually("it is back while the answer lasts", async || {
        let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
        let response = client.send(get("svc", "/drip")).await;
        open.push((client, response));
        is_available(&daemon, &bad).await
    })
    .await;
    assert!(open.iter().any(|(_, response)| response.headers()["x-backend"] == *bad.name()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_endpoint_that_has_too_much_to_do_is_not_ejected() {
    let (busy, good) = two().await;
    busy.answers(429);
    let daemon = Daemon::start(&toml("http1", &[busy.address, good.address], LONG));
    for _ in 0..30 {
        whole(&daemon, Speaks::Http1, "/").await;
    }
    // Each of the two workers has turns of its own.
    let share = busy.requests();
    assert!((13..=17).contains(&share), "{share} of 30");
    attempts(&daemon, "overloaded", share as f64).await;
    attempts(&daemon, "success", (30 - share) as f64).await;
    daemon.metric_becomes("ejections_total", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_probe_that_finds_load_brings_its_endpoint_back() {
    let (bad, good) = two().await;
    let daemon = ejected(&bad, &good).await;
    bad.answers(429);
    eventually("it is back", async || {
        whole(&daemon, Speaks::Http1, "/").await;
        is_available(&daemon, &bad).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn load_moves_away_from_an_endpoint_that_has_too_much_to_do() {
    let (busy, good) = two().await;
    busy.answers(429);
    let toml = one_service("http1", &[busy.address, good.address]) + "balancer = \"peak-ewma\"\n";
    let daemon = Daemon::start(&toml);
    for _ in 0..100 {
        whole(&daemon, Speaks::Http1, "/").await;
    }
    assert!(busy.requests() < 40, "{} of 100", busy.requests());
    daemon.metric_becomes("ejections_total", &[], 0.0).await;
}
