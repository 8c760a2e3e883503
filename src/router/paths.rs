//! The index of paths under one host pattern: from a request's path to the entries that may match, best first.

use std::cmp::Reverse;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::rule::{Entry, Rule, bare};
use crate::config::PathMatch;

/// An entry that may match, with what decides most requests: with very many rules, each further look costs a miss in every
/// cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// The entry's number.
    pub(super) entry: u32,
    /// The caller's number of its rule.
    pub(super) route: u32,
    /// It has conditions beyond host and path.
    conditional: bool,
}

/// Entries that differ in nothing but methods, headers, query and order; best first. Those behind an entry without such
/// conditions can never win and are left out.
#[derive(Debug)]
enum Candidates {
    One([Candidate; 1]),
    Many(Box<[Candidate]>),
}

impl Candidates {
    fn iter(&self) -> impl Iterator<Item = &Candidate> {
        match self {
            Self::One(one) => one.iter(),
            Self::Many(many) => many.iter(),
        }
    }
}

/// The entries of one host pattern. Most have none but "any path", so the rest is kept apart.
#[derive(Debug)]
pub(super) struct Paths {
    any: Candidates,
    conditional: Option<Box<Conditional>>,
}

/// Entries with a path condition.
#[derive(Debug)]
struct Conditional {
    exact: HashMap<Box<str>, Candidates, RandomState>,
    prefix: HashMap<Box<str>, Candidates, RandomState>,
    /// The distinct lengths of the prefixes, longest first: only these need a look-up.
    prefix_lengths: Box<[usize]>,
    regex: Box<[Candidate]>,
}

impl Paths {
    /// `numbers`: those of the pattern's entries.
    pub(super) fn new(mut numbers: Vec<u32>, entries: &[Entry], rules: &[Rule]) -> Self {
        numbers.sort_unstable_by_key(|&number| Reverse(entries[number as usize].precedence(number)));
        let any = numbers.iter().copied().filter(|&number| entries[number as usize].path.is_none());
        let any = reachable(any, entries, rules);
        numbers.retain(|&number| entries[number as usize].path.is_some());
        let conditional = (!numbers.is_empty()).then(|| Box::new(Conditional::new(&numbers, entries, rules)));
        Self { any, conditional }
    }

    /// The best entry whose path condition holds and that `holds` accepts.
    pub(super) fn find(
        &self,
        path: &str,
        entries: &[Entry],
        holds: impl Fn(&Entry) -> bool,
    ) -> Option<Candidate> {
        let holds =
            |candidate: &Candidate| !candidate.conditional || holds(&entries[candidate.entry as usize]);
        let conditional = self.conditional.as_deref().filter(|_| path.starts_with('/'));
        conditional
            .and_then(|conditional| conditional.find(path, entries, holds))
            .or_else(|| self.any.iter().copied().find(holds))
    }
}

impl Conditional {
    /// `numbers`: best first, all with a path condition.
    fn new(numbers: &[u32], entries: &[Entry], rules: &[Rule]) -> Self {
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
            map.into_iter().map(|(path, numbers)| (path.into(), reachable(numbers, entries, rules))).collect()
        };
        Self {
            exact: frozen(exact),
            prefix: frozen(prefix),
            prefix_lengths: prefix_lengths.into(),
            regex: regex.into_iter().map(|number| candidate(number, entries, rules)).collect(),
        }
    }

    fn find(&self, path: &str, entries: &[Entry], holds: impl Fn(&Candidate) -> bool) -> Option<Candidate> {
        let first = |candidates: &Candidates| candidates.iter().copied().find(&holds);
        let exact = self.exact.get(path).and_then(first);
        let prefixes = || self.prefixes(path).find_map(first);
        let matches =
            |candidate: &&Candidate| entries[candidate.entry as usize].path_matches(path) && holds(candidate);
        exact.or_else(prefixes).or_else(|| self.regex.iter().find(matches).copied())
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
fn reachable(numbers: impl IntoIterator<Item = u32>, entries: &[Entry], rules: &[Rule]) -> Candidates {
    let mut reachable = Vec::new();
    for number in numbers {
        let candidate = candidate(number, entries, rules);
        reachable.push(candidate);
        if !candidate.conditional {
            break;
        }
    }
    match reachable[..] {
        [one] => Candidates::One([one]),
        _ => Candidates::Many(reachable.into()),
    }
}

fn candidate(number: u32, entries: &[Entry], rules: &[Rule]) -> Candidate {
    let entry = &entries[number as usize];
    let route = rules[entry.rule as usize].route;
    Candidate { entry: number, route, conditional: entry.conditions.is_some() }
}
