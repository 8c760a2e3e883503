//! Each rule of precedence and of matching by example.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use regex::Regex;

use super::{LostBy, Mismatch, RequestView, Router, Verdict};
use crate::config::{Backend, BackendTarget, HostPattern, Match, PathMatch, Route, ValueMatch};

pub(super) fn rule(hosts: Vec<HostPattern>, matches: Vec<Match>) -> Route {
    let backend = Backend { target: BackendTarget::Service("s".into()), weight: 1 };
    Route {
        name: "r".into(),
        listeners: vec![0],
        hosts,
        matches,
        backends: vec![backend],
        timeout: None,
        attempt_timeout: None,
        priority: Default::default(),
        failover: Default::default(),
        retry: None,
        hedge: None,
        hedged: Vec::new(),
        fault: None,
        jwt: None,
        authorize: None,
    }
}

fn host(pattern: &str) -> HostPattern {
    match pattern.strip_prefix('*') {
        None => HostPattern::Exact(pattern.to_owned()),
        Some("") => HostPattern::Any,
        Some(suffix) => HostPattern::Suffix(suffix.trim_start_matches('.').to_owned()),
    }
}

fn for_hosts(patterns: &[&str]) -> Vec<Route> {
    patterns.iter().map(|pattern| rule(vec![host(pattern)], vec![Match::default()])).collect()
}

/// One rule per entry, all for any host.
fn for_entries(entries: Vec<Match>) -> Vec<Route> {
    entries.into_iter().map(|entry| rule(vec![HostPattern::Any], vec![entry])).collect()
}

fn prefix(path: &str) -> Match {
    Match { path: Some(PathMatch::Prefix(path.to_owned())), ..Match::default() }
}

fn exact(path: &str) -> Match {
    Match { path: Some(PathMatch::Exact(path.to_owned())), ..Match::default() }
}

fn expression(pattern: &str) -> Match {
    let regex = Regex::new(&format!("^(?:{pattern})$")).unwrap();
    Match { path: Some(PathMatch::Regex(regex)), ..Match::default() }
}

fn method(method: &str) -> Match {
    Match { methods: vec![method.to_owned()], ..Match::default() }
}

fn values(conditions: &[(&str, &str)]) -> Vec<(String, ValueMatch)> {
    conditions
        .iter()
        .map(|(name, value)| ((*name).to_owned(), ValueMatch::Exact((*value).to_owned())))
        .collect()
}

fn headers(conditions: &[(&str, &str)]) -> Match {
    Match { headers: values(conditions), ..Match::default() }
}

fn query(conditions: &[(&str, &str)]) -> Match {
    Match { query: values(conditions), ..Match::default() }
}

fn router(routes: &[Route]) -> Router {
    Router::new(routes.iter().enumerate())
}

/// `url`: `host/path?query`.
fn with<T>(url: &str, fields: &[(&'static str, &'static str)], ask: impl Fn(&RequestView<'_>) -> T) -> T {
    let (url, query) = url.split_once('?').map_or((url, None), |(url, query)| (url, Some(query)));
    let (host, path) = url.split_at(url.find(['/', '*']).unwrap_or(url.len()));
    let fields =
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    let mut headers = HeaderMap::new();
    fields.for_each(|(name, value)| {
        headers.append(name, value);
    });
    ask(&RequestView { host, method: &Method::GET, path, query, headers: &headers })
}

fn winner(routes: &[Route], url: &str, fields: &[(&'static str, &'static str)]) -> Option<usize> {
    with(url, fields, |view| router(routes).route(view))
}

fn winning(routes: &[Route], url: &str) -> Option<usize> {
    winner(routes, url, &[])
}

fn verdict(routes: &[Route], url: &str, route: usize) -> Verdict {
    with(url, &[], |view| router(routes).explain(view)).rules[route].verdict.clone()
}

fn lost_by(routes: &[Route], url: &str, route: usize) -> LostBy {
    match verdict(routes, url, route) {
        Verdict::Lost { by, .. } => by,
        other => panic!("expected a lost rule, got: {other}"),
    }
}

#[test]
fn a_listener_without_rules_matches_nothing() {
    assert_eq!(winning(&[], "a/"), None);
}

#[test]
fn the_most_specific_host_wins() {
    let routes = for_hosts(&["*", "*.com", "*.b.com", "a.b.com"]);
    assert_eq!(winning(&routes, "a.b.com/"), Some(3));
    assert_eq!(winning(&routes, "x.b.com/"), Some(2));
    assert_eq!(winning(&routes, "b.com/"), Some(1));
    assert_eq!(winning(&routes, "com/"), Some(0));
    assert_eq!(lost_by(&routes, "a.b.com/", 2), LostBy::MoreSpecificHost);
}

#[test]
fn a_suffix_needs_a_label_in_front_and_takes_several() {
    let routes = for_hosts(&["*.b.com"]);
    assert_eq!(winning(&routes, "a.b.com/"), Some(0));
    assert_eq!(winning(&routes, "z.y.b.com/"), Some(0));
    for other in ["b.com/", ".b.com/", "ab.com/", "xb.com/", "a.b.com.org/"] {
        assert_eq!(winning(&routes, other), None, "{other}");
    }
}

#[test]
fn a_request_that_fails_the_exact_host_falls_to_the_suffix_and_then_to_any_host() {
    let mut routes = for_hosts(&["a.com", "*.com", "*"]);
    routes[0].matches = vec![prefix("/one")];
    routes[1].matches = vec![prefix("/two")];
    assert_eq!(winning(&routes, "a.com/one"), Some(0));
    assert_eq!(winning(&routes, "a.com/two"), Some(1));
    assert_eq!(winning(&routes, "a.com/three"), Some(2));
}

#[test]
fn host_outweighs_path() {
    let mut routes = for_hosts(&["*", "a"]);
    routes[0].matches = vec![exact("/x")];
    assert_eq!(winning(&routes, "a/x"), Some(1));
}

#[test]
fn case_a_trailing_dot_and_brackets_of_a_host_do_not_count() {
    let routes = for_hosts(&["reviews.internal", "::1", "*.b"]);
    assert_eq!(winning(&routes, "Reviews.INTERNAL/"), Some(0));
    assert_eq!(winning(&routes, "reviews.internal./"), Some(0));
    assert_eq!(winning(&routes, "[::1]/"), Some(1));
    assert_eq!(winning(&routes, "::1/"), Some(1));
    assert_eq!(winning(&routes, "A.B./"), Some(2));
    assert_eq!(winning(&for_hosts(&["[2001:db8::a]"]), "[2001:DB8::A]/"), Some(0));
}

#[test]
fn path_conditions_win_in_the_order_exact_longest_prefix_expression_none() {
    let entries =
        vec![Match::default(), expression("/a/.*"), prefix("/"), prefix("/a"), prefix("/a/b"), exact("/a/b")];
    let mut routes = for_entries(entries);
    for (winner, reason) in [
        (5, LostBy::ExactPath),
        (4, LostBy::LongerPrefix),
        (3, LostBy::LongerPrefix),
        (2, LostBy::LongerPrefix),
    ] {
        assert_eq!(winning(&routes, "h/a/b"), Some(winner));
        assert_eq!(lost_by(&routes, "h/a/b", winner - 1), reason);
        routes.pop();
    }
    assert_eq!(winning(&routes, "h/a/b"), Some(1));
    assert_eq!(lost_by(&routes, "h/a/b", 0), LostBy::PathRegex);
}

#[test]
fn a_prefix_holds_on_segment_boundaries_only() {
    let routes = for_entries(vec![prefix("/v2")]);
    for inside in ["h/v2", "h/v2/", "h/v2/x", "h/v2//"] {
        assert_eq!(winning(&routes, inside), Some(0), "{inside}");
    }
    for outside in ["h/v20", "h/v", "h/", "h/V2", "h//v2", "h/x/v2"] {
        assert_eq!(winning(&routes, outside), None, "{outside}");
    }
}

#[test]
fn a_prefix_boundary_inside_a_character_is_none() {
    assert_eq!(winning(&for_entries(vec![prefix("/v2")]), "h/vé/x"), None);
}

#[test]
fn the_root_prefix_holds_for_every_path() {
    let routes = for_entries(vec![prefix("/")]);
    assert_eq!(winning(&routes, "h/"), Some(0));
    assert_eq!(winning(&routes, "h/a/b"), Some(0));
}

#[test]
fn an_asterisk_target_meets_only_entries_without_path_condition() {
    let conditional = vec![prefix("/"), expression(".*"), exact("*")];
    assert_eq!(winning(&for_entries(conditional.clone()), "h*"), None);
    let routes = for_entries([conditional, vec![Match::default()]].concat());
    assert_eq!(winning(&routes, "h*"), Some(3));
}

#[test]
fn an_entry_with_methods_wins_over_more_headers() {
    let routes = for_entries(vec![Match::default(), headers(&[("x", "1")]), method("GET")]);
    assert_eq!(winner(&routes, "h/", &[("x", "1")]), Some(2));
    assert_eq!(lost_by(&routes, "h/", 0), LostBy::Method);
}

#[test]
fn more_headers_win_over_more_query_parameters() {
    let two = headers(&[("x", "1"), ("y", "2")]);
    let routes = for_entries(vec![query(&[("p", "1"), ("q", "2")]), headers(&[("x", "1")]), two]);
    let fields = [("x", "1"), ("y", "2")];
    assert_eq!(winner(&routes, "h/?p=1&q=2", &fields), Some(2));
    assert_eq!(winner(&routes, "h/?p=1&q=2", &fields[..1]), Some(1));
    assert_eq!(winning(&routes, "h/?p=1&q=2"), Some(0));
    let by = with("h/?p=1&q=2", &fields, |view| router(&routes).explain(view)).rules[0].verdict.clone();
    assert!(matches!(by, Verdict::Lost { to: 2, by: LostBy::MoreHeaders, .. }), "{by}");
}

#[test]
fn more_query_parameters_win_over_file_order() {
    let routes = for_entries(vec![Match::default(), query(&[("p", "1")]), query(&[("p", "1"), ("q", "2")])]);
    assert_eq!(winning(&routes, "h/?p=1&q=2"), Some(2));
    assert_eq!(winning(&routes, "h/?p=1"), Some(1));
    assert_eq!(lost_by(&routes, "h/?p=1", 0), LostBy::MoreQuery);
}

#[test]
fn the_first_rule_in_the_file_wins_a_tie() {
    let routes = for_entries(vec![prefix("/a"), prefix("/a")]);
    assert_eq!(winning(&routes, "h/a"), Some(0));
    assert_eq!(lost_by(&routes, "h/a", 1), LostBy::FileOrder);
}

#[test]
fn a_conditional_entry_that_fails_leaves_the_request_to_the_next_best() {
    let guarded = Match { headers: values(&[("x", "1")]), ..exact("/a") };
    let routes = for_entries(vec![prefix("/a"), guarded]);
    assert_eq!(winner(&routes, "h/a", &[("x", "1")]), Some(1));
    assert_eq!(winner(&routes, "h/a", &[("x", "2")]), Some(0));
}

#[test]
fn repeated_headers_are_compared_joined() {
    let routes = for_entries(vec![headers(&[("x", "1,2")]), headers(&[("cookie", "a=1; b=2")])]);
    assert_eq!(winner(&routes, "h/", &[("x", "1"), ("x", "2")]), Some(0));
    assert_eq!(winner(&routes, "h/", &[("x", "1")]), None);
    assert_eq!(winner(&routes, "h/", &[("cookie", "a=1"), ("cookie", "b=2")]), Some(1));
}

#[test]
fn query_parameters_are_decoded_and_the_first_of_a_name_decides() {
    let routes = for_entries(vec![query(&[("a b", "c+d é")])]);
    assert_eq!(winning(&routes, "h/?a+b=c%2Bd+%C3%A9"), Some(0));
    assert_eq!(winning(&routes, "h/?x=1&&a%20b=c%2bd%20%c3%a9&a+b=other"), Some(0));
    assert_eq!(winning(&routes, "h/?a+b=other&a+b=c%2Bd+%C3%A9"), None);
    assert_eq!(winning(&routes, "h/"), None);
}

#[test]
fn present_and_absent_look_at_the_name_alone() {
    let condition = |value| vec![("x".to_owned(), value)];
    let present = Match { query: condition(ValueMatch::Present), ..Match::default() };
    let absent = Match { headers: condition(ValueMatch::Absent), ..Match::default() };
    let routes = for_entries(vec![absent, present]);
    assert_eq!(winning(&routes, "h/?x"), Some(0));
    assert_eq!(winner(&routes, "h/?x", &[("x", "")]), Some(1));
    assert_eq!(winner(&routes, "h/?y", &[("x", "")]), None);
}

#[test]
fn numbers_of_the_caller_are_kept() {
    let routes = for_hosts(&["a", "b"]);
    let router = Router::new([(40, &routes[0]), (2, &routes[1])]);
    assert_eq!(with("b/", &[], |view| router.route(view)), Some(2));
    assert_eq!(with("b/", &[], |view| router.explain(view)).rules[0].route, 40);
}

#[test]
fn the_explanation_names_the_winning_host_and_entry() {
    let routes = [rule(vec![host("*"), host("*.b")], vec![exact("/x"), prefix("/y")])];
    assert_eq!(verdict(&routes, "a.b/y", 0), Verdict::Won { host: "*.b".to_owned(), entry: 1 });
}

#[test]
fn the_explanation_gives_the_reason_of_the_entry_that_came_furthest() {
    let entry = Match { methods: vec!["GET".to_owned()], headers: values(&[("x", "1")]), ..prefix("/a") };
    let routes = [rule(vec![host("h")], vec![exact("/b"), entry, method("PUT")])];
    let expected = Mismatch::Header { name: "x".to_owned(), wanted: "`1`".to_owned(), found: None };
    assert_eq!(verdict(&routes, "h/a", 0), Verdict::NoMatch(expected));
    assert_eq!(
        verdict(&routes, "h/c", 0),
        Verdict::NoMatch(Mismatch::Method { wanted: vec!["PUT".to_owned()] })
    );
    assert_eq!(verdict(&routes, "i/a", 0), Verdict::NoMatch(Mismatch::Host { wanted: vec!["h".to_owned()] }));
}

#[test]
fn of_entries_that_came_equally_far_the_first_gives_the_reason() {
    let routes =
        for_hosts(&["h"]).into_iter().map(|route| Route { matches: vec![exact("/b"), exact("/d")], ..route });
    let expected = Mismatch::Path { wanted: "exactly `/b`".to_owned() };
    assert_eq!(verdict(&routes.collect::<Vec<_>>(), "h/c", 0), Verdict::NoMatch(expected));
}

#[test]
fn verdicts_read_as_sentences() {
    let routes = [
        rule(vec![host("h"), host("*.h")], vec![Match { query: values(&[("q", "1")]), ..Match::default() }]),
        rule(vec![host("*")], vec![prefix("/v2")]),
        rule(vec![host("h")], vec![exact("/v2")]),
    ];
    let texts = |url| -> Vec<String> {
        let explanation = with(url, &[], |view| router(&routes).explain(view));
        explanation.rules.iter().map(|rule| rule.verdict.to_string()).collect()
    };
    assert_eq!(
        texts("h/v2?q=2"),
        [
            "no match: query parameter `q` is `2` (wanted: `1`)",
            "matched by host `*`, match[0], but lost to route 2: its host is more specific",
            "matched and won by host `h`, match[0]",
        ]
    );
    assert_eq!(
        texts("i/v3"),
        [
            "no match: the host is none of `h`, `*.h`",
            "no match: the path differs (wanted: prefix `/v2`)",
            "no match: the host is none of `h`",
        ]
    );
}
