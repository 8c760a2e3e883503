//! Which of two matching (host pattern, match entry) pairs wins.
//!
//! As in the Gateway API's HTTPRoute: the most specific host, then the most specific path, then an entry with methods,
//! then most headers, then most query parameters, then file order. The fields' order below is that order; greater wins.

use std::cmp::Reverse;

/// How specific a matching pair is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Precedence {
    pub(super) host: HostPrecedence,
    pub(super) entry: EntryPrecedence,
}

/// The part of [`Precedence`] that an entry has whatever the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryPrecedence {
    pub(super) path: PathPrecedence,
    pub(super) has_methods: bool,
    pub(super) headers: usize,
    pub(super) query: usize,
    /// Entries are numbered in file order: by rule, then by position in it.
    pub(super) order: Reverse<u32>,
}

/// How specific a host pattern is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum HostPrecedence {
    Any,
    /// Bytes of the suffix.
    Suffix(usize),
    Exact,
}

/// How specific a path condition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PathPrecedence {
    Any,
    Regex,
    /// Bytes of the prefix.
    Prefix(usize),
    Exact,
}
