//! One request's way through a plan: a level, then a group, then what the group's balancer picks.
//!
//! # Load
//! A preferred endpoint that is loaded gives way to one farther off only if that has fewer requests, by `spill` per weight. Under
//! growing load a near endpoint so stays `spill` requests ahead of the far ones: no request travels without need, and
//! there is no limit at which all of them would.

use super::{
    plan::{Group, Level, Plan},
    shares::{LevelShares, Shares},
};

impl Plan {
    /// The endpoint that takes the next request, by its number in the set, or None when none is usable.
    ///
    /// `pick` chooses a usable endpoint of a group and gives its number in the set ([`Group::endpoint`]); it is asked again,
    /// for other groups, when it finds none. `random` is uniform over all 64-bit numbers; `load` tells an endpoint's
    /// running requests.
    #[inline]
    pub fn choose(
        &self,
        shares: &Shares,
        random: u64,
        load: impl Fn(usize) -> u32,
        mut pick: impl FnMut(&Group) -> Option<usize>,
    ) -> Option<usize> {
        if let Some(group) = self.only_group() {
            return pick(group);
        }
        let load =
            |endpoint: usize| load(endpoint) as f32 * self.relative.as_ref().map_or(1.0, |by| by[endpoint]);
        let mut at_levels = |usable: bool| {
            let levels = self.levels.iter().zip(&shares.levels).filter(|(_, shares)| shares.usable == usable);
            levels
                .into_iter()
                .find_map(|(level, shares)| self.choose_at(level, shares, random, load, &mut pick))
        };
        // The second time for shares that are out of date.
        at_levels(true).or_else(|| at_levels(false))
    }

    fn choose_at(
        &self,
        level: &Level,
        shares: &LevelShares,
        random: u64,
        load: impl Fn(usize) -> f32,
        mut pick: impl FnMut(&Group) -> Option<usize>,
    ) -> Option<usize> {
        let is_light =
            |endpoint: Option<usize>| endpoint.is_some_and(|endpoint| load(endpoint) <= self.spill);
        let better = |near: Option<usize>, far: Option<usize>| match (near, far) {
            (Some(a), Some(b)) => Some(if load(a) > self.spill + load(b) { b } else { a }),
            _ => near.or(far),
        };
        let mut best = level.node.as_ref().and_then(&mut pick);
        if is_light(best) {
            return best;
        }
        let district = shares.district(random);
        let group = if district == 0 { level.zone.as_ref() } else { level.others.get(district - 1) };
        best = better(best, group.and_then(&mut pick));
        if district == 0 && !is_light(best) {
            best = better(best, level.others.get(shares.other(random)).and_then(&mut pick));
        }
        best.or_else(|| level.groups().chain(&level.reserve).find_map(pick))
    }
}
