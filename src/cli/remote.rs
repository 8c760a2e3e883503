//! The commands that speak to a running daemon: status, reload, drain.

use std::{io, time::Duration};

use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

use super::{
    args::Remote,
    outcome::{Failure, Outcome},
    table::table,
    way::Way,
};
use crate::admin::{EndpointState, ReloadAnswer, ServiceState, Services, Status};

/// A daemon that has not answered after this is not going to. A reload of a large file takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn status(admin: &Remote) -> Outcome {
    let status: Status = read(&ask(admin, Method::GET, "/api/status")?)?;
    let services: Services = read(&ask(admin, Method::GET, "/api/services")?)?;
    let tables = [listeners(&status), self::services(&services), endpoints(&services)];
    Ok(format!("{}\n{}", summary(&status), tables.join("\n")))
}

pub(super) fn reload(admin: &Remote) -> Outcome {
    let answer: ReloadAnswer = read(&ask(admin, Method::POST, "/api/reload")?)?;
    Ok(match answer.result.as_str() {
        "unchanged" => format!("unchanged: generation {} stays in force\n", answer.generation),
        result => format!("{result}: generation {} is in force\n", answer.generation),
    })
}

pub(super) fn drain(admin: &Remote) -> Outcome {
    ask(admin, Method::POST, "/api/drain")?;
    Ok("draining: running requests finish, then towpath exits\n".to_owned())
}

/// The body of an answer that is 200. What towpath refuses becomes the failure's text.
fn ask(remote: &Remote, method: Method, path: &str) -> Result<String, Failure> {
    let way = Way::of(remote)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::running(format!("cannot make a runtime: {error}")))?;
    runtime.block_on(ask_by(&way, method, path))
}

/// The same, by a way that is known, within a runtime.
pub(super) async fn ask_by(way: &Way, method: Method, path: &str) -> Result<String, Failure> {
    let asked = timeout(PATIENCE, way.ask(method, path)).await;
    let answer = asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let answer = answer.map_err(|error| unreachable(way, &error))?;
    if answer.status == StatusCode::OK {
        return Ok(answer.body);
    }
    Err(refusal(way, path, answer.status, &answer.body))
}

pub(super) fn unreachable(way: &Way, error: &io::Error) -> Failure {
    let hint = "is towpath running, and is this its [admin] listen? (--admin URL)";
    Failure::running(format!("cannot reach towpath's admin API at {way}: {error}; {hint}"))
}

/// What an answer that is not 200 means.
pub(super) fn refusal(way: &Way, path: &str, status: StatusCode, body: &str) -> Failure {
    let json: Value = serde_json::from_str(body).unwrap_or_default();
    let hint = if status == StatusCode::UNAUTHORIZED {
        " (--admin-token-file, or --admin-cert and --admin-key)"
    } else {
        ""
    };
    Failure::running(match json["error"].as_str() {
        Some(error) => format!("{error}{hint}"),
        None => format!("{way}{path} answered {status}: is this towpath's admin API?"),
    })
}

fn read<T: DeserializeOwned>(body: &str) -> Result<T, Failure> {
    serde_json::from_str(body).map_err(|error| {
        Failure::running(format!("the answer cannot be read, is the daemon of another version? ({error})"))
    })
}

fn summary(status: &Status) -> String {
    let Status { node, version, state, generation, workers, last_reload, .. } = status;
    let zone = status.zone.as_ref().map(|zone| format!(" in {zone}")).unwrap_or_default();
    let up = uptime(status.uptime_seconds);
    let workers = if *workers == 1 { "1 worker".to_owned() } else { format!("{workers} workers") };
    let mut text = format!(
        "{node}{zone}: towpath {version} {state}, generation {generation}, {workers}, up {up}\n\
         last configuration read {}: {}\n",
        last_reload.at, last_reload.result
    );
    match status.routes_with_faults {
        0 => {}
        1 => text += "faults on 1 route\n",
        many => text += &format!("faults on {many} routes\n"),
    }
    for line in last_reload.error.iter().flat_map(|error| error.lines()) {
        text += &format!("  {line}\n");
    }
    text + &problems(status) + &load(status)
}

/// How much the node carries, and what it refuses.
fn load(status: &Status) -> String {
    let (requests, memory) = (&status.overload, &status.memory);
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let used = memory.used_bytes.map_or_else(|| "?".to_owned(), mib);
    let ceiling = memory.ceiling_bytes.map(|ceiling| format!(" of {}", mib(ceiling))).unwrap_or_default();
    let refusing = |since: &Option<String>| {
        since.as_ref().map(|since| format!(", refuses since {since}")).unwrap_or_default()
    };
    format!(
        "requests {} of {}, {} waiting{}; memory {used}{ceiling}{}\n",
        requests.running,
        requests.limit,
        requests.pending,
        refusing(&requests.open_since),
        refusing(&memory.short_since),
    )
}

fn uptime(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (0, hours, minutes, _) => format!("{hours}h {minutes}m"),
        (days, hours, ..) => format!("{days}d {hours}h"),
    }
}

/// What is wrong with the files of the admin API.
fn problems(status: &Status) -> String {
    let failing = status.tracing.iter().filter(|tracing| tracing.state == "failing");
    let failing = failing.map(|tracing| {
        let error = tracing.last_error.as_deref().unwrap_or_default();
        format!("spans do not reach {} since {}: {error}\n", tracing.url, tracing.since)
    });
    status.admin.problems.iter().map(|problem| format!("{problem}\n")).chain(failing).collect()
}

fn listeners(status: &Status) -> String {
    let row = |listener: &crate::admin::ListenerState| {
        [&listener.name, &listener.kind, &listener.address, &listener.connections.to_string()]
            .map(String::clone)
    };
    let rows: Vec<_> = status.listeners.iter().map(row).collect();
    table(["LISTENER", "KIND", "ADDRESS", "CONNECTIONS"], &rows)
}

fn services(services: &Services) -> String {
    let rows: Vec<_> = services.services.iter().map(service).collect();
    table(["SERVICE", "SOURCE", "PROTOCOL", "BALANCER", "ENDPOINTS", "IN FLIGHT", "STATE"], &rows)
}

fn service(service: &ServiceState) -> [String; 7] {
    let age = service.discovery_age_seconds.map(|age| format!(", answer {age:.0}s old")).unwrap_or_default();
    let message = service.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
    let panic = if service.panic { ", too few are usable: all are used" } else { "" };
    let passed_over = if service.passed_over.is_some() { ", passed over (failover)" } else { "" };
    [
        service.name.clone(),
        service.source.clone(),
        service.protocol.clone(),
        service.balancer.clone(),
        usable(service),
        service.in_flight.to_string(),
        format!("{}{age}{message}{panic}{passed_over}{}", service.state, breaker(service)),
    ]
}

/// What the limit on its requests does, when it does anything.
fn breaker(service: &ServiceState) -> String {
    let requests = &service.breaker.requests;
    match (&requests.open_since, requests.pending) {
        (Some(since), _) => format!(", breaker open since {since}"),
        (None, 0) => String::new(),
        (None, waiting) => format!(", {waiting} waiting"),
    }
}

/// How many endpoints there are, and how many of them are usable, unless all are.
fn usable(service: &ServiceState) -> String {
    match (service.usable, service.endpoints.len()) {
        (usable, all) if usable == all => all.to_string(),
        (usable, all) => format!("{usable} of {all}"),
    }
}

fn endpoints(services: &Services) -> String {
    let of = |service: &'_ ServiceState| {
        let rows: Vec<_> = service.endpoints.iter().map(|one| endpoint(&service.name, one)).collect();
        rows
    };
    let rows: Vec<_> = services.services.iter().flat_map(of).collect();
    let head = [
        "SERVICE", "ENDPOINT", "PRIORITY", "WEIGHT", "ZONE", "PLACE", "LOAD", "LATENCY", "FAILING", "STATE",
        "AGE",
    ];
    table(head, &rows)
}

fn endpoint(service: &str, endpoint: &EndpointState) -> [String; 11] {
    let latency = endpoint.latency_ms.map(|latency| format!("{latency:.1}ms"));
    [
        service.to_owned(),
        endpoint.address.clone(),
        endpoint.priority.to_string(),
        endpoint.weight.to_string(),
        endpoint.zone.clone().unwrap_or_else(|| "-".to_owned()),
        endpoint.place.clone(),
        endpoint.load.to_string(),
        latency.unwrap_or_else(|| "-".to_owned()),
        format!("{:.0}%", endpoint.failing_percent),
        endpoint_state(endpoint),
        uptime(endpoint.age_seconds as u64),
    ]
}

fn endpoint_state(endpoint: &EndpointState) -> String {
    match endpoint.ejected_for_seconds {
        _ if endpoint.probing => format!("{}, is tried", endpoint.state),
        Some(left) if left <= 0.0 => format!("{}, the next request tries it", endpoint.state),
        Some(left) => format!("{}, {left:.1}s left", endpoint.state),
        None => match endpoint.health_check.as_ref().and_then(|check| check.last.as_ref()) {
            Some(last) if endpoint.state == "unhealthy" => format!("{}: {last}", endpoint.state),
            _ => endpoint.state.clone(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_shows_its_two_largest_units() {
        for (seconds, text) in [(5, "5s"), (125, "2m 5s"), (7260, "2h 1m"), (180_000, "2d 2h")] {
            assert_eq!(uptime(seconds), text);
        }
    }

    #[test]
    fn an_ejected_endpoint_shows_for_how_long_or_that_it_is_tried_and_an_unhealthy_one_why() {
        let shown = |state: &str, left: Option<f64>, probing: bool| {
            let json = serde_json::json!({
                "address": "10.0.0.1:80", "source": "dns", "failing_percent": 0.0, "priority": 0, "weight": 1, "zone": null, "place": "elsewhere", "load": 0,
                "latency_ms": null, "state": state, "ejected_for_seconds": left, "peer": null, "tls": false, "probing": probing, "age_seconds": 1.0,
                "health_check": { "status": "?", "last": "HTTP 503", "last_seconds_ago": 1.0, "in_a_row": 3 },
            });
            endpoint("s", &serde_json::from_value(json).unwrap())[9].clone()
        };
        assert_eq!(shown("healthy", None, false), "healthy");
        assert_eq!(shown("ejected", Some(4.21), false), "ejected, 4.2s left");
        assert_eq!(shown("ejected", Some(0.0), false), "ejected, the next request tries it");
        assert_eq!(shown("ejected", None, true), "ejected, is tried");
        assert_eq!(shown("unhealthy", None, false), "unhealthy: HTTP 503");
    }
}
