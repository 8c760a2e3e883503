//! Peak EWMA: of two endpoints drawn at random, the one where a further request is expected to cost less time.
//!
//! The cost of an endpoint is its latency times the requests that it would have, after Finagle
//! (`finagle-core`, `loadbalancer/PeakEwma.scala`; tower's `load/peak_ewma.rs` is the same). The latency is a moving average
//! that follows a rise at once and a fall slowly: an answer that took longer than the estimate becomes the estimate, shorter
//! ones pull it down with the time constant `decay`. The estimate also decays while nothing is heard, so that an endpoint that
//! was slow is tried again: after `decay` times the logarithm of how many times slower it was.
//!
//! # Endpoints that nothing is known of
//! They cost nothing while they are idle, so they are tried as soon as they are drawn; and more than any known one while
//! they have a request, so that they are tried once and not by everybody (Finagle's rule).
//!
//! # Failures
//! A failure is often fast, and must not look like a short latency. Taken as a fixed long latency it would do harm of another
//! kind: where one request in a thousand fails on every endpoint, each failure would empty an endpoint for a
//! minute, and all load would gather on those that happened to have none. So failures are kept apart, as the part
//! of the requests that fail: a moving average over requests (each counts a quarter, so that four failures in a row make it 68 %),
//! which time decays like the latency. A request that fails with probability f has to be sent 1 / (1 - f) times, and
//! most callers can afford only few of these, so the cost is divided by (1 - f)².
//! One failure raises the cost by 1.8, and the next few answers undo that; an endpoint that only fails
//! is worth a probe in each half `decay` or so, whatever the rate of requests; one that is well again has its share
//! back after about one `decay`.
//!
//! The latency estimate stands still through a failure, and does not decay: what is known of an endpoint is what
//! its last answers took. A failure that took longer than the estimate, such as a time limit, raises it.
//!
//! # One word
//! All workers share one [`Latency`] per endpoint. It is one atomic number, read and then written without a lock: of two
//! observations at the same moment one may be lost, which for an average is one sample less.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{candidates::better_of_two, weights::Weights};

/// The bits of the time stamp: milliseconds, which come round every 4.6 hours. An endpoint that was idle for just that long
/// looks as if it had been heard of just now, which costs it one more `decay`.
const STAMP_BITS: u32 = 24;
const STAMPS: u32 = 1 << STAMP_BITS;
/// How much older than the last stamp a moment may be, on another worker, without being taken for the next round.
const SKEW: u32 = 60_000;
/// The bits of the part of the requests that fail.
const FAILING_BITS: u32 = 9;
const ALL_FAILING: f32 = ((1 << FAILING_BITS) - 1) as f32;
/// How much of the average one request is.
const REQUEST: f32 = 0.25;
/// In microseconds, what is taken as the latency of an endpoint that has only failed.
const FIRST_FAILURE: f32 = 1e6;
/// The bounds of an estimate, in microseconds: 0 means that nothing is known, and costs must stay finite.
const SHORTEST: f32 = 1.0;
const LONGEST: f32 = 3.6e9;
/// The cost of each request that an endpoint has which nothing is known of: more than an hour.
const UNKNOWN: f32 = 1e10;

/// What one endpoint's answers have taken; shared by all workers.
#[derive(Debug, Default)]
pub struct Latency(AtomicU64);

/// The parts of the word.
#[derive(Clone, Copy)]
struct Estimate {
    /// Microseconds; 0 when nothing is known.
    latency: f32,
    /// The part of the requests that fail, 0 to 1.
    failing: f32,
    /// When both were so, modulo [`STAMPS`].
    stamp: u32,
}

impl Latency {
    /// Nothing is known yet.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// An answer came after `rtt`. `now_ms` is a clock in milliseconds that all workers share; it may wrap. `decay` is the time
    /// constant of the average.
    pub fn observe(&self, now_ms: u32, rtt: Duration, decay: Duration) {
        let known = self.load();
        let kept = known.kept(now_ms, decay);
        let rtt = microseconds(rtt);
        // What stands for the latency of one that has only failed is no latency.
        let decayed = if known.latency == FIRST_FAILURE { 0.0 } else { known.latency * kept };
        let latency = if rtt > decayed { rtt } else { decayed + rtt * (1.0 - kept) };
        let failing = known.failing * kept * (1.0 - REQUEST);
        self.store(Estimate { latency, failing, stamp: now_ms });
    }

    /// An attempt failed after `elapsed`.
    pub fn fail(&self, now_ms: u32, elapsed: Duration, decay: Duration) {
        let known = self.load();
        let latency = if known.latency == 0.0 { FIRST_FAILURE } else { known.latency };
        let failing = known.failing * known.kept(now_ms, decay);
        self.store(Estimate {
            latency: latency.max(microseconds(elapsed)),
            failing: failing + (1.0 - failing) * REQUEST,
            stamp: now_ms,
        });
    }

    /// The estimate of the latency when it was last heard of, without what failures add; None before the first answer.
    pub fn read(&self) -> Option<Duration> {
        let latency = self.load().latency;
        (latency > 0.0 && latency != FIRST_FAILURE).then(|| Duration::from_secs_f32(latency / 1e6))
    }

    /// The part of its requests that fails, 0 to 1, as it counts at this moment.
    pub fn failing(&self, now_ms: u32, decay: Duration) -> f32 {
        let known = self.load();
        known.failing * known.kept(now_ms, decay)
    }

    /// What a further request is expected to cost an endpoint that has `load` running ones, each of which counts `each`. As long as
    /// all of them together count less than 1, they cost nothing.
    #[inline]
    pub fn cost(&self, now_ms: u32, decay: Duration, load: u32, each: f32) -> f32 {
        let known = self.load();
        if known.latency == 0.0 {
            return UNKNOWN * load as f32 * each;
        }
        let kept = known.kept(now_ms, decay);
        let answering = 1.0 - known.failing * kept;
        let load = ((load as f32 + 1.0) * each).max(1.0);
        known.latency * kept * load / (answering * answering)
    }

    fn load(&self) -> Estimate {
        let word = self.0.load(Ordering::Relaxed);
        let failing = (word >> STAMP_BITS) as u32 & ((1 << FAILING_BITS) - 1);
        Estimate {
            latency: f32::from_bits((word >> (STAMP_BITS + FAILING_BITS)) as u32),
            // Never 1, by which a cost could not be divided.
            failing: failing as f32 / (ALL_FAILING + 1.0),
            stamp: word as u32 & (STAMPS - 1),
        }
    }

    fn store(&self, estimate: Estimate) {
        let latency = u64::from(estimate.latency.clamp(SHORTEST, LONGEST).to_bits());
        // Rounded down, so that success comes to nothing failing in the end.
        let failing = (estimate.failing * (ALL_FAILING + 1.0)).min(ALL_FAILING) as u64;
        let stamp = u64::from(estimate.stamp & (STAMPS - 1));
        self.0.store((latency << FAILING_BITS | failing) << STAMP_BITS | stamp, Ordering::Relaxed);
    }
}

impl Estimate {
    /// What is left at `now_ms` of an average of the time of the stamp: 1 when no time has passed, then less.
    fn kept(&self, now_ms: u32, decay: Duration) -> f32 {
        let elapsed = now_ms.wrapping_sub(self.stamp) & (STAMPS - 1);
        if elapsed == 0 || elapsed > STAMPS - SKEW {
            return 1.0;
        }
        (-(elapsed as f32) / (decay.as_secs_f32() * 1e3)).exp()
    }
}

fn microseconds(duration: Duration) -> f32 {
    (duration.as_secs_f32() * 1e6).clamp(SHORTEST, LONGEST)
}

/// The endpoint that takes the next request, or None when none is usable: of two drawn in proportion to weight the cheaper one.
///
/// `random` yields uniform 64-bit numbers; `cost` is [`Latency::cost`] of an endpoint whose requests count as given. A request on the
/// lighter of the two counts 1, and on the other so much less as it is heavier: with few requests the draw decides, which goes
/// by weight already.
pub fn peak_ewma(
    weights: &Weights,
    random: impl FnMut() -> u64,
    cost: impl Fn(usize, f32) -> f32,
    usable: impl Fn(usize) -> bool,
) -> Option<usize> {
    if weights.are_equal() {
        return better_of_two(weights, random, usable, |a, b| cost(a, 1.0) < cost(b, 1.0));
    }
    better_of_two(weights, random, usable, |a, b| {
        let (of_a, of_b) = (weights.weight(a) as f32, weights.weight(b) as f32);
        let lighter = of_a.min(of_b);
        cost(a, lighter / of_a) < cost(b, lighter / of_b)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DECAY: Duration = Duration::from_secs(10);
    const NOW: u32 = 100_000;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn observed(rtt: u64) -> Latency {
        let latency = Latency::new();
        latency.observe(NOW, ms(rtt), DECAY);
        latency
    }

    /// The estimate at `now`, of an endpoint that has not failed.
    fn read(latency: &Latency, now: u32) -> f64 {
        f64::from(latency.cost(now, DECAY, 0, 1.0)) / 1e3
    }

    fn last(latency: &Latency) -> f64 {
        latency.read().expect("something is known").as_secs_f64() * 1e3
    }

    fn assert_near(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 0.01, "{found} is not {expected}");
    }

    /// How long after `from` an endpoint is cheaper than one that costs `other`, both idle.
    fn probed_after(latency: &Latency, from: u32, other: f32) -> u32 {
        (0..1000).find(|tenths| latency.cost(from + tenths * 100, DECAY, 0, 1.0) < other).expect("a probe")
            * 100
    }

    #[test]
    fn nothing_is_known_at_first() {
        assert_eq!(Latency::new().read(), None);
    }

    #[test]
    fn a_slower_answer_counts_at_once_and_a_faster_one_by_and_by() {
        let latency = observed(10);
        latency.observe(NOW + 1, ms(80), DECAY);
        assert_near(read(&latency, NOW + 1), 80.0);
        latency.observe(NOW + 1, ms(10), DECAY);
        assert_near(read(&latency, NOW + 1), 80.0);
        for after in 2..=10_001 {
            latency.observe(NOW + after, ms(10), DECAY);
        }
        // After one time constant, 1/e of the difference is left.
        assert_near(read(&latency, NOW + 10_001), 10.0 + 70.0 / 1f64.exp());
    }

    #[test]
    fn many_answers_in_a_millisecond_average_like_few() {
        let latency = observed(80);
        for after in 0..100_000 {
            latency.observe(NOW + after / 10, ms(10), DECAY);
        }
        assert_near(read(&latency, NOW + 10_000), 10.0 + 70.0 / 1f64.exp());
    }

    #[test]
    fn the_estimate_decays_while_nothing_is_heard() {
        assert_near(read(&observed(80), NOW + 10_000), 80.0 / 1f64.exp());
    }

    #[test]
    fn the_cost_counts_the_request_to_come() {
        let latency = observed(10);
        assert_eq!([0, 1, 9].map(|load| latency.cost(NOW, DECAY, load, 1.0)), [1e4, 2e4, 1e5]);
    }

    #[test]
    fn an_unknown_endpoint_is_tried_once() {
        let unknown = Latency::new();
        assert!(unknown.cost(NOW, DECAY, 0, 1.0) < observed(0).cost(NOW, DECAY, 0, 1.0));
        assert!(unknown.cost(NOW, DECAY, 1, 1.0) > observed(60_000).cost(NOW, DECAY, 100, 1.0));
        assert!(unknown.cost(NOW, DECAY, 2, 1.0) > unknown.cost(NOW, DECAY, 1, 1.0));
    }

    #[test]
    fn a_fast_failure_makes_an_endpoint_dearer() {
        let latency = observed(10);
        let before = latency.cost(NOW, DECAY, 0, 1.0);
        latency.fail(NOW + 1, Duration::ZERO, DECAY);
        assert_near(f64::from(latency.cost(NOW + 1, DECAY, 0, 1.0) / before), 1.0 / (0.75 * 0.75));
        for _ in 0..3 {
            latency.fail(NOW + 2, Duration::ZERO, DECAY);
        }
        assert!(latency.cost(NOW + 2, DECAY, 0, 1.0) > 9.0 * before);
        assert_near(last(&latency), 10.0);
    }

    #[test]
    fn an_endpoint_that_has_only_failed_is_dear() {
        let latency = Latency::new();
        latency.fail(NOW, Duration::ZERO, DECAY);
        assert!(latency.cost(NOW, DECAY, 0, 1.0) > observed(500).cost(NOW, DECAY, 1, 1.0));
    }

    #[test]
    fn a_failure_that_took_long_is_a_long_latency() {
        let latency = observed(10);
        latency.fail(NOW, ms(5000), DECAY);
        assert_near(last(&latency), 5000.0);
    }

    #[test]
    fn one_failure_in_a_hundred_does_not_empty_an_endpoint() {
        let latency = observed(10);
        let mut dearest: f32 = 0.0;
        for request in 0..10_000 {
            let now = NOW + request * 10;
            match request % 100 {
                99 => latency.fail(now, Duration::ZERO, DECAY),
                _ => latency.observe(now, ms(10), DECAY),
            }
            dearest = dearest.max(latency.cost(now, DECAY, 0, 1.0));
        }
        assert!(dearest < 2.0 * 1e4, "{dearest}");
    }

    #[test]
    fn an_endpoint_that_only_fails_is_probed_rarely_whatever_it_has_seen() {
        let latency = observed(10);
        let mut now = NOW;
        for probe in 0..100 {
            latency.fail(now, Duration::ZERO, DECAY);
            let pause = probed_after(&latency, now, 1e4);
            assert!(probe < 3 || (4_000..10_000).contains(&pause), "probe {probe} after {pause} ms");
            now += pause;
        }
    }

    #[test]
    fn an_endpoint_that_is_well_again_is_probed_within_one_decay_and_cheap_after_a_few_answers() {
        let latency = observed(10);
        (0..1000).for_each(|_| latency.fail(NOW, Duration::ZERO, DECAY));
        let pause = probed_after(&latency, NOW, 1e4);
        assert!(pause <= 10_000, "{pause}");
        let now = NOW + pause;
        (0..8).for_each(|answer| latency.observe(now + answer, ms(10), DECAY));
        assert!(latency.cost(now + 8, DECAY, 0, 1.0) < 1.2e4);
    }

    #[test]
    fn an_endpoint_that_only_ever_failed_and_is_well_again_is_probed_within_bounds() {
        let latency = Latency::new();
        (0..1000).for_each(|_| latency.fail(NOW, Duration::ZERO, DECAY));
        // A second is 100 times the others' 10 ms: ln 100 time constants, and a little for the failures.
        let pause = probed_after(&latency, NOW, 1e4);
        assert!(pause < 48_000, "{pause}");
    }

    #[test]
    fn clocks_that_differ_a_little_or_wrap_do_no_harm() {
        let latency = observed(80);
        assert_near(read(&latency, NOW - 5), 80.0);
        let latency = Latency::new();
        latency.observe(u32::MAX - 4999, ms(80), DECAY);
        assert_near(read(&latency, 5000), 80.0 / 1f64.exp());
    }

    #[test]
    fn of_two_endpoints_the_cheaper_is_picked_and_weights_count_by_the_draw_and_by_load() {
        let pick = |weights: [u32; 2], rtt: [u64; 2], load: [u32; 2]| {
            let (mut random, weights) = (fastrand::Rng::with_seed(1), Weights::new(weights));
            let latency = rtt.map(observed);
            let cost = |at: usize, each: f32| latency[at].cost(NOW, DECAY, load[at], each);
            let picks = (0..1000).map(|_| peak_ewma(&weights, || random.u64(..), cost, |_| true));
            picks.filter(|picked| *picked == Some(0)).count()
        };
        assert_eq!(pick([1, 1], [10, 20], [0, 0]), 1000);
        assert_eq!(pick([1, 1], [20, 10], [0, 0]), 0);
        assert_eq!(pick([1, 100], [10, 20], [0, 0]), 1000, "weight does not outdo latency");
        for load in [[0, 0], [0, 1], [0, 50]] {
            assert!(
                (1..30).contains(&pick([1, 100], [10, 10], load)),
                "{load:?}: the draw decides, by weight"
            );
        }
        assert_eq!(pick([1, 100], [10, 10], [1, 50]), 0);
        assert_eq!(pick([1, 100], [10, 10], [0, 150]), 1000);
    }

    #[test]
    fn an_endpoint_that_has_only_failed_has_no_latency_and_its_first_answer_is_it() {
        let latency = Latency::new();
        latency.fail(NOW, Duration::ZERO, DECAY);
        assert_eq!(latency.read(), None);
        assert!(latency.failing(NOW, DECAY) > 0.2);
        latency.observe(NOW + 1, ms(3), DECAY);
        assert_near(last(&latency), 3.0);
    }

    proptest! {
        #[test]
        fn a_cost_is_finite_and_never_less_than_nothing(
            steps in prop::collection::vec((any::<u32>(), any::<u64>(), any::<bool>()), 0..50),
            load: u32,
            decay in 1u64..100_000_000,
        ) {
            let (latency, decay) = (Latency::new(), Duration::from_millis(decay));
            for (now, micros, failed) in steps {
                let time = Duration::from_micros(micros);
                if failed { latency.fail(now, time, decay) } else { latency.observe(now, time, decay) }
                let cost = latency.cost(now, decay, load, 1.0);
                prop_assert!(cost.is_finite() && cost >= 0.0, "{cost}");
                prop_assert!((0.0..1.0).contains(&latency.failing(now, decay)));
            }
        }

        #[test]
        fn an_endpoint_is_picked_if_any_is_usable_and_only_such_a_one(
            costs in prop::collection::vec((any::<f32>(), any::<bool>(), 1u32..9), 1..40),
            seed: u64,
        ) {
            let mut random = fastrand::Rng::with_seed(seed);
            let weights = Weights::new(costs.iter().map(|(.., weight)| *weight));
            let picked = peak_ewma(&weights, || random.u64(..), |at, _| costs[at].0, |at| costs[at].1);
            prop_assert_eq!(picked.is_some(), costs.iter().any(|(_, usable, _)| *usable));
            prop_assert!(picked.is_none_or(|picked| costs[picked].1));
        }
    }
}
