//! The node's metrics: hands out what others count with, sweeps, renders.
//!
//! Which metrics there are stands in `declared.rs`; their text form in `render.rs`.

use std::{sync::Arc, time::Instant};

use super::{
    arena::{Arena, Block},
    caller_series::{CallerSeries, PolicySeries},
    connection_series::ConnectionSeries,
    declared::{Id, TABLE},
    dns_series::DnsSeries,
    exposition::Format,
    family::{ByLabel, Family, Labels},
    handles::{EndpointFamilies, EndpointSeries, ListenerSeries, ServiceFamilies, ServiceSeries},
    limit_series::LimitSeries,
    process::Threads,
    render::{Piece, Rendering},
    request_series::RequestSeries,
    route_series::RouteSeries,
    series::{Counter, Gauge, Histogram, Level},
    span_series::SpanSeries,
    tls_series::{CertificateSeries, HandshakeSeries},
    token_series::{AuthorizationSeries, TokenSeries},
};
use crate::config::Name;

/// All metrics of one node.
pub struct Metrics {
    /// Connections that could not be accepted.
    pub accept_errors: Counter,
    /// Connections to the towpaths of other nodes.
    pub peer_connections: ConnectionSeries,
    /// Connections that ended by a panic.
    pub connection_panics: Counter,
    /// Requests that somebody who looks on was shown.
    pub tap_sent: Counter,
    /// Those that he was not, because they were too many.
    pub tap_dropped: Counter,
    /// Access log records that were lost.
    pub access_log_dropped: Counter,
    /// Number of the configuration in force.
    pub config_generation: Level,
    /// Whether the last reload was applied or changed nothing.
    pub config_last_reload_success: Level,
    /// Whether the node drains.
    pub draining: Level,
    /// Questions to DNS servers.
    pub dns: Arc<DnsSeries>,
    /// Whether new work is refused for want of memory.
    pub memory_pressure: Level,
    /// Connections that were closed at once for want of memory.
    pub refused_for_memory: Counter,
    errors: ByLabel<32>,
    causes: ByLabel<64>,
    refused: ByLabel<8>,
    floods: ByLabel<8>,
    families: Families,
    arena: Arc<Arena>,
    threads: Threads,
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
            peer_connections: ConnectionSeries {
                open: families.get(Id::PeerConnections).gauge(&[]),
                further: None,
            },
            connection_panics: families.get(Id::ConnectionPanics).counter(&[]),
            tap_sent: families.get(Id::TapEvents).counter(&["sent"]),
            tap_dropped: families.get(Id::TapEvents).counter(&["dropped"]),
            access_log_dropped: families.get(Id::AccessLogDropped).counter(&[]),
            config_generation: families.get(Id::ConfigGeneration).level(&[]),
            config_last_reload_success: families.get(Id::ConfigLastReloadSuccess).level(&[]),
            draining: families.get(Id::Draining).level(&[]),
            dns: Arc::new(DnsSeries::new(
                families.get(Id::DnsQueries).clone(),
                families.get(Id::DnsQueryDuration).histogram(&[]),
            )),
            memory_pressure: families.get(Id::MemoryPressure).level(&[]),
            refused_for_memory: families.get(Id::ConnectionsRefused).counter(&["memory"]),
            errors: ByLabel::new(),
            causes: ByLabel::new(),
            refused: ByLabel::new(),
            floods: ByLabel::new(),
            families,
            arena,
            threads: Threads::default(),
            _build_info: build_info,
        })
    }

    /// What the requests of one listener, route and service count with, on the worker that asks.
    pub fn request_series(&self, listener: &str, route: &str, service: &str) -> RequestSeries {
        let requests = self.families.get(Id::Requests).clone();
        let durations = self.families.get(Id::RequestDuration).clone();
        RequestSeries::new(self.arena.clone(), requests, durations, [listener, route, service])
    }

    /// What a route counts with that has faults or stand-ins.
    pub fn route_series(&self, route: &str) -> RouteSeries {
        let family = |id| self.families.get(id).clone();
        RouteSeries::new(route, family(Id::FaultsInjected), family(Id::Failovers))
    }

    /// What an issuer of tokens counts with.
    pub fn token_series(&self, provider: &str) -> TokenSeries {
        let family = |id| self.families.get(id).clone();
        let age = family(Id::JwksAge).level(&[provider]);
        TokenSeries::new(provider, family(Id::Tokens), family(Id::JwksUpdates), age)
    }

    /// What a route counts with whose requests another service is asked about.
    pub fn authorization_series(&self, route: &str) -> AuthorizationSeries {
        AuthorizationSeries::new(route, self.families.get(Id::Authorizations).clone())
    }

    /// What a service counts with.
    pub fn service_series(&self, service: &str) -> ServiceSeries {
        let family = |id| self.families.get(id).clone();
        let families = ServiceFamilies {
            attempts: family(Id::Attempts),
            retries: family(Id::Retries),
            retries_denied: family(Id::RetriesDenied),
            hedges: family(Id::Hedges),
            discovery_updates: family(Id::DiscoveryUpdates),
            health_checks: family(Id::HealthChecks),
        };
        let connections = ConnectionSeries {
            open: family(Id::UpstreamConnections).gauge(&[service]),
            further: Some((
                family(Id::UpstreamIdle).gauge(&[service]),
                family(Id::UpstreamConnectionsMade).counter(&[service]),
            )),
        };
        let in_flight = family(Id::RequestsInFlight).gauge(&[service]);
        let levels =
            [Id::DiscoveryAge, Id::ServicePanic, Id::RetryBudget].map(|id| family(id).level(&[service]));
        ServiceSeries::new(service, families, in_flight, connections, levels)
    }

    /// What the limit on a service's requests shows.
    pub fn service_limit_series(&self, service: &str) -> LimitSeries {
        let limit = self.families.get(Id::ServiceLimit).level(&[service]);
        LimitSeries { limit, pending: self.families.get(Id::ServicePending).gauge(&[service]) }
    }

    /// What the limit on this node's requests shows.
    pub fn node_limit_series(&self) -> LimitSeries {
        let limit = self.families.get(Id::NodeLimit).level(&[]);
        LimitSeries { limit, pending: self.families.get(Id::NodePending).gauge(&[]) }
    }

    /// What a caller that has a name counts with, on the worker that asks.
    pub fn caller_series(&self, caller: &Name) -> CallerSeries {
        let connections = self.families.get(Id::CallerConnections).gauge(&[caller]);
        CallerSeries::new(caller, connections, self.families.get(Id::CallerRequests).clone())
    }

    /// Open connections of each caller that has a name and any.
    pub fn caller_connections(&self) -> Vec<(String, i64)> {
        let named = self.families.get(Id::CallerConnections).snapshot().into_iter();
        let open = named.map(|(labels, block)| (labels[0].to_string(), Gauge::new(block).get()));
        open.filter(|(_, open)| *open > 0).collect()
    }

    /// What a policy counts with.
    pub fn policy_series(&self, policy: &Name) -> PolicySeries {
        PolicySeries::new(policy, self.families.get(Id::PolicyDecisions).clone())
    }

    /// How many workers count here.
    pub fn workers(&self) -> usize {
        self.arena.workers()
    }

    /// What an endpoint counts with. It starts unavailable.
    pub fn endpoint_series(&self, service: &str, endpoint: &str) -> EndpointSeries {
        let available = self.families.get(Id::EndpointAvailable).level(&[service, endpoint]);
        let families = EndpointFamilies {
            requests: self.families.get(Id::EndpointRequests).clone(),
            ejections: self.families.get(Id::Ejections).clone(),
        };
        EndpointSeries::new(service, endpoint, available, families)
    }

    /// What a listener counts with.
    pub fn listener_series(&self, listener: &str) -> ListenerSeries {
        let handshakes = HandshakeSeries::new(listener, self.families.get(Id::TlsHandshakes).clone());
        ListenerSeries { connections: self.families.get(Id::Connections).gauge(&[listener]), handshakes }
    }

    /// What towpath adds to the requests of a listener.
    pub fn added_by(&self, listener: &str) -> Histogram {
        self.families.get(Id::ProxyAdded).histogram(&[listener])
    }

    /// To be called on the thread of worker `worker`, whose CPU time is told from now on.
    pub fn worker_runs(&self, worker: usize) {
        self.threads.add(worker);
    }

    /// Open connections of worker `worker`.
    pub fn worker_connections(&self, worker: usize) -> Gauge {
        self.families.get(Id::WorkerConnections).gauge(&[itoa::Buffer::new().format(worker)])
    }

    /// One more answer that towpath itself made, for `reason`. A cause belongs to one reason.
    pub fn error(&self, reason: &'static str, cause: Option<&'static str>) {
        self.errors.inc(reason, || self.families.get(Id::Errors).counter(&[reason]));
        if let Some(cause) = cause {
            self.causes.inc(cause, || self.families.get(Id::ErrorCauses).counter(&[reason, cause]));
        }
    }

    /// What spans count with.
    pub fn span_series(&self) -> SpanSeries {
        let counter = |result| self.families.get(Id::Spans).counter(&[result]);
        let [exported, dropped, failed, not_kept] =
            ["exported", "dropped", "failed", "not_kept"].map(counter);
        SpanSeries { exported, dropped, failed, not_kept }
    }

    /// What a file with certificates shows.
    pub fn certificate_series(&self, file: &str) -> CertificateSeries {
        let level = |id| self.families.get(id).level(&[file]);
        CertificateSeries { days: level(Id::TlsDaysToExpiry), stale: level(Id::TlsStale) }
    }

    /// One more reading of changed certificates. Takes a lock: for the control thread.
    pub fn tls_reload(&self, result: &str) {
        self.families.get(Id::TlsReloads).counter(&[result]).inc();
    }

    /// One more connection that was closed at once.
    pub fn connection_refused(&self, cause: &'static str) {
        self.refused.inc(cause, || self.families.get(Id::ConnectionsRefused).counter(&[cause]));
    }

    /// One more HTTP/2 connection that was closed because of what came on it.
    pub fn http2_flood(&self, kind: &'static str) {
        self.floods.inc(kind, || self.families.get(Id::Http2Floods).counter(&[kind]));
    }

    /// One more reload. Takes a lock: for the control thread.
    pub fn reload(&self, result: &str) {
        self.families.get(Id::ConfigReloads).counter(&[result]).inc();
    }

    /// One more request to the admin API that was refused, for `cause`. Takes a lock: for the control thread.
    pub fn admin_refused(&self, cause: &str) {
        self.families.get(Id::AdminRefused).counter(&[cause]).inc();
    }

    /// Every series of a metric, in any order.
    pub(super) fn read(&self, id: Id) -> Vec<(Labels, Arc<Block>)> {
        self.families.get(id).entries()
    }

    /// Lets go of series that nobody holds and that have stood still for ten minutes. Call it about once a minute.
    pub fn sweep(&self, now: Instant) {
        self.families.0.iter().for_each(|family| family.sweep(now));
    }

    /// Begins a scrape. Reads `/proc`: not for a worker.
    pub fn rendering(&self, format: Format) -> Rendering {
        Rendering::new(&self.families.0, &self.threads, format)
    }

    /// Everything in the Prometheus text format, at once: for tests.
    pub fn render(&self) -> String {
        self.render_as(Format::Prometheus)
    }

    /// Everything at once: for tests.
    pub fn render_as(&self, format: Format) -> String {
        let (mut rendering, mut whole) = (self.rendering(format), String::new());
        loop {
            let Piece { text, is_last } = rendering.piece();
            whole += &text;
            if is_last {
                return whole;
            }
        }
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

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;
    use crate::telemetry::{AttemptOutcome, enter_worker, family::EXPIRY};

    fn value(metrics: &Metrics, series: &str) -> Option<f64> {
        let text = metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }

    #[test]
    fn all_workers_count_into_the_same_series() {
        let metrics = Metrics::new(4);
        let service = metrics.service_series("s");
        thread::scope(|scope| {
            for worker in 0..4 {
                let (metrics, service) = (&metrics, &service);
                scope.spawn(move || {
                    enter_worker(worker);
                    let requests = metrics.request_series("l", "r", "s");
                    for _ in 0..1000 {
                        service.in_flight.inc();
                        requests.record(200, Duration::from_millis(1));
                        requests.record(299, Duration::from_millis(1));
                        service.attempt(AttemptOutcome::Success);
                        service.retry("reset");
                        metrics.error("timeout", Some("head_timeout"));
                        service.in_flight.dec();
                    }
                });
            }
        });
        for (series, expected) in [
            (r#"towpath_requests_total{listener="l",route="r",service="s",code="200"}"#, 4000.0),
            (r#"towpath_requests_total{listener="l",route="r",service="s",code="299"}"#, 4000.0),
            (r#"towpath_request_duration_seconds_count{route="r",service="s"}"#, 8000.0),
            (r#"towpath_attempts_total{service="s",outcome="success"}"#, 4000.0),
            (r#"towpath_retries_total{service="s",reason="reset"}"#, 4000.0),
            (r#"towpath_errors_total{reason="timeout"}"#, 4000.0),
            (r#"towpath_error_causes_total{reason="timeout",cause="head_timeout"}"#, 4000.0),
            (r#"towpath_requests_in_flight{service="s"}"#, 0.0),
        ] {
            assert_eq!(value(&metrics, series), Some(expected), "{series}");
        }
    }

    #[test]
    fn a_request_series_has_no_series_before_its_first_request() {
        let metrics = Metrics::new(1);
        let many: Vec<_> = (0..20_000).map(|n| metrics.request_series("l", &n.to_string(), "s")).collect();
        assert!(!metrics.render().contains("towpath_requests_total{"));
        many[15_000].record(404, Duration::ZERO);
        let series = r#"towpath_requests_total{listener="l",route="15000",service="s",code="404"}"#;
        assert_eq!(value(&metrics, series), Some(1.0));
        let overflow = r#"towpath_metrics_overflow_total{metric="towpath_requests_total"}"#;
        assert_eq!(value(&metrics, overflow), Some(0.0));
    }

    #[test]
    fn series_of_a_service_that_is_gone_expire_and_those_of_one_that_stays_do_not() {
        let metrics = Metrics::new(1);
        let stays = metrics.endpoint_series("s", "10.0.0.1:80");
        let gone = metrics.endpoint_series("s", "10.0.0.2:80");
        for endpoint in [&stays, &gone] {
            endpoint.request(AttemptOutcome::Timeout);
            endpoint.available.set(true);
        }
        drop(gone);
        let start = Instant::now();
        metrics.sweep(start);
        metrics.sweep(start + EXPIRY);
        let text = metrics.render();
        assert!(
            text.contains(r#"towpath_endpoint_available{service="s",endpoint="10.0.0.1:80"} 1"#),
            "{text}"
        );
        assert!(!text.contains("10.0.0.2"), "{text}");
    }

    #[test]
    fn the_node_itself_is_described() {
        let metrics = Metrics::new(2);
        metrics.config_generation.set(3);
        metrics.config_last_reload_success.set(true);
        metrics.reload("applied");
        metrics.connection_panics.inc();
        let connection = metrics.worker_connections(1).hold();
        metrics.listener_series("outgoing").connections.add(2);
        metrics.service_series("s").discovery_update("failed");
        for (series, expected) in [
            ("towpath_config_generation", 3.0),
            ("towpath_config_last_reload_success", 1.0),
            (r#"towpath_config_reloads_total{result="applied"}"#, 1.0),
            ("towpath_connection_panics_total", 1.0),
            (r#"towpath_worker_connections{worker="1"}"#, 1.0),
            (r#"towpath_connections{listener="outgoing"}"#, 2.0),
            (r#"towpath_discovery_updates_total{service="s",result="failed"}"#, 1.0),
        ] {
            assert_eq!(value(&metrics, series), Some(expected), "{series}");
        }
        drop(connection);
        assert_eq!(value(&metrics, r#"towpath_worker_connections{worker="1"}"#), Some(0.0));
        assert!(value(&metrics, "process_resident_memory_bytes") > Some(100_000.0));
    }
}
