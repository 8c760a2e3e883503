//! How many attempts an endpoint had of late, and how many of them failed; shared by all workers without a lock.
//!
//! # How exact it is
//! The window is eight slices, each one atomic number; the oldest goes when a new one begins. A tally so covers seven eighths of the
//! window and the part of the eighth that has passed. Attempts that several workers count in the moment in which a slice begins
//! are all counted, in one slice or the next. A slice that has counted four million attempts forgets half of them, in equal
//! proportion.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Slices of a window.
const SLICES: u64 = 8;
/// A slice's number has 20 bits, and its counts have 22 each.
const NUMBERS: u64 = 1 << 20;
const COUNTS: u64 = 1 << 22;

/// The attempts of one endpoint within its service's window.
#[derive(Debug, Default)]
pub(super) struct Window([AtomicU64; SLICES as usize]);

/// What a window has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) attempts: u64,
    pub(super) failed: u64,
}

impl Tally {
    /// Whether less than `percent` of at least `enough` attempts succeeded.
    pub(super) fn is_below(self, percent: u8, enough: u32) -> bool {
        let succeeded = self.attempts.saturating_sub(self.failed);
        self.attempts >= u64::from(enough) && succeeded * 100 < u64::from(percent) * self.attempts
    }
}

impl Window {
    /// Counts an attempt at `now`.
    pub(super) fn count(&self, now: u64, window: Duration, failed: bool) {
        let number = number(now, window);
        let slice = &self.0[(number % SLICES) as usize];
        let count = |slice: u64| {
            let (known, tally) = unpack(slice);
            // A worker whose look at the clock is older than another's by a whole window has nothing to say.
            let later = known != number && age(known, number) < SLICES && tally.attempts > 0;
            let before = if known == number { tally } else { Tally::default() };
            (!later).then(|| pack(number, before.and(failed)))
        };
        // Refused is only what is too old.
        let _ = slice.fetch_update(Relaxed, Relaxed, count);
    }

    /// What was counted within the window before `now`.
    pub(super) fn tally(&self, now: u64, window: Duration) -> Tally {
        let number = number(now, window);
        let mut sum = Tally::default();
        for slice in &self.0 {
            let (known, tally) = unpack(slice.load(Relaxed));
            if age(number, known) < SLICES {
                sum.attempts += tally.attempts;
                sum.failed += tally.failed;
            }
        }
        sum
    }

    /// Begins anew.
    pub(super) fn clear(&self) {
        self.0.iter().for_each(|slice| slice.store(0, Relaxed));
    }
}

impl Tally {
    fn and(self, failed: bool) -> Self {
        let halved = if self.attempts + 1 < COUNTS { 1 } else { 2 };
        Self { attempts: self.attempts / halved + 1, failed: self.failed / halved + u64::from(failed) }
    }
}

/// The slice of a moment.
fn number(now: u64, window: Duration) -> u64 {
    let slice = u64::try_from(window.as_millis()).unwrap_or(u64::MAX) / SLICES;
    now / slice.max(1) % NUMBERS
}

/// How many slices `one` comes after `other`.
fn age(one: u64, other: u64) -> u64 {
    (one + NUMBERS - other) % NUMBERS
}

fn pack(number: u64, tally: Tally) -> u64 {
    number << 44 | tally.attempts << 22 | tally.failed
}

fn unpack(slice: u64) -> (u64, Tally) {
    let tally = Tally { attempts: slice >> 22 & (COUNTS - 1), failed: slice & (COUNTS - 1) };
    (slice >> 44, tally)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_share_counts_from_enough_attempts_and_below_its_limit() {
        for (attempts, failed, below) in [(10, 6, true), (10, 5, false), (9, 9, false), (0, 0, false)] {
            assert_eq!(Tally { attempts, failed }.is_below(50, 10), below, "{failed} of {attempts}");
        }
    }

    #[test]
    fn a_cleared_window_is_empty() {
        let window = Window::default();
        window.count(5000, SECOND, true);
        window.clear();
        assert_eq!(window.tally(5000, SECOND), Tally::default());
    }

    #[test]
    fn a_full_slice_keeps_its_share() {
        let window = Window::default();
        for number in 0..COUNTS + 100 {
            window.count(5000, SECOND, number % 4 == 0);
        }
        let Tally { attempts, failed } = window.tally(5000, SECOND);
        assert!(attempts > COUNTS / 3 && (attempts / 4).abs_diff(failed) < 100, "{failed} of {attempts}");
    }

    proptest! {
        #[test]
        fn all_of_seven_eighths_of_the_window_is_counted_and_nothing_from_before_it(
            mut attempts in prop::collection::vec((1..5_000u64, any::<bool>()), 1..200),
            start in 1..u64::from(u32::MAX),
            millis in 8..3_000u64,
        ) {
            attempts.sort_unstable();
            let (window, length) = (Window::default(), Duration::from_millis(millis));
            attempts.iter().for_each(|(at, failed)| window.count(start + at, length, *failed));
            let (last, _) = attempts[attempts.len() - 1];
            let within = |time: u64| {
                let recent = attempts.iter().filter(|(at, _)| at + time > last);
                recent.fold((0, 0), |(all, bad), (_, failed)| (all + 1, bad + u64::from(*failed)))
            };
            let tally = window.tally(start + last, length);
            let (least, most) = (within(millis / 8 * 7), within(millis));
            prop_assert!((least.0..=most.0).contains(&tally.attempts), "{tally:?} {least:?} {most:?}");
            prop_assert!((least.1..=most.1).contains(&tally.failed), "{tally:?} {least:?} {most:?}");
        }
    }
}
