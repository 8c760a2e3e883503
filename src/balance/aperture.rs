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
//! An endpoint that comes or goes moves the others by less than its own width: a node's slice changes by a few endpoints.

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
/// not reach every endpoint. Weights are to be compared with each other only. Endpoints of weight 0 are left out.
pub fn aperture(endpoints: &[(SocketAddr, u32)], size: usize, coordinate: &Coordinate) -> Vec<(usize, u32)> {
    let mut order: Vec<(usize, SocketAddr, u32)> = (0..)
        .zip(endpoints)
        .map(|(index, (address, weight))| (index, *address, *weight))
        .filter(|(.., weight)| *weight > 0)
        .collect();
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
