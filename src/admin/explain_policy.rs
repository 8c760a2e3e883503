//! Why a request may go to its service, or may not.

use serde::Serialize;

use crate::{
    auth::{By, Facts, Identity, Policy, PolicySet},
    config::{Config, DefaultPolicy},
};

/// What the policies of a service say of a request.
#[derive(Debug, Serialize)]
pub struct Allowed {
    /// `allowed` or `denied`.
    pub decision: &'static str,
    /// The policy and rule behind it, as in the access log; `default` where no policy is for the service.
    pub by: String,
    /// The policy and rule in dry-run mode that would deny it.
    pub would_deny: Option<String>,
    /// In words.
    pub because: String,
}

/// What `config` says of a request to `service`; none names one that is made on first use. Claims of tokens are unknown here: rules with
/// `claims` do not hold.
pub(super) fn allowed(config: &Config, listener: usize, service: Option<&str>, facts: &Facts<'_>) -> Allowed {
    let default = config.listeners[listener].default_policy;
    let of_service = config
        .policies
        .iter()
        .enumerate()
        .filter(|(_, policy)| policy.service.is_none() || policy.service.as_deref() == service);
    let policies = of_service.map(|(number, policy)| std::sync::Arc::new(Policy::new(number, policy)));
    let Some(policies) = PolicySet::new(policies) else {
        let allowed = default == DefaultPolicy::Allow;
        return answer(config, allowed, &By { policy: None, rule: None }, None);
    };
    let decision = policies.decide(facts, default);
    answer(config, decision.allowed, &decision.by, decision.would_deny.as_ref())
}

fn answer(config: &Config, allowed: bool, by: &By<'_>, would_deny: Option<&By<'_>>) -> Allowed {
    let because = match (by.policy, by.rule) {
        (None, _) => format!(
            "default_policy = \"{}\", no policy is for the service",
            if allowed { "allow" } else { "deny" }
        ),
        (Some(policy), None) => format!("no rule allows it; the first policy is policies[{}]", policy.number),
        (Some(policy), Some(_)) => {
            let rest = by.to_string();
            let rule = rest.rsplit('/').next().unwrap_or_default();
            format!("policies[{}].{rule}, mode {}", policy.number, mode(config, policy))
        }
    };
    let decision = if allowed { "allowed" } else { "denied" };
    Allowed { decision, by: by.to_string(), would_deny: would_deny.map(ToString::to_string), because }
}

fn mode(config: &Config, policy: &Policy) -> &'static str {
    match config.policies.get(policy.number) {
        Some(written) if written.dry_run => "dry-run",
        _ => "enforce",
    }
}

/// Who asks, where nobody is named.
pub(super) fn caller(named: Option<&str>) -> String {
    named.unwrap_or(Identity::UNKNOWN).to_owned()
}
