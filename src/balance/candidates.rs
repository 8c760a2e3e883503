//! The two candidates of a power of two choices: drawn by weight, usable, and not the same twice.
//!
//! # Unusable endpoints
//! A few draws find a usable endpoint while most are usable. When they fail, a scan from a random start does, so that
//! a usable endpoint is found if there is one.

use super::weights::{Weights, below};

/// Draws before a scan. With half the set unusable, one pick in sixteen scans.
const DRAWS: usize = 4;

/// Of two usable endpoints drawn at random the second if it `is_better(second, first)`, else the first; the only
/// usable one where there is one; None where there is none.
#[inline]
pub(super) fn better_of_two(
    weights: &Weights,
    mut random: impl FnMut() -> u64,
    usable: impl Fn(usize) -> bool,
    is_better: impl Fn(usize, usize) -> bool,
) -> Option<usize> {
    let first = candidate(weights, &mut random, &usable)?;
    if weights.len() == 1 {
        return Some(first);
    }
    let second = candidate(weights, &mut random, |endpoint| endpoint != first && usable(endpoint));
    Some(second.filter(|&second| is_better(second, first)).unwrap_or(first))
}

/// A random usable endpoint.
fn candidate(
    weights: &Weights,
    random: &mut impl FnMut() -> u64,
    usable: impl Fn(usize) -> bool,
) -> Option<usize> {
    for _ in 0..DRAWS {
        let drawn = weights.draw(random())?;
        if usable(drawn) {
            return Some(drawn);
        }
    }
    let start = below(random(), weights.len() as u64) as usize;
    (start..weights.len()).chain(0..start).find(|&endpoint| weights.weight(endpoint) > 0 && usable(endpoint))
}
