//! Rules and their match entries as the router keeps them: compact, and shared by every host of a rule.

use std::{cmp::Reverse, ops::Range, sync::Arc};

use super::{
    condition::{Conditions, Unmet},
    precedence::{EntryPrecedence, HostPrecedence, PathPrecedence},
    request::RequestView,
};
use crate::config::{HostPattern, Match, PathMatch};

/// One rule.
#[derive(Debug)]
pub(super) struct Rule {
    /// The caller's number for it.
    pub(super) route: u32,
    pub(super) hosts: Box<[Host]>,
    /// Its entries' numbers.
    pub(super) entries: Range<u32>,
}

/// A host pattern; its text is shared with the index of hosts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Host {
    Exact(Arc<str>),
    Suffix(Arc<str>),
    Any,
}

/// One match entry of a rule.
#[derive(Debug)]
pub(super) struct Entry {
    /// Position of its rule.
    pub(super) rule: u32,
    pub(super) path: Option<PathMatch>,
    pub(super) conditions: Option<Box<Conditions>>,
}

impl Host {
    pub(super) fn of(pattern: &HostPattern) -> Self {
        match pattern {
            HostPattern::Exact(name) => Self::Exact(without_brackets(name).into()),
            HostPattern::Suffix(suffix) => Self::Suffix(suffix.as_str().into()),
            HostPattern::Any => Self::Any,
        }
    }

    pub(super) fn precedence(&self) -> HostPrecedence {
        match self {
            Self::Exact(_) => HostPrecedence::Exact,
            Self::Suffix(suffix) => HostPrecedence::Suffix(suffix.len()),
            Self::Any => HostPrecedence::Any,
        }
    }

    /// Whether a host in the form that [`super::hosts::normal`] gives it is meant.
    pub(super) fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *host,
            Self::Suffix(suffix) => host
                .strip_suffix(&**suffix)
                .and_then(|labels| labels.strip_suffix('.'))
                .is_some_and(|labels| !labels.is_empty()),
            Self::Any => true,
        }
    }
}

impl Entry {
    pub(super) fn new(rule: u32, entry: &Match) -> Self {
        Self { rule, path: entry.path.clone(), conditions: Conditions::of(entry) }
    }

    /// `number`: the entry's own, in file order.
    pub(super) fn precedence(&self, number: u32) -> EntryPrecedence {
        let path = match &self.path {
            None => PathPrecedence::Any,
            Some(PathMatch::Regex(_)) => PathPrecedence::Regex,
            Some(PathMatch::Prefix(prefix)) => PathPrecedence::Prefix(bare(prefix).len()),
            Some(PathMatch::Exact(_)) => PathPrecedence::Exact,
        };
        let conditions = self.conditions.as_deref();
        EntryPrecedence {
            path,
            has_methods: conditions.is_some_and(|conditions| !conditions.methods.is_empty()),
            headers: conditions.map_or(0, |conditions| conditions.headers.len()),
            query: conditions.map_or(0, |conditions| conditions.query.len()),
            order: Reverse(number),
        }
    }

    /// Whether the path is one that the entry wants.
    pub(super) fn path_matches(&self, path: &str) -> bool {
        self.path.as_ref().is_none_or(|wanted| path_is(wanted, path))
    }

    /// The first condition beyond host and path that the request does not meet.
    pub(super) fn unmet(&self, request: &RequestView<'_>) -> Option<Unmet> {
        self.conditions.as_ref().and_then(|conditions| conditions.unmet(request))
    }
}

/// Whether the path is one that is wanted. `*` and other targets that are no path meet no condition on it.
pub fn path_is(wanted: &PathMatch, path: &str) -> bool {
    path.starts_with('/')
        && match wanted {
            PathMatch::Exact(wanted) => path == wanted,
            PathMatch::Prefix(prefix) => {
                path.strip_prefix(bare(prefix)).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            PathMatch::Regex(wanted) => wanted.is_match(path),
        }
}

/// A prefix without trailing slash, so that the root's is empty and holds at every path's first slash.
pub(super) fn bare(prefix: &str) -> &str {
    prefix.strip_suffix('/').unwrap_or(prefix)
}

/// An IPv6 address without the brackets that an authority puts around it.
pub(super) fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}
