//! Which path of the admin API is answered by what.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, Uri},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;
use tokio::sync::mpsc;

use super::{
    access::Access,
    actions, callers, config_view,
    connections::Connections,
    dashboard, explain,
    gate::{self, Gate},
    guard::Guard,
    history, map, reloads, routes,
    scrape::{self, Turn},
    services, status, tap,
};
use crate::{
    drain::{Phase, Trigger, Watcher},
    net::{Address, AsyncListener},
    snapshot::{ReloadRequest, Seen, Snapshot},
    telemetry::{Metrics, log::LogControl},
};

/// Every path, as the answer to an unknown one lists them.
const PATHS: [&str; 17] = [
    "/",
    "/live",
    "/ready",
    "/metrics",
    "/api/status",
    "/api/config",
    "/api/services",
    "/api/routes",
    "/api/callers",
    "/api/history",
    "/api/map",
    "/api/reloads",
    "/api/explain",
    "/api/tap",
    "/api/reload",
    "/api/drain",
    "/api/log-level",
];

/// What the admin API reads and presses.
pub struct Admin {
    /// What is in force.
    pub seen: Seen,
    /// What has been counted.
    pub metrics: Arc<Metrics>,
    /// To the control thread, which reloads.
    pub reload: mpsc::UnboundedSender<ReloadRequest>,
    /// Drains the node.
    pub drain: Trigger,
    /// The level of towpath's own log; none when another program's log is in place.
    pub log: Option<LogControl>,
    /// When the node started.
    pub started: SystemTime,
    /// Where it listens.
    pub address: Address,
    /// Who may ask.
    pub access: Arc<Access>,
}

/// What handlers share.
pub(super) struct Shared {
    pub(super) admin: Admin,
    /// Close to when the node started, and never adjusted.
    pub(super) born: Instant,
    /// Of those who scrape.
    pub(super) turn: Arc<Turn>,
    /// The last minutes.
    pub(super) history: history::Kept,
}

impl Shared {
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.admin.seen.snapshot.get()
    }
}

/// Answers on `listener` until `stop` has reached [`Phase::Closed`].
pub async fn serve(admin: Admin, listener: AsyncListener, stop: Watcher) {
    let (access, metrics) = (admin.access.clone(), admin.metrics.clone());
    let guard = Guard::new(&admin.address, &access);
    let gate = Gate::new(guard, access.clone(), metrics.clone());
    let (turn, history) = (Arc::default(), history::Kept::new());
    let shared = Arc::new(Shared { admin, born: Instant::now(), turn, history });
    let app = app(shared.clone(), gate);
    let look = async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            access.look();
        }
    };
    let connections = Connections { app, access: access.clone(), metrics: metrics.clone(), stop };
    tokio::select! {
        () = connections.serve(listener) => {}
        () = look => {}
        () = shared.history.run(&metrics) => {}
    }
}

pub(super) fn app(shared: Arc<Shared>, gate: Gate) -> Router {
    Router::new()
        .route("/", get(dashboard::shell))
        .route("/dashboard/{file}", get(dashboard::asset))
        .route("/live", get(async || "live\n"))
        .route("/ready", get(ready))
        .route("/metrics", get(scrape::metrics))
        .route("/api/status", get(status::status))
        .route("/api/config", get(config_view::config))
        .route("/api/services", get(services::services))
        .route("/api/routes", get(routes::routes))
        .route("/api/callers", get(callers::callers))
        .route("/api/history", get(history::history))
        .route("/api/map", get(map::map))
        .route("/api/reloads", get(reloads::reloads))
        .route("/api/explain", get(explain::answer))
        .route("/api/tap", get(tap::tap))
        .route("/api/reload", post(actions::reload))
        .route("/api/drain", post(actions::drain))
        .route("/api/log-level", get(actions::log_level).put(actions::set_log_level))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(Arc::new(gate), gate::check))
        .with_state(shared)
}

/// An error as JSON: `{"error": text}`.
pub(super) fn refused(status: StatusCode, text: impl Into<String>) -> Response {
    (status, Json(json!({ "error": text.into() }))).into_response()
}

async fn ready(State(shared): State<Arc<Shared>>) -> (StatusCode, &'static str) {
    match shared.admin.drain.phase() {
        Phase::Running => (StatusCode::OK, "ready\n"),
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "not ready: the node is draining\n"),
        Phase::Closed => {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready: the node has drained and is stopping\n")
        }
    }
}

async fn unknown_path(uri: Uri) -> Response {
    let body = json!({ "error": format!("there is no {}", uri.path()), "paths": PATHS });
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}

async fn wrong_method(uri: Uri) -> Response {
    let text = format!("{} does not take this method; `allow` names those that it takes", uri.path());
    refused(StatusCode::METHOD_NOT_ALLOWED, text)
}
