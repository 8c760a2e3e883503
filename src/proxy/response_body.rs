//! A response's body on its way to the caller, with everything that must end when it ends.
//!
//! # How long it may take
//! Until the request's deadline, and as long as something moves (`stream_idle_timeout`), be it the endpoint that sends nothing or
//! the caller that takes nothing: who does not read holds an endpoint's connection. Whoever writes to the caller therefore
//! asks [`ResponseBody::poll_overdue`] while it waits.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    Cause, Reason,
    authorize::REVOKED,
    exchange::Exchange,
    idle::Patience,
    report::{Answered, classify_grpc},
    request_body::RequestBody,
};
use crate::{
    http::{Body, BodyError, grpc},
    telemetry::AttemptOutcome,
    upstream::Lease,
};

/// What `proxy::handle` answers with. Dropped before its end, it cancels the request.
pub struct ResponseBody {
    body: Body,
    /// None once the request is over.
    state: Option<Box<State>>,
    /// None when towpath answers itself.
    limits: Option<Limits>,
    /// There is to be no response.
    reset: bool,
}

struct State {
    exchange: Exchange,
    /// None when towpath answers itself.
    upstream: Option<(Lease, Answered)>,
}

/// How long the rest of a response may take.
struct Limits {
    /// Of the whole request, and which limit that is.
    deadline: Option<(Instant, Cause)>,
    /// For the deadline; made when it is first waited for.
    timer: Option<Pin<Box<Sleep>>>,
    patience: Patience,
}

impl Limits {
    /// Ready, with the limit, when the time is over. `moved` grows with what moves.
    fn poll(&mut self, cx: &mut Context<'_>, moved: u64) -> Poll<Cause> {
        if let Some((deadline, cause)) = self.deadline {
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(cause);
            }
        }
        self.patience.poll(cx, moved).map(|()| Cause::StreamIdleTimeout)
    }
}

impl ResponseBody {
    /// Towpath's own body; with `reset`, of a response that the caller is not to get.
    pub(super) fn own(body: Body, exchange: Exchange, reset: bool) -> Self {
        Self { body, state: Some(Box::new(State { exchange, upstream: None })), limits: None, reset }
    }

    /// An endpoint's body.
    pub(super) fn forwarded(
        body: Body,
        exchange: Exchange,
        upstream: (Lease, Answered),
        deadline: Option<(Instant, Cause)>,
    ) -> Self {
        let patience = Patience::new(&exchange.worker.waiting, upstream.1.stream_idle_timeout());
        let limits = Some(Limits { deadline, timer: None, patience });
        let state = State { exchange, upstream: Some(upstream) };
        let mut this = Self { body, state: Some(Box::new(state)), limits, reset: false };
        this.finish_if_ended();
        this
    }

    /// A body of a response that belongs to no recorded request.
    pub(super) fn unrecorded(body: Body) -> Self {
        Self { body, state: None, limits: None, reset: false }
    }

    /// Whether the caller gets no response: its connection (HTTP/1.1) or stream is to be reset instead.
    pub fn is_reset(&self) -> bool {
        self.reset
    }

    /// For whoever waits for the caller to take what there is, having `written` so many bytes: ready when the time for that is over.
    /// The request is then, too.
    pub fn poll_overdue(&mut self, cx: &mut Context<'_>, written: u64) -> Poll<()> {
        if self.is_revoked() {
            if let Some(mut state) = self.state.take() {
                state.end(AttemptOutcome::Cancelled);
                state.exchange.broke_off(Reason::Denied, None);
            }
            return Poll::Ready(());
        }
        let Some(limits) = &mut self.limits else { return Poll::Pending };
        let moved = self.state.as_ref().map_or(0, |state| state.exchange.moved());
        let cause = match ready!(limits.poll(cx, moved + written)) {
            Cause::StreamIdleTimeout => Cause::StreamIdleTimeout,
            _ => Cause::ResponseNotTaken,
        };
        if let Some(mut state) = self.state.take() {
            state.end(AttemptOutcome::Timeout);
            state.exchange.broke_off(Reason::Timeout, Some(cause));
        }
        Poll::Ready(())
    }

    fn finish_if_ended(&mut self) {
        if self.body.is_end_stream() {
            self.finish();
        }
    }

    /// The response is complete: the connection may serve the next request, and the record is written.
    fn finish(&mut self) {
        if let Some(mut state) = self.state.take() {
            state.end(AttemptOutcome::Success);
            state.exchange.complete();
            if let Some((lease, _answered)) = state.upstream {
                lease.finish();
            }
        }
    }

    /// What a caller gets in place of the rest: a gRPC caller a status, others a broken body.
    fn break_off(
        &mut self,
        (reason, cause): (Reason, Option<Cause>),
        error: BodyError,
    ) -> Option<Result<Frame<Bytes>, BodyError>> {
        let Some(mut state) = self.state.take() else { return Some(Err(error)) };
        state.end(match cause {
            Some(_) => AttemptOutcome::Timeout,
            None if reason == Reason::Denied => AttemptOutcome::Cancelled,
            // The caller has broken its own request, and with it the connection or stream to the endpoint.
            None if state.exchange.body.as_ref().is_some_and(RequestBody::has_failed) => {
                AttemptOutcome::Cancelled
            }
            None => AttemptOutcome::Reset,
        });
        state.exchange.broke_off(reason, cause);
        self.body = Body::Empty;
        if !state.exchange.is_grpc {
            return Some(Err(error));
        }
        let which = cause.map_or(String::new(), |cause| format!(" ({})", cause.name()));
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(reason.grpc() as u16));
        trailers.insert("grpc-message", grpc::message(&format!("towpath: {error}{which}")));
        trailers.insert("towpath-error", HeaderValue::from_static(reason.name()));
        state.exchange.grpc_status(&trailers);
        Some(Ok(Frame::trailers(trailers)))
    }

    /// Whether a reload has forbidden the caller what it gets here.
    fn is_revoked(&self) -> bool {
        let forwarded = self.state.as_ref().filter(|state| state.upstream.is_some());
        forwarded.is_some_and(|state| state.exchange.is_revoked())
    }

    fn pass_on(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        if let Some(state) = &mut self.state {
            if let Some(data) = frame.data_ref() {
                state.exchange.sent(data.len());
            } else if let Some(trailers) = frame.trailers_ref() {
                state.exchange.grpc_status(trailers);
                if state.exchange.is_grpc {
                    state.end(classify_grpc(trailers));
                }
            }
        }
        if frame.is_trailers() {
            self.finish();
        } else {
            self.finish_if_ended();
        }
        frame
    }

    /// Ready, with the limit, when nothing has come for too long.
    fn poll_limits(&mut self, cx: &mut Context<'_>) -> Poll<Cause> {
        match (&mut self.limits, &self.state) {
            (Some(limits), Some(state)) => limits.poll(cx, state.exchange.moved()),
            _ => Poll::Pending,
        }
    }
}

impl State {
    /// Counts how the endpoint's answer ended; the first end counts.
    fn end(&mut self, outcome: AttemptOutcome) {
        if let Some((_, answered)) = &mut self.upstream {
            answered.end(outcome);
        }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.is_revoked() {
            let error = BodyError::Transport(REVOKED.into());
            return Poll::Ready(self.break_off((Reason::Denied, None), error));
        }
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(self.pass_on(frame)))),
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(self.break_off((Reason::UpstreamReset, None), error))
            }
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let cause = ready!(self.poll_limits(cx));
                Poll::Ready(self.break_off((Reason::Timeout, Some(cause)), BodyError::Timeout))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
