//! Consistent hashing: the same key goes to the same endpoint, on every node, for as long as the endpoint is there and has
//! room.
//!
//! Every endpoint has points on a ring, in proportion to its weight; a key belongs to the endpoint whose point follows it.
//! When an endpoint leaves, only its own keys move. No endpoint takes more than 1.25 times its share of the running
//! requests: a key whose endpoint is full goes on to the next point (V. Mirrokni, M. Thorup and M. Zadimoghaddam,
//! "Consistent Hashing with Bounded Loads", SODA 2018, arXiv 1608.01350). Why this and not another
//! scheme: docs/decisions/0013-consistent-hashing.md.
//!
//! Points depend on the endpoints' addresses and weights alone, not on their order, so that all nodes make the same ring.
//!
//! # Unusable endpoints
//! Their keys go on to the next point like those of a full one. While some are unusable the others' shares
//! are larger; how much larger is told from the points that a walk has passed, which stand for the weights.
//!
//! # Few requests
//! A few requests are no load. Without [`ALWAYS`], a second request of the same key would go elsewhere whenever
//! the node is nearly idle.

use std::net::SocketAddr;

use super::{
    stable_hash::{hash_address, mixed},
    weights::{Weights, below},
};

/// How far above its share an endpoint may be, in quarters: 1.25 times.
const BOUND_QUARTERS: u64 = 5;
/// Running requests that every endpoint has room for.
const ALWAYS: u64 = 4;
/// The mean number of points of an endpoint is at least this and less than four times this. With n points, shares differ by
/// 1 / sqrt(n).
const POINTS: u64 = 128;
/// Points that one endpoint has at most, so that one heavy endpoint does not make the ring large.
const MOST_POINTS: u64 = 1 << 14;
/// Points that a walk passes before it stops looking for one with room. Where a fifth of the weight has room, one
/// in 1.6 million walks is longer.
const WALK: usize = 64;

/// The ring of an endpoint set.
#[derive(Clone, Debug)]
pub struct Ring {
    /// Ascending.
    points: Box<[Point]>,
    /// For each value of a position's upper bits, the first point that is not below.
    first: Box<[u32]>,
    /// How far a position is shifted to its upper bits.
    shift: u32,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    position: u32,
    endpoint: u32,
}

impl Ring {
    /// The ring of these endpoints, which are numbered in the order given. One of weight 0 has no point.
    pub fn new(members: impl Iterator<Item = (SocketAddr, u32)>) -> Self {
        let mut members: Vec<(SocketAddr, u32, u32)> =
            members.zip(0..).map(|((address, weight), endpoint)| (address, weight, endpoint)).collect();
        // Where two points fall together, the order of the addresses decides, on every node alike.
        members.sort_unstable_by_key(|(address, ..)| *address);
        let scale = scale(members.iter().map(|(_, weight, _)| *weight));
        let mut points = Vec::new();
        for (rank, (address, weight, _)) in (0u64..).zip(&members) {
            let hash = hash_address(*address);
            points.extend((0..points_of(*weight, scale)).map(|point| position(hash, point) | rank));
        }
        points.sort_unstable();
        let point = |point: u64| Point {
            position: (point >> 32) as u32,
            endpoint: members[(point as u32) as usize].2,
        };
        Self::of_points(points.into_iter().map(point).collect())
    }

    fn of_points(points: Box<[Point]>) -> Self {
        let bits = points.len().next_power_of_two().trailing_zeros().clamp(1, 31);
        let shift = 32 - bits;
        let mut first = Vec::with_capacity(1 << bits);
        let mut at = 0;
        for upper in 0..1u32 << bits {
            while points.get(at as usize).is_some_and(|point| point.position < upper << shift) {
                at += 1;
            }
            first.push(at);
        }
        Self { points, first: first.into(), shift }
    }

    /// The endpoint that takes a request of this key (`hash_key`), or None when none is usable.
    ///
    /// `total_load` is the sum of the endpoints' running requests, `load` tells those of one. `weights` are those that the ring was
    /// made with, in the same order.
    pub fn pick(
        &self,
        key: u64,
        total_load: u64,
        load: impl Fn(usize) -> u32,
        weights: &Weights,
        usable: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let bound = Bound { total_load, weights };
        let has_room = |endpoint: usize, seen: u64, found: u64| {
            usable(endpoint) && bound.has_room(endpoint, load(endpoint), seen, found)
        };
        let mut found = 0;
        for endpoint in self.walk(key) {
            if has_room(endpoint, 1, 1) {
                return Some(endpoint);
            }
            found += u64::from(usable(endpoint));
        }
        let (seen, found) = (WALK.min(self.points.len()) as u64, found.max(1));
        let all = || self.all(key, weights);
        self.walk(key)
            .find(|&endpoint| has_room(endpoint, seen, found))
            .or_else(|| all().find(|&endpoint| has_room(endpoint, seen, found)))
            .or_else(|| {
                let load = |&endpoint: &usize| f64::from(load(endpoint)) / weights.weight(endpoint) as f64;
                all().filter(|&endpoint| usable(endpoint)).min_by(|a, b| load(a).total_cmp(&load(b)))
            })
    }

    /// The endpoints of the points from the key on.
    fn walk(&self, key: u64) -> impl Iterator<Item = usize> {
        let position = (key >> 32) as u32;
        let start = self.first[(position >> self.shift) as usize] as usize;
        let passed = self.points[start..].iter().take_while(|point| point.position < position).count();
        let (before, after) = self.points.split_at(start + passed);
        after.iter().chain(before).take(WALK).map(|point| point.endpoint as usize)
    }

    /// Every endpoint that has any weight, from one on that depends on the key.
    fn all(&self, key: u64, weights: &Weights) -> impl Iterator<Item = usize> {
        let start = below(mixed(key), weights.len() as u64) as usize;
        (start..weights.len()).chain(0..start).filter(|&endpoint| weights.weight(endpoint) > 0)
    }
}

/// How much room there is.
struct Bound<'a> {
    total_load: u64,
    weights: &'a Weights,
}

impl Bound<'_> {
    /// Whether an endpoint with this load has room for one more, where of `seen` points `found` are usable. A load is below the
    /// capacity rounded up when it is below the capacity, so that nothing has to be divided.
    fn has_room(&self, endpoint: usize, load: u32, seen: u64, found: u64) -> bool {
        let load = u64::from(load);
        let taken = u128::from(load * 4) * u128::from(self.weights.total()) * u128::from(found);
        let share =
            u128::from((self.total_load + 1) * BOUND_QUARTERS) * u128::from(self.weights.weight(endpoint));
        load < ALWAYS || taken < share * u128::from(seen)
    }
}

/// Points per weight: a power of four, which an endpoint that comes or goes rarely changes, as every change of it moves keys.
fn scale(weights: impl Iterator<Item = u32>) -> f64 {
    let (sum, count) = weights
        .filter(|weight| *weight > 0)
        .fold((0.0, 0.0), |(sum, count), weight| (sum + f64::from(weight), count + 1.0));
    let mut scale = 1.0;
    while sum * scale < POINTS as f64 * count {
        scale *= 4.0;
    }
    while sum * scale >= (POINTS * 4) as f64 * count && count > 0.0 {
        scale /= 4.0;
    }
    scale
}

fn points_of(weight: u32, scale: f64) -> u64 {
    let points = (f64::from(weight) * scale).round() as u64;
    if weight == 0 { 0 } else { points.clamp(1, MOST_POINTS) }
}

/// Where the `point`-th point of an address with this hash is, in the upper half of the number.
fn position(hash: u64, point: u64) -> u64 {
    mixed(hash.wrapping_add(point.wrapping_mul(0x9e37_79b9_7f4a_7c15))) & !u64::from(u32::MAX)
}

#[cfg(test)]
mod tests;
