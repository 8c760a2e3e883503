//! Percentiles from buckets, as Prometheus's `histogram_quantile` reads them.
//!
//! Within a bucket, observations count as spread evenly from its lower to its upper bound; what is above every bound counts as
//! the highest of them. So a percentile is as exact as its bucket is narrow.

use super::sums::Buckets;
use crate::telemetry::declared::REQUEST_BOUNDS;

/// What `part` (0 to 1) of the observations do not exceed, in seconds; none without any.
pub(super) fn of(buckets: &Buckets, part: f64) -> Option<f64> {
    let count: u64 = buckets.iter().map(|count| u64::from(*count)).sum();
    let rank = part * count as f64;
    let seconds = |bound: u64| bound as f64 / 1e6;
    let (mut below, mut lower) = (0u64, 0.0);
    for (bucket, bound) in buckets.iter().zip(REQUEST_BOUNDS) {
        let within = u64::from(*bucket);
        let upper = seconds(*bound);
        if within > 0 && (below + within) as f64 >= rank {
            return Some(lower + (upper - lower) * (rank - below as f64) / within as f64);
        }
        below += within;
        lower = upper;
    }
    (count > 0).then_some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(counts: &[(usize, u32)]) -> Buckets {
        let mut buckets = Buckets::default();
        counts.iter().for_each(|(index, count)| buckets[*index] = *count);
        buckets
    }

    #[test]
    fn percentiles_are_those_that_prometheus_would_show() {
        // Bounds in ms: 0.1 0.25 0.5 1 2.5 5 10 ...
        let some = buckets(&[(3, 50), (4, 40), (6, 10)]);
        for (part, millis) in [(0.5, 1.0), (0.25, 0.75), (0.7, 1.75), (0.9, 2.5), (0.95, 7.5), (1.0, 10.0)] {
            let read = of(&some, part).unwrap() * 1e3;
            assert!((read - millis).abs() < 1e-9, "{part}: {read}");
        }
    }

    #[test]
    fn nothing_has_no_percentile_and_the_last_bound_is_the_highest() {
        assert_eq!(of(&Buckets::default(), 0.5), None);
        let slow = buckets(&[(REQUEST_BOUNDS.len(), 3)]);
        assert_eq!(of(&slow, 0.5), Some(60.0));
    }
}
