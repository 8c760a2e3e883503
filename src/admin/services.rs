//! `/api/services`: every service with its endpoints, those made on first use included. The command line reads it back.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};

use super::{server::Shared, words};
use crate::{
    config,
    service::{EndpointSet, Known, Service},
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
    /// In the order of their addresses.
    pub endpoints: Vec<EndpointState>,
}

/// One endpoint.
#[derive(Debug, Serialize, Deserialize)]
pub struct EndpointState {
    /// Where it is.
    pub address: String,
    /// Relative to the others.
    pub weight: u64,
    /// Attempts that are running.
    pub load: u32,
    /// Since the service has it.
    pub age_seconds: f64,
}

impl ServiceState {
    fn of(service: &Service, origin: &str) -> Self {
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
            endpoints: endpoints(&set),
        }
    }
}

fn endpoints(set: &EndpointSet) -> Vec<EndpointState> {
    let endpoint = |(index, endpoint): (usize, &Arc<crate::service::Endpoint>)| EndpointState {
        address: endpoint.address.to_string(),
        weight: set.weights.weight(index),
        load: endpoint.load(),
        age_seconds: endpoint.since.elapsed().as_secs_f64(),
    };
    set.endpoints.iter().enumerate().map(endpoint).collect()
}

impl Services {
    pub(super) fn of(shared: &Shared) -> Self {
        let snapshot = shared.snapshot();
        let configured = snapshot.services.iter().map(|service| ServiceState::of(service, "configured"));
        let made = snapshot.host_services.list();
        let made = made.iter().map(|service| ServiceState::of(service, "host"));
        Self { services: configured.chain(made).collect() }
    }
}

pub(super) async fn services(State(shared): State<Arc<Shared>>) -> Json<Services> {
    Json(Services::of(&shared))
}
