//! The balancers by simulation, on published scenarios: seeded, without sockets or clocks. `docs/balancing.md` tells the
//! results; `plots.rs` draws them.

mod drawing;
mod engine;
mod maglev;
mod plots;
mod scenarios;

use engine::{Answer, Balancer, SECOND, counts, quantile};
use scenarios::{PER_ZONE, WELL_AGAIN, ZONES, Zones};

const P99: f64 = 0.99;

/// The part of the requests from `from` to `to` that the first endpoint gets.
fn part_of_first(answers: &[Answer], from: u64, to: u64) -> f64 {
    let in_time = || answers.iter().filter(|answer| (from..to).contains(&answer.at));
    in_time().filter(|answer| answer.server == 0).count() as f64 / in_time().count() as f64
}

/// The most loaded server's requests, in terms of the mean of those that have any.
fn most_loaded(answers: &[Answer], servers: usize) -> f64 {
    let counts = counts(answers, servers);
    let used = counts.iter().filter(|count| **count > 0.0).count() as f64;
    counts.iter().copied().fold(0.0, f64::max) / (answers.len() as f64 / used)
}

#[test]
fn one_slow_endpoint_of_ten_hardly_shows_with_peak_ewma() {
    let healthy = quantile(&scenarios::slow(Balancer::PeakEwma, 0), P99);
    let p99 = |balancer| quantile(&scenarios::slow(balancer, 1), P99) / healthy;
    assert!(p99(Balancer::PeakEwma) <= 1.3, "{}", p99(Balancer::PeakEwma));
    assert!(p99(Balancer::RoundRobin) > 5.0, "{}", p99(Balancer::RoundRobin));
    assert!(p99(Balancer::LeastRequest) > 1.3, "{}", p99(Balancer::LeastRequest));
}

#[test]
fn an_endpoint_that_fails_fast_gets_next_to_nothing_with_peak_ewma() {
    for rate in [20.0, 100.0, 1000.0] {
        let part = |balancer| part_of_first(&scenarios::failing(balancer, rate), 12 * SECOND, WELL_AGAIN);
        assert!(part(Balancer::PeakEwma) < 0.02, "{rate}: {}", part(Balancer::PeakEwma));
        let attracted = part(Balancer::LeastRequest);
        assert!(attracted > 0.1 || rate < 1000.0 && attracted > 0.095, "{rate}: {attracted}");
    }
}

#[test]
fn an_endpoint_that_no_longer_fails_has_its_share_back_soon() {
    let answers = scenarios::failing(Balancer::PeakEwma, 1000.0);
    let part = part_of_first(&answers, WELL_AGAIN + 10 * SECOND, WELL_AGAIN + 30 * SECOND);
    assert!((0.06..0.14).contains(&part), "{part}");
}

#[test]
fn endpoints_of_unequal_capacity_are_loaded_by_their_weights() {
    for balancer in Balancer::FAIR {
        let p99 = quantile(&scenarios::unequal(balancer, true), P99);
        assert!(p99 < 100.0, "{balancer:?} {p99}");
    }
}

#[test]
fn unequal_capacity_that_nobody_told_overloads_round_robin_only() {
    let p99 = |balancer| quantile(&scenarios::unequal(balancer, false), P99);
    assert!(p99(Balancer::RoundRobin) > 1000.0, "{}", p99(Balancer::RoundRobin));
    for balancer in [Balancer::LeastRequest, Balancer::PeakEwma] {
        assert!(p99(balancer) < 100.0, "{balancer:?} {}", p99(balancer));
    }
}

#[test]
fn of_a_thousand_endpoints_twenty_slow_ones_hardly_show_with_peak_ewma() {
    let p99 = |balancer, slow| quantile(&scenarios::thousand(balancer, slow), P99);
    let healthy = p99(Balancer::PeakEwma, 0);
    assert!(p99(Balancer::PeakEwma, 20) <= 1.3 * healthy, "{} {healthy}", p99(Balancer::PeakEwma, 20));
    assert!(p99(Balancer::RoundRobin, 20) > 1.7 * healthy, "{} {healthy}", p99(Balancer::RoundRobin, 20));
}

#[test]
fn a_thousand_endpoints_share_evenly() {
    // 150 requests for each: chance alone would give one of them 1.25 times the mean.
    for (balancer, bound) in Balancer::FAIR.into_iter().zip([1.05, 1.3, 1.7]) {
        let most = most_loaded(&scenarios::thousand(balancer, 0), 1000);
        assert!(most < bound, "{balancer:?} {most}");
    }
}

#[test]
fn a_hashed_user_who_sends_more_than_an_endpoint_can_serve_overloads_none() {
    let answers = scenarios::popular_user();
    let most = most_loaded(&answers, 10);
    assert!(most < 1.4, "{most}");
    assert!(quantile(&answers, P99) < 100.0, "{}", quantile(&answers, P99));
}

#[test]
fn nodes_with_apertures_load_every_endpoint_alike() {
    // A thousand requests for each endpoint: chance alone would give one of them 1.1 times the mean.
    for balancer in Balancer::FAIR {
        let answers = scenarios::apertures(balancer);
        let most = most_loaded(&answers, 210);
        assert!(most < 1.3 && counts(&answers, 210).iter().all(|count| *count > 0.0), "{balancer:?} {most}");
    }
}

#[test]
fn with_all_well_no_request_leaves_its_zone() {
    let answers = Zones::losing(0, false).run(Balancer::LeastRequest, 3);
    assert!(answers.iter().all(|answer| answer.server / PER_ZONE == Zones::zone_of_client(answer.client)));
}

#[test]
fn a_zone_that_loses_half_of_its_endpoints_overloads_nobody() {
    for balancer in Balancer::FAIR {
        for removed in [false, true] {
            let answers = Zones::losing(5, removed).run(balancer, 5);
            let most = most_loaded(&answers, ZONES * PER_ZONE);
            assert!(most < 1.15, "{balancer:?}, removed: {removed}: {most}");
            assert_eq!(counts(&answers, ZONES * PER_ZONE)[..5], [0.0; 5]);
        }
    }
}

#[test]
fn load_stays_even_as_endpoints_go_one_by_one() {
    for lost in 0..=10 {
        let most = most_loaded(&Zones::losing(lost, false).run(Balancer::LeastRequest, 3), ZONES * PER_ZONE);
        assert!(most < 1.15, "{lost} lost: {most}");
    }
}

#[test]
fn a_zone_with_more_demand_than_it_can_serve_spills_what_it_cannot() {
    let hot = |spill| Zones { demand: 2.5, utilization: 0.5, spill, ..Zones::losing(0, false) };
    let p99 = |spill| quantile(&hot(spill).run(Balancer::LeastRequest, 5), P99);
    assert!(p99(20) < 100.0, "{}", p99(20));
    assert!(p99(u32::MAX) > 500.0, "{}", p99(u32::MAX));
}
