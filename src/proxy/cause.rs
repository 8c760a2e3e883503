//! What exactly lies behind a failure's reason: which limit, which timeout. In the log, in the metric and in the answer.

/// Which limit, timeout or policy made towpath answer itself. Each belongs to one [`Reason`](super::Reason).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The route's `timeout`.
    RouteTimeout,
    /// The route's `attempt_timeout`.
    AttemptTimeout,
    /// The caller's `grpc-timeout` or `towpath-deadline`.
    CallerDeadline,
    /// The service's `connect_timeout`.
    ConnectTimeout,
    /// The service's `head_timeout`.
    HeadTimeout,
    /// The service's `stream_idle_timeout`.
    StreamIdleTimeout,
    /// The caller's body did not come.
    RequestBodyTimeout,
    /// The caller did not take the response.
    ResponseNotTaken,
    /// Discovery has not answered within `dns.first_answer_timeout`.
    FirstAnswerTimeout,
    /// `overload.max_requests` run and `overload.max_pending` wait.
    NodeRequests,
    /// No place on the node within `overload.pending_timeout`.
    NodePendingTimeout,
    /// A request of a route with a higher priority took the place in the queue.
    Displaced,
    /// The daemon has as much memory as it may (`limits.memory`).
    Memory,
    /// The service's `breaker.max_requests` run and `max_pending` wait.
    ServiceRequests,
    /// No place at the service within its `breaker.pending_timeout`.
    ServicePendingTimeout,
    /// The service has `breaker.max_connections`.
    ServiceConnections,
    /// `host_services.max` services were made on first use.
    HostServices,
    /// The endpoints were ejected for their failures.
    Ejected,
    /// The health checks of the endpoints fail.
    HealthChecks,
    /// The towpath of the endpoint's node carries as much as it may.
    Node,
    /// The route's `fault.abort`.
    Abort,
    /// The request has no token.
    TokenMissing,
    /// The request's token has ended.
    TokenExpired,
    /// The request's token is not valid.
    TokenInvalid,
    /// The keys of the token's issuer have not been had yet.
    TokenKeys,
    /// The request's token does not say what the route wants.
    TokenClaims,
    /// The service that the route asks has said no.
    AuthorizationDenied,
    /// The service that the route asks has not answered.
    AuthorizationFailed,
}

impl Cause {
    /// As logs, metrics and answers name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::RouteTimeout => "timeout",
            Self::AttemptTimeout => "attempt_timeout",
            Self::CallerDeadline => "caller_deadline",
            Self::ConnectTimeout => "connect_timeout",
            Self::HeadTimeout => "head_timeout",
            Self::StreamIdleTimeout => "stream_idle_timeout",
            Self::RequestBodyTimeout => "request_body",
            Self::ResponseNotTaken => "response_not_taken",
            Self::FirstAnswerTimeout => "first_answer_timeout",
            Self::NodeRequests => "node_max_requests",
            Self::NodePendingTimeout => "node_pending_timeout",
            Self::Displaced => "displaced",
            Self::Memory => "memory",
            Self::ServiceRequests => "max_requests",
            Self::ServicePendingTimeout => "pending_timeout",
            Self::ServiceConnections => "max_connections",
            Self::HostServices => "host_services",
            Self::Ejected => "ejected",
            Self::HealthChecks => "health_checks",
            Self::Node => "peer",
            Self::Abort => "abort",
            Self::TokenMissing => "token_missing",
            Self::TokenExpired => "token_expired",
            Self::TokenInvalid => "token_invalid",
            Self::TokenKeys => "token_keys",
            Self::TokenClaims => "token_claims",
            Self::AuthorizationDenied => "authorization_denied",
            Self::AuthorizationFailed => "authorization_failed",
        }
    }
}
