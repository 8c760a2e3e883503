//! What was read -> retries, hedging, failover, limits, health checks, faults.

use std::time::Duration;

use super::{
    checked::{Backend, BackendTarget, Name},
    resilience::{
        Abort, Breaker, Concurrency, Failover, Fault, HealthCheck, HealthProbe, Hedge, Priority, Retry,
        RetryBudget, RetryOn, Share,
    },
    route_meaning::{matches, texts},
    section::Section,
    tree::{Data, Node},
};
use crate::http::grpc;

/// Of repetitions, where none are written: Envoy's.
const BACKOFF: [Duration; 2] = [Duration::from_millis(25), Duration::from_millis(250)];
/// Idempotent by RFC 9110 9.2.2.
const IDEMPOTENT: [&str; 6] = ["DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"];

/// A route's.
pub(super) fn retry(route: Section<'_>) -> Option<Retry> {
    route.written("retry")?;
    let retry = route.table("retry");
    let [backoff_first, backoff_longest] = two_durations(retry.list("backoff")).unwrap_or(BACKOFF);
    Some(Retry {
        on: retry_on(retry),
        attempts: retry.count("attempts"),
        methods: retry_methods(retry),
        backoff_first,
        backoff_longest,
        body_limit: retry.count("body_limit"),
    })
}

/// Of a route's `retry`, whether that is written or not.
pub(super) fn retry_methods(retry: Section<'_>) -> Vec<String> {
    let mut methods: Vec<String> = texts(retry.list("methods")).map(str::to_owned).collect();
    if methods.is_empty() {
        methods = IDEMPOTENT.map(str::to_owned).into();
    }
    methods.sort();
    methods.dedup();
    methods
}

fn retry_on(retry: Section<'_>) -> RetryOn {
    let written: Vec<&str> = texts(retry.list("on")).collect();
    let words = if written.is_empty() { vec!["connect-failure", "reset", "gateway-error"] } else { written };
    let mut on = RetryOn::default();
    for word in words {
        match word {
            "connect-failure" => on.connect_failure = true,
            "reset" => on.reset = true,
            "timeout" => on.timeout = true,
            "5xx" => on.server_error = true,
            "gateway-error" => on.gateway_error = true,
            other => match (other.parse(), grpc::code(other)) {
                (Ok(status), _) => on.statuses.push(status),
                (_, Some(code)) => on.grpc |= 1 << code,
                _ => {}
            },
        }
    }
    on.statuses.sort_unstable();
    on.statuses.dedup();
    on
}

/// The entries of a list, if they are two durations.
pub(super) fn two_durations(nodes: &[Node]) -> Option<[Duration; 2]> {
    match nodes {
        [Node { data: Data::Duration(first), .. }, Node { data: Data::Duration(longest), .. }] => {
            Some([*first, *longest])
        }
        _ => None,
    }
}

/// A route's. A kind of its own takes the place of the other kind that the defaults have.
pub(super) fn hedge(route: Section<'_>) -> Option<Hedge> {
    route.written("hedge")?;
    let hedge = route.table("hedge");
    let is_own = ["after", "percentile"].iter().any(|kind| hedge.alone().written(kind).is_some());
    let hedge = if is_own { hedge.alone() } else { hedge };
    match hedge.duration("after") {
        Some(after) => Some(Hedge::After(after)),
        None => hedge.number("percentile").and_then(|of| u8::try_from(of).ok()).map(Hedge::Percentile),
    }
}

/// Of a route with these backends. One of them that `[defaults]` names stands in for the backends of other routes.
pub(super) fn failover(route: Section<'_>, backends: &[Backend]) -> Failover {
    let is_backend = |name: &Name| {
        backends.iter().any(|of| matches!(&of.target, BackendTarget::Service(service) if service == name))
    };
    let services = texts(route.list("failover")).map(Name::from).filter(|name| !is_backend(name)).collect();
    Failover { services, back_after: route.duration("failover_back_after").unwrap_or_default() }
}

/// A route's.
pub(super) fn priority(route: Section<'_>) -> Priority {
    match route.text("priority").as_deref() {
        Some("low") => Priority::Low,
        Some("high") => Priority::High,
        _ => Priority::Normal,
    }
}

/// A route's.
pub(super) fn fault(route: Section<'_>) -> Option<Fault> {
    route.written("fault")?;
    let fault = route.table("fault");
    let delay = fault.duration("delay");
    let share = |key| Share { ppm: fault.count(key) };
    Some(Fault {
        delay: delay.map(|delay| (delay, fault.duration("delay_max").unwrap_or(delay))),
        delay_share: share("delay_percent"),
        abort: fault.written("abort").and_then(abort),
        abort_share: share("abort_percent"),
        matches: if fault.list("match").is_empty() { Vec::new() } else { matches(fault) },
    })
}

fn abort(node: &Node) -> Option<Abort> {
    match &node.data {
        Data::Number(status) => u16::try_from(*status).ok().map(Abort::Status),
        Data::Text(word) if word == "reset" => Some(Abort::Reset),
        Data::Text(word) => word.strip_prefix("grpc:").and_then(grpc::code).map(Abort::Grpc),
        _ => None,
    }
}

/// A service's.
pub(super) fn breaker(breaker: Section<'_>) -> Breaker {
    Breaker { max_connections: breaker.count("max_connections"), requests: concurrency(breaker) }
}

/// A service's, or the node's.
pub(super) fn concurrency(section: Section<'_>) -> Concurrency {
    Concurrency {
        max_requests: section.count("max_requests"),
        max_pending: section.count("max_pending"),
        pending_timeout: section.duration("pending_timeout").unwrap_or_default(),
        adaptive: section.flag("adaptive").unwrap_or_default(),
    }
}

/// A service's.
pub(super) fn retry_budget(budget: Section<'_>) -> RetryBudget {
    RetryBudget { percent: budget.count("percent"), min_per_second: budget.count("min_per_second") }
}

/// A service's.
pub(super) fn health_check(service: Section<'_>) -> Option<HealthCheck> {
    service.written("health_check")?;
    let check = service.table("health_check");
    Some(HealthCheck {
        probe: health_probe(check)?,
        interval: check.duration("interval").unwrap_or_default(),
        timeout: check.duration("timeout").unwrap_or_default(),
        healthy: check.count("healthy"),
        unhealthy: check.count("unhealthy"),
        port: check.number("port").and_then(|port| u16::try_from(port).ok()),
        first_pass: check.text("initially").as_deref() == Some("unhealthy"),
    })
}

/// A probe of the service's own takes the place of another kind that the defaults have.
fn health_probe(check: Section<'_>) -> Option<HealthProbe> {
    let is_own = ["http", "tcp", "grpc"].iter().any(|kind| check.alone().written(kind).is_some());
    let kind = if is_own { check.alone() } else { check };
    if let Some(path) = kind.text("http") {
        let number =
            |node: &Node| if let Data::Number(status) = node.data { status.try_into().ok() } else { None };
        let mut expect: Vec<u16> = check.list("expect").iter().filter_map(number).collect();
        if expect.is_empty() {
            expect.push(200);
        }
        expect.sort_unstable();
        return Some(HealthProbe::Http { path, host: check.text("host"), expect });
    }
    if kind.flag("tcp").is_some() {
        return Some(HealthProbe::Tcp);
    }
    kind.text("grpc").map(HealthProbe::Grpc)
}
