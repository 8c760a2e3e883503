//! The router of one listener: built once, then only asked.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::{
    explain::{Explanation, explain},
    hosts::{Hosts, normal},
    paths::Candidate,
    request::RequestView,
    rule::{Entry, Host, Rule},
};
use crate::config::Route;

/// The rules of one listener, indexed by host and path.
///
/// Finding a rule takes one look-up for the host, one per label if there are `*.suffix` hosts, and under each pattern
/// one for the exact path and one per segment boundary that is some prefix's length; then come the expressions and the
/// further conditions of that host and path alone. The number of other hosts and paths does not count.
#[derive(Debug)]
pub struct Router {
    rules: Box<[Rule]>,
    /// In file order: an entry's position is its number.
    entries: Box<[Entry]>,
    hosts: Hosts,
}

impl Router {
    /// `routes`: the caller's number for each rule, and the rule, in file order; only those of this listener.
    pub fn new<'a>(routes: impl IntoIterator<Item = (usize, &'a Route)>) -> Self {
        let mut rules = Vec::new();
        let mut entries = Vec::new();
        let mut patterns: HashMap<Host, Vec<u32>, RandomState> = HashMap::default();
        for (route, rule) in routes {
            let first = number(entries.len());
            entries.extend(rule.matches.iter().map(|entry| Entry::new(number(rules.len()), entry)));
            let numbers = first..number(entries.len());
            let hosts: Box<[Host]> = rule.hosts.iter().map(Host::of).collect();
            for host in &hosts {
                patterns.entry(host.clone()).or_default().extend(numbers.clone());
            }
            rules.push(Rule { route: number(route), hosts, entries: numbers });
        }
        let hosts = Hosts::new(patterns, &entries, &rules);
        Self { rules: rules.into(), entries: entries.into(), hosts }
    }

    /// The winning rule, by the caller's number.
    pub fn route(&self, request: &RequestView<'_>) -> Option<usize> {
        self.winner(request).map(|winner| winner.route as usize)
    }

    /// The same decision, with the reason for every rule of the listener in file order.
    pub fn explain(&self, request: &RequestView<'_>) -> Explanation {
        let winner = self.winner(request).map(|winner| winner.entry);
        explain(&self.rules, &self.entries, winner, request)
    }

    fn winner(&self, request: &RequestView<'_>) -> Option<Candidate> {
        let holds = |entry: &Entry| entry.unmet(request).is_none();
        self.hosts.find(&normal(request.host), |paths| paths.find(request.path, &self.entries, holds))
    }
}

/// An entry's or rule's number from its position.
fn number(position: usize) -> u32 {
    u32::try_from(position).expect("a configuration file holds fewer than 2^32 rules and entries")
}
