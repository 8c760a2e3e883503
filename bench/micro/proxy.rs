//! The proxy of the request cases: acceptor, worker and configuration put together as `app` does, but on one thread.
//!
//! The control thread and the acceptor do their work before the first request and are gone then, so nothing but the
//! worker runs while requests are served; caller and endpoints are another process (`peer.rs`). That makes the number
//! of instructions between two numbers of requests the worker's alone, and the same in every run.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Builder, LocalOptions},
    sync::mpsc,
};
use towpath::{
    drain::Trigger,
    server::{Acceptor, WorkerHandle, WorkerSeed},
    snapshot::{DoorCommand, NodeLimits, Reader, Reloader, Seen, Source, Wiring},
    telemetry::Metrics,
};

use super::peer::{Load, Peer};

/// Serves `requests` requests of the peer over one connection, one after the other; returns how long that took.
pub fn serve(load: Load, requests: u64) -> Duration {
    let mut peer = Peer::start(load, requests);
    let (seen, seed) = worker_with_caller(&mut peer);
    let node = Trigger::new();
    peer.go();
    let start = Instant::now();
    // Returns when the caller has closed its connection.
    seed.run(&seen.snapshot, node.watcher()).expect("a worker can run");
    let taken = start.elapsed();
    peer.join();
    // There is none, unless requests are logged.
    let _ = std::fs::remove_file(log());
    taken
}

/// A worker to which the peer's connection has been handed. Its acceptor is gone, so it ends with that connection.
fn worker_with_caller(peer: &mut Peer) -> (Seen, WorkerSeed) {
    let metrics = Metrics::new(1);
    let (acceptor, commands) = mpsc::unbounded_channel();
    let (made, _made) = mpsc::unbounded_channel();
    let wiring = Wiring { metrics: metrics.clone(), acceptor, made, keeper: Arc::default() };
    let mut source = Reader::new(Source::Text { name: "micro.toml".to_owned(), text: configuration(peer) });
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    let (handle, seed) = WorkerHandle::new(0, metrics.clone());
    let seen = runtime.expect("a runtime can be made").block_on(async {
        let config = source.read().expect("the configuration is valid");
        let reloader = Reloader::start(source, config, wiring).expect("the node can start");
        let seen = reloader.seen().clone();
        peer.connect_to(&seen.doors.get()[0].address.to_string());
        let limits = seen.snapshot.get().limits.clone();
        accept_one(handle, (metrics, limits), commands).await;
        seen
    });
    (seen, seed)
}

async fn accept_one(
    handle: WorkerHandle,
    (metrics, limits): (Arc<Metrics>, Arc<NodeLimits>),
    commands: mpsc::UnboundedReceiver<DoorCommand>,
) {
    let workers: Arc<[WorkerHandle]> = Arc::new([handle]);
    let acceptor = Acceptor::new(workers.clone(), metrics, limits);
    let accepted = async {
        while workers[0].connections() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = acceptor.run(commands) => {}
        () = accepted => {}
    }
}

/// What is written for a route and its service that use all of resilience; nothing of it has anything to do.
const GUARDED: (&str, &str) = (
    r#"
        failover = ["spare"]
        retry = { on = ["connect-failure", "reset", "timeout", "5xx", "429"] }
        hedge = { after = "5s" }
        fault = { delay = "1s", delay_percent = 50, abort = 503, match = [{ headers = { x-chaos = "on" } }] }
    "#,
    r#"
        head_timeout = "5s"
        ejection = { success_percent = 50, max_latency = "5s" }
        breaker = { max_requests = 100, adaptive = true }
        health_check = { http = "/healthz", interval = "1h" }
    "#,
);

/// The access log, where there is one.
fn log() -> std::path::PathBuf {
    std::env::temp_dir().join(format!("towpath-micro-{}.log", std::process::id()))
}

/// Defaults, and what the first steps in docs/ configure: a few routes, a service of five endpoints.
fn configuration(peer: &Peer) -> String {
    let endpoints =
        peer.endpoints.iter().map(|address| format!("{address:?}")).collect::<Vec<_>>().join(", ");
    let (route, service) = if peer.load == Load::Guarded { GUARDED } else { ("", "") };
    let observed = match peer.load {
        Load::Traced => "[tracing]\notlp = \"http://127.0.0.1:1\"\nsample = 1.0\n".to_owned(),
        Load::Logged => format!("[access_log]\npath = {:?}", log().display().to_string()),
        _ => String::new(),
    };
    let protocol = if peer.load.is_http2() { "http2" } else { "http1" };
    format!(
        r#"
        [node]
        name = "micro"
        workers = 1
        {observed}
        [[listeners]]
        name = "outgoing"
        kind = "outgoing"
        listen = "127.0.0.1:0"
        [[routes]]
        name = "reviews-android"
        hosts = ["reviews"]
        match = [{{ path_prefix = "/v2", headers = {{ client = "Android" }} }}]
        backends = [{{ service = "reviews" }}]
        [[routes]]
        name = "reviews"
        hosts = ["reviews", "*.reviews.internal"]
        backends = [{{ service = "reviews" }}]
        timeout = "30s"
        attempt_timeout = "10s"
        {route}
        [services.reviews]
        endpoints = [{endpoints}]
        protocol = "{protocol}"
        {service}
        [services.spare]
        endpoints = ["127.0.0.1:9"]
        "#
    )
}
