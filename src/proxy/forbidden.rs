//! Connections whose every request would be denied.

use std::collections::{BTreeSet, HashMap};

use super::{Caller, Worker};
use crate::{
    config::{DefaultPolicy, Name},
    snapshot::{Backend, Snapshot},
};

/// Finds them, after what callers may do has changed.
pub struct Forbidden<'w> {
    worker: &'w Worker,
    /// By listener and caller.
    known: HashMap<(Name, Name), bool>,
}

impl<'w> Forbidden<'w> {
    /// Among the connections of `worker`.
    pub fn new(worker: &'w Worker) -> Self {
        Self { worker, known: HashMap::new() }
    }

    /// Whether every request of `caller` would be denied, whatever it asks for. A node of the mesh speaks for others, each of whose
    /// requests is judged by itself.
    pub fn is(&mut self, caller: &Caller) -> bool {
        let view = self.worker.view();
        let snapshot = &view.snapshot;
        if snapshot.rules.deny_nothing() || caller.identity.is_node {
            return false;
        }
        let named = caller.named(self.worker, &snapshot.rules);
        let key = (caller.door.name.clone(), named.name.clone());
        *self
            .known
            .entry(key)
            .or_insert_with_key(|(listener, caller)| !may_anything(snapshot, listener, caller))
    }
}

/// Whether `caller` may call any service that a route of `listener` leads to. One that is not there any more drains by itself.
fn may_anything(snapshot: &Snapshot, listener: &Name, caller: &str) -> bool {
    let Some(number) = snapshot.listener(listener) else { return true };
    let rules = &snapshot.rules;
    let default = rules.default_of(listener);
    let of_listener = snapshot.routes.iter().filter(|route| route.rule.listeners.contains(&number));
    let services: BTreeSet<Option<usize>> = of_listener
        .flat_map(|route| &route.backends)
        .map(|backend| match backend {
            Backend::Service(index) => Some(*index),
            Backend::PerHost(_) => None,
        })
        .collect();
    services.is_empty()
        || services.into_iter().any(|service| {
            let policies = match service {
                Some(index) => rules.of_service(&snapshot.services[index].name),
                None => rules.of_host_services(),
            };
            policies.map_or(default == DefaultPolicy::Allow, |policies| policies.may_ever(caller, default))
        })
}
