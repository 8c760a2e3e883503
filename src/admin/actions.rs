//! What changes the node: reload, drain, the level of its log.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::oneshot;

use super::server::{Shared, refused};
use crate::{
    drain::Phase,
    snapshot::{ReloadRequest, Reloaded},
    telemetry::log::LogControl,
};

/// The answer to a reload that was not refused. The command line reads it back.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReloadAnswer {
    /// `applied` or `unchanged`.
    pub result: String,
    /// The number in force.
    pub generation: u64,
}

impl From<Reloaded> for ReloadAnswer {
    fn from(reloaded: Reloaded) -> Self {
        match reloaded {
            Reloaded::Applied { generation } => Self { result: "applied".to_owned(), generation },
            Reloaded::Unchanged { generation } => Self { result: "unchanged".to_owned(), generation },
        }
    }
}

/// Waits for the outcome.
pub(super) async fn reload(State(shared): State<Arc<Shared>>) -> Response {
    if shared.admin.drain.phase() != Phase::Running {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "the node is draining and reloads no more");
    }
    let (reply, outcome) = oneshot::channel();
    // Where nobody takes the request, nobody replies either.
    let _ = shared.admin.reload.send(ReloadRequest { text: None, reply });
    match outcome.await {
        Ok(Ok(reloaded)) => Json(ReloadAnswer::from(reloaded)).into_response(),
        Ok(Err(problems)) => refused(StatusCode::UNPROCESSABLE_ENTITY, problems),
        Err(_) => refused(StatusCode::SERVICE_UNAVAILABLE, "the node is stopping and reloads no more"),
    }
}

/// Does not wait: `/api/status` and the end of the process say how far it is.
pub(super) async fn drain(State(shared): State<Arc<Shared>>) -> Response {
    shared.admin.drain.advance(Phase::Draining);
    Json(json!({ "state": "draining" })).into_response()
}

pub(super) async fn log_level(State(shared): State<Arc<Shared>>) -> Response {
    shared.admin.log.map_or_else(no_log, |log| format!("{}\n", log.get()).into_response())
}

pub(super) async fn set_log_level(State(shared): State<Arc<Shared>>, level: String) -> Response {
    shared.admin.log.map_or_else(no_log, |log| set(log, level.trim()))
}

fn set(log: LogControl, level: &str) -> Response {
    match log.set(level) {
        Ok(()) => format!("{level}\n").into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

fn no_log() -> Response {
    (
        StatusCode::NOT_FOUND,
        "this process did not start towpath's log, so its level is not towpath's to say\n",
    )
        .into_response()
}
