//! What the node did in the last minutes, in memory: who called what, how often it failed, and how long it took.
//!
//! Made from the counters and histograms that `/metrics` shows, by whoever calls [`History::step`] every [`STEP`]: the control thread.
//! Workers take no part. `growth.rs` says by how much each series has grown, `table.rs` keeps what is busiest, `quantile.rs` reads
//! percentiles from buckets, `sums.rs` brings series together by service, call and route.
//!
//! # Memory
//! A service takes 3 KiB for ten minutes and 1 KiB for the last one, a call or a route's share 0.2 KiB: 2 MiB with the most of each
//! ([`SERVICES`], [`PAIRS`]). What the series were at the last step takes up to 200 bytes each: at most 4 MiB more, when a flood of
//! hosts has filled the metrics.
//!
//! # What counts as a failure
//! A request whose caller got a status of 500 or above, whoever made the answer: an endpoint or towpath itself. A gRPC call that
//! failed counts by its HTTP status, which is 200.

mod growth;
mod quantile;
mod sums;
mod table;

use std::{
    collections::VecDeque,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use self::{
    growth::Growth,
    sums::{Buckets, Calls, Sums},
    table::{Table, Weighed},
};
use super::{
    declared::{Id, REQUEST_BOUNDS, REQUEST_BUCKETS},
    metrics::Metrics,
    series::{Counter, Histogram},
};

/// Between two steps.
pub const STEP: Duration = Duration::from_secs(5);
/// Steps that are kept: ten minutes.
const STEPS: usize = 120;
/// Steps of the last minute.
const MINUTE: usize = 12;
/// Services that are kept over all steps: those with the most requests.
pub const SERVICES: usize = 256;
/// Calls, and shares of routes, that are kept: those with the most requests.
pub const PAIRS: usize = 1024;

/// Requests, and those that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub requests: u64,
    /// Whose callers got a status of 500 or above.
    pub failures: u64,
}

/// One step of a service or of the node.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// All.
    pub requests: u32,
    /// Whose callers got a status of 500 or above.
    pub failures: u32,
    /// Attempts after a request's first.
    pub retries: u32,
    /// What half, 95 % and 99 % of the requests did not exceed, in milliseconds; none without requests.
    pub quantiles: Option<[f32; 3]>,
}

/// The last minute of a service or of the node.
#[derive(Clone, Copy, Debug, Default)]
struct Moment {
    counts: Counts,
    retries: u64,
    buckets: Buckets,
}

/// Who calls: by name, or the listener that an unknown caller came to (none: one of several).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum From {
    /// A caller that has a name.
    Named(Box<str>),
    /// Callers that have none.
    Unknown(Option<Box<str>>),
}

type Name = Box<str>;

/// The last ten minutes. Empty at first.
pub struct History {
    growth: [Growth<1>; 3],
    durations: Growth<REQUEST_BUCKETS>,
    calls: Calls,
    /// When each step ended, and how long it was.
    steps: VecDeque<(SystemTime, Duration)>,
    last: Instant,
    node: Table<(), Sample, STEPS>,
    services: Table<Name, Sample, STEPS>,
    node_minute: Table<(), Moment, MINUTE>,
    service_minutes: Table<Name, Moment, MINUTE>,
    edges: Table<(From, Name), Counts, MINUTE>,
    shares: Table<(Name, Name), Counts, MINUTE>,
}

/// Something with its samples, oldest first, and its last minute.
pub struct Past {
    /// A service's name; empty for the node.
    pub name: String,
    /// One per step.
    pub samples: Vec<Sample>,
    /// The last minute as one.
    pub minute: Sample,
}

impl History {
    /// Begins now.
    pub fn new(now: Instant) -> Self {
        Self {
            growth: Default::default(),
            durations: Growth::default(),
            calls: Calls::default(),
            steps: VecDeque::new(),
            last: now,
            node: Table::new(1),
            services: Table::new(SERVICES),
            node_minute: Table::new(1),
            service_minutes: Table::new(2 * SERVICES),
            edges: Table::new(PAIRS),
            shares: Table::new(PAIRS),
        }
    }

    /// A step ends: reads what has been counted since the last one.
    pub fn step(&mut self, metrics: &Metrics, now: Instant, time: SystemTime) {
        let took = now.saturating_duration_since(self.last);
        self.last = now;
        self.steps.push_back((time, took));
        if self.steps.len() > STEPS {
            self.steps.pop_front();
        }
        let counters = |id| {
            let series = metrics.read(id).into_iter();
            series.map(|(labels, block)| (labels, [Counter::new(block).get()]))
        };
        let [requests, callers, retries] = &mut self.growth;
        let mut sums = Sums::default();
        // Callers after requests, which are counted first: so no request seems to have come from nobody.
        sums.requests(&requests.step(counters(Id::Requests)));
        let named = callers.step(counters(Id::CallerRequests));
        sums.retries(&retries.step(counters(Id::Retries)));
        let durations = metrics.read(Id::RequestDuration).into_iter();
        let durations =
            durations.map(|(labels, block)| (labels, Histogram::new(block, REQUEST_BOUNDS).counts()));
        sums.durations(&self.durations.step(durations));
        self.keep(sums, &named);
    }

    fn keep(&mut self, sums: Sums, named: &[growth::Grown<1>]) {
        self.edges.step(self.calls.step(&sums, named));
        self.shares.step(sums.shares);
        let node = sums.services.values().copied().fold(Moment::default(), Moment::plus);
        self.node.step([((), node.sample())]);
        self.node_minute.step([((), node)]);
        // What met no route has no service: it counts for the node alone.
        let services = || sums.services.iter().filter(|(name, _)| !name.is_empty());
        self.services.step(services().map(|(name, moment)| (name.clone(), moment.sample())));
        self.service_minutes.step(services().map(|(name, moment)| (name.clone(), *moment)));
    }

    /// When each step ended, in seconds since 1970, and how many seconds it was long; oldest first.
    pub fn steps(&self) -> impl Iterator<Item = (f64, f64)> {
        self.steps.iter().map(|(time, took)| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            (since.as_secs_f64(), took.as_secs_f64())
        })
    }

    /// How many seconds the last minute is long: less after a start.
    pub fn minute_seconds(&self) -> f64 {
        self.steps.iter().rev().take(MINUTE).map(|(_, took)| took.as_secs_f64()).sum()
    }

    /// All requests of the node.
    pub fn node(&self) -> Past {
        let minute = self.node_minute.of(&(), MINUTE).into_iter().fold(Moment::default(), Moment::plus);
        let samples = self.node.of(&(), self.steps.len());
        Past { name: String::new(), samples, minute: minute.sample() }
    }

    /// The services that are kept, by name.
    pub fn services(&self) -> Vec<Past> {
        let mut names: Vec<&Name> = self.services.keys().collect();
        names.sort();
        names.into_iter().map(|name| self.service(name)).collect()
    }

    /// The service of this name; nothing but zeros if none is kept.
    pub fn service(&self, name: &str) -> Past {
        let key = Name::from(name);
        let minute = self.service_minutes.of(&key, MINUTE).into_iter().fold(Moment::default(), Moment::plus);
        let samples = self.services.of(&key, self.steps.len());
        Past { name: name.to_owned(), samples, minute: minute.sample() }
    }

    /// Who called which service in the last minute, in order. What met no route has a service without a name.
    pub fn edges(&self) -> Vec<((From, Name), Counts)> {
        self.edges.sums(Counts::plus)
    }

    /// Which route sent to which service in the last minute, in order.
    pub fn shares(&self) -> Vec<((Name, Name), Counts)> {
        self.shares.sums(Counts::plus)
    }
}

impl Counts {
    fn plus(self, other: Self) -> Self {
        Self { requests: self.requests + other.requests, failures: self.failures + other.failures }
    }
}

impl Moment {
    fn plus(self, other: Self) -> Self {
        let mut buckets = self.buckets;
        buckets.iter_mut().zip(other.buckets).for_each(|(bucket, more)| *bucket += more);
        Self { counts: self.counts.plus(other.counts), retries: self.retries + other.retries, buckets }
    }

    fn sample(&self) -> Sample {
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let millis = |part| quantile::of(&self.buckets, part).map(|seconds| (seconds * 1e3) as f32);
        Sample {
            requests: small(self.counts.requests),
            failures: small(self.counts.failures),
            retries: small(self.retries),
            quantiles: millis(0.5).zip(millis(0.95)).zip(millis(0.99)).map(|((a, b), c)| [a, b, c]),
        }
    }
}

impl Weighed for Sample {
    fn weight(&self) -> u64 {
        u64::from(self.requests) + u64::from(self.retries)
    }
}

impl Weighed for Moment {
    fn weight(&self) -> u64 {
        self.counts.requests + self.retries
    }
}

impl Weighed for Counts {
    fn weight(&self) -> u64 {
        self.requests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stepped(history: &mut History, metrics: &Metrics, number: u64) {
        let past = STEP * u32::try_from(number).unwrap();
        history.step(metrics, history.last + STEP, UNIX_EPOCH + past);
    }

    fn record(metrics: &Metrics, service: &str, codes: &[u16]) {
        let series = metrics.request_series("outgoing", "r", service);
        codes.iter().for_each(|code| series.record(*code, Duration::from_millis(3)));
    }

    #[test]
    fn a_step_shows_what_came_in_it_and_only_that() {
        let metrics = Metrics::new(1);
        let mut history = History::new(Instant::now());
        record(&metrics, "a", &[200, 404, 499, 500, 503]);
        record(&metrics, "", &[404, 508]);
        metrics.service_series("a").retry("reset");
        stepped(&mut history, &metrics, 1);
        record(&metrics, "a", &[200]);
        stepped(&mut history, &metrics, 2);
        stepped(&mut history, &metrics, 3);
        let counts = |past: &Past| {
            past.samples.iter().map(|s| (s.requests, s.failures, s.retries)).collect::<Vec<_>>()
        };
        let services = history.services();
        assert_eq!(services.len(), 1, "what has no service is none");
        assert_eq!(counts(&services[0]), [(5, 2, 1), (1, 0, 0), (0, 0, 0)]);
        assert_eq!(counts(&history.node()), [(7, 3, 1), (1, 0, 0), (0, 0, 0)]);
        assert_eq!((history.node().minute.requests, history.service("a").minute.requests), (8, 6));
        assert_eq!(history.steps().map(|(at, _)| at).collect::<Vec<_>>(), [5.0, 10.0, 15.0]);
        let [p50, _, p99] = services[0].samples[0].quantiles.unwrap();
        assert!(p50 > 2.5 && p50 < p99 && p99 <= 5.0, "{p50} {p99}");
        assert_eq!(services[0].samples[2].quantiles, None);
    }

    #[test]
    fn ten_minutes_are_kept_and_a_minute_is_a_minute() {
        let metrics = Metrics::new(1);
        let mut history = History::new(Instant::now());
        for number in 1..=130 {
            record(&metrics, "a", &[200]);
            stepped(&mut history, &metrics, number);
        }
        let past = history.service("a");
        assert_eq!((past.samples.len(), past.minute.requests), (STEPS, 12));
        assert!(past.samples.iter().all(|sample| sample.requests == 1));
        assert!((history.minute_seconds() - 60.0).abs() < 1e-6);
        for number in 131..=251 {
            stepped(&mut history, &metrics, number);
        }
        assert!(history.services().is_empty() && history.service("a").minute.requests == 0);
    }

    #[test]
    fn of_many_services_the_busiest_stay_and_the_node_counts_all() {
        let metrics = Metrics::new(1);
        let mut history = History::new(Instant::now());
        (0..1000).for_each(|n| record(&metrics, &format!("rare-{n}"), &[200]));
        stepped(&mut history, &metrics, 1);
        (0..10).for_each(|n| record(&metrics, &format!("busy-{n}"), &[200; 5]));
        stepped(&mut history, &metrics, 2);
        let services = history.services();
        assert_eq!(services.len(), SERVICES);
        assert_eq!(services.iter().filter(|past| past.name.starts_with("busy")).count(), 10);
        assert_eq!(history.node().minute.requests, 1050);
    }

    #[test]
    fn calls_are_by_name_and_what_nobody_owns_up_to_is_unknown() {
        let metrics = Metrics::new(1);
        let mut history = History::new(Instant::now());
        record(&metrics, "a", &[200, 200, 503]);
        record(&metrics, "b", &[200]);
        let caller = metrics.caller_series(&"web".into());
        caller.request("a", 200);
        caller.request("a", 503);
        stepped(&mut history, &metrics, 1);
        let unknown = || From::Unknown(Some("outgoing".into()));
        let expected = [
            ((From::Named("web".into()), "a".into()), Counts { requests: 2, failures: 1 }),
            ((unknown(), "a".into()), Counts { requests: 1, failures: 0 }),
            ((unknown(), "b".into()), Counts { requests: 1, failures: 0 }),
        ];
        assert_eq!(history.edges(), expected);
        let shares = history.shares();
        assert_eq!(shares[0], (("r".into(), "a".into()), Counts { requests: 3, failures: 1 }));
    }
}
