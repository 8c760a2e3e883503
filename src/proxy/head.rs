//! Waiting for a response's head, as long as the service lets it come: `head_timeout` and `stream_idle_timeout`.
//!
//! # Whose time it is
//! `head_timeout` is the endpoint's. A caller that is slow to send its body must not use it up: while the body comes, or is waited
//! for, the time begins anew. So it holds exactly for a request without a body, and for one with a body it is over at
//! most twice as long after the body has been sent.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::Response;
use tokio::time::{Instant, Sleep, sleep};

use super::{
    attempt::{AttemptError, Call, Limit},
    idle::Patience,
    request_body::RequestBody,
};
use crate::{http::Body, upstream::SendError};

impl Call {
    /// The response that `sending` waits for.
    pub(super) async fn head(
        &self,
        mut sending: Pin<&mut impl Future<Output = Result<Response<Body>, SendError>>>,
    ) -> Result<Response<Body>, AttemptError> {
        let policy = &self.backend.view.service.policy;
        let mut patience = Patience::new(&self.worker.waiting, policy.stream_idle_timeout);
        let mut timer = policy.head_timeout.map(HeadTimer::new);
        poll_fn(|cx| {
            if let Poll::Ready(result) = sending.as_mut().poll(cx) {
                return Poll::Ready(result.map_err(AttemptError::Send));
            }
            if self.is_revoked() {
                return Poll::Ready(Err(AttemptError::Timeout(Limit::Revoked)));
            }
            let body = self.body.as_ref();
            let is_late = timer.as_mut().is_some_and(|timer| timer.poll(cx, body).is_ready());
            if is_late {
                return Poll::Ready(Err(AttemptError::Timeout(Limit::Head)));
            }
            let limit = patience.poll(cx, body.map_or(0, RequestBody::bytes)).map(|()| {
                let callers = body.is_some_and(RequestBody::is_starved);
                if callers { Limit::CallerIdle } else { Limit::Idle }
            });
            limit.map(|limit| Err(AttemptError::Timeout(limit)))
        })
        .await
    }
}

/// Measures the time that an endpoint takes.
struct HeadTimer {
    limit: Duration,
    sleep: Pin<Box<Sleep>>,
    /// What had been read of the request's body when the time began.
    moved: u64,
}

impl HeadTimer {
    fn new(limit: Duration) -> Self {
        Self { limit, sleep: Box::pin(sleep(limit)), moved: 0 }
    }

    fn poll(&mut self, cx: &mut Context<'_>, body: Option<&RequestBody>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            let Some(body) = body.filter(|body| body.is_starved() || body.bytes() != self.moved) else {
                return Poll::Ready(());
            };
            self.moved = body.bytes();
            self.sleep.as_mut().reset(Instant::now() + self.limit);
        }
    }
}
