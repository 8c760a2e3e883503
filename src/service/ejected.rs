//! Choosing an endpoint while some of the service's are ejected or unwell.
//!
//! # Probes
//! The first request after an endpoint's backoff goes to it, if a request may: one that was not sent before, and, with priorities,
//! if none of a lower number has a usable endpoint. Where a hash decides, it is the first request whose key belongs to the
//! endpoint.
//!
//! # Too few
//! With fewer usable endpoints than `panic_percent`, all are used alike, those whose health checks fail included. Without that, and without a usable one, requests fail.

use super::{
    clock,
    endpoints::EndpointSet,
    view::{Choice, Picked, Scope, ServiceView, Wish, by_hash},
    why::why,
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
            None => {
                let (ailment, message) = why(&self.service, &set);
                Choice::Unhealthy(ailment, message)
            }
        }
    }

    /// Which endpoints requests may go to.
    pub(super) fn scope(&self, set: &EndpointSet) -> Scope {
        let all = set.ward.unusable() == 0 || set.is_panicking(&self.service.policy);
        if all { Scope::All } else { Scope::Usable(set.ward.generation()) }
    }
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
