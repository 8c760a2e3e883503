//! Requeues: what nobody can have processed is sent again at once, whatever the route says, so that no caller can tell.
//!
//! # What that is
//! No connection could be made, and the service has another endpoint. The connection was closed before the request was sent, a
//! GOAWAY excludes it, or its stream was refused (RFC 9113 8.7). For an idempotent method also: a connection that was used before
//! ended without a byte of response (RFC 9110 9.2.2); that is an idle connection which its endpoint closed at the same moment.
//!
//! # How often
//! [`MOST`] times, and as often again after each retry of `retry.rs`; each costs the service's requeue budget one attempt. Two kinds are
//! free and do not count: the first connection of a request that turns out closed, because the race of an idle close must not reach any caller, however
//! often it is lost, and it says nothing against the endpoint; and an endpoint that discovery has removed, which has been sent nothing.

use std::{net::SocketAddr, time::Duration};

use super::{
    attempt::{AttemptError, Call, Outcome},
    exchange::Exchange,
    request_body::RequestBody,
    retry::Denied,
};
use crate::{
    service::{Picked, Spend},
    upstream::{ConnectError, SendError, Sent},
};

/// Requeues of one attempt at most.
const MOST: u32 = 2;

/// What is known from the attempts so far.
#[derive(Default)]
pub(super) struct History {
    /// Endpoints that have failed.
    pub(super) avoid: Vec<u64>,
    /// The last that could not be connected to.
    pub(super) unreachable: Option<SocketAddr>,
    /// A reused connection has failed.
    pub(super) fresh: bool,
    /// It has been sent again for nothing because of a closed connection.
    excused: bool,
    /// Requeues since the last retry.
    pub(super) requeues: u32,
    /// Retries and hedges.
    pub(super) further: u32,
    /// There has been a second attempt beside another.
    pub(super) hedged: bool,
    /// What makes the next attempt necessary.
    pub(super) why: Option<&'static str>,
    /// Before the last retry.
    pub(super) backoff: Option<Duration>,
}

/// Why a request is sent again.
struct Requeue {
    reason: &'static str,
    /// It costs no budget.
    free: bool,
}

/// Who was asked has no room for it.
const REFUSED: Requeue = Requeue { reason: "unprocessed", free: false };

impl Call {
    /// Whether the request is sent again, and after which wait. Counts what is decided.
    pub(super) fn again(
        &self,
        outcome: &Outcome,
        picked: &Picked,
        exchange: &Exchange,
        history: &mut History,
    ) -> Option<Duration> {
        if matches!(outcome, Err(AttemptError::Connect(ConnectError::Full { .. }))) {
            // It has waited as long as it may, and more attempts do not make more connections: no policy sends it again.
            return None;
        }
        let policy = exchange.persistent_rule().and_then(|rule| rule.retry.as_ref());
        let series = &self.backend.view.service.series;
        let mut denied = None;
        if let Err(error) = outcome {
            match self.requeue(error, picked, history) {
                Ok(reason) => {
                    series.retry(reason);
                    history.why = Some(reason);
                    return Some(Duration::ZERO);
                }
                Err(why) => denied = why,
            }
        }
        if let Some(policy) = policy {
            match self.retry(policy, (outcome, exchange.is_grpc), picked, history) {
                Ok((class, wait)) => {
                    series.retry(class.name());
                    history.why = Some(class.name());
                    return Some(wait);
                }
                Err(why) => denied = why.or(denied),
            }
        }
        if let Some(denied) = denied {
            series.retry_denied(denied.name());
        }
        None
    }

    /// Whether the request is sent again at once, and the reason that counts it; or what alone is against it.
    fn requeue(
        &self,
        error: &AttemptError,
        picked: &Picked,
        history: &mut History,
    ) -> Result<&'static str, Option<Denied>> {
        self.note(error, picked, history);
        let requeue = self.unprocessed(error, history).ok_or(None)?;
        if !self.can_begin_again() {
            return Err(Some(Denied::Body));
        }
        if matches!(error, AttemptError::Connect(ConnectError::Removed)) {
            // However often it happens: each time discovery has published another set.
            return Ok(requeue.reason);
        }
        if requeue.free {
            history.excused = true;
            return Ok(requeue.reason);
        }
        if history.requeues == MOST {
            return Err(Some(Denied::Attempts));
        }
        if !self.backend.view.spend(Spend::Requeue) {
            return Err(Some(Denied::Budget));
        }
        history.requeues += 1;
        Ok(requeue.reason)
    }

    /// Remembers what the next attempt is to keep away from.
    fn note(&self, error: &AttemptError, picked: &Picked, history: &mut History) {
        match error {
            AttemptError::Connect(error) => {
                history.avoid.push(picked.target.id);
                let removed = matches!(error, ConnectError::Removed);
                history.unreachable = (!removed).then_some(picked.target.address);
            }
            AttemptError::Send(SendError {
                caller: None,
                reused: true,
                sent: Sent::Nothing | Sent::Maybe,
                ..
            }) if self.parts.version == http::Version::HTTP_11 => {
                history.fresh = true;
            }
            // An HTTP/2 connection that has ended is not chosen again; an endpoint that refuses streams is not helped by
            // more connections, but another may take the request.
            AttemptError::Send(_) | AttemptError::Busy(_) | AttemptError::Timeout(_) => {
                history.avoid.push(picked.target.id)
            }
        }
    }

    fn unprocessed(&self, error: &AttemptError, history: &History) -> Option<Requeue> {
        match error {
            // It has waited as long as it may.
            AttemptError::Connect(ConnectError::Full { .. }) => None,
            AttemptError::Connect(error) => {
                let another = self.has_another(history);
                let removed = matches!(error, ConnectError::Removed);
                let reason = if removed { "endpoint_removed" } else { "connect_failed" };
                another.then_some(Requeue { reason, free: false })
            }
            AttemptError::Send(SendError { caller: Some(_), .. }) | AttemptError::Timeout(_) => None,
            AttemptError::Busy(_) => self.has_another(history).then_some(REFUSED),
            AttemptError::Send(error) => {
                let free = error.reused && !history.excused;
                match error.sent {
                    Sent::Nothing => Some(Requeue { reason: "unprocessed", free }),
                    Sent::Refused => Some(REFUSED),
                    Sent::Maybe if self.parts.method.is_idempotent() => {
                        Some(Requeue { reason: "closed_when_reused", free })
                    }
                    Sent::Maybe | Sent::Some => None,
                }
            }
        }
    }

    fn has_another(&self, history: &History) -> bool {
        let service = &self.backend.view.service;
        // What another node has chosen is its own matter.
        self.pin.is_none() && service.endpoints().has_another(&history.avoid, &service.policy)
    }

    /// Whether another attempt can have the whole request.
    pub(super) fn can_begin_again(&self) -> bool {
        self.body.as_ref().is_none_or(RequestBody::can_begin_again)
    }
}
