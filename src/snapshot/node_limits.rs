//! How much this node carries: places for requests, and the memory ceiling. Outlives every snapshot; a reload changes what is allowed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};

use super::Snapshot;
use crate::{
    config::Config,
    limit::{Breaking, Callers, Handshakes, MemoryChange, MemoryWatch, Occasional, Places},
    published::Published,
    service,
    telemetry::{self, LimitSeries, Metrics},
};

/// How often the memory in use is looked at. In a tenth of a second a node takes in some ten megabytes of requests, less than the tenth
/// that is left above the ceiling.
const LOOK: Duration = Duration::from_millis(100);

/// The node's own limits.
pub struct NodeLimits {
    /// For requests, over all listeners.
    pub requests: Arc<Places>,
    /// Of TLS with callers.
    pub handshakes: Handshakes,
    /// The ceiling.
    pub memory: MemoryWatch,
    /// What each caller has.
    pub callers: Arc<Callers>,
    /// Connections that were closed at once, by what there were too many of.
    pub refused_by_listener: Occasional,
    /// The same.
    pub refused_by_caller: Occasional,
    /// HTTP/2 connections that were closed because of what came on them.
    pub floods: Occasional,
    connections: AtomicUsize,
    connections_per_caller: AtomicUsize,
    /// Metrics of `requests`.
    pub series: LimitSeries,
    metrics: Arc<Metrics>,
}

impl NodeLimits {
    pub(super) fn new(metrics: &Arc<Metrics>, config: &Config) -> Arc<Self> {
        let limits = Self {
            requests: Arc::new(Places::new(metrics.workers(), &config.overload)),
            handshakes: Handshakes::new(config.limits.max_handshakes),
            memory: MemoryWatch::default(),
            callers: Arc::default(),
            refused_by_listener: Occasional::default(),
            refused_by_caller: Occasional::default(),
            floods: Occasional::default(),
            connections: AtomicUsize::default(),
            connections_per_caller: AtomicUsize::default(),
            series: metrics.node_limit_series(),
            metrics: metrics.clone(),
        };
        limits.configure(config);
        Arc::new(limits)
    }

    pub(super) fn configure(&self, config: &Config) {
        self.requests.configure(&config.overload);
        self.handshakes.configure(config.limits.max_handshakes);
        self.series.limit.set(self.requests.limit());
        self.connections.store(config.limits.connections, Relaxed);
        self.connections_per_caller.store(config.limits.connections_per_caller, Relaxed);
        self.look(config);
    }

    /// That one listener may have.
    pub fn connections(&self) -> u32 {
        u32::try_from(self.connections.load(Relaxed)).unwrap_or(u32::MAX)
    }

    /// That one caller may have.
    pub fn connections_per_caller(&self) -> usize {
        self.connections_per_caller.load(Relaxed)
    }

    /// To be called about once a second.
    pub(super) fn sweep(&self) {
        let (limit, refused) = (self.requests.limit(), self.requests.refused());
        self.series.limit.set(limit);
        match self.requests.sweep() {
            Some(Breaking::Begins) => {
                tracing::warn!(limit, "the node is overloaded: as many requests run and wait as may");
            }
            Some(Breaking::Ends) => tracing::info!(refused, "the node is no longer overloaded"),
            None => {}
        }
    }

    fn look(&self, config: &Config) {
        let ceiling = config.limits.memory;
        if ceiling.is_none() && self.memory.ceiling().is_none() {
            return;
        }
        let used = telemetry::own_bytes().unwrap_or(0);
        let change = self.memory.look(used, ceiling, service::unix_millis());
        if change.is_some() {
            self.metrics.memory_pressure.set(self.memory.is_short());
        }
        match change {
            Some(MemoryChange::Reached) => {
                tracing::warn!(used, ceiling, "the memory ceiling is reached: new work is refused");
            }
            Some(MemoryChange::Left) => tracing::info!(used, ceiling, "there is memory for new work again"),
            None => {}
        }
    }
}

/// Looks at the memory in use, until this is dropped. On the control thread: it reads `/proc`.
pub async fn watch_memory(snapshot: Published<Snapshot>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let snapshot = snapshot.get();
        snapshot.limits.look(&snapshot.config);
    }
}
