//! From node to node: what one towpath tells another of a request, and what it makes of the other's answers.
//!
//! # What is told
//! The request is the caller's, with three fields more: `towpath-service`, `towpath-endpoint` and `towpath-caller`. They count on
//! incoming listeners from a caller whose certificate is that of a node; from anybody else they are removed, and no endpoint ever
//! sees them. A request with an endpoint goes to just that one, past the routes: the sender has chosen already, and answers for
//! retries, health and failover. It has to be an endpoint that this node's own configuration has for the service, and one on this
//! node: nodes are no open proxies to each other.
//!
//! # What is answered
//! An answer that the other towpath made itself carries `towpath-peer-error`, which no endpoint can forge: it is removed from
//! theirs. So the sender knows a connection that could not be made there from a 502 of the endpoint, and treats it as its own.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Response};

use super::{
    Cause, Failure, Reason,
    admission::overloaded,
    attempt::{AttemptError, Call, Limit, Outcome},
    exchange::{Caller, Exchange},
    retry::discard,
};
use crate::{
    config::ListenerKind,
    http::{Body, grpc},
    service::{Choice, Picked, Through},
    upstream::{ConnectError, ENDPOINT, Lease, SERVICE, SendError, Sent},
};

/// On an answer that a towpath made for another: the reason, then why.
static PEER_ERROR: HeaderName = HeaderName::from_static("towpath-peer-error");

/// The one endpoint that a request is for.
pub(super) struct Pin {
    service: HeaderValue,
    endpoint: HeaderValue,
}

/// The endpoint that a node has chosen for its request. The fields that say so are removed, whoever has sent them; on whose behalf a
/// node asks is for `caller.rs`.
pub(super) fn take(headers: &mut HeaderMap, caller: &Caller) -> Option<Pin> {
    // Most requests have none of these. One pass over the few names they have is cheaper than a look-up for each of ours.
    if !headers.keys().any(|name| name == SERVICE || name == ENDPOINT) {
        return None;
    }
    let [service, endpoint] = [&SERVICE, &ENDPOINT].map(|name| headers.remove(name));
    if !caller.identity.is_node || caller.door.kind != ListenerKind::Incoming {
        return None;
    }
    service.zip(endpoint).map(|(service, endpoint)| Pin { service, endpoint })
}

impl Pin {
    /// The listener, the route that stands for all such requests to the service, and the endpoint.
    pub(super) fn route(&self, exchange: &Exchange) -> Result<(usize, usize, SocketAddr), Failure> {
        let Some(listener) = exchange.listener else {
            return Err(Failure::new(Reason::Draining, "this listener has been removed"));
        };
        let endpoint = self.endpoint.to_str().ok().and_then(|text| text.parse().ok());
        let endpoint = endpoint
            .ok_or_else(|| Failure::new(Reason::BadRequest, "towpath-endpoint is no address and port"))?;
        let snapshot = &exchange.view.snapshot;
        let route = self.service.to_str().ok().and_then(|service| snapshot.peer_route(service));
        let route = route.ok_or_else(|| {
            let (service, node) = (self.service.to_str().unwrap_or("?"), &snapshot.config.node.name);
            Failure::new(Reason::NoEndpoints, format!("node {node} has no service {service}"))
        })?;
        Ok((listener, route, endpoint))
    }
}

impl Exchange {
    /// Says on an answer of this node's own that it is no endpoint's, if another node asked.
    pub(super) fn own_up(&self, headers: &mut HeaderMap, failure: &Failure) {
        if self.is_pinned {
            let text = format!("{} {}", failure.reason.name(), failure.message);
            headers.insert(&PEER_ERROR, grpc::message(&text));
        }
    }
}

impl Call {
    /// Through which towpath an attempt goes; none: straight to its endpoint.
    pub(super) fn through<'p>(&self, picked: &'p Picked) -> Option<&'p Through> {
        if self.pin.is_some() { None } else { picked.through.as_ref() }
    }

    /// The endpoint that another node has chosen.
    pub(super) fn pick_pinned(&self, endpoint: SocketAddr) -> Choice {
        self.backend.view.pick_pinned(endpoint)
    }

    /// What comes of an answer that came through another towpath.
    pub(super) fn heard(&self, mut response: Response<Body>, lease: Lease) -> Outcome {
        let Some(error) = response.headers_mut().remove(&PEER_ERROR) else { return Ok((response, lease)) };
        let text = error.to_str().unwrap_or_default();
        let (reason, why) = text.split_once(' ').unwrap_or((text, ""));
        match self.as_own(reason, why, response.headers()) {
            None => Ok((response, lease)),
            Some(error) => {
                discard(Ok((response, lease)));
                Err(error)
            }
        }
    }

    /// What another towpath's failure is to this one; none: it is for the caller as it is.
    fn as_own(&self, reason: &str, why: &str, fields: &HeaderMap) -> Option<AttemptError> {
        let is = |of: Reason| of.name() == reason;
        if is(Reason::ConnectFailed) || is(Reason::NoEndpoints) || is(Reason::Draining) {
            return Some(AttemptError::Connect(ConnectError::Node(why.to_owned())));
        }
        if is(Reason::Overloaded) {
            return Some(AttemptError::Busy(why.to_owned()));
        }
        if is(Reason::UpstreamReset) {
            let (sent, message) = (Sent::Some, format!("its node says: {why}"));
            return Some(AttemptError::Send(SendError { sent, reused: false, caller: None, message }));
        }
        is(Reason::Timeout).then(|| AttemptError::Timeout(self.limit(fields)))
    }

    /// Whose time was over on the other node. Its deadline is what it was told by this one.
    fn limit(&self, fields: &HeaderMap) -> Limit {
        let cause = fields.get("towpath-cause").and_then(|cause| cause.to_str().ok());
        match cause {
            Some(cause) if cause == Cause::StreamIdleTimeout.name() => Limit::Idle,
            Some(cause) if cause == Cause::CallerDeadline.name() && self.deadline_is_callers => Limit::Caller,
            Some(cause) if cause == Cause::CallerDeadline.name() => Limit::Route,
            _ => Limit::Head,
        }
    }
}

/// Why the towpath of an endpoint's node did not take a request.
pub(super) fn busy(service: &str, picked: &Picked, why: &str) -> Failure {
    let message = format!("the node of endpoint {} of {service} is busy: {why}", picked.address);
    overloaded(Cause::Node, message)
}
