//! The weighted choice among a rule's backends.

/// How a rule's requests split over its backends.
#[derive(Clone, Debug)]
pub struct Split {
    /// Running sums of the weights.
    sums: Box<[u64]>,
}

impl Split {
    /// One weight per backend, in the rule's order; they sum to more than nothing.
    pub fn new(weights: &[u32]) -> Self {
        let sum = |sum: &mut u64, weight: &u32| {
            *sum += u64::from(*weight);
            Some(*sum)
        };
        Self { sums: weights.iter().scan(0, sum).collect() }
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
