//! Why a request went where it went: the verdict on every rule.
//!
//! The winner comes from the index that serves requests. The reasons come from trying each rule in turn, which takes
//! time in proportion to the rules and is meant for people who ask.

use std::fmt;

use super::{
    condition::Unmet,
    hosts::normal,
    precedence::{EntryPrecedence, PathPrecedence, Precedence},
    request::RequestView,
    rule::{Entry, Host, Rule},
};
use crate::config::{PathMatch, ValueMatch};

/// A routing decision with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The winning rule, by the caller's number.
    pub winner: Option<usize>,
    /// Every rule of the listener, in file order.
    pub rules: Vec<RuleVerdict>,
}

/// What became of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleVerdict {
    /// The caller's number of the rule.
    pub route: usize,
    /// What became of it.
    pub verdict: Verdict,
}

/// Whether a rule matched and won.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The request goes here.
    Won {
        /// The host pattern as configured.
        host: String,
        /// Position of the match entry in the rule.
        entry: usize,
    },
    /// The rule matches, but another one takes precedence.
    Lost {
        /// The host pattern as configured.
        host: String,
        /// Position of the match entry in the rule.
        entry: usize,
        /// The winner, by the caller's number.
        to: usize,
        /// What the winner has over this rule.
        by: LostBy,
    },
    /// The rule does not match; of several entries, why the one that came furthest does not.
    NoMatch(Mismatch),
}

/// The first thing in order of precedence that the winner has over a rule that matches too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostBy {
    /// An exact host, a longer suffix, or a suffix against any host.
    MoreSpecificHost,
    /// An exact path.
    ExactPath,
    /// A longer path prefix, or a prefix against something less specific.
    LongerPrefix,
    /// An expression on the path, against no condition on it.
    PathRegex,
    /// A condition on the method, against none.
    Method,
    /// More conditions on headers.
    MoreHeaders,
    /// More conditions on query parameters.
    MoreQuery,
    /// It stands earlier in the file.
    FileOrder,
}

/// Why a rule does not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// No host pattern of the rule is met.
    Host {
        /// The rule's patterns.
        wanted: Vec<String>,
    },
    /// The path is another one.
    Path {
        /// The condition in words.
        wanted: String,
    },
    /// The method is not in the list.
    Method {
        /// The list.
        wanted: Vec<String>,
    },
    /// A header is missing, or there, or has another value.
    Header {
        /// Which.
        name: String,
        /// The condition in words.
        wanted: String,
        /// The value in the request.
        found: Option<String>,
    },
    /// A query parameter is missing, or there, or has another value.
    Query {
        /// Which.
        name: String,
        /// The condition in words.
        wanted: String,
        /// The decoded value in the request.
        found: Option<String>,
    },
}

/// How far an entry of a rule whose host matches came; further is greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Path,
    Condition(Unmet),
}

/// A matching pair of a rule.
struct Matched<'a> {
    host: &'a Host,
    entry: u32,
    precedence: Precedence,
}

/// `winner`: the number of the winning entry.
pub(super) fn explain(
    rules: &[Rule],
    entries: &[Entry],
    winner: Option<u32>,
    request: &RequestView<'_>,
) -> Explanation {
    let host = normal(request.host);
    let tried: Vec<_> = rules.iter().map(|rule| try_rule(rule, entries, &host, request)).collect();
    let winner = winner.map(|entry| entries[entry as usize].rule as usize);
    let best = winner.and_then(|rule| tried[rule].as_ref().ok()).map(|matched| matched.precedence);
    let verdicts = rules.iter().zip(tried).enumerate().map(|(position, (rule, tried))| {
        let verdict = match (tried, winner, best) {
            (Err(mismatch), ..) => Verdict::NoMatch(mismatch),
            (Ok(matched), Some(winner), Some(best)) if winner != position => {
                matched.lost(rule, rules[winner].route as usize, best)
            }
            (Ok(matched), ..) => matched.won(rule),
        };
        RuleVerdict { route: rule.route as usize, verdict }
    });
    Explanation { rules: verdicts.collect(), winner: winner.map(|rule| rules[rule].route as usize) }
}

/// The rule's best matching pair, or why there is none.
fn try_rule<'a>(
    rule: &'a Rule,
    entries: &[Entry],
    host: &str,
    request: &RequestView<'_>,
) -> Result<Matched<'a>, Mismatch> {
    let hosts = rule.hosts.iter().filter(|pattern| pattern.matches(host));
    let Some(pattern) = hosts.max_by_key(|pattern| pattern.precedence()) else {
        return Err(Mismatch::Host { wanted: rule.hosts.iter().map(Host::to_string).collect() });
    };
    let matching = rule.entries.clone().filter(|&entry| stage(&entries[entry as usize], request).is_none());
    let matched = matching.map(|entry| Matched {
        host: pattern,
        entry,
        precedence: Precedence {
            host: pattern.precedence(),
            entry: entries[entry as usize].precedence(entry),
        },
    });
    matched.max_by_key(|matched| matched.precedence).ok_or_else(|| furthest(rule, entries, request))
}

/// Where an entry whose host matches stops to match; None when it does match.
fn stage(entry: &Entry, request: &RequestView<'_>) -> Option<Stage> {
    if !entry.path_matches(request.path) {
        return Some(Stage::Path);
    }
    entry.unmet(request).map(Stage::Condition)
}

/// Why the entry that came furthest, the first of several, does not match.
fn furthest(rule: &Rule, entries: &[Entry], request: &RequestView<'_>) -> Mismatch {
    let entries = entries[rule.entries.start as usize..rule.entries.end as usize].iter().rev();
    let stages = entries.filter_map(|entry| Some((stage(entry, request)?, entry)));
    match stages.max_by_key(|(stage, _)| *stage) {
        Some((Stage::Path, entry)) => Mismatch::Path { wanted: path_text(entry.path.as_ref()) },
        Some((Stage::Condition(unmet), entry)) => condition_mismatch(unmet, entry, request),
        None => Mismatch::Path { wanted: path_text(None) },
    }
}

fn condition_mismatch(unmet: Unmet, entry: &Entry, request: &RequestView<'_>) -> Mismatch {
    let Some(conditions) = entry.conditions.as_deref() else {
        return Mismatch::Path { wanted: path_text(entry.path.as_ref()) };
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match unmet {
        Unmet::Method => Mismatch::Method { wanted: conditions.methods.to_vec() },
        Unmet::Header(position) => {
            let (name, wanted) = &conditions.headers[position];
            let found = request.header(name).map(|value| text(&value));
            Mismatch::Header { name: name.to_string(), wanted: value_text(wanted), found }
        }
        Unmet::Query(position) => {
            let (name, wanted) = &conditions.query[position];
            let found = request.parameter(name).map(|value| text(&value));
            Mismatch::Query { name: name.clone(), wanted: value_text(wanted), found }
        }
    }
}

impl Matched<'_> {
    fn won(&self, rule: &Rule) -> Verdict {
        Verdict::Won { host: self.host.to_string(), entry: self.position(rule) }
    }

    fn lost(&self, rule: &Rule, to: usize, winner: Precedence) -> Verdict {
        let by = lost_by(winner, self.precedence);
        Verdict::Lost { host: self.host.to_string(), entry: self.position(rule), to, by }
    }

    fn position(&self, rule: &Rule) -> usize {
        (self.entry - rule.entries.start) as usize
    }
}

/// The first field in which the winner is greater.
fn lost_by(winner: Precedence, loser: Precedence) -> LostBy {
    let (EntryPrecedence { path, has_methods, headers, query, .. }, entry) = (winner.entry, loser.entry);
    match path {
        _ if winner.host != loser.host => LostBy::MoreSpecificHost,
        PathPrecedence::Exact if path != entry.path => LostBy::ExactPath,
        PathPrecedence::Prefix(_) if path != entry.path => LostBy::LongerPrefix,
        _ if path != entry.path => LostBy::PathRegex,
        _ if has_methods != entry.has_methods => LostBy::Method,
        _ if headers != entry.headers => LostBy::MoreHeaders,
        _ if query != entry.query => LostBy::MoreQuery,
        _ => LostBy::FileOrder,
    }
}

fn path_text(path: Option<&PathMatch>) -> String {
    match path {
        None => "any path".to_owned(),
        Some(PathMatch::Exact(path)) => format!("exactly `{path}`"),
        Some(PathMatch::Prefix(path)) => format!("prefix `{path}`"),
        Some(PathMatch::Regex(path)) => format!("expression `{path}`"),
    }
}

fn value_text(value: &ValueMatch) -> String {
    match value {
        ValueMatch::Exact(value) => format!("`{value}`"),
        ValueMatch::Regex(value) => format!("expression `{value}`"),
        ValueMatch::Present => "any value".to_owned(),
        ValueMatch::Absent => "none".to_owned(),
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Suffix(suffix) => write!(f, "*.{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Won { host, entry } => write!(f, "matched and won by host `{host}`, match[{entry}]"),
            Self::Lost { host, entry, to, by } => {
                write!(f, "matched by host `{host}`, match[{entry}], but lost to route {to}: {by}")
            }
            Self::NoMatch(mismatch) => write!(f, "no match: {mismatch}"),
        }
    }
}

impl fmt::Display for LostBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MoreSpecificHost => "its host is more specific",
            Self::ExactPath => "its path is exact",
            Self::LongerPrefix => "its path prefix is longer or more specific",
            Self::PathRegex => "it has an expression on the path",
            Self::Method => "it has a condition on the method",
            Self::MoreHeaders => "it has more conditions on headers",
            Self::MoreQuery => "it has more conditions on query parameters",
            Self::FileOrder => "it stands earlier in the file",
        })
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { wanted } => write!(f, "the host is none of `{}`", wanted.join("`, `")),
            Self::Path { wanted } => write!(f, "the path differs (wanted: {wanted})"),
            Self::Method { wanted } => write!(f, "the method is none of {}", wanted.join(", ")),
            Self::Header { name, wanted, found } => {
                value_mismatch(f, "header", name, wanted, found.as_deref())
            }
            Self::Query { name, wanted, found } => {
                value_mismatch(f, "query parameter", name, wanted, found.as_deref())
            }
        }
    }
}

fn value_mismatch(
    f: &mut fmt::Formatter<'_>,
    kind: &str,
    name: &str,
    wanted: &str,
    found: Option<&str>,
) -> fmt::Result {
    match found {
        None => write!(f, "{kind} `{name}` is missing (wanted: {wanted})"),
        Some(found) => write!(f, "{kind} `{name}` is `{found}` (wanted: {wanted})"),
    }
}
