//! Whether a request may run now: on this node, and at its service. One for which there is no place waits for one, in the order of
//! its route's priority, or is refused before anything was done for it.

use std::{pin::pin, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{
    Cause, Failure, Reason,
    attempt::{Answer, Call},
    exchange::Exchange,
};
use crate::{
    config::Priority,
    limit::{Entry, Permit, Places, Ticket},
    service,
    telemetry::LimitSeries,
};

/// After which a caller that was refused may try again. What runs now has made room by then, as a rule.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Which limit it is about.
#[derive(Clone, Copy)]
enum Whose<'a> {
    Node,
    Service(&'a str),
}

/// A place on this node, before anything else is done.
pub(super) async fn enter_node(call: &Call, exchange: &mut Exchange) -> Result<(), Failure> {
    let worker = exchange.worker.clone();
    if worker.limits.memory.is_short() {
        let message = "this node has as much memory in use as it may (limits.memory)";
        return Err(overloaded(Cause::Memory, message.to_owned()));
    }
    let permit = match worker.gate.enter(priority(exchange), service::unix_millis) {
        Entry::Place(permit) => Ok(permit),
        entry => {
            let limit = (Whose::Node, &*worker.limits.requests, &worker.limits.series);
            Box::pin(wait(entry, limit, call)).await
        }
    };
    exchange.node_place = Some(permit?);
    Ok(())
}

/// A place at its service, before an endpoint is chosen.
pub(super) async fn enter_service(call: &Call, exchange: &mut Exchange) -> Result<(), Failure> {
    // One that it had at another service is not to be held while it waits here.
    exchange.service_place = None;
    let view = &call.backend.view;
    let permit = match view.gate.enter(priority(exchange), service::unix_millis) {
        Entry::Place(permit) => Ok(permit),
        entry => {
            let breaker = &view.service.breaker;
            let limit = (Whose::Service(&view.service.name), &*breaker.requests, &breaker.series);
            Box::pin(wait(entry, limit, call)).await
        }
    };
    exchange.service_place = Some(permit?);
    exchange.admitted = exchange.worker.gate.is_adaptive().then(Instant::now);
    Ok(())
}

fn priority(exchange: &Exchange) -> Priority {
    exchange.rule().map(|rule| rule.priority).unwrap_or_default()
}

async fn wait(
    entry: Entry,
    (whose, places, series): (Whose<'_>, &Places, &LimitSeries),
    call: &Call,
) -> Result<Permit, Failure> {
    match entry {
        Entry::Place(permit) => Ok(permit),
        Entry::Full => Err(whose.full(places)),
        Entry::Waits(ticket) => {
            let _pending = series.pending.hold();
            wait_for_place(ticket, (whose, places), call).await
        }
    }
}

async fn wait_for_place(
    ticket: Ticket,
    (whose, places): (Whose<'_>, &Places),
    call: &Call,
) -> Result<Permit, Failure> {
    let patience = places.pending_timeout();
    let longest = Instant::now() + patience;
    let until = call.deadline.map_or(longest, |deadline| deadline.min(longest));
    match timeout_at(until, call.unless_revoked(pin!(ticket))).await {
        Ok(Err(revoked)) => Err(revoked),
        Ok(Ok(Ok(permit))) => Ok(permit),
        Ok(Ok(Err(_displaced))) => Err(overloaded(
            Cause::Displaced,
            format!("{} is busy, and a request of a higher priority waits in this one's place", whose.name()),
        )),
        Err(_) if until < longest => {
            let message =
                format!("the deadline passed while the request waited for a place: {} is busy", whose.name());
            Err(Failure::new(Reason::Timeout, message).because(call.whose_deadline()))
        }
        Err(_) => Err(whose.not_in_time(patience)),
    }
}

impl Whose<'_> {
    fn name(self) -> String {
        match self {
            Self::Node => "this node".to_owned(),
            Self::Service(name) => name.to_owned(),
        }
    }

    fn full(self, places: &Places) -> Failure {
        let (limit, pending) = (places.limit(), places.pending());
        match self {
            Self::Node => overloaded(
                Cause::NodeRequests,
                format!(
                    "this node runs {limit} requests and {pending} wait (overload.max_requests, max_pending)"
                ),
            ),
            Self::Service(name) => overloaded(
                Cause::ServiceRequests,
                format!(
                    "{limit} requests of {name} run and {pending} wait (breaker.max_requests, max_pending)"
                ),
            ),
        }
    }

    fn not_in_time(self, after: Duration) -> Failure {
        match self {
            Self::Node => overloaded(
                Cause::NodePendingTimeout,
                format!("this node had no place within {after:?} (overload.pending_timeout)"),
            ),
            Self::Service(name) => overloaded(
                Cause::ServicePendingTimeout,
                format!("no request of {name} ended within {after:?} (breaker.pending_timeout)"),
            ),
        }
    }
}

/// Towpath carries as much as it may.
pub(super) fn overloaded(cause: Cause, message: String) -> Failure {
    Failure { retry_after: Some(TRY_AGAIN), ..Failure::new(Reason::Overloaded, message).because(cause) }
}

/// Tells the node's limit, if it follows latency, what came of the request.
pub(super) fn observe(exchange: &Exchange, answer: &Result<Answer, Failure>) {
    let Some(admitted) = exchange.admitted else { return };
    let took = match answer {
        Ok(answer) if answer.response.status().is_server_error() => return,
        Ok(_) => Some(admitted.elapsed()),
        Err(failure) if failure.reason == Reason::Timeout => None,
        Err(_) => return,
    };
    exchange.worker.gate.sample(took, service::millis());
}
