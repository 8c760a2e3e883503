//! What the keys of resilience mean: defaults, inheritance, the forms that a value may have.

// Helpers of tests may fail like tests, which clippy's own exception does not know.
#![allow(clippy::unwrap_used)]

use std::{path::Path, time::Duration};

use towpath::config::{self, Abort, Config, Environment, HealthProbe, Hedge, Priority};

fn read(text: &str) -> Config {
    let environment = Environment {
        node_name: None,
        node_zone: None,
        host_name: "h".to_owned(),
        cpus: 1.try_into().unwrap(),
        memory: None,
    };
    let listener = "[[listeners]]\nname = \"outgoing\"\nkind = \"outgoing\"\nlisten = \"127.0.0.1:4140\"\n";
    let service = "[services.s]\nendpoints = [\"10.0.0.1:80\"]\n";
    let text = format!("{listener}{service}{text}");
    config::parse_in(&text, Path::new("/etc/towpath/t.toml"), &environment)
        .unwrap_or_else(|wrong| panic!("{wrong}"))
}

fn route(policy: &str) -> config::Route {
    let text = format!("[[routes]]\nname = \"r\"\nbackends = [{{ service = \"s\" }}]\n{policy}\n");
    (*read(&text).routes[0]).clone()
}

#[test]
fn a_silent_route_neither_retries_nor_hedges_nor_fails_over_nor_injects() {
    let route = route("");
    assert_eq!((route.retry, route.hedge, route.fault), (None, None, None));
    assert_eq!((route.priority, route.failover.services.len()), (Priority::Normal, 0));
    assert_eq!(route.failover.back_after, Duration::from_secs(10));
}

#[test]
fn an_empty_retry_is_for_idempotent_methods_and_failures_on_the_way() {
    let retry = route("retry = {}").retry.unwrap();
    assert!(retry.on.connect_failure && retry.on.reset && retry.on.gateway_error);
    assert!(
        !retry.on.server_error && !retry.on.timeout && retry.on.statuses.is_empty() && retry.on.grpc == 0
    );
    assert_eq!(retry.methods, ["DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"]);
    assert_eq!((retry.attempts, retry.body_limit), (3, 64 * 1024));
    assert_eq!([retry.backoff_first, retry.backoff_longest], [25, 250].map(Duration::from_millis));
}

#[test]
fn statuses_and_codes_are_told_from_classes() {
    let on = route(r#"retry = { on = ["429", "503", "unavailable", "RESOURCE_EXHAUSTED", "429"] }"#)
        .retry
        .unwrap()
        .on;
    assert_eq!(on.statuses, [429, 503]);
    assert_eq!(on.grpc, 1 << 14 | 1 << 8);
    assert!(!on.connect_failure && !on.reset);
}

#[test]
fn a_route_takes_key_by_key_what_its_retry_is_silent_about_from_the_defaults() {
    let text = r#"
        [defaults.route]
        retry = { attempts = 5, on = ["5xx"] }
        hedge = { percentile = 90 }
        [[routes]]
        name = "r"
        backends = [{ service = "s" }]
        retry = { attempts = 2, methods = ["POST"] }
    "#;
    let config = read(text);
    let route = &config.routes[0];
    let retry = route.retry.as_ref().unwrap();
    assert_eq!((retry.attempts, retry.on.server_error), (2, true));
    assert_eq!(route.hedge, Some(Hedge::Percentile(90)));
    assert_eq!(route.hedged, ["POST"]);
}

#[test]
fn a_hedge_of_a_routes_own_takes_the_place_of_the_other_kind_in_the_defaults() {
    let hedge = |default: &str, own: &str| {
        let defaults = format!("[defaults.route]\nhedge = {default}\n");
        let route = format!("[[routes]]\nname = \"r\"\nbackends = [{{ service = \"s\" }}]\nhedge = {own}\n");
        read(&(defaults + &route)).routes[0].hedge
    };
    let (after, percentile) = (r#"{ after = "50ms" }"#, "{ percentile = 95 }");
    assert_eq!(hedge(after, percentile), Some(Hedge::Percentile(95)));
    assert_eq!(hedge(percentile, after), Some(Hedge::After(Duration::from_millis(50))));
}

#[test]
fn faults_have_shares_with_fractions_and_three_kinds_of_abort() {
    let fault = |text: &str| route(&format!("fault = {text}")).fault.unwrap();
    let jittered = fault(r#"{ delay = "10ms", delay_max = "20ms", delay_percent = 0.5 }"#);
    assert_eq!(jittered.delay, Some((Duration::from_millis(10), Duration::from_millis(20))));
    assert_eq!((jittered.delay_share.ppm, jittered.abort_share.ppm), (5_000, 1_000_000));
    assert_eq!((jittered.abort, jittered.matches.len()), (None, 0));
    assert_eq!(fault("{ abort = 418 }").abort, Some(Abort::Status(418)));
    assert_eq!(fault(r#"{ abort = "grpc:unavailable" }"#).abort, Some(Abort::Grpc(14)));
    let matched = fault(r#"{ abort = "reset", match = [{ headers = { x-chaos = "on" } }] }"#);
    assert_eq!((matched.abort, matched.matches[0].headers.len()), (Some(Abort::Reset), 1));
}

#[test]
fn a_health_check_says_what_is_asked() {
    let check = |text: &str| {
        let config = read(&format!("[services.t]\nendpoints = [\"10.0.0.1:80\"]\nhealth_check = {text}\n"));
        config.services["t"].policy.health_check.clone().unwrap()
    };
    let http = check(r#"{ http = "/up?deep=1", expect = [204, 200], host = "s.internal", port = 81 }"#);
    let host = Some("s.internal".to_owned());
    assert_eq!(http.probe, HealthProbe::Http { path: "/up?deep=1".to_owned(), host, expect: vec![200, 204] });
    assert_eq!((http.port, http.healthy, http.unhealthy, http.first_pass), (Some(81), 2, 3, false));
    assert_eq!(check("{ tcp = true }").probe, HealthProbe::Tcp);
    let grpc = check(r#"{ grpc = "", initially = "unhealthy" }"#);
    assert_eq!((grpc.probe, grpc.first_pass), (HealthProbe::Grpc(String::new()), true));
}

#[test]
fn limits_have_defaults_that_hold_for_every_service() {
    let config = read("[overload]\nmax_requests = 7\n");
    assert_eq!((config.overload.max_requests, config.overload.max_pending), (7, 1024));
    let policy = &config.services["s"].policy;
    assert_eq!((policy.breaker.max_connections, policy.breaker.requests.max_requests), (10_000, 10_000));
    assert!(!policy.breaker.requests.adaptive);
    assert_eq!((policy.retry_budget.percent, policy.retry_budget.min_per_second), (20, 10));
    assert_eq!(policy.stream_idle_timeout, Duration::from_secs(3600));
}
