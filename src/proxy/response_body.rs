//! A response's body on its way to the caller, with everything that must end when it ends.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::{Cause, Reason, exchange::Exchange};
use crate::{
    http::{Body, BodyError, grpc},
    service::Picked,
    upstream::Lease,
};

/// What `proxy::handle` answers with. Dropped before its end, it cancels the request.
pub struct ResponseBody {
    body: Body,
    /// None once the request is over.
    state: Option<Box<State>>,
    /// There is to be no response.
    reset: bool,
}

struct State {
    exchange: Exchange,
    /// None when towpath answers itself.
    upstream: Option<(Lease, Picked)>,
    /// Of the whole request.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl ResponseBody {
    /// Towpath's own body; with `reset`, of a response that the caller is not to get.
    pub(super) fn own(body: Body, exchange: Exchange, reset: bool) -> Self {
        Self { body, state: Some(Box::new(State { exchange, upstream: None, deadline: None })), reset }
    }

    /// An endpoint's body.
    pub(super) fn forwarded(
        body: Body,
        exchange: Exchange,
        lease: Lease,
        picked: Picked,
        deadline: Option<Instant>,
    ) -> Self {
        let deadline = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)));
        let state = State { exchange, upstream: Some((lease, picked)), deadline };
        let mut this = Self { body, state: Some(Box::new(state)), reset: false };
        this.finish_if_ended();
        this
    }

    /// A body of a response that belongs to no recorded request.
    pub(super) fn unrecorded(body: Body) -> Self {
        Self { body, state: None, reset: false }
    }

    /// Whether the caller gets no response: its connection (HTTP/1.1) or stream is to be reset instead.
    pub fn is_reset(&self) -> bool {
        self.reset
    }

    /// When the whole request has to be over, the writing of its response included.
    pub fn deadline(&self) -> Option<Instant> {
        let state = self.state.as_ref()?;
        state.deadline.as_ref().map(|sleep| sleep.deadline())
    }

    /// Notes that the caller has not taken the response in time.
    pub fn not_taken(&mut self) {
        if let Some(mut state) = self.state.take() {
            state.exchange.broke_off(Reason::Timeout, Some(Cause::ResponseNotTaken));
        }
    }

    fn finish_if_ended(&mut self) {
        if self.body.is_end_stream() {
            self.finish();
        }
    }

    /// The response is complete: the connection may serve the next request, and the record is written.
    fn finish(&mut self) {
        if let Some(mut state) = self.state.take() {
            state.exchange.complete();
            if let Some((lease, _picked)) = state.upstream {
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
        state.exchange.broke_off(reason, cause);
        self.body = Body::Empty;
        if !state.exchange.is_grpc {
            return Some(Err(error));
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(reason.grpc() as u16));
        trailers.insert("grpc-message", grpc::message(&format!("towpath: {error}")));
        trailers.insert("towpath-error", HeaderValue::from_static(reason.name()));
        Some(Ok(Frame::trailers(trailers)))
    }

    fn pass_on(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        if let Some(state) = &mut self.state {
            if let Some(data) = frame.data_ref() {
                state.exchange.sent(data.len());
            } else if let Some(trailers) = frame.trailers_ref() {
                state.exchange.grpc_status(trailers);
            }
        }
        if frame.is_trailers() {
            self.finish();
        } else {
            self.finish_if_ended();
        }
        frame
    }

    fn deadline_passed(&mut self, cx: &mut Context<'_>) -> bool {
        let deadline = self.state.as_mut().and_then(|state| state.deadline.as_mut());
        deadline.is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready())
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(self.pass_on(frame)))),
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(self.break_off((Reason::UpstreamReset, None), error))
            }
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Pending if self.deadline_passed(cx) => {
                Poll::Ready(self.break_off((Reason::Timeout, Some(Cause::RouteTimeout)), BodyError::Timeout))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
