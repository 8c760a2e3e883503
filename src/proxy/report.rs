//! One attempt as it is counted: for the service and for its endpoint, when it is over, however that comes.

use std::time::Instant;

use http::Response;

use crate::{
    http::{Body, grpc},
    service::Picked,
    snapshot::BackendView,
    telemetry::AttemptOutcome,
};

/// An attempt that runs on an endpoint. Dropped in the middle, it counts as cancelled: the caller has gone away.
pub(super) struct Report<'a> {
    backend: &'a BackendView,
    /// None once it has been handed on.
    picked: Option<Picked>,
    begun: Instant,
    /// An endpoint that it ran on before, where no connection could be made.
    lost: Option<u64>,
    outcome: AttemptOutcome,
}

impl<'a> Report<'a> {
    /// An attempt begins.
    pub(super) fn begin(backend: &'a BackendView, picked: Picked) -> Self {
        let (begun, outcome) = (Instant::now(), AttemptOutcome::Cancelled);
        Self { backend, picked: Some(picked), begun, lost: None, outcome }
    }

    /// The endpoint that it runs on.
    pub(super) fn picked(&self) -> &Picked {
        self.picked.as_ref().expect("only `end` takes it, and the report with it")
    }

    /// It goes on at another endpoint, where it has run since `begun`. Returns the one before, and since when it ran there.
    pub(super) fn move_to(&mut self, other: Picked, begun: Instant) -> Option<(Picked, Instant)> {
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

    fn count(&self) {
        self.backend.view.service.series.attempt(self.outcome);
        self.backend.view.observe(self.outcome, self.begun);
        if let Some(picked) = &self.picked {
            picked.report(self.outcome, self.begun);
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

/// What a response says of its endpoint. A gRPC call that fails before any message does so in the head of a response whose HTTP
/// status is 200.
pub(super) fn classify(response: &Response<Body>, is_grpc: bool) -> AttemptOutcome {
    let failed =
        response.status().is_server_error() || (is_grpc && grpc::is_server_error(response.headers()));
    if failed { AttemptOutcome::ServerError } else { AttemptOutcome::Success }
}
