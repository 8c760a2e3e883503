//! A connection, by whichever address family gives one first.
//!
//! Happy Eyeballs (RFC 8305) for services with IPv4 and IPv6 endpoints: where a connection to the chosen endpoint takes
//! long, one to an endpoint of the other family is made beside it, and the first to be there carries the request. A network
//! that loses one family's packets so costs a quarter of a second instead of `connect_timeout`. Endpoints that are
//! pooled, and services of one family, know nothing of this.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use tokio::time::timeout;

use super::{attempt::Call, report::Report};
use crate::{
    telemetry::AttemptOutcome,
    upstream::{ConnectError, Lease, Want},
};

/// The Connection Attempt Delay that RFC 8305 section 5 recommends.
const DELAY: Duration = Duration::from_millis(250);

impl Call {
    /// A connection for the attempt; `report` moves on when it is to another endpoint.
    pub(super) async fn connect(&self, report: &mut Report<'_>, want: Want) -> Result<Lease, ConnectError> {
        if report.picked().has_other_family() {
            return Box::pin(self.race(report, want)).await;
        }
        let policy = &self.backend.view.service.policy;
        self.worker.pools.checkout(&report.picked().target, policy, want).await
    }

    async fn race(&self, report: &mut Report<'_>, want: Want) -> Result<Lease, ConnectError> {
        let policy = &self.backend.view.service.policy;
        let target = report.picked().target.clone();
        let mut first = pin!(self.worker.pools.checkout(&target, policy, want));
        // What fails early is not waited for: the next attempt goes to the other family.
        if let Ok(done) = timeout(DELAY, &mut first).await {
            return done;
        }
        let view = &self.backend.view;
        let Some(other) = view.pick_other_family(report.picked(), || self.worker.random()) else {
            return first.await;
        };
        let other_target = other.target.clone();
        let mut second = pin!(self.worker.pools.checkout(&other_target, policy, want));
        let begun = Instant::now();
        tokio::select! {
            biased;
            first = &mut first => match first {
                Ok(lease) => Ok(lease),
                Err(_) => {
                    report.move_to(other, AttemptOutcome::ConnectFailed);
                    second.await
                }
            },
            second = &mut second => match second {
                Ok(lease) => {
                    report.move_to(other, AttemptOutcome::Cancelled);
                    Ok(lease)
                }
                Err(_) => {
                    other.report(AttemptOutcome::ConnectFailed, begun);
                    first.await
                }
            },
        }
    }
}
