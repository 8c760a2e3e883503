//! `/api/history[?service=NAME]`: requests, failures and latency of the last ten minutes, step by step.
//!
//! What counts as a failure, and how percentiles are read, is said in `telemetry/history`.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use super::server::{Shared, refused};
use crate::telemetry::{self, HISTORY_STEP, Metrics, Sample};

/// The last ten minutes of the node.
#[derive(Debug, Serialize, Deserialize)]
pub struct Past {
    /// Between two steps.
    pub interval_seconds: f64,
    /// When each step ended, in seconds since 1970; oldest first. Less than 120 in the first ten minutes.
    pub times: Vec<f64>,
    /// How long each step really was.
    pub seconds: Vec<f64>,
    /// How long the last minute is: less after a start.
    pub minute_seconds: f64,
    /// All requests, those without a service included. Its name is empty.
    pub node: Series,
    /// Those with requests, by name; of more than 256, those with the most.
    pub services: Vec<Series>,
}

/// A service or the node. The lists have one number per step.
#[derive(Debug, Serialize, Deserialize)]
pub struct Series {
    /// Of the service.
    pub name: String,
    /// That ended in the step.
    pub requests: Vec<u32>,
    /// Whose callers got a status of 500 or above, towpath's own included.
    pub failures: Vec<u32>,
    /// Attempts after a request's first.
    pub retries: Vec<u32>,
    /// Half of the requests took no longer; null without requests.
    pub p50_ms: Vec<Option<f64>>,
    /// 95 % of the requests took no longer.
    pub p95_ms: Vec<Option<f64>>,
    /// 99 % of the requests took no longer.
    pub p99_ms: Vec<Option<f64>>,
    /// The last minute as one.
    pub minute: Minute,
}

/// The same, of the last minute.
#[derive(Debug, Serialize, Deserialize)]
pub struct Minute {
    /// All.
    pub requests: u32,
    /// Whose callers got a status of 500 or above, towpath's own included.
    pub failures: u32,
    /// Attempts after a request's first.
    pub retries: u32,
    /// Half of the requests took no longer.
    pub p50_ms: Option<f64>,
    /// 95 % of the requests took no longer.
    pub p95_ms: Option<f64>,
    /// 99 % of the requests took no longer.
    pub p99_ms: Option<f64>,
}

/// The history, which the control thread writes and reads.
pub(super) struct Kept(Mutex<telemetry::History>);

impl Kept {
    pub(super) fn new() -> Self {
        Self(Mutex::new(telemetry::History::new(Instant::now())))
    }

    pub(super) fn get(&self) -> MutexGuard<'_, telemetry::History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes its steps for as long as it is polled.
    pub(super) async fn run(&self, metrics: &Metrics) {
        let mut steps = tokio::time::interval(HISTORY_STEP);
        steps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first comes at once.
        steps.tick().await;
        loop {
            steps.tick().await;
            self.get().step(metrics, Instant::now(), SystemTime::now());
        }
    }
}

/// What may stand behind the question mark.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    service: Option<String>,
}

pub(super) async fn history(
    State(shared): State<Arc<Shared>>,
    parameters: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
) -> Response {
    match parameters {
        Ok(Query(parameters)) => Json(Past::of(&shared, parameters.service.as_deref())).into_response(),
        Err(_) => refused(StatusCode::BAD_REQUEST, "there is one parameter, once: `service`"),
    }
}

impl Past {
    fn of(shared: &Shared, service: Option<&str>) -> Self {
        let history = shared.history.get();
        let (times, seconds) = history.steps().unzip();
        let services = match service {
            Some(name) => vec![history.service(name)],
            None => history.services(),
        };
        Self {
            interval_seconds: HISTORY_STEP.as_secs_f64(),
            times,
            seconds,
            minute_seconds: history.minute_seconds(),
            node: Series::of(history.node()),
            services: services.into_iter().map(Series::of).collect(),
        }
    }
}

impl Series {
    fn of(past: telemetry::Past) -> Self {
        let all = &past.samples;
        let quantile = |which: usize| all.iter().map(|sample| millis(sample, which)).collect();
        Self {
            requests: all.iter().map(|sample| sample.requests).collect(),
            failures: all.iter().map(|sample| sample.failures).collect(),
            retries: all.iter().map(|sample| sample.retries).collect(),
            p50_ms: quantile(0),
            p95_ms: quantile(1),
            p99_ms: quantile(2),
            minute: Minute::of(&past.minute),
            name: past.name,
        }
    }
}

impl Minute {
    fn of(sample: &Sample) -> Self {
        Self {
            requests: sample.requests,
            failures: sample.failures,
            retries: sample.retries,
            p50_ms: millis(sample, 0),
            p95_ms: millis(sample, 1),
            p99_ms: millis(sample, 2),
        }
    }
}

/// To the microsecond: buckets know no better.
fn millis(sample: &Sample, which: usize) -> Option<f64> {
    sample.quantiles.map(|all| (f64::from(all[which]) * 1e3).round() / 1e3)
}
