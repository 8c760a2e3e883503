//! What all workers share about one service.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, oneshot, watch};

use super::{
    breaker::Breaker,
    budgets::Budgets,
    endpoints::{EndpointSet, Known, Of},
    neighbourhood::Neighbourhood,
    standing::Standing,
    way::Way,
};
use crate::{
    config::{Name, ServicePolicy, Source},
    discovery,
    published::Published,
    telemetry::{Metrics, ServiceSeries},
};

/// For so long after a reload requests may come by services that it replaced: somewhat longer than workers keep views.
const LEAVING: Duration = Duration::from_secs(10);

/// A name, its endpoints and its policies. Immutable but for the endpoints, which discovery replaces.
pub struct Service {
    /// As configured, or the host that it was made for.
    pub name: Name,
    /// Where its endpoints come from.
    pub source: Source,
    /// How they are spoken to and chosen.
    pub policy: ServicePolicy,
    /// How they are reached.
    pub way: Way,
    /// How much it may have of this node.
    pub breaker: Breaker,
    /// Its metrics.
    pub series: ServiceSeries,
    pub(super) budgets: Arc<Budgets>,
    pub(super) endpoints: Published<EndpointSet>,
    /// For those who have another service to go to.
    pub(super) standing: Arc<Standing>,
    metrics: Arc<Metrics>,
    neighbourhood: Arc<Neighbourhood>,
    changed: watch::Sender<()>,
    /// A request waits for the first answer.
    pub(super) wanted: Arc<Notify>,
    /// The endpoints are a successor's, or nobody's: what this service still hears is not for it.
    handed_over: AtomicBool,
    /// It is no longer to be found under its name.
    retired: AtomicBool,
    /// When the first of that name was built, in a row that took over from each other.
    born: Instant,
    /// Milliseconds from `born` to the last request.
    last_used: AtomicU64,
    /// Which left their endpoints to this one, and when.
    predecessors: Mutex<Vec<(Instant, Weak<Self>)>>,
    /// Ends discovery when the service is dropped.
    follower: Mutex<Option<oneshot::Sender<()>>>,
    /// Ends its health checks.
    checker: Mutex<Option<oneshot::Sender<()>>>,
}

impl Service {
    /// Builds the service; endpoints that `previous` (of the same name) has are taken over with their state.
    pub fn new(
        name: Name,
        source: Source,
        (policy, way): (ServicePolicy, Way),
        (metrics, neighbourhood): (&Arc<Metrics>, &Arc<Neighbourhood>),
        previous: Option<&Self>,
    ) -> Self {
        let series = metrics.service_series(&name);
        let before = previous.map(|previous| &previous.breaker);
        let breaker = Breaker::new(&name, &policy.breaker, metrics, before);
        let connections = &breaker.connections;
        let host = host_of(&source);
        let of = Of {
            service: &name,
            policy: &policy,
            neighbourhood,
            way: &way,
            host,
            series: &series,
            connections,
            metrics,
        };
        let set = first_set(&source, &of, previous);
        Self {
            endpoints: Published::new(Arc::new(set)),
            name,
            source,
            policy,
            way,
            breaker,
            series,
            standing: previous.map(|previous| previous.standing.clone()).unwrap_or_default(),
            budgets: Budgets::of(previous),
            metrics: metrics.clone(),
            neighbourhood: neighbourhood.clone(),
            changed: watch::Sender::new(()),
            wanted: Arc::default(),
            handed_over: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            born: previous.map_or_else(Instant::now, |previous| previous.born),
            last_used: previous.map_or(0, |previous| previous.last_used.load(Ordering::Relaxed)).into(),
            predecessors: Mutex::default(),
            follower: Mutex::new(None),
            checker: Mutex::new(None),
        }
    }

    /// The endpoints now.
    pub fn endpoints(&self) -> Arc<EndpointSet> {
        self.endpoints.get()
    }

    /// Stops listening to discovery and leaves name and endpoints to `successor`. What that hears of the same source within
    /// the next seconds is for this one as well.
    pub fn hand_over(self: &Arc<Self>, successor: &Self) {
        self.retired.store(true, Ordering::Release);
        self.leave(Some(&successor.endpoints.get()));
        if self.handed_over.load(Ordering::Acquire) && self.source == successor.source {
            let before = std::mem::take(&mut *self.lock_predecessors());
            let all = before.into_iter().chain([(Instant::now(), Arc::downgrade(self))]);
            successor.lock_predecessors().extend(all);
        }
    }

    fn lock_predecessors(&self) -> MutexGuard<'_, Vec<(Instant, Weak<Self>)>> {
        self.predecessors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that requests may still come by.
    fn predecessors(&self) -> Vec<Arc<Self>> {
        let mut predecessors = self.lock_predecessors();
        predecessors.retain(|(since, of)| since.elapsed() < LEAVING && of.strong_count() > 0);
        predecessors.iter().filter_map(|(_, of)| of.upgrade()).collect()
    }

    /// Publishes `new`, for predecessors by their own policies.
    fn publish(&self, new: Arc<EndpointSet>) {
        let found = self.endpoints.get().found.clone();
        self.endpoints.publish(new.clone());
        if !Arc::ptr_eq(&found, &new.found) {
            for predecessor in self.predecessors() {
                predecessor.endpoints.publish(Arc::new(new.seen_by(&predecessor.of())));
            }
        }
    }

    /// Before the first answer there is nothing to leave, and requests that wait for it: they shall have it.
    fn leave(&self, successor: Option<&EndpointSet>) {
        let endpoints = self.endpoints.get();
        if endpoints.is_awaited() {
            return;
        }
        self.handed_over.store(true, Ordering::Release);
        self.stop_following();
        endpoints.retire(successor);
    }

    /// Takes in what discovery found.
    pub(super) fn update(&self, update: discovery::Update) {
        if self.handed_over.load(Ordering::Acquire) {
            return;
        }
        let old = self.endpoints.get();
        let new = match update {
            discovery::Update::Endpoints(found) => {
                let same = *old.found == *found;
                self.series.discovery_update(if same { "unchanged" } else { "changed" });
                EndpointSet::found(&found, &old, &self.of())
            }
            discovery::Update::Failed(failure) => {
                self.series.discovery_update("failed");
                old.failing(failure.message)
            }
            discovery::Update::Expired(failure) => {
                self.series.discovery_update("expired");
                old.expired(failure.message)
            }
        };
        let new = Arc::new(new);
        self.publish(new.clone());
        old.retire(Some(&new));
        self.changed.send_replace(());
    }

    fn of(&self) -> Of<'_> {
        Of {
            service: &self.name,
            policy: &self.policy,
            neighbourhood: &self.neighbourhood,
            way: &self.way,
            host: host_of(&self.source),
            series: &self.series,
            connections: &self.breaker.connections,
            metrics: &self.metrics,
        }
    }

    /// Housekeeping; to be called about once a second.
    pub fn sweep(&self) {
        self.predecessors();
        self.sweep_budgets();
        self.breaker.sweep(&self.name);
        self.series.discovery_age.set(self.discovery_age().unwrap_or(Duration::ZERO).as_secs_f64());
        let set = self.endpoints.get();
        if set.ward.has_news() {
            // Workers set it as well, and may do so in the wrong order.
            set.show_available();
        }
        set.ward.note_probes(set.endpoints.iter().map(|endpoint| &endpoint.gate));
        let panic = set.is_panicking(&self.policy);
        if panic != (self.series.panic.get() > 0.0) {
            self.series.panic.set(panic);
            let (service, usable, endpoints) = (&*self.name, set.usable(), set.endpoints.len());
            if panic {
                tracing::warn!(service, usable, endpoints, "too few endpoints are usable: all are used");
            } else {
                tracing::info!(service, usable, endpoints, "enough endpoints are usable again");
            }
        }
    }

    /// Returns once discovery has said anything, good or bad, or there are endpoints already.
    pub async fn first_answer(&self) {
        let mut changed = self.changed.subscribe();
        self.wanted.notify_one();
        while self.endpoints.get().is_awaited() {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Discovery runs until the sender is dropped with the service.
    pub(super) fn followed_by(&self, follower: oneshot::Sender<()>) {
        *self.follower.lock().unwrap_or_else(PoisonError::into_inner) = Some(follower);
    }

    /// Health checks run until the sender is dropped with the service, or another takes its place. They go by what is received of
    /// changes of the endpoints.
    pub(super) fn checked_by(&self, checker: oneshot::Sender<()>) -> watch::Receiver<()> {
        *self.checker.lock().unwrap_or_else(PoisonError::into_inner) = Some(checker);
        self.changed.subscribe()
    }

    fn stop_following(&self) {
        self.follower.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.checker.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Notes that a request uses it. Writes at most once a second, so that workers share the line in peace.
    pub fn touch(&self) {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        if now.saturating_sub(self.last_used.load(Ordering::Relaxed)) > 1000 {
            self.last_used.store(now, Ordering::Relaxed);
        }
    }

    /// How long no request has used it.
    pub fn idle(&self) -> Duration {
        let last = Duration::from_millis(self.last_used.load(Ordering::Relaxed));
        self.born.elapsed().saturating_sub(last)
    }

    /// Says that it is no longer to be found under its name. Requests that have it finish.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.leave(None);
    }

    /// Whether it is no longer to be found under its name.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Seconds since the last good answer of discovery; none for fixed endpoints and before the first answer.
    pub fn discovery_age(&self) -> Option<Duration> {
        match (&self.source, &self.endpoints.get().known) {
            (Source::Fixed(_), _) | (_, Known::Nothing) => None,
            // It is watched: what it said last is what it says.
            (Source::File(_), Known::Current { .. }) => Some(Duration::ZERO),
            (_, Known::Current { since }) => Some(since.elapsed()),
            (_, Known::Failing { since, .. }) => since.map(|since| since.elapsed()),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if !*self.handed_over.get_mut() {
            self.endpoints.get().abandon();
        }
    }
}

/// What endpoints are called where nothing else is configured: as their source finds them.
fn host_of(source: &Source) -> Option<&str> {
    match source {
        Source::Dns { host, .. } => Some(host),
        _ => None,
    }
}

/// Fixed endpoints are known at once; resolved ones are, when the predecessor asked the same question. The endpoints of
/// another source stay in use until the new one answers.
fn first_set(source: &Source, of: &Of<'_>, previous: Option<&Service>) -> EndpointSet {
    // A predecessor that waits for its first answer will still have endpoints of its own: it shares nothing.
    let old = previous.map(|previous| (&previous.source, previous.endpoints.get()));
    let old = old.filter(|(_, set)| !set.is_awaited()).map(|(source, set)| (source, set.laid_out(of)));
    match (source, old) {
        (Source::Fixed(fixed), old) => {
            let old = old.map_or_else(EndpointSet::unknown, |(_, set)| set);
            EndpointSet::found(&discovery::fixed(fixed), &old, of)
        }
        (_, None) => EndpointSet::unknown(),
        (source, Some((known, old))) if source == known => old,
        (_, Some((_, old))) if old.endpoints.is_empty() => EndpointSet::unknown(),
        (_, Some((_, old))) => EndpointSet { known: Known::Nothing, ..old },
    }
}
