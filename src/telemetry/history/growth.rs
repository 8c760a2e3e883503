//! By how much each series of a metric has grown since the last look.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::telemetry::family::Labels;

/// A series and what came to each of its numbers.
pub(super) type Grown<const N: usize> = (Labels, [u64; N]);

/// What each series was at the last look. Forgets those that are gone.
pub(super) struct Growth<const N: usize> {
    known: HashMap<Labels, Known<N>, RandomState>,
    /// The number of the last look.
    look: u32,
}

/// A series as it was.
struct Known<const N: usize> {
    value: [u64; N],
    /// At which look.
    look: u32,
}

impl<const N: usize> Default for Growth<N> {
    fn default() -> Self {
        Self { known: HashMap::default(), look: 0 }
    }
}

impl<const N: usize> Growth<N> {
    /// Those of `now` that have grown.
    pub(super) fn step(&mut self, now: impl Iterator<Item = Grown<N>>) -> Vec<Grown<N>> {
        self.look = self.look.wrapping_add(1);
        let look = self.look;
        let mut grown = Vec::new();
        for (labels, value) in now {
            let before = match self.known.get_mut(&labels) {
                Some(known) => {
                    known.look = look;
                    std::mem::replace(&mut known.value, value)
                }
                None => {
                    self.known.insert(labels.clone(), Known { value, look });
                    [0; N]
                }
            };
            let more = grown_by(before, value);
            if more.iter().any(|more| *more > 0) {
                grown.push((labels, more));
            }
        }
        self.known.retain(|_, known| known.look == look);
        grown
    }
}

/// A series that is less than it was has gone and come again: it began at nothing.
fn grown_by<const N: usize>(before: [u64; N], value: [u64; N]) -> [u64; N] {
    if value.iter().zip(before).any(|(value, before)| *value < before) {
        return value;
    }
    std::array::from_fn(|index| value[index] - before[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(name: &str) -> Labels {
        [Box::from(name)].into()
    }

    #[test]
    fn a_series_that_went_and_came_again_counts_from_nothing() {
        let mut growth = Growth::<1>::default();
        let mut step = |series: &[(&str, u64)]| {
            let now = series.iter().map(|(name, value)| (labels(name), [*value]));
            let grown = growth.step(now.collect::<Vec<_>>().into_iter());
            grown.into_iter().map(|(labels, [more])| (labels[0].to_string(), more)).collect::<Vec<_>>()
        };
        let named = |name: &str, more| (name.to_owned(), more);
        assert_eq!(step(&[("a", 5), ("b", 0)]), [named("a", 5)]);
        assert_eq!(step(&[("a", 5), ("b", 1)]), [named("b", 1)]);
        assert_eq!(step(&[("b", 4)]), [named("b", 3)]);
        assert_eq!(step(&[("a", 6), ("b", 2)]), [named("a", 6), named("b", 2)]);
    }
}
