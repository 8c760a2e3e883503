//! What the ring promises: few keys move, weights and bound are kept, order does not matter.

use proptest::prelude::*;

use super::*;
use crate::balance::hash_key;

const KEYS: u64 = 100_000;

fn address(number: u32) -> SocketAddr {
    SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 8080))
}

/// Endpoints as numbered in `numbers`, with their weights.
struct Set {
    members: Vec<(SocketAddr, u32)>,
    ring: Ring,
    weights: Weights,
}

impl Set {
    fn new(members: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let members: Vec<_> = members.into_iter().map(|(number, weight)| (address(number), weight)).collect();
        let weights = Weights::new(members.iter().map(|(_, weight)| *weight));
        Self { ring: Ring::new(members.iter().copied()), members, weights }
    }

    fn equal(numbers: impl IntoIterator<Item = u32>) -> Self {
        Self::new(numbers.into_iter().map(|number| (number, 1)))
    }

    /// The endpoint of a key on an idle ring.
    fn owner(&self, key: u64) -> usize {
        self.pick(key, &vec![0; self.members.len()], |_| true).expect("all are usable")
    }

    fn owner_address(&self, key: u64) -> SocketAddr {
        self.members[self.owner(key)].0
    }

    fn pick(&self, key: u64, load: &[u32], usable: impl Fn(usize) -> bool) -> Option<usize> {
        let total = load.iter().map(|load| u64::from(*load)).sum();
        self.ring.pick(hash_key(&key.to_le_bytes()), total, |at| load[at], &self.weights, usable)
    }

    /// Keys per endpoint.
    fn counts(&self) -> Vec<f64> {
        let mut counts = vec![0.0; self.members.len()];
        (0..KEYS).for_each(|key| counts[self.owner(key)] += 1.0);
        counts
    }
}

#[test]
fn removing_one_of_a_hundred_moves_its_own_keys_only() {
    let before = Set::equal(0..100);
    for gone in [0, 17, 99] {
        let after = Set::equal((0..100).filter(|number| *number != gone));
        let others = || (0..KEYS).filter(|key| before.owner_address(*key) != address(gone));
        let moved = others().filter(|key| before.owner_address(*key) != after.owner_address(*key)).count();
        assert_eq!(moved, 0);
    }
}

#[test]
fn removing_one_of_a_hundred_under_load_moves_less_than_two_percent_of_the_other_keys() {
    // Each key is one running request, so the bound is as tight as it gets.
    let assign = |set: &Set| -> Vec<SocketAddr> {
        let mut load = vec![0; set.members.len()];
        let place = |key| {
            let picked = set.pick(key, &load, |_| true).expect("all are usable");
            load[picked] += 1;
            set.members[picked].0
        };
        (0..10_000).map(place).collect()
    };
    let before = assign(&Set::equal(0..100));
    let after = assign(&Set::equal(1..100));
    let others = || before.iter().zip(&after).filter(|(before, _)| **before != address(0));
    let moved = others().filter(|(before, after)| before != after).count() as f64 / others().count() as f64;
    assert!(moved < 0.02, "{moved}");
}

#[test]
fn keys_stay_when_the_set_is_made_in_another_order() {
    let forwards = Set::new((0..50).map(|number| (number, 1 + number % 3)));
    let backwards = Set::new((0..50).rev().map(|number| (number, 1 + number % 3)));
    assert!((0..KEYS).all(|key| forwards.owner_address(key) == backwards.owner_address(key)));
}

#[test]
fn keys_never_move_between_versions() {
    let set = Set::new([(1, 1), (2, 2), (3, 1), (4, 5)]);
    let owners: Vec<usize> = (0..24).map(|key| set.owner(key)).collect();
    assert_eq!(owners, [3, 3, 3, 0, 2, 1, 3, 3, 3, 1, 3, 3, 3, 3, 0, 1, 1, 2, 3, 2, 3, 1, 3, 1]);
}

#[test]
fn keys_spread_evenly() {
    let counts = Set::equal(0..100).counts();
    let mean = KEYS as f64 / 100.0;
    let most = counts.iter().copied().fold(0.0, f64::max) / mean;
    let deviation = (counts.iter().map(|count| (count / mean - 1.0).powi(2)).sum::<f64>() / 100.0).sqrt();
    assert!(most < 1.25 && deviation < 0.09, "{most} {deviation}");
}

#[test]
fn keys_spread_by_weight() {
    let set = Set::new((0..60).map(|number| (number, [1, 2, 7][number as usize % 3])));
    let counts = set.counts();
    for (part, share) in [0.1, 0.2, 0.7].into_iter().enumerate() {
        let found: f64 = counts.iter().skip(part).step_by(3).sum::<f64>() / KEYS as f64;
        assert!((found / share - 1.0).abs() < 0.06, "{found} is not {share}");
    }
}

#[test]
fn no_endpoint_takes_more_than_its_bound() {
    for weights in [vec![1; 100], (1..=40).collect()] {
        let set = Set::new((0..).zip(weights.iter().copied()));
        let sum: u32 = weights.iter().sum();
        let mut load = vec![0; weights.len()];
        for total in 0..20_000u32 {
            // A hundred keys only, some of which come far more often than others.
            let picked =
                set.pick(u64::from(total % 7 * total % 100), &load, |_| true).expect("all are usable");
            load[picked] += 1;
            let share = f64::from(total + 1) * f64::from(weights[picked]) / f64::from(sum);
            let bound = (share * 1.25).ceil().max(4.0);
            assert!(f64::from(load[picked]) <= bound, "{} of {bound}", load[picked]);
        }
    }
}

#[test]
fn the_same_key_stays_while_the_node_is_nearly_idle() {
    let set = Set::equal(0..10);
    let owner = set.owner(5);
    let mut load = [0; 10];
    load[owner] = 3;
    assert_eq!(set.pick(5, &load, |_| true), Some(owner));
}

#[test]
fn the_usable_half_shares_the_load_of_the_other() {
    let set = Set::equal(0..100);
    let mut load = vec![0; 100];
    for key in 0..10_000 {
        let picked = set.pick(key, &load, |endpoint| endpoint % 2 == 0).expect("half is usable");
        load[picked] += 1;
    }
    // A share is 200; the bound is told from 64 points, within a quarter or so.
    let most = load.iter().max().copied().unwrap_or(0);
    assert!(most < 320, "{load:?}");
}

#[test]
fn keys_stay_with_their_first_usable_endpoint_while_the_usable_half_carries_all_the_load() {
    let set = Set::equal(0..100);
    let usable = |endpoint: usize| endpoint % 2 == 0;
    let load: Vec<u32> = (0..100).map(|endpoint| if usable(endpoint) { 20 } else { 0 }).collect();
    let stay = |key: &u64| set.pick(*key, &load, usable) == set.pick(*key, &[0; 100], usable);
    // The rest met more usable points than half, and took the bound for a tighter one.
    assert!((0..1000).filter(stay).count() > 950);
}

#[test]
fn keys_of_an_unusable_endpoint_spread_over_the_others_and_no_other_moves() {
    let set = Set::equal(0..20);
    let mut taken = [0; 20];
    for key in 0..KEYS {
        let picked = set.pick(key, &[0; 20], |endpoint| endpoint != 3).expect("the others are usable");
        match set.owner(key) {
            3 => taken[picked] += 1,
            owner => assert_eq!(owner, picked),
        }
    }
    assert_eq!(taken.iter().filter(|taken| **taken > 0).count(), 19);
}

#[test]
fn a_large_ring_has_a_bounded_number_of_points() {
    let points = |set: Set| set.ring.points.len();
    assert_eq!(points(Set::equal(0..1000)), 256_000);
    assert!(points(Set::new((0..1000).map(|number| (number, 1 + number % 100)))) < 512_000);
    assert!(points(Set::new([(0, 1), (1, u32::MAX)])) < 1024);
    assert_eq!(points(Set::new([(0, 0), (1, 0)])), 0);
}

proptest! {
    #[test]
    fn an_endpoint_is_picked_if_any_is_usable_and_only_such_a_one(
        endpoints in prop::collection::vec((0u32..50, any::<bool>(), 0u32..9), 0..40),
        key: u64,
    ) {
        let set = Set::new((0..).zip(endpoints.iter().map(|(.., weight)| *weight)));
        let load: Vec<u32> = endpoints.iter().map(|(load, ..)| *load).collect();
        let picked = set.pick(key, &load, |at| endpoints[at].1);
        prop_assert_eq!(picked.is_some(), endpoints.iter().any(|(_, usable, weight)| *usable && *weight > 0));
        prop_assert!(picked.is_none_or(|picked| endpoints[picked].1 && endpoints[picked].2 > 0));
    }
}
