//! Rules that decide nothing, or something that nobody can have meant. Warnings only: what is written holds.

use std::collections::BTreeSet;

use crate::config::{
    BackendTarget, CallerRule, Config, DefaultPolicy, Name, PathMatch, Policy, PolicyRule, is_like,
};

/// Beyond this, rules are not compared with each other: each with each would take too long.
const MOST: usize = 2000;

/// What is odd about callers and policies, a line each, in file order.
pub fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    shadowed_callers(&config.callers, &mut warnings);
    let rules: usize = config.policies.iter().map(|policy| policy.allow.len() + policy.deny.len()).sum();
    for (number, policy) in config.policies.iter().enumerate() {
        unknown_callers(config, (number, policy), &mut warnings);
        if rules <= MOST {
            idle_rules(config, (number, policy), &mut warnings);
        }
        allows_nothing(config, (number, policy), &mut warnings);
    }
    way_around(config, &mut warnings);
    warnings
}

fn shadowed_callers(rules: &[CallerRule], warnings: &mut Vec<String>) {
    for (number, rule) in rules.iter().enumerate().take(MOST) {
        if let Some(earlier) = rules[..number].iter().position(|earlier| is_caller_within(rule, earlier)) {
            let (name, other) = (&rule.name, &rules[earlier].name);
            warnings.push(format!(
                "callers[{number}] ({name}): never reached, callers[{earlier}] ({other}) holds for all of it"
            ));
        }
    }
}

/// Whether `outer` holds wherever `inner` does.
fn is_caller_within(inner: &CallerRule, outer: &CallerRule) -> bool {
    let like = |inner: &Option<String>, outer: &Option<String>| {
        outer.as_ref().is_none_or(|outer| inner.as_ref().is_some_and(|inner| is_like(inner, outer)))
    };
    let address =
        outer.address.is_none_or(|outer| inner.address.is_some_and(|inner| outer.contains_all_of(&inner)));
    address
        && (outer.uid.is_none() || outer.uid == inner.uid)
        && like(&inner.cgroup, &outer.cgroup)
        && like(&inner.spiffe, &outer.spiffe)
}

/// Names that no caller can have.
fn unknown_callers(config: &Config, (number, policy): (usize, &Policy), warnings: &mut Vec<String>) {
    let certified = config
        .listeners
        .iter()
        .any(|listener| listener.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()));
    let mut told = BTreeSet::new();
    for pattern in policy.allow.iter().chain(&policy.deny).flat_map(|rule| &rule.callers) {
        let named = config.callers.iter().any(|caller| is_like(&caller.name, pattern));
        let is_unknown = is_like(super::Identity::UNKNOWN, pattern);
        // Of a certificate: a SPIFFE id, or a DNS name.
        let may_be_certified = pattern.contains(['.', '*']) || pattern.starts_with("spiffe://");
        if named || is_unknown || certified && may_be_certified || !told.insert(pattern) {
            continue;
        }
        let why = match may_be_certified {
            true => {
                "no [[callers]] entry has such a name, and no listener verifies certificates (tls.client_ca)"
            }
            false => "no [[callers]] entry has that name",
        };
        warnings.push(format!("policies[{number}] ({}): no caller is \"{pattern}\": {why}", policy.name));
    }
}

/// Rules that change nothing, because of others of the same service.
fn idle_rules(config: &Config, (number, policy): (usize, &Policy), warnings: &mut Vec<String>) {
    let beside = |other: &&std::sync::Arc<Policy>| {
        let meets = other.service.is_none() || other.service == policy.service;
        meets && (!other.dry_run || other.dry_run == policy.dry_run)
    };
    let denying = || {
        let others = config.policies.iter().filter(beside);
        others.flat_map(|other| other.deny.iter().map(move |rule| (&other.name, rule)))
    };
    let earlier = || {
        let others = config.policies[..number].iter().filter(beside);
        others.flat_map(|other| other.allow.iter().map(move |rule| (&other.name, rule)))
    };
    for (index, rule) in policy.allow.iter().enumerate() {
        let own = policy.allow[..index].iter().map(|rule| (&policy.name, rule));
        let key = format!("policies[{number}].allow[{index}] ({})", policy.name);
        if let Some((by, _)) = denying().find(|(_, deny)| is_within(rule, deny)) {
            warnings.push(format!("{key}: allows nothing, a deny rule of {by} denies all of it"));
        } else if let Some((by, _)) = earlier().chain(own).find(|(_, outer)| is_within(rule, outer)) {
            warnings.push(format!("{key}: changes nothing, an earlier rule of {by} allows all of it"));
        }
    }
    for (index, rule) in policy.deny.iter().enumerate() {
        if let Some(outer) = policy.deny[..index].iter().position(|outer| is_within(rule, outer)) {
            let key = format!("policies[{number}].deny[{index}] ({})", policy.name);
            warnings.push(format!("{key}: changes nothing, deny[{outer}] denies all of it"));
        }
    }
}

/// Services that nobody may call.
fn allows_nothing(config: &Config, (number, policy): (usize, &Policy), warnings: &mut Vec<String>) {
    // A policy in dry-run mode is judged beside those that are enforced.
    let beside = |other: &&std::sync::Arc<Policy>| {
        (!other.dry_run || policy.dry_run) && (other.service.is_none() || other.service == policy.service)
    };
    let allowed = config.policies.iter().filter(beside).any(|other| !other.allow.is_empty());
    let mut alike = config.policies.iter().filter(beside).filter(|other| other.dry_run == policy.dry_run);
    let is_first = alike.next().is_some_and(|first| first.name == policy.name);
    if allowed || !is_first {
        return;
    }
    let what = match (&policy.service, policy.dry_run) {
        (Some(service), false) => format!("every request to {service} is denied"),
        (Some(service), true) => format!("every request to {service} would be denied"),
        (None, false) => "every request to services without another policy is denied".to_owned(),
        (None, true) => "every request to services without another policy would be denied".to_owned(),
    };
    warnings
        .push(format!("policies[{number}] ({}): {what}: no policy has an allow rule for it", policy.name));
}

/// Whether `outer` holds wherever `inner` does.
fn is_within(inner: &PolicyRule, outer: &PolicyRule) -> bool {
    let callers = outer.callers.is_empty()
        || !inner.callers.is_empty()
            // A star of the inner pattern, taken as a character, only a star of the outer one can stand for.
            && inner.callers.iter().all(|inner| outer.callers.iter().any(|outer| is_like(inner, outer)))
        || outer.callers.iter().any(|outer| outer == "*");
    let (inner_match, outer_match) = (&inner.matches, &outer.matches);
    let methods = outer_match.methods.is_empty()
        || !inner_match.methods.is_empty()
            && inner_match.methods.iter().all(|method| outer_match.methods.contains(method));
    callers
        && methods
        && is_path_within(inner_match.path.as_ref(), outer_match.path.as_ref())
        && outer_match.headers.iter().all(|header| inner_match.headers.contains(header))
        && outer.claims.iter().all(|claim| inner.claims.contains(claim))
}

fn is_path_within(inner: Option<&PathMatch>, outer: Option<&PathMatch>) -> bool {
    match (inner, outer) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(PathMatch::Exact(path) | PathMatch::Prefix(path)), Some(outer @ PathMatch::Prefix(_))) => {
            crate::router::path_is(outer, path)
        }
        (Some(PathMatch::Exact(path)), Some(outer)) => crate::router::path_is(outer, path),
        (Some(inner), Some(outer)) => inner == outer,
    }
}

/// Services by host may have the endpoints of a service that has policies, and none of their own.
fn way_around(config: &Config, warnings: &mut Vec<String>) {
    let enforced = || config.policies.iter().filter(|policy| !policy.dry_run);
    let Some(named) = enforced().find(|policy| policy.service.is_some()) else { return };
    if enforced().any(|policy| policy.service.is_none()) {
        return;
    }
    let per_host = config.routes.iter().filter(|route| {
        route.backends.iter().any(|backend| matches!(backend.target, BackendTarget::PerHost(_)))
    });
    let open = |listener: &usize| config.listeners[*listener].default_policy == DefaultPolicy::Allow;
    for route in per_host.filter(|route| route.listeners.iter().any(open)) {
        let (route, policy): (&Name, &Name) = (&route.name, &named.name);
        warnings.push(format!(
            "routes.{route}: makes services by host, which no policy is for: who asks for the address of an endpoint gets \
             around {policy}; write a policy for service \"*\", host_services.suffixes, or default_policy = \"deny\""
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    const REST: &str = "[[listeners]]\nname = \"l\"\nkind = \"outgoing\"\nlisten = \"127.0.0.1:0\"\n\
                        [[routes]]\nname = \"r\"\nbackends = [{ service = \"s\" }]\n\
                        [services.s]\nendpoints = [\"10.0.0.1:80\"]\n[services.t]\nendpoints = [\"10.0.0.1:80\"]\n\
                        [[callers]]\nname = \"web\"\nuid = 1\n[[callers]]\nname = \"ops\"\nuid = 2\n";

    fn of(text: &str) -> Vec<String> {
        let config = config::parse(&format!("{REST}{text}"), Path::new("t.toml"));
        warnings(&config.unwrap_or_else(|problems| panic!("{problems}")))
    }

    fn policy(service: &str, rest: &str) -> String {
        format!(
            "[[policies]]\nname = \"p{}{}\"\nservice = \"{service}\"\n{rest}\n",
            rest.len(),
            service.replace('*', "all")
        )
    }

    #[track_caller]
    fn assert_only(text: &str, expected: &str) {
        let found = of(text);
        assert!(found.len() == 1 && found[0].contains(expected), "{expected}: {found:?}");
    }

    #[test]
    fn what_is_in_order_is_not_warned_of() {
        for rules in [
            r#"allow = [{ callers = ["web"] }, { callers = ["ops"], path_prefix = "/v1" }]
               deny = [{ callers = ["web"], path_prefix = "/admin" }]"#,
            r#"allow = [{ callers = ["*"], methods = ["GET"] }, { callers = ["unknown", "w*"], methods = ["PUT"] }]"#,
            r#"allow = [{ path_prefix = "/v1" }, { path_prefix = "/v10" }, { path_regex = "/v1.*" }]"#,
            r#"allow = [{ claims = { scope = "a" } }, { claims = { scope = "b" } }, { headers = { x = "1" } }]"#,
        ] {
            assert_eq!(of(&policy("s", rules)), Vec::<String>::new(), "{rules}");
        }
    }

    #[test]
    fn rules_that_change_nothing_are_named() {
        for (rules, expected) in [
            (
                r#"allow = [{ callers = ["web", "ops"] }, { callers = ["web"], methods = ["GET"] }]"#,
                "allow[1] ",
            ),
            (r#"allow = [{ callers = ["w*"] }, { callers = ["web"] }]"#, "changes nothing, an earlier rule"),
            (r#"allow = [{ path_prefix = "/v1" }, { path = "/v1/x" }]"#, "changes nothing, an earlier rule"),
            (
                r#"allow = [{ path_prefix = "/v1/x" }, {}]
                deny = [{ path_prefix = "/v1" }]"#,
                "a deny rule of",
            ),
            (
                r#"allow = [{}]
                deny = [{ path_prefix = "/v1" }, { path_prefix = "/v1/x", callers = ["web"] }]"#,
                "deny[0] denies all",
            ),
            (
                r#"allow = [{ callers = ["nobody"] }]"#,
                "no caller is \"nobody\": no [[callers]] entry has that name",
            ),
            (r#"allow = [{ callers = ["spiffe://prod/a"] }]"#, "no listener verifies certificates"),
            ("allow = []", "every request to s is denied"),
            (r#"deny = [{ path = "/x" }]"#, "every request to s is denied"),
            ("mode = \"dry-run\"\nallow = []", "every request to s would be denied"),
        ] {
            assert_only(&policy("s", rules), expected);
        }
        let two = policy("*", r#"allow = [{ callers = ["web"] }]"#)
            + &policy("s", r#"allow = [{ callers = ["web"], path = "/" }]"#);
        assert_only(&two, "policies[1].allow[0]");
        let other = policy("t", r#"allow = [{ callers = ["web"] }]"#)
            + &policy("s", r#"allow = [{ callers = ["web"], path = "/" }]"#);
        assert_eq!(of(&other), Vec::<String>::new(), "of another service");
    }

    #[test]
    fn callers_behind_wider_ones_are_never_reached() {
        let rule = |rest: &str| format!("[[callers]]\nname = \"x\"\n{rest}\n");
        assert_only(
            &rule("uid = 1\naddress = \"127.0.0.0/8\""),
            "callers[2] (x): never reached, callers[0] (web)",
        );
        let ranges = rule("address = \"10.0.0.0/8\"") + &rule("address = \"10.1.0.0/16\"");
        assert_only(&ranges, "callers[3] (x)");
        let apart =
            rule("address = \"10.1.0.0/16\"") + &rule("address = \"10.0.0.0/8\"") + &rule("cgroup = \"*\"");
        assert_eq!(of(&apart), Vec::<String>::new());
    }

    #[test]
    fn a_way_around_policies_by_host_is_named() {
        let route = "[[routes]]\nname = \"made\"\nhosts = [\"*.x\"]\nbackends = [{ dns = \"{host}\" }]\n";
        let policies = policy("s", r#"allow = [{ callers = ["web"] }]"#);
        assert_only(&format!("{route}{policies}"), "routes.made: makes services by host");
        let all = policy("*", r#"allow = [{ callers = ["ops"] }]"#);
        assert_eq!(of(&format!("{route}{policies}{all}")), Vec::<String>::new());
    }
}
