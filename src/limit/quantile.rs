//! As long as a share of the latest answers took: what a hedge waits for.
//!
//! A histogram of powers of two, each in eight steps, so that what it says is at most an eighth too long. When it holds [`MOST`]
//! answers all its counts are halved: what it says is of the last thousand or two, however long those took to come.

use std::time::Duration;

/// Steps of each power of two.
const STEPS: u32 = 8;
/// Powers of two, of a microsecond; the last also takes what is longer than two minutes.
const POWERS: u32 = 28;
const BUCKETS: usize = (STEPS * POWERS) as usize;
/// Answers at which counts are halved.
const MOST: u32 = 2048;
/// Answers before which nothing is said: a share of few is chance.
const FEWEST: u32 = 100;
/// What was found is good for so many further answers.
const GOOD_FOR: u32 = 32;

/// The latest answers of one service, as one worker has seen them.
pub struct Quantile {
    counts: Box<[u32; BUCKETS]>,
    total: u32,
    /// The share that was asked for last, what was found, and how many answers ago.
    found: Option<(u8, Duration, u32)>,
}

impl Default for Quantile {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]), total: 0, found: None }
    }
}

impl Quantile {
    /// One more answer took so long, or at least so long.
    pub fn record(&mut self, took: Duration) {
        self.counts[bucket(took)] += 1;
        self.total += 1;
        if let Some((_, _, ago)) = &mut self.found {
            *ago += 1;
        }
        if self.total == MOST {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
    }

    /// At most so long took `percent` of the answers. None while there are too few.
    pub fn of(&mut self, percent: u8) -> Option<Duration> {
        if self.total < FEWEST {
            return None;
        }
        if let Some((_, found, _)) = self.found.filter(|(of, _, ago)| *of == percent && *ago < GOOD_FOR) {
            return Some(found);
        }
        let found = self.search(percent);
        self.found = Some((percent, found, 0));
        Some(found)
    }

    fn search(&self, percent: u8) -> Duration {
        let wanted = (self.total * u32::from(percent.min(100))).div_ceil(100);
        let mut seen = 0;
        let reached = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        upper_end(reached.unwrap_or(BUCKETS - 1))
    }
}

fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let power = micros.ilog2();
    if power >= POWERS {
        return BUCKETS - 1;
    }
    let step = ((micros - (1 << power)) * u64::from(STEPS)) >> power;
    (power * STEPS) as usize + step as usize
}

/// The longest that a bucket holds.
fn upper_end(bucket: usize) -> Duration {
    let (power, step) = (bucket as u32 / STEPS, bucket as u64 % u64::from(STEPS));
    let start = 1u64 << power;
    Duration::from_micros(start + (start * (step + 1)).div_ceil(u64::from(STEPS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn recorded(answers: impl IntoIterator<Item = Duration>) -> Quantile {
        let mut quantile = Quantile::default();
        answers.into_iter().for_each(|took| quantile.record(took));
        quantile
    }

    #[test]
    fn few_answers_say_nothing() {
        assert_eq!(recorded([MS; 99]).of(95), None);
        assert!(recorded([MS; 100]).of(95).is_some());
    }

    #[test]
    fn it_is_at_most_an_eighth_too_long_and_never_too_short() {
        for micros in [1, 7, 100, 999, 1024, 50_000, 1_000_000, 100_000_000] {
            let took = Duration::from_micros(micros);
            let found = recorded([took; 100]).of(95).unwrap();
            assert!(
                found >= took && found <= took.mul_f64(1.126) + Duration::from_micros(1),
                "{took:?}: {found:?}"
            );
        }
    }

    #[test]
    fn the_share_is_found_among_answers_of_all_lengths() {
        for (percent, expected) in [(50, 500), (90, 900), (99, 990)] {
            let found = recorded((1..=1000).map(|n| n * MS)).of(percent).unwrap();
            assert!(found >= expected * MS && found < (expected * MS).mul_f64(1.15), "{percent}: {found:?}");
        }
    }

    #[test]
    fn what_has_become_faster_is_noticed_within_two_thousand_answers() {
        let mut quantile = recorded([100 * MS; 5000]);
        (0..2000).for_each(|_| quantile.record(MS));
        assert!(quantile.of(50).unwrap() < 2 * MS);
        (0..10_000).for_each(|_| quantile.record(MS));
        assert!(quantile.of(99).unwrap() < 2 * MS);
    }

    #[test]
    fn an_answer_of_any_length_has_a_place() {
        let mut quantile = recorded([Duration::ZERO, Duration::MAX]);
        (0..100).for_each(|_| quantile.record(Duration::MAX));
        assert!(quantile.of(99).unwrap() > Duration::from_secs(100));
    }
}
