//! `/api/status`: the node in one answer. The command line reads it back.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};

use super::{
    AccessLogState, Admin, CallerLimits, MemoryState, RequestLimit, reloads::Reload, server::Shared,
    token_view::IssuerState, tracing_view::TracingState, words,
};
use crate::{
    drain::Phase,
    snapshot::Door,
    tls::{Keeper, Standing},
};

/// The node.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// `[node] name`.
    pub node: String,
    /// `[node] zone`.
    pub zone: Option<String>,
    /// Of towpath.
    pub version: String,
    /// Number of the configuration in force.
    pub generation: u64,
    /// RFC 3339.
    pub started: String,
    /// Since it started.
    pub uptime_seconds: u64,
    /// Threads that serve connections.
    pub workers: usize,
    /// `running` or `draining`.
    pub state: String,
    /// Its limit on requests.
    pub overload: RequestLimit,
    /// Its memory.
    pub memory: MemoryState,
    /// The admin API itself.
    pub admin: AdminState,
    /// What callers may have.
    pub limits: CallerLimits,
    /// Those that are open.
    pub listeners: Vec<ListenerState>,
    /// Files with certificates that are in use.
    pub certificates: Vec<CertificateState>,
    /// Issuers of tokens.
    pub issuers: Vec<IssuerState>,
    /// Where spans go; none without `[tracing] otlp`.
    pub tracing: Option<TracingState>,
    /// Routes that do something to requests on purpose (`fault`).
    pub routes_with_faults: usize,
    /// The access log, where there is one.
    pub access_log: Option<AccessLogState>,
    /// How many look on (`/api/tap`).
    pub taps: usize,
    /// The last configuration that was read.
    pub last_reload: Reload,
}

/// The admin API itself.
#[derive(Debug, Serialize, Deserialize)]
pub struct AdminState {
    /// Where it really listens.
    pub address: String,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// What callers are asked for, any of these; nothing when whoever reaches it may do everything.
    pub demands: Vec<String>,
    /// Why tokens are not what their files hold.
    pub problems: Vec<String>,
}

/// One listener that is open.
#[derive(Debug, Serialize, Deserialize)]
pub struct ListenerState {
    /// Its name.
    pub name: String,
    /// `outgoing` or `incoming`.
    pub kind: String,
    /// Where it really listens.
    pub address: String,
    /// Open now.
    pub connections: i64,
    /// `plain`, `tls`, or `mutual` where callers show certificates too (`optional` where they may).
    pub tls: String,
}

/// A file with certificates that are in use.
#[derive(Debug, Serialize, Deserialize)]
pub struct CertificateState {
    /// Which.
    pub file: String,
    /// When the first of them ends; RFC 3339.
    pub ends: String,
    /// Why what is in the file now is not in use.
    pub problem: Option<String>,
}

impl CertificateState {
    /// Each file once.
    fn all(keeper: &Keeper) -> Vec<Self> {
        let mut standing = keeper.standing();
        standing.sort_by(|a, b| (&a.file, a.ends).cmp(&(&b.file, b.ends)));
        standing.dedup_by(|later, first| {
            let same = later.file == first.file;
            if same && first.problem.is_none() {
                first.problem = later.problem.take();
            }
            same
        });
        let state = |standing: Standing| Self {
            file: standing.file.display().to_string(),
            ends: words::time(standing.ends),
            problem: standing.problem,
        };
        standing.into_iter().map(state).collect()
    }
}

impl ListenerState {
    fn of(door: &Door) -> Self {
        Self {
            name: door.name.to_string(),
            kind: words::kind(door.kind).to_owned(),
            address: door.address.to_string(),
            connections: door.series.connections.get(),
            tls: words::tls(door.tls.as_ref().map(|tls| &tls.wanted)).to_owned(),
        }
    }
}

impl AdminState {
    fn of(admin: &Admin) -> Self {
        let access = &admin.access;
        Self {
            address: admin.address.to_string(),
            tls: access.tls.is_some(),
            demands: access.demands().into_iter().map(str::to_owned).collect(),
            problems: access.problems(),
        }
    }
}

impl Status {
    pub(super) fn of(shared: &Shared) -> Self {
        let snapshot = shared.snapshot();
        let node = &snapshot.config.node;
        let doors = shared.admin.seen.doors.get();
        let dropped = shared.admin.metrics.access_log_dropped.get();
        Self {
            node: node.name.to_string(),
            zone: node.zone.as_deref().map(str::to_owned),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            generation: snapshot.generation,
            started: words::time(shared.admin.started),
            uptime_seconds: shared.born.elapsed().as_secs(),
            workers: node.workers.get(),
            state: if shared.admin.drain.phase() == Phase::Running { "running" } else { "draining" }
                .to_owned(),
            overload: RequestLimit::of_node(&snapshot.limits),
            memory: MemoryState::of(&snapshot.limits.memory),
            admin: AdminState::of(&shared.admin),
            limits: CallerLimits::of(&snapshot),
            listeners: doors.iter().map(|door| ListenerState::of(door)).collect(),
            certificates: CertificateState::all(&shared.admin.seen.keeper),
            issuers: snapshot.providers.iter().map(|provider| IssuerState::of(provider)).collect(),
            tracing: TracingState::of(&snapshot),
            routes_with_faults: snapshot.routes.iter().filter(|route| route.fault.is_some()).count(),
            access_log: AccessLogState::of(&snapshot.config, &snapshot.observers, dropped),
            taps: snapshot.observers.tap.watchers(),
            last_reload: Reload::last(shared),
        }
    }
}

pub(super) async fn status(State(shared): State<Arc<Shared>>) -> Json<Status> {
    Json(Status::of(&shared))
}
