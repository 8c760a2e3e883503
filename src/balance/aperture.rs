//! Subsetting: which of many endpoints this node talks to, so that the number of its connections stays bounded.
//!
//! The deterministic aperture of Finagle (`finagle-core`, `loadbalancer/aperture/WeightedAperture.scala`): endpoints stand side by side
//! on a ring, each as wide as its weight, in the order of a stable hash of their addresses. The node's slice begins at its
//! coordinate. An endpoint that the slice covers in part has that part of its weight.
//!
//! Where the node knows its number among its peers, slices are laid end to end, and are so wide that they go round the
//! ring a whole number of times: then every endpoint is covered equally often, and gets the same load. Where it does
//! not, the slice begins at a hash of the node's name, and endpoints get the same load only on average: with 100 nodes of 10 endpoints
//! each, load differs by about a third from endpoint to endpoint.
//!
//! An endpoint that comes or goes moves the others by less than its own width: a node's slice changes by a few endpoints, or,
//! when that changes how often the slices go round, by those between two nodes' coordinates.

use std::{net::SocketAddr, ops::Range};

use super::stable_hash::{hash_address, hash_key};

/// What a wholly covered endpoint of weight 1 counts, so that parts can be told in whole numbers.
const WHOLE: f64 = 1024.0;

/// Where on the ring, of length 1, a node's slice begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coordinate {
    start: f64,
    /// The distance to the next node; 0 when it is not known.
    unit: f64,
}

impl Coordinate {
    /// The node with this number, from 0, of `count` peers that all use the service.
    pub fn of_peer(index: u32, count: u32) -> Self {
        let count = f64::from(count.max(1));
        Self { start: (f64::from(index) / count).fract(), unit: count.recip() }
    }

    /// A node of this name, of whose peers nothing is known.
    pub fn of_name(name: &str) -> Self {
        Self { start: hash_key(name.as_bytes()) as f64 / 2f64.powi(64), unit: 0.0 }
    }

    /// The slice that covers `wanted` of the ring, or a little more.
    fn slice(&self, wanted: f64) -> Range<f64> {
        // A hair less, because a quotient that should be whole may be a hair more.
        let width = if self.unit > 0.0 { (wanted / self.unit - 1e-9).ceil() * self.unit } else { wanted };
        self.start..self.start + width.min(1.0)
    }
}

/// The endpoints (address and weight) that the node at `coordinate` is to use, with their weights there; in the order given.
///
/// It is about `size` of them: with endpoints of equal weight up to `size` + 1, and more only where that many nodes would
/// not reach every endpoint; a size of 0 counts as 1. Weights are to be compared with each other only. Endpoints of weight 0 are left out.
pub fn aperture(endpoints: &[(SocketAddr, u32)], size: usize, coordinate: &Coordinate) -> Vec<(usize, u32)> {
    let mut order: Vec<(usize, SocketAddr, u32)> = (0..)
        .zip(endpoints)
        .map(|(index, (address, weight))| (index, *address, *weight))
        .filter(|(.., weight)| *weight > 0)
        .collect();
    let size = size.max(1);
    if order.len() <= size {
        return order.into_iter().map(|(index, _, weight)| (index, weight)).collect();
    }
    order.sort_by_cached_key(|(_, address, _)| (hash_address(*address), *address));
    let sum: f64 = order.iter().map(|(.., weight)| f64::from(*weight)).sum();
    let heaviest = order.iter().map(|(.., weight)| *weight).max().unwrap_or(1);
    let whole = WHOLE.min(f64::from(u32::MAX / heaviest));
    let slice = coordinate.slice(size as f64 / order.len() as f64);
    let mut covered = Vec::new();
    let mut end = 0.0;
    for (index, _, weight) in order {
        let start = end;
        end += f64::from(weight) / sum;
        let part = overlap(&slice, start, end) * sum * whole;
        if part.round() > 0.0 {
            covered.push((index, part.round() as u32));
        }
    }
    covered.sort_unstable();
    covered
}

/// How much of an endpoint's place the slice covers, which may go beyond the end of the ring and on from its beginning.
fn overlap(slice: &Range<f64>, start: f64, end: f64) -> f64 {
    let once = |offset: f64| (slice.end.min(end + offset) - slice.start.max(start + offset)).max(0.0);
    once(0.0) + once(1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(number: u32) -> SocketAddr {
        SocketAddr::from(([10, 1, (number >> 8) as u8, number as u8], 80))
    }

    fn endpoints(numbers: Range<u32>, weight: impl Fn(u32) -> u32) -> Vec<(SocketAddr, u32)> {
        numbers.map(|number| (address(number), weight(number))).collect()
    }

    /// The load of each endpoint when each of `nodes` sends one unit, by weight.
    fn loads(endpoints: &[(SocketAddr, u32)], size: usize, nodes: &[Coordinate]) -> Vec<f64> {
        let mut loads = vec![0.0; endpoints.len()];
        for node in nodes {
            let used = aperture(endpoints, size, node);
            let sum: f64 = used.iter().map(|(_, weight)| f64::from(*weight)).sum();
            used.iter().for_each(|(index, weight)| loads[*index] += f64::from(*weight) / sum);
        }
        loads
    }

    fn peers(count: u32) -> Vec<Coordinate> {
        (0..count).map(|index| Coordinate::of_peer(index, count)).collect()
    }

    #[test]
    fn numbered_nodes_load_every_endpoint_alike() {
        for (nodes, count, size) in [(10, 30, 10), (7, 100, 12), (50, 1000, 20), (13, 17, 5), (3, 1000, 20)] {
            let loads = loads(&endpoints(0..count, |_| 1), size, &peers(nodes));
            let mean = f64::from(nodes) / f64::from(count);
            assert!(
                loads.iter().all(|load| (load / mean - 1.0).abs() < 0.01),
                "{nodes} {count} {size}: {loads:?}"
            );
        }
    }

    #[test]
    fn numbered_nodes_load_endpoints_by_weight() {
        let endpoints = endpoints(0..60, |number| 1 + number % 5);
        for (load, (_, weight)) in loads(&endpoints, 12, &peers(9)).iter().zip(&endpoints) {
            let share = 9.0 * f64::from(*weight) / 180.0;
            assert!((load / share - 1.0).abs() < 0.01, "{load} is not {share}");
        }
    }

    #[test]
    fn nodes_known_by_name_only_load_endpoints_alike_on_average() {
        let nodes: Vec<Coordinate> =
            (0..500).map(|node| Coordinate::of_name(&format!("node-{node}"))).collect();
        let loads = loads(&endpoints(0..100, |_| 1), 10, &nodes);
        assert!(loads.iter().all(|load| (2.5..7.5).contains(load)), "{loads:?}");
    }

    #[test]
    fn a_node_uses_one_endpoint_more_than_asked_for_at_the_most() {
        let endpoints = endpoints(0..1000, |_| 1);
        for size in [1, 10, 20, 100] {
            for node in 0..100 {
                let used = aperture(&endpoints, size, &Coordinate::of_name(&format!("node-{node}"))).len();
                assert!((size..=size + 1).contains(&used), "{used} of {size}");
            }
        }
    }

    #[test]
    fn slices_grow_where_nodes_are_too_few_to_reach_every_endpoint() {
        let used = |index| aperture(&endpoints(0..1000, |_| 1), 20, &Coordinate::of_peer(index, 4)).len();
        assert!((0..4).all(|index| (250..=251).contains(&used(index))));
    }

    #[test]
    fn an_endpoint_that_comes_changes_a_few_of_a_nodes() {
        let named = (0..50).map(|node| Coordinate::of_name(&format!("node-{node}")));
        for node in peers(50).into_iter().chain(named) {
            for count in [100, 200, 450, 900] {
                let used = |count: u32| -> Vec<SocketAddr> {
                    let endpoints = endpoints(0..count, |_| 1);
                    aperture(&endpoints, 20, &node).iter().map(|(index, _)| endpoints[*index].0).collect()
                };
                let (before, after) = (used(count), used(count + 1));
                let gone = before.iter().filter(|address| !after.contains(address)).count();
                let come = after.iter().filter(|address| !before.contains(address)).count();
                assert!(gone <= 2 && come <= 3, "{gone} gone, {come} come");
            }
        }
    }

    #[test]
    fn a_small_set_is_used_whole_with_its_weights() {
        let endpoints = endpoints(0..3, |number| number);
        assert_eq!(aperture(&endpoints, 3, &Coordinate::of_name("n")), [(1, 1), (2, 2)]);
        assert_eq!(aperture(&[], 3, &Coordinate::of_peer(0, 0)), []);
    }

    proptest! {
        #[test]
        fn what_is_used_is_in_the_set_once_and_has_weight(
            weights in prop::collection::vec(any::<u32>(), 0..80),
            size in 0usize..30,
            (index, count) in (0u32..20, 0u32..20),
        ) {
            let endpoints: Vec<_> = (0..).zip(&weights).map(|(number, weight)| (address(number), *weight)).collect();
            let used = aperture(&endpoints, size, &Coordinate::of_peer(index, count));
            prop_assert!(used.windows(2).all(|pair| pair[0].0 < pair[1].0));
            prop_assert!(used.iter().all(|(index, weight)| *weight > 0 && weights[*index] > 0));
            prop_assert_eq!(used.is_empty(), weights.iter().all(|weight| *weight == 0));
        }
    }
}
