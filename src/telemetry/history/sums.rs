//! What has grown, brought together: by service, by call, by route.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::{Counts, From, Moment, Name, growth::Grown};
use crate::telemetry::declared::REQUEST_BUCKETS;

/// How many requests fell in each bucket of the durations.
pub(super) type Buckets = [u32; REQUEST_BUCKETS];

type Map<K, V> = HashMap<K, V, RandomState>;

/// One step.
#[derive(Default)]
pub(super) struct Sums {
    pub(super) services: Map<Name, Moment>,
    /// By route and service.
    pub(super) shares: Map<(Name, Name), Counts>,
    /// By service, then listener.
    arrived: Map<Name, Map<Name, Counts>>,
}

impl Sums {
    /// By listener, route, service and code.
    pub(super) fn requests(&mut self, grown: &[Grown<1>]) {
        for (labels, [more]) in grown {
            let [listener, route, service, code] = &**labels else { continue };
            let counts = counts(*more, code);
            let sum = self.services.entry(service.clone()).or_default();
            sum.counts = sum.counts.plus(counts);
            let arrived = self.arrived.entry(service.clone()).or_default();
            let arrived = arrived.entry(listener.clone()).or_default();
            *arrived = arrived.plus(counts);
            if !route.is_empty() {
                let share = self.shares.entry((route.clone(), service.clone())).or_default();
                *share = share.plus(counts);
            }
        }
    }

    /// By service and reason.
    pub(super) fn retries(&mut self, grown: &[Grown<1>]) {
        for (labels, [more]) in grown {
            self.services.entry(labels[0].clone()).or_default().retries += more;
        }
    }

    /// By route and service.
    pub(super) fn durations(&mut self, grown: &[Grown<REQUEST_BUCKETS>]) {
        for (labels, more) in grown {
            let [_, service] = &**labels else { continue };
            let buckets = &mut self.services.entry(service.clone()).or_default().buckets;
            for (bucket, more) in buckets.iter_mut().zip(more) {
                *bucket = bucket.saturating_add(u32::try_from(*more).unwrap_or(u32::MAX));
            }
        }
    }
}

fn counts(requests: u64, code: &str) -> Counts {
    // `other`, where codes did not fit, says nothing of failure.
    let failed = code.parse::<u16>().is_ok_and(|code| code >= 500);
    Counts { requests, failures: if failed { requests } else { 0 } }
}

/// Who called, step by step.
#[derive(Default)]
pub(super) struct Calls {
    /// By service, what callers were seen to do before their requests were: it is taken off the unknown ones' next.
    ahead: Map<Name, u64>,
}

impl Calls {
    /// `named`: by caller, service and code. What of a service's requests is none of those is of unknown callers.
    pub(super) fn step(&mut self, sums: &Sums, named: &[Grown<1>]) -> Map<(From, Name), Counts> {
        let mut calls = Map::default();
        let mut owned = Map::<&str, Counts>::default();
        for (labels, [more]) in named {
            let [caller, service, code] = &**labels else { continue };
            let counts = counts(*more, code);
            let call: &mut Counts = calls.entry((From::Named(caller.clone()), service.clone())).or_default();
            *call = call.plus(counts);
            let owned = owned.entry(service).or_default();
            *owned = owned.plus(counts);
        }
        let mut ahead = Map::default();
        for (service, arrived) in &sums.arrived {
            let owned = owned.remove(&**service).unwrap_or_default();
            let before = self.ahead.remove(service).unwrap_or_default();
            let all = arrived.values().copied().fold(Counts::default(), Counts::plus);
            let taken = owned.requests + before;
            if taken == 0 {
                calls.extend(
                    arrived.iter().map(|(listener, counts)| (unknown(Some(listener), service), *counts)),
                );
            } else if all.requests > taken {
                let listener = if arrived.len() == 1 { arrived.keys().next() } else { None };
                let requests = all.requests - taken;
                let failures = all.failures.saturating_sub(owned.failures).min(requests);
                calls.insert(unknown(listener, service), Counts { requests, failures });
            } else if taken > all.requests {
                ahead.insert(service.clone(), taken - all.requests);
            }
        }
        ahead.extend(owned.into_iter().map(|(service, owned)| (service.into(), owned.requests)));
        self.ahead = ahead;
        calls
    }
}

fn unknown(listener: Option<&Name>, service: &Name) -> (From, Name) {
    (From::Unknown(listener.cloned()), service.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::family::Labels;

    fn grown(labels: &[&str], more: u64) -> Grown<1> {
        let labels: Labels = labels.iter().map(|label| Name::from(*label)).collect();
        (labels, [more])
    }

    fn requests(series: &[([&str; 4], u64)]) -> Sums {
        let mut sums = Sums::default();
        sums.requests(&series.iter().map(|(labels, more)| grown(labels, *more)).collect::<Vec<_>>());
        sums
    }

    #[test]
    fn a_caller_that_is_counted_before_its_request_leaves_no_unknown_one_behind() {
        let mut calls = Calls::default();
        let named = |more| [grown(&["web", "a", "200"], more)];
        let of = |more| requests(&[(["l", "r", "a", "200"], more)]);
        for (seen, owned) in [(9, 10), (11, 10), (5, 5)] {
            let step = calls.step(&of(seen), &named(owned));
            assert!(step.keys().all(|(from, _)| matches!(from, From::Named(_))), "{step:?}");
        }
        let step = calls.step(&of(7), &named(4));
        assert_eq!(step[&unknown(Some(&"l".into()), &"a".into())].requests, 3);
    }

    #[test]
    fn unknown_callers_are_told_apart_by_listener_where_that_can_be_known() {
        let sums = || {
            requests(&[
                (["in", "r", "a", "200"], 4),
                (["out", "r", "a", "502"], 6),
                (["out", "", "", "404"], 1),
            ])
        };
        let step = Calls::default().step(&sums(), &[]);
        let of = |listener: Option<&str>, service: &str| {
            step.get(&unknown(listener.map(Name::from).as_ref(), &service.into())).copied()
        };
        assert_eq!(of(Some("in"), "a"), Some(Counts { requests: 4, failures: 0 }));
        assert_eq!(of(Some("out"), "a"), Some(Counts { requests: 6, failures: 6 }));
        assert_eq!(of(Some("out"), ""), Some(Counts { requests: 1, failures: 0 }));
        let step = Calls::default().step(&sums(), &[grown(&["web", "a", "502"], 1)]);
        assert_eq!(step[&unknown(None, &"a".into())], Counts { requests: 9, failures: 5 });
    }
}
