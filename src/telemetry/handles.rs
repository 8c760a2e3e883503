//! What a route, a service, an endpoint and a listener count with.
//!
//! Handles are made when the snapshot is built. The series of a request's outcome come into being when it first
//! happens: a hundred thousand routes of which a hundred are in use cost a hundred routes' series.

use std::sync::{Arc, OnceLock};

use super::{
    connection_series::ConnectionSeries,
    family::{ByLabel, Family},
    series::{Counter, Gauge, Level},
    tls_series::HandshakeSeries,
};

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// A response that is no failure of the endpoint.
    Success,
    /// A response that is one.
    ServerError,
    /// No connection.
    ConnectFailed,
    /// The connection or stream broke.
    Reset,
    /// No response in time.
    Timeout,
    /// The caller went away.
    Cancelled,
    /// A response that says: not now, there is too much to do (429, RESOURCE_EXHAUSTED).
    Overloaded,
    /// Its connection had served before, and was closed under it, as idle connections are: the endpoint has done nothing.
    Closed,
}

impl AttemptOutcome {
    /// Its label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ServerError => "server_error",
            Self::ConnectFailed => "connect_failed",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Overloaded => "overloaded",
            Self::Closed => "closed",
        }
    }
}

/// One counter per outcome, each made when it first happens.
struct Outcomes([OnceLock<Counter>; 8]);

impl Outcomes {
    fn new() -> Self {
        Self([const { OnceLock::new() }; 8])
    }

    fn inc(&self, outcome: AttemptOutcome, resolve: impl FnOnce() -> Counter) {
        self.0[outcome as usize].get_or_init(resolve).inc();
    }
}

/// One service.
pub struct ServiceSeries {
    /// Requests that are being served.
    pub in_flight: Gauge,
    /// Connections to its endpoints.
    pub upstream_connections: ConnectionSeries,
    /// Seconds since discovery last answered.
    pub discovery_age: Level,
    /// 1 while all endpoints are used for want of usable ones.
    pub panic: Level,
    /// Further attempts that the retry budget allows.
    pub retry_budget: Level,
    service: Box<str>,
    families: ServiceFamilies,
    attempts: Outcomes,
    retries: ByLabel<8>,
    retries_denied: ByLabel<4>,
    hedges: ByLabel<4>,
}

/// Where a service's further series come from.
pub(super) struct ServiceFamilies {
    pub(super) attempts: Arc<Family>,
    pub(super) retries: Arc<Family>,
    pub(super) retries_denied: Arc<Family>,
    pub(super) hedges: Arc<Family>,
    pub(super) discovery_updates: Arc<Family>,
    pub(super) health_checks: Arc<Family>,
}

impl ServiceSeries {
    pub(super) fn new(
        service: &str,
        families: ServiceFamilies,
        in_flight: Gauge,
        upstream_connections: ConnectionSeries,
        [discovery_age, panic, retry_budget]: [Level; 3],
    ) -> Self {
        Self {
            in_flight,
            upstream_connections,
            discovery_age,
            panic,
            retry_budget,
            service: service.into(),
            families,
            attempts: Outcomes::new(),
            retries: ByLabel::new(),
            retries_denied: ByLabel::new(),
            hedges: ByLabel::new(),
        }
    }

    /// One more attempt.
    pub fn attempt(&self, outcome: AttemptOutcome) {
        self.attempts.inc(outcome, || self.families.attempts.counter(&[&self.service, outcome.as_str()]));
    }

    /// One more attempt after a request's first, made necessary by `reason`: of a small fixed set.
    pub fn retry(&self, reason: &str) {
        self.retries.inc(reason, || self.families.retries.counter(&[&self.service, reason]));
    }

    /// A failed attempt was the last because of `reason`: of a small fixed set.
    pub fn retry_denied(&self, reason: &str) {
        self.retries_denied.inc(reason, || self.families.retries_denied.counter(&[&self.service, reason]));
    }

    /// What became of a second attempt beside a slow first one, of a small fixed set.
    pub fn hedge(&self, result: &str) {
        self.hedges.inc(result, || self.families.hedges.counter(&[&self.service, result]));
    }

    /// One more answer of discovery. Takes a lock: for the control thread.
    pub fn discovery_update(&self, result: &str) {
        self.families.discovery_updates.counter(&[&self.service, result]).inc();
    }

    /// One more probe of an endpoint. Takes a lock: for the control thread.
    pub fn health_check(&self, result: &str) {
        self.families.health_checks.counter(&[&self.service, result]).inc();
    }
}

/// One endpoint of a service.
pub struct EndpointSeries {
    /// 1 when it may be chosen, else 0.
    pub available: Level,
    requests: Outcomes,
    ejections: OnceLock<Counter>,
    families: EndpointFamilies,
    service: Box<str>,
    endpoint: Box<str>,
}

/// Where an endpoint's further series come from.
pub(super) struct EndpointFamilies {
    pub(super) requests: Arc<Family>,
    pub(super) ejections: Arc<Family>,
}

impl EndpointSeries {
    pub(super) fn new(service: &str, endpoint: &str, available: Level, families: EndpointFamilies) -> Self {
        let (service, endpoint) = (service.into(), endpoint.into());
        let (requests, ejections) = (Outcomes::new(), OnceLock::new());
        Self { available, requests, ejections, families, service, endpoint }
    }

    /// The name of its service.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Its service has one more ejection.
    pub fn ejection(&self) {
        self.ejections.get_or_init(|| self.families.ejections.counter(&[&self.service])).inc();
    }

    /// One more attempt that was sent to it.
    pub fn request(&self, outcome: AttemptOutcome) {
        let labels = [&*self.service, &*self.endpoint, outcome.as_str()];
        self.requests.inc(outcome, || self.families.requests.counter(&labels));
    }
}

/// One listener.
pub struct ListenerSeries {
    /// Open connections.
    pub connections: Gauge,
    /// TLS handshakes.
    pub handshakes: HandshakeSeries,
}
