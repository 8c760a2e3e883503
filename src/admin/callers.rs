//! `/api/callers`: who is connected, by name.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::server::Shared;

/// Those that have a name; by it.
pub(super) async fn callers(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let connected = shared.admin.metrics.caller_connections();
    let callers = connected.iter().map(|(name, open)| json!({ "name": name, "connections": open }));
    Json(json!({ "callers": callers.collect::<Vec<_>>() }))
}
