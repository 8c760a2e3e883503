//! Callers and policies, as connections and requests go by them.
//!
//! They stay the same object over reloads that do not change them: whoever has looked need not look again.

use std::{collections::HashMap, sync::Arc};

use super::Snapshot;
use crate::{
    auth::{By, Policy, PolicySet},
    config::{self, CallerRule, Config, DefaultPolicy, Name},
    net::Cgroups,
    telemetry::{Metrics, PolicySeries},
};

/// Who callers are, and what they may do.
pub struct Rules {
    /// In file order.
    pub callers: Vec<CallerRule>,
    /// The control groups of this host.
    pub cgroups: Arc<Cgroups>,
    /// Of the services that policies name, those for every service included.
    by_service: HashMap<Name, Arc<PolicySet>>,
    /// Of every other service, those made on first use included.
    of_others: Option<Arc<PolicySet>>,
    /// Listeners that deny where no policy speaks.
    denying: Vec<Name>,
    /// As written, in file order, and what they count with.
    written: Vec<Arc<config::Policy>>,
    series: Vec<PolicySeries>,
    of_default: PolicySeries,
}

impl Rules {
    /// Those of `config`; the previous ones where they mean the same.
    pub(super) fn build(config: &Config, previous: Option<&Snapshot>, metrics: &Metrics) -> Arc<Self> {
        let denying = denying(config);
        let cgroups = previous.map_or_else(Arc::default, |previous| previous.rules.cgroups.clone());
        if let Some(previous) = previous.map(|previous| &previous.rules)
            && previous.callers == config.callers
            && previous.written == config.policies
            && previous.denying == denying
        {
            return previous.clone();
        }
        if config.callers.iter().any(|rule| rule.cgroup.is_some()) {
            // Here it may take its time; connections that are open already are asked about by their requests.
            cgroups.look();
        }
        let policies: Vec<Arc<Policy>> = config
            .policies
            .iter()
            .enumerate()
            .map(|(at, policy)| Arc::new(Policy::new(at, policy)))
            .collect();
        let of = |service: Option<&Name>| {
            let chosen = config
                .policies
                .iter()
                .zip(&policies)
                .filter(|(written, _)| written.service.is_none() || written.service.as_ref() == service);
            PolicySet::new(chosen.map(|(_, policy)| policy.clone())).map(Arc::new)
        };
        let named = config.policies.iter().filter_map(|policy| policy.service.as_ref());
        Arc::new(Self {
            callers: config.callers.clone(),
            cgroups,
            by_service: named.filter_map(|name| Some((name.clone(), of(Some(name))?))).collect(),
            of_others: of(None),
            denying,
            series: policies.iter().map(|policy| metrics.policy_series(&policy.name)).collect(),
            of_default: metrics.policy_series(&Name::from("default")),
            written: config.policies.clone(),
        })
    }

    /// The policies of a configured service.
    pub fn of_service(&self, name: &str) -> Option<&Arc<PolicySet>> {
        self.by_service.get(name).or(self.of_others.as_ref())
    }

    /// The policies of services that are made on first use.
    pub fn of_host_services(&self) -> Option<&Arc<PolicySet>> {
        self.of_others.as_ref()
    }

    /// What holds for requests through `listener` where no policy speaks.
    pub fn default_of(&self, listener: &str) -> DefaultPolicy {
        match self.denying.iter().any(|name| **name == *listener) {
            true => DefaultPolicy::Deny,
            false => DefaultPolicy::Allow,
        }
    }

    /// Whether any policy or default denies anything at all.
    pub fn deny_nothing(&self) -> bool {
        self.written.is_empty() && self.denying.is_empty()
    }

    /// What the policy behind a decision counts with.
    pub fn series(&self, by: &By<'_>) -> &PolicySeries {
        by.policy.and_then(|policy| self.series.get(policy.number)).unwrap_or(&self.of_default)
    }
}

fn denying(config: &Config) -> Vec<Name> {
    let denies = |listener: &&config::Listener| listener.default_policy == DefaultPolicy::Deny;
    config.listeners.iter().filter(denies).map(|listener| listener.name.clone()).collect()
}
