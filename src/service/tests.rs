//! A service as its workers see it, without sockets: what discovery says goes in, endpoints come out.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Choice, Known, Neighbourhood, Picked, Service, ServiceView, Way, Wish};
use crate::{
    config::{self, Config, Environment, Source},
    discovery::{Endpoint, Failure, FailureKind, Update},
    telemetry::{AttemptOutcome, Metrics},
};

mod checks;

/// A configuration with the service `s`, which SRV records tell, and `policy`.
fn config(policy: &str) -> Config {
    let text = format!(
        "[[listeners]]\nname = \"out\"\nkind = \"outgoing\"\nlisten = \"127.0.0.1:0\"\n\
         [node]\nname = \"n\"\nzone = \"a\"\n[services.s]\nsrv = \"s.test\"\n{policy}\n"
    );
    config::parse_in(&text, Path::new("t.toml"), &Environment::of_process()).unwrap()
}

fn service(policy: &str, previous: Option<&Service>) -> Arc<Service> {
    let config = config(policy);
    let around = (&Metrics::new(1), &Arc::new(Neighbourhood::new(&config)));
    let of = &config.services["s"];
    Arc::new(Service::new("s".into(), of.source.clone(), (of.policy.clone(), Way::Plain), around, previous))
}

/// `10.0.0.NUMBER:80` with priority and weight.
fn endpoint(number: u8, priority: u16, weight: u32) -> Endpoint {
    Endpoint { priority, weight, ..Endpoint::plain(([10, 0, 0, number], 80).into()) }
}

fn found(service: &Service, numbers: &[u8]) {
    service.update(Update::Endpoints(numbers.iter().map(|number| endpoint(*number, 0, 1)).collect()));
}

fn failure() -> Failure {
    Failure { kind: FailureKind::NoSuchName, message: "s.test: no such name".into() }
}

fn pick(view: &ServiceView, avoid: &[u64]) -> Picked {
    let wish = Wish { avoid, affinity: None, unreachable: None };
    match view.pick(&wish, || fastrand::u64(..)) {
        Choice::Picked(picked) => picked,
        _ => panic!("nothing was picked"),
    }
}

fn counts(view: &ServiceView, picks: usize, avoid: &[u64]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..picks {
        *counts.entry(pick(view, avoid).address.to_string()).or_default() += 1;
    }
    counts
}

fn id(service: &Service, number: u8) -> u64 {
    let address = ([10, 0, 0, number], 80).into();
    let set = service.endpoints();
    set.endpoints.iter().find(|endpoint| endpoint.target.address == address).unwrap().target.id
}

#[test]
fn the_lowest_priority_is_used_and_the_next_when_none_of_it_is_left() {
    let service = service("", None);
    service.update(Update::Endpoints(vec![endpoint(1, 0, 1), endpoint(2, 0, 1), endpoint(3, 5, 1)]));
    let view = ServiceView::new(service.clone());
    assert_eq!(counts(&view, 200, &[]).len(), 2);
    let first = [id(&service, 1), id(&service, 2)];
    assert_eq!(counts(&view, 50, &first[..1]).into_keys().collect::<Vec<_>>(), ["10.0.0.2:80"]);
    assert_eq!(counts(&view, 50, &first).into_keys().collect::<Vec<_>>(), ["10.0.0.3:80"]);
    let all = [first[0], first[1], id(&service, 3)];
    assert_eq!(counts(&view, 200, &all).len(), 2, "with all to be avoided, the usual ones");
}

#[test]
fn an_endpoint_keeps_its_state_through_answers_and_loses_it_when_it_goes() {
    let service = service("", None);
    found(&service, &[1, 2]);
    let view = ServiceView::new(service.clone());
    let before = id(&service, 1);
    pick(&view, &[id(&service, 2)])
        .report(AttemptOutcome::Success, Instant::now() - Duration::from_millis(7));
    let latency = |number: u8| {
        let set = service.endpoints();
        let of = set.endpoints.iter().find(|endpoint| endpoint.target.id == id(&service, number)).unwrap();
        of.latency()
    };
    found(&service, &[1, 2, 3]);
    assert_eq!(id(&service, 1), before);
    assert!(latency(1).is_some() && latency(3).is_none());
    found(&service, &[2, 3]);
    found(&service, &[1, 2, 3]);
    assert_ne!(id(&service, 1), before);
    assert!(latency(1).is_none(), "it has been away");
}

#[test]
fn the_last_good_answer_stays_until_it_expires_and_its_age_does_beyond_that() {
    let service = service("", None);
    found(&service, &[1]);
    service.update(Update::Failed(failure()));
    assert_eq!(service.endpoints().endpoints.len(), 1);
    service.update(Update::Expired(failure()));
    let set = service.endpoints();
    assert!(set.endpoints.is_empty() && service.discovery_age().is_some());
    assert!(matches!(&set.known, Known::Failing { message, .. } if message.contains("no such name")));
    let view = ServiceView::new(service.clone());
    let wish = Wish { avoid: &[], affinity: None, unreachable: None };
    let Choice::Nothing(message) = view.pick(&wish, || 0) else { panic!("there is nothing") };
    assert_eq!(message, "s has no endpoints: s.test: no such name");
    found(&service, &[2]);
    assert_eq!(counts(&view, 1, &[]).len(), 1);
}

#[test]
fn a_new_policy_shares_the_same_endpoints_out_anew() {
    let old = service("", None);
    found(&old, &[1, 2]);
    let new = service("balancer = \"round-robin\"\naperture = 1", Some(&old));
    old.hand_over(&new);
    assert_eq!([id(&new, 1), id(&new, 2)], [id(&old, 1), id(&old, 2)]);
    let view = ServiceView::new(new.clone());
    assert!(counts(&view, 50, &[]).len() <= 2);
    let kept = counts(&view, 50, &[]);
    assert!(kept.values().all(|count| *count >= 20) || kept.len() == 1, "{kept:?}");
}

#[test]
fn a_refreshed_answer_does_not_begin_the_turn_anew() {
    let service = service("balancer = \"round-robin\"", None);
    found(&service, &[1, 2, 3]);
    let view = ServiceView::new(service.clone());
    let mut turns = Vec::new();
    for _ in 0..9 {
        turns.push(pick(&view, &[]).address.to_string());
        found(&service, &[1, 2, 3]);
    }
    assert_eq!((&turns[..3], &turns[..3]), (&turns[3..6], &turns[6..]));
}

#[test]
fn a_bounded_hash_counts_what_runs_through_changes_of_the_set() {
    let service = service("balancer = { hash = \"path\" }", None);
    found(&service, &[1, 2]);
    let view = ServiceView::new(service.clone());
    let wish = Wish { avoid: &[], affinity: Some(42), unreachable: None };
    let take = || match view.pick(&wish, || 0) {
        Choice::Picked(picked) => picked,
        _ => panic!("nothing was picked"),
    };
    let running: Vec<Picked> = (0..40).map(|_| take()).collect();
    let mut loads: Vec<u32> = service.endpoints().endpoints.iter().map(|endpoint| endpoint.load()).collect();
    loads.sort_unstable();
    // A quarter above the share of 20.
    assert_eq!(loads, [15, 25]);
    found(&service, &[1, 2, 3]);
    drop(running);
    assert!(service.endpoints().endpoints.iter().all(|endpoint| endpoint.load() == 0));
    assert_eq!(service.endpoints().running.load(std::sync::atomic::Ordering::Relaxed), 0);
}

/// Five failures of an endpoint.
fn eject(view: &ServiceView, number: u8) {
    let others: Vec<u64> =
        (1..10).filter(|other| *other != number).filter_map(|other| known(view, other)).collect();
    for _ in 0..5 {
        let picked = pick(view, &others);
        assert_eq!(picked.target.address, ([10, 0, 0, number], 80).into());
        picked.report(AttemptOutcome::Reset, Instant::now());
    }
}

fn known(view: &ServiceView, number: u8) -> Option<u64> {
    let address = ([10, 0, 0, number], 80).into();
    let set = view.service.endpoints();
    set.endpoints
        .iter()
        .find(|endpoint| endpoint.target.address == address)
        .map(|endpoint| endpoint.target.id)
}

const ALL: &str = "ejection = { backoff = [\"1h\", \"1h\"], max_percent = 100 }";

fn who(counts: BTreeMap<String, usize>) -> Vec<String> {
    counts
        .into_keys()
        .map(|address| address.trim_start_matches("10.0.0.").trim_end_matches(":80").into())
        .collect()
}

#[test]
fn the_next_priority_is_used_while_all_of_the_lower_one_are_ejected() {
    for balancer in ["least-request", "round-robin", "peak-ewma"] {
        let service = service(&format!("{ALL}\nbalancer = \"{balancer}\""), None);
        service.update(Update::Endpoints(vec![
            endpoint(1, 0, 1),
            endpoint(2, 0, 1),
            endpoint(3, 5, 1),
            endpoint(4, 5, 1),
        ]));
        let view = ServiceView::new(service.clone());
        eject(&view, 1);
        assert_eq!(who(counts(&view, 50, &[])), ["2"]);
        eject(&view, 2);
        assert_eq!(who(counts(&view, 100, &[])), ["3", "4"]);
        eject(&view, 3);
        let wish = [id(&service, 4)];
        assert_eq!(who(counts(&view, 20, &wish)), ["4"], "rather again than one that is ejected");
        assert!(!service.endpoints().has_another(&wish, &service.policy));
    }
}

#[test]
fn an_ejected_endpoint_of_a_higher_priority_is_probed_only_when_that_is_used() {
    let service = service("ejection = { backoff = [\"1ms\", \"1ms\"], max_percent = 100 }", None);
    service.update(Update::Endpoints(vec![endpoint(1, 0, 1), endpoint(2, 5, 1)]));
    let view = ServiceView::new(service.clone());
    let set = service.endpoints();
    let report = |number: usize| {
        let picked = Picked::within(view.endpoints.get(), number);
        picked.report(AttemptOutcome::Reset, Instant::now());
    };
    (0..5).for_each(|_| report(1));
    assert!(!set.endpoints[1].gate.is_usable());
    let wait = || std::thread::sleep(Duration::from_millis(1100)); // backoff, and the second between two looks
    wait();
    assert_eq!(who(counts(&view, 20, &[])), ["1"]);
    (0..5).for_each(|_| report(0));
    wait();
    let (first, second) = (pick(&view, &[]), pick(&view, &[]));
    let mut probed = [&first, &second].map(|picked| picked.address.to_string());
    probed.sort();
    assert_eq!(probed, ["10.0.0.1:80", "10.0.0.2:80"]);
    let wish = Wish { avoid: &[], affinity: None, unreachable: None };
    let Choice::Unhealthy(_, message) = view.pick(&wish, || 0) else { panic!("both are being tried") };
    assert!(message.ends_with("one is being tried now"), "{message}");
    first.report(AttemptOutcome::Success, Instant::now());
    assert_eq!(who(counts(&view, 20, &[])), [first.address.to_string()[7..8].to_owned()]);
}

#[test]
fn an_ejection_stays_with_the_address_and_goes_with_it() {
    let service = service(ALL, None);
    found(&service, &[1, 2, 3]);
    let view = ServiceView::new(service.clone());
    eject(&view, 1);
    found(&service, &[1, 2, 3, 4]);
    assert_eq!(who(counts(&view, 100, &[])), ["2", "3", "4"]);
    found(&service, &[2, 3]);
    assert_eq!(service.endpoints().usable(), 2);
    found(&service, &[1, 2, 3]);
    assert_eq!(who(counts(&view, 100, &[])), ["1", "2", "3"], "an address that has been away starts afresh");
}

#[test]
fn too_few_usable_endpoints_mean_that_all_are_used() {
    let service = service(&format!("{ALL}\npanic_percent = 50"), None);
    found(&service, &[1, 2, 3, 4]);
    let view = ServiceView::new(service.clone());
    eject(&view, 1);
    eject(&view, 2);
    assert!(!service.endpoints().is_panicking(&service.policy));
    assert_eq!(who(counts(&view, 100, &[])), ["3", "4"]);
    eject(&view, 3);
    assert!(service.endpoints().is_panicking(&service.policy));
    assert_eq!(who(counts(&view, 200, &[])), ["1", "2", "3", "4"]);
    let others = [2, 3, 4].map(|number| id(&service, number));
    pick(&view, &others).report(AttemptOutcome::Success, Instant::now());
    assert_eq!(who(counts(&view, 100, &[])), ["1", "4"]);
}

#[test]
fn a_slow_start_is_no_reason_to_go_to_the_next_priority() {
    let service = service("slow_start = \"60s\"", None);
    service.update(Update::Endpoints(vec![endpoint(1, 0, 1), endpoint(9, 5, 1)]));
    service.update(Update::Endpoints(vec![endpoint(2, 0, 1), endpoint(9, 5, 1)]));
    let view = ServiceView::new(service.clone());
    assert_eq!(counts(&view, 200, &[]).into_keys().collect::<Vec<_>>(), ["10.0.0.2:80"]);
}

#[test]
fn after_an_unreachable_address_the_other_family_comes_before_a_warm_endpoint() {
    let service = service("slow_start = \"60s\"", None);
    found(&service, &[1, 2]);
    let other = Endpoint::plain("[fd00::1]:80".parse().unwrap());
    service.update(Update::Endpoints(vec![endpoint(1, 0, 1), endpoint(2, 0, 1), other]));
    let view = ServiceView::new(service.clone());
    let avoid = [id(&service, 1)];
    for _ in 0..100 {
        let unreachable = Some("10.0.0.1:80".parse().unwrap());
        let wish = Wish { avoid: &avoid, affinity: None, unreachable };
        let Choice::Picked(picked) = view.pick(&wish, || fastrand::u64(..)) else { panic!("none") };
        assert!(picked.target.address.is_ipv6());
    }
}

#[test]
fn a_key_stays_with_an_endpoint_that_starts_slowly() {
    let service = service("slow_start = \"60s\"\nbalancer = { hash = \"path\" }", None);
    found(&service, &[1]);
    found(&service, &[1, 2, 3, 4]);
    let view = ServiceView::new(service.clone());
    for key in 0..50_u64 {
        let wish = Wish { avoid: &[], affinity: Some(key << 58), unreachable: None };
        let pick = || match view.pick(&wish, || fastrand::u64(..)) {
            Choice::Picked(picked) => picked.address.to_string(),
            _ => panic!("nothing was picked"),
        };
        let first = pick();
        assert!((0..20).all(|_| pick() == first));
    }
}

#[test]
fn a_service_that_a_reload_replaced_before_its_first_answer_takes_no_place_from_its_successor() {
    let old = service("", None);
    let new = service("balancer = \"round-robin\"", Some(&old));
    old.hand_over(&new);
    // A request waits for it.
    found(&old, &[1, 2]);
    found(&new, &[1, 2]);
    let old_view = ServiceView::new(old);
    eject(&old_view, 1);
    assert_eq!((old_view.service.endpoints().usable(), new.endpoints().usable()), (1, 2));
    drop(old_view);
    let view = ServiceView::new(new.clone());
    eject(&view, 2);
    assert_eq!(who(counts(&view, 20, &[])), ["1"]);
}

#[test]
fn a_service_that_is_dropped_gives_back_the_places_of_its_ejected_endpoints() {
    let service = service("", None);
    found(&service, &[1, 2]);
    eject(&ServiceView::new(service.clone()), 1);
    let set = service.endpoints();
    assert_eq!(set.usable(), 1);
    drop(service);
    assert_eq!(set.usable(), 2);
}

#[test]
fn a_new_endpoint_is_probed_though_a_request_looked_with_the_set_before_it() {
    const SOON: &str = "ejection = { backoff = [\"1ms\", \"1ms\"], max_percent = 50 }";
    let old = service(SOON, None);
    found(&old, &[1, 2, 3]);
    let old_view = ServiceView::new(old.clone());
    // Of a request that began before the reload.
    let set = old_view.endpoints.get();
    let new = service(&format!("{SOON}\nbalancer = \"round-robin\""), Some(&old));
    old.hand_over(&new);
    found(&new, &[1, 2, 3, 4]);
    let view = ServiceView::new(new.clone());
    eject(&view, 4);
    std::thread::sleep(Duration::from_millis(10)); // the backoff
    let wish = Wish { avoid: &[], affinity: None, unreachable: None };
    old_view.pick_usable(set, &wish, &mut || fastrand::u64(..));
    assert!(!who(counts(&view, 20, &[])).contains(&"4".to_owned()), "its moment is lost");
    new.sweep();
    assert!(who(counts(&view, 20, &[])).contains(&"4".to_owned()));
}

/// `s` with the endpoints of a file.
fn of_file(previous: &Service) -> Arc<Service> {
    let config = config("");
    let around = (&Metrics::new(1), &Arc::new(Neighbourhood::new(&config)));
    let policy = config.services["s"].policy.clone();
    let source = Source::File("endpoints/s".into());
    Arc::new(Service::new("s".into(), source, (policy, Way::Plain), around, Some(previous)))
}

#[test]
fn another_source_takes_over_by_address_and_what_the_former_one_said_is_used_until_it_answers() {
    let old = service(ALL, None);
    found(&old, &[1, 2, 3]);
    eject(&ServiceView::new(old.clone()), 1);
    let new = of_file(&old);
    old.hand_over(&new);
    let view = ServiceView::new(new.clone());
    assert!(matches!(new.endpoints().known, Known::Nothing) && new.discovery_age().is_none());
    assert_eq!(who(counts(&view, 100, &[])), ["2", "3"]);
    let second = id(&new, 2);
    new.update(Update::Failed(failure()));
    assert!(matches!(&new.endpoints().known, Known::Failing { since: None, .. }));
    assert_eq!(who(counts(&view, 100, &[])), ["2", "3"]);
    found(&new, &[1, 2]);
    assert!(matches!(new.endpoints().known, Known::Current { .. }));
    assert_eq!((who(counts(&view, 100, &[])), id(&new, 2)), (vec!["2".to_owned()], second));
    assert_eq!(id(&old, 2), second);
}

#[test]
fn endpoints_of_a_former_source_are_handed_on_through_further_reloads() {
    let old = service("", None);
    found(&old, &[1, 2]);
    let between = of_file(&old);
    old.hand_over(&between);
    let new = of_file(&between);
    between.hand_over(&new);
    assert_eq!(who(counts(&ServiceView::new(new.clone()), 50, &[])), ["1", "2"]);
    assert!(!new.endpoints().endpoints.iter().any(|endpoint| endpoint.target.is_retired()));
    let back = service("", Some(&new));
    new.hand_over(&back);
    assert_eq!(who(counts(&ServiceView::new(back), 50, &[])), ["1", "2"]);
}

#[test]
fn what_discovery_says_after_a_reload_is_in_force_for_requests_of_the_old_configuration_as_well() {
    let first = service("balancer = { hash = \"path\" }", None);
    found(&first, &[1, 2, 3]);
    let second = service("", Some(&first));
    first.hand_over(&second);
    let third = service("balancer = \"round-robin\"\nejection = { max_percent = 100 }", Some(&second));
    second.hand_over(&third);
    drop(second);
    let views = [&first, &third].map(|service| ServiceView::new(service.clone()));
    eject(&views[1], 3);
    found(&third, &[2, 3, 4]);
    for view in &views {
        let key = || (!view.service.endpoints().layout.rings.is_empty()).then(|| fastrand::u64(..));
        let pick = |_| match view
            .pick(&Wish { avoid: &[], affinity: key(), unreachable: None }, || fastrand::u64(..))
        {
            Choice::Picked(picked) => (picked.address.to_string(), 1),
            _ => panic!("nothing was picked"),
        };
        assert_eq!(who((0..200).map(pick).collect()), ["2", "4"]);
    }
    drop(views);
    third.update(Update::Expired(failure()));
    assert!(first.endpoints().endpoints.is_empty());
    let (gone, before) = (Arc::downgrade(&first), Arc::strong_count(&first));
    drop(first);
    assert_eq!((before, gone.strong_count()), (1, 0), "its successor does not keep it");
}

#[test]
fn what_another_source_says_is_not_for_requests_of_the_old_configuration() {
    let old = service("", None);
    found(&old, &[1, 2]);
    let new = of_file(&old);
    old.hand_over(&new);
    found(&new, &[3]);
    assert_eq!(who(counts(&ServiceView::new(old), 50, &[])), ["1", "2"]);
}
