//! The router against a plain reference: try every pair of host pattern and match entry, keep the best.
//!
//! The reference shares no code with the router and favours the obvious over the fast. Alphabets are small, so that
//! rules collide and tie often.

use std::cmp::Reverse;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::{
    collection::{btree_map, vec},
    prelude::*,
    sample::{select, subsequence},
    test_runner::{Config, TestCaseError},
};
use regex::Regex;

use super::{RequestView, Router, Verdict};
use crate::config::{HostPattern, Match, PathMatch, Route, ValueMatch};

#[derive(Clone, Debug)]
struct Request {
    host: String,
    method: Method,
    path: String,
    query: Option<String>,
    headers: Vec<(&'static str, &'static str)>,
}

/// The rank of a pair: greater wins.
type Rank = (usize, usize, bool, usize, usize, Reverse<(usize, usize)>);

fn best_rank(position: usize, route: &Route, request: &Request) -> Option<Rank> {
    let entries = route.matches.iter().enumerate();
    let pairs = entries.flat_map(|pair| route.hosts.iter().map(move |host| (host, pair)));
    let ranks = pairs.filter_map(|(host, (number, entry))| {
        let host = host_rank(host, &request.host)?;
        let path = path_rank(entry.path.as_ref(), &request.path)?;
        let methods = !entry.methods.is_empty();
        let method = !methods || entry.methods.contains(&request.method.to_string());
        let headers = entry.headers.iter().all(|(name, wanted)| value_holds(wanted, header(request, name)));
        let query = entry.query.iter().all(|(name, wanted)| value_holds(wanted, parameter(request, name)));
        let order = Reverse((position, number));
        (method && headers && query).then_some((
            host,
            path,
            methods,
            entry.headers.len(),
            entry.query.len(),
            order,
        ))
    });
    ranks.max()
}

fn reference(routes: &[Route], request: &Request) -> Option<usize> {
    let ranked = |(position, route)| Some((best_rank(position, route, request)?, position));
    routes.iter().enumerate().filter_map(ranked).max().map(|(_, position)| position)
}

fn host_rank(pattern: &HostPattern, host: &str) -> Option<usize> {
    let host = host.to_lowercase();
    let host: Vec<&str> = host.trim_end_matches('.').split('.').collect();
    match pattern {
        HostPattern::Exact(name) => (name.split('.').collect::<Vec<_>>() == host).then_some(1000),
        HostPattern::Suffix(suffix) => {
            let suffix: Vec<&str> = suffix.split('.').collect();
            (host.len() > suffix.len() && host.ends_with(&suffix)).then_some(suffix.len())
        }
        HostPattern::Any => Some(0),
    }
}

fn path_rank(wanted: Option<&PathMatch>, path: &str) -> Option<usize> {
    let segments = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
    match wanted {
        None => Some(0),
        Some(_) if path == "*" => None,
        Some(PathMatch::Regex(regex)) => regex.is_match(path).then_some(1),
        Some(PathMatch::Prefix(prefix)) if prefix == "/" => Some(2),
        Some(PathMatch::Prefix(prefix)) => {
            segments(path).starts_with(&segments(prefix)).then_some(2 + prefix.len())
        }
        Some(PathMatch::Exact(exact)) => (exact == path).then_some(1000),
    }
}

fn header(request: &Request, name: &str) -> Option<String> {
    let values: Vec<&str> =
        request.headers.iter().filter(|(other, _)| *other == name).map(|(_, value)| *value).collect();
    (!values.is_empty()).then(|| values.join(","))
}

fn parameter(request: &Request, name: &str) -> Option<String> {
    for pair in request.query.as_deref()?.split('&').filter(|pair| !pair.is_empty()) {
        let mut halves = pair.splitn(2, '=');
        let found = unescape(halves.next().unwrap_or_default());
        if found == name {
            return Some(unescape(halves.next().unwrap_or_default()));
        }
    }
    None
}

/// Only the escapes that the alphabets below hold.
fn unescape(text: &str) -> String {
    let escapes = [("+", " "), ("%20", " "), ("%71", "q"), ("%31", "1"), ("%2C", ","), ("%2B", "+")];
    escapes.iter().fold(text.to_owned(), |text, (escape, meaning)| text.replace(escape, meaning))
}

fn value_holds(wanted: &ValueMatch, value: Option<String>) -> bool {
    match wanted {
        ValueMatch::Exact(wanted) => value.as_ref() == Some(wanted),
        ValueMatch::Regex(wanted) => value.is_some_and(|value| wanted.is_match(&value)),
        ValueMatch::Present => value.is_some(),
        ValueMatch::Absent => value.is_none(),
    }
}

fn host_name() -> impl Strategy<Value = String> {
    vec(select(&["a", "b"][..]), 1..4).prop_map(|labels| labels.join("."))
}

fn host_pattern() -> impl Strategy<Value = HostPattern> {
    prop_oneof![
        3 => host_name().prop_map(HostPattern::Exact),
        3 => host_name().prop_map(HostPattern::Suffix),
        1 => Just(HostPattern::Any),
    ]
}

fn path() -> impl Strategy<Value = String> {
    vec(select(&["x", "y", "xx"][..]), 0..4).prop_map(|segments| format!("/{}", segments.join("/")))
}

/// Compiled once: compiling them for each case would take longer than the cases do.
fn expressions(patterns: &[&str]) -> impl Strategy<Value = Regex> {
    let compiled: Vec<Regex> =
        patterns.iter().map(|pattern| Regex::new(&format!("^(?:{pattern})$")).unwrap()).collect();
    select(compiled)
}

fn path_match() -> impl Strategy<Value = PathMatch> {
    prop_oneof![
        1 => path().prop_map(PathMatch::Exact),
        3 => path().prop_map(PathMatch::Prefix),
        1 => expressions(&[".*", "/x.*", "/[xy]", "/|/y/.*"]).prop_map(PathMatch::Regex),
    ]
}

fn value_match() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![
        select(&["", "1", "2", "1,2", "+"][..]).prop_map(|value| ValueMatch::Exact(value.to_owned())),
        expressions(&[".*", "1.*", ".+", "[12]"]).prop_map(ValueMatch::Regex),
        Just(ValueMatch::Present),
        Just(ValueMatch::Absent),
    ]
}

fn conditions(names: &'static [&'static str]) -> impl Strategy<Value = Vec<(String, ValueMatch)>> {
    let name = select(names).prop_map(str::to_owned);
    let some = btree_map(name, value_match(), 1..3).prop_map(|map| map.into_iter().collect());
    prop_oneof![2 => Just(Vec::new()), 1 => some]
}

fn entry() -> impl Strategy<Value = Match> {
    let methods = prop_oneof![
        2 => Just(Vec::new()),
        1 => subsequence(vec!["GET".to_owned(), "POST".to_owned()], 1..3),
    ];
    (proptest::option::of(path_match()), methods, conditions(&["h", "i"]), conditions(&["q", "q q"]))
        .prop_map(|(path, methods, headers, query)| Match { path, methods, headers, query })
}

fn route() -> impl Strategy<Value = Route> {
    (vec(host_pattern(), 1..4), vec(entry(), 1..4))
        .prop_map(|(hosts, matches)| super::tests::rule(hosts, matches))
}

fn request() -> impl Strategy<Value = Request> {
    let host = (host_name(), any::<bool>(), any::<bool>()).prop_map(|(host, upper, dot)| {
        let host = if upper { host.to_uppercase() } else { host };
        if dot { format!("{host}.") } else { host }
    });
    let odd_paths = select(&["*", "//x", "/x/", "/x//y", "/X"][..]).prop_map(str::to_owned);
    let path = prop_oneof![5 => path(), 1 => odd_paths];
    let pairs = ["q", "q=1", "q=2", "%71=%31", "q+q=1", "q%20q=1%2C2", "q=1,2", "q=%2B", "q=+", "", "r=1"];
    let query = proptest::option::of(vec(select(pairs.to_vec()), 0..4).prop_map(|pairs| pairs.join("&")));
    let headers = vec((select(&["h", "i"][..]), select(&["", "1", "2", "1,2"][..])), 0..3);
    let method = select(vec![Method::GET, Method::POST, Method::PUT]);
    (host, method, path, query, headers).prop_map(|(host, method, path, query, headers)| Request {
        host,
        method,
        path,
        query,
        headers,
    })
}

/// The caller's number of the rule at a position: anything but the position itself.
fn number(position: usize) -> usize {
    position * 3 + 7
}

fn agrees(routes: &[Route], router: &Router, request: &Request) -> Result<(), TestCaseError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let view = RequestView {
        host: &request.host,
        method: &request.method,
        path: &request.path,
        query: request.query.as_deref(),
        headers: &headers,
    };
    let expected = reference(routes, request).map(number);
    prop_assert_eq!(router.route(&view), expected);
    let explanation = router.explain(&view);
    prop_assert_eq!(explanation.winner, expected);
    prop_assert_eq!(explanation.rules.len(), routes.len());
    for (position, rule) in explanation.rules.iter().enumerate() {
        prop_assert_eq!(rule.route, number(position));
        let ranked = best_rank(position, &routes[position], request);
        match &rule.verdict {
            Verdict::Won { entry, .. } => {
                prop_assert_eq!(expected, Some(rule.route));
                prop_assert_eq!(ranked.map(|rank| rank.5), Some(Reverse((position, *entry))));
            }
            Verdict::Lost { entry, to, .. } => {
                prop_assert_eq!(expected, Some(*to));
                prop_assert_ne!(*to, rule.route);
                prop_assert_eq!(ranked.map(|rank| rank.5), Some(Reverse((position, *entry))));
            }
            Verdict::NoMatch(_) => prop_assert_eq!(ranked, None),
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(Config { cases: 2500, failure_persistence: None, ..Config::default() })]

    #[test]
    fn the_index_decides_as_the_reference_does(
        routes in vec(route(), 0..10),
        requests in vec(request(), 1..12),
    ) {
        let router = Router::new(routes.iter().enumerate().map(|(position, route)| (number(position), route)));
        for request in &requests {
            agrees(&routes, &router, request)?;
        }
    }
}
