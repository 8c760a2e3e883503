//! One time series each: counter, gauge, level, histogram.
//!
//! Handles are clones of one reference to their slots, which are given back when the last of them is gone. Cloning a
//! handle raises a count that all workers share: resolve handles when the snapshot is built and borrow them on a
//! request. Names and labels are left to `family.rs`.

use std::{sync::Arc, time::Duration};

use super::arena::{Arena, Block, Place};

/// A number that only grows.
#[derive(Clone)]
pub struct Counter(Arc<Block>);

impl Counter {
    pub(super) fn new(block: Arc<Block>) -> Self {
        Self(block)
    }

    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        self.0.add(0, n);
    }

    /// Where it is, for [`Arena::add_at`].
    pub(super) fn place(&self) -> Place {
        self.0.place()
    }

    /// The sum over all workers.
    pub fn get(&self) -> u64 {
        self.0.sum(0)
    }
}

/// How many there are now. One worker may add what another takes away: only the sum means something.
#[derive(Clone)]
pub struct Gauge(Arc<Block>);

impl Gauge {
    pub(super) fn new(block: Arc<Block>) -> Self {
        Self(block)
    }

    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// One less.
    pub fn dec(&self) {
        self.sub(1);
    }

    /// `n` more.
    pub fn add(&self, n: i64) {
        self.0.add(0, n.cast_unsigned());
    }

    /// `n` less.
    pub fn sub(&self, n: i64) {
        self.0.add(0, n.wrapping_neg().cast_unsigned());
    }

    /// The sum over all workers.
    pub fn get(&self) -> i64 {
        self.0.sum(0).cast_signed()
    }

    /// One more until the guard is dropped. It owns a handle: for what lives long, such as a connection; a request
    /// that can reach the gauge calls [`Gauge::inc`] and, in its own guard, [`Gauge::dec`].
    #[must_use]
    pub fn hold(&self) -> Held {
        self.inc();
        Held(self.clone())
    }
}

/// Counts as one in its gauge until it is dropped.
pub struct Held(Gauge);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A number that one thread sets, such as an age or a yes (1) or no (0).
#[derive(Clone)]
pub struct Level(Arc<Block>);

impl Level {
    pub(super) fn new(block: Arc<Block>) -> Self {
        Self(block)
    }

    /// Replaces the number; `true` is 1.
    pub fn set(&self, value: impl Into<f64>) {
        self.0.set(0, value.into().to_bits());
    }

    /// The number last set; 0 before.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.sum(0))
    }
}

/// Slot of the nanoseconds of all observations: beside the buckets that most fall in, on the same cache line.
const SUM: usize = 0;
/// Slot of the first bucket.
const FIRST: usize = 1;

/// How long something took, in buckets, the last of which takes what is above every bound.
#[derive(Clone)]
pub struct Histogram(Arc<Block>, &'static [u64]);

/// A histogram as read.
pub(super) struct Distribution {
    /// Upper bound in seconds, and how many were not above it.
    pub(super) buckets: Vec<(f64, u64)>,
    /// How many there were.
    pub(super) count: u64,
    /// Seconds.
    pub(super) sum: f64,
}

impl Histogram {
    /// Slots of one series whose buckets have these bounds.
    pub(super) fn slots(bounds: &[u64]) -> usize {
        FIRST + bounds.len() + 1
    }

    pub(super) fn new(block: Arc<Block>, bounds: &'static [u64]) -> Self {
        debug_assert_eq!(block.len(), Self::slots(bounds));
        Self(block, bounds)
    }

    /// One more that took `duration`.
    pub fn record(&self, duration: Duration) {
        slots_of(duration, self.1, |offset, n| self.0.add(offset, n));
    }

    /// Where it is, for [`record_at`].
    pub(super) fn place(&self) -> Place {
        self.0.place()
    }

    /// How many fell in each bucket; the last is above every bound.
    pub(super) fn counts<const BUCKETS: usize>(&self) -> [u64; BUCKETS] {
        debug_assert_eq!(BUCKETS, self.1.len() + 1);
        std::array::from_fn(|bucket| self.0.sum(FIRST + bucket))
    }

    pub(super) fn read(&self) -> Distribution {
        let Self(block, bounds) = self;
        let mut count = 0;
        let below = |(offset, bound): (usize, &u64)| {
            count += block.sum(FIRST + offset);
            (*bound as f64 / 1e6, count)
        };
        let buckets = bounds.iter().enumerate().map(below).collect();
        let rest = block.sum(FIRST + bounds.len());
        Distribution { buckets, count: count + rest, sum: block.sum(SUM) as f64 / 1e9 }
    }
}

/// As [`Histogram::record`], to one that the caller keeps and whose buckets have these bounds.
pub(super) fn record_at(arena: &Arena, histogram: Place, bounds: &[u64], duration: Duration) {
    slots_of(duration, bounds, |offset, n| arena.add_at(histogram, offset, n));
}

fn slots_of(duration: Duration, bounds: &[u64], add: impl Fn(usize, u64)) {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    add(FIRST + bounds.partition_point(|bound| bound * 1_000 < nanos), 1);
    add(SUM, nanos);
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::telemetry::{declared::REQUEST_BOUNDS, enter_worker};

    fn block(arena: &Arc<Arena>, slots: usize) -> Arc<Block> {
        Arc::new(arena.allocate(slots).unwrap())
    }

    #[test]
    fn a_gauge_may_rise_on_one_worker_and_fall_on_another() {
        let gauge = Gauge::new(block(&Arena::new(2), 1));
        gauge.add(3);
        let moved = gauge.clone();
        let worker = move || {
            enter_worker(1);
            moved.sub(5);
        };
        thread::spawn(worker).join().unwrap();
        assert_eq!(gauge.get(), -2);
        gauge.add(-1);
        gauge.sub(-3);
        assert_eq!(gauge.get(), 0);
    }

    #[test]
    fn a_held_gauge_falls_when_the_guard_is_dropped_even_by_a_panic() {
        let gauge = Gauge::new(block(&Arena::new(1), 1));
        let held = gauge.hold();
        assert_eq!(gauge.get(), 1);
        let panicked = thread::spawn(move || {
            enter_worker(0);
            let _held = held;
            panic!("on purpose");
        });
        assert!(panicked.join().is_err());
        assert_eq!(gauge.get(), 0);
    }

    #[test]
    fn a_level_is_what_was_last_set_by_whichever_thread() {
        let level = Level::new(block(&Arena::new(1), 1));
        level.set(2.5);
        let moved = level.clone();
        let worker = move || {
            enter_worker(0);
            moved.set(true);
        };
        thread::spawn(worker).join().unwrap();
        assert_eq!(level.get(), 1.0);
    }

    #[test]
    fn a_histogram_counts_a_duration_in_the_first_bucket_whose_bound_is_not_below_it() {
        let bounds = REQUEST_BOUNDS;
        let histogram = Histogram::new(block(&Arena::new(1), Histogram::slots(bounds)), bounds);
        let micros = [0, 100, 101, 250, 60_000_000, 60_000_001];
        micros.into_iter().for_each(|micros| histogram.record(Duration::from_micros(micros)));
        let read = histogram.read();
        assert_eq!(read.buckets[..3], [(0.0001, 2), (0.00025, 4), (0.0005, 4)]);
        assert_eq!(read.buckets.last(), Some(&(60.0, 5)));
        assert_eq!(read.count, 6);
        assert!((read.sum - 120.000452).abs() < 1e-9, "{}", read.sum);
    }

    #[test]
    fn a_histogram_with_other_bounds_has_other_buckets() {
        let bounds = &[10, 1_000];
        let histogram = Histogram::new(block(&Arena::new(1), Histogram::slots(bounds)), bounds);
        [10, 11, 1_001].into_iter().for_each(|micros| histogram.record(Duration::from_micros(micros)));
        let read = histogram.read();
        assert_eq!((read.buckets, read.count), (vec![(0.00001, 1), (0.001, 2)], 3));
    }
}
