//! What a request's fields say about its trace, in all formats: which of them counts, and what has to go.
//!
//! # Which counts
//! The first that has ids and is valid: W3C, `b3`, `x-b3-*`, `uber-trace-id`. Where none has ids a trace begins, and what they want
//! for it counts in the same order. That a caller wants all of a trace (debug) counts in whichever format it says so, if that is
//! about this trace: W3C has no word for it.

use http::HeaderMap;

use super::{
    b3,
    fields::{self, B3, Field, Fields, JAEGER, TRACEPARENT, TRACESTATE},
    jaeger,
    tracestate::{self, State},
    w3c,
};
use crate::config::TraceFormats;

/// What one format says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// None: only what is wanted of a trace that begins.
    pub(super) ids: Option<Ids>,
    /// None: it is for the callee to decide.
    pub(super) decision: Option<Decision>,
    /// The trace id is random.
    pub(super) random: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ids {
    /// Never 0.
    pub(super) trace_id: u128,
    /// The caller's; never 0.
    pub(super) span: u64,
}

/// Whether a trace is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Deny,
    Accept,
    /// Whatever the rates.
    Debug,
}

/// What there is of one format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Nothing,
    /// Fields that are invalid.
    Nonsense,
    Said(Said),
}

/// What a request says in all formats.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    w3c: Heard,
    state: State,
    b3_single: Heard,
    b3: Heard,
    jaeger: Heard,
}

impl Reading {
    const NOTHING: Self = Self {
        w3c: Heard::Nothing,
        state: State::Keep,
        b3_single: Heard::Nothing,
        b3: Heard::Nothing,
        jaeger: Heard::Nothing,
    };

    /// Of these fields.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        if !fields::any(headers) {
            return Self::NOTHING;
        }
        let fields = Fields::of(headers);
        let w3c = Heard::of(fields.traceparent, w3c::read);
        let state = match w3c {
            Heard::Said(_) => tracestate::judge(fields.tracestate, headers),
            _ if fields.tracestate.is_absent() => State::Keep,
            // That of another trace, or of none.
            _ => State::Drop,
        };
        let b3 = match b3::has_multi(&fields) {
            true => b3::read_multi(&fields).map_or(Heard::Nonsense, Heard::Said),
            false => Heard::Nothing,
        };
        Self {
            w3c,
            state,
            b3_single: Heard::of(fields.b3, b3::read_single),
            b3,
            jaeger: Heard::of(fields.jaeger, jaeger::read),
        }
    }

    /// Removes what is invalid. A `traceparent` that is passed on as it came has to have its `tracestate` beside it as it came; with
    /// one that is written anew, that is written as one field.
    pub(super) fn clean(&self, headers: &mut HeaderMap, anew: bool) {
        if self.w3c == Heard::Nonsense {
            headers.remove(&TRACEPARENT);
        }
        match self.state {
            State::Drop => drop(headers.remove(&TRACESTATE)),
            State::Combine if anew => tracestate::combine(headers),
            State::Thin => tracestate::combine(headers),
            State::Keep | State::Combine => {}
        }
        if self.b3_single == Heard::Nonsense {
            headers.remove(&B3);
        }
        if self.b3 == Heard::Nonsense {
            b3::remove_multi(headers);
        }
        if self.jaeger == Heard::Nonsense {
            headers.remove(&JAEGER);
        }
    }

    /// The formats that are valid.
    pub(super) fn came(&self) -> TraceFormats {
        TraceFormats {
            w3c: self.w3c.said().is_some(),
            b3: self.b3.said().is_some(),
            b3_single: self.b3_single.said().is_some(),
            jaeger: self.jaeger.said().is_some(),
        }
    }

    /// What counts, where there are ids.
    pub(super) fn trace(&self) -> Option<(Ids, Said)> {
        self.all().find_map(|said| Some((said.ids?, said)))
    }

    /// What is wanted of a trace that begins.
    pub(super) fn wanted(&self) -> Option<Decision> {
        self.all().find_map(|said| said.decision)
    }

    /// Whether anything that is about this trace, or about none, wants all of it.
    pub(super) fn is_debug(&self, trace_id: u128) -> bool {
        let about = |said: &Said| said.ids.is_none_or(|ids| ids.trace_id == trace_id);
        self.all().any(|said| said.decision == Some(Decision::Debug) && about(&said))
    }

    /// In the order in which they count.
    fn all(&self) -> impl Iterator<Item = Said> {
        [self.w3c, self.b3_single, self.b3, self.jaeger].into_iter().filter_map(Heard::said)
    }
}

impl Heard {
    fn of(field: Field<'_>, read: fn(&[u8]) -> Option<Said>) -> Self {
        match field {
            Field::Absent => Self::Nothing,
            Field::Once(text) => read(text).map_or(Self::Nonsense, Self::Said),
            Field::Repeated => Self::Nonsense,
        }
    }

    fn said(self) -> Option<Said> {
        match self {
            Self::Said(said) => Some(said),
            Self::Nothing | Self::Nonsense => None,
        }
    }
}
