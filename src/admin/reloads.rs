//! `/api/reloads`: the last configurations that were read, and what came of each.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};

use super::{server::Shared, words};
use crate::snapshot::{Attempt, Reloaded};

/// The last twenty. The oldest of a young node is its start.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reloads {
    /// Number of the configuration in force.
    pub generation: u64,
    /// The last first.
    pub reloads: Vec<Reload>,
}

/// What came of a configuration that was read.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reload {
    /// RFC 3339.
    pub at: String,
    /// `applied`, `unchanged` or `rejected`.
    pub result: String,
    /// Number of the configuration in force after it.
    #[serde(default)]
    pub generation: u64,
    /// Every problem, a line each, when it was rejected; cut off after 16 KiB.
    pub error: Option<String>,
}

impl Reload {
    fn of(attempt: &Attempt) -> Self {
        let (result, error) = match &attempt.outcome {
            Ok(Reloaded::Applied { .. }) => ("applied", None),
            Ok(Reloaded::Unchanged { .. }) => ("unchanged", None),
            Err(problems) => ("rejected", Some(problems.clone())),
        };
        Self { at: words::time(attempt.at), result: result.to_owned(), generation: attempt.generation, error }
    }

    pub(super) fn last(shared: &Shared) -> Self {
        let attempts = shared.admin.seen.attempts.get();
        let last = attempts.latest_first().next();
        last.map(Self::of).expect("a node that answers has read a configuration")
    }
}

pub(super) async fn reloads(State(shared): State<Arc<Shared>>) -> Json<Reloads> {
    let attempts = shared.admin.seen.attempts.get();
    let reloads = attempts.latest_first().map(Reload::of).collect();
    Json(Reloads { generation: shared.snapshot().generation, reloads })
}
