//! Least-request by the power of two choices: of two endpoints drawn at random, the less loaded one takes the request.
//!
//! Two draws keep the longest queue exponentially shorter than one would, and unlike a search for the least loaded
//! endpoint they do not send every worker to the same one (M. Mitzenmacher, "The Power of Two Choices in Randomized
//! Load Balancing", IEEE TPDS 12(10), 2001).
//!
//! # Weights
//! Load counts per weight, and candidates are drawn in proportion to weight. Between equally loaded candidates the one
//! drawn first wins, so that an idle set shares its requests in proportion to the weights. Preferring the heavier one
//! instead would starve the lighter of two endpoints for as long as both are idle.
//!
//! # Unusable endpoints
//! A few draws find a usable endpoint while most are usable. When they fail, a scan from a random start does, so that
//! a usable endpoint is found if there is one.

use super::weights::{Weights, below};

/// Draws before a scan. With half the set unusable, one pick in sixteen scans.
const DRAWS: usize = 4;

/// The endpoint that takes the next request, or None when none is usable.
///
/// `random` yields uniform 64-bit numbers; `load` tells an endpoint's running requests. `usable` says which endpoints
/// may be taken: it is also how a caller keeps a retry off the endpoint that just failed.
pub fn least_request(
    weights: &Weights,
    mut random: impl FnMut() -> u64,
    load: impl Fn(usize) -> u32,
    usable: impl Fn(usize) -> bool,
) -> Option<usize> {
    let first = candidate(weights, &mut random, &usable)?;
    if weights.len() == 1 {
        return Some(first);
    }
    let second = candidate(weights, &mut random, |endpoint| endpoint != first && usable(endpoint));
    Some(second.filter(|&second| is_less_loaded(weights, &load, second, first)).unwrap_or(first))
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

/// Whether `a` has less load per weight than `b`; multiplied crosswise, which needs no division and is exact.
fn is_less_loaded(weights: &Weights, load: impl Fn(usize) -> u32, a: usize, b: usize) -> bool {
    u64::from(load(a)) * weights.weight(b) < u64::from(load(b)) * weights.weight(a)
}
