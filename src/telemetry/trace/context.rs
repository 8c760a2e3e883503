//! The trace that a request belongs to.
//!
//! With `[tracing]` towpath is a hop of the trace: the request has a span, each attempt has one of its own, and its endpoint is told
//! of that one ([`TraceContext::take`], [`TraceContext::write`]). Without, it is none: what is valid passes as it came
//! ([`TraceContext::pass`]). What is invalid never passes.

use http::HeaderMap;

use super::{
    b3,
    fields::TRACEPARENT,
    jaeger,
    reading::{Decision, Reading},
    w3c,
};
use crate::config::TraceFormats;

/// The ids of a request's trace and spans, and what has been decided about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// Never 0.
    pub trace_id: u128,
    /// The caller's span; none of a new trace.
    pub parent: Option<u64>,
    /// This request's own span; never 0.
    pub span: u64,
    /// Whether the trace is sampled.
    pub sampled: bool,
    /// The caller has left that to its callees, as B3 can.
    pub deferred: bool,
    /// The caller asks for all of it, whatever the rates (B3's and Jaeger's debug).
    pub debug: bool,
    /// The trace id is random, as far as W3C's second flag says.
    pub random: bool,
    /// The formats in which it came.
    pub came: TraceFormats,
}

impl TraceContext {
    /// The context that `headers` tell; a new trace where they tell none that is valid. What is invalid is removed.
    ///
    /// `sample` decides about a trace about which nobody has decided yet; `random` are three uniform numbers.
    pub fn take(headers: &mut HeaderMap, sample: impl FnOnce() -> bool, random: [u64; 3]) -> Self {
        let reading = Reading::of(headers);
        reading.clean(headers, true);
        Self::of(&reading, sample, random)
    }

    /// As [`Self::take`], where towpath has no spans: what is valid stays as it is. A `traceparent` comes where there is none, with the
    /// trace that another format tells, else with a new one that is not sampled, whatever the caller wants for a trace that begins
    /// (`b3: 1`): its first span is exported by nobody here. What the caller wants goes on in its own words.
    pub fn pass(headers: &mut HeaderMap, random: [u64; 3]) -> Self {
        let reading = Reading::of(headers);
        reading.clean(headers, false);
        let mut context = Self::of(&reading, || false, random);
        if context.parent.is_none() {
            (context.sampled, context.debug) = (false, false);
        }
        if !context.came.w3c {
            let parent = context.parent.unwrap_or(context.span);
            headers.insert(&TRACEPARENT, w3c::write(&context, parent));
        }
        context
    }

    /// Tells the callee: its parent is `span`. Written in the formats in which it came, in those of `besides`, and in W3C's.
    pub fn write(&self, headers: &mut HeaderMap, span: u64, besides: TraceFormats) {
        headers.insert(&TRACEPARENT, w3c::write(self, span));
        if self.came.b3_single || besides.b3_single {
            b3::write_single(self, span, headers);
        }
        if self.came.b3 || besides.b3 {
            b3::write_multi(self, span, headers);
        }
        if self.came.jaeger || besides.jaeger {
            jaeger::write(self, span, headers);
        }
    }

    fn of(reading: &Reading, sample: impl FnOnce() -> bool, random: [u64; 3]) -> Self {
        let [high, low, span] = random;
        let made = u128::from(high) << 64 | u128::from(low.max(1));
        let told = reading.trace();
        let trace_id = told.map_or(made, |(ids, _)| ids.trace_id);
        let decision = told.map_or_else(|| reading.wanted(), |(_, said)| said.decision);
        Self {
            trace_id,
            parent: told.map(|(ids, _)| ids.span),
            span: span.max(1),
            sampled: decision.map_or_else(sample, |decision| decision != Decision::Deny),
            deferred: told.is_some() && decision.is_none(),
            debug: reading.is_debug(trace_id),
            random: told.is_some_and(|(_, said)| said.random),
            came: reading.came(),
        }
    }

    /// Whether callees are told that it is sampled.
    pub(super) fn is_recorded(&self) -> bool {
        self.sampled || self.debug
    }

    /// Whether callees decide themselves.
    pub(super) fn is_deferred(&self) -> bool {
        self.deferred && !self.debug
    }

    /// The parent of one of towpath's own spans: the request's, of an attempt's.
    pub(super) fn parent_of(&self, span: u64) -> Option<u64> {
        if span == self.span { self.parent } else { Some(self.span) }
    }
}
