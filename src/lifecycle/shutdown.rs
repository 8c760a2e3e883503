//! The order of a drain.
//!
//! Readiness is false from the moment that the trigger says "draining", so whoever asks `/ready` looks elsewhere. Then
//! the listeners close, after a last look at the kernel's queues; connections end with the request that they serve;
//! what is left at the deadline is cut off.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use crate::{
    drain::{Phase, Trigger},
    service::Service,
    snapshot::{ReloadRequest, Reloader, Seen},
};

/// Drains the node. `workers` ends when the last worker has; `requests` is what the control thread still has to do
/// meanwhile, and never ends by itself.
pub async fn shut_down(
    reloader: &mut Reloader,
    node: &Trigger,
    mut workers: mpsc::Receiver<()>,
    mut requests: Requests,
) {
    let limit = reloader.seen().snapshot.get().config.drain.timeout;
    let started = Instant::now();
    tracing::info!(?limit, connections = connections(reloader.seen()), "draining");
    reloader.drain();
    let in_time = tokio::select! {
        done = timeout(limit, workers.recv()) => done.is_ok(),
        never = serve(reloader, &mut requests) => match never {},
    };
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

/// What reaches the control thread.
pub struct Requests {
    /// For a reload.
    pub reloads: mpsc::UnboundedReceiver<ReloadRequest>,
    /// To let discovery follow a service that a worker made.
    pub to_follow: mpsc::UnboundedReceiver<Arc<Service>>,
}

async fn serve(reloader: &mut Reloader, requests: &mut Requests) -> std::convert::Infallible {
    loop {
        tokio::select! {
            Some(request) = requests.reloads.recv() => {
                // Whoever asked may have gone.
                let _ = request.reply.send(reloader.reload(request.text));
            }
            Some(service) = requests.to_follow.recv() => reloader.follow(&service),
            else => std::future::pending().await,
        }
    }
}

fn connections(seen: &Seen) -> i64 {
    seen.doors.get().iter().map(|door| door.series.connections.get()).sum()
}
