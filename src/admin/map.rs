//! `/api/map`: who calls whom, and which route sends where, in the last minute.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Serialize;

use super::server::Shared;
use crate::telemetry::{CalledFrom, Counts};

/// The last minute of the node.
#[derive(Debug, Serialize)]
pub(super) struct Map {
    /// How long the last minute is: less after a start.
    seconds: f64,
    /// By caller and service; of more than 1024, those with the most requests.
    edges: Vec<Edge>,
    /// By route and service; of more than 1024, those with the most requests.
    routes: Vec<Share>,
}

/// A caller's requests to a service.
#[derive(Debug, Serialize)]
struct Edge {
    /// `unknown` for all that have no name.
    caller: String,
    /// Where unknown callers came in; null for those that have a name, and where it was one of several.
    listener: Option<String>,
    /// Null for what met no route.
    service: Option<String>,
    requests: u64,
    /// Whose callers got a status of 500 or above, towpath's own included.
    failures: u64,
}

/// A route's requests to a service.
#[derive(Debug, Serialize)]
struct Share {
    route: String,
    service: String,
    requests: u64,
    failures: u64,
}

impl Edge {
    fn of(((from, service), counts): ((CalledFrom, Box<str>), Counts)) -> Self {
        let (caller, listener) = match from {
            CalledFrom::Named(name) => (name.into(), None),
            CalledFrom::Unknown(listener) => ("unknown".to_owned(), listener.map(Into::into)),
        };
        let service = (!service.is_empty()).then(|| service.into());
        Self { caller, listener, service, requests: counts.requests, failures: counts.failures }
    }
}

impl Share {
    fn of(((route, service), counts): ((Box<str>, Box<str>), Counts)) -> Self {
        let (route, service) = (route.into(), service.into());
        Self { route, service, requests: counts.requests, failures: counts.failures }
    }
}

pub(super) async fn map(State(shared): State<Arc<Shared>>) -> Json<Map> {
    let history = shared.history.get();
    Json(Map {
        seconds: history.minute_seconds(),
        edges: history.edges().into_iter().map(Edge::of).collect(),
        routes: history.shares().into_iter().map(Share::of).collect(),
    })
}
