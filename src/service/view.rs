//! One worker's view of a service: where requests choose their endpoint.
//!
//! # The order of scruples
//! What is asked for is dropped piece by piece until there is an endpoint: first that it is warm enough for this request (slow
//! start), then that it is of the address family that has not failed this request, then that it is not one of those that have.
//! That it is usable is never dropped, unless the service uses all endpoints for want of usable ones (`ejected.rs`).

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use super::{
    budgets::Tally,
    clock,
    endpoints::{Endpoint, EndpointSet, Known},
    layout::Layout,
    shared::Service,
};
use crate::{
    balance::{self, Group, RoundRobin, Shares, least_request, peak_ewma},
    config::Balancer,
    health::Admission,
    limit::Gate,
    published::{Current, Reader},
    telemetry::{self, AttemptOutcome},
};

/// A service as one worker reads it.
pub struct ServiceView {
    /// What all workers share.
    pub service: Arc<Service>,
    pub(super) endpoints: Reader<EndpointSet>,
    /// This worker's way to the places of its requests.
    pub gate: Rc<Gate>,
    /// What this worker remembers between requests.
    memory: RefCell<Option<Rc<Memory>>>,
    pub(super) tally: Tally,
}

/// What a worker remembers of a layout.
struct Memory {
    of: Arc<Layout>,
    /// By group.
    turns: Rc<RefCell<Vec<Option<RoundRobin>>>>,
    /// What `shares` are of.
    scope: Scope,
    shares: Shares,
}

/// Which endpoints a request may go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// All.
    All,
    /// Those that are usable, as they were when the service's health had this generation.
    Usable(u64),
}

/// What a request asks of its endpoint.
pub struct Wish<'a> {
    /// Not one of these targets, by their numbers, unless there is no other.
    pub avoid: &'a [u64],
    /// The hash of what decides the endpoint, if anything does.
    pub affinity: Option<u64>,
    /// To this address no connection could be made: rather one of the other family, if there is any.
    pub unreachable: Option<SocketAddr>,
}

impl Wish<'_> {
    fn other_family(&self, set: &EndpointSet, index: usize) -> bool {
        let address = set.endpoints[index].target.address;
        self.unreachable.is_none_or(|unreachable| unreachable.is_ipv4() != address.is_ipv4())
    }
}

/// What became of the wish for an endpoint.
pub enum Choice {
    /// This one.
    Picked(Picked),
    /// Discovery has not answered yet: [`Service::first_answer`].
    Waiting,
    /// There is none. Says why.
    Nothing(String),
    /// There are some, and none may be used. Says why, and until when.
    Unhealthy(Ailment, String),
}

/// Why endpoints may not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ailment {
    /// Requests to them fail: they are ejected.
    Ejected,
    /// Their health checks fail.
    Unwell,
}

/// An endpoint that carries one more attempt until this is dropped.
pub struct Picked {
    set: Current<EndpointSet>,
    index: usize,
    /// Of a probe until it is reported.
    admission: Cell<Admission>,
}

impl Picked {
    pub(super) fn new(set: Current<EndpointSet>, index: usize, admission: Admission) -> Self {
        set.endpoints[index].begin();
        if !set.layout.rings.is_empty() {
            set.running.fetch_add(1, Ordering::Relaxed);
        }
        Self { set, index, admission: Cell::new(admission) }
    }

    /// One that a scope has.
    pub(super) fn within(set: Current<EndpointSet>, index: usize) -> Self {
        let usable = set.endpoints[index].gate.is_usable();
        Self::new(set, index, if usable { Admission::Usable } else { Admission::Forced })
    }

    /// Counts an attempt that was made on it since `begun`, and has ended.
    pub fn report(&self, outcome: AttemptOutcome, begun: Instant) {
        let admission = self.admission.take();
        self.set.endpoints[self.index].report(&self.set, (outcome, admission), begun);
    }

    /// Counts that the attempt which was made on it since `begun` is being answered: the end is for [`Self::ended`]. Returns when
    /// that was.
    pub fn answered(&self, begun: Instant) -> Instant {
        let admission = self.admission.take();
        self.set.endpoints[self.index].answered(&self.set, admission, begun)
    }

    /// Counts how an answer ended whose attempt and whose head were at these `times`.
    pub fn ended(&self, outcome: AttemptOutcome, times: (Instant, Instant)) {
        self.set.endpoints[self.index].ended(&self.set, outcome, times);
    }
}

impl Picked {
    /// Whether the service has endpoints of the other address family.
    pub fn has_other_family(&self) -> bool {
        self.set.layout.both_families
    }
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
        if self.admission.get() != Admission::Usable {
            self.gate.release(&self.set.ward, self.admission.take(), clock::millis());
        }
        if !self.set.layout.rings.is_empty() {
            self.set.running.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl ServiceView {
    /// A view for the calling worker.
    pub fn new(service: Arc<Service>) -> Self {
        let gate = Gate::new(service.breaker.requests.clone(), telemetry::present_worker());
        Self {
            endpoints: service.endpoints.reader(),
            service,
            gate,
            memory: RefCell::new(None),
            tally: Tally::default(),
        }
    }

    /// Chooses an endpoint.
    pub fn pick(&self, wish: &Wish<'_>, mut random: impl FnMut() -> u64) -> Choice {
        let set = self.endpoints.get();
        if set.endpoints.is_empty() {
            return self.nothing(&set.known);
        }
        if set.ward.unusable() > 0 {
            return self.pick_usable(set, wish, &mut random);
        }
        match self.choose(&set, wish, Scope::All, &mut random) {
            Some(index) => Choice::Picked(Picked::new(set, index, Admission::Usable)),
            None => Choice::Nothing(format!("no endpoint of {} can take a request", self.service.name)),
        }
    }

    /// Whether the service has the endpoint of this target now.
    pub fn has(&self, target: u64) -> bool {
        self.endpoints.get().endpoints.iter().any(|endpoint| endpoint.target.id == target)
    }

    /// Chooses an endpoint of the same priority and of the address family that `picked` is not of.
    pub fn pick_other_family(&self, picked: &Picked, mut random: impl FnMut() -> u64) -> Option<Picked> {
        let set = self.endpoints.get();
        let avoid = [picked.target.id];
        let wish = Wish { avoid: &avoid, affinity: None, unreachable: Some(picked.target.address) };
        let scope = self.scope(&set);
        let priority = picked.set.found[picked.index].priority;
        let other = |index: usize| {
            let equal = set.found[index].priority == priority;
            equal && wish.other_family(&set, index) && scope.has(&set.endpoints[index])
        };
        let index = self.among(&set, &wish, scope, &mut random, other)?;
        Some(Picked::within(set, index))
    }

    pub(super) fn choose(
        &self,
        set: &EndpointSet,
        wish: &Wish<'_>,
        scope: Scope,
        random: &mut impl FnMut() -> u64,
    ) -> Option<usize> {
        let usable = |index: usize| scope.has(&set.endpoints[index]);
        if wish.avoid.is_empty() && !self.is_warming(set, wish) {
            return self.among(set, wish, scope, random, usable);
        }
        let fresh = |index: usize| !wish.avoid.contains(&set.endpoints[index].target.id) && usable(index);
        let scrupulous = self.scrupulous(set, wish, scope, random, fresh);
        scrupulous
            .or_else(|| self.among(set, wish, scope, random, fresh))
            .or_else(|| self.among(set, wish, scope, random, usable))
    }

    /// An endpoint that is warm enough and of the family that has not failed; then one of these two. It is of the first priority that has a
    /// `fresh` one: what is wished for is no reason to go to another.
    fn scrupulous(
        &self,
        set: &EndpointSet,
        wish: &Wish<'_>,
        scope: Scope,
        random: &mut impl FnMut() -> u64,
        fresh: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let priority = set.found[(0..set.found.len()).find(|index| fresh(*index))?].priority;
        let first = |index: usize| set.found[index].priority == priority && fresh(index);
        let (window, drawn) = (self.service.policy.slow_start, random());
        let warm = |index: usize| {
            balance::accept(set.endpoints[index].warmth(window), mix(drawn, index)) && first(index)
        };
        let other = |index: usize| wish.other_family(set, index) && first(index);
        let families = wish.unreachable.is_some() && set.layout.both_families;
        let warming = self.is_warming(set, wish);
        let both = (families && warming)
            .then(|| self.among(set, wish, scope, random, |index| warm(index) && other(index)));
        let picked = both.flatten();
        let picked =
            picked.or_else(|| families.then(|| self.among(set, wish, scope, random, other)).flatten());
        picked.or_else(|| warming.then(|| self.among(set, wish, scope, random, warm)).flatten())
    }

    /// Whether an endpoint may be too cold for this request. A key that has its endpoint stays there.
    fn is_warming(&self, set: &EndpointSet, wish: &Wish<'_>) -> bool {
        wish.affinity.is_none() && set.warming.is_some_and(|until| Instant::now() < until)
    }

    /// An endpoint of those that are usable.
    fn among(
        &self,
        set: &EndpointSet,
        wish: &Wish<'_>,
        scope: Scope,
        random: &mut impl FnMut() -> u64,
        usable: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let layout = &*set.layout;
        if let Some(key) = wish.affinity {
            return by_hash(set, key, usable);
        }
        if let Some(group) = layout.plan.only_group() {
            return self.of_group((set, group), wish, scope, random, &usable);
        }
        let load = |index: usize| set.endpoints[index].load();
        let memory = self.remember(set, scope);
        let drawn = random();
        let pick = |group: &Group| self.of_group((set, group), wish, scope, random, &usable);
        layout.plan.choose(&memory.shares, drawn, load, pick)
    }

    /// An endpoint of a group, by the service's balancer.
    fn of_group(
        &self,
        (set, group): (&EndpointSet, &Group),
        wish: &Wish<'_>,
        scope: Scope,
        random: &mut impl FnMut() -> u64,
        usable: &impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let usable = |member: usize| usable(group.endpoint(member));
        let endpoint = |member: usize| &set.endpoints[group.endpoint(member)];
        let member = match &self.service.policy.balancer {
            // A further attempt takes no turn: with two endpoints, every request's first would go to the failed one.
            Balancer::RoundRobin if wish.avoid.is_empty() => {
                let memory = self.remember(set, scope);
                let turn = &mut memory.turns.borrow_mut()[group.number];
                turn.get_or_insert_with(|| RoundRobin::new(&group.weights, random())).pick(usable)
            }
            Balancer::PeakEwma { decay } => {
                let now = clock::now();
                peak_ewma(
                    &group.weights,
                    random,
                    |member, each| endpoint(member).cost(now, *decay, each),
                    usable,
                )
            }
            Balancer::RoundRobin | Balancer::LeastRequest | Balancer::Hash(_) => {
                least_request(&group.weights, random, |member| endpoint(member).load(), usable)
            }
        };
        member.map(|member| group.endpoint(member))
    }

    /// What this worker remembers of the set's layout. A refreshed answer that changes nothing keeps the layout, and so the
    /// turn; a change of health changes the shares only.
    fn remember(&self, set: &EndpointSet, scope: Scope) -> Rc<Memory> {
        let mut memory = self.memory.borrow_mut();
        let known = memory.take().filter(|memory| Arc::ptr_eq(&memory.of, &set.layout));
        let current = match known {
            Some(known) if known.scope == scope => known,
            known => Rc::new(Memory::new(set, scope, known.map(|known| known.turns.clone()))),
        };
        memory.insert(current).clone()
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

impl Scope {
    /// Whether it has an endpoint.
    #[inline]
    fn has(self, endpoint: &Endpoint) -> bool {
        self == Self::All || endpoint.gate.is_usable()
    }
}

impl Memory {
    fn new(set: &EndpointSet, scope: Scope, turns: Option<Rc<RefCell<Vec<Option<RoundRobin>>>>>) -> Self {
        let plan = &set.layout.plan;
        let first = || Rc::new(RefCell::new(std::iter::repeat_with(|| None).take(plan.groups()).collect()));
        Self {
            of: set.layout.clone(),
            turns: turns.unwrap_or_else(first),
            scope,
            shares: plan.shares(|index| scope.has(&set.endpoints[index])),
        }
    }
}

/// The endpoint that a key belongs to, of the first priority that has a usable one.
pub(super) fn by_hash(set: &EndpointSet, key: u64, usable: impl Fn(usize) -> bool) -> Option<usize> {
    let running = u64::from(set.running.load(Ordering::Relaxed));
    set.layout.rings.iter().find_map(|tier| {
        let first = tier.members.start;
        let load = |member: usize| set.endpoints[first + member].load();
        let usable = |member: usize| usable(first + member);
        tier.ring.pick(key, running, load, &tier.weights, usable).map(|member| first + member)
    })
}

/// Another random number for each endpoint (the finalizer of splitmix64).
fn mix(random: u64, index: usize) -> u64 {
    let mut mixed = random ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
