//! The index of paths under one host pattern: from a request's path to the entries that may match, best first.

use std::cmp::Reverse;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::rule::{Entry, bare};
use crate::config::PathMatch;

/// Numbers of entries that differ in nothing but methods, headers, query and order; best first. Those behind an entry
/// without such conditions can never win and are left out.
type Candidates = Box<[u32]>;

/// The entries of one host pattern. Most have none but "any path", so the rest is kept apart.
#[derive(Debug)]
pub(super) struct Paths {
    any: Candidates,
    conditional: Option<Box<Conditional>>,
}

/// Entries with a path condition.
#[derive(Debug, Default)]
struct Conditional {
    exact: HashMap<Box<str>, Candidates, RandomState>,
    prefix: HashMap<Box<str>, Candidates, RandomState>,
    /// The distinct lengths of the prefixes, longest first: only these need a look-up.
    prefix_lengths: Box<[usize]>,
    regex: Candidates,
}

impl Paths {
    /// `numbers`: those of the pattern's entries.
    pub(super) fn new(mut numbers: Vec<u32>, entries: &[Entry]) -> Self {
        numbers.sort_unstable_by_key(|&number| Reverse(entries[number as usize].precedence(number)));
        let any = numbers.iter().copied().filter(|&number| entries[number as usize].path.is_none());
        let any = reachable(any, entries);
        numbers.retain(|&number| entries[number as usize].path.is_some());
        let conditional = (!numbers.is_empty()).then(|| Box::new(Conditional::new(&numbers, entries)));
        Self { any, conditional }
    }

    /// The best entry whose path condition holds and that `holds` accepts.
    pub(super) fn find(&self, path: &str, entries: &[Entry], holds: impl Fn(&Entry) -> bool) -> Option<u32> {
        let holds = |number: &u32| holds(&entries[*number as usize]);
        let conditional = self.conditional.as_deref().filter(|_| path.starts_with('/'));
        conditional
            .and_then(|conditional| conditional.find(path, entries, holds))
            .or_else(|| self.any.iter().copied().find(holds))
    }
}

impl Conditional {
    /// `numbers`: best first, all with a path condition.
    fn new(numbers: &[u32], entries: &[Entry]) -> Self {
        let mut exact: HashMap<&str, Vec<u32>, RandomState> = HashMap::default();
        let mut prefix: HashMap<&str, Vec<u32>, RandomState> = HashMap::default();
        let mut regex = Vec::new();
        for &number in numbers {
            match &entries[number as usize].path {
                Some(PathMatch::Exact(path)) => exact.entry(path).or_default().push(number),
                Some(PathMatch::Prefix(path)) => prefix.entry(bare(path)).or_default().push(number),
                Some(PathMatch::Regex(_)) => regex.push(number),
                None => {}
            }
        }
        let mut prefix_lengths: Vec<usize> = prefix.keys().map(|path| path.len()).collect();
        prefix_lengths.sort_unstable_by_key(|&length| Reverse(length));
        prefix_lengths.dedup();
        let frozen = |map: HashMap<&str, Vec<u32>, RandomState>| {
            map.into_iter().map(|(path, numbers)| (path.into(), reachable(numbers, entries))).collect()
        };
        Self {
            exact: frozen(exact),
            prefix: frozen(prefix),
            prefix_lengths: prefix_lengths.into(),
            regex: regex.into(),
        }
    }

    fn find(&self, path: &str, entries: &[Entry], holds: impl Fn(&u32) -> bool) -> Option<u32> {
        let exact = self.exact.get(path).and_then(|numbers| numbers.iter().find(|number| holds(number)));
        let prefixes = || self.prefixes(path).find_map(|numbers| numbers.iter().find(|number| holds(number)));
        let matches = |number: &&u32| entries[**number as usize].path_matches(path) && holds(number);
        exact.or_else(prefixes).or_else(|| self.regex.iter().find(matches)).copied()
    }

    /// The candidates of every prefix of the path, longest first. A look-up hashes at most as many bytes as the longest
    /// configured prefix has, so that a caller's endless path of slashes costs nothing.
    fn prefixes(&self, path: &str) -> impl Iterator<Item = &Candidates> {
        let boundary =
            |length: &usize| path.as_bytes().get(*length).map_or(path.len() == *length, |&byte| byte == b'/');
        let lengths = self.prefix_lengths.iter().copied().filter(boundary);
        lengths.filter_map(|length| self.prefix.get(&path[..length]))
    }
}

/// The entries up to the first one that matches whatever the request; best first.
fn reachable(numbers: impl IntoIterator<Item = u32>, entries: &[Entry]) -> Candidates {
    let mut reachable = Vec::new();
    for number in numbers {
        reachable.push(number);
        if entries[number as usize].conditions.is_none() {
            break;
        }
    }
    reachable.into()
}
