//! Health checks of a service: one schedule for each of its endpoints, on the control thread.
//!
//! # When a probe runs
//! The first at once, the second after a random part of the interval, so that endpoints that came together are not probed
//! together for ever, the others an interval after the one before began, give or take a tenth. Where a node's probes wait for
//! each other (`health/probe.rs`), intervals become longer.
//!
//! # What outlives a reload
//! Results and the moment of the next probe stay with the endpoint. Another probe or other thresholds are tried at once; the
//! endpoint is what it was until they say otherwise. Where checks begin, the endpoints that are used stay in use; where they end,
//! all are used.

use std::{
    collections::HashMap,
    rc::Rc,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until},
};

use super::{EndpointSet, Service, endpoints::Endpoint};
use crate::{
    config::{HealthCheck, Protocol},
    health::{self, Prober, Ward},
};

/// Checks the endpoints of `service` as its policy says, until it is dropped, handed over or retired. To be called on the control
/// thread, once its predecessor has handed over.
pub fn check(service: &Arc<Service>, prober: &Prober) {
    let Some(policy) = service.policy.health_check.clone() else {
        let set = service.endpoints();
        set.endpoints.iter().for_each(|endpoint| endpoint.end_checks(&set.ward));
        return;
    };
    let (stop, stopped) = oneshot::channel();
    let changed = service.checked_by(stop);
    let protocol = service.policy.protocol;
    let checker = Checker { service: Arc::downgrade(service), policy, protocol, prober: prober.clone() };
    tokio::task::spawn_local(Rc::new(checker).run(changed, stopped));
}

struct Checker {
    service: Weak<Service>,
    policy: HealthCheck,
    protocol: Protocol,
    prober: Prober,
}

/// The schedules that run, by the numbers of their endpoints' targets.
#[derive(Default)]
struct Schedules {
    tasks: JoinSet<()>,
    running: HashMap<u64, AbortHandle>,
}

impl Checker {
    async fn run(self: Rc<Self>, mut changed: watch::Receiver<()>, mut stopped: oneshot::Receiver<()>) {
        let mut schedules = Schedules::default();
        while let Some(set) = self.service.upgrade().map(|service| service.endpoints()) {
            schedules.follow(&self, &set);
            drop(set);
            tokio::select! {
                // It never gets anything: the other end is dropped.
                _ = &mut stopped => return,
                result = changed.changed() => if result.is_err() { return },
            }
        }
    }

    /// One endpoint's schedule.
    async fn check(self: Rc<Self>, endpoint: Arc<Endpoint>, ward: Arc<Ward>) {
        loop {
            if let Some(next) = endpoint.next_check() {
                sleep_until(next).await;
            }
            let place = self.prober.place().await;
            let begun = Instant::now();
            let target = &endpoint.target;
            let secure = target.secure.as_ref();
            let seen = health::probe(target.address, secure, &self.policy, self.protocol).await;
            drop(place);
            let Some(service) = self.service.upgrade() else { return };
            service.series.health_check(seen.result.as_str());
            let next = |first| next(begun, self.policy.interval, first, fastrand::f64());
            endpoint.check_result(&ward, seen, &self.policy, next);
        }
    }
}

impl Schedules {
    /// Begins those of endpoints that are new in the set, and ends those of endpoints that it lacks.
    fn follow(&mut self, checker: &Rc<Checker>, set: &EndpointSet) {
        let mut before = std::mem::take(&mut self.running);
        for endpoint in &set.endpoints {
            let id = endpoint.target.id;
            let running = before.remove(&id).unwrap_or_else(|| {
                endpoint.checked.begin(&checker.policy);
                self.tasks.spawn_local(checker.clone().check(endpoint.clone(), set.ward.clone()))
            });
            self.running.insert(id, running);
        }
        before.into_values().for_each(|gone| gone.abort());
        while self.tasks.try_join_next().is_some() {}
    }
}

/// When the probe is due that follows one that began at `begun`. `random` is uniform from 0 to 1.
fn next(begun: Instant, interval: Duration, first: bool, random: f64) -> Instant {
    let part = if first { random } else { 0.9 + random / 5.0 };
    begun + interval.mul_f64(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_come_an_interval_apart_give_or_take_a_tenth_and_the_second_any_time_before() {
        let (begun, interval) = (Instant::now(), Duration::from_secs(10));
        for (first, random, seconds) in
            [(true, 0.0, 0), (true, 1.0, 10), (false, 0.0, 9), (false, 0.5, 10), (false, 1.0, 11)]
        {
            let expected = begun + Duration::from_secs(seconds);
            assert!(next(begun, interval, first, random).duration_since(expected) < Duration::from_millis(1));
        }
    }
}
