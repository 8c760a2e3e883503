//! Slow start: a new endpoint takes a growing part of its share, because its caches and pools are cold.
//!
//! Which endpoint is offered a request is left to the balancers; this says whether one that is new accepts it. The offer is
//! turned down at random, so that it holds for every balancer alike, and a caller whose endpoints are all new has to ask again
//! without it: somebody must take the request.

use std::time::Duration;

/// What an endpoint takes at once. Less would leave it without the requests that warm it (Envoy's smallest is 10 % too).
const FIRST: f32 = 0.1;

/// The part of its share that an endpoint takes which has been here for `age`: a tenth at first, growing evenly to all
/// of it at the end of `window`. A window of zero is no slow start.
pub fn warmth(age: Duration, window: Duration) -> f32 {
    if age >= window {
        return 1.0;
    }
    FIRST + (1.0 - FIRST) * (age.as_secs_f32() / window.as_secs_f32())
}

/// Whether an endpoint of this warmth takes a request; `random` is uniform over all 64-bit numbers.
pub fn accept(warmth: f32, random: u64) -> bool {
    // 24 bits are what an f32 holds exactly; the largest is below 1, so that a warm endpoint always accepts.
    ((random >> 40) as f32) < warmth * (1u32 << 24) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(30);

    #[test]
    fn warmth_grows_evenly_from_a_tenth_to_one() {
        let at = |seconds| warmth(Duration::from_secs(seconds), WINDOW);
        assert_eq!(at(0), 0.1);
        assert!((at(10) - 0.4).abs() < 1e-6 && (at(20) - 0.7).abs() < 1e-6);
        assert_eq!([at(30), at(3000)], [1.0, 1.0]);
    }

    #[test]
    fn no_window_is_no_slow_start() {
        assert_eq!(warmth(Duration::ZERO, Duration::ZERO), 1.0);
    }

    #[test]
    fn a_warm_endpoint_accepts_everything() {
        assert!(accept(1.0, 0) && accept(1.0, u64::MAX));
    }

    #[test]
    fn a_cold_endpoint_accepts_as_much_as_its_warmth_says() {
        let mut random = fastrand::Rng::with_seed(5);
        for warmth in [0.1, 0.4, 0.9] {
            let accepted = (0..100_000).filter(|_| accept(warmth, random.u64(..))).count();
            assert!((accepted as f32 / 100_000.0 - warmth).abs() < 0.01, "{accepted} of {warmth}");
        }
    }
}
