//! What health checks make of a service's endpoints.

use tokio::time::Instant;

use super::{found, service};
use crate::{
    health::{ProbeResult, Prober, Seen},
    service::{CheckState, Service, check},
};

const FIRST: &str = "health_check = { tcp = true, initially = \"unhealthy\" }";

/// Endpoints, those that are usable, and those that the ward takes for unusable.
fn counts(service: &Service) -> (usize, usize, usize) {
    let set = service.endpoints();
    (set.endpoints.len(), set.usable(), set.ward.unusable())
}

/// The result of a probe of the endpoint that stands at this place.
fn probed(service: &Service, index: usize, result: ProbeResult) -> CheckState {
    let (set, policy) = (service.endpoints(), service.policy.health_check.as_ref().unwrap());
    let endpoint = &set.endpoints[index];
    endpoint.checked.begin(policy);
    let seen = Seen { result, text: result.as_str().to_owned() };
    endpoint.check_result(&set.ward, seen, policy, |_| Instant::now());
    endpoint.check_state().unwrap()
}

#[test]
fn endpoints_that_have_to_pass_first_are_counted_from_their_coming_to_their_going() {
    let service = service(FIRST, None);
    found(&service, &[1, 2, 3]);
    assert_eq!(counts(&service), (3, 0, 3));
    assert_eq!(probed(&service, 0, ProbeResult::Pass).status, "healthy");
    assert_eq!(probed(&service, 1, ProbeResult::Timeout).status, "unhealthy");
    assert_eq!(counts(&service), (3, 1, 2));
    found(&service, &[1, 2]);
    assert_eq!(counts(&service), (2, 1, 1));
    found(&service, &[1, 2, 3]);
    assert_eq!(counts(&service), (3, 1, 2), "it is new once more");
    found(&service, &[]);
    assert_eq!(counts(&service), (0, 0, 0));
}

#[test]
fn a_successor_with_checks_trusts_what_was_in_use_and_one_without_holds_nothing_against_it() {
    let unchecked = service("", None);
    found(&unchecked, &[1, 2]);
    assert!(unchecked.endpoints().endpoints[0].check_state().is_none());
    let checked = service(FIRST, Some(&unchecked));
    unchecked.hand_over(&checked);
    assert_eq!(counts(&checked), (2, 2, 0));
    for status in ["unknown", "unknown", "unhealthy"] {
        assert_eq!(probed(&checked, 0, ProbeResult::Fail).status, status);
    }
    found(&checked, &[1, 2, 3]);
    assert_eq!(counts(&checked), (3, 1, 2), "the third is new");
    let again = service("", Some(&checked));
    checked.hand_over(&again);
    check(&again, &Prober::default());
    assert_eq!(counts(&again), (3, 3, 0));
    // A probe that was under way.
    let (set, policy) = (again.endpoints(), checked.policy.health_check.as_ref().unwrap());
    let seen = Seen { result: ProbeResult::Fail, text: String::new() };
    set.endpoints[2].check_result(&set.ward, seen, policy, |_| Instant::now());
    assert_eq!(counts(&again), (3, 3, 0));
}

#[test]
fn the_same_policy_keeps_the_schedule_and_another_is_tried_at_once() {
    let service = service(FIRST, None);
    found(&service, &[1]);
    let (set, policy) = (service.endpoints(), service.policy.health_check.clone().unwrap());
    let (endpoint, next) = (&set.endpoints[0], Instant::now() + policy.interval);
    endpoint.checked.begin(&policy);
    let seen = Seen { result: ProbeResult::Pass, text: String::new() };
    endpoint.check_result(&set.ward, seen, &policy, |first| {
        assert!(first);
        next
    });
    endpoint.checked.begin(&policy);
    assert_eq!(endpoint.next_check(), Some(next));
    endpoint.checked.begin(&crate::config::HealthCheck { healthy: 9, ..policy });
    let state = endpoint.check_state().unwrap();
    assert_eq!((endpoint.next_check(), state.status, state.row), (None, "healthy", 0));
}
