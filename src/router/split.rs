//! The weighted choice among a rule's backends.

/// How a rule's requests split over its backends.
#[derive(Clone, Debug)]
pub struct Split {
    /// Running sums of the weights; none when there is nothing to choose.
    sums: Box<[u64]>,
}

impl Split {
    /// One weight per backend, in the rule's order; they sum to more than nothing.
    pub fn new(weights: &[u32]) -> Self {
        let sum = |sum: &mut u64, weight: &u32| {
            *sum += u64::from(*weight);
            Some(*sum)
        };
        let choices = if weights.len() > 1 { weights } else { &[] };
        Self { sums: choices.iter().scan(0, sum).collect() }
    }

    /// The backend that `random`, uniform over all 64-bit numbers, stands for: each in proportion to its weight, one
    /// of weight 0 never.
    pub fn choose(&self, random: u64) -> usize {
        let total = self.sums.last().copied().unwrap_or(0);
        // Scaled instead of taken modulo: no point is likelier than another by more than total / 2^64.
        let point = ((u128::from(random) * u128::from(total)) >> 64) as u64;
        self.sums.partition_point(|&sum| sum <= point).min(self.sums.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each backend is chosen in so many draws.
    fn counts(weights: &[u32], draws: u32) -> Vec<u32> {
        let split = Split::new(weights);
        let mut random = fastrand::Rng::with_seed(7);
        let mut counts = vec![0; weights.len()];
        (0..draws).for_each(|_| counts[split.choose(random.u64(..))] += 1);
        counts
    }

    /// Pearson's statistic of counts against weights.
    fn chi_square(weights: &[u32], draws: u32) -> f64 {
        let total: f64 = weights.iter().copied().map(f64::from).sum();
        let pairs = counts(weights, draws).into_iter().zip(weights).filter(|(_, weight)| **weight > 0);
        pairs
            .map(|(count, weight)| {
                let expected = f64::from(draws) * f64::from(*weight) / total;
                (f64::from(count) - expected).powi(2) / expected
            })
            .sum()
    }

    #[test]
    fn requests_split_in_proportion_to_the_weights() {
        // The 99.9th percentiles of the distribution for 1, 4 and 9 degrees of freedom.
        assert!(chi_square(&[10, 90], 200_000) < 10.83);
        assert!(chi_square(&[1, 0, 2, 3, 4, 1000], 200_000) < 18.47);
        assert!(chi_square(&[1; 10], 200_000) < 27.88);
    }

    #[test]
    fn the_largest_weights_do_not_overflow() {
        assert!(chi_square(&[u32::MAX; 5], 200_000) < 18.47);
    }

    #[test]
    fn a_weight_of_nothing_is_never_chosen() {
        let counts = counts(&[0, 1, 0, 1, 0], 10_000);
        assert_eq!([counts[0], counts[2], counts[4]], [0, 0, 0]);
        let split = Split::new(&[0, 1, 0]);
        assert_eq!([split.choose(0), split.choose(u64::MAX)], [1, 1]);
    }

    #[test]
    fn boundaries_between_shares_are_exact() {
        let split = Split::new(&[1, 3]);
        assert_eq!(split.choose((1 << 62) - 1), 0);
        assert_eq!(split.choose(1 << 62), 1);
    }
}
