//! How many requests of one kind, of traces that are not sampled, are kept each second: one number for all workers.
//!
//! Only requests that are worth keeping ask, and once the second's share is gone they only read: a storm of failures writes nothing here.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

/// Seconds are counted from when this was made.
pub(super) struct KeepRate {
    per_second: u32,
    epoch: Instant,
    /// The second in the upper half; how many it has let through in the lower.
    window: AtomicU64,
}

impl KeepRate {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, epoch: Instant::now(), window: AtomicU64::new(0) }
    }

    /// Whether one more may be kept now.
    pub(super) fn take(&self) -> bool {
        self.take_in(self.epoch.elapsed().as_secs())
    }

    fn take_in(&self, second: u64) -> bool {
        let second = second & u64::from(u32::MAX);
        let one_more = |window: u64| {
            // A worker whose clock is behind by a second takes from the one that is running.
            let running = (window >> 32).max(second);
            let used = if running == window >> 32 { window & u64::from(u32::MAX) } else { 0 };
            (used < u64::from(self.per_second)).then_some(running << 32 | (used + 1))
        };
        self.window.fetch_update(Relaxed, Relaxed, one_more).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_its_share_and_leaves_none_to_the_next() {
        let rate = KeepRate::new(3);
        let taken = |second| (0..10).filter(|_| rate.take_in(second)).count();
        assert_eq!([taken(0), taken(0), taken(1), taken(7), taken(6), taken(8)], [3, 0, 3, 3, 0, 3]);
    }

    #[test]
    fn a_rate_of_nothing_keeps_nothing() {
        let rate = KeepRate::new(0);
        assert!(!rate.take_in(0) && !rate.take_in(5));
    }

    #[test]
    fn all_workers_together_keep_no_more() {
        let rate = KeepRate::new(100);
        let kept: usize = std::thread::scope(|scope| {
            let take = || (0..1000).filter(|_| rate.take_in(1)).count();
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!(kept, 100);
    }
}
