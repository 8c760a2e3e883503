//! What the levels of preference promise, one node's requests at a time; `tests/it/balance_simulation` has whole zones.

use std::{cell::RefCell, net::SocketAddr};

use proptest::prelude::*;

use super::*;
use crate::balance::{Coordinate, least_request};

const PICKS: usize = 20_000;

fn member(number: usize, place: Place, zone: u32) -> Member {
    let address = SocketAddr::from(([10, 2, (number >> 8) as u8, number as u8], 80));
    Member { address, weight: 1, priority: 0, place, zone }
}

/// Endpoints of zones of these sizes; the first zone is the node's.
fn zones(sizes: &[usize]) -> Vec<Member> {
    let place = |zone| if zone == 1 { Place::Zone } else { Place::Elsewhere };
    let zones = (1..).zip(sizes).flat_map(|(zone, size)| std::iter::repeat_n(zone, *size));
    zones.enumerate().map(|(number, zone)| member(number, place(zone), zone)).collect()
}

fn options(prefer: Prefer) -> Options {
    Options { prefer, aperture: None, spill: 10 }
}

/// One node's plan and a random source.
struct Node {
    plan: Plan,
    random: RefCell<fastrand::Rng>,
    set: usize,
}

impl Node {
    fn new(members: &[Member], options: Options) -> Self {
        let random = RefCell::new(fastrand::Rng::with_seed(9));
        Self { plan: Plan::new(members, options), random, set: members.len() }
    }

    fn random(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }

    fn pick(&self, shares: &Shares, load: &[u32], usable: impl Fn(usize) -> bool) -> Option<usize> {
        let of_group = |group: &Group| {
            let usable = |member| usable(group.endpoint(member));
            let load = |member| load[group.endpoint(member)];
            Some(group.endpoint(least_request(&group.weights, || self.random(), load, usable)?))
        };
        self.plan.choose(shares, self.random(), |endpoint| load[endpoint], of_group)
    }

    /// Each endpoint's part of the picks, under this load.
    fn parts(&self, load: &[u32], usable: impl Fn(usize) -> bool) -> Vec<f64> {
        let shares = self.plan.shares(&usable);
        let mut picks = vec![0; self.set];
        for _ in 0..PICKS {
            picks[self.pick(&shares, load, &usable).expect("one is usable")] += 1;
        }
        picks.into_iter().map(|picks| f64::from(picks) / PICKS as f64).collect()
    }

    fn idle_parts(&self) -> Vec<f64> {
        self.parts(&vec![0; self.set], |_| true)
    }
}

fn assert_parts(found: &[f64], expected: &[f64]) {
    let near = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 0.012);
    assert!(near && found.len() == expected.len(), "{found:?} is not {expected:?}");
}

#[test]
fn without_a_preference_the_set_is_one_group() {
    let node = Node::new(&zones(&[2, 2]), options(Prefer::None));
    let group = node.plan.only_group().expect("one group");
    assert!(group.endpoints().eq(0..4));
    assert_parts(&node.idle_parts(), &[0.25; 4]);
}

#[test]
fn a_node_of_no_zone_shares_by_weight() {
    let members = [(1, 1), (2, 2), (2, 3)]
        .map(|(zone, weight)| Member { weight, ..member(zone, Place::Elsewhere, zone as u32) });
    let node = Node::new(&members, options(Prefer::Zone));
    assert!(node.plan.only_group().is_some());
    assert_parts(&node.idle_parts(), &[1.0 / 6.0, 2.0 / 6.0, 3.0 / 6.0]);
}

#[test]
fn the_lowest_priority_takes_everything_until_it_has_no_usable_endpoint() {
    let mut members = zones(&[4]);
    members[0].priority = 7;
    members[3].priority = 3;
    for prefer in [Prefer::None, Prefer::Zone] {
        let node = Node::new(&members, options(prefer));
        assert_parts(&node.idle_parts(), &[0.0, 0.5, 0.5, 0.0]);
        assert_eq!(node.idle_parts()[0], 0.0);
        assert_parts(&node.parts(&[0; 4], |endpoint| endpoint != 1), &[0.0, 0.0, 1.0, 0.0]);
        assert_parts(&node.parts(&[0; 4], |endpoint| endpoint == 0 || endpoint == 3), &[0.0, 0.0, 0.0, 1.0]);
        assert_parts(&node.parts(&[0; 4], |endpoint| endpoint == 0), &[1.0, 0.0, 0.0, 0.0]);
    }
}

#[test]
fn with_all_well_no_request_leaves_the_zone() {
    let parts = Node::new(&zones(&[3, 3, 3]), options(Prefer::Zone)).idle_parts();
    assert_eq!(parts[3..], [0.0; 6]);
    assert_parts(&parts[..3], &[1.0 / 3.0; 3]);
}

#[test]
fn a_zone_that_is_large_enough_keeps_everything() {
    assert_eq!(Node::new(&zones(&[4, 3, 3]), options(Prefer::Zone)).idle_parts()[4..], [0.0; 6]);
}

#[test]
fn a_small_zone_keeps_its_share_and_sends_the_rest_where_there_is_room() {
    // 9 endpoints, so a third of the demand is 3 endpoints' work: one zone lacks 2, another has 3 to spare.
    let parts = Node::new(&zones(&[1, 2, 6]), options(Prefer::Zone)).idle_parts();
    let sent = 2.0 / 3.0 / 6.0;
    assert_parts(&parts, &[1.0 / 3.0, 0.0, 0.0, sent, sent, sent, sent, sent, sent]);
}

#[test]
fn unusable_endpoints_are_no_capacity() {
    let node = Node::new(&zones(&[2, 2]), options(Prefer::Zone));
    assert_parts(&node.parts(&[0; 4], |endpoint| endpoint != 0), &[0.0, 2.0 / 3.0, 1.0 / 6.0, 1.0 / 6.0]);
    assert_parts(&node.parts(&[0; 4], |endpoint| endpoint > 1), &[0.0, 0.0, 0.5, 0.5]);
    assert_eq!(node.plan.shares(|endpoint| endpoint != 0).own_zone(), Some(2.0 / 3.0));
}

#[test]
fn the_share_of_the_zone_moves_evenly_as_its_endpoints_go_one_by_one() {
    let node = Node::new(&zones(&[10, 10, 10]), options(Prefer::Zone));
    let share = |gone| node.plan.shares(|endpoint| endpoint >= gone).own_zone().expect("zones are preferred");
    for gone in 1..=10 {
        let step = share(gone - 1) - share(gone);
        // One endpoint's share of the demand of three zones.
        let share = 3.0 / (30.0 - gone as f64);
        assert!(step >= 0.0 && step <= share + 1e-9, "{step} after {gone}");
    }
    assert_eq!((share(0), share(10)), (1.0, 0.0));
}

#[test]
fn the_node_comes_first_then_its_zone_then_the_rest() {
    let mut members = zones(&[3, 3]);
    members[1].place = Place::Node;
    let node = Node::new(&members, options(Prefer::Node));
    assert_eq!(node.idle_parts()[1], 1.0);
    // Without the node's, two of three are left in the zone: of five, they are worth 4/5 of the demand.
    let parts = node.parts(&[0; 6], |endpoint| endpoint != 1);
    assert_parts(&parts, &[0.4, 0.0, 0.4, 0.2 / 3.0, 0.2 / 3.0, 0.2 / 3.0]);
    assert_parts(
        &node.parts(&[0; 6], |endpoint| endpoint > 2),
        &[0.0, 0.0, 0.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0],
    );
}

#[test]
fn a_loaded_endpoint_gives_way_only_to_one_that_is_less_loaded_by_the_spill() {
    let mut members = zones(&[2, 2]);
    members[0].place = Place::Node;
    let node = Node::new(&members, options(Prefer::Node));
    let takes = |load: [u32; 4]| {
        let parts = node.parts(&load, |_| true);
        let full: Vec<usize> = (0..4).filter(|endpoint| parts[*endpoint] > 0.0).collect();
        full
    };
    assert_eq!(takes([10, 0, 0, 0]), [0]);
    assert_eq!(takes([11, 0, 0, 0]), [1]);
    assert_eq!(takes([11, 1, 1, 1]), [0]);
    assert_eq!(takes([30, 15, 15, 15]), [1]);
    assert_eq!(takes([30, 15, 4, 9]), [2]);
    assert_eq!(takes([500, 500, 495, 495]), [0]);
}

#[test]
fn load_counts_per_weight() {
    let mut members = zones(&[1, 1]);
    members[0].weight = 3;
    let node = Node::new(&members, options(Prefer::Zone));
    // The mean weight is 2: 3 is one and a half of it, so 15 requests are as many as 10.
    assert_eq!(node.parts(&[15, 0], |_| true)[0], 1.0);
    assert_eq!(node.parts(&[16, 0], |_| true)[1], 1.0);
}

#[test]
fn a_preference_and_an_aperture_leave_a_few_endpoints_of_each_zone() {
    let coordinate = Coordinate::of_peer(3, 40);
    let members = zones(&[100, 100, 100]);
    let node = Node::new(&members, Options { aperture: Some((10, coordinate)), ..options(Prefer::Zone) });
    let used = node.plan.endpoints().count();
    assert!((20..=33).contains(&used), "{used}");
    assert!(node.plan.endpoints().filter(|endpoint| *endpoint < 100).count() >= 10);
    assert_eq!(node.idle_parts()[100..], [0.0; 200]);
}

#[test]
fn an_endpoint_outside_the_aperture_is_used_when_no_other_is_usable() {
    for prefer in [Prefer::None, Prefer::Zone] {
        let options = Options { aperture: Some((3, Coordinate::of_name("n"))), ..options(prefer) };
        let node = Node::new(&zones(&[40, 40]), options);
        for only in 0..80 {
            let shares = node.plan.shares(|endpoint| endpoint == only);
            assert_eq!(node.pick(&shares, &[0; 80], |endpoint| endpoint == only), Some(only));
        }
    }
}

#[test]
fn groups_are_numbered_in_their_order() {
    let mut members = zones(&[4, 3, 3]);
    members[0].place = Place::Node;
    members[9].priority = 1;
    for aperture in [None, Some((2, Coordinate::of_name("n")))] {
        for prefer in [Prefer::None, Prefer::Zone, Prefer::Node] {
            let plan = Plan::new(&members, Options { aperture, ..options(prefer) });
            assert!(plan.all_groups().map(|group| group.number).eq(0..plan.groups()));
        }
    }
}

#[test]
fn an_empty_set_gives_nothing() {
    let node = Node::new(&[], options(Prefer::Zone));
    let shares = node.plan.shares(|_| true);
    assert_eq!((node.pick(&shares, &[], |_| true), shares.own_zone(), node.plan.groups()), (None, None, 0));
}

fn any_member() -> impl Strategy<Value = (u32, u16, u8, u32, bool, u32)> {
    (0u32..5, 0u16..3, 0u8..3, 0u32..4, any::<bool>(), 0u32..40)
}

proptest! {
    #[test]
    fn an_endpoint_is_picked_if_any_is_usable_and_only_such_a_one(
        drawn in prop::collection::vec(any_member(), 0..40),
        prefer in 0usize..3,
        size in prop::option::of(1usize..8),
        stale: bool,
        seed: u64,
    ) {
        let members: Vec<Member> = drawn.iter().enumerate().map(|(number, &(weight, priority, place, zone, ..))| {
            let place = [Place::Node, Place::Zone, Place::Elsewhere][place as usize];
            Member { weight, priority, ..member(number, place, zone) }
        }).collect();
        let options = Options {
            prefer: [Prefer::None, Prefer::Zone, Prefer::Node][prefer],
            aperture: size.map(|size| (size, Coordinate::of_name("n"))),
            spill: 10,
        };
        let node = Node::new(&members, options);
        node.random.borrow_mut().seed(seed);
        let usable = |endpoint: usize| drawn[endpoint].4;
        let load: Vec<u32> = drawn.iter().map(|(.., load)| *load).collect();
        // Shares that are out of date must not hide an endpoint.
        let shares = node.plan.shares(|endpoint| usable(endpoint) != stale);
        let picked = node.pick(&shares, &load, usable);
        let candidates = (0..members.len()).filter(|endpoint| usable(*endpoint) && members[*endpoint].weight > 0);
        let first = candidates.map(|endpoint| members[endpoint].priority).min();
        prop_assert_eq!(picked.is_some(), first.is_some());
        if let Some(picked) = picked {
            prop_assert!(usable(picked) && members[picked].weight > 0);
            prop_assert!(stale || Some(members[picked].priority) == first);
        }
    }
}
