//! One time series each: counter, gauge, level, histogram.
//!
//! Handles are clones of one reference to their slots, which are given back when the last of them is gone. Cloning a
//! handle raises a count that all workers share: resolve handles when the snapshot is built and borrow them on a
//! request. Names and labels are left to `family.rs`.

use std::{sync::Arc, time::Duration};

use super::arena::Block;

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

/// Upper bounds of a histogram's buckets in microseconds. The proxy itself takes tens of them; a slow upstream seconds.
const BOUNDS: [u64; 18] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];
/// What is above every bound.
const REST: usize = BOUNDS.len();
/// Nanoseconds, of all observations.
const SUM: usize = REST + 1;

/// How long something took, in buckets.
#[derive(Clone)]
pub struct Histogram(Arc<Block>);

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
    /// Slots of one series.
    pub(super) const SLOTS: usize = SUM + 1;

    pub(super) fn new(block: Arc<Block>) -> Self {
        Self(block)
    }

    /// One more that took `duration`.
    pub fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| bound * 1_000 < nanos);
        self.0.add(bucket, 1);
        self.0.add(SUM, nanos);
    }

    pub(super) fn read(&self) -> Distribution {
        let mut count = 0;
        let below = |(offset, bound): (usize, &u64)| {
            count += self.0.sum(offset);
            (*bound as f64 / 1e6, count)
        };
        let buckets = BOUNDS.iter().enumerate().map(below).collect();
        Distribution { buckets, count: count + self.0.sum(REST), sum: self.0.sum(SUM) as f64 / 1e9 }
    }
}
