//! When a name is asked for again.
//!
//! # Edge cases
//! A TTL below the floor (0 included) counts as the floor, one above the ceiling as the ceiling: a name that says "do
//! not cache" must not become a query per request, and one that says "a week" must not hide a move for a week.
//! Names that were first asked for together would be refreshed together for ever, so every delay carries jitter.

use std::time::Duration;

/// How soon a name is asked for again, and the chance in it.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// No two queries for a name are closer than this, but for a member that is missing (`holddown.rs`). Default 1 s.
    pub floor: Duration,
    /// An answer is trusted no longer than this. Default 5 min.
    pub ceiling: Duration,
    /// Before the first retry of a failed query. Default 1 s; doubles with each failure.
    pub first_retry: Duration,
    /// Retries are no further apart than this. Default 30 s.
    pub last_retry: Duration,
    /// Jitter.
    pub random: fastrand::Rng,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            floor: Duration::from_secs(1),
            ceiling: Duration::from_secs(300),
            first_retry: Duration::from_secs(1),
            last_retry: Duration::from_secs(30),
            random: fastrand::Rng::new(),
        }
    }
}

impl Schedule {
    /// The delay after an answer that holds for `ttl`.
    pub(in crate::discovery) fn after_answer(&mut self, ttl: Duration) -> Duration {
        let random = self.random.f64();
        self.refresh_delay(ttl, random)
    }

    /// The delay after the `failures`th failure in a row (from 1).
    pub(in crate::discovery) fn after_failure(
        &mut self,
        failures: u32,
        negative_ttl: Option<Duration>,
    ) -> Duration {
        let random = self.random.f64();
        self.retry_delay(failures, negative_ttl, random)
    }

    /// How long an answer with this TTL holds.
    pub(in crate::discovery) fn held(&self, ttl: Duration) -> Duration {
        ttl.min(self.ceiling).max(self.floor)
    }

    /// The same, with chances of its own.
    pub(in crate::discovery) fn fork(&mut self) -> Self {
        let random = self.random.fork();
        Self { random, ..self.clone() }
    }

    /// At 80-95 % of the TTL, so that the next answer is here before this one expires. `random` is in `0.0..1.0`.
    fn refresh_delay(&self, ttl: Duration, random: f64) -> Duration {
        self.held(ttl).mul_f64(0.80 + 0.15 * random).max(self.floor)
    }

    /// Doubling from the first retry to the last; a negative answer's TTL may lengthen it up to the last.
    /// `random` is in `0.0..1.0`.
    fn retry_delay(&self, failures: u32, negative_ttl: Option<Duration>, random: f64) -> Duration {
        let doubled = self.first_retry.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
        let base = doubled.max(negative_ttl.unwrap_or_default()).min(self.last_retry);
        // The floor would cut off all jitter of the first retry, just when every name has failed at once.
        let earliest = base.mul_f64(0.75).max(self.floor);
        let latest = base.max(self.floor.mul_f64(1.25));
        earliest + latest.saturating_sub(earliest).mul_f64(random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn refresh(ttl: u64, random: f64) -> Duration {
        Schedule::default().refresh_delay(Duration::from_secs(ttl), random)
    }

    fn retry(failures: u32, negative_ttl: Option<u64>, random: f64) -> Duration {
        Schedule::default().retry_delay(failures, negative_ttl.map(Duration::from_secs), random)
    }

    #[test]
    fn an_answer_is_refreshed_shortly_before_it_expires() {
        assert_eq!(refresh(100, 0.0), ms(80_000));
        assert_eq!(refresh(100, 1.0), ms(95_000));
    }

    #[test]
    fn a_short_ttl_counts_as_the_floor() {
        assert_eq!(refresh(0, 0.0), ms(1000));
        assert_eq!(refresh(0, 1.0), ms(1000));
        assert_eq!(refresh(1, 0.5), ms(1000));
    }

    #[test]
    fn a_long_ttl_counts_as_the_ceiling() {
        assert_eq!(refresh(604_800, 0.0), ms(240_000));
        assert_eq!(refresh(604_800, 1.0), ms(285_000));
    }

    #[test]
    fn retries_double_up_to_the_last() {
        let latest: Vec<_> = (1..=7).map(|n| retry(n, None, 1.0)).collect();
        assert_eq!(latest, [1250, 2000, 4000, 8000, 16_000, 30_000, 30_000].map(ms));
        assert_eq!(retry(u32::MAX, None, 1.0), ms(30_000));
    }

    #[test]
    fn retries_are_jittered_but_never_below_the_floor() {
        let earliest: Vec<_> = (1..=6).map(|n| retry(n, None, 0.0)).collect();
        assert_eq!(earliest, [1000, 1500, 3000, 6000, 12_000, 22_500].map(ms));
    }

    #[test]
    fn a_negative_ttl_lengthens_a_retry_within_its_bounds() {
        assert_eq!(retry(1, Some(10), 1.0), ms(10_000));
        assert_eq!(retry(1, Some(3600), 1.0), ms(30_000));
        assert_eq!(retry(4, Some(2), 1.0), ms(8000));
    }

    #[test]
    fn the_random_source_decides_within_the_bounds() {
        let mut schedule = Schedule { random: fastrand::Rng::with_seed(7), ..Schedule::default() };
        let delays: Vec<_> = (0..100).map(|_| schedule.after_answer(Duration::from_secs(100))).collect();
        assert!(delays.iter().all(|d| (ms(80_000)..=ms(95_000)).contains(d)));
        assert!(delays.iter().any(|d| *d != delays[0]), "no jitter at all");
    }
}
