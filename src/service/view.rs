//! One worker's view of a service: where requests choose their endpoint.

use std::{cell::RefCell, sync::Arc};

use super::{
    endpoints::{Endpoint, EndpointSet, Known},
    shared::Service,
};
use crate::{
    balance::{RoundRobin, least_request},
    config::Balancer,
    published::{Current, Reader},
};

/// A service as one worker reads it.
pub struct ServiceView {
    /// What all workers share.
    pub service: Arc<Service>,
    endpoints: Reader<EndpointSet>,
    /// The turn, and the set that it was made for.
    turn: RefCell<Option<(Current<EndpointSet>, RoundRobin)>>,
}

/// What became of the wish for an endpoint.
pub enum Choice {
    /// This one.
    Picked(Picked),
    /// Discovery has not answered yet: [`Service::first_answer`].
    Waiting,
    /// There is none. Says why.
    Nothing(String),
}

/// An endpoint that carries one more attempt until this is dropped.
pub struct Picked {
    set: Current<EndpointSet>,
    index: usize,
}

impl std::ops::Deref for Picked {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.set.endpoints[self.index]
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.end();
    }
}

impl ServiceView {
    /// A view for the calling worker.
    pub fn new(service: Arc<Service>) -> Self {
        Self { endpoints: service.endpoints.reader(), service, turn: RefCell::new(None) }
    }

    /// Chooses an endpoint; one of `avoid` (numbers of targets) only if there is no other.
    pub fn pick(&self, avoid: &[u64], random: impl FnMut() -> u64) -> Choice {
        let set = self.endpoints.get();
        if set.endpoints.is_empty() {
            return self.nothing(&set.known);
        }
        match self.choose(&set, avoid, random) {
            Some(index) => {
                set.endpoints[index].begin();
                Choice::Picked(Picked { set, index })
            }
            None => Choice::Nothing(format!("no endpoint of {} can take a request", self.service.name)),
        }
    }

    fn choose(
        &self,
        set: &Current<EndpointSet>,
        avoid: &[u64],
        random: impl FnMut() -> u64,
    ) -> Option<usize> {
        // With nothing to avoid, and when everything is to be avoided, any endpoint will do.
        let all_avoided = || set.endpoints.iter().all(|endpoint| avoid.contains(&endpoint.target.id));
        let avoid = if avoid.is_empty() || all_avoided() { &[] } else { avoid };
        let usable = |index: usize| avoid.is_empty() || !avoid.contains(&set.endpoints[index].target.id);
        match &self.service.policy.balancer {
            Balancer::RoundRobin if avoid.is_empty() => self.in_turn(set, random, usable),
            // A further attempt takes no turn: with two endpoints, every request's first would go to the failed one.
            _ => least_request(&set.weights, random, |index| set.endpoints[index].load(), usable),
        }
    }

    fn in_turn(
        &self,
        set: &Current<EndpointSet>,
        mut random: impl FnMut() -> u64,
        usable: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut turn = self.turn.borrow_mut();
        let current = turn.as_ref().is_some_and(|(of, _)| Arc::ptr_eq(of, set) || same_endpoints(of, set));
        if !current {
            *turn = Some((set.clone(), RoundRobin::new(&set.weights, random())));
        }
        turn.as_mut().and_then(|(_, turn)| turn.pick(usable))
    }

    fn nothing(&self, known: &Known) -> Choice {
        let name = &self.service.name;
        match known {
            Known::Nothing => Choice::Waiting,
            Known::Current { .. } => Choice::Nothing(format!("{name} has no endpoints")),
            Known::Failing { message, .. } => Choice::Nothing(format!("{name} has no endpoints: {message}")),
        }
    }
}

/// A refreshed answer that changes nothing must not start the turn anew.
fn same_endpoints(a: &EndpointSet, b: &EndpointSet) -> bool {
    a.endpoints.len() == b.endpoints.len()
        && a.endpoints.iter().zip(&b.endpoints).all(|(a, b)| Arc::ptr_eq(a, b))
        && (0..a.endpoints.len()).all(|index| a.weights.weight(index) == b.weights.weight(index))
}
