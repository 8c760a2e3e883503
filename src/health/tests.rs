//! Gates and their ward, by hand and by chance.

use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::Duration,
};

use proptest::prelude::*;

use super::{Admission, Change, Gate, Sign, Ward, Why};
use crate::{config::Ejection, telemetry::AttemptOutcome};

mod reasons;

const FAILURE: AttemptOutcome = AttemptOutcome::ServerError;
const SUCCESS: AttemptOutcome = AttemptOutcome::Success;
const SECOND: u64 = 1000;

/// Five failures; 5 s to 40 s.
fn policy(max_percent: u8) -> Ejection {
    let (first, longest) = (Duration::from_secs(5), Duration::from_secs(40));
    Ejection { consecutive_failures: 5, first, longest, max_percent, ..Ejection::NEVER }
}

/// A service whose random numbers are all 0: its ejections are as long as is written.
struct Clinic {
    ward: Ward,
    gates: Vec<Gate>,
    policy: Ejection,
}

impl Clinic {
    fn new(gates: usize, policy: Ejection) -> Self {
        let gates: Vec<Gate> = std::iter::repeat_with(Gate::default).take(gates).collect();
        let clinic = Self { ward: Ward::default(), gates, policy };
        clinic.ward.settle(policy.share(), clinic.gates.iter());
        clinic
    }

    fn report(&self, gate: usize, outcome: AttemptOutcome, admission: Admission, now: u64) -> Option<Change> {
        self.sign(gate, Sign::of(outcome, Duration::ZERO, &self.policy), admission, now)
    }

    fn sign(&self, gate: usize, sign: Sign, admission: Admission, now: u64) -> Option<Change> {
        self.gates[gate].report((&self.ward, &self.policy), (sign, admission), now, || 0)
    }

    fn fail(&self, gate: usize, now: u64) -> Option<Change> {
        (0..5).filter_map(|_| self.report(gate, FAILURE, Admission::Usable, now)).last()
    }

    fn probe(&self, now: u64) -> Option<(usize, Admission)> {
        self.ward.probe(now, self.gates.iter(), |_| true)
    }

    fn unusable(&self) -> usize {
        self.gates.iter().filter(|gate| !gate.is_usable()).count()
    }

    fn ejected(&self) -> usize {
        self.gates.iter().filter(|gate| gate.ejected().is_some()).count()
    }

    /// As the ward counts them.
    fn counts(&self) -> (usize, usize) {
        (self.ward.ejected(), self.ward.unusable())
    }
}

fn ejected(seconds: u64) -> Option<Change> {
    Some(Change::Ejected(Duration::from_secs(seconds), Why::ConsecutiveFailures))
}

fn prolonged(seconds: u64) -> Option<Change> {
    Some(Change::Prolonged(Duration::from_secs(seconds)))
}

#[test]
fn a_probe_that_an_older_set_of_endpoints_overlooked_has_its_moment_again() {
    let clinic = Clinic::new(4, policy(50));
    assert_eq!(clinic.fail(3, 0), ejected(5));
    assert!(clinic.ward.probe(6 * SECOND, clinic.gates[..3].iter(), |_| true).is_none());
    assert!(clinic.probe(6 * SECOND).is_none(), "nobody knows of it");
    clinic.ward.note_probes(clinic.gates.iter());
    assert!(matches!(clinic.probe(6 * SECOND), Some((3, _))));
}

#[test]
fn failures_in_a_row_eject_and_a_success_begins_the_row_anew() {
    let clinic = Clinic::new(2, policy(50));
    for outcome in [FAILURE, FAILURE, FAILURE, FAILURE, SUCCESS, FAILURE, FAILURE, FAILURE, FAILURE] {
        assert_eq!(clinic.report(0, outcome, Admission::Usable, 1), None);
        assert!(clinic.gates[0].is_usable());
    }
    assert_eq!(clinic.report(0, AttemptOutcome::Cancelled, Admission::Usable, 1), None);
    assert_eq!(clinic.report(0, FAILURE, Admission::Usable, 1), ejected(5));
    assert!(!clinic.gates[0].is_usable() && clinic.ward.ejected() == 1);
}

#[test]
fn every_kind_of_failure_counts() {
    for outcome in [FAILURE, AttemptOutcome::ConnectFailed, AttemptOutcome::Reset, AttemptOutcome::Timeout] {
        let clinic = Clinic::new(2, policy(50));
        (0..5).for_each(|_| {
            clinic.report(0, outcome, Admission::Usable, 1);
        });
        assert!(!clinic.gates[0].is_usable(), "{outcome:?}");
    }
}

#[test]
fn nothing_is_ejected_when_ejection_is_off() {
    let clinic = Clinic::new(4, Ejection { consecutive_failures: 0, ..policy(100) });
    assert_eq!((0..100).find_map(|_| clinic.fail(0, 1)), None);
}

#[test]
fn the_backoff_doubles_up_to_the_longest() {
    let clinic = Clinic::new(2, policy(50));
    let mut now = 1;
    assert_eq!(clinic.fail(0, now), ejected(5));
    let mut last = 5;
    for next in [10, 20, 40, 40, 40] {
        now += last * SECOND;
        assert!(clinic.probe(now - 1).is_none(), "not before its time");
        let (gate, admission) = clinic.probe(now).expect("its time has come");
        assert_eq!(clinic.report(gate, FAILURE, admission, now), prolonged(next));
        last = next;
    }
    assert_eq!(clinic.ward.ejected(), 1);
}

#[test]
fn chance_makes_a_backoff_up_to_a_quarter_longer() {
    for (random, millis) in [(0, 5000), (1250, 6250), (1251, 5000), (u64::MAX, 5000 + u64::MAX % 1251)] {
        let clinic = Clinic::new(2, policy(50));
        let fail = |_| {
            let report = (Sign::Bad, Admission::Usable);
            clinic.gates[0].report((&clinic.ward, &clinic.policy), report, 1, || random)
        };
        let change = (0..5).filter_map(fail).last();
        let why = Why::ConsecutiveFailures;
        assert_eq!(change, Some(Change::Ejected(Duration::from_millis(millis), why)));
    }
}

#[test]
fn a_backoff_begins_anew_only_after_a_quiet_time() {
    let clinic = Clinic::new(2, policy(50));
    clinic.fail(0, 1);
    let (_, admission) = clinic.probe(10 * SECOND).unwrap();
    assert_eq!(clinic.report(0, SUCCESS, admission, 10 * SECOND), Some(Change::Returned));
    assert!(clinic.gates[0].is_usable() && clinic.ward.ejected() == 0);
    assert_eq!(clinic.fail(0, 20 * SECOND), ejected(10), "it failed again soon");
    let (_, admission) = clinic.probe(30 * SECOND).unwrap();
    clinic.report(0, SUCCESS, admission, 30 * SECOND);
    assert_eq!(clinic.fail(0, 71 * SECOND), ejected(5), "it was usable for longer than the longest backoff");
}

#[test]
fn one_request_at_a_time_is_the_probe() {
    let clinic = Clinic::new(2, policy(50));
    clinic.fail(0, 1);
    let now = 6 * SECOND;
    let (gate, first) = clinic.probe(now).unwrap();
    assert!(clinic.gates[gate].is_probed(now));
    assert!(clinic.probe(now).is_none() && clinic.gates[0].try_probe(now + 1).is_none());
    assert_eq!(clinic.report(0, AttemptOutcome::Cancelled, first, now), None);
    let (_, second) = clinic.probe(now).expect("the place is free again");
    clinic.gates[0].release(&clinic.ward, second, now);
    let (_, third) = clinic.probe(now).expect("the place is free again");
    assert_eq!(clinic.report(0, SUCCESS, third, now), Some(Change::Returned));
    assert!(clinic.probe(now + 60 * SECOND).is_none(), "nothing is ejected");
}

#[test]
fn a_probe_that_takes_long_gives_way_to_another_and_does_not_count_against_it() {
    let clinic = Clinic::new(2, policy(50));
    clinic.fail(0, 1);
    let (_, endless) = clinic.probe(6 * SECOND).unwrap();
    assert!(clinic.probe(15 * SECOND).is_none());
    let (_, second) = clinic.probe(16 * SECOND).expect("ten seconds are enough");
    assert_eq!(clinic.report(0, FAILURE, endless, 17 * SECOND), None);
    clinic.gates[0].release(&clinic.ward, endless, 17 * SECOND);
    assert!(clinic.gates[0].is_probed(17 * SECOND), "the second has the place still");
    assert_eq!(clinic.report(0, SUCCESS, second, 18 * SECOND), Some(Change::Returned));
}

#[test]
fn requests_from_before_the_ejection_change_nothing() {
    let clinic = Clinic::new(2, policy(50));
    clinic.fail(0, 1);
    assert_eq!(clinic.report(0, SUCCESS, Admission::Usable, 2), None);
    assert_eq!(clinic.fail(0, 2), None);
    assert_eq!(clinic.gates[0].next_probe(), Some(1 + 5 * SECOND));
    assert_eq!(clinic.report(0, SUCCESS, Admission::Forced, 3), Some(Change::Returned));
}

#[test]
fn the_maximum_is_rounded_down_and_the_only_endpoint_stays() {
    for (endpoints, percent, most) in
        [(1, 100, 0), (2, 50, 1), (2, 49, 0), (3, 50, 1), (3, 100, 3), (4, 0, 0), (1000, 1, 10)]
    {
        let clinic = Clinic::new(endpoints, policy(percent));
        (0..endpoints).for_each(|gate| {
            clinic.fail(gate, 1);
        });
        assert_eq!((clinic.unusable(), clinic.ward.ejected()), (most, most), "{percent} % of {endpoints}");
    }
}

#[test]
fn an_endpoint_that_leaves_gives_its_place_back_and_is_not_ejected_again() {
    let clinic = Clinic::new(2, policy(50));
    clinic.fail(0, 1);
    assert_eq!(clinic.fail(1, 1), None, "the only place is taken");
    clinic.gates[0].leave(&clinic.ward);
    assert_eq!((clinic.ward.ejected(), clinic.fail(0, 1)), (0, None));
    assert_eq!(clinic.report(1, FAILURE, Admission::Usable, 1), ejected(5));
    clinic.gates[0].rejoin();
    clinic.gates[1].leave(&clinic.ward);
    assert_eq!(clinic.fail(0, 1), ejected(5), "nothing is held against it");
}

#[test]
fn a_smaller_set_or_maximum_brings_back_those_that_would_be_probed_first() {
    let clinic = Clinic::new(6, policy(50));
    for (gate, now) in [(4, 30), (0, 10), (2, 20)] {
        clinic.fail(gate, now);
    }
    let generation = clinic.ward.generation();
    clinic.ward.settle(20, clinic.gates.iter());
    assert_eq!((clinic.unusable(), clinic.ward.ejected(), clinic.gates[4].is_usable()), (1, 1, false));
    assert_ne!(clinic.ward.generation(), generation);
    clinic.ward.settle(Ejection { consecutive_failures: 0, ..policy(50) }.share(), clinic.gates.iter());
    assert_eq!((clinic.unusable(), clinic.ward.ejected()), (0, 0));
}

#[test]
fn an_endpoint_that_is_not_wanted_is_probed_when_it_is() {
    let clinic = Clinic::new(4, policy(50));
    clinic.fail(1, 1);
    let now = 6 * SECOND;
    assert!(clinic.ward.probe(now, clinic.gates.iter(), |_| false).is_none());
    assert!(clinic.probe(now + 999).is_none(), "a second without a look");
    assert_eq!(clinic.probe(now + 1000).map(|(gate, _)| gate), Some(1));
}

#[test]
fn several_endpoints_are_probed_one_request_each() {
    let clinic = Clinic::new(6, policy(50));
    (0..3).for_each(|gate| {
        clinic.fail(gate, 1);
    });
    let mut probed: Vec<usize> =
        (0..3).filter_map(|_| clinic.probe(6 * SECOND)).map(|(gate, _)| gate).collect();
    probed.sort_unstable();
    assert_eq!(probed, [0, 1, 2]);
    assert!(clinic.probe(6 * SECOND).is_none());
}

#[test]
fn the_log_gets_ten_lines_a_second() {
    let ward = Ward::default();
    let lines = |now| (0..50).filter(|_| ward.may_log(now)).count();
    assert_eq!((lines(1500), lines(1900), lines(2000), lines(9000)), (10, 0, 10, 10));
}

#[test]
fn workers_that_race_never_eject_more_than_the_maximum_nor_probe_twice() {
    let (clinic, stop) = (Clinic::new(10, policy(30)), AtomicBool::new(false));
    thread::scope(|scope| {
        let watch = || {
            let mut most = 0;
            while !stop.load(SeqCst) {
                // A look at one gate after the other is no look at a moment; a place is taken before its gate closes, and given back after.
                most = most.max(clinic.ward.ejected());
            }
            most
        };
        let watcher = scope.spawn(watch);
        let work = |seed| {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut now = 1;
            for _ in 0..50_000 {
                now += random.u64(..200);
                let outcome = if random.u8(..) < 40 { SUCCESS } else { FAILURE };
                let (gate, admission) = clinic.probe(now).unwrap_or((random.usize(..10), Admission::Usable));
                clinic.report(gate, outcome, admission, now);
                match random.u8(..16) {
                    0 => _ = clinic.gates[gate].mark_unwell(&clinic.ward),
                    1 | 2 => _ = clinic.gates[gate].mark_well(&clinic.ward),
                    _ => {}
                }
            }
        };
        let workers: Vec<_> = (0..4).map(|seed| scope.spawn(move || work(seed))).collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        stop.store(true, SeqCst);
        assert!(watcher.join().unwrap() <= 3);
    });
    assert_eq!(clinic.counts(), (clinic.ejected(), clinic.unusable()));
    clinic.gates.iter().for_each(|gate| {
        gate.mark_well(&clinic.ward);
    });
    // Each comes back, whatever happened before.
    let mut now = u64::from(u32::MAX);
    while let Some((gate, admission)) = clinic.probe(now) {
        clinic.report(gate, SUCCESS, admission, now);
        now += 20 * SECOND;
    }
    assert_eq!((clinic.ward.ejected(), clinic.unusable()), (0, 0));
}

/// What can happen to a service.
#[derive(Clone, Debug)]
enum Event {
    /// Time passes.
    Wait(u64),
    /// A request ends on this endpoint.
    Request(usize, bool),
    /// A probe goes out, if one is due, and ends so.
    Probe(AttemptOutcome),
    /// An endpoint leaves, or comes back.
    Leave(usize),
    Rejoin(usize),
    /// A reload changes the maximum.
    Percent(u8),
    /// Health checks say that this endpoint is well, or not.
    Check(usize, bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (0..20_000u64).prop_map(Event::Wait),
        12 => (0..8usize, prop::bool::weighted(0.1)).prop_map(|(gate, success)| Event::Request(gate, success)),
        3 => prop::sample::select(vec![SUCCESS, FAILURE, AttemptOutcome::Cancelled]).prop_map(Event::Probe),
        1 => (0..8usize).prop_map(Event::Leave),
        1 => (0..8usize).prop_map(Event::Rejoin),
        1 => (0..=100u8).prop_map(Event::Percent),
        2 => (0..8usize, any::<bool>()).prop_map(|(gate, well)| Event::Check(gate, well)),
    ]
}

proptest! {
    #[test]
    fn never_more_than_the_maximum_are_ejected_and_each_comes_back(
        events in prop::collection::vec(event(), 1..400),
        endpoints in 1..9usize,
        random in any::<u64>(),
    ) {
        let share = Ejection { success_percent: 40, min_requests: 4, window: reasons::by_share().window, ..policy(50) };
        let mut clinic = Clinic::new(endpoints, share);
        let (mut now, mut left) = (1, vec![false; endpoints]);
        for event in events {
            match event {
                Event::Wait(time) => now += time,
                Event::Request(gate, success) if gate < endpoints => {
                    let report = (if success { Sign::Good } else { Sign::Bad }, Admission::Usable);
                    clinic.gates[gate].report((&clinic.ward, &clinic.policy), report, now, || random);
                }
                Event::Probe(outcome) => {
                    if let Some((gate, admission)) = clinic.probe(now) {
                        prop_assert!(!clinic.gates[gate].is_usable() && !clinic.gates[gate].is_unwell());
                        clinic.report(gate, outcome, admission, now);
                    }
                }
                Event::Leave(gate) if gate < endpoints => {
                    clinic.gates[gate].leave(&clinic.ward);
                    left[gate] = true;
                }
                Event::Rejoin(gate) if gate < endpoints => {
                    clinic.gates[gate].rejoin();
                    left[gate] = false;
                }
                Event::Percent(percent) => clinic.policy.max_percent = percent,
                Event::Check(gate, true) if gate < endpoints => _ = clinic.gates[gate].mark_well(&clinic.ward),
                Event::Check(gate, false) if gate < endpoints => _ = clinic.gates[gate].mark_unwell(&clinic.ward),
                Event::Request(..) | Event::Leave(_) | Event::Rejoin(_) | Event::Check(..) => {}
            }
            let present = (0..endpoints).filter(|gate| !left[*gate]).map(|gate| &clinic.gates[gate]);
            let present: Vec<_> = present.collect();
            clinic.ward.settle(clinic.policy.share(), present.iter().copied());
            let most = if present.len() < 2 { 0 } else { present.len() * usize::from(clinic.policy.max_percent) / 100 };
            prop_assert_eq!(clinic.counts(), (clinic.ejected(), clinic.unusable()));
            prop_assert!(clinic.ejected() <= most);
            prop_assert!(clinic.policy.max_percent == 100 || present.is_empty() || most < present.len());
        }
        clinic.gates.iter().for_each(|gate| {
        gate.mark_well(&clinic.ward);
    });
        for _ in 0..endpoints {
            now += 60 * SECOND;
            while let Some((gate, admission)) = clinic.probe(now) {
                clinic.report(gate, SUCCESS, admission, now);
            }
        }
        prop_assert_eq!(clinic.unusable(), 0);
    }
}
