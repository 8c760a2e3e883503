//! Policies, alone and together.

use std::path::Path;

use http::HeaderValue;
use proptest::prelude::*;
use serde_json::json;

use super::*;

const REST: &str = r#"
    [[listeners]]
    name = "out"
    kind = "outgoing"
    listen = "127.0.0.1:4140"
    [[routes]]
    name = "all"
    backends = [{ service = "orders" }]
    [services.orders]
    endpoints = ["127.0.0.1:80"]
"#;

/// The policies of `orders` in this text.
fn set(policies: &str) -> PolicySet {
    let config = config::parse(&format!("{REST}{policies}"), Path::new("t.toml"));
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    let built = config.policies.iter().enumerate();
    PolicySet::new(built.map(|(number, policy)| Arc::new(Policy::new(number, policy)))).unwrap()
}

fn policy(name: &str, rest: &str) -> String {
    format!("[[policies]]\nname = \"{name}\"\nservice = \"orders\"\n{rest}\n")
}

/// Who decides about a request, and who would.
fn decide(set: &PolicySet, (caller, method, path): (&str, &str, &str), fields: &[(&str, &str)]) -> String {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let claims = json!({ "scope": "orders users" });
    let facts = Facts { caller, method: &method, path, headers: &headers, claims: Some(&claims) };
    let decision = set.decide(&facts, DefaultPolicy::Allow);
    let would = decision.would_deny.map(|by| format!(", but {by}")).unwrap_or_default();
    let allowed = if decision.allowed { "yes" } else { "no" };
    format!("{allowed}: {}{would}", decision.by)
}

#[test]
fn what_no_rule_allows_is_denied_and_what_a_rule_denies_as_well() {
    let set = set(&(policy(
        "a",
        r#"allow = [{ callers = ["checkout"], methods = ["GET", "POST"], path_prefix = "/v1" }]"#,
    ) + &policy(
        "b",
        r#"allow = [{ callers = ["ops-*"] }]
                          deny = [{ path_prefix = "/v1/internal" }, { headers = { x-debug = "1" } }]"#,
    )));
    for (request, fields, expected) in [
        (("checkout", "GET", "/v1/x"), &[][..], "yes: a/allow[0]"),
        (("checkout", "PUT", "/v1/x"), &[], "no: a"),
        (("checkout", "GET", "/v2"), &[], "no: a"),
        (("unknown", "GET", "/v1"), &[], "no: a"),
        (("ops-7", "DELETE", "/v2"), &[], "yes: b/allow[0]"),
        (("ops-7", "GET", "/v1/internal/x"), &[], "no: b/deny[0]"),
        (("checkout", "GET", "/v1/internal"), &[], "no: b/deny[0]"),
        (("checkout", "GET", "/v1"), &[("x-debug", "1")], "no: b/deny[1]"),
        (("checkout", "GET", "/v1"), &[("x-debug", "0")], "yes: a/allow[0]"),
    ] {
        assert_eq!(decide(&set, request, fields), expected, "{request:?} {fields:?}");
    }
}

#[test]
fn no_spelling_of_a_path_gets_around_a_rule() {
    let set = set(&policy(
        "a",
        r#"allow = [{ callers = ["web"], path_prefix = "/v1" }, { callers = ["ops"] }]
           deny = [{ path_prefix = "/admin" }]"#,
    ));
    for path in [
        "/v1/../admin",
        "/v1/%2e%2e/admin",
        "/v1/..%2fadmin",
        "/v1/..;/admin",
        "/%61dmin",
        "/%2561dmin",
        "//admin",
        "/admin;x",
        "/v1\\..\\admin",
        "/./admin",
        "/admin%00",
    ] {
        for caller in ["web", "ops"] {
            assert_eq!(decide(&set, (caller, "GET", path), &[]), "no: a/deny[0]", "{caller} {path}");
        }
    }
    for path in ["/v1/../v2", "/v2/../v1", "/%76%31"] {
        assert_eq!(decide(&set, ("web", "GET", path), &[]), "no: a", "{path}");
    }
    for path in ["/v1/a%20b", "/v1/./a", "/v1//a", "/v1/a;b=c", "/v1/a/../b"] {
        assert_eq!(decide(&set, ("web", "GET", path), &[]), "yes: a/allow[0]", "{path}");
    }
    assert_eq!(decide(&set, ("ops", "GET", "/a;b/%2561"), &[]), "yes: a/allow[1]");
}

#[test]
fn any_value_of_a_header_may_deny_and_all_must_allow() {
    let set = set(&policy(
        "a",
        r#"allow = [{ headers = { x-tier = "gold" } }]
           deny = [{ headers = { x-role = "guest" } }]"#,
    ));
    for (fields, expected) in [
        (&[("x-tier", "gold")][..], "yes: a/allow[0]"),
        (&[("x-tier", "gold"), ("x-tier", "gold")], "yes: a/allow[0]"),
        (&[("x-tier", "gold"), ("x-tier", "lead")], "no: a"),
        (&[("x-tier", "gold, lead")], "no: a"),
        (&[("x-tier", "gold"), ("x-role", "user"), ("x-role", "guest")], "no: a/deny[0]"),
        (&[("x-tier", "gold"), ("x-role", "user,guest")], "no: a/deny[0]"),
        (&[("x-tier", "gold"), ("x-role", "guests")], "yes: a/allow[0]"),
    ] {
        assert_eq!(decide(&set, ("any", "GET", "/"), fields), expected, "{fields:?}");
    }
}

#[test]
fn claims_count_like_any_condition() {
    let set = set(&policy(
        "a",
        r#"allow = [{ claims = { scope = "orders" } }]
           deny = [{ path = "/x", claims = { scope = "users" } }, { claims = { scope = "guests" } }]"#,
    ));
    assert_eq!(decide(&set, ("any", "GET", "/"), &[]), "yes: a/allow[0]");
    assert_eq!(decide(&set, ("any", "GET", "/x"), &[]), "no: a/deny[0]");
    let facts =
        Facts { caller: "any", method: &Method::GET, path: "/x", headers: &HeaderMap::new(), claims: None };
    let without = set.decide(&facts, DefaultPolicy::Allow);
    assert!(!without.allowed && without.by.rule.is_none(), "without a token there are no claims");
}

#[test]
fn a_dry_run_only_tells_what_it_would_deny() {
    let dry =
        policy("dry", "mode = \"dry-run\"\nallow = [{ callers = [\"web\"] }]\ndeny = [{ path = \"/x\" }]");
    let alone = set(&dry);
    assert_eq!(decide(&alone, ("web", "GET", "/"), &[]), "yes: default");
    assert_eq!(decide(&alone, ("other", "GET", "/"), &[]), "yes: default, but dry");
    assert_eq!(decide(&alone, ("web", "GET", "/x"), &[]), "yes: default, but dry/deny[0]");
    let beside = set(&(policy("real", "allow = [{ callers = [\"ops\"] }]") + &dry));
    assert_eq!(decide(&beside, ("ops", "GET", "/"), &[]), "yes: real/allow[0]");
    assert_eq!(decide(&beside, ("ops", "GET", "/x"), &[]), "yes: real/allow[0], but dry/deny[0]");
    assert_eq!(decide(&beside, ("web", "GET", "/"), &[]), "no: real");
}

#[test]
fn whether_a_caller_may_ever_is_judged_by_it_alone() {
    let set = set(&policy(
        "a",
        r#"allow = [{ callers = ["web", "old", "part"], path_prefix = "/v1" }]
           deny = [{ callers = ["old"] }, { callers = ["part"], path = "/x" }]"#,
    ));
    for (caller, expected) in [("web", true), ("old", false), ("part", true), ("unknown", false)] {
        assert_eq!(set.may_ever(caller, DefaultPolicy::Allow), expected, "{caller}");
    }
    let dry = super::tests::set(&policy("d", "mode = \"dry-run\"\nallow = []"));
    assert!(dry.may_ever("web", DefaultPolicy::Allow) && !dry.may_ever("web", DefaultPolicy::Deny));
}

fn rule() -> impl Strategy<Value = Rule> {
    let some = |values: &'static [&'static str]| {
        prop::collection::vec(prop::sample::select(values), 0..2)
            .prop_map(|chosen| chosen.into_iter().map(str::to_owned).collect::<Box<[String]>>())
    };
    let path = prop::option::of(prop::sample::select(vec!["/", "/v1", "/admin", "/v1/x"]));
    let header = prop::option::of(prop::sample::select(vec!["1", "2"]));
    (some(&["web", "ops", "w*"]), some(&["GET", "PUT"]), path, header).prop_map(
        |(callers, methods, path, header)| Rule {
            callers,
            methods,
            path: path.map(|path| PathMatch::Prefix(path.to_owned())),
            headers: header
                .map(|value| (HeaderName::from_static("x"), ValueMatch::Exact(value.to_owned())))
                .into_iter()
                .collect(),
            claims: Box::default(),
        },
    )
}

fn some_policy() -> impl Strategy<Value = (bool, Vec<Rule>, Vec<Rule>)> {
    (any::<bool>(), prop::collection::vec(rule(), 0..3), prop::collection::vec(rule(), 0..3))
}

fn build(policies: &[(bool, Vec<Rule>, Vec<Rule>)]) -> Option<PolicySet> {
    let policy = |(number, (dry_run, allow, deny)): (usize, &(bool, Vec<Rule>, Vec<Rule>))| {
        let copy = |rules: &[Rule]| rules.iter().map(Rule::copy).collect();
        Arc::new(Policy { name: "p".into(), number, dry_run: *dry_run, allow: copy(allow), deny: copy(deny) })
    };
    PolicySet::new(policies.iter().enumerate().map(policy))
}

impl Rule {
    fn copy(&self) -> Self {
        Self {
            callers: self.callers.clone(),
            methods: self.methods.clone(),
            path: self.path.clone(),
            headers: self.headers.clone(),
            claims: self.claims.clone(),
        }
    }
}

/// Allowed, and whether somebody would deny it.
fn outcome(set: Option<&PolicySet>, (caller, method, path): (&str, &Method, &str), x: &[u8]) -> (bool, bool) {
    let mut headers = HeaderMap::new();
    for x in x {
        headers.append("x", HeaderValue::from(u16::from(*x)));
    }
    let facts = Facts { caller, method, path, headers: &headers, claims: None };
    let Some(set) = set else { return (true, false) };
    let decision = set.decide(&facts, DefaultPolicy::Allow);
    assert!(decision.allowed || !set.has_enforced || decision.by.policy.is_some());
    if decision.allowed {
        assert!(set.may_ever(caller, DefaultPolicy::Allow), "what is allowed now may ever be");
    }
    (decision.allowed, decision.would_deny.is_some())
}

proptest! {
    #[test]
    fn policies_add_up_as_they_say(
        policies in prop::collection::vec(some_policy(), 0..4),
        more in rule(),
        caller in prop::sample::select(vec!["web", "ops", "unknown"]),
        method in prop::sample::select(vec![Method::GET, Method::PUT]),
        path in prop::sample::select(vec!["/", "/v1", "/v1/x", "/admin", "/v1/../admin", "/%61dmin", "/v1;x", "//v1"]),
        x in prop::collection::vec(1u8..3, 0..3),
    ) {
        let request = (caller, &method, path);
        let of = |policies: &[_]| outcome(build(policies).as_ref(), request, &x);
        let (allowed, _) = of(&policies);
        let without = |dry: bool| policies.iter().filter(|policy| policy.0 != dry)
            .map(|(dry, allow, deny)| (*dry, allow.iter().map(Rule::copy).collect(), deny.iter().map(Rule::copy).collect()))
            .collect::<Vec<_>>();
        // Dry-run policies change nothing, and what they would change is what they change when enforced.
        prop_assert_eq!(allowed, of(&without(true)).0);
        let mut enforced = policies;
        let would = outcome(build(&enforced).as_ref(), request, &x).1;
        enforced.iter_mut().for_each(|policy| policy.0 = false);
        let all = of(&enforced).0;
        prop_assert_eq!(would, allowed && !all);
        if !enforced.is_empty() {
            // More allow rules never deny more.
            enforced[0].1.push(more.copy());
            prop_assert!(of(&enforced).0 || !all);
            // More deny rules never allow more, and one for everything denies everything.
            enforced[0].1.pop();
            enforced[0].2.push(more);
            prop_assert!(all || !of(&enforced).0);
            let everything = Rule {
                callers: Box::default(), methods: Box::default(), path: None, headers: Box::default(), claims: Box::default(),
            };
            enforced.last_mut().unwrap().2.push(everything);
            prop_assert!(!of(&enforced).0);
        }
    }
}
