//! How much of this node a service may have: places for its requests and for the connections to its endpoints.
//!
//! A service that takes over from another of its name takes its places over as well, with whoever has one or waits for one.

use std::{sync::Arc, time::Instant};

use super::{clock, view::ServiceView};
use crate::{
    config,
    limit::{Breaking, Connections, Places},
    telemetry::{AttemptOutcome, LimitSeries, Metrics},
};

/// The places of a service.
pub struct Breaker {
    /// For its requests.
    pub requests: Arc<Places>,
    /// For the connections to its endpoints.
    pub connections: Arc<Connections>,
    /// Its metrics.
    pub series: LimitSeries,
}

impl Breaker {
    /// That of the service `name`; `previous` is that of the service which it takes over from.
    pub(super) fn new(
        name: &str,
        config: &config::Breaker,
        metrics: &Metrics,
        previous: Option<&Self>,
    ) -> Self {
        let requests = previous.map(|previous| previous.requests.clone());
        let requests = requests.unwrap_or_else(|| Arc::new(Places::new(metrics.workers(), &config.requests)));
        requests.configure(&config.requests);
        let breaker = Self {
            requests,
            connections: previous.map(|previous| previous.connections.clone()).unwrap_or_default(),
            series: metrics.service_limit_series(name),
        };
        breaker.series.limit.set(breaker.requests.limit());
        breaker
    }

    /// To be called about once a second.
    pub(super) fn sweep(&self, service: &str) {
        let (limit, refused) = (self.requests.limit(), self.requests.refused());
        self.series.limit.set(limit);
        match self.requests.sweep() {
            Some(Breaking::Begins) => {
                tracing::warn!(service, limit, "the breaker is open: as many requests run and wait as may");
            }
            Some(Breaking::Ends) => tracing::info!(service, refused, "the breaker is closed again"),
            None => {}
        }
    }
}

impl ServiceView {
    /// Tells a limit that follows latency what came of an attempt that began at `begun`.
    pub fn observe(&self, outcome: AttemptOutcome, begun: Instant) {
        if !self.gate.is_adaptive() {
            return;
        }
        let now = Instant::now();
        match outcome {
            AttemptOutcome::Success => {
                self.gate.sample(Some(now.saturating_duration_since(begun)), clock::millis_at(now));
            }
            AttemptOutcome::Timeout | AttemptOutcome::Overloaded => {
                self.gate.sample(None, clock::millis_at(now))
            }
            // Says nothing of how long answers take.
            _ => {}
        }
    }
}
