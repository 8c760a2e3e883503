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
