//! The series of one metric, by label values; bounded.
//!
//! Looking a series up takes a lock: callers do it when they build something and keep the handle.
//!
//! # Bounds
//! A family holds at most [`MAX_SERIES`]. What is asked for beyond that is the one series whose label values are all
//! `other`, and is counted. A handle that was given for it stays one: the series does not split again while it lives.
//!
//! Of these, only [`MAX_OF_CALLERS`] may be of services that callers make by asking for a host ([`is_of_caller`]): whoever asks
//! for a million hosts gets no more than a few thousand lines into all families together.
//!
//! # Expiry
//! A series that only the family still holds goes once its value has stood still for [`EXPIRY`], long enough for
//! every scraper to have seen the last value. One that says how things are now, not how often, goes at once: nothing is
//! so any more.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use hashbrown::{Equivalent, HashMap};

use super::{
    arena::{Arena, Block},
    declared::{Declared, Kind},
    series::{Counter, Gauge, Histogram, Level},
};

/// Series of one family.
pub(super) const MAX_SERIES: usize = 10_000;
/// Those of them for services that callers make. Two dozen families and as many lines of a histogram have them.
const MAX_OF_CALLERS: usize = 256;
/// The same for a histogram, of which each series is as many lines as it has buckets, and more.
const MAX_HISTOGRAMS_OF_CALLERS: usize = 64;
/// How long a series that nobody holds must stand still before it goes.
pub(super) const EXPIRY: Duration = Duration::from_secs(600);
/// The value of every label of the series that takes the excess.
const OTHER: &str = "other";

/// The label values of a series, in the order of its declaration.
pub(super) type Labels = Arc<[Box<str>]>;

/// One metric and its series.
pub(super) struct Family {
    pub(super) declared: &'static Declared,
    arena: Arc<Arena>,
    series: Mutex<Series>,
    /// Which label is the service.
    service: Option<usize>,
    other: Arc<Block>,
    overflow: AtomicU64,
}

#[derive(Default)]
struct Series {
    by_labels: HashMap<Labels, Entry>,
    /// How many are for services that callers make.
    of_callers: usize,
}

struct Entry {
    block: Arc<Block>,
    /// The slots' sum when the series was last seen to move, and when that was.
    seen: Option<(u64, Instant)>,
}

/// Borrowed label values that find owned ones. Both hash as a slice of strings.
#[derive(Hash)]
struct Wanted<'a>(&'a [&'a str]);

impl Equivalent<Labels> for Wanted<'_> {
    fn equivalent(&self, key: &Labels) -> bool {
        self.0.iter().copied().eq(key.iter().map(|value| &**value))
    }
}

impl Family {
    pub(super) fn new(declared: &'static Declared, arena: &Arc<Arena>) -> Arc<Self> {
        let other =
            arena.allocate(slots(declared.kind)).expect("an arena has room for one series per family");
        Arc::new(Self {
            declared,
            arena: arena.clone(),
            series: Mutex::default(),
            service: declared.labels.iter().position(|label| *label == "service"),
            other: Arc::new(other),
            overflow: AtomicU64::new(0),
        })
    }

    /// The counter with these label values.
    pub(super) fn counter(&self, labels: &[&str]) -> Counter {
        debug_assert_eq!(self.declared.kind, Kind::Counter);
        Counter::new(self.block(labels))
    }

    /// The gauge with these label values.
    pub(super) fn gauge(&self, labels: &[&str]) -> Gauge {
        debug_assert_eq!(self.declared.kind, Kind::Gauge);
        Gauge::new(self.block(labels))
    }

    /// The level with these label values.
    pub(super) fn level(&self, labels: &[&str]) -> Level {
        debug_assert_eq!(self.declared.kind, Kind::Level);
        Level::new(self.block(labels))
    }

    /// The histogram with these label values.
    pub(super) fn histogram(&self, labels: &[&str]) -> Histogram {
        debug_assert!(matches!(self.declared.kind, Kind::Histogram(_)));
        Histogram::new(self.block(labels), self.bounds())
    }

    /// Of a histogram's buckets; none for what is no histogram.
    pub(super) fn bounds(&self) -> &'static [u64] {
        match self.declared.kind {
            Kind::Histogram(bounds) => bounds,
            Kind::Counter | Kind::Gauge | Kind::Level => &[],
        }
    }

    fn block(&self, labels: &[&str]) -> Arc<Block> {
        debug_assert_eq!(labels.len(), self.declared.labels.len());
        let mut series = self.lock();
        if let Some(entry) = series.by_labels.get(&Wanted(labels)) {
            return entry.block.clone();
        }
        let of_caller = self.is_of_caller(labels);
        let room =
            series.by_labels.len() < MAX_SERIES && !(of_caller && series.of_callers >= self.max_of_callers());
        let block = if self.is_other(labels) {
            self.other.clone()
        } else if let Some(block) = room.then(|| self.arena.allocate(slots(self.declared.kind))).flatten() {
            Arc::new(block)
        } else {
            self.overflow.fetch_add(1, Relaxed);
            return self.other.clone();
        };
        let labels = labels.iter().map(|value| Box::from(*value)).collect();
        series.by_labels.insert(labels, Entry { block: block.clone(), seen: None });
        series.of_callers += usize::from(of_caller);
        block
    }

    /// Whether what is really called so is one series with the excess.
    fn is_other(&self, labels: &[&str]) -> bool {
        self.has_other() && !labels.is_empty() && labels.iter().all(|label| *label == OTHER)
    }

    /// A number that is set says nothing when many have set it.
    fn has_other(&self) -> bool {
        self.declared.kind != Kind::Level
    }

    fn is_of_caller(&self, labels: &[impl AsRef<str>]) -> bool {
        self.service.is_some_and(|at| is_of_caller(labels[at].as_ref()))
    }

    fn max_of_callers(&self) -> usize {
        match self.declared.kind {
            Kind::Histogram(_) => MAX_HISTOGRAMS_OF_CALLERS,
            Kind::Counter | Kind::Gauge | Kind::Level => MAX_OF_CALLERS,
        }
    }

    /// Lets go of series that nobody holds and that have stood still.
    pub(super) fn sweep(&self, now: Instant) {
        let is_state = matches!(self.declared.kind, Kind::Gauge | Kind::Level);
        let mut series = self.lock();
        let Series { by_labels, of_callers } = &mut *series;
        // Only the family hands out references, and its lock is held: a count of its own stays that.
        by_labels.retain(|labels, entry| {
            let own = 1 + usize::from(Arc::ptr_eq(&entry.block, &self.other));
            let held = Arc::strong_count(&entry.block) > own;
            let stays = held || !(is_state || entry.expired(now));
            *of_callers -= usize::from(!stays && self.is_of_caller(labels));
            stays
        });
    }

    /// How often a series was asked for that did not fit.
    pub(super) fn overflow(&self) -> u64 {
        self.overflow.load(Relaxed)
    }

    /// Every series that has something to say, sorted by label values. The lock is not held while they are read.
    pub(super) fn snapshot(&self) -> Vec<(Labels, Arc<Block>)> {
        let mut all = self.entries();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// As [`Self::snapshot`], in any order.
    pub(super) fn entries(&self) -> Vec<(Labels, Arc<Block>)> {
        let entries = |(labels, entry): (&Labels, &Entry)| (labels.clone(), entry.block.clone());
        let series = self.lock();
        let mut all: Vec<_> = series.by_labels.iter().map(entries).collect();
        let other = vec![OTHER; self.declared.labels.len()];
        if self.overflow() > 0 && self.has_other() && !series.by_labels.contains_key(&Wanted(&other)) {
            all.push((other.into_iter().map(Box::from).collect(), self.other.clone()));
        }
        all
    }

    fn lock(&self) -> MutexGuard<'_, Series> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A service that was made from the host of a request is named `HOST:PORT`; no configured one may have a colon in its name.
fn is_of_caller(service: &str) -> bool {
    service.contains(':')
}

impl Entry {
    fn expired(&mut self, now: Instant) -> bool {
        let value = (0..self.block.len()).fold(0u64, |sum, slot| sum.wrapping_add(self.block.sum(slot)));
        match self.seen {
            Some((seen, since)) if seen == value => now.saturating_duration_since(since) >= EXPIRY,
            _ => {
                self.seen = Some((value, now));
                false
            }
        }
    }
}

fn slots(kind: Kind) -> usize {
    match kind {
        Kind::Counter | Kind::Gauge | Kind::Level => 1,
        Kind::Histogram(bounds) => Histogram::slots(bounds),
    }
}

/// Counters that differ in one label, each resolved when it is first asked for: `N` of them without a lock.
pub(super) struct ByLabel<const N: usize>([OnceLock<(Box<str>, Counter)>; N]);

impl<const N: usize> ByLabel<N> {
    pub(super) fn new() -> Self {
        Self([const { OnceLock::new() }; N])
    }

    /// One more for `value`; `resolve` finds its counter.
    pub(super) fn inc(&self, value: &str, resolve: impl Fn() -> Counter) {
        for slot in &self.0 {
            let (taken, counter) = slot.get_or_init(|| (Box::from(value), resolve()));
            if **taken == *value {
                return counter.inc();
            }
        }
        resolve().inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::declared::{Id, TABLE};

    fn family(id: Id) -> Arc<Family> {
        Family::new(&TABLE[id as usize], &Arena::new(1))
    }

    fn values(family: &Family) -> Vec<(String, u64)> {
        family.snapshot().iter().map(|(labels, block)| (labels.join("|"), block.sum(0))).collect()
    }

    #[test]
    fn equal_label_values_share_a_series_and_others_do_not() {
        let family = family(Id::Retries);
        family.counter(&["a", "bc"]).inc();
        family.counter(&["a", "bc"]).inc();
        family.counter(&["ab", "c"]).inc();
        assert_eq!(values(&family), [("a|bc".into(), 2), ("ab|c".into(), 1)]);
    }

    #[test]
    fn what_does_not_fit_goes_to_other_and_is_counted() {
        let family = family(Id::Retries);
        let held: Vec<_> = (0..MAX_SERIES).map(|n| family.counter(&[&n.to_string(), "x"])).collect();
        assert_eq!((family.overflow(), family.snapshot().len()), (0, MAX_SERIES));
        family.counter(&["one more", "x"]).inc();
        family.counter(&["another", "y"]).inc();
        family.counter(&["0", "x"]).inc();
        assert_eq!(held[0].get(), 1);
        assert_eq!((family.overflow(), family.snapshot().len()), (2, MAX_SERIES + 1));
        assert!(values(&family).contains(&("other|other".into(), 2)));
    }

    #[test]
    fn a_series_that_is_really_called_other_is_one_with_the_excess() {
        let family = family(Id::Retries);
        let real = family.counter(&["other", "other"]);
        real.inc();
        family.counter(&["other", "x"]).inc();
        let _held: Vec<_> = (2..MAX_SERIES).map(|n| family.counter(&[&n.to_string(), "x"])).collect();
        family.counter(&["one more", "x"]).inc();
        let others = |family: &Family| {
            values(family)
                .into_iter()
                .filter(|(name, _)| name == "other|other")
                .map(|(_, n)| n)
                .collect::<Vec<_>>()
        };
        assert_eq!((others(&family), real.get(), family.overflow()), (vec![2], 2, 1));
        drop(real);
        family.sweep(Instant::now());
        family.sweep(Instant::now() + EXPIRY);
        assert_eq!(others(&family), [2], "the excess stays");
    }

    #[test]
    fn services_that_callers_make_have_a_smaller_share() {
        let family = family(Id::Retries);
        let made: Vec<_> = (0..300).map(|n| family.counter(&[&format!("h{n}.test:80"), "x"])).collect();
        assert_eq!((family.overflow(), family.snapshot().len()), (44, MAX_OF_CALLERS + 1));
        let _configured: Vec<_> = (0..1000).map(|n| family.counter(&[&format!("s{n}"), "x"])).collect();
        assert_eq!(family.overflow(), 44);
        drop(made);
        family.sweep(Instant::now());
        family.sweep(Instant::now() + EXPIRY);
        let _again: Vec<_> = (0..300).map(|n| family.counter(&[&format!("i{n}.test:80"), "x"])).collect();
        assert_eq!(family.overflow(), 88, "expired series make room for as many");
        let histograms = self::family(Id::RequestDuration);
        (0..300).for_each(|n| drop(histograms.histogram(&["r", &format!("h{n}:80")])));
        assert_eq!(histograms.snapshot().len(), MAX_HISTOGRAMS_OF_CALLERS + 1);
    }

    #[test]
    fn a_number_that_is_set_has_no_other() {
        let family = family(Id::DiscoveryAge);
        let held: Vec<_> = (0..300).map(|n| family.level(&[&format!("h{n}:80")])).collect();
        held.iter().for_each(|level| level.set(7));
        assert_eq!((family.overflow(), family.snapshot().len()), (44, MAX_OF_CALLERS));
    }

    #[test]
    fn a_series_that_nobody_holds_goes_ten_minutes_after_it_last_moved() {
        let family = family(Id::Retries);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        family.counter(&["gone", "x"]).inc();
        let _held = family.counter(&["held", "x"]);
        family.sweep(at(0));
        family.counter(&["gone", "x"]).inc();
        family.sweep(at(100));
        family.sweep(at(699));
        assert_eq!(family.snapshot().len(), 2);
        family.sweep(at(700));
        assert_eq!(values(&family), [("held|x".into(), 0)]);
    }

    #[test]
    fn what_says_how_things_are_goes_with_its_last_handle() {
        let family = family(Id::EndpointAvailable);
        let available = family.level(&["service", "endpoint"]);
        available.set(true);
        family.sweep(Instant::now());
        assert_eq!(family.snapshot().len(), 1);
        drop(available);
        family.sweep(Instant::now());
        assert!(family.snapshot().is_empty());
    }

    #[test]
    fn an_expired_series_gives_its_slots_back_and_starts_from_zero_again() {
        let family = family(Id::RequestDuration);
        let labels = ["route", "service"];
        let start = Instant::now();
        for round in 0..3 {
            family.histogram(&labels).record(Duration::from_secs(1));
            assert_eq!(family.histogram(&labels).read().count, 1, "round {round}");
            family.sweep(start + EXPIRY * round * 2);
            family.sweep(start + EXPIRY * (round * 2 + 1));
            assert!(family.snapshot().is_empty());
        }
        let slots = slots(family.declared.kind);
        let fresh = family.arena.allocate(slots * 2).unwrap();
        assert_eq!(fresh.start(), slots * 2, "one series and `other` were ever allocated");
    }

    #[test]
    fn a_cache_by_label_counts_right_within_and_beyond_its_size() {
        let family = family(Id::Retries);
        let cache = ByLabel::<2>::new();
        for value in ["a", "b", "c", "a", "c"] {
            cache.inc(value, || family.counter(&["s", value]));
        }
        assert_eq!(values(&family), [("s|a".into(), 2), ("s|b".into(), 1), ("s|c".into(), 2)]);
    }
}
