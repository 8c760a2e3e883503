//! A service by SRV records (RFC 2782): its targets are names themselves, each resolved like any other.
//!
//! # Edge cases
//! - A target without an address is left out while others have some. One that has ever had addresses keeps the last
//!   good ones like any name, and then the service fails as if its records did: endpoints are told again only when they
//!   change, so that their age is that of the part that fails.
//! - The first endpoints are told once each target has said something, good or bad, so that the first to resolve does
//!   not take everything. When none has said anything for [`GRACE`], those that there are have to do.
//! - A weight is that of the target: its addresses share it. Weight 0 beside others gets a hundredth of weight 1.
//! - Two targets with the same address and port are one endpoint of both weights, in the lower priority.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    rc::{Rc, Weak},
    time::Duration,
};

use tokio::{task::AbortHandle, time::Instant};

use super::{
    Endpoint,
    answer::{Share, Target},
    members::{Kind, Member},
    names::{Heard, Listening, Names},
    standing::News,
    update::{Failure, FailureKind, Update},
};

/// What a weight of 1 counts: divisible among up to ten addresses, and by 100 for weight 0.
const UNIT: u32 = 25_200;

/// For the next target to say something, while there are endpoints that could be used. More than lookups that start
/// together take, and less than a client would notice.
const GRACE: Duration = Duration::from_millis(200);

/// Follows the SRV records of a name, and what they lead to, until dropped.
pub(in crate::discovery) struct SrvService {
    inner: Rc<Inner>,
    records: Listening,
}

struct Inner {
    host: String,
    names: Rc<Names>,
    on_update: RefCell<Box<dyn FnMut(Update)>>,
    state: RefCell<State>,
    /// Runs while the first endpoints wait for further targets.
    grace: RefCell<Option<AbortHandle>>,
}

#[derive(Default)]
struct State {
    /// As the records say.
    shares: Vec<(Target, Share)>,
    /// Why the records could not be had the last time.
    failure: Option<Failure>,
    /// By host.
    targets: BTreeMap<String, Followed>,
    /// What was told last.
    told: Option<Vec<Endpoint>>,
    /// The failure that was told beside them.
    told_failure: Option<Failure>,
    /// Hosts that were said to be left out.
    left_out: BTreeSet<String>,
    /// Since when a request waits, until anything was told.
    urgent: Option<Instant>,
    /// The first endpoints wait no longer.
    impatient: bool,
}

/// A target's host.
#[derive(Default)]
struct Followed {
    /// None only until the listening has begun.
    listening: Option<Listening>,
    /// None before it has said anything.
    heard: Option<Heard>,
}

impl SrvService {
    /// Tells `on_update` what becomes of the SRV records of `host`.
    pub(in crate::discovery) fn start(
        names: &Rc<Names>,
        host: &str,
        on_update: impl FnMut(Update) + 'static,
    ) -> Self {
        let inner = Rc::new(Inner {
            host: host.to_owned(),
            names: names.clone(),
            on_update: RefCell::new(Box::new(on_update)),
            state: RefCell::default(),
            grace: RefCell::default(),
        });
        let listener = Rc::downgrade(&inner);
        let records = names.listen(host, Kind::Targets, move |heard, news| {
            if let Some(inner) = listener.upgrade() {
                inner.records(heard, news);
            }
        });
        Self { inner, records }
    }

    /// A request waits for the first answer.
    pub(in crate::discovery) fn urgent(&self) {
        let mut state = self.inner.state.borrow_mut();
        let since = *state.urgent.get_or_insert_with(Instant::now);
        self.records.urgent(since);
        let targets = state.targets.values().filter_map(|target| target.listening.as_ref());
        targets.for_each(|listening| listening.urgent(since));
    }
}

impl Inner {
    fn records(self: &Rc<Self>, heard: &Heard, news: News) {
        let shares = heard.members.iter().filter_map(|(member, share)| match member {
            Member::Target(target) => Some((target.clone(), *share)),
            Member::Address(_) => None,
        });
        let shares: Vec<_> = shares.collect();
        let hosts: BTreeSet<String> = shares.iter().map(|(target, _)| target.host.clone()).collect();
        let (gone, new) = {
            let mut state = self.state.borrow_mut();
            (state.shares, state.failure) = (shares, heard.failure.clone());
            let old: Vec<String> = state.targets.keys().cloned().collect();
            let gone: Vec<Followed> = old
                .iter()
                .filter(|host| !hosts.contains(*host))
                .filter_map(|host| state.targets.remove(host))
                .collect();
            let new: Vec<String> =
                hosts.into_iter().filter(|host| !state.targets.contains_key(host)).collect();
            new.iter().for_each(|host| drop(state.targets.insert(host.clone(), Followed::default())));
            (gone, new)
        };
        drop(gone);
        new.into_iter().for_each(|host| self.follow(host));
        self.tell(Some(news));
        self.wait_a_little();
    }

    /// Listening may tell at once, so nothing is borrowed meanwhile.
    fn follow(self: &Rc<Self>, host: String) {
        let (listener, target): (Weak<Self>, String) = (Rc::downgrade(self), host.clone());
        let listening = self.names.listen(&host, Kind::Addresses, move |heard, _| {
            if let Some(inner) = listener.upgrade() {
                inner.target(&target, heard);
            }
        });
        let mut state = self.state.borrow_mut();
        if let Some(since) = state.urgent {
            listening.urgent(since);
        }
        if let Some(followed) = state.targets.get_mut(&host) {
            followed.listening = Some(listening);
        }
    }

    fn target(self: &Rc<Self>, host: &str, heard: &Heard) {
        let listening = {
            let mut state = self.state.borrow_mut();
            let Some(target) = state.targets.get_mut(host) else { return };
            target.heard = Some(heard.clone());
            target.listening.is_some()
        };
        // While a target is only being added, what is known of it waits for those that are added with it.
        if listening {
            self.tell(None);
            self.wait_a_little();
        }
    }

    /// Gives targets that have said nothing yet [`GRACE`] from now, if that is all that the first endpoints wait for.
    fn wait_a_little(self: &Rc<Self>) {
        if let Some(task) = self.grace.take() {
            task.abort();
        }
        if !self.state.borrow().holds_back() {
            return;
        }
        let inner = Rc::downgrade(self);
        let task = tokio::task::spawn_local(async move {
            tokio::time::sleep(GRACE).await;
            if let Some(inner) = inner.upgrade() {
                inner.state.borrow_mut().impatient = true;
                inner.tell(None);
            }
        });
        *self.grace.borrow_mut() = Some(task.abort_handle());
    }

    /// Tells what there is to tell, after `news` of the records or of a target (none).
    fn tell(&self, news: Option<News>) {
        let updates = {
            let mut state = self.state.borrow_mut();
            let updates = state.updates(&self.host, news);
            if !updates.is_empty() {
                state.urgent = None;
            }
            updates
        };
        for update in updates {
            (self.on_update.borrow_mut())(update);
        }
    }
}

impl State {
    fn updates(&mut self, host: &str, news: Option<News>) -> Vec<Update> {
        if self.shares.is_empty() {
            return self.without_records(news);
        }
        if self.told.is_none() && !self.impatient && self.awaits_targets() {
            return Vec::new();
        }
        self.name_left_out(host);
        let endpoints = combine(&self.shares, |host| self.addresses(host));
        if endpoints.is_empty() {
            let failure = self.no_address(host);
            return vec![if self.told.take().is_some() {
                Update::Expired(failure)
            } else {
                Update::Failed(failure)
            }];
        }
        self.told_now(endpoints, self.failing(host), news)
    }

    /// What to tell, when there are `endpoints` and perhaps a part that fails.
    fn told_now(
        &mut self,
        endpoints: Vec<Endpoint>,
        failure: Option<Failure>,
        news: Option<News>,
    ) -> Vec<Update> {
        let changed = self.told.as_ref() != Some(&endpoints);
        let other_failure = self.told_failure != failure;
        let confirmed = failure.is_none() && (other_failure || news == Some(News::Answered));
        let mut updates = Vec::new();
        if changed || confirmed {
            self.told = Some(endpoints.clone());
            updates.push(Update::Endpoints(endpoints));
        }
        if changed || other_failure || news.is_some() {
            updates.extend(failure.clone().map(Update::Failed));
        }
        self.told_failure = failure;
        updates
    }

    /// Why the records could not be had the last time, or else the addresses of a target that is used.
    fn failing(&self, host: &str) -> Option<Failure> {
        let of_target = || {
            let heard = self.targets.values().filter_map(|target| target.heard.as_ref());
            let used = heard.filter(|heard| !heard.members.is_empty());
            let failure = used.filter_map(|heard| heard.failure.as_ref()).next()?;
            let message = format!("{host}: of its SRV target {}", failure.message);
            Some(Failure { kind: failure.kind, message })
        };
        self.failure.clone().or_else(of_target)
    }

    /// Some target has said nothing yet.
    fn awaits_targets(&self) -> bool {
        self.targets.values().any(|target| target.heard.is_none())
    }

    /// Some other target has addresses that could be used meanwhile, and are not.
    fn holds_back(&self) -> bool {
        let has_some = |heard: &Heard| !heard.members.is_empty();
        self.told.is_none()
            && self.awaits_targets()
            && self.targets.values().any(|target| target.heard.as_ref().is_some_and(has_some))
    }

    fn without_records(&mut self, news: Option<News>) -> Vec<Update> {
        (self.told, self.told_failure, self.impatient) = (None, None, false);
        let failure = self.failure.clone();
        let update = if news == Some(News::Expired) { Update::Expired } else { Update::Failed };
        failure.map(update).into_iter().collect()
    }

    fn addresses(&self, host: &str) -> Vec<IpAddr> {
        let heard = self.targets.get(host).and_then(|target| target.heard.as_ref());
        let members = heard.into_iter().flat_map(|heard| heard.members.iter());
        members
            .filter_map(|(member, _)| match member {
                Member::Address(ip) => Some(*ip),
                Member::Target(_) => None,
            })
            .collect()
    }

    fn no_address(&self, host: &str) -> Failure {
        let heard = self.targets.values().filter_map(|target| target.heard.as_ref());
        let first = heard.filter_map(|heard| heard.failure.as_ref()).next();
        let (kind, why) =
            first.map_or((FailureKind::Other, ""), |failure| (failure.kind, failure.message.as_str()));
        let message = format!("{host}: no target of its SRV records has an address: {why}");
        Failure { kind, message }
    }

    fn name_left_out(&mut self, host: &str) {
        let mut left_out = BTreeSet::new();
        for (target, followed) in &self.targets {
            let Some(heard) = followed.heard.as_ref().filter(|heard| heard.members.is_empty()) else {
                continue;
            };
            if !self.left_out.contains(target) {
                let why = heard.failure.as_ref().map_or("", |failure| failure.message.as_str());
                tracing::warn!("{host}: the SRV target {target} has no address and is left out: {why}");
            }
            left_out.insert(target.clone());
        }
        self.left_out = left_out;
    }
}

/// The endpoints of `shares`, sorted and distinct.
fn combine(shares: &[(Target, Share)], addresses: impl Fn(&str) -> Vec<IpAddr>) -> Vec<Endpoint> {
    let mut endpoints: BTreeMap<SocketAddr, Endpoint> = BTreeMap::new();
    for (target, share) in shares {
        let ips = addresses(&target.host);
        let weight = weight(share.weight, ips.len());
        for ip in ips {
            let address = SocketAddr::new(ip, target.port);
            let endpoint = Endpoint { priority: share.priority, weight, ..Endpoint::plain(address) };
            endpoints.entry(address).and_modify(|known| merge(known, &endpoint)).or_insert(endpoint);
        }
    }
    let mut endpoints: Vec<Endpoint> = endpoints.into_values().collect();
    endpoints.sort_unstable();
    lower(&mut endpoints);
    endpoints
}

/// Of one of a target's addresses.
fn weight(weight: u16, addresses: usize) -> u32 {
    let whole = if weight == 0 { UNIT / 100 } else { UNIT * u32::from(weight) };
    (whole / u32::try_from(addresses.max(1)).unwrap_or(u32::MAX)).max(1)
}

fn merge(known: &mut Endpoint, other: &Endpoint) {
    match known.priority.cmp(&other.priority) {
        std::cmp::Ordering::Less => {}
        std::cmp::Ordering::Equal => known.weight = known.weight.saturating_add(other.weight),
        std::cmp::Ordering::Greater => *known = other.clone(),
    }
}

/// Divides the weights of each priority by what they have in common, so that equal ones become 1.
fn lower(endpoints: &mut [Endpoint]) {
    for group in endpoints.chunk_by_mut(|a, b| a.priority == b.priority) {
        let common = group.iter().fold(0, |common, endpoint| divisor(common, endpoint.weight)).max(1);
        group.iter_mut().for_each(|endpoint| endpoint.weight /= common);
    }
}

fn divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of SRV records `(priority, weight, host)`, each host with so many addresses as its name has letters.
    fn weights(records: &[(u16, u16, &str)]) -> Vec<(u16, u32)> {
        let shares: Vec<_> = records
            .iter()
            .map(|(priority, weight, host)| {
                let target = Target { host: (*host).to_owned(), port: 80 };
                (target, Share { priority: *priority, weight: *weight })
            })
            .collect();
        let addresses = |host: &str| {
            (0..host.len()).map(|n| IpAddr::from([10, 0, host.as_bytes()[0], n as u8])).collect()
        };
        combine(&shares, addresses).iter().map(|e| (e.priority, e.weight)).collect()
    }

    #[test]
    fn weights_are_those_of_the_records() {
        assert_eq!(weights(&[(1, 10, "a"), (1, 30, "b")]), [(1, 1), (1, 3)]);
        assert_eq!(weights(&[(1, 65_535, "a"), (1, 1, "b")]), [(1, 65_535), (1, 1)]);
        assert_eq!(weights(&[(1, 0, "a"), (1, 0, "b")]), [(1, 1), (1, 1)]);
    }

    #[test]
    fn weight_0_gets_a_hundredth_beside_others() {
        assert_eq!(weights(&[(1, 0, "a"), (1, 1, "b")]), [(1, 1), (1, 100)]);
    }

    #[test]
    fn the_addresses_of_a_target_share_its_weight() {
        assert_eq!(weights(&[(1, 4, "aaaa"), (1, 4, "b")]), [(1, 1), (1, 1), (1, 1), (1, 1), (1, 4)]);
    }

    #[test]
    fn each_priority_has_weights_of_its_own() {
        assert_eq!(weights(&[(2, 50, "a"), (1, 7, "b"), (2, 100, "c")]), [(1, 1), (2, 1), (2, 2)]);
    }

    #[test]
    fn an_address_of_two_targets_is_one_endpoint_in_the_lower_priority() {
        assert_eq!(weights(&[(1, 5, "a"), (1, 5, "a"), (1, 5, "b")]), [(1, 2), (1, 1)]);
        assert_eq!(weights(&[(2, 9, "a"), (1, 5, "a")]), [(1, 1)]);
    }
}
