//! The order of a drain.
//!
//! Readiness is false from the moment that the trigger says "draining", so whoever asks `/ready` looks elsewhere. Then
//! the listeners close, after a last look at the kernel's queues; connections end with the request that they serve;
//! what is left at the deadline is cut off.

use std::time::Duration;

use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use crate::{
    drain::{Phase, Trigger},
    snapshot::{Reloader, Seen},
};

/// Drains the node. `workers` ends when the last worker has.
pub async fn shut_down(reloader: &mut Reloader, node: &Trigger, mut workers: mpsc::Receiver<()>) {
    let limit = reloader.seen().snapshot.get().config.drain.timeout;
    let started = Instant::now();
    tracing::info!(?limit, connections = connections(reloader.seen()), "draining");
    reloader.drain();
    let in_time = timeout(limit, workers.recv()).await.is_ok();
    if !in_time {
        let left = connections(reloader.seen());
        tracing::warn!(connections = left, "the drain's deadline has passed: what still runs is cut off");
        for door in &*reloader.seen().doors.get() {
            door.drain.advance(Phase::Closed);
        }
    }
    node.advance(Phase::Closed);
    // Workers let go of their runtimes at once.
    let _ = timeout(Duration::from_secs(5), workers.recv()).await;
    tracing::info!(took = ?started.elapsed(), "drained");
}

fn connections(seen: &Seen) -> i64 {
    seen.doors.get().iter().map(|door| door.series.connections.get()).sum()
}
