//! What closes a gate beside failures in a row: the share of successes, latency, health checks.

use std::time::Duration;

use super::{Clinic, FAILURE, SECOND, SUCCESS, policy, prolonged};
use crate::{
    config::Ejection,
    health::{Admission, Change, Sign, Why},
};

/// Half of the attempts of the last 8 s, if there were ten.
pub(super) fn by_share() -> Ejection {
    let window = Duration::from_secs(8);
    Ejection { consecutive_failures: 0, success_percent: 50, window, min_requests: 10, ..policy(50) }
}

/// Of two attempts a second, every third succeeds.
fn mostly_failing(clinic: &Clinic, times: std::ops::Range<u64>) -> Option<(u64, Change)> {
    times.map(|number| number * SECOND / 2).find_map(|now| {
        let outcome = if now / (SECOND / 2) % 3 == 0 { SUCCESS } else { FAILURE };
        Some((now, clinic.report(0, outcome, Admission::Usable, now)?))
    })
}

#[test]
fn a_small_share_of_successes_ejects_once_there_are_enough_attempts() {
    let clinic = Clinic::new(2, by_share());
    let (at, change) = mostly_failing(&clinic, 1..100).unwrap();
    assert_eq!((at, change), (5 * SECOND, Change::Ejected(Duration::from_secs(5), Why::SuccessRate)));
    let ejected = clinic.gates[0].ejected().unwrap();
    assert_eq!((ejected.since, ejected.until, ejected.times), (5 * SECOND, 10 * SECOND, 1));
}

#[test]
fn after_a_return_the_window_begins_anew() {
    let clinic = Clinic::new(2, by_share());
    mostly_failing(&clinic, 1..100).unwrap();
    let (_, probe) = clinic.probe(10 * SECOND).unwrap();
    assert_eq!(clinic.report(0, SUCCESS, probe, 10 * SECOND), Some(Change::Returned));
    let (at, _) = mostly_failing(&clinic, 21..100).unwrap();
    assert_eq!(at, 31 * SECOND / 2, "ten attempts later, and not at the first failure");
}

#[test]
fn an_endpoint_that_fails_no_more_than_is_allowed_stays() {
    let clinic = Clinic::new(2, by_share());
    for now in 1..1000 {
        let outcome = if now % 5 < 3 { SUCCESS } else { FAILURE };
        assert_eq!(clinic.report(0, outcome, Admission::Usable, now * 100), None);
    }
}

#[test]
fn an_answer_that_takes_too_long_counts_as_a_failure_and_is_named() {
    let policy = Ejection { max_latency: Some(Duration::from_secs(1)), ..policy(50) };
    let sign = |millis| Sign::of(SUCCESS, Duration::from_millis(millis), &policy);
    assert_eq!((sign(1000), sign(1001)), (Sign::Good, Sign::Slow));
    assert_eq!(Sign::of(FAILURE, Duration::from_secs(9), &policy), Sign::Bad);
    let clinic = Clinic::new(2, policy);
    for sign in [Sign::Bad, Sign::Bad, Sign::Slow, Sign::Slow] {
        assert_eq!(clinic.sign(0, sign, Admission::Usable, 1), None);
    }
    let change = clinic.sign(0, Sign::Slow, Admission::Usable, 1);
    assert_eq!(change, Some(Change::Ejected(Duration::from_secs(5), Why::Latency)));
    let (_, probe) = clinic.probe(6 * SECOND).unwrap();
    assert_eq!(clinic.sign(0, Sign::Slow, probe, 6 * SECOND), prolonged(10), "a slow probe has failed");
    let ejected = clinic.gates[0].ejected().unwrap();
    assert_eq!((ejected.since, ejected.times), (1, 2), "it is the same stay");
}

#[test]
fn an_unwell_endpoint_takes_no_place_and_is_not_ejected() {
    let clinic = Clinic::new(4, policy(50));
    clinic.gates.iter().for_each(|gate| assert!(gate.mark_unwell(&clinic.ward)));
    assert!(!clinic.gates[0].mark_unwell(&clinic.ward), "that is known");
    assert_eq!((clinic.counts(), clinic.fail(0, 1)), ((0, 4), None));
    assert!(clinic.gates[0].mark_well(&clinic.ward) && !clinic.gates[0].mark_well(&clinic.ward));
    assert_eq!((clinic.counts(), clinic.gates[0].is_usable()), ((0, 3), true));
}

#[test]
fn an_ejected_endpoint_that_is_unwell_is_not_probed_before_it_is_well_and_then_must_still_succeed() {
    let clinic = Clinic::new(2, policy(50));
    clinic.fail(0, 1);
    clinic.gates[0].mark_unwell(&clinic.ward);
    assert_eq!(clinic.counts(), (1, 1));
    assert!(clinic.probe(6 * SECOND).is_none() && !clinic.gates[0].is_due(6 * SECOND));
    clinic.gates[0].mark_well(&clinic.ward);
    assert!(!clinic.gates[0].is_usable(), "a check that passes does not end an ejection");
    let (_, probe) = clinic.probe(7 * SECOND).expect("its time has come long ago");
    assert_eq!(clinic.report(0, SUCCESS, probe, 7 * SECOND), Some(Change::Returned));
    assert_eq!(clinic.counts(), (0, 0));
}

#[test]
fn a_probe_that_succeeds_while_its_endpoint_becomes_unwell_ends_the_ejection_only() {
    let clinic = Clinic::new(2, policy(50));
    clinic.fail(0, 1);
    let (_, probe) = clinic.probe(6 * SECOND).unwrap();
    clinic.gates[0].mark_unwell(&clinic.ward);
    assert_eq!(clinic.report(0, SUCCESS, probe, 7 * SECOND), None);
    assert_eq!((clinic.counts(), clinic.gates[0].is_usable()), ((0, 1), false));
}

#[test]
fn an_endpoint_that_leaves_is_neither_ejected_nor_unwell() {
    let clinic = Clinic::new(2, policy(50));
    clinic.fail(0, 1);
    clinic.gates[0].mark_unwell(&clinic.ward);
    clinic.gates[0].leave(&clinic.ward);
    assert_eq!((clinic.counts(), clinic.gates[0].mark_unwell(&clinic.ward)), ((0, 0), false));
    assert!(!clinic.gates[0].is_unwell() && clinic.gates[0].ejected().is_none());
    assert!(clinic.gates[0].rejoin() && !clinic.gates[0].rejoin());
}

#[test]
fn load_is_no_failure_and_enough_of_a_probe() {
    let clinic = Clinic::new(2, policy(50));
    assert_eq!((0..20).find_map(|_| clinic.sign(0, Sign::Busy, Admission::Usable, 1)), None);
    clinic.fail(0, 1);
    let (_, probe) = clinic.probe(6 * SECOND).unwrap();
    assert_eq!(clinic.sign(0, Sign::Busy, probe, 6 * SECOND), Some(Change::Returned));
}
