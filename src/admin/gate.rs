//! Lets requests to the admin API in or turns them away, before anything else looks at them.
//!
//! `/live` and `/ready` are open to all: whoever runs a node (the kubelet, a load balancer) asks them without a token, and they tell no more
//! than yes or no. So are the files of the dashboard, which tell nothing of the node; its page `/` comes with the 401 to whoever says not
//! who he is, and asks him.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::Response,
};
use tokio::time::timeout;

use super::{
    access::{Access, Right},
    dashboard,
    guard::Guard,
    server::refused,
};
use crate::telemetry::Metrics;

/// Of a request's body: the longest is a log level.
const MOST_BODY: usize = 64 << 10;
/// For a request's body to arrive.
const BODY_TIME: Duration = Duration::from_secs(5);
/// Refusals are logged at most this often, so that nobody fills the log.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// Who is at the other end of a connection.
pub(super) struct Caller {
    /// Address, or "unix".
    pub(super) from: String,
    /// Has shown a certificate that was verified.
    pub(super) certified: bool,
}

/// All checks of one admin API.
pub(super) struct Gate {
    guard: Guard,
    access: Arc<Access>,
    metrics: Arc<Metrics>,
    log: Refusals,
}

/// A request that is turned away.
struct Refused {
    status: StatusCode,
    cause: &'static str,
    text: &'static str,
}

impl Gate {
    pub(super) fn new(guard: Guard, access: Arc<Access>, metrics: Arc<Metrics>) -> Self {
        Self { guard, access, metrics, log: Refusals::default() }
    }

    fn refusal(&self, request: &Request) -> Option<Refused> {
        let in_uri = request.uri().authority().map(|authority| authority.as_str());
        // A host that is no text is no name of loopback either.
        let in_header = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or("?"));
        let host = in_uri.or(in_header);
        if let Some((cause, text)) = self.guard.refusal(request.method(), host, request.headers()) {
            return Some(Refused { status: StatusCode::FORBIDDEN, cause, text });
        }
        if is_open_to_all(request) {
            return None;
        }
        let certified = request.extensions().get::<Arc<Caller>>().is_some_and(|caller| caller.certified);
        match self.access.right(certified, request.headers()) {
            right if right.covers(request.method()) => None,
            Right::Nothing => Some(Refused {
                status: StatusCode::UNAUTHORIZED,
                cause: "unauthenticated",
                text: "say who you are: by `authorization: Bearer TOKEN`, or a client certificate",
            }),
            _ => Some(Refused {
                status: StatusCode::FORBIDDEN,
                cause: "read_only",
                text: "this token lets you read; what changes the node takes the control token, or a client certificate",
            }),
        }
    }

    fn turn_away(&self, request: &Request, why: &Refused) -> Response {
        self.metrics.admin_refused(why.cause);
        if let Some(more) = self.log.note(Instant::now()) {
            let from = request.extensions().get::<Arc<Caller>>().map_or("?", |caller| &caller.from);
            let (method, path) = (request.method(), request.uri().path());
            tracing::warn!(from, %method, path, cause = why.cause, more, "admin API: refused");
        }
        let mut response = refused(why.status, why.text);
        if why.status == StatusCode::UNAUTHORIZED {
            if request.uri().path() == "/" && request.method() == Method::GET {
                // A browser shows the body, and the page asks its reader for the token.
                response = dashboard::page();
                *response.status_mut() = why.status;
            }
            let challenge = HeaderValue::from_static("Bearer realm=\"towpath\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

fn is_open_to_all(request: &Request) -> bool {
    let path = request.uri().path();
    let open = matches!(path, "/live" | "/ready") || dashboard::is_public(path);
    open && matches!(*request.method(), Method::GET | Method::HEAD)
}

/// Answers for the handlers where [`Gate`] says no, and where a body is too long or too slow.
pub(super) async fn check(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    if let Some(why) = gate.refusal(&request) {
        return gate.turn_away(&request, &why);
    }
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    match timeout(BODY_TIME, to_bytes(body, MOST_BODY)).await {
        Ok(Ok(body)) => next.run(Request::from_parts(parts, Body::from(body))).await,
        Ok(Err(_)) => refused(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long, or broke off"),
        Err(_) => refused(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"),
    }
}

/// When a refusal was logged last, and how many have not been since.
#[derive(Default)]
struct Refusals(Mutex<(Option<Instant>, u64)>);

impl Refusals {
    /// How many refusals went unlogged before this one; none: this one does as well.
    fn note(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0.is_some_and(|last| now.duration_since(last) < LOG_EVERY) {
            state.1 += 1;
            return None;
        }
        state.0 = Some(now);
        Some(std::mem::take(&mut state.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_logged_once_a_second_with_the_number_of_those_that_were_not() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        assert_eq!(refusals.note(start), Some(0));
        assert_eq!(refusals.note(start), None);
        assert_eq!(refusals.note(start + LOG_EVERY / 2), None);
        assert_eq!(refusals.note(start + LOG_EVERY), Some(2));
        assert_eq!(refusals.note(start + LOG_EVERY), None);
    }
}
