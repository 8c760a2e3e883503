//! Round robin: endpoints in turn, each as often as its weight says, heavy ones spread out rather than in a row.
//!
//! Small sets of unequal weights follow the smooth weighted round robin that nginx made known: every endpoint earns its
//! weight per pick, the richest is picked and pays what all of them earned. That comes to a cycle, which is written down
//! once. Large sets have no cycle worth writing down: their endpoints queue for the moment at which each is due
//! (`queue.rs`). The state belongs to one worker and one endpoint set: a new set starts anew.

use super::{
    queue::Queue,
    weights::{Weights, below},
};

/// Picks skipped at most so that workers start at different places of the cycle: bounds the cost of a new set.
const MAX_HEAD_START: u64 = 64;

/// What writing down a cycle may cost, in steps of a nanosecond or so.
const MAX_CYCLE_STEPS: u64 = 4096;

/// Whose turn it is among one endpoint set, as one worker sees it.
#[derive(Clone, Debug)]
pub struct RoundRobin(Turns);

#[derive(Clone, Debug)]
enum Turns {
    Equal { len: usize, next: usize },
    Cycle { endpoints: Box<[u32]>, next: usize },
    Queue(Queue),
}

impl RoundRobin {
    /// `random`, uniform over all 64-bit numbers, says where in the cycle to start, so that workers do not march in
    /// step; 0 starts at the beginning.
    pub fn new(weights: &Weights, random: u64) -> Self {
        if weights.are_equal() {
            let next = below(random, weights.len() as u64) as usize;
            return Self(Turns::Equal { len: weights.len(), next });
        }
        let weights = reduced(weights);
        let cycle: u64 = weights.iter().sum();
        let skipped = below(random, cycle.min(MAX_HEAD_START)) as usize;
        if cycle.saturating_mul(weights.len() as u64) <= MAX_CYCLE_STEPS {
            return Self(Turns::Cycle { endpoints: smooth(&weights), next: skipped });
        }
        let mut queue = Queue::new(&weights);
        for _ in 0..skipped {
            queue.pick(|_| true);
        }
        Self(Turns::Queue(queue))
    }

    /// The endpoint whose turn it is; one that is not usable loses its turn. None when none is usable.
    pub fn pick(&mut self, usable: impl Fn(usize) -> bool) -> Option<usize> {
        match &mut self.0 {
            Turns::Equal { len, next } => {
                let picked = (*next..*len).chain(0..*next).find(|&endpoint| usable(endpoint))?;
                *next = if picked + 1 == *len { 0 } else { picked + 1 };
                Some(picked)
            }
            Turns::Cycle { endpoints, next } => {
                let mut turns = (*next..endpoints.len()).chain(0..*next);
                let turn = turns.find(|&turn| usable(endpoints[turn] as usize))?;
                *next = if turn + 1 == endpoints.len() { 0 } else { turn + 1 };
                Some(endpoints[turn] as usize)
            }
            Turns::Queue(queue) => queue.pick(usable),
        }
    }
}

/// Each endpoint's weight over their greatest common divisor: the same turns in the shortest cycle.
fn reduced(weights: &Weights) -> Vec<u64> {
    let weights: Vec<u64> = (0..weights.len()).map(|endpoint| weights.weight(endpoint)).collect();
    let divisor = weights.iter().copied().fold(0, common_divisor).max(1);
    weights.into_iter().map(|weight| weight / divisor).collect()
}

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// One cycle: in each round every endpoint earns its weight; the richest, the first of several, pays the sum.
fn smooth(weights: &[u64]) -> Box<[u32]> {
    let cycle: i64 = weights.iter().sum::<u64>() as i64;
    let mut credits = vec![0; weights.len()];
    let round = |_| {
        let mut richest = 0;
        for (endpoint, weight) in weights.iter().enumerate() {
            credits[endpoint] += *weight as i64;
            if credits[endpoint] > credits[richest] {
                richest = endpoint;
            }
        }
        credits[richest] -= cycle;
        richest as u32
    };
    (0..cycle).map(round).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(turns: &mut RoundRobin, count: usize, usable: impl Fn(usize) -> bool) -> Vec<usize> {
        (0..count).filter_map(|_| turns.pick(&usable)).collect()
    }

    fn first_picks(weights: &[u32], random: u64, count: usize) -> Vec<usize> {
        let weights = Weights::new(weights.iter().copied());
        picks(&mut RoundRobin::new(&weights, random), count, |_| true)
    }

    #[test]
    fn equal_endpoints_take_strict_turns() {
        assert_eq!(first_picks(&[2, 2, 2], 0, 7), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(first_picks(&[1], 0, 3), [0, 0, 0]);
    }

    #[test]
    fn heavy_endpoints_take_more_turns_spread_out() {
        assert_eq!(first_picks(&[5, 1, 1], 0, 14), [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn a_cycle_holds_every_endpoint_as_often_as_its_weight() {
        let picks = first_picks(&[3, 0, 4, 10], u64::MAX / 3, 17);
        let counts: Vec<usize> =
            (0..4).map(|endpoint| picks.iter().filter(|picked| **picked == endpoint).count()).collect();
        assert_eq!(counts, [3, 0, 4, 10]);
    }

    #[test]
    fn the_random_number_says_where_in_the_cycle_to_start() {
        assert_eq!(first_picks(&[1; 4], 1 << 63, 5), [2, 3, 0, 1, 2]);
        assert_eq!(first_picks(&[1; 4], u64::MAX, 2), [3, 0]);
        // Half of the cycle 0 0 1 0 2 0 0 is three picks, rounded down.
        assert_eq!(first_picks(&[5, 1, 1], 1 << 63, 7), [0, 2, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn unusable_endpoints_lose_their_turn() {
        let mut turns = RoundRobin::new(&Weights::new([1; 4]), 0);
        assert_eq!(picks(&mut turns, 5, |endpoint| endpoint != 1), [0, 2, 3, 0, 2]);
        assert_eq!(picks(&mut turns, 4, |_| true), [3, 0, 1, 2]);
    }

    #[test]
    fn unusable_endpoints_do_not_save_up_turns() {
        let mut turns = RoundRobin::new(&Weights::new([5, 1, 1]), 0);
        assert_eq!(picks(&mut turns, 70, |endpoint| endpoint != 0).len(), 70);
        let back = picks(&mut turns, 7, |_| true);
        assert_eq!(back.iter().filter(|picked| **picked == 0).count(), 5);
    }

    #[test]
    fn weights_with_a_common_divisor_take_the_turns_of_their_shares() {
        assert_eq!(first_picks(&[500, 100, 100], 0, 14), first_picks(&[5, 1, 1], 0, 14));
    }

    #[test]
    fn large_sets_take_turns_by_weight_as_well() {
        let weights: Vec<u32> = (0..1000).map(|endpoint| endpoint % 7).collect();
        let cycle = weights.iter().sum::<u32>() as usize;
        let picks = first_picks(&weights, u64::MAX, 2 * cycle);
        for (endpoint, weight) in weights.iter().enumerate() {
            let count = picks.iter().filter(|picked| **picked == endpoint).count();
            assert_eq!(count, 2 * *weight as usize, "{endpoint}");
        }
    }

    #[test]
    fn no_endpoint_is_picked_where_none_is_usable() {
        for weights in [vec![], vec![1, 1], vec![1, 2]] {
            let mut turns = RoundRobin::new(&Weights::new(weights), 9);
            assert_eq!(turns.pick(|_| false), None);
        }
        assert_eq!(RoundRobin::new(&Weights::new([0, 0]), 9).pick(|_| true), None);
    }
}
