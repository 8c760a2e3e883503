//! The conditions of a match entry beyond host and path: method, headers, query parameters.

use std::borrow::Cow;

use http::HeaderName;

use super::request::RequestView;
use crate::config::{Match, ValueMatch};

/// The conditions of an entry that has any.
#[derive(Debug)]
pub(super) struct Conditions {
    pub(super) methods: Box<[String]>,
    pub(super) headers: Box<[(HeaderName, ValueMatch)]>,
    pub(super) query: Box<[(String, ValueMatch)]>,
}

/// The first condition that a request does not meet; later ones came further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unmet {
    Method,
    /// By position.
    Header(usize),
    /// By position.
    Query(usize),
}

impl Conditions {
    /// None when the entry has no such condition, which is the common case and costs no memory.
    pub(super) fn of(entry: &Match) -> Option<Box<Self>> {
        if entry.methods.is_empty() && entry.headers.is_empty() && entry.query.is_empty() {
            return None;
        }
        let header = |(name, value): &(String, ValueMatch)| {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a checked header name is a token");
            (name, value.clone())
        };
        Some(Box::new(Self {
            methods: entry.methods.clone().into(),
            headers: entry.headers.iter().map(header).collect(),
            query: entry.query.clone().into(),
        }))
    }

    /// The first condition that does not hold, in order of cost; None when all hold.
    pub(super) fn unmet(&self, request: &RequestView<'_>) -> Option<Unmet> {
        if !self.methods.is_empty() && !self.methods.iter().any(|method| method == request.method.as_str()) {
            return Some(Unmet::Method);
        }
        let mut headers = self.headers.iter();
        if let Some(position) = headers.position(|(name, wanted)| !holds(wanted, request.header(name))) {
            return Some(Unmet::Header(position));
        }
        let mut query = self.query.iter();
        query.position(|(name, wanted)| !holds(wanted, request.parameter(name))).map(Unmet::Query)
    }
}

/// Whether a value, or its lack, meets a condition.
fn holds(wanted: &ValueMatch, value: Option<Cow<'_, [u8]>>) -> bool {
    value_is(wanted, value.as_deref())
}

/// Whether a value, or its lack, meets a condition. An expression sees bytes that are not UTF-8 as U+FFFD.
pub fn value_is(wanted: &ValueMatch, value: Option<&[u8]>) -> bool {
    match (wanted, value) {
        (ValueMatch::Absent, value) => value.is_none(),
        (_, None) => false,
        (ValueMatch::Present, Some(_)) => true,
        (ValueMatch::Exact(wanted), Some(value)) => value == wanted.as_bytes(),
        (ValueMatch::Regex(wanted), Some(value)) => wanted.is_match(&String::from_utf8_lossy(value)),
    }
}
