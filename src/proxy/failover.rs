//! Failover: other services take a request that the drawn one cannot take (`failover` of a route).
//!
//! # When
//! The service has no endpoints, or none that may be used; its breaker is open, or no place came free in time; no connection could be
//! made, or none before `attempt_timeout`. In all of these nothing has been processed, and the body can begin again: the next service takes this very request,
//! within the same deadline. What was sent and failed is a matter for `retry`, and stays with the service.
//!
//! # Whom
//! The drawn service, then those of `failover` in order. One that could not take a request lately is passed over
//! (`service/standing.rs`), unless nobody else can take this one either: then it is tried all the same.
//!
//! # What the caller is told
//! When nobody can, why the drawn service could not: the others only stand in for it.

use std::rc::Rc;

use super::{
    Cause, Failure, Reason,
    affinity::affinity,
    attempt::{Answer, Call},
    authorize::may_stand_in,
    exchange::Exchange,
    request_body::RequestBody,
};
use crate::{
    net::Address,
    service::{Service, Turn},
    snapshot::BackendView,
};

/// A service that may take a request.
pub(super) struct Candidate {
    /// Its position among the backends of the route.
    share: usize,
    backend: Rc<BackendView>,
    /// As in [`Call::affinity`].
    affinity: Option<u64>,
}

impl Candidate {
    fn service(&self) -> &Service {
        &self.backend.view.service
    }
}

/// Those that stand in for the backends of the request's route, in order.
fn stand_ins(call: &Call, exchange: &Exchange) -> Vec<Candidate> {
    let positions = exchange.route().map_or(0..0, |route| route.stand_ins.clone());
    let candidate = |share: usize| {
        let backend = exchange.stand_in(share).filter(|backend| may_stand_in(call, exchange, backend))?;
        let peer = call.replaceable.as_ref()?;
        let affinity = affinity(&backend.view.service.policy.balancer, &call.parts, &call.target, peer);
        Some(Candidate { share, backend, affinity })
    };
    positions.filter_map(candidate).collect()
}

/// Who asks, where others may take a request in place of the service that was drawn.
pub(super) fn replaceable(exchange: &Exchange, peer: &Address) -> Option<Address> {
    let has_stand_ins = exchange.route().is_some_and(|route| !route.stand_ins.is_empty());
    has_stand_ins.then(|| peer.clone())
}

/// Has the request answered by the service that was drawn, or by one that stands in for it.
///
/// # Errors
/// As [`Call::run`] of the service that took the request; of the drawn one, if none could.
pub(super) async fn run(call: &mut Call, exchange: &mut Exchange) -> Result<Answer, Failure> {
    let mut told = None;
    if call.replaceable.is_none() || call.backend.view.service.takes() {
        let result = call.run(exchange).await;
        match result {
            Err(failure) if call.replaceable.is_some() && cannot_take(&failure, call.sent.get()) => {
                told = Some(failure);
            }
            result => return result,
        }
    }
    // Boxed: a request that goes where it should has no room for this.
    Box::pin(in_order(call, exchange, told)).await
}

/// `told`: why the drawn service could not take it, if that was asked already.
async fn in_order(
    call: &mut Call,
    exchange: &mut Exchange,
    told: Option<Failure>,
) -> Result<Answer, Failure> {
    let Some(share) = exchange.share() else { return call.run(exchange).await };
    let drawn = Candidate { share, backend: call.backend.clone(), affinity: call.affinity };
    let stand_ins = stand_ins(call, exchange);
    let back_after = exchange.rule().map(|rule| rule.failover.back_after).unwrap_or_default();
    let mut search = Search { call, exchange, drawn: share, back_after, told: None };
    let was_asked = told.is_some();
    if let Some(failure) = told
        && let Some(result) = search.refused(&drawn, failure)
    {
        return result;
    }
    let mut passed_over = Vec::new();
    for candidate in (!was_asked).then_some(&drawn).into_iter().chain(&stand_ins) {
        match candidate.service().turn(back_after) {
            Turn::PassOver => passed_over.push(candidate),
            turn => {
                if let Some(result) = search.ask(candidate, turn).await {
                    return result;
                }
            }
        }
    }
    for candidate in passed_over {
        if let Some(result) = search.ask(candidate, Turn::PassOver).await {
            return result;
        }
    }
    search.exchange.goes_to(drawn.share, &drawn.backend);
    let mut told = search.told.expect("the drawn service is one of those that were asked");
    let others: Vec<&str> = stand_ins.iter().map(|other| &*other.service().name).collect();
    told.message.to_mut().push_str(&format!("; nor can {} take the request (failover)", others.join(", ")));
    Err(told)
}

/// A request on its way from service to service.
struct Search<'a> {
    call: &'a mut Call,
    exchange: &'a mut Exchange,
    /// The position of the drawn service.
    drawn: usize,
    back_after: std::time::Duration,
    /// Why the drawn service could not take the request.
    told: Option<Failure>,
}

impl Search<'_> {
    /// None when the service cannot take the request and another may.
    async fn ask(&mut self, candidate: &Candidate, turn: Turn) -> Option<Result<Answer, Failure>> {
        self.exchange.goes_to(candidate.share, &candidate.backend);
        self.call.backend = candidate.backend.clone();
        self.call.affinity = candidate.affinity;
        self.call.sent.set(false);
        self.call.stands_in = candidate.share != self.drawn;
        self.call.pass.look_again(&self.call.worker);
        let result = self.call.run(self.exchange).await;
        match result {
            Err(failure) if cannot_take(&failure, self.call.sent.get()) => self.refused(candidate, failure),
            result => {
                let reached = !matches!(&result, Err(failure) if failure.reason != Reason::UpstreamReset);
                if turn == Turn::Try && reached {
                    candidate.service().took();
                }
                self.count(candidate);
                Some(result)
            }
        }
    }

    fn refused(&mut self, candidate: &Candidate, failure: Failure) -> Option<Result<Answer, Failure>> {
        candidate.service().could_not_take(self.back_after, &failure.message);
        if !self.call.body.as_ref().is_none_or(RequestBody::can_begin_again) {
            return Some(Err(failure));
        }
        if candidate.share == self.drawn {
            self.told = Some(failure);
        }
        None
    }

    fn count(&self, candidate: &Candidate) {
        if candidate.share != self.drawn
            && let Some(series) = self.exchange.route().and_then(|route| route.series.as_ref())
        {
            series.failover(&candidate.service().name);
        }
    }
}

/// Whether the service cannot take the request, and nothing of it has been processed. `sent`: there was a connection.
fn cannot_take(failure: &Failure, sent: bool) -> bool {
    match failure.reason {
        // One that is shorter than `connect_timeout` has passed first.
        Reason::Timeout => failure.cause == Some(Cause::AttemptTimeout) && !sent,
        Reason::NoEndpoints | Reason::AllUnhealthy | Reason::ConnectFailed => true,
        // The node's own limits hold for every service.
        Reason::Overloaded => matches!(
            failure.cause,
            Some(
                Cause::ServiceRequests
                    | Cause::ServicePendingTimeout
                    | Cause::ServiceConnections
                    | Cause::Displaced
                    | Cause::Node
            )
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_have_been_processed_goes_to_another_service() {
        let failure = |reason, cause| Failure { cause, ..Failure::new(reason, "") };
        for (reason, cause, expected) in [
            (Reason::NoEndpoints, None, true),
            (Reason::AllUnhealthy, Some(Cause::Ejected), true),
            (Reason::ConnectFailed, None, true),
            (Reason::Overloaded, Some(Cause::ServiceRequests), true),
            (Reason::Overloaded, Some(Cause::ServicePendingTimeout), true),
            (Reason::Overloaded, Some(Cause::ServiceConnections), true),
            (Reason::Overloaded, Some(Cause::NodeRequests), false),
            (Reason::Overloaded, Some(Cause::Memory), false),
            (Reason::UpstreamReset, None, false),
            (Reason::Timeout, Some(Cause::RouteTimeout), false),
            (Reason::Timeout, Some(Cause::AttemptTimeout), false),
            (Reason::Timeout, Some(Cause::HeadTimeout), false),
            (Reason::BadRequest, None, false),
        ] {
            assert_eq!(cannot_take(&failure(reason, cause), true), expected, "{reason:?} {cause:?}");
        }
        let unsent = |cause| cannot_take(&failure(Reason::Timeout, Some(cause)), false);
        assert!(unsent(Cause::AttemptTimeout) && !unsent(Cause::RouteTimeout));
    }
}
