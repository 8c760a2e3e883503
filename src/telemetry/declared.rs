//! Every metric, declared once. `docs/metrics.md` is generated from this table.

/// What a metric's number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows.
    Counter,
    /// How many there are now.
    Gauge,
    /// A number that is set.
    Level,
    /// Seconds, in buckets with these upper bounds in microseconds, ascending.
    Histogram(&'static [u64]),
}

/// Bounds of what towpath adds: tens of microseconds, unless something waits.
const ADDED_BOUNDS: &[u64] =
    &[10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000];
impl Kind {
    /// As Prometheus calls it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge | Self::Level => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// The proxy itself takes tens of microseconds; a slow upstream takes seconds.
pub(super) const REQUEST_BOUNDS: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];
/// Buckets with these bounds: one more than there are bounds.
pub(super) const REQUEST_BUCKETS: usize = REQUEST_BOUNDS.len() + 1;

/// A server at hand answers within a millisecond; one that has to ask others takes tens or hundreds; `dns.timeout` is seconds.
const DNS_BOUNDS: &[u64] = &[
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// One metric.
pub(super) struct Declared {
    pub(super) id: Id,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

/// A metric's place in [`TABLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Id {
    AcceptErrors,
    AccessLogDropped,
    Attempts,
    BuildInfo,
    ConfigGeneration,
    ConfigLastReloadSuccess,
    ConfigReloads,
    ConnectionPanics,
    Connections,
    DiscoveryAge,
    DiscoveryUpdates,
    Ejections,
    EndpointAvailable,
    EndpointRequests,
    ErrorCauses,
    Errors,
    MetricsOverflow,
    RequestDuration,
    Requests,
    RequestsInFlight,
    Retries,
    ServicePanic,
    UpstreamConnections,
    WorkerConnections,
    ConnectionsRefused,
    Failovers,
    FaultsInjected,
    HealthChecks,
    Hedges,
    MemoryPressure,
    NodeLimit,
    NodePending,
    RetriesDenied,
    RetryBudget,
    ServiceLimit,
    ServicePending,
    AdminRefused,
    Authorizations,
    CallerConnections,
    CallerRequests,
    Http2Floods,
    JwksAge,
    JwksUpdates,
    PeerConnections,
    PolicyDecisions,
    TlsDaysToExpiry,
    TlsHandshakes,
    TlsReloads,
    TlsStale,
    Tokens,
    ProxyAdded,
    Draining,
    DnsQueries,
    DnsQueryDuration,
    LogSuppressed,
    UpstreamConnectionsMade,
    UpstreamIdle,
    WorkerCpu,
    Spans,
    TapEvents,
    ProcessCpu,
    ProcessFds,
    ProcessMaxFds,
    ProcessMemory,
    ProcessStart,
    ProcessVirtualMemory,
}

const fn declare(
    id: Id,
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Declared {
    Declared { id, name, kind, labels, help }
}

/// In the order of [`Id`].
#[rustfmt::skip] // A table reads as one.
pub(super) const TABLE: &[Declared] = &[
    declare(Id::AcceptErrors, "towpath_accept_errors_total", Kind::Counter, &[], "Connections that could not be accepted, such as for want of file descriptors."),
    declare(Id::AccessLogDropped, "towpath_access_log_dropped_total", Kind::Counter, &[], "Access log records lost because the log could not be written, or not fast enough."),
    declare(Id::Attempts, "towpath_attempts_total", Kind::Counter, &["service", "outcome"], "Attempts to have a request answered by an endpoint. Outcomes, as they are when the response ends: success, server_error, overloaded (429, RESOURCE_EXHAUSTED), connect_failed, reset, closed (a connection that had served before was closed under the request), timeout, cancelled."),
    declare(Id::BuildInfo, "towpath_build_info", Kind::Level, &["version"], "Always 1; the label says which version runs."),
    declare(Id::ConfigGeneration, "towpath_config_generation", Kind::Level, &[], "Number of the configuration in force."),
    declare(Id::ConfigLastReloadSuccess, "towpath_config_last_reload_success", Kind::Level, &[], "1 when the last reload was applied or changed nothing, 0 when it was refused."),
    declare(Id::ConfigReloads, "towpath_config_reloads_total", Kind::Counter, &["result"], "Reloads by result."),
    declare(Id::ConnectionPanics, "towpath_connection_panics_total", Kind::Counter, &[], "Connections that ended by a panic while they were served."),
    declare(Id::Connections, "towpath_connections", Kind::Gauge, &["listener"], "Open connections from callers."),
    declare(Id::DiscoveryAge, "towpath_discovery_age_seconds", Kind::Level, &["service"], "Seconds since discovery last answered for the service."),
    declare(Id::DiscoveryUpdates, "towpath_discovery_updates_total", Kind::Counter, &["service", "result"], "Answers of discovery by result."),
    declare(Id::Ejections, "towpath_ejections_total", Kind::Counter, &["service"], "Endpoints that were ejected because their requests failed."),
    declare(Id::EndpointAvailable, "towpath_endpoint_available", Kind::Level, &["service", "endpoint"], "1 when the endpoint may be chosen, else 0."),
    declare(Id::EndpointRequests, "towpath_endpoint_requests_total", Kind::Counter, &["service", "endpoint", "outcome"], "Attempts sent to the endpoint, by outcome."),
    declare(Id::ErrorCauses, "towpath_error_causes_total", Kind::Counter, &["reason", "cause"], "Of the answers that towpath itself made, those of whose reason there are several kinds: by the timeout, limit or policy behind them."),
    declare(Id::Errors, "towpath_errors_total", Kind::Counter, &["reason"], "Answers that towpath itself made, by the reason in their towpath-error header."),
    declare(Id::MetricsOverflow, "towpath_metrics_overflow_total", Kind::Counter, &["metric"], "Series that did not fit the metric's bound and were counted as `other`."),
    declare(Id::RequestDuration, "towpath_request_duration_seconds", Kind::Histogram(REQUEST_BOUNDS), &["route", "service"], "From a request's head to the end of its response, retries included."),
    declare(Id::Requests, "towpath_requests_total", Kind::Counter, &["listener", "route", "service", "code"], "Requests by the status that the caller got."),
    declare(Id::RequestsInFlight, "towpath_requests_in_flight", Kind::Gauge, &["service"], "Requests that are being served."),
    declare(Id::Retries, "towpath_retries_total", Kind::Counter, &["service", "reason"], "Attempts after a request's first, by what made them necessary."),
    declare(Id::ServicePanic, "towpath_service_panic", Kind::Level, &["service"], "1 while all endpoints are used because too few are usable (panic_percent), else 0."),
    declare(Id::UpstreamConnections, "towpath_upstream_connections", Kind::Gauge, &["service"], "Open connections to endpoints."),
    declare(Id::WorkerConnections, "towpath_worker_connections", Kind::Gauge, &["worker"], "Open connections from callers that the worker serves."),
    declare(Id::ConnectionsRefused, "towpath_connections_refused_total", Kind::Counter, &["cause"], "Connections of callers that were closed at once. Causes: memory; listener, caller: as many as the listener or the caller may have are open."),
    declare(Id::Failovers, "towpath_failovers_total", Kind::Counter, &["route", "service"], "Requests that another service took because the one that they were for could not."),
    declare(Id::FaultsInjected, "towpath_faults_injected_total", Kind::Counter, &["route", "kind"], "What was done to requests on purpose. Kinds: delay, abort, reset."),
    declare(Id::HealthChecks, "towpath_health_checks_total", Kind::Counter, &["service", "result"], "Probes of endpoints. Results: pass, fail, timeout, unreachable."),
    declare(Id::Hedges, "towpath_hedges_total", Kind::Counter, &["service", "result"], "Second attempts beside a slow first one, by whose answer was used. Results: won, lost, failed; denied, when the retry budget allowed none."),
    declare(Id::MemoryPressure, "towpath_memory_pressure", Kind::Level, &[], "1 while new work is refused because the daemon has as much memory as it may, else 0."),
    declare(Id::NodeLimit, "towpath_node_limit", Kind::Level, &[], "Requests that may run on this node at a time."),
    declare(Id::NodePending, "towpath_node_pending", Kind::Gauge, &[], "Requests that wait for a place on this node."),
    declare(Id::RetriesDenied, "towpath_retries_denied_total", Kind::Counter, &["service", "reason"], "Failed attempts that would have been followed by another but for this. Reasons: attempts, body, budget, deadline, method, pushback."),
    declare(Id::RetryBudget, "towpath_retry_budget_available", Kind::Level, &["service"], "Further attempts that the budget of the service allows now."),
    declare(Id::ServiceLimit, "towpath_service_limit", Kind::Level, &["service"], "Requests of the service that may run at a time."),
    declare(Id::ServicePending, "towpath_service_pending", Kind::Gauge, &["service"], "Requests that wait for a place at the service."),
    declare(Id::AdminRefused, "towpath_admin_refused_total", Kind::Counter, &["cause"], "Requests to the admin API that were refused. Causes: unauthenticated, read_only, host, origin, forwarded, handshake, crowded."),
    declare(Id::Authorizations, "towpath_authorizations_total", Kind::Counter, &["route", "result"], "Questions to the service that a route asks whether requests may pass. Results: allowed, denied, failed_open, failed_closed."),
    declare(Id::CallerConnections, "towpath_caller_connections", Kind::Gauge, &["caller"], "Open connections of callers that have a name."),
    declare(Id::CallerRequests, "towpath_caller_requests_total", Kind::Counter, &["caller", "service", "code"], "Requests of callers that have a name, by the status that they got."),
    declare(Id::Http2Floods, "towpath_http2_floods_total", Kind::Counter, &["kind"], "HTTP/2 connections that were closed because of what their callers sent. Kinds: resets, control_frames, continuations, header_list."),
    declare(Id::JwksAge, "towpath_jwks_age_seconds", Kind::Level, &["provider"], "Seconds since the issuer's keys were last had: fetched, or found in their file."),
    declare(Id::JwksUpdates, "towpath_jwks_updates_total", Kind::Counter, &["provider", "result"], "Readings of an issuer's keys by result: changed, unchanged, failed."),
    declare(Id::PeerConnections, "towpath_peer_connections", Kind::Gauge, &[], "Open connections to the towpaths of other nodes."),
    declare(Id::PolicyDecisions, "towpath_policy_decisions_total", Kind::Counter, &["policy", "decision"], "Requests that a policy denied, or would have denied in dry-run mode. Decisions: denied, would_deny. The policy is `default` where none is for the service and the listener denies."),
    declare(Id::TlsDaysToExpiry, "towpath_tls_days_to_expiry", Kind::Level, &["file"], "Days until the first certificate of the file in use ends; negative when it has."),
    declare(Id::TlsHandshakes, "towpath_tls_handshakes_total", Kind::Counter, &["listener", "result"], "TLS handshakes with callers. Results: ok, failed, timeout."),
    declare(Id::TlsReloads, "towpath_tls_reloads_total", Kind::Counter, &["result"], "Readings of changed certificates, keys and trust anchors. Results: renewed, refused."),
    declare(Id::TlsStale, "towpath_tls_stale", Kind::Level, &["file"], "1 while what is in the file, or in its companions, cannot be used and what was there before still is, else 0."),
    declare(Id::Tokens, "towpath_tokens_total", Kind::Counter, &["provider", "result"], "Tokens of requests to routes with jwt. Results: valid, missing, malformed, unknown_key, no_keys (the issuer's have not been had yet), signature, expired, not_yet, issuer, audience; claims, where it is valid and the route wants others."),
    declare(Id::ProxyAdded, "towpath_proxy_added_seconds", Kind::Histogram(ADDED_BOUNDS), &["listener"], "What towpath adds to the time until a response's head: all of that time during which no endpoint had the request. Waits for a place, and between attempts, are in it."),
    declare(Id::Draining, "towpath_draining", Kind::Level, &[], "1 once the node drains, else 0."),
    declare(Id::DnsQueries, "towpath_dns_queries_total", Kind::Counter, &["result"], "Questions to DNS servers that came to an end: one for each name, record type and server. Results: answered, no_such_name, no_records, timeout, refused, server_failure, error."),
    declare(Id::DnsQueryDuration, "towpath_dns_query_duration_seconds", Kind::Histogram(DNS_BOUNDS), &[], "From a question to a DNS server to its end."),
    declare(Id::LogSuppressed, "towpath_log_suppressed_total", Kind::Counter, &[], "Lines of towpath's own log that were not written because the same had just been written many times."),
    declare(Id::UpstreamConnectionsMade, "towpath_upstream_connections_made_total", Kind::Counter, &["service"], "Connections to endpoints that were made."),
    declare(Id::UpstreamIdle, "towpath_upstream_idle_connections", Kind::Gauge, &["service"], "Open connections to endpoints that wait for a request, as of the last second."),
    declare(Id::WorkerCpu, "towpath_worker_cpu_seconds_total", Kind::Counter, &["worker"], "CPU time that the worker's thread has spent."),
    declare(Id::Spans, "towpath_spans_total", Kind::Counter, &["result"], "Spans by what became of them. Results: exported; dropped, because more came than the exporter took; failed, because the collector did not take them; not_kept, of requests that failed or were slow beyond keep.per_second."),
    declare(Id::TapEvents, "towpath_tap_events_total", Kind::Counter, &["result"], "Requests that somebody who looks on wanted to see. Results: sent; dropped, because there were more than the rate or the connection allows."),
    declare(Id::ProcessCpu, "process_cpu_seconds_total", Kind::Counter, &[], "User and system CPU time spent."),
    declare(Id::ProcessFds, "process_open_fds", Kind::Level, &[], "Open file descriptors."),
    declare(Id::ProcessMaxFds, "process_max_fds", Kind::Level, &[], "File descriptors that may be open."),
    declare(Id::ProcessMemory, "process_resident_memory_bytes", Kind::Level, &[], "Resident memory."),
    declare(Id::ProcessStart, "process_start_time_seconds", Kind::Level, &[], "When the process started, in seconds since 1970."),
    declare(Id::ProcessVirtualMemory, "process_virtual_memory_bytes", Kind::Level, &[], "Virtual memory."),
];

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    fn reference() -> String {
        let mut text = String::from(
            "# Metrics\n\n<!-- Generated from src/telemetry/declared.rs: UPDATE_GENERATED=1 cargo test declared -->\n\n\
             `GET /metrics` of the admin API, in the Prometheus text format, or OpenMetrics (where a counter's family has no \
             `_total`).\nA metric holds at most 10,000 series, and of services that callers make by asking for a host at most \
             256 (a histogram: 64):\nthe excess is counted in one series whose label values are all `other`. A series that \
             nothing in the configuration\nstands for any longer goes ten minutes after it last moved. \
             [observability.md](operations/observability.md) has the questions that these answer.\n\n\
             | Metric | Type | Labels | Meaning |\n|---|---|---|---|\n",
        );
        for Declared { name, kind, labels, help, .. } in TABLE {
            let kind = kind.as_str();
            let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
            text += &format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", "));
        }
        text
    }

    #[test]
    fn the_reference_says_what_the_table_says() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, reference()).unwrap();
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == reference(),
            "docs/metrics.md is out of date: run the tests with UPDATE_GENERATED=1"
        );
    }

    #[test]
    fn names_are_unique_and_say_their_kind() {
        let names: BTreeSet<_> = TABLE.iter().map(|declared| declared.name).collect();
        assert_eq!(names.len(), TABLE.len());
        for Declared { name, kind, .. } in TABLE {
            assert!(name.starts_with("towpath_") || name.starts_with("process_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            if let Kind::Histogram(bounds) = kind {
                assert!(name.ends_with("_seconds"), "{name}");
                assert!(bounds.is_sorted_by(|a, b| a < b) && bounds[0] > 0, "{name}");
            }
        }
    }
}
