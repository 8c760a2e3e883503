//! Retries, hedging, failover, faults, limits and health checks in the shape of the file, for `/api/config` and `/api/routes`.

use serde_json::{Map, Value, json};

use super::{routes::conditions, words};
use crate::{
    config::{
        Abort, Breaker, Concurrency, Fault, HealthCheck, HealthProbe, Hedge, Priority, Retry, RetryBudget,
        RetryOn, Route, ServicePolicy, Share,
    },
    http::grpc,
};

/// What a route says of them.
pub(super) fn route(rule: &Route) -> Map<String, Value> {
    let mut written = Map::new();
    let mut write = |key: &str, value: Value| drop(written.insert(key.to_owned(), value));
    write("priority", json!(priority(rule.priority)));
    write("failover", json!(rule.failover.services.iter().map(|name| &**name).collect::<Vec<&str>>()));
    write("failover_back_after", json!(words::duration(rule.failover.back_after)));
    write("retry", rule.retry.as_ref().map(retry).unwrap_or_default());
    write("hedge", rule.hedge.map(hedge).unwrap_or_default());
    write("fault", rule.fault.as_ref().map(fault).unwrap_or_default());
    written
}

/// What a service says of them.
pub(super) fn service(policy: &ServicePolicy) -> Map<String, Value> {
    let mut written = Map::new();
    let mut write = |key: &str, value: Value| drop(written.insert(key.to_owned(), value));
    write("head_timeout", json!(policy.head_timeout.map(words::duration)));
    write("stream_idle_timeout", json!(words::duration(policy.stream_idle_timeout)));
    write("breaker", breaker(&policy.breaker));
    write("retry_budget", retry_budget(policy.retry_budget));
    write("health_check", policy.health_check.as_ref().map(health_check).unwrap_or_default());
    written
}

/// Of a service or of the node.
pub(super) fn concurrency(limits: Concurrency) -> Map<String, Value> {
    let mut written = Map::new();
    written.insert("max_requests".to_owned(), json!(limits.max_requests));
    written.insert("max_pending".to_owned(), json!(limits.max_pending));
    written.insert("pending_timeout".to_owned(), json!(words::duration(limits.pending_timeout)));
    written.insert("adaptive".to_owned(), json!(limits.adaptive));
    written
}

fn priority(priority: Priority) -> &'static str {
    match priority {
        Priority::Low => "low",
        Priority::Normal => "normal",
        Priority::High => "high",
    }
}

fn retry(retry: &Retry) -> Value {
    json!({
        "on": retry_on(&retry.on),
        "attempts": retry.attempts,
        "methods": retry.methods,
        "backoff": [words::duration(retry.backoff_first), words::duration(retry.backoff_longest)],
        "body_limit": words::size(retry.body_limit),
    })
}

fn retry_on(on: &RetryOn) -> Vec<String> {
    let classes = [
        (on.connect_failure, "connect-failure"),
        (on.reset, "reset"),
        (on.timeout, "timeout"),
        (on.server_error, "5xx"),
        (on.gateway_error, "gateway-error"),
    ];
    let classes = classes.iter().filter(|(written, _)| *written).map(|(_, word)| (*word).to_owned());
    let statuses = on.statuses.iter().map(ToString::to_string);
    let codes = (0..32).filter(|code| on.grpc & (1 << code) != 0).filter_map(grpc::name).map(str::to_owned);
    classes.chain(statuses).chain(codes).collect()
}

fn hedge(hedge: Hedge) -> Value {
    match hedge {
        Hedge::After(after) => json!({ "after": words::duration(after) }),
        Hedge::Percentile(of) => json!({ "percentile": of }),
    }
}

fn fault(fault: &Fault) -> Value {
    let mut written = Map::new();
    let mut write = |key: &str, value: Value| drop(written.insert(key.to_owned(), value));
    if let Some((shortest, longest)) = fault.delay {
        write("delay", json!(words::duration(shortest)));
        write("delay_max", json!(words::duration(longest)));
    }
    write("delay_percent", percent(fault.delay_share));
    write("abort", fault.abort.map(abort).unwrap_or_default());
    write("abort_percent", percent(fault.abort_share));
    if !fault.matches.is_empty() {
        write("match", json!(fault.matches.iter().map(conditions).collect::<Vec<_>>()));
    }
    Value::Object(written)
}

/// A route's retries in a line, for people.
pub(super) fn retry_in_words(retry: &Retry) -> String {
    let (on, methods) = (retry_on(&retry.on).join(", "), retry.methods.join(", "));
    let (first, longest) = (words::duration(retry.backoff_first), words::duration(retry.backoff_longest));
    format!("on {on}; {} attempts, {methods}, backoff {first} to {longest}", retry.attempts)
}

/// When a second attempt is made, in a line, for people.
pub(super) fn hedge_in_words(hedge: Hedge) -> String {
    match hedge {
        Hedge::After(after) => format!("a second attempt after {}", words::duration(after)),
        Hedge::Percentile(of) => format!("a second attempt after the {of}th percentile of answers"),
    }
}

/// A fault in a line, for people.
pub(super) fn fault_in_words(fault: &Fault) -> String {
    let of = |share: Share| format!("for {} %", f64::from(share.ppm) / 10_000.0);
    let delay = fault.delay.map(|(shortest, longest)| {
        let longest = (longest > shortest).then(|| format!(" to {}", words::duration(longest)));
        let time = words::duration(shortest) + &longest.unwrap_or_default();
        format!("delay {time} {}", of(fault.delay_share))
    });
    let abort = fault.abort.map(|kind| {
        let kind = abort(kind);
        format!(
            "abort {} {}",
            kind.as_str().map_or_else(|| kind.to_string(), str::to_owned),
            of(fault.abort_share)
        )
    });
    let only = match fault.matches.len() {
        0 => String::new(),
        1 => "; only requests that meet its match".to_owned(),
        entries => format!("; only requests that meet one of its {entries} matches"),
    };
    [delay, abort].into_iter().flatten().collect::<Vec<_>>().join(", ") + &only
}

fn percent(share: Share) -> Value {
    json!(f64::from(share.ppm) / 10_000.0)
}

fn abort(abort: Abort) -> Value {
    match abort {
        Abort::Status(status) => json!(status),
        Abort::Grpc(code) => json!(format!("grpc:{}", grpc::name(code).unwrap_or("unknown"))),
        Abort::Reset => json!("reset"),
    }
}

fn breaker(breaker: &Breaker) -> Value {
    let mut written = concurrency(breaker.requests);
    written.insert("max_connections".to_owned(), json!(breaker.max_connections));
    Value::Object(written)
}

fn retry_budget(budget: RetryBudget) -> Value {
    json!({ "percent": budget.percent, "min_per_second": budget.min_per_second })
}

fn health_check(check: &HealthCheck) -> Value {
    let mut written = Map::new();
    let mut write = |key: &str, value: Value| drop(written.insert(key.to_owned(), value));
    match &check.probe {
        HealthProbe::Http { path, host, expect } => {
            write("http", json!(path));
            write("host", json!(host));
            write("expect", json!(expect));
        }
        HealthProbe::Tcp => write("tcp", json!(true)),
        HealthProbe::Grpc(service) => write("grpc", json!(service)),
    }
    write("interval", json!(words::duration(check.interval)));
    write("timeout", json!(words::duration(check.timeout)));
    write("healthy", json!(check.healthy));
    write("unhealthy", json!(check.unhealthy));
    write("port", json!(check.port));
    write("initially", json!(if check.first_pass { "unhealthy" } else { "healthy" }));
    Value::Object(written)
}
