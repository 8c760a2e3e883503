//! Weighted draws of an endpoint, prepared once per endpoint set.
//!
//! Equal weights, the usual case, cost one multiplication; unequal ones a binary search over running sums.

/// How an endpoint set's weights share out random draws.
#[derive(Clone, Debug)]
pub struct Weights {
    len: usize,
    /// Running sums of the weights; absent when all are equal.
    sums: Option<Box<[u64]>>,
}

impl Weights {
    /// One weight per endpoint, in the set's order. Endpoints of weight 0 are never drawn.
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let sums: Box<[u64]> = weights
            .into_iter()
            .scan(0, |sum, weight| {
                *sum += u64::from(weight);
                Some(*sum)
            })
            .collect();
        let first = sums.first().copied().unwrap_or(1);
        let equal = first > 0 && sums.iter().zip(1u64..).all(|(&sum, position)| sum == first * position);
        Self { len: sums.len(), sums: (!equal).then_some(sums) }
    }

    /// Endpoints in the set.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the set holds no endpoint.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether every endpoint counts the same.
    pub fn are_equal(&self) -> bool {
        self.sums.is_none()
    }

    /// The weight of an endpoint relative to the others: 1 throughout when all are equal.
    pub fn weight(&self, endpoint: usize) -> u64 {
        let Some(sums) = &self.sums else { return 1 };
        sums[endpoint] - endpoint.checked_sub(1).map_or(0, |before| sums[before])
    }

    /// The sum of the weights, as [`Weights::weight`] tells them.
    pub fn total(&self) -> u64 {
        self.sums.as_ref().map_or(self.len as u64, |sums| sums.last().copied().unwrap_or(0))
    }

    /// The endpoint that `random`, uniform over all 64-bit numbers, stands for: each in proportion to its weight.
    /// None when no endpoint has any.
    pub fn draw(&self, random: u64) -> Option<usize> {
        let Some(sums) = &self.sums else {
            return (self.len > 0).then(|| below(random, self.len as u64) as usize);
        };
        let total = *sums.last()?;
        (total > 0).then(|| {
            let point = below(random, total);
            sums.partition_point(|&sum| sum <= point)
        })
    }
}

/// Scales `random` down to `0..bound`: a multiplication, and no number is likelier than another by more than
/// `bound / 2^64`.
pub(super) fn below(random: u64, bound: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_weights_count_as_one_each() {
        for weights in [vec![], vec![1], vec![7, 7, 7]] {
            assert!(Weights::new(weights).are_equal());
        }
        assert_eq!(Weights::new([7, 7]).weight(1), 1);
        for weights in [vec![0], vec![0, 0], vec![1, 2], vec![2, 1, 1], vec![2, 2, 0]] {
            assert!(!Weights::new(weights).are_equal());
        }
    }

    #[test]
    fn every_weight_is_kept() {
        let weights = Weights::new([5, 0, u32::MAX, 1]);
        let kept: Vec<u64> = (0..weights.len()).map(|endpoint| weights.weight(endpoint)).collect();
        assert_eq!(kept, [5, 0, u64::from(u32::MAX), 1]);
    }

    #[test]
    fn draws_share_the_random_numbers_by_weight() {
        let weights = Weights::new([1, 0, 3]);
        let quarter = 1 << 62;
        assert_eq!(weights.draw(0), Some(0));
        assert_eq!(weights.draw(quarter - 1), Some(0));
        assert_eq!(weights.draw(quarter), Some(2));
        assert_eq!(weights.draw(u64::MAX), Some(2));
        let equal = Weights::new([3, 3]);
        assert_eq!([equal.draw(quarter * 2 - 1), equal.draw(quarter * 2)], [Some(0), Some(1)]);
    }

    #[test]
    fn nothing_is_drawn_where_nothing_has_weight() {
        assert_eq!(Weights::new([]).draw(1), None);
        assert_eq!(Weights::new([0, 0]).draw(1), None);
    }
}
