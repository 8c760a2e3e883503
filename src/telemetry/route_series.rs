//! What a route counts with that does more than most.

use std::sync::Arc;

use super::family::{ByLabel, Family};

/// A route that injects faults or has stand-ins.
pub struct RouteSeries {
    route: Box<str>,
    faults: Arc<Family>,
    failovers: Arc<Family>,
    by_kind: ByLabel<3>,
    by_service: ByLabel<4>,
}

impl RouteSeries {
    pub(super) fn new(route: &str, faults: Arc<Family>, failovers: Arc<Family>) -> Self {
        Self { route: route.into(), faults, failovers, by_kind: ByLabel::new(), by_service: ByLabel::new() }
    }

    /// One more request to which this was done on purpose.
    pub fn fault(&self, kind: &'static str) {
        self.by_kind.inc(kind, || self.faults.counter(&[&self.route, kind]));
    }

    /// One more request that `service` took in place of the one that it was for.
    pub fn failover(&self, service: &str) {
        self.by_service.inc(service, || self.failovers.counter(&[&self.route, service]));
    }
}
