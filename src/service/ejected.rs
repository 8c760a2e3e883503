//! Choosing an endpoint while some of the service's are ejected.
//!
//! # Probes
//! The first request after an endpoint's backoff goes to it, if a request may: one that was not sent before, and, with priorities,
//! if none of a lower number has a usable endpoint. Where a hash decides, it is the first request whose key belongs to the
//! endpoint.
//!
//! # Too few
//! With fewer usable endpoints than `panic_percent`, all are used alike. Without that, and without a usable one, requests fail.

use std::time::Duration;

use super::{
    clock,
    endpoints::{EndpointSet, Health},
    view::{Choice, Picked, Scope, ServiceView, Wish, by_hash},
};
use crate::{health::Admission, published::Current};

impl ServiceView {
    #[cold]
    pub(super) fn pick_usable(
        &self,
        set: Current<EndpointSet>,
        wish: &Wish<'_>,
        random: &mut impl FnMut() -> u64,
    ) -> Choice {
        let scope = self.scope(&set);
        let probe = if scope == Scope::All { None } else { probe(&set, wish, clock::millis()) };
        if let Some((index, admission)) = probe {
            return Choice::Picked(Picked::new(set, index, admission));
        }
        match self.choose(&set, wish, scope, random) {
            Some(index) => Choice::Picked(Picked::within(set, index)),
            None => Choice::Unhealthy(self.why(&set)),
        }
    }

    /// Which endpoints requests may go to.
    pub(super) fn scope(&self, set: &EndpointSet) -> Scope {
        let all = set.ward.ejected() == 0 || set.is_panicking(&self.service.policy);
        if all { Scope::All } else { Scope::Usable(set.ward.generation()) }
    }

    /// Why no endpoint can be used, and when the next may be.
    fn why(&self, set: &EndpointSet) -> String {
        let (service, all) = (&self.service.name, set.endpoints.len());
        let failures = self.service.policy.ejection.consecutive_failures;
        let ejected: Vec<Health> = set
            .endpoints
            .iter()
            .map(|endpoint| endpoint.health())
            .filter(|health| *health != Health::Usable)
            .collect();
        let which = match ejected.len() {
            ejected if ejected == all => format!("all {all} endpoints of {service} are ejected"),
            ejected => format!("no endpoint of {service} can take a request, {ejected} of {all} are ejected"),
        };
        format!("{which} ({failures} failures in a row each); {}", next(&ejected))
    }
}

/// When one of them will be tried.
fn next(ejected: &[Health]) -> String {
    if ejected.contains(&Health::Probed) {
        return "one is being tried now".to_owned();
    }
    let wait = |health: &Health| if let Health::Ejected(wait) = health { *wait } else { Duration::ZERO };
    let wait = ejected.iter().map(wait).min().unwrap_or_default();
    format!("the next is tried in {:.1}s", wait.as_secs_f64())
}

/// An endpoint that this request is to try, and the right to do so.
fn probe(set: &EndpointSet, wish: &Wish<'_>, now: u64) -> Option<(usize, Admission)> {
    // What has failed once is not put at risk again, unless there is nothing else.
    if !wish.avoid.is_empty() && set.usable() > 0 {
        return None;
    }
    let gate = |index: usize| &set.endpoints[index].gate;
    if let Some(key) = wish.affinity {
        let index = by_hash(set, key, |index| gate(index).is_usable() || gate(index).is_due(now))?;
        return gate(index).try_probe(now).map(|admission| (index, admission));
    }
    let priority = |index: usize| set.found[index].priority;
    let in_use =
        || (0..set.endpoints.len()).find(|index| gate(*index).is_usable()).map_or(u16::MAX, priority);
    let wanted = |index: usize| {
        let fresh = !wish.avoid.contains(&set.endpoints[index].target.id);
        fresh && priority(index) <= in_use()
    };
    set.ward.probe(now, set.endpoints.iter().map(|endpoint| &endpoint.gate), wanted)
}
