//! `[[policies]]`: whether a request may go to its service.
//!
//! # How it is decided
//! By all policies of the service together, in file order, those for every service (`*`) included. Any deny rule that holds denies,
//! whatever allows; else any allow rule that holds allows; else the request is denied. A service without a policy leaves it to the
//! listener (`default_policy`). Policies in dry-run mode have no say; what would be if they had one too is told apart.
//!
//! # When a rule holds
//! When all that it says does. What a caller can write in more than one way is judged so that the way makes no difference: the path by all
//! its readings (`readings.rs`), a header by all its values. A deny rule holds when any of them is meant, an allow rule only when all are.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method};
use serde_json::Value;

use super::{
    claims::claim_is,
    readings::{Readings, readings},
};
use crate::{
    config::{self, DefaultPolicy, Name, PathMatch, ValueMatch, is_like},
    router::{path_is, value_is},
};

/// What a policy looks at in a request.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Its caller's name.
    pub caller: &'a str,
    /// Its method.
    pub method: &'a Method,
    /// Its path, as it came, without query.
    pub path: &'a str,
    /// Its fields.
    pub headers: &'a HeaderMap,
    /// What its token says, which was verified.
    pub claims: Option<&'a Value>,
}

/// The policies of one service, in file order; at least one.
#[derive(Debug)]
pub struct PolicySet {
    policies: Box<[Arc<Policy>]>,
    has_enforced: bool,
    has_dry: bool,
    reads_paths: bool,
}

/// One policy.
#[derive(Debug)]
pub struct Policy {
    /// Its name.
    pub name: Name,
    /// Its position in the file.
    pub number: usize,
    dry_run: bool,
    allow: Box<[Rule]>,
    deny: Box<[Rule]>,
}

#[derive(Debug)]
struct Rule {
    callers: Box<[String]>,
    methods: Box<[String]>,
    path: Option<PathMatch>,
    headers: Box<[(HeaderName, ValueMatch)]>,
    claims: Box<[(String, String)]>,
}

/// Which of a policy's lists a rule is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `allow`.
    Allow,
    /// `deny`.
    Deny,
}

/// What a decision was made by.
#[derive(Clone, Copy, Debug)]
pub struct By<'p> {
    /// None: the listener's `default_policy`.
    pub policy: Option<&'p Policy>,
    /// None: that no rule allows it.
    pub rule: Option<(Side, usize)>,
}

/// What is decided about a request.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'p> {
    /// Whether it may pass.
    pub allowed: bool,
    /// Who says so.
    pub by: By<'p>,
    /// Who would deny it if policies in dry-run mode had a say. Only of one that is allowed.
    pub would_deny: Option<By<'p>>,
}

impl std::fmt::Display for By<'_> {
    /// As in the access log: `orders-from-checkout/deny[0]`, `orders-from-checkout`, or `default`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(policy) = self.policy else { return f.write_str("default") };
        f.write_str(&policy.name)?;
        match self.rule {
            Some((Side::Allow, index)) => write!(f, "/allow[{index}]"),
            Some((Side::Deny, index)) => write!(f, "/deny[{index}]"),
            None => Ok(()),
        }
    }
}

impl Policy {
    /// Of `policy`, the `number`th of the file.
    pub fn new(number: usize, policy: &config::Policy) -> Self {
        let rules = |rules: &[config::PolicyRule]| rules.iter().map(Rule::new).collect();
        Self {
            name: policy.name.clone(),
            number,
            dry_run: policy.dry_run,
            allow: rules(&policy.allow),
            deny: rules(&policy.deny),
        }
    }

    fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.deny.iter().chain(&self.allow)
    }
}

impl PolicySet {
    /// Of these; none where there is none.
    pub fn new(policies: impl IntoIterator<Item = Arc<Policy>>) -> Option<Self> {
        let policies: Box<[Arc<Policy>]> = policies.into_iter().collect();
        (!policies.is_empty()).then(|| Self {
            has_enforced: policies.iter().any(|policy| !policy.dry_run),
            has_dry: policies.iter().any(|policy| policy.dry_run),
            reads_paths: policies.iter().any(|policy| policy.rules().any(|rule| rule.path.is_some())),
            policies,
        })
    }

    /// Whether a request may pass.
    pub fn decide(&self, facts: &Facts<'_>, default: DefaultPolicy) -> Decision<'_> {
        let readings = if self.reads_paths { readings(facts.path) } else { Readings::One(facts.path) };
        let request = (facts, &readings);
        let enforced = if self.has_enforced { self.judge(request, false) } else { by_default(default) };
        let would_deny = (enforced.0 && self.has_dry)
            .then(|| self.judge(request, true))
            .filter(|(allowed, _)| !allowed)
            .map(|(_, by)| by);
        Decision { allowed: enforced.0, by: enforced.1, would_deny }
    }

    /// What the policies say; with `dry`, all of them. A denial for want of an allow rule is put down to the first policy that is asked,
    /// of those in dry-run mode if they are.
    fn judge(&self, request: (&Facts<'_>, &Readings<'_>), dry: bool) -> (bool, By<'_>) {
        let mut allowed = None;
        for policy in self.policies.iter().filter(|policy| dry || !policy.dry_run) {
            let by = |side, index| By { policy: Some(policy), rule: Some((side, index)) };
            if let Some(index) = policy.deny.iter().position(|rule| rule.holds(request, Side::Deny)) {
                return (false, by(Side::Deny, index));
            }
            if allowed.is_none() {
                let index = policy.allow.iter().position(|rule| rule.holds(request, Side::Allow));
                allowed = index.map(|index| by(Side::Allow, index));
            }
        }
        match allowed {
            Some(by) => (true, by),
            None => {
                let first = self.policies.iter().find(|policy| policy.dry_run == dry);
                (false, By { policy: first.map(|first| &**first), rule: None })
            }
        }
    }

    /// Whether any request of `caller` may pass, whatever it asks for.
    pub fn may_ever(&self, caller: &str, default: DefaultPolicy) -> bool {
        if !self.has_enforced {
            return default == DefaultPolicy::Allow;
        }
        let enforced = || self.policies.iter().filter(|policy| !policy.dry_run);
        let denied = |rule: &Rule| rule.is_unconditional() && rule.is_for(caller);
        enforced().any(|policy| policy.allow.iter().any(|rule| rule.is_for(caller)))
            && !enforced().any(|policy| policy.deny.iter().any(denied))
    }
}

/// What holds where no policy speaks.
fn by_default<'p>(default: DefaultPolicy) -> (bool, By<'p>) {
    (default == DefaultPolicy::Allow, By { policy: None, rule: None })
}

impl Rule {
    fn new(rule: &config::PolicyRule) -> Self {
        let header = |(name, value): &(String, ValueMatch)| {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a checked header name is a token");
            (name, value.clone())
        };
        Self {
            callers: rule.callers.clone().into(),
            methods: rule.matches.methods.clone().into(),
            path: rule.matches.path.clone(),
            headers: rule.matches.headers.iter().map(header).collect(),
            claims: rule.claims.clone().into(),
        }
    }

    fn is_for(&self, caller: &str) -> bool {
        self.callers.is_empty() || self.callers.iter().any(|like| is_like(caller, like))
    }

    fn is_unconditional(&self) -> bool {
        let lists = self.methods.is_empty() && self.headers.is_empty() && self.claims.is_empty();
        lists && self.path.is_none()
    }

    fn holds(&self, (facts, readings): (&Facts<'_>, &Readings<'_>), side: Side) -> bool {
        let claim = |(name, value): &(String, String)| {
            facts.claims.is_some_and(|claims| claim_is(claims, name, value))
        };
        let method = |method: &String| *method == facts.method.as_str();
        self.is_for(facts.caller)
            && (self.methods.is_empty() || self.methods.iter().any(method))
            && self.path.as_ref().is_none_or(|wanted| match side {
                Side::Deny => readings.any(|path| path_is(wanted, path)),
                Side::Allow => readings.all(|path| path_is(wanted, path)),
            })
            && self.headers.iter().all(|(name, wanted)| header_is(wanted, (name, facts.headers), side))
            && self.claims.iter().all(claim)
    }
}

/// Whether a header meets a condition. To allow, all its values must; to deny, one is enough, or one item of a list.
fn header_is(wanted: &ValueMatch, (name, headers): (&HeaderName, &HeaderMap), side: Side) -> bool {
    let mut values = headers.get_all(name).iter().map(|value| value.as_bytes()).peekable();
    if values.peek().is_none() {
        return value_is(wanted, None);
    }
    let is = |value: &[u8]| value_is(wanted, Some(value));
    match side {
        Side::Allow => values.all(is),
        Side::Deny => values
            .any(|value| is(value) || value.split(|byte| *byte == b',').any(|item| is(item.trim_ascii()))),
    }
}

#[cfg(test)]
mod tests;
