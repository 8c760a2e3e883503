//! The index of hosts: from a request's host to the paths of every pattern that it meets, most specific first.

use std::{borrow::Cow, sync::Arc};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::{
    paths::Paths,
    rule::{Entry, Host, Rule, without_brackets},
};

/// The paths of each host pattern of a listener.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    exact: HashMap<Arc<str>, Paths, RandomState>,
    suffix: HashMap<Arc<str>, Paths, RandomState>,
    /// Bytes; 0 without suffixes. Longer parts of a host need no look-up, however many labels a caller sends.
    longest_suffix: usize,
    any: Option<Paths>,
}

impl Hosts {
    /// `patterns`: each pattern with the numbers of its entries, in file order.
    pub(super) fn new(
        patterns: HashMap<Host, Vec<u32>, RandomState>,
        entries: &[Entry],
        rules: &[Rule],
    ) -> Self {
        let mut hosts = Self::default();
        for (pattern, numbers) in patterns {
            let paths = Paths::new(numbers, entries, rules);
            match pattern {
                Host::Exact(name) => drop(hosts.exact.insert(name, paths)),
                Host::Suffix(suffix) => {
                    hosts.longest_suffix = hosts.longest_suffix.max(suffix.len());
                    hosts.suffix.insert(suffix, paths);
                }
                Host::Any => hosts.any = Some(paths),
            }
        }
        hosts.exact.shrink_to_fit();
        hosts.suffix.shrink_to_fit();
        hosts
    }

    /// The first answer that `find` gives for the patterns that a normal host meets, most specific first.
    pub(super) fn find<T>(&self, host: &str, find: impl Fn(&Paths) -> Option<T>) -> Option<T> {
        let exact = self.exact.get(host).and_then(&find);
        exact.or_else(|| self.find_suffix(host, &find)).or_else(|| self.any.as_ref().and_then(&find))
    }

    /// Label by label, the longest suffix first.
    fn find_suffix<T>(&self, host: &str, find: impl Fn(&Paths) -> Option<T>) -> Option<T> {
        if self.suffix.is_empty() {
            return None;
        }
        // At least one byte stands before the dot that stands before a suffix.
        let start = host.len().saturating_sub(self.longest_suffix + 1).max(1);
        let dots = memchr::memchr_iter(b'.', host.as_bytes().get(start..)?);
        dots.filter_map(|dot| self.suffix.get(&host[start + dot + 1..])).find_map(find)
    }
}

/// A host as patterns are written: lower case, without trailing dot or brackets. Copied only if it has upper case.
pub(super) fn normal(host: &str) -> Cow<'_, str> {
    let host = without_brackets(host.strip_suffix('.').unwrap_or(host));
    match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(host.to_ascii_lowercase()),
        false => Cow::Borrowed(host),
    }
}
