//! Round robin: endpoints in turn, each as often as its weight says, heavy ones spread out rather than in a row.
//!
//! Unequal weights follow the smooth weighted round robin that nginx made known: every usable endpoint earns its weight
//! per pick, the richest is picked and pays what all of them earned. The state belongs to one worker and one endpoint
//! set: a new set starts anew.

use super::weights::{Weights, below};

/// Picks skipped at most so that workers start at different places of the cycle: bounds the cost of a new set.
const MAX_HEAD_START: u64 = 64;

/// Whose turn it is among one endpoint set, as one worker sees it.
#[derive(Clone, Debug)]
pub struct RoundRobin(Turns);

#[derive(Clone, Debug)]
enum Turns {
    Equal { len: usize, next: usize },
    Weighted(Box<[Earner]>),
}

#[derive(Clone, Debug)]
struct Earner {
    weight: i64,
    credit: i64,
}

impl RoundRobin {
    /// `random`, uniform over all 64-bit numbers, says where in the cycle to start, so that workers do not march in
    /// step; 0 starts at the beginning.
    pub fn new(weights: &Weights, random: u64) -> Self {
        if weights.are_equal() {
            let next = below(random, weights.len() as u64) as usize;
            return Self(Turns::Equal { len: weights.len(), next });
        }
        let earners = |endpoint| Earner { weight: weights.weight(endpoint) as i64, credit: 0 };
        let mut earners: Box<[Earner]> = (0..weights.len()).map(earners).collect();
        let cycle: u64 = (0..weights.len()).map(|endpoint| weights.weight(endpoint)).sum();
        for _ in 0..below(random, cycle.min(MAX_HEAD_START)) {
            richest(&mut earners, |_| true);
        }
        Self(Turns::Weighted(earners))
    }

    /// The endpoint whose turn it is; one that is not usable loses its turn. None when none is usable.
    pub fn pick(&mut self, usable: impl Fn(usize) -> bool) -> Option<usize> {
        match &mut self.0 {
            Turns::Equal { len, next } => {
                let picked = (*next..*len).chain(0..*next).find(|&endpoint| usable(endpoint))?;
                *next = if picked + 1 == *len { 0 } else { picked + 1 };
                Some(picked)
            }
            Turns::Weighted(earners) => richest(earners, usable),
        }
    }
}

/// One round: every usable endpoint earns its weight; the richest, the first of several, pays the sum.
fn richest(earners: &mut [Earner], usable: impl Fn(usize) -> bool) -> Option<usize> {
    let mut paid = 0;
    let mut best: Option<(usize, i64)> = None;
    for (endpoint, earner) in earners.iter_mut().enumerate() {
        if earner.weight == 0 || !usable(endpoint) {
            continue;
        }
        earner.credit += earner.weight;
        paid += earner.weight;
        if best.is_none_or(|(_, credit)| earner.credit > credit) {
            best = Some((endpoint, earner.credit));
        }
    }
    let (picked, _) = best?;
    earners[picked].credit -= paid;
    Some(picked)
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
    fn no_endpoint_is_picked_where_none_is_usable() {
        for weights in [vec![], vec![1, 1], vec![1, 2]] {
            let mut turns = RoundRobin::new(&Weights::new(weights), 9);
            assert_eq!(turns.pick(|_| false), None);
        }
        assert_eq!(RoundRobin::new(&Weights::new([0, 0]), 9).pick(|_| true), None);
    }
}
