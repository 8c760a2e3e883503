//! Which worker gets a connection: the least busy one.

use crate::support::{Backend, Daemon, Raw, daemon::one_service};

const WORKERS: usize = 4;

async fn started() -> (Daemon, Backend) {
    let backend = Backend::start("one").await;
    let node = format!("[node]\nworkers = {WORKERS}\n");
    (Daemon::start(&(node + &one_service("http1", &[backend.address]))), backend)
}

/// A connection that has been served once, so that its worker counts it.
async fn served(daemon: &Daemon) -> Raw {
    let mut client = Raw::connect(daemon.address()).await;
    client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
    assert_eq!(client.read_response().await.status, 200);
    client
}

/// Open connections of each worker, by its number.
async fn per_worker(daemon: &Daemon) -> Vec<usize> {
    let mut counts = Vec::new();
    for worker in 0..WORKERS {
        let worker = worker.to_string();
        counts.push(daemon.metric("worker_connections", &[("worker", &worker)]).await as usize);
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connections_are_spread_evenly() {
    let (daemon, _backend) = started().await;
    let mut clients = Vec::new();
    for _ in 0..10 * WORKERS {
        clients.push(served(&daemon).await);
    }
    assert_eq!(per_worker(&daemon).await, [10; WORKERS]);
    daemon.metric_becomes("connections", &[("listener", "outgoing")], 40.0).await;
    drop(clients);
    daemon.metric_becomes("worker_connections", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connections_that_come_all_at_once_are_spread_evenly() {
    let (daemon, _backend) = started().await;
    let mut clients = Vec::new();
    for _ in 0..25 * WORKERS {
        clients.push(Raw::connect(daemon.address()).await);
    }
    daemon.metric_becomes("worker_connections", &[], 100.0).await;
    assert_eq!(per_worker(&daemon).await, [25; WORKERS]);
    drop(clients);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn after_one_worker_lost_its_connections_the_next_ones_go_there() {
    let (daemon, _backend) = started().await;
    let mut clients = Vec::new();
    for _ in 0..10 * WORKERS {
        clients.push(served(&daemon).await);
    }
    // Equally busy workers take turns, so every fourth connection is the same worker's.
    let mut number = 0;
    clients.retain(|_| {
        number += 1;
        number % WORKERS != 0
    });
    daemon.metric_becomes("worker_connections", &[], 30.0).await;
    let mut counts = per_worker(&daemon).await;
    let idle = counts.iter().position(|count| *count == 0).expect("one worker has none left");
    for _ in 0..10 {
        clients.push(served(&daemon).await);
        counts[idle] += 1;
        assert_eq!(per_worker(&daemon).await, counts, "it went to a busier worker");
    }
    assert_eq!(counts, [10; WORKERS]);
}
