//! The endpoints that a service has now: one immutable set, replaced whole.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Instant,
};

use crate::{
    balance::Weights,
    discovery,
    net::Address,
    telemetry::{AttemptOutcome, EndpointSeries, Metrics, ServiceSeries},
    upstream::Target,
};

/// Numbers targets; never reused in a process.
static NEXT_TARGET: AtomicU64 = AtomicU64::new(1);

/// One address of a service, with what all workers know of it. It lives on through reloads and discovery updates
/// for as long as the service has the address.
pub struct Endpoint {
    /// What connections are made to.
    pub target: Arc<Target>,
    /// The address, as logs name it.
    pub address: Address,
    /// Since when the service has it.
    pub since: Instant,
    /// Attempts that are running, over all workers.
    load: AtomicU32,
    series: EndpointSeries,
}

impl Endpoint {
    fn new(service: &str, address: SocketAddr, series: &ServiceSeries, metrics: &Metrics) -> Self {
        let id = NEXT_TARGET.fetch_add(1, Ordering::Relaxed);
        let endpoint = metrics.endpoint_series(service, &address.to_string());
        endpoint.available.set(true);
        Self {
            target: Arc::new(Target::new(id, address, series.upstream_connections.clone())),
            address: Address::Tcp(address),
            since: Instant::now(),
            load: AtomicU32::new(0),
            series: endpoint,
        }
    }

    /// Attempts that are running, over all workers.
    pub fn load(&self) -> u32 {
        self.load.load(Ordering::Relaxed)
    }

    pub(super) fn begin(&self) {
        self.load.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts an attempt that was made on it.
    pub fn report(&self, outcome: AttemptOutcome) {
        self.series.request(outcome);
    }
}

/// What is known about a service's endpoints.
#[derive(Clone, Debug)]
pub enum Known {
    /// Nothing yet: the first answer is awaited.
    Nothing,
    /// They are as the file or the last answer says.
    Current {
        /// When that was.
        since: Instant,
    },
    /// Discovery fails. The last good answer, if there ever was one, stays in use.
    Failing {
        /// When the last good answer came.
        since: Option<Instant>,
        /// What is wrong, for people.
        message: String,
    },
}

/// The endpoints of a service at one moment.
pub struct EndpointSet {
    /// In the order of their addresses.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// Of the endpoints, by index.
    pub weights: Weights,
    /// How good this knowledge is.
    pub known: Known,
}

impl EndpointSet {
    /// Nothing is known yet.
    pub(super) fn unknown() -> Self {
        Self { endpoints: Vec::new(), weights: Weights::new([]), known: Known::Nothing }
    }

    /// The set that discovery found; endpoints that `previous` has are taken over with their state.
    pub(super) fn found(
        found: &[discovery::Endpoint],
        previous: &Self,
        service: &str,
        series: &ServiceSeries,
        metrics: &Metrics,
    ) -> Self {
        let old: HashMap<SocketAddr, &Arc<Endpoint>> =
            previous.endpoints.iter().map(|endpoint| (endpoint.target.address, endpoint)).collect();
        let endpoint = |address: SocketAddr| match old.get(&address) {
            Some(endpoint) => {
                endpoint.target.revive();
                endpoint.series.available.set(true);
                (*endpoint).clone()
            }
            None => Arc::new(Endpoint::new(service, address, series, metrics)),
        };
        Self {
            endpoints: found.iter().map(|found| endpoint(found.address)).collect(),
            weights: Weights::new(found.iter().map(|found| found.weight)),
            known: Known::Current { since: Instant::now() },
        }
    }

    /// The same endpoints, with the news that discovery fails.
    pub(super) fn failing(&self, message: String) -> Self {
        let since = match self.known {
            Known::Current { since } => Some(since),
            Known::Failing { since, .. } => since,
            Known::Nothing => None,
        };
        Self {
            endpoints: self.endpoints.clone(),
            weights: self.weights.clone(),
            known: Known::Failing { since, message },
        }
    }

    /// Whether the endpoints and weights are those that discovery found.
    pub(super) fn is(&self, found: &[discovery::Endpoint]) -> bool {
        self.endpoints.len() == found.len()
            && self.endpoints.iter().zip(found).enumerate().all(|(index, (endpoint, found))| {
                endpoint.target.address == found.address
                    && self.weights.weight(index) == u64::from(found.weight)
            })
    }

    /// Says that no request will go to these endpoints again, but for those that `successor` has.
    pub(super) fn retire(&self, successor: Option<&Self>) {
        for endpoint in &self.endpoints {
            let kept =
                successor.is_some_and(|set| set.endpoints.iter().any(|other| Arc::ptr_eq(other, endpoint)));
            if !kept {
                endpoint.target.retire();
                endpoint.series.available.set(false);
            }
        }
    }
}
