//! How much of a node's requests each zone takes.
//!
//! The aim is that every endpoint gets the same load per weight, as long as every zone has the same demand, and that no request
//! leaves its zone otherwise. With Z zones, a zone that has more than a Z-th of the usable weight keeps all of its
//! requests. One that has less keeps what its endpoints can take, and sends the rest to the zones that have
//! more, in proportion to how much more. (Envoy's zone-aware routing follows the same rule.) Each endpoint that fails or
//! comes back moves the shares by its own weight: there is no threshold.
//!
//! A zone counts as long as the set has an endpoint of it, usable or not, since its nodes still have requests. A node whose
//! zone is not in the set at all shares by weight, as the others do not know of it.

use super::plan::{Level, Plan};
use crate::balance::stable_hash::mixed;

/// How requests share among the zones, as things stand with the endpoints' health.
#[derive(Clone, Debug)]
pub struct Shares {
    /// One for each level; none when the plan has but one group.
    pub(super) levels: Box<[LevelShares]>,
}

#[derive(Clone, Debug)]
pub(super) struct LevelShares {
    /// Whether any endpoint of the level is usable.
    pub(super) usable: bool,
    /// Running sums of the shares, up to 1; the own zone is the first.
    shares: Box<[f64]>,
    /// Running sums of the other zones' usable weights.
    spill: Box<[f64]>,
}

impl Plan {
    /// The shares while `usable` is so. It looks at every endpoint, so it is to be kept until the health of one changes. Shares that
    /// are out of date make the spread uneven, and nothing worse.
    pub fn shares(&self, usable: impl Fn(usize) -> bool) -> Shares {
        if self.only_group().is_some() {
            return Shares { levels: Box::new([]) };
        }
        Shares { levels: self.levels.iter().map(|level| level_shares(level, &usable)).collect() }
    }
}

impl Shares {
    /// The part of the requests that the own zone keeps, at the first level that has a usable endpoint; None where
    /// nothing is preferred.
    pub fn own_zone(&self) -> Option<f64> {
        self.levels.iter().find(|level| level.usable)?.shares.first().copied()
    }
}

impl LevelShares {
    /// The zone that `random` stands for: 0 for the own one, else one more than the number among the others.
    pub(super) fn district(&self, random: u64) -> usize {
        drawn(&self.shares, random)
    }

    /// Another zone, by weight: the number among the others.
    pub(super) fn other(&self, random: u64) -> usize {
        // Other bits than those that chose the own zone.
        drawn(&self.spill, mixed(random))
    }
}

fn level_shares(level: &Level, usable: impl Fn(usize) -> bool) -> LevelShares {
    if level.census.is_empty() {
        let mut endpoints = level.reserve.iter().chain(level.groups()).flat_map(|group| group.endpoints());
        return LevelShares { usable: endpoints.any(usable), shares: Box::new([]), spill: Box::new([]) };
    }
    let mut capacity = vec![0.0; level.districts()];
    for resident in level.census.iter().filter(|resident| usable(resident.endpoint as usize)) {
        capacity[resident.district as usize] += f64::from(resident.weight);
    }
    let sum: f64 = capacity.iter().sum();
    LevelShares { usable: sum > 0.0, shares: running(&shares(&capacity)), spill: running(&capacity[1..]) }
}

/// What each zone takes of the requests of the first one, by their capacities.
fn shares(capacity: &[f64]) -> Vec<f64> {
    let demand = capacity.iter().sum::<f64>() / capacity.len() as f64;
    let lacking = (demand - capacity[0]).max(0.0);
    let surplus = |capacity: &f64| (capacity - demand).max(0.0);
    let surpluses: f64 = capacity.iter().map(surplus).sum();
    // Where nobody lacks anything nobody has a surplus either, and nothing is to be sent.
    let sent = if surpluses > 0.0 { lacking / surpluses } else { 0.0 };
    let others = capacity[1..].iter().map(|capacity| surplus(capacity) * sent);
    std::iter::once(demand - lacking).chain(others).collect()
}

/// Running sums, as parts of the whole.
fn running(parts: &[f64]) -> Box<[f64]> {
    let sum = parts.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let add = |before: &mut f64, part: &f64| {
        *before += part / sum;
        Some(*before)
    };
    parts.iter().scan(0.0, add).collect()
}

/// The part that `random` stands for: the last one at the most, as sums are not exact.
fn drawn(sums: &[f64], random: u64) -> usize {
    let point = (random >> 11) as f64 / (1u64 << 53) as f64;
    sums.partition_point(|sum| *sum <= point).min(sums.len().saturating_sub(1))
}
