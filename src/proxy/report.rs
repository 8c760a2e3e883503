//! One attempt as it is counted: for the service and for its endpoint, when it is over, however that comes.
//!
//! # An answer is over when its body is
//! An endpoint that answers `200` and then breaks its body off, or ends a gRPC call with `INTERNAL`, has failed: so an answer that
//! began well is counted when it ends ([`Answered`]). Two things are known at its head: what it took, which is the latency, and
//! that the endpoint answers, which is all that a probe asks. A body that takes too long says nothing of the endpoint,
//! since it may be the caller who does not read it; nor does a caller that goes away.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use http::{HeaderMap, Response, StatusCode};

use super::account::Entry;
use crate::{
    http::{Body, grpc},
    service::Picked,
    snapshot::BackendView,
    telemetry::AttemptOutcome,
};

/// An attempt that runs on an endpoint. Dropped in the middle, it counts as cancelled: the caller has gone away.
pub(super) struct Report<'a> {
    backend: &'a Rc<BackendView>,
    /// None once it has been handed on.
    picked: Option<Picked>,
    begun: Instant,
    /// An endpoint that it ran on before, where no connection could be made.
    lost: Option<u64>,
    outcome: AttemptOutcome,
    /// Its part of the request's account, if there is one.
    entry: Option<Entry>,
}

impl<'a> Report<'a> {
    /// An attempt begins.
    pub(super) fn begin(backend: &'a Rc<BackendView>, picked: Picked, entry: Option<Entry>) -> Self {
        let (begun, outcome) = (Instant::now(), AttemptOutcome::Cancelled);
        Self { backend, picked: Some(picked), begun, lost: None, outcome, entry }
    }

    /// When it began.
    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    /// Its part of the request's account.
    pub(super) fn entry(&self) -> Option<&Entry> {
        self.entry.as_ref()
    }

    /// The endpoint that it runs on.
    pub(super) fn picked(&self) -> &Picked {
        self.picked.as_ref().expect("only `end` takes it, and the report with it")
    }

    /// It goes on at another endpoint, where it has run since `begun`. Returns the one before, and since when it ran there.
    pub(super) fn move_to(&mut self, other: Picked, begun: Instant) -> Option<(Picked, Instant)> {
        if let Some(entry) = &self.entry {
            entry.moves_to(&other);
        }
        let before = (self.picked.replace(other), std::mem::replace(&mut self.begun, begun));
        before.0.map(|picked| (picked, before.1))
    }

    /// No connection could be made to this target either.
    pub(super) fn lose(&mut self, target: u64) {
        self.lost = Some(target);
    }

    /// The target beside the present one to which no connection could be made.
    pub(super) fn lost(&self) -> Option<u64> {
        self.lost
    }

    /// It has ended. The endpoint stays loaded until what is returned is dropped.
    pub(super) fn end(mut self, outcome: AttemptOutcome) -> Picked {
        self.outcome = outcome;
        self.count();
        self.picked.take().expect("nothing else takes it")
    }

    /// A response has begun, which says this of the endpoint.
    pub(super) fn answered(mut self, outcome: AttemptOutcome) -> Answered {
        let picked = self.picked.take().expect("nothing else takes it");
        self.backend.view.observe(outcome, self.begun);
        let (backend, entry, times) = (self.backend.clone(), self.entry.take(), (self.begun, self.begun));
        let mut answered = Answered { backend, picked, times, open: true, entry };
        if outcome == AttemptOutcome::Success {
            answered.times.1 = answered.picked.answered(self.begun);
        } else {
            answered.open = false;
            answered.note_end(outcome);
            answered.backend.view.service.series.attempt(outcome);
            answered.picked.report(outcome, self.begun);
        }
        answered
    }

    fn count(&self) {
        self.backend.view.service.series.attempt(self.outcome);
        self.backend.view.observe(self.outcome, self.begun);
        if let Some(picked) = &self.picked {
            picked.report(self.outcome, self.begun);
        }
        if let Some(entry) = &self.entry {
            entry.end(self.outcome);
        }
    }
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        if self.picked.is_some() {
            self.count();
        }
    }
}

/// An endpoint that has answered. It stays loaded until this is dropped.
pub(super) struct Answered {
    backend: Rc<BackendView>,
    picked: Picked,
    /// When the attempt began, and when its head was here.
    times: (Instant, Instant),
    /// The end is still to be counted.
    open: bool,
    entry: Option<Entry>,
}

impl Answered {
    /// How long nothing may move in the answer.
    pub(super) fn stream_idle_timeout(&self) -> Duration {
        self.backend.view.service.policy.stream_idle_timeout
    }

    /// The answer has ended. Only the first end counts.
    pub(super) fn end(&mut self, outcome: AttemptOutcome) {
        if std::mem::replace(&mut self.open, false) {
            self.backend.view.service.series.attempt(outcome);
            self.picked.ended(outcome, self.times);
            self.note_end(outcome);
        }
    }

    fn note_end(&self, outcome: AttemptOutcome) {
        if let Some(entry) = &self.entry {
            entry.end(outcome);
        }
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        // The caller has gone away, after the endpoint had answered it.
        self.end(AttemptOutcome::Success);
    }
}

/// What a response says of its endpoint. A gRPC call that fails before any message does so in the head of a response whose HTTP
/// status is 200.
pub(super) fn classify(response: &Response<Body>, is_grpc: bool) -> AttemptOutcome {
    match response.status() {
        status if status.is_server_error() => AttemptOutcome::ServerError,
        StatusCode::TOO_MANY_REQUESTS => AttemptOutcome::Overloaded,
        _ if is_grpc => classify_grpc(response.headers()),
        _ => AttemptOutcome::Success,
    }
}

/// What the status of a gRPC call says of its endpoint: in the head of a call that failed at once, else in the trailers.
pub(super) fn classify_grpc(fields: &HeaderMap) -> AttemptOutcome {
    if grpc::is_server_error(fields) {
        AttemptOutcome::ServerError
    } else if grpc::is_overloaded(fields) {
        AttemptOutcome::Overloaded
    } else {
        AttemptOutcome::Success
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn load_is_told_apart_from_failure_in_statuses_and_in_codes_of_grpc() {
        let says = |status: u16, code: Option<&'static str>, is_grpc| {
            let mut response = Response::new(Body::Empty);
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            if let Some(code) = code {
                response.headers_mut().insert("grpc-status", HeaderValue::from_static(code));
            }
            classify(&response, is_grpc)
        };
        for (status, code, is_grpc, expected) in [
            (200, None, false, AttemptOutcome::Success),
            (404, None, false, AttemptOutcome::Success),
            (429, None, false, AttemptOutcome::Overloaded),
            (429, None, true, AttemptOutcome::Overloaded),
            (503, None, false, AttemptOutcome::ServerError),
            (200, Some("0"), true, AttemptOutcome::Success),
            (200, Some("4"), true, AttemptOutcome::Success),
            (200, Some("8"), true, AttemptOutcome::Overloaded),
            (200, Some("8"), false, AttemptOutcome::Success),
            (200, Some("13"), true, AttemptOutcome::ServerError),
        ] {
            assert_eq!(says(status, code, is_grpc), expected, "{status} {code:?} {is_grpc}");
        }
    }
}
