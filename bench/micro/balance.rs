//! The balancers, by number of endpoints.

use std::{hint::black_box, net::SocketAddr, time::Duration};

use towpath::balance::{
    Group, Latency, Member, Options, Place, Plan, Prefer, Ring, RoundRobin, Weights, hash_key, least_request,
    peak_ewma,
};

use super::Case;

const SIZES: [u32; 2] = [5, 1000];
const DECAY: Duration = Duration::from_secs(10);

/// All cases.
pub fn cases() -> Vec<Case> {
    SIZES.into_iter().flat_map(of_size).collect()
}

fn of_size(size: u32) -> [Case; 8] {
    let equal = move || Weights::new((0..size).map(|_| 1));
    let unequal = move || Weights::new((0..size).map(|endpoint| 1 + endpoint % 3));
    [
        Case::new(format!("balance/least-request/{size}"), move || least(equal(), size)),
        Case::new(format!("balance/least-request-weighted/{size}"), move || least(unequal(), size)),
        Case::new(format!("balance/round-robin/{size}"), move || in_turn(&equal())),
        Case::new(format!("balance/round-robin-weighted/{size}"), move || in_turn(&unequal())),
        Case::new(format!("balance/peak-ewma/{size}"), move || cheapest(equal(), size)),
        Case::new(format!("balance/hash/{size}"), move || hashed(equal(), size)),
        Case::new(format!("balance/zones/{size}"), move || of_zone(size, 0)),
        Case::new(format!("balance/zones-unequal/{size}"), move || of_zone(size, size / 5)),
    ]
}

/// Every endpoint has another load than its neighbours; nothing is to be avoided.
fn least(weights: Weights, size: u32) -> impl FnMut() {
    let load: Vec<u32> = (0..size).map(|endpoint| endpoint * 7 % 11).collect();
    let mut random = fastrand::Rng::with_seed(1);
    move || {
        black_box(least_request(black_box(&weights), || random.u64(..), |endpoint| load[endpoint], |_| true));
    }
}

/// Each endpoint has another latency, and was heard of at another time.
fn cheapest(weights: Weights, size: u32) -> impl FnMut() {
    let known = |endpoint: u32| {
        let latency = Latency::new();
        latency.observe(endpoint % 13 * 100, Duration::from_millis(u64::from(1 + endpoint % 7)), DECAY);
        latency
    };
    let latency: Vec<Latency> = (0..size).map(known).collect();
    let mut random = fastrand::Rng::with_seed(1);
    move || {
        let cost = |endpoint: usize, each: f32| latency[endpoint].cost(2000, DECAY, 1, each);
        black_box(peak_ewma(black_box(&weights), || random.u64(..), cost, |_| true));
    }
}

/// Another key each time; its hash is part of it. Every endpoint has its share of the load.
fn hashed(weights: Weights, size: u32) -> impl FnMut() {
    let ring = Ring::new((0..size).map(|endpoint| (address(endpoint), 1)));
    let mut key = 0u64;
    move || {
        key = key.wrapping_add(1);
        let hash = hash_key(&black_box(key).to_le_bytes());
        black_box(black_box(&ring).pick(hash, 8 * u64::from(size), |_| 8, &weights, |_| true));
    }
}

/// Least-request within the zone. Of three zones the node's is this many endpoints smaller than a third.
fn of_zone(size: u32, smaller: u32) -> impl FnMut() {
    let own = size.div_ceil(3) - smaller;
    let member = |endpoint: u32| Member {
        address: address(endpoint),
        weight: 1,
        priority: 0,
        place: if endpoint < own { Place::Zone } else { Place::Elsewhere },
        zone: if endpoint < own { 1 } else { 2 + endpoint % 2 },
    };
    let members: Vec<Member> = (0..size).map(member).collect();
    let plan = Plan::new(&members, Options { prefer: Prefer::Zone, aperture: None, spill: 20 });
    let shares = plan.shares(|_| true);
    let load: Vec<u32> = (0..size).map(|endpoint| endpoint * 7 % 11).collect();
    let mut random = fastrand::Rng::with_seed(1);
    move || {
        let draw = random.u64(..);
        let of_group = |group: &Group| {
            let load = |member| load[group.endpoint(member)];
            Some(group.endpoint(least_request(&group.weights, || random.u64(..), load, |_| true)?))
        };
        black_box(black_box(&plan).choose(&shares, draw, |endpoint| load[endpoint], of_group));
    }
}

fn address(endpoint: u32) -> SocketAddr {
    SocketAddr::from(([10, 4, (endpoint >> 8) as u8, endpoint as u8], 80))
}

fn in_turn(weights: &Weights) -> impl FnMut() + use<> {
    let mut turns = RoundRobin::new(weights, 0);
    move || {
        black_box(black_box(&mut turns).pick(|_| true));
    }
}
