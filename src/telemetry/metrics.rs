//! The node's metrics: hands out what others count with, sweeps, renders.
//!
//! Which metrics there are stands in `declared.rs`; their text form in `render.rs`.

use std::{sync::Arc, time::Instant};

use super::{
    arena::Arena,
    declared::{Id, TABLE},
    family::{ByLabel, Family},
    handles::{EndpointSeries, ListenerSeries, RequestSeries, ServiceFamilies, ServiceSeries},
    process, render,
    series::{Counter, Gauge, Level},
};

/// All metrics of one node.
pub struct Metrics {
    /// Connections that could not be accepted.
    pub accept_errors: Counter,
    /// Connections that ended by a panic.
    pub connection_panics: Counter,
    /// Access log records that were lost.
    pub access_log_dropped: Counter,
    /// Number of the configuration in force.
    pub config_generation: Level,
    /// Whether the last reload was applied or changed nothing.
    pub config_last_reload_success: Level,
    errors: ByLabel<32>,
    families: Families,
    /// Keeps the version's series.
    _build_info: Level,
}

/// In the order of [`TABLE`].
struct Families(Vec<Arc<Family>>);

impl Families {
    fn get(&self, id: Id) -> &Arc<Family> {
        &self.0[id as usize]
    }
}

impl Metrics {
    /// For a node of `workers` workers, each of which calls [`enter_worker`](super::enter_worker) with its index.
    pub fn new(workers: usize) -> Arc<Self> {
        let arena = Arena::new(workers);
        let families = Families(TABLE.iter().map(|declared| Family::new(declared, &arena)).collect());
        let build_info = families.get(Id::BuildInfo).level(&[env!("CARGO_PKG_VERSION")]);
        build_info.set(1);
        Arc::new(Self {
            accept_errors: families.get(Id::AcceptErrors).counter(&[]),
            connection_panics: families.get(Id::ConnectionPanics).counter(&[]),
            access_log_dropped: families.get(Id::AccessLogDropped).counter(&[]),
            config_generation: families.get(Id::ConfigGeneration).level(&[]),
            config_last_reload_success: families.get(Id::ConfigLastReloadSuccess).level(&[]),
            errors: ByLabel::new(),
            families,
            _build_info: build_info,
        })
    }

    /// What the requests of one listener, route and service count with.
    pub fn request_series(&self, listener: &str, route: &str, service: &str) -> RequestSeries {
        let requests = self.families.get(Id::Requests).clone();
        let durations = self.families.get(Id::RequestDuration).clone();
        RequestSeries::new(requests, durations, [listener, route, service])
    }

    /// What a service counts with.
    pub fn service_series(&self, service: &str) -> ServiceSeries {
        let family = |id| self.families.get(id).clone();
        let families = ServiceFamilies {
            attempts: family(Id::Attempts),
            retries: family(Id::Retries),
            discovery_updates: family(Id::DiscoveryUpdates),
        };
        let gauges = [Id::RequestsInFlight, Id::UpstreamConnections].map(|id| family(id).gauge(&[service]));
        ServiceSeries::new(service, families, gauges, family(Id::DiscoveryAge).level(&[service]))
    }

    /// What an endpoint counts with. It starts unavailable.
    pub fn endpoint_series(&self, service: &str, endpoint: &str) -> EndpointSeries {
        let available = self.families.get(Id::EndpointAvailable).level(&[service, endpoint]);
        EndpointSeries::new(service, endpoint, available, self.families.get(Id::EndpointRequests).clone())
    }

    /// What a listener counts with.
    pub fn listener_series(&self, listener: &str) -> ListenerSeries {
        ListenerSeries { connections: self.families.get(Id::Connections).gauge(&[listener]) }
    }

    /// Open connections of worker `worker`.
    pub fn worker_connections(&self, worker: usize) -> Gauge {
        self.families.get(Id::WorkerConnections).gauge(&[itoa::Buffer::new().format(worker)])
    }

    /// One more answer that towpath itself made.
    pub fn error(&self, reason: &'static str) {
        self.errors.inc(reason, || self.families.get(Id::Errors).counter(&[reason]));
    }

    /// One more reload. Takes a lock: for the control thread.
    pub fn reload(&self, result: &str) {
        self.families.get(Id::ConfigReloads).counter(&[result]).inc();
    }

    /// Lets go of series that nobody holds and that have stood still for ten minutes. Call it about once a minute.
    pub fn sweep(&self, now: Instant) {
        self.families.0.iter().for_each(|family| family.sweep(now));
    }

    /// Everything in the Prometheus text format, sorted by name. Reads `/proc`: for the control thread.
    pub fn render(&self) -> String {
        let process = process::read();
        render::text(&self.families.0, &process)
    }
}

/// Guards against a table that is out of step with [`Id`], which would count one thing as another.
const _: () = {
    let mut index = 0;
    while index < TABLE.len() {
        assert!(TABLE[index].id as usize == index);
        index += 1;
    }
};
