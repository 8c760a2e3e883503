//! A connection, by whichever address family gives one first.
//!
//! Happy Eyeballs (RFC 8305) for services with IPv4 and IPv6 endpoints: where a connection to the chosen endpoint takes
//! long, one to an endpoint of the other family is made beside it, and the first to be there carries the request. A network
//! that loses one family's packets so costs a quarter of a second instead of `connect_timeout`, until its endpoints are
//! ejected. Services of one family know nothing of this.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::timeout;

use super::{Worker, attempt::Call, report::Report};
use crate::{
    service::Picked,
    snapshot::BackendView,
    telemetry::AttemptOutcome,
    upstream::{ConnectError, Lease, Target, Want},
};

/// The Connection Attempt Delay that RFC 8305 section 5 recommends.
const DELAY: Duration = Duration::from_millis(250);

/// A connection that is being made, whatever becomes of the request.
type Connecting = Pin<Box<dyn Future<Output = Result<Lease, ConnectError>>>>;

impl Call {
    /// A connection for the attempt; `report` moves on when it is to another endpoint.
    pub(super) async fn connect(&self, report: &mut Report<'_>, want: Want) -> Result<Lease, ConnectError> {
        if report.picked().has_other_family() {
            return Box::pin(self.race(report, want)).await;
        }
        checkout(&self.worker, &self.backend, &report.picked().target, want).await
    }

    async fn race(&self, report: &mut Report<'_>, want: Want) -> Result<Lease, ConnectError> {
        let mut first = self.connecting(report.picked(), want);
        // What fails early is not waited for: the next attempt goes to the other family.
        if let Ok(done) = timeout(DELAY, &mut first).await {
            return done;
        }
        let view = &self.backend.view;
        let Some(other) = view.pick_other_family(report.picked(), || self.worker.random()) else {
            return first.await;
        };
        let begun = Instant::now();
        let mut second = self.connecting(&other, want);
        tokio::select! {
            biased;
            done = &mut first => match done {
                Ok(lease) => Ok(lease),
                Err(error) => {
                    if let Some((before, since)) = report.move_to(other, begun) {
                        report.lose(before.target.id);
                        before.report(outcome(&error), since);
                    }
                    second.await
                }
            },
            done = &mut second => match done {
                Ok(lease) => {
                    if let Some((before, since)) = report.move_to(other, begun) {
                        finish(first, before, since);
                    }
                    Ok(lease)
                }
                Err(error) => {
                    report.lose(other.target.id);
                    other.report(outcome(&error), begun);
                    first.await
                }
            },
        }
    }

    fn connecting(&self, picked: &Picked, want: Want) -> Connecting {
        let (worker, backend, target) = (self.worker.clone(), self.backend.clone(), picked.target.clone());
        Box::pin(async move { checkout(&worker, &backend, &target, want).await })
    }
}

/// What an endpoint is told of a connection that was not made.
fn outcome(error: &ConnectError) -> AttemptOutcome {
    if error.is_of_endpoint() { AttemptOutcome::ConnectFailed } else { AttemptOutcome::Cancelled }
}

async fn checkout(
    worker: &Worker,
    backend: &BackendView,
    target: &Arc<Target>,
    want: Want,
) -> Result<Lease, ConnectError> {
    let policy = &backend.view.service.policy;
    match worker.pools.checkout(target, policy, want).await {
        // Not the endpoint has gone but its service, and this request is one of its last.
        Err(ConnectError::Removed) if backend.view.has(target.id) => {
            worker.pools.checkout(target, policy, Want { even_retired: true, ..want }).await
        }
        done => done,
    }
}

/// Waits for the connection that came too late. One that comes is kept for later requests; one that fails counts against its
/// endpoint: else a family that loses packets would cost every second request its delay for ever.
fn finish(connecting: Connecting, picked: Picked, begun: Instant) {
    tokio::task::spawn_local(async move {
        match connecting.await {
            Ok(lease) => {
                picked.report(AttemptOutcome::Cancelled, begun);
                lease.finish();
            }
            Err(error) => picked.report(outcome(&error), begun),
        }
    });
}
