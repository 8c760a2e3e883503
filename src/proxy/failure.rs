//! Failures: the one table of what each reason means to a caller, and the only place that turns one into a response.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};

use super::Cause;
use crate::http::{Body, grpc};

/// Why towpath itself answered a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The request is not one that towpath forwards.
    BadRequest,
    /// The request has no valid token.
    Unauthenticated,
    /// No rule matches.
    NoRoute,
    /// The head is over the limits.
    HeadersTooLarge,
    /// No connection to an endpoint.
    ConnectFailed,
    /// The connection or stream to the endpoint broke before a response.
    UpstreamReset,
    /// Discovery knows no endpoint.
    NoEndpoints,
    /// Endpoints are known, and none of them may be used.
    AllUnhealthy,
    /// The caller may not have this.
    Denied,
    /// Towpath carries as much as it may.
    Overloaded,
    /// The caller has as much of this node as it may.
    CallerLimit,
    /// This listener takes no new requests.
    Draining,
    /// A deadline passed.
    Timeout,
    /// The request has come through this node too often.
    LoopDetected,
    /// The route says that it is to fail; with the status that is configured.
    FaultInjected,
}

/// What a reason means.
struct Meaning {
    name: &'static str,
    status: StatusCode,
    grpc: grpc::Status,
    /// Whether the same request may succeed at once elsewhere, nothing of it having been processed.
    retryable: bool,
}

impl Reason {
    /// The table: reason -> name, HTTP status, gRPC code, retryable.
    fn meaning(self) -> Meaning {
        let row = |name, status, grpc, retryable| Meaning { name, status, grpc, retryable };
        match self {
            Self::BadRequest => row("bad_request", StatusCode::BAD_REQUEST, grpc::Status::Internal, false),
            Self::Unauthenticated => {
                row("unauthenticated", StatusCode::UNAUTHORIZED, grpc::Status::Unauthenticated, false)
            }
            Self::NoRoute => row("no_route", StatusCode::NOT_FOUND, grpc::Status::Unimplemented, false),
            Self::HeadersTooLarge => row(
                "headers_too_large",
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                grpc::Status::ResourceExhausted,
                false,
            ),
            Self::ConnectFailed => {
                row("connect_failed", StatusCode::BAD_GATEWAY, grpc::Status::Unavailable, true)
            }
            Self::UpstreamReset => {
                row("upstream_reset", StatusCode::BAD_GATEWAY, grpc::Status::Unavailable, false)
            }
            Self::NoEndpoints => {
                row("no_endpoints", StatusCode::SERVICE_UNAVAILABLE, grpc::Status::Unavailable, true)
            }
            Self::AllUnhealthy => {
                row("all_unhealthy", StatusCode::SERVICE_UNAVAILABLE, grpc::Status::Unavailable, true)
            }
            Self::Denied => row("denied", StatusCode::FORBIDDEN, grpc::Status::PermissionDenied, false),
            Self::Overloaded => {
                row("overloaded", StatusCode::SERVICE_UNAVAILABLE, grpc::Status::Unavailable, true)
            }
            Self::CallerLimit => {
                row("caller_limit", StatusCode::SERVICE_UNAVAILABLE, grpc::Status::Unavailable, false)
            }
            Self::Draining => {
                row("draining", StatusCode::SERVICE_UNAVAILABLE, grpc::Status::Unavailable, true)
            }
            Self::Timeout => {
                row("timeout", StatusCode::GATEWAY_TIMEOUT, grpc::Status::DeadlineExceeded, false)
            }
            Self::LoopDetected => {
                row("loop_detected", StatusCode::LOOP_DETECTED, grpc::Status::Internal, false)
            }
            Self::FaultInjected => {
                row("fault_injected", StatusCode::SERVICE_UNAVAILABLE, grpc::Status::Unavailable, false)
            }
        }
    }

    /// As `towpath-error`, logs and metrics name it.
    pub fn name(self) -> &'static str {
        self.meaning().name
    }

    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        self.meaning().status
    }

    /// The gRPC status.
    pub fn grpc(self) -> grpc::Status {
        self.meaning().grpc
    }

    /// Whether the same request may succeed at once elsewhere.
    pub fn is_retryable(self) -> bool {
        self.meaning().retryable
    }
}

/// A request that towpath answers itself.
#[derive(Debug)]
pub struct Failure {
    /// Which row of the table.
    pub reason: Reason,
    /// Which limit, timeout or policy it was, where there are several.
    pub cause: Option<Cause>,
    /// In place of what the table says.
    pub status: Option<StatusCode>,
    /// In place of what the table says, for a gRPC caller.
    pub grpc: Option<u8>,
    /// After which the caller may try again.
    pub retry_after: Option<Duration>,
    /// How the caller may say who it is (RFC 9110 11.6.1).
    pub challenge: Option<&'static str>,
    /// What another has answered, in place of JSON; the caller gets it as it is.
    pub answer: Option<Box<Response<Bytes>>>,
    /// Who, where and the likely cause, for people.
    pub message: Cow<'static, str>,
    /// The caller went away: nobody will read the answer.
    pub caller_gone: bool,
    /// The caller gets no answer: its connection (HTTP/1.1) or stream is reset.
    pub reset: bool,
}

impl Failure {
    /// A failure for `reason`.
    pub fn new(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            cause: None,
            status: None,
            grpc: None,
            retry_after: None,
            challenge: None,
            answer: None,
            message: message.into(),
            caller_gone: false,
            reset: false,
        }
    }

    /// The same, by this limit, timeout or policy.
    pub fn because(self, cause: Cause) -> Self {
        Self { cause: Some(cause), ..self }
    }

    /// The caller went away in the middle of its request.
    pub fn caller_gone() -> Self {
        let message = "the caller went away in the middle of its request";
        Self { caller_gone: true, ..Self::new(Reason::BadRequest, message) }
    }

    /// The response: for a gRPC caller trailers-only, else JSON.
    pub fn response(&self, about: &About<'_>) -> Response<Body> {
        let mut response = match &self.answer {
            _ if about.is_grpc => self.grpc_response(),
            Some(answer) => (**answer).clone().map(Body::Full),
            None => self.json_response(about),
        };
        response.headers_mut().insert("towpath-error", HeaderValue::from_static(self.reason.name()));
        if let Some(cause) = self.cause {
            response.headers_mut().insert("towpath-cause", HeaderValue::from_static(cause.name()));
        }
        if let Some(challenge) = self.challenge {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(after) = self.retry_after {
            // Whole seconds, as RFC 9110 10.2.3 has it; never none.
            let seconds = after.as_millis().div_ceil(1000).max(1) as u64;
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    fn grpc_response(&self) -> Response<Body> {
        let mut response = Response::new(Body::Empty);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers
            .insert("grpc-status", HeaderValue::from(self.grpc.map_or(self.reason.grpc() as u16, u16::from)));
        headers.insert("grpc-message", grpc::message(&format!("towpath: {}", self.message)));
        response
    }

    fn json_response(&self, about: &About<'_>) -> Response<Body> {
        let error = serde_json::json!({ "error": {
            "reason": self.reason.name(),
            "cause": self.cause.map(Cause::name),
            "message": &*self.message,
            "route": about.route,
            "service": about.service,
            "request_id": about.request_id,
        }});
        let text = Bytes::from(error.to_string());
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = self.status.unwrap_or(self.reason.status());
        if has_no_content(response.status()) {
            return response;
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
        *response.body_mut() = Body::Full(text);
        response
    }
}

/// Whether responses of this status have none (RFC 9110 15.3.5, 15.3.6, 15.4.5).
fn has_no_content(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED)
}

/// The request that failed, as far as it is known.
#[derive(Default)]
pub struct About<'a> {
    /// Of the rule that matched.
    pub route: Option<&'a str>,
    /// That it was for.
    pub service: Option<&'a str>,
    /// `x-request-id`.
    pub request_id: Option<&'a str>,
    /// The caller expects gRPC.
    pub is_grpc: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_caller_gets_trailers_only() {
        let failure = Failure::new(Reason::NoRoute, "no rule for 100% of ü");
        let response = failure.response(&About { is_grpc: true, ..About::default() });
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "12");
        assert_eq!(response.headers()["grpc-message"], "towpath: no rule for 100%25 of %C3%BC");
        assert_eq!(response.headers()["towpath-error"], "no_route");
        assert!(matches!(response.body(), Body::Empty));
    }

    #[test]
    fn which_limit_it_was_and_when_to_try_again_stand_in_fields_of_every_answer() {
        let failure = Failure {
            retry_after: Some(Duration::from_millis(1200)),
            ..Failure::new(Reason::Overloaded, "busy").because(Cause::ServiceRequests)
        };
        for is_grpc in [false, true] {
            let response = failure.response(&About { is_grpc, ..About::default() });
            assert_eq!(response.headers()["towpath-cause"], "max_requests");
            assert_eq!(response.headers()["retry-after"], "2");
        }
        let plain = Failure::new(Reason::NoRoute, "").response(&About::default());
        assert!(
            !plain.headers().contains_key("towpath-cause") && !plain.headers().contains_key("retry-after")
        );
    }

    #[test]
    fn any_other_caller_gets_json_that_names_everything_known() {
        let failure = Failure::new(Reason::ConnectFailed, "refused");
        let about = About { route: Some("r"), service: Some("s"), request_id: Some("id"), is_grpc: false };
        let response = failure.response(&about);
        assert_eq!(response.status(), 502);
        let Body::Full(text) = response.into_body() else { panic!("a body") };
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let expected = serde_json::json!({ "error": {
            "reason": "connect_failed", "cause": null, "message": "refused", "route": "r", "service": "s", "request_id": "id" }});
        assert_eq!(value, expected);
    }
}
