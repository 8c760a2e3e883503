//! `/api/routes`: every rule with its listeners, conditions, backends and timeouts, in the words of the file.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde_json::{Map, Value, json};

use super::{resilience_view, server::Shared, words};
use crate::config::{Backend, BackendTarget, Config, Match, PathMatch, Route, ValueMatch, bare};

pub(super) async fn routes(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let snapshot = shared.snapshot();
    Json(json!({ "generation": snapshot.generation, "routes": all(&snapshot.config) }))
}

/// In the order of the file, which breaks ties of precedence.
pub(super) fn all(config: &Config) -> Vec<Value> {
    config.routes.iter().map(|rule| route(config, rule)).collect()
}

fn route(config: &Config, rule: &Route) -> Value {
    let listeners: Vec<&str> = rule.listeners.iter().map(|&index| &*config.listeners[index].name).collect();
    let mut written = json!({
        "name": &*rule.name,
        "listeners": listeners,
        "hosts": rule.hosts.iter().map(words::host).collect::<Vec<_>>(),
        "match": rule.matches.iter().map(conditions).collect::<Vec<_>>(),
        "backends": rule.backends.iter().map(backend).collect::<Vec<_>>(),
        "timeout": rule.timeout.map(words::duration),
        "attempt_timeout": rule.attempt_timeout.map(words::duration),
    });
    if let Value::Object(written) = &mut written {
        written.append(&mut resilience_view::route(rule));
    }
    written
}

fn backend(backend: &Backend) -> Value {
    match &backend.target {
        BackendTarget::Service(name) => json!({ "service": &**name, "weight": backend.weight }),
        BackendTarget::PerHost(template) => {
            json!({ "dns": words::template(template), "weight": backend.weight })
        }
    }
}

/// One entry of `match`, with only the keys that set a condition.
pub(super) fn conditions(entry: &Match) -> Value {
    let mut written = Map::new();
    match &entry.path {
        None => {}
        Some(PathMatch::Exact(path)) => drop(written.insert("path".to_owned(), json!(path))),
        Some(PathMatch::Prefix(path)) => drop(written.insert("path_prefix".to_owned(), json!(path))),
        Some(PathMatch::Regex(path)) => drop(written.insert("path_regex".to_owned(), json!(bare(path)))),
    }
    if !entry.methods.is_empty() {
        written.insert("methods".to_owned(), json!(entry.methods));
    }
    for (key, named) in [("headers", &entry.headers), ("query", &entry.query)] {
        if !named.is_empty() {
            let values = named.iter().map(|(name, wanted)| (name.clone(), value(wanted)));
            written.insert(key.to_owned(), Value::Object(values.collect()));
        }
    }
    Value::Object(written)
}

fn value(wanted: &ValueMatch) -> Value {
    match wanted {
        ValueMatch::Exact(value) => json!(value),
        ValueMatch::Regex(value) => json!({ "regex": bare(value) }),
        ValueMatch::Present => json!({ "present": true }),
        ValueMatch::Absent => json!({ "present": false }),
    }
}
