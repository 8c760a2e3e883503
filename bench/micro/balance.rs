//! The balancers, by number of endpoints.

use std::hint::black_box;

use towpath::balance::{RoundRobin, Weights, least_request};

use super::Case;

const SIZES: [u32; 2] = [5, 1000];

/// All cases.
pub fn cases() -> Vec<Case> {
    SIZES.into_iter().flat_map(of_size).collect()
}

fn of_size(size: u32) -> [Case; 4] {
    let equal = move || Weights::new((0..size).map(|_| 1));
    let unequal = move || Weights::new((0..size).map(|endpoint| 1 + endpoint % 3));
    [
        Case::new(format!("balance/least-request/{size}"), move || least(equal(), size)),
        Case::new(format!("balance/least-request-weighted/{size}"), move || least(unequal(), size)),
        Case::new(format!("balance/round-robin/{size}"), move || in_turn(&equal())),
        Case::new(format!("balance/round-robin-weighted/{size}"), move || in_turn(&unequal())),
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

fn in_turn(weights: &Weights) -> impl FnMut() + use<> {
    let mut turns = RoundRobin::new(weights, 0);
    move || {
        black_box(black_box(&mut turns).pick(|_| true));
    }
}
