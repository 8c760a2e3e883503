//! The memory ceiling: above it new work is refused, until there is clearly room again.
//!
//! Only the control thread looks; workers read a flag that is written when it changes.

use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, Release},
};

/// New work is taken again below this share of the ceiling, in percent.
const AGAIN: u64 = 95;

/// What a look has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryChange {
    /// The ceiling is reached: new work is refused.
    Reached,
    /// There is room again.
    Left,
}

/// The ceiling, and how far away it is.
#[derive(Default)]
pub struct MemoryWatch {
    short: AtomicBool,
    /// Milliseconds of the caller's clock at which it became short.
    since: AtomicU64,
    used: AtomicU64,
    /// 0 when there is none.
    ceiling: AtomicU64,
}

impl MemoryWatch {
    /// Takes note of what is used, and of the ceiling, in bytes, at `now`. Says what that changes.
    pub fn look(&self, used: u64, ceiling: Option<u64>, now: u64) -> Option<MemoryChange> {
        self.used.store(used, Relaxed);
        self.ceiling.store(ceiling.unwrap_or(0), Relaxed);
        let was = self.is_short();
        let is = ceiling.is_some_and(|ceiling| {
            let again = u128::from(ceiling) * u128::from(AGAIN) / 100;
            used >= ceiling || (was && u128::from(used) >= again)
        });
        if was == is {
            return None;
        }
        self.since.store(now, Relaxed);
        self.short.store(is, Release);
        Some(if is { MemoryChange::Reached } else { MemoryChange::Left })
    }

    /// Whether new work is refused.
    #[inline]
    pub fn is_short(&self) -> bool {
        self.short.load(Relaxed)
    }

    /// Since when new work is refused, by the clock of [`Self::look`].
    pub fn short_since(&self) -> Option<u64> {
        self.is_short().then(|| self.since.load(Relaxed))
    }

    /// Bytes in use at the last look.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Bytes at which new work is refused.
    pub fn ceiling(&self) -> Option<u64> {
        Some(self.ceiling.load(Relaxed)).filter(|ceiling| *ceiling > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_refused_at_the_ceiling_and_taken_again_below_95_percent_of_it() {
        let watch = MemoryWatch::default();
        assert_eq!(watch.look(99, Some(100), 3), None);
        assert_eq!(watch.look(100, Some(100), 3), Some(MemoryChange::Reached));
        assert_eq!(watch.short_since(), Some(3));
        assert_eq!(watch.look(95, Some(100), 3), None);
        assert!(watch.is_short());
        assert_eq!(watch.look(94, Some(100), 3), Some(MemoryChange::Left));
        assert_eq!(watch.look(99, Some(100), 3), None);
        assert_eq!((watch.is_short(), watch.short_since()), (false, None));
    }

    #[test]
    fn without_a_ceiling_nothing_is_refused() {
        let watch = MemoryWatch::default();
        assert_eq!(watch.look(u64::MAX, None, 3), None);
        watch.look(10, Some(10), 3);
        assert_eq!(watch.look(10, None, 3), Some(MemoryChange::Left));
        assert_eq!((watch.used(), watch.ceiling()), (10, None));
    }
}
