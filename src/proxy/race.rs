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

use super::{Worker, attempt::Call, headers::Speech, report::Report};
use crate::{
    service::{Hop, Picked},
    snapshot::BackendView,
    telemetry::AttemptOutcome,
    upstream::{ConnectError, Lease, Target, Version, Want},
};

/// The Connection Attempt Delay that RFC 8305 section 5 recommends.
const DELAY: Duration = Duration::from_millis(250);

/// A connection that is being made, whatever becomes of the request.
type Connecting = Pin<Box<dyn Future<Output = Result<Lease, ConnectError>>>>;

impl Call {
    /// A connection for the attempt; `report` moves on when it is to another endpoint.
    pub(super) async fn connect(
        &self,
        report: &mut Report<'_>,
        want: Want,
        speech: Speech,
    ) -> Result<Lease, ConnectError> {
        let picked = report.picked();
        if picked.has_other_family() && self.pin.is_none() {
            return Box::pin(self.race(report, want, speech)).await;
        }
        match self.through(picked) {
            None => checkout(&self.worker, &self.backend, &picked.target, want).await,
            Some(through) => through_node(&self.worker, &self.backend, &through.hop, want).await,
        }
    }

    async fn race(&self, report: &mut Report<'_>, want: Want, speech: Speech) -> Result<Lease, ConnectError> {
        let mut first = self.connecting(report.picked(), want);
        // What fails early is not waited for: the next attempt goes to the other family.
        if let Ok(done) = timeout(DELAY, &mut first).await {
            return done;
        }
        let view = &self.backend.view;
        let other = view.pick_other_family(report.picked(), || self.worker.random());
        // The request is written for the first.
        let alike =
            |other: &Picked| self.speech(other, speech.version == Version::Http2).ok() == Some(speech);
        let Some(other) = other.filter(alike) else { return first.await };
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
        let (worker, backend) = (self.worker.clone(), self.backend.clone());
        match self.through(picked) {
            None => {
                let target = picked.target.clone();
                Box::pin(async move { checkout(&worker, &backend, &target, want).await })
            }
            Some(through) => {
                let hop = through.hop.clone();
                Box::pin(async move { through_node(&worker, &backend, &hop, want).await })
            }
        }
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

/// A place on a connection to the towpath of an endpoint's node. That is there for as long as one of its endpoints is.
async fn through_node(
    worker: &Worker,
    backend: &BackendView,
    hop: &Hop,
    want: Want,
) -> Result<Lease, ConnectError> {
    let policy = &backend.view.service.policy;
    let want = Want { even_retired: true, ..want };
    match hop.fixed() {
        Some(target) => worker.pools.checkout(target, policy, want).await,
        None => {
            let target = hop.target(policy.connect_timeout).await?;
            worker.pools.checkout(&target, policy, want).await
        }
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
