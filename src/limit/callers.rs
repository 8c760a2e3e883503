//! How many connections and requests each caller has, over all workers.
//!
//! The table is locked when a connection opens or closes, and never for a request: a connection keeps its caller's count of requests at
//! hand. A caller is in it as long as it has a connection.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use crate::config::Name;

/// Whose connections are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CallerKey {
    /// Of `[[callers]]`, or by a certificate.
    Name(Name),
    /// Nothing else is known of it. Of IPv6, the network: a host has as many addresses in its own as it wants.
    Address(IpAddr),
    /// A user of this host, over a Unix socket.
    User(u32),
    /// Nothing at all is known of it.
    Nobody,
}

impl CallerKey {
    /// Of a caller at `address`.
    pub fn of_address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) if !address.is_loopback() => {
                Self::Address(IpAddr::V6((address.to_bits() >> 64 << 64).into()))
            }
            address => Self::Address(address),
        }
    }
}

impl fmt::Display for CallerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V6(network)) if !network.is_loopback() => write!(f, "{network}/64"),
            Self::Address(address) => address.fmt(f),
            Self::User(user) => write!(f, "uid {user}"),
            Self::Nobody => f.write_str("unknown"),
        }
    }
}

/// All callers.
#[derive(Default)]
pub struct Callers(Mutex<HashMap<CallerKey, Entry>>);

#[derive(Default)]
struct Entry {
    connections: usize,
    requests: Arc<AtomicUsize>,
}

/// What a caller has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerState {
    /// Who.
    pub key: CallerKey,
    /// Open.
    pub connections: usize,
    /// Running; counted only while `limits.requests_per_caller` is set.
    pub requests: usize,
}

impl Callers {
    /// Room for one more connection of the caller, if it has fewer than `max`.
    pub fn open(self: &Arc<Self>, key: CallerKey, max: usize) -> Option<CallerConnection> {
        let mut table = self.table();
        let entry = table.entry(key.clone()).or_default();
        if entry.connections >= max {
            return None;
        }
        entry.connections += 1;
        let requests = entry.requests.clone();
        Some(CallerConnection { callers: self.clone(), key, requests })
    }

    /// Those with the most connections.
    pub fn largest(&self, count: usize) -> Vec<CallerState> {
        let table = self.table();
        let mut all: Vec<_> = table.iter().map(|(key, entry)| (entry.connections, key, entry)).collect();
        all.sort_unstable_by_key(|(connections, ..)| std::cmp::Reverse(*connections));
        let state = |(connections, key, entry): &(usize, &CallerKey, &Entry)| CallerState {
            key: (*key).clone(),
            connections: *connections,
            requests: entry.requests.load(Relaxed),
        };
        all.iter().take(count).map(state).collect()
    }

    fn table(&self) -> MutexGuard<'_, HashMap<CallerKey, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection of a caller, until this is dropped.
pub struct CallerConnection {
    callers: Arc<Callers>,
    key: CallerKey,
    requests: Arc<AtomicUsize>,
}

impl CallerConnection {
    /// The same connection, now that it is known whose it is; none when that caller has `max` already.
    pub fn belongs_to(self, key: CallerKey, max: usize) -> Option<Self> {
        if self.key == key { Some(self) } else { self.callers.open(key, max) }
    }

    /// The same connection, of a caller that is called otherwise now. It is there already: no limit holds for it.
    pub fn moves_to(&mut self, key: CallerKey) {
        if self.key != key
            && let Some(moved) = self.callers.open(key, usize::MAX)
        {
            *self = moved;
        }
    }

    /// Whose it is.
    pub fn key(&self) -> &CallerKey {
        &self.key
    }

    /// Room for one more request of the caller, if fewer than `max` run.
    pub fn request(&self, max: usize) -> Option<CallerRequest> {
        let more = |running: usize| (running < max).then_some(running + 1);
        self.requests.fetch_update(Relaxed, Relaxed, more).ok().map(|_| CallerRequest(self.requests.clone()))
    }
}

impl Drop for CallerConnection {
    fn drop(&mut self) {
        let mut table = self.callers.table();
        if let Some(entry) = table.get_mut(&self.key) {
            entry.connections -= 1;
            if entry.connections == 0 {
                table.remove(&self.key);
            }
        }
    }
}

/// One request of a caller, until this is dropped.
pub struct CallerRequest(Arc<AtomicUsize>);

impl Drop for CallerRequest {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> CallerKey {
        CallerKey::of_address(text.parse().unwrap())
    }

    #[test]
    fn a_caller_has_no_more_connections_than_it_may_and_others_have_theirs() {
        let callers = Arc::new(Callers::default());
        let held: Vec<_> = (0..3).filter_map(|_| callers.open(address("10.0.0.1"), 2)).collect();
        assert_eq!(held.len(), 2);
        assert!(callers.open(address("10.0.0.2"), 2).is_some());
        drop(held);
        assert!(callers.open(address("10.0.0.1"), 1).is_some());
        assert_eq!(callers.largest(9), []);
    }

    #[test]
    fn one_who_says_who_it_is_counts_as_that_and_no_longer_by_its_address() {
        let callers = Arc::new(Callers::default());
        let name = || CallerKey::Name("checkout".into());
        let first = callers.open(address("::1"), 1).unwrap().belongs_to(name(), 1);
        assert!(first.is_some());
        let second = callers.open(address("::1"), 1).expect("the first has left its place by address");
        assert!(second.belongs_to(name(), 1).is_none());
        let state = CallerState { key: name(), connections: 1, requests: 0 };
        assert_eq!(callers.largest(9), [state]);
    }

    #[test]
    fn one_who_is_called_otherwise_takes_its_connection_along_whatever_the_limit() {
        let callers = Arc::new(Callers::default());
        let name = |name: &str| CallerKey::Name(name.into());
        let mut connection = callers.open(name("web"), 1).unwrap();
        let (running, _other) = (connection.request(1), callers.open(name("shop"), 1));
        connection.moves_to(name("shop"));
        assert_eq!(connection.key(), &name("shop"));
        assert!(callers.open(name("web"), 1).is_some() && callers.open(name("shop"), 2).is_none());
        drop(running);
        assert!(connection.request(1).is_some(), "what ran counted as the other's");
    }

    #[test]
    fn requests_are_counted_over_all_connections_of_a_caller() {
        let callers = Arc::new(Callers::default());
        let (one, two) = (callers.open(address("::1"), 9).unwrap(), callers.open(address("::1"), 9).unwrap());
        let running = (one.request(2), two.request(2));
        assert!(running.0.is_some() && running.1.is_some() && one.request(2).is_none());
        drop(running);
        assert!(two.request(1).is_some());
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_caller_and_those_of_ipv4_are_each_their_own() {
        assert_eq!(address("2001:db8::1"), address("2001:db8::2:1"));
        assert_eq!(address("2001:db8::1").to_string(), "2001:db8::/64");
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_ne!(address("10.0.0.1"), address("10.0.0.2"));
        assert_eq!(address("::ffff:10.0.0.1"), address("10.0.0.1"));
        assert_eq!(address("::1").to_string(), "::1");
    }
}
