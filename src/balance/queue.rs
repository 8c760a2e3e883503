//! Turns by deadline (earliest deadline first): a pick costs the logarithm of the number of endpoints.
//!
//! An endpoint of weight w is due w times in each unit of time, evenly, for the first time half an interval from the
//! start. Time goes on with each pick to the deadline of who is picked.

use std::{cmp::Reverse, collections::BinaryHeap};

/// A unit of time. With deadlines of 128 bits, time does not end.
const UNIT: u128 = 1 << 64;

/// Endpoints in the order in which they are due.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    /// The earliest first; of several, the first of the set.
    due: BinaryHeap<Reverse<(u128, u32)>>,
    /// By endpoint; none for those of weight 0, which are never due.
    intervals: Box<[u128]>,
}

impl Queue {
    /// One weight for each endpoint.
    pub(super) fn new(weights: &[u64]) -> Self {
        let intervals: Box<[u128]> =
            weights.iter().map(|weight| UNIT.checked_div(u128::from(*weight)).unwrap_or(0)).collect();
        let turn = |(endpoint, interval): (u32, &u128)| Reverse((interval / 2, endpoint));
        let due = (0..).zip(&intervals).filter(|(_, interval)| **interval > 0).map(turn).collect();
        Self { due, intervals }
    }

    /// The endpoint that is due next and usable. Those that were due and are not usable are due an interval later.
    pub(super) fn pick(&mut self, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let mut passed = Vec::new();
        let picked = loop {
            let Some(mut first) = self.due.peek_mut() else { break None };
            let Reverse((now, endpoint)) = *first;
            if usable(endpoint as usize) {
                *first = Reverse((now + self.intervals[endpoint as usize], endpoint));
                break Some((now, endpoint as usize));
            }
            passed.push((now, endpoint));
            std::collections::binary_heap::PeekMut::pop(first);
        };
        // Where nobody is usable time stands still, and nobody loses a turn.
        for (due, endpoint) in passed {
            let later = picked.map_or(due, |(now, _)| now + self.intervals[endpoint as usize]);
            self.due.push(Reverse((later, endpoint)));
        }
        picked.map(|(_, endpoint)| endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(queue: &mut Queue, count: usize, usable: impl Fn(usize) -> bool) -> Vec<usize> {
        (0..count).filter_map(|_| queue.pick(&usable)).collect()
    }

    #[test]
    fn heavy_endpoints_are_due_evenly() {
        assert_eq!(picks(&mut Queue::new(&[5, 1, 1]), 7, |_| true), [0, 0, 0, 1, 2, 0, 0]);
    }

    #[test]
    fn endpoints_that_are_not_usable_do_not_save_up_turns() {
        let mut queue = Queue::new(&[5, 1, 1]);
        assert_eq!(picks(&mut queue, 70, |endpoint| endpoint != 0).len(), 70);
        let back = picks(&mut queue, 7, |_| true);
        assert_eq!(back.iter().filter(|picked| **picked == 0).count(), 5);
    }

    #[test]
    fn the_rest_shares_by_weight_while_one_is_not_usable() {
        let picks = picks(&mut Queue::new(&[9, 1, 3]), 400, |endpoint| endpoint != 0);
        assert_eq!(picks.iter().filter(|picked| **picked == 1).count(), 100);
    }

    #[test]
    fn nobody_is_due_where_nobody_is_usable_or_has_weight() {
        let mut queue = Queue::new(&[1, 2]);
        assert_eq!(queue.pick(|_| false), None);
        assert_eq!(picks(&mut queue, 3, |_| true), [1, 0, 1]);
        assert_eq!(Queue::new(&[0, 0]).pick(|_| true), None);
    }
}
