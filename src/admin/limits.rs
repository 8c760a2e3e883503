//! The limits on requests, connections and memory as the admin API shows them.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::words;
use crate::{
    limit::{CallerState, MemoryWatch, Places},
    service::Service,
    snapshot::{NodeLimits, Snapshot},
    telemetry,
};

/// Of callers, those that are shown.
const SHOWN: usize = 10;

/// A limit on requests.
#[derive(Debug, Serialize, Deserialize)]
pub struct RequestLimit {
    /// Requests that may run, as configured.
    pub max_requests: u32,
    /// Requests that may run now: less than configured where the limit follows latency.
    pub limit: u32,
    /// Requests that run.
    pub running: u32,
    /// Requests that may wait.
    pub max_pending: u32,
    /// Requests that wait.
    pub pending: u32,
    /// Requests that were refused because neither was left.
    pub refused: u64,
    /// RFC 3339: since when requests are refused; none while none is.
    pub open_since: Option<String>,
}

/// What a service may have of this node.
#[derive(Debug, Serialize, Deserialize)]
pub struct BreakerState {
    /// Its requests.
    #[serde(flatten)]
    pub requests: RequestLimit,
    /// Connections to its endpoints that may be open.
    pub max_connections: u32,
    /// Connections to its endpoints that are open.
    pub connections: u32,
}

/// What callers may have, and have.
#[derive(Debug, Serialize, Deserialize)]
pub struct CallerLimits {
    /// Connections of one listener.
    pub connections: u32,
    /// Connections of one caller.
    pub connections_per_caller: usize,
    /// Requests of one caller that may run; none when they are not limited.
    pub requests_per_caller: Option<usize>,
    /// Those with the most connections.
    pub callers: Vec<CallerUse>,
}

/// What one caller has.
#[derive(Debug, Serialize, Deserialize)]
pub struct CallerUse {
    /// Its name, else its address.
    pub caller: String,
    /// Open.
    pub connections: usize,
    /// Running; counted only while they are limited.
    pub requests: usize,
}

/// The memory ceiling.
#[derive(Debug, Serialize, Deserialize)]
pub struct MemoryState {
    /// Bytes above which new work is refused; none when nothing sets a limit.
    pub ceiling_bytes: Option<u64>,
    /// Bytes in use.
    pub used_bytes: Option<u64>,
    /// RFC 3339: since when new work is refused; none while it is taken.
    pub short_since: Option<String>,
}

impl RequestLimit {
    fn of(places: &Places) -> Self {
        let config = places.config();
        Self {
            max_requests: config.max_requests,
            limit: places.limit(),
            running: places.running(),
            max_pending: config.max_pending,
            pending: places.pending(),
            refused: places.refused(),
            open_since: places.refusing_since().map(since),
        }
    }

    pub(super) fn of_node(limits: &NodeLimits) -> Self {
        Self::of(&limits.requests)
    }
}

impl BreakerState {
    pub(super) fn of(service: &Service) -> Self {
        Self {
            requests: RequestLimit::of(&service.breaker.requests),
            max_connections: service.policy.breaker.max_connections,
            connections: service.breaker.connections.count(),
        }
    }
}

impl CallerLimits {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let limits = &snapshot.limits;
        let largest = limits.callers.largest(SHOWN).into_iter();
        let shown = |state: CallerState| CallerUse {
            caller: state.key.to_string(),
            connections: state.connections,
            requests: state.requests,
        };
        Self {
            connections: limits.connections(),
            connections_per_caller: limits.connections_per_caller(),
            requests_per_caller: snapshot.config.limits.requests_per_caller,
            callers: largest.map(shown).collect(),
        }
    }
}

impl MemoryState {
    pub(super) fn of(watch: &MemoryWatch) -> Self {
        Self {
            ceiling_bytes: watch.ceiling(),
            used_bytes: telemetry::own_bytes(),
            short_since: watch.short_since().map(since),
        }
    }
}

/// Of milliseconds since 1970.
fn since(millis: u64) -> String {
    words::time(SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
}
