//! `/api/services[?service=NAME][&endpoints=false]`: every service with its endpoints, those made on first use included, or the one of
//! this name. The command line reads it back.
//!
//! A node may have a hundred thousand endpoints: who looks often leaves them out, or asks for one service.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use super::{
    BreakerState,
    server::{Shared, refused},
    words,
};
use crate::{
    config, discovery,
    service::{Endpoint, EndpointSet, Health, Known, Service, Spend},
};

/// All services.
#[derive(Debug, Serialize, Deserialize)]
pub struct Services {
    /// The configured ones by name, then those made for hosts by name.
    pub services: Vec<ServiceState>,
}

/// One service.
#[derive(Debug, Serialize, Deserialize)]
pub struct ServiceState {
    /// Its name.
    pub name: String,
    /// `configured`, or `host` when it was made on first use.
    pub origin: String,
    /// `dns NAME:PORT`, `srv NAME`, `file PATH` or `fixed`.
    pub source: String,
    /// `auto`, `http1` or `http2`.
    pub protocol: String,
    /// `least-request`, `peak-ewma`, `round-robin` or `hash KEY`.
    pub balancer: String,
    /// `current`; `waiting` for the first answer of discovery; or `failing`, with the last good endpoints.
    pub state: String,
    /// Why discovery fails.
    pub message: Option<String>,
    /// Since the last good answer; none for fixed endpoints and before the first answer.
    pub discovery_age_seconds: Option<f64>,
    /// Requests that are running.
    pub in_flight: i64,
    /// How much it may have of this node, and has.
    pub breaker: BreakerState,
    /// Endpoints that are neither ejected nor unhealthy.
    pub usable: usize,
    /// All endpoints.
    #[serde(default)]
    pub endpoint_count: usize,
    /// Whether all endpoints are used because too few are usable (`panic_percent`).
    pub panic: bool,
    /// While requests that have another service to go to pass it over (`failover`).
    pub passed_over: Option<PassedOver>,
    /// Further attempts that the retry budget allows now.
    pub retry_budget_available: u64,
    /// Further attempts of what nobody can have processed that their budget allows now.
    pub requeue_budget_available: u64,
    /// In the order of their priorities and addresses; empty when they are to be left out.
    pub endpoints: Vec<EndpointState>,
}

/// That a service is passed over because it could not take requests.
#[derive(Debug, Serialize, Deserialize)]
pub struct PassedOver {
    /// Since when.
    pub since_seconds: f64,
    /// At least so much longer (`failover_back_after`); then the next request sees whether it can again.
    pub for_seconds: f64,
}

/// One endpoint.
#[derive(Debug, Serialize, Deserialize)]
pub struct EndpointState {
    /// Where it is.
    pub address: String,
    /// Whether connections to it have TLS.
    pub tls: bool,
    /// The towpath of its node, if requests go through that: address or name, and port.
    pub peer: Option<String>,
    /// Where it is known from: `dns`, `srv`, `file` or `fixed`.
    pub source: String,
    /// The lowest priority is used first.
    pub priority: u16,
    /// Relative to the others of its priority.
    pub weight: u32,
    /// Where it stands, if that is known.
    pub zone: Option<String>,
    /// `node`, `zone` or `elsewhere`.
    pub place: String,
    /// Attempts of this node that are running.
    pub load: u32,
    /// What its answers take: a moving average of the time to the response's head, which follows a rise at once. As it was when the
    /// last came; failures are no part of it. None before the first.
    pub latency_ms: Option<f64>,
    /// Of the requests to it, those that failed: a moving average that fades like the latency.
    pub failing_percent: f64,
    /// `healthy`; `warming` while it comes to its full share; `spare` outside of this node's aperture; `ejected` for its failures; or
    /// `unhealthy` while its health checks fail, whether it is ejected as well or not.
    pub state: String,
    /// While it is ejected: until a request may try it. None while one does.
    pub ejected_for_seconds: Option<f64>,
    /// Whether it is ejected, and a request is trying it.
    pub probing: bool,
    /// While it is ejected: `consecutive_failures`, `success_rate` or `latency`.
    pub ejected_because: Option<String>,
    /// While it is ejected: since when. RFC 3339.
    pub ejected_since: Option<String>,
    /// While it is ejected: from when a request may try it. None while one does. RFC 3339.
    pub ejected_until: Option<String>,
    /// While it is ejected: how many ejections there were without a long time between them, failed tries included.
    pub ejections_in_a_row: Option<u32>,
    /// What its health checks say; none without any.
    pub health_check: Option<CheckState>,
    /// Since the service has it.
    pub age_seconds: f64,
}

/// What health checks say of an endpoint.
#[derive(Debug, Serialize, Deserialize)]
pub struct CheckState {
    /// `unknown`, `healthy` or `unhealthy`.
    pub status: String,
    /// What the last probe saw, for people.
    pub last: Option<String>,
    /// Since the last probe.
    pub last_seconds_ago: Option<f64>,
    /// How many of the last results were alike.
    pub in_a_row: u32,
}

impl CheckState {
    fn of(endpoint: &Endpoint) -> Option<Self> {
        let state = endpoint.check_state()?;
        let (last, ago) = state.last.unzip();
        Some(Self {
            status: state.status.to_owned(),
            last,
            last_seconds_ago: ago.map(|ago| ago.as_secs_f64()),
            in_a_row: state.row,
        })
    }
}

impl ServiceState {
    fn of(service: &Service, origin: &str, with_endpoints: bool) -> Self {
        let set = service.endpoints();
        let (state, message) = match &set.known {
            Known::Nothing => ("waiting", None),
            Known::Current { .. } => ("current", None),
            Known::Failing { message, .. } => ("failing", Some(message.clone())),
        };
        Self {
            name: service.name.to_string(),
            origin: origin.to_owned(),
            source: match &service.source {
                config::Source::Fixed(_) => "fixed".to_owned(),
                dns => words::source(dns),
            },
            protocol: words::protocol(service.policy.protocol).to_owned(),
            balancer: words::balancer(&service.policy.balancer),
            state: state.to_owned(),
            message,
            discovery_age_seconds: service.discovery_age().map(|age| age.as_secs_f64()),
            in_flight: service.series.in_flight.get(),
            breaker: BreakerState::of(service),
            usable: set.usable(),
            endpoint_count: set.endpoints.len(),
            panic: set.is_panicking(&service.policy),
            passed_over: service.passed_over().map(|[since, left]| PassedOver {
                since_seconds: since.as_secs_f64(),
                for_seconds: left.as_secs_f64(),
            }),
            retry_budget_available: service.available(Spend::Retry),
            requeue_budget_available: service.available(Spend::Requeue),
            endpoints: if with_endpoints {
                endpoints(&set, words::kind_of_source(&service.source))
            } else {
                Vec::new()
            },
        }
    }
}

type Numbered<'a> = (usize, (&'a Arc<Endpoint>, &'a discovery::Endpoint));

fn endpoints(set: &EndpointSet, source: &str) -> Vec<EndpointState> {
    let covered = set.covered();
    let numbered = set.endpoints.iter().zip(set.found.iter()).enumerate();
    numbered.map(|numbered| endpoint(set, source, covered.contains(&numbered.0), numbered)).collect()
}

fn endpoint(
    set: &EndpointSet,
    source: &str,
    is_covered: bool,
    (index, (endpoint, found)): Numbered<'_>,
) -> EndpointState {
    let (health, ejection) = (endpoint.health(), endpoint.ejection());
    EndpointState {
        address: endpoint.address.to_string(),
        tls: endpoint.target.secure.is_some(),
        peer: endpoint.through.as_ref().map(|through| through.hop.name.clone()),
        source: source.to_owned(),
        priority: found.priority,
        weight: found.weight,
        zone: set.zone(index).map(ToString::to_string),
        place: words::place(set.place(index)).to_owned(),
        load: endpoint.load(),
        latency_ms: endpoint.latency().map(|latency| latency.as_secs_f64() * 1000.0),
        failing_percent: f64::from((set.failed_part(endpoint) * 1000.0).round()) / 10.0,
        state: match health {
            Health::Ejected(_) | Health::Probed => "ejected",
            Health::Unwell => "unhealthy",
            Health::Usable if !is_covered => "spare",
            Health::Usable if set.is_warming(endpoint) => "warming",
            Health::Usable => "healthy",
        }
        .to_owned(),
        ejected_for_seconds: match health {
            Health::Ejected(time) => Some(time.as_secs_f64()),
            Health::Usable | Health::Probed | Health::Unwell => None,
        },
        probing: health == Health::Probed,
        ejected_because: ejection.map(|ejection| ejection.why.to_owned()),
        ejected_since: ejection.map(|ejection| words::time(ejection.since)),
        ejected_until: ejection.and_then(|ejection| ejection.until).map(words::time),
        ejections_in_a_row: ejection.map(|ejection| ejection.times),
        health_check: CheckState::of(endpoint),
        age_seconds: endpoint.since.elapsed().as_secs_f64(),
    }
}

/// What may stand behind the question mark.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    service: Option<String>,
    #[serde(default = "yes")]
    endpoints: bool,
}

fn yes() -> bool {
    true
}

impl Services {
    fn of(shared: &Shared, parameters: &Parameters) -> Self {
        let snapshot = shared.snapshot();
        let made = snapshot.host_services.list();
        let configured = snapshot.services.iter().map(|service| (service, "configured"));
        let all = configured.chain(made.iter().map(|service| (service, "host")));
        let wanted =
            |service: &Service| parameters.service.as_deref().is_none_or(|name| *service.name == *name);
        let services = all.filter(|(service, _)| wanted(service));
        let state =
            |(service, origin): (&Arc<Service>, _)| ServiceState::of(service, origin, parameters.endpoints);
        Self { services: services.map(state).collect() }
    }
}

pub(super) async fn services(
    State(shared): State<Arc<Shared>>,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Response {
    match parameters {
        Ok(Query(parameters)) => Json(Services::of(&shared, &parameters)).into_response(),
        Err(_) => refused(
            StatusCode::BAD_REQUEST,
            "the parameters are `service`, a name, and `endpoints`, true or false; each once",
        ),
    }
}
