//! The endpoints that a service has now: one immutable set, replaced whole.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use super::{
    checked::Checked,
    clock,
    layout::Layout,
    neighbourhood::Neighbourhood,
    pinned::ByAddress,
    way::{Through, Way},
};
use crate::{
    balance::{self, Latency, Place},
    config::{Name, ServicePolicy},
    discovery,
    health::{Admission, Change, Ejected, Gate, Sign, Ward},
    limit::Connections,
    net::{Address, Own},
    telemetry::{AttemptOutcome, EndpointSeries, Metrics, ServiceSeries},
    upstream::Target,
};

/// One address of a service, with what all workers know of it. It lives on through reloads and discovery updates
/// for as long as the service has the address.
pub struct Endpoint {
    /// What connections are made to.
    pub target: Arc<Target>,
    /// Through which towpath requests go; none: to the endpoint itself.
    pub through: Option<Through>,
    /// Whether it is on this node, as far as that was known when it came.
    pub is_here: bool,
    /// The address, as logs name it.
    pub address: Address,
    /// Since when the service has it.
    pub since: Instant,
    /// It joined endpoints that the service had: only then does it start slowly.
    joined: bool,
    /// Attempts that are running, over all workers.
    load: AtomicU32,
    /// Of its answers, over all workers.
    latency: Latency,
    /// Whether requests may go to it.
    pub(super) gate: Gate,
    /// What health checks know of it.
    pub(super) checked: Checked,
    pub(super) series: EndpointSeries,
}

/// Whether an endpoint gets requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Usable,
    /// None before this time has passed, but for those of a service that uses all.
    Ejected(Duration),
    /// None but the one that runs, which tells what becomes of it.
    Probed,
    /// None: its health checks fail. It may be ejected as well.
    Unwell,
}

/// An ejection that lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// `consecutive_failures`, `success_rate` or `latency`.
    pub why: &'static str,
    /// When it began.
    pub since: SystemTime,
    /// When a request may try the endpoint; None while one does.
    pub until: Option<SystemTime>,
    /// How many there were without a long time between them, failed probes included.
    pub times: u32,
}

impl Endpoint {
    pub(super) fn new(of: &Of<'_>, address: SocketAddr, joined: bool, own: &Own) -> Self {
        let is_here = of.neighbourhood.is_here(address.ip(), own);
        let endpoint = of.metrics.endpoint_series(of.service, &address.to_string());
        endpoint.available.set(true);
        Self {
            target: Arc::new(Target::new(
                address,
                of.way.secure(of.host, address.ip()),
                of.series.upstream_connections.clone(),
                of.connections.clone(),
            )),
            through: of.way.through(of.service, address, is_here),
            is_here,
            address: Address::Tcp(address),
            since: Instant::now(),
            joined,
            load: AtomicU32::new(0),
            latency: Latency::new(),
            gate: Gate::default(),
            checked: Checked::new(of.policy.health_check.as_ref()),
            series: endpoint,
        }
    }

    /// It is new to its service, which may want to see it pass a check first.
    pub(super) fn join(&self, of: &Of<'_>, ward: &Ward) {
        if of.policy.health_check.as_ref().is_some_and(|check| check.first_pass) {
            self.gate.mark_unwell(ward);
        }
    }

    /// Attempts that are running, over all workers.
    pub fn load(&self) -> u32 {
        self.load.load(Ordering::Relaxed)
    }

    pub(super) fn begin(&self) {
        self.load.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
    }

    /// What its answers take, as it was when the last one came; none before the first.
    pub fn latency(&self) -> Option<Duration> {
        self.latency.read()
    }

    /// What a further request would cost, by [`Latency::cost`].
    pub(super) fn cost(&self, now: u32, decay: Duration, each: f32) -> f32 {
        self.latency.cost(now, decay, self.load(), each)
    }

    /// How warm it is, from 0.1 to 1, where endpoints start over `slow_start`.
    pub(super) fn warmth(&self, slow_start: Duration) -> f32 {
        if self.joined { balance::warmth(self.since.elapsed(), slow_start) } else { 1.0 }
    }

    /// Whether it gets requests.
    pub fn health(&self) -> Health {
        let now = clock::millis();
        match self.gate.ejected() {
            _ if self.gate.is_unwell() => Health::Unwell,
            None => Health::Usable,
            Some(_) if self.gate.is_probed(now) => Health::Probed,
            Some(Ejected { until, .. }) => Health::Ejected(Duration::from_millis(until.saturating_sub(now))),
        }
    }

    /// Its ejection, if it is ejected.
    pub fn ejection(&self) -> Option<Ejection> {
        let Ejected { why, since, until, times } = self.gate.ejected()?;
        let (now, of) = (SystemTime::now(), clock::millis());
        let until = Duration::from_millis(until.saturating_sub(of));
        Some(Ejection {
            why: why.as_str(),
            since: now - Duration::from_millis(of.saturating_sub(since)),
            until: (!self.gate.is_probed(of)).then(|| now + until),
            times,
        })
    }

    /// Counts an attempt that was made on it since `begun`, by right of `admission`.
    pub(super) fn report(
        &self,
        of: &EndpointSet,
        (outcome, admission): (AttemptOutcome, Admission),
        begun: Instant,
    ) {
        self.series.request(outcome);
        let ended = Instant::now();
        let (millis, elapsed) = (clock::millis_at(ended), ended.saturating_duration_since(begun));
        let (now, decay) = (millis as u32, of.layout.decay);
        self.judge(of, outcome, (Sign::of(outcome, elapsed, &of.layout.ejection), admission), millis);
        match outcome {
            AttemptOutcome::Success => self.latency.observe(now, elapsed, decay),
            // Says nothing but that an answer would have taken longer.
            AttemptOutcome::Cancelled => {
                if self.latency.read().is_none_or(|known| known < elapsed) {
                    self.latency.observe(now, elapsed, decay);
                }
            }
            AttemptOutcome::Closed => {}
            _ => self.latency.fail(now, elapsed, decay),
        }
    }

    /// Whether it may be chosen, in the metric. Others may set it as well, in the wrong order: a sweep sets that right.
    pub(super) fn show_available(&self) {
        self.series.available.set(self.gate.is_usable());
    }

    /// Counts that an attempt which was made on it since `begun`, by right of `admission`, is being answered: how long that took, and
    /// that it answers at all, on which a probe need not wait until a long answer ends. That it took too long is counted now as well.
    pub(super) fn answered(&self, of: &EndpointSet, admission: Admission, begun: Instant) -> Instant {
        let heard = Instant::now();
        let (now, elapsed) = (clock::millis_at(heard), heard.saturating_duration_since(begun));
        self.latency.observe(now as u32, elapsed, of.layout.decay);
        let sign = Sign::of(AttemptOutcome::Success, elapsed, &of.layout.ejection);
        if admission != Admission::Usable || sign == Sign::Slow {
            self.judge(of, AttemptOutcome::Success, (sign, admission), now);
        }
        heard
    }

    /// Counts how such an answer ended, unless it was too slow already.
    pub(super) fn ended(&self, of: &EndpointSet, outcome: AttemptOutcome, times: (Instant, Instant)) {
        self.series.request(outcome);
        let (begun, heard) = times;
        let elapsed = heard.saturating_duration_since(begun);
        let sign = match Sign::of(AttemptOutcome::Success, elapsed, &of.layout.ejection) {
            Sign::Slow => Sign::None,
            _ => Sign::of(outcome, Duration::ZERO, &of.layout.ejection),
        };
        match outcome {
            AttemptOutcome::Success => {
                // Only the share of successes asks when, and then it is the end that counts: the head may be of long ago, and a
                // window takes no such moment.
                let windowed = of.layout.ejection.success_percent > 0;
                let now = if windowed { clock::millis() } else { clock::millis_at(heard) };
                self.judge(of, outcome, (sign, Admission::Usable), now);
            }
            // It may be the caller who did not take it.
            AttemptOutcome::Timeout | AttemptOutcome::Cancelled => {}
            _ => {
                let now = clock::millis();
                self.judge(of, outcome, (sign, Admission::Usable), now);
                self.latency.fail(now as u32, Duration::ZERO, of.layout.decay);
            }
        }
    }

    /// Has the gate count it, at this moment.
    fn judge(&self, of: &EndpointSet, outcome: AttemptOutcome, by: (Sign, Admission), now: u64) {
        let policy = (&*of.ward, &of.layout.ejection);
        if let Some(change) = self.gate.report(policy, by, now, || fastrand::u64(..)) {
            self.tell(change, outcome, &of.ward);
        }
    }

    /// In metrics and in the log.
    #[cold]
    fn tell(&self, change: Change, outcome: AttemptOutcome, ward: &Ward) {
        self.show_available();
        if let Change::Ejected(..) = change {
            self.series.ejection();
        }
        if !ward.may_log(clock::millis()) {
            return;
        }
        let (service, endpoint, outcome) = (self.series.service(), &self.address, outcome.as_str());
        match change {
            Change::Ejected(time, why) => {
                let why = why.as_str();
                tracing::warn!(service, %endpoint, why, last = outcome, ?time, "an endpoint fails and is ejected");
            }
            Change::Prolonged(time) => {
                tracing::info!(service, %endpoint, last = outcome, ?time, "an ejected endpoint still fails");
            }
            Change::Returned => tracing::info!(service, %endpoint, "an ejected endpoint is used again"),
        }
    }
}

/// What endpoints need of their service.
pub(super) struct Of<'s> {
    pub(super) service: &'s str,
    pub(super) policy: &'s ServicePolicy,
    pub(super) neighbourhood: &'s Neighbourhood,
    pub(super) way: &'s Way,
    /// What endpoints are called where nothing else is configured.
    pub(super) host: Option<&'s str>,
    pub(super) series: &'s ServiceSeries,
    pub(super) connections: &'s Arc<Connections>,
    pub(super) metrics: &'s Metrics,
}

/// What is known about a service's endpoints.
#[derive(Clone, Debug)]
pub enum Known {
    /// Nothing yet: the first answer is awaited. Endpoints that there are all the same come from the source that the
    /// service had before a reload, and are used until then.
    Nothing,
    /// They are as the file or the last answer says.
    Current {
        /// When that was.
        since: Instant,
    },
    /// Discovery fails. The last good answer, if there ever was one, stays in use.
    Failing {
        /// When the last good answer came.
        since: Option<Instant>,
        /// What is wrong, for people.
        message: String,
    },
}

/// The endpoints of a service at one moment.
pub struct EndpointSet {
    /// In the order of their priorities and addresses.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// What discovery says of each.
    pub found: Arc<[discovery::Endpoint]>,
    /// How requests are shared out.
    pub(super) layout: Arc<Layout>,
    /// Until when some endpoint is in its slow start.
    pub(super) warming: Option<Instant>,
    /// Attempts that are running on the service: counted where a hash bounds each endpoint's share of them.
    pub(super) running: Arc<AtomicU32>,
    /// Which endpoints are usable.
    pub(super) ward: Arc<Ward>,
    /// Made when somebody asks first.
    pub(super) by_address: OnceLock<ByAddress>,
    /// How good this knowledge is.
    pub known: Known,
}

impl EndpointSet {
    /// Nothing is known yet.
    pub(super) fn unknown() -> Self {
        Self {
            endpoints: Vec::new(),
            found: Arc::new([]),
            layout: Arc::default(),
            warming: None,
            running: Arc::default(),
            ward: Arc::default(),
            by_address: OnceLock::new(),
            known: Known::Nothing,
        }
    }

    /// Whether the first answer is awaited, and there is nothing to be used meanwhile.
    pub(super) fn is_awaited(&self) -> bool {
        matches!(self.known, Known::Nothing) && self.endpoints.is_empty()
    }

    /// The set that discovery found; endpoints that `previous` has are taken over with their state.
    pub(super) fn found(found: &[discovery::Endpoint], previous: &Self, of: &Of<'_>) -> Self {
        let old: HashMap<SocketAddr, &Arc<Endpoint>> =
            previous.endpoints.iter().map(|endpoint| (endpoint.target.address, endpoint)).collect();
        let own = of.neighbourhood.own();
        let endpoint = |found: &discovery::Endpoint| match old.get(&found.address) {
            Some(endpoint) if endpoint.is_reached_as(of, &own) => {
                endpoint.target.revive();
                if endpoint.gate.rejoin() {
                    endpoint.checked.renew(of.policy.health_check.as_ref());
                    endpoint.join(of, &previous.ward);
                }
                (*endpoint).clone()
            }
            known => {
                let joined = known.is_none() && !old.is_empty();
                let endpoint = Endpoint::new(of, found.address, joined, &own);
                endpoint.join(of, &previous.ward);
                Arc::new(endpoint)
            }
        };
        let endpoints: Vec<_> = found.iter().map(endpoint).collect();
        let same = *found == *previous.found && !endpoints.is_empty();
        let set = Self {
            layout: if same {
                previous.layout.clone()
            } else {
                Arc::new(Layout::new(found, of.policy, of.neighbourhood))
            },
            warming: warming(&endpoints, of.policy.slow_start),
            found: if same { previous.found.clone() } else { found.into() },
            endpoints,
            running: previous.running.clone(),
            ward: previous.ward.clone(),
            by_address: OnceLock::new(),
            known: Known::Current { since: Instant::now() },
        };
        set.settle();
        set
    }

    /// The same endpoints, as a service of another policy or neighbourhood shares requests out among them from now on.
    pub(super) fn laid_out(&self, of: &Of<'_>) -> Self {
        let set = Self { endpoints: self.reached_as(of), ..self.seen_by(of) };
        set.settle();
        set
    }

    /// The same endpoints as a further service shares requests out among them. How many may be ejected stays.
    pub(super) fn seen_by(&self, of: &Of<'_>) -> Self {
        Self {
            layout: Arc::new(Layout::new(&self.found, of.policy, of.neighbourhood)),
            warming: warming(&self.endpoints, of.policy.slow_start),
            ..self.share()
        }
    }

    /// Ejects no more of these endpoints than the policy allows.
    fn settle(&self) {
        let gates = self.endpoints.iter().map(|endpoint| &endpoint.gate);
        self.ward.settle(self.layout.ejection.share(), gates);
        self.show_available();
    }

    /// Sets the metric that says which endpoints are usable.
    pub(super) fn show_available(&self) {
        self.endpoints.iter().for_each(|endpoint| endpoint.show_available());
    }

    /// How many endpoints are usable.
    pub fn usable(&self) -> usize {
        self.endpoints.len().saturating_sub(self.ward.unusable())
    }

    /// Whether all endpoints are used because fewer than `panic_percent` of them are usable.
    pub fn is_panicking(&self, policy: &ServicePolicy) -> bool {
        self.usable() * 100 < self.endpoints.len() * usize::from(policy.panic_percent)
    }

    /// Whether there is an endpoint for one more attempt, none of those that have the numbers in `avoid`.
    pub fn has_another(&self, avoid: &[u64], policy: &ServicePolicy) -> bool {
        let all = self.is_panicking(policy);
        let usable = |endpoint: &Endpoint| all || endpoint.gate.is_usable();
        self.endpoints.iter().any(|endpoint| !avoid.contains(&endpoint.target.id) && usable(endpoint))
    }

    /// The endpoints, by index, that this node's aperture covers: all without one.
    pub fn covered(&self) -> HashSet<usize> {
        self.layout.plan.endpoints().collect()
    }

    /// How near an endpoint of this set is.
    pub fn place(&self, index: usize) -> Place {
        self.layout.places[index]
    }

    /// The zone of an endpoint, where it is known.
    pub fn zone(&self, index: usize) -> Option<&Name> {
        self.layout.zones[index].as_ref()
    }

    /// Whether an endpoint has yet to come to its full share.
    pub fn is_warming(&self, endpoint: &Endpoint) -> bool {
        self.warming.is_some() && endpoint.warmth(self.layout.slow_start) < 1.0
    }

    /// The part of the requests to an endpoint of this set that fails, 0 to 1: a moving average.
    pub fn failed_part(&self, endpoint: &Endpoint) -> f32 {
        endpoint.latency.failing(clock::now(), self.layout.decay)
    }

    fn share(&self) -> Self {
        Self {
            endpoints: self.endpoints.clone(),
            found: self.found.clone(),
            layout: self.layout.clone(),
            warming: self.warming,
            running: self.running.clone(),
            ward: self.ward.clone(),
            by_address: OnceLock::new(),
            known: self.known.clone(),
        }
    }

    /// The same endpoints, with the news that discovery fails.
    pub(super) fn failing(&self, message: String) -> Self {
        let since = match self.known {
            Known::Current { since } => Some(since),
            Known::Failing { since, .. } => since,
            Known::Nothing => None,
        };
        Self { known: Known::Failing { since, message }, ..self.share() }
    }

    /// No endpoints, because the last good answer is too old.
    pub(super) fn expired(&self, message: String) -> Self {
        Self { running: self.running.clone(), known: self.failing(message).known, ..Self::unknown() }
    }

    /// Says that their service is gone and has left them to nobody. Whether the addresses are available is for a service
    /// of that name to say, which there may be again.
    pub(super) fn abandon(&self) {
        for endpoint in &self.endpoints {
            endpoint.target.retire();
            endpoint.gate.leave(&self.ward);
        }
    }
}

/// When the last of the endpoints that start slowly will have come to its full share, if that is yet to come.
fn warming(endpoints: &[Arc<Endpoint>], slow_start: Duration) -> Option<Instant> {
    let warm = |endpoint: &Arc<Endpoint>| endpoint.joined.then(|| endpoint.since + slow_start);
    endpoints.iter().filter_map(warm).max().filter(|warm| *warm > Instant::now())
}
