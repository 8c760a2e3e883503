//! Least-request by the power of two choices: of two endpoints drawn at random, the less loaded one takes the request.
//!
//! Two draws keep the longest queue exponentially shorter than one would, and unlike a search for the least loaded
//! endpoint they do not send every worker to the same one (M. Mitzenmacher, "The Power of Two Choices in Randomized
//! Load Balancing", IEEE TPDS 12(10), 2001).
//!
//! # Weights
//! Candidates are drawn in proportion to weight, so the one drawn first has its fair chance, and keeps it while load is even: the
//! other takes the request only if even with it, it would have no more load per weight than the first has without. Preferring
//! whoever has less per weight instead would give an idle endpoint of weight 1 half of the requests of a quiet node beside one of
//! weight 100; preferring the heavier would starve the lighter.

use super::{candidates::better_of_two, weights::Weights};

/// The endpoint that takes the next request, or None when none is usable.
///
/// `random` yields uniform 64-bit numbers; `load` tells an endpoint's running requests. `usable` says which endpoints
/// may be taken: it is also how a caller keeps a retry off the endpoint that just failed.
pub fn least_request(
    weights: &Weights,
    random: impl FnMut() -> u64,
    load: impl Fn(usize) -> u32,
    usable: impl Fn(usize) -> bool,
) -> Option<usize> {
    better_of_two(weights, random, usable, |a, b| is_less_loaded(weights, &load, a, b))
}

/// Whether `a` with one more request has no more load per weight than `b`; multiplied crosswise, which needs no division and is
/// exact. Of equal weights that is: whether `a` has less load.
fn is_less_loaded(weights: &Weights, load: impl Fn(usize) -> u32, a: usize, b: usize) -> bool {
    (u64::from(load(a)) + 1) * weights.weight(b) <= u64::from(load(b)) * weights.weight(a)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PICKS: u32 = 40_000;

    /// Picks per endpoint, the load being as given throughout.
    fn counts(weights: &[u32], load: &[u32], usable: impl Fn(usize) -> bool) -> Vec<u32> {
        let prepared = Weights::new(weights.iter().copied());
        let mut random = fastrand::Rng::with_seed(11);
        let mut counts = vec![0; weights.len()];
        for _ in 0..PICKS {
            let picked = least_request(&prepared, || random.u64(..), |endpoint| load[endpoint], &usable);
            counts[picked.expect("one is usable")] += 1;
        }
        counts
    }

    fn assert_shares(counts: &[u32], shares: &[f64]) {
        for (count, share) in counts.iter().zip(shares) {
            let found = f64::from(*count) / f64::from(PICKS);
            assert!((found - share).abs() < 0.01, "{counts:?} is not {shares:?}");
        }
    }

    #[test]
    fn idle_endpoints_share_evenly() {
        assert_shares(&counts(&[1; 4], &[0; 4], |_| true), &[0.25; 4]);
    }

    #[test]
    fn idle_endpoints_share_by_weight() {
        assert_shares(&counts(&[1, 3], &[0; 2], |_| true), &[0.25, 0.75]);
        assert_shares(&counts(&[1, 2, 7], &[0; 3], |_| true), &[0.1, 0.2, 0.7]);
    }

    #[test]
    fn of_two_endpoints_the_less_loaded_always_wins() {
        assert_eq!(counts(&[1, 1], &[5, 4], |_| true), [0, PICKS]);
    }

    #[test]
    fn the_most_loaded_endpoint_is_never_picked() {
        // Each other one wins whenever it is drawn against a more loaded one: 1/2, 1/3, 1/6 of the pairs, and none.
        let shares = [1.0 / 2.0, 1.0 / 3.0, 1.0 / 6.0, 0.0];
        assert_shares(&counts(&[1; 4], &[0, 1, 2, 3], |_| true), &shares);
        assert_eq!(counts(&[1; 4], &[0, 1, 2, 3], |_| true)[3], 0);
    }

    #[test]
    fn load_counts_per_weight() {
        assert_eq!(counts(&[1, 10], &[1, 9], |_| true), [0, PICKS]);
        assert_eq!(counts(&[1, 10], &[1, 20], |_| true), [PICKS, 0]);
    }

    #[test]
    fn a_few_requests_do_not_upset_the_weights() {
        for load in [[0, 1], [0, 7], [0, 99]] {
            assert_shares(&counts(&[1, 100], &load, |_| true), &[1.0 / 101.0, 100.0 / 101.0]);
        }
        assert_eq!(counts(&[1, 100], &[1, 7], |_| true)[0], 0);
    }

    #[test]
    fn the_largest_loads_and_weights_do_not_overflow() {
        assert_eq!(counts(&[u32::MAX, 1], &[u32::MAX, u32::MAX], |_| true), [PICKS, 0]);
    }

    #[test]
    fn requests_spread_by_weight_when_each_adds_load() {
        let weights = Weights::new([1, 2, 5]);
        let mut random = fastrand::Rng::with_seed(3);
        let mut load = [0u32; 3];
        for _ in 0..8000 {
            let picked = least_request(&weights, || random.u64(..), |endpoint| load[endpoint], |_| true);
            load[picked.expect("all are usable")] += 1;
        }
        for (found, expected) in load.iter().zip([1000u32, 2000, 5000]) {
            assert!(found.abs_diff(expected) < 50, "{load:?}");
        }
    }

    #[test]
    fn unusable_endpoints_are_skipped_whatever_their_load() {
        assert_shares(&counts(&[1; 3], &[0, 9, 9], |endpoint| endpoint > 0), &[0.0, 0.5, 0.5]);
        assert_eq!(counts(&[1; 3], &[0, 9, 9], |endpoint| endpoint > 0)[0], 0);
    }

    #[test]
    fn the_one_usable_endpoint_of_many_is_always_found() {
        for only in [0, 50, 99] {
            assert_eq!(counts(&[1; 100], &[0; 100], |endpoint| endpoint == only)[only], PICKS);
        }
        assert_eq!(counts(&[1, u32::MAX], &[0; 2], |endpoint| endpoint == 0)[0], PICKS);
    }

    #[test]
    fn a_single_endpoint_takes_everything() {
        assert_eq!(counts(&[4], &[1000], |_| true), [PICKS]);
    }

    #[test]
    fn no_endpoint_is_picked_where_none_is_usable() {
        for weights in [vec![], vec![1], vec![1, 1], vec![1, 2]] {
            let weights = Weights::new(weights);
            assert_eq!(least_request(&weights, || 5, |_| 0, |_| false), None);
        }
    }

    #[test]
    fn an_endpoint_of_no_weight_is_never_picked() {
        assert_eq!(counts(&[0, 1, 1], &[0, 9, 9], |_| true)[0], 0);
        assert_eq!(least_request(&Weights::new([0, 1]), || 0, |_| 0, |endpoint| endpoint == 0), None);
    }
}
