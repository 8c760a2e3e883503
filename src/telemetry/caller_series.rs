//! What callers that have a name, and policies, count with.

use std::{
    cell::RefCell,
    sync::{Arc, OnceLock},
};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::{
    family::Family,
    series::{Counter, Gauge},
};
use crate::config::Name;

/// Series of one caller that a worker keeps at hand. A caller of more services looks them up again now and then.
const AT_HAND: usize = 256;

/// The requests and connections of one caller, as one worker counts them.
pub struct CallerSeries {
    /// Its open connections.
    pub connections: Gauge,
    caller: Name,
    requests: Arc<Family>,
    by_outcome: RefCell<HashMap<(Box<str>, u16), Counter, RandomState>>,
}

/// Borrowed, finds what is kept by service and status. Both hash alike.
#[derive(Hash)]
struct Outcome<'a>(&'a str, u16);

impl hashbrown::Equivalent<(Box<str>, u16)> for Outcome<'_> {
    fn equivalent(&self, key: &(Box<str>, u16)) -> bool {
        self.1 == key.1 && *self.0 == *key.0
    }
}

impl CallerSeries {
    pub(super) fn new(caller: &Name, connections: Gauge, requests: Arc<Family>) -> Self {
        Self { connections, caller: caller.clone(), requests, by_outcome: RefCell::default() }
    }

    /// One more request to `service` that got this status.
    pub fn request(&self, service: &str, code: u16) {
        let mut known = self.by_outcome.borrow_mut();
        if let Some(counter) = known.get(&Outcome(service, code)) {
            return counter.inc();
        }
        let counter = self.requests.counter(&[&self.caller, service, itoa::Buffer::new().format(code)]);
        counter.inc();
        if known.len() >= AT_HAND {
            known.clear();
        }
        known.insert((service.into(), code), counter);
    }
}

/// The decisions of one policy.
pub struct PolicySeries {
    policy: Name,
    decisions: Arc<Family>,
    denied: OnceLock<Counter>,
    would_deny: OnceLock<Counter>,
}

impl PolicySeries {
    pub(super) fn new(policy: &Name, decisions: Arc<Family>) -> Self {
        let (denied, would_deny) = (OnceLock::new(), OnceLock::new());
        Self { policy: policy.clone(), decisions, denied, would_deny }
    }

    /// One more request that it denied.
    pub fn denied(&self) {
        self.denied.get_or_init(|| self.decisions.counter(&[&self.policy, "denied"])).inc();
    }

    /// One more request that it would have denied.
    pub fn would_deny(&self) {
        self.would_deny.get_or_init(|| self.decisions.counter(&[&self.policy, "would_deny"])).inc();
    }
}
