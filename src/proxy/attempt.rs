//! Attempts: pick an endpoint, get a connection, send, classify, report.
//!
//! What is sent again, and why, is in `requeue.rs` (what nobody can have processed) and `retry.rs` (what a route's policy says);
//! a second attempt beside a slow first one in `hedge.rs`.

use std::{cell::Cell, net::SocketAddr, pin::pin, rc::Rc, time::Duration};

use http::{Response, request::Parts};
use tokio::time::{Instant, timeout_at};

use super::{
    Cause, Failure, Reason, Worker,
    admission::{enter_service, overloaded},
    authorize::REVOKED,
    caller::Pass,
    exchange::Exchange,
    headers::{Speech, address_request},
    peer,
    report::{Answered, Report, classify},
    request_body::RequestBody,
    requeue::History,
    retry::discard,
    target::Target,
};
use crate::{
    config::Protocol,
    http::{Body, Interim},
    net::Address,
    service::{Ailment, Choice, Picked, Wish},
    snapshot::BackendView,
    telemetry::AttemptOutcome,
    upstream::{CallerFault, ConnectError, Lease, Outgoing, SendError, Sent, ToNode, Version, Want},
};

/// An endpoint that does not answer `Expect: 100-continue` gets the body after this (RFC 9110 10.1.1 wants a bound).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// A response, and what it comes from.
pub(super) struct Answer {
    pub(super) response: Response<Body>,
    pub(super) lease: Lease,
    pub(super) answered: Answered,
}

/// A request that is ready to be sent to any endpoint of its service.
pub(super) struct Call {
    pub(super) worker: Rc<Worker>,
    pub(super) backend: Rc<BackendView>,
    pub(super) parts: Parts,
    pub(super) target: Target,
    /// None when the request has no content.
    pub(super) body: Option<RequestBody>,
    /// The caller waits for `100 Continue`.
    pub(super) expects_continue: bool,
    /// Of the whole request.
    pub(super) deadline: Option<Instant>,
    /// The deadline is how long the caller waits, not what the route allows: it says nothing of the endpoint.
    pub(super) deadline_is_callers: bool,
    pub(super) attempt_timeout: Option<Duration>,
    /// How long a service may take to know its endpoints.
    pub(super) first_answer_timeout: Duration,
    /// The hash of what decides its endpoint, if anything does.
    pub(super) affinity: Option<u64>,
    /// Who asks.
    pub(super) pass: Pass,
    /// Where it comes from, where others may take it in place of `backend`.
    pub(super) replaceable: Option<Address>,
    /// The endpoint that another node has chosen for it.
    pub(super) pin: Option<SocketAddr>,
    /// A connection was there to send it on.
    pub(super) sent: Cell<bool>,
    /// Its service stands in for the one that was drawn.
    pub(super) stands_in: bool,
    pub(super) interim: Interim,
}

/// What came of an attempt.
pub(super) type Outcome = Result<(Response<Body>, Lease), AttemptError>;

pub(super) enum AttemptError {
    Connect(ConnectError),
    Send(SendError),
    /// The towpath of the endpoint's node carries as much as it may, for this reason.
    Busy(String),
    Timeout(Limit),
}

/// Which limit an attempt has met.
#[derive(Clone, Copy)]
pub(super) enum Limit {
    Attempt,
    Route,
    Caller,
    Head,
    /// Nothing has moved, and it is not for the caller to go on.
    Idle,
    /// Nothing has moved, because the caller does not send its body.
    CallerIdle,
    /// A reload has forbidden it.
    Revoked,
}

/// What sets an attempt apart from the others of its call.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) speech: Speech,
    /// The request's head, written for that.
    pub(super) parts: &'a Parts,
    /// Only over a new connection.
    pub(super) fresh: bool,
    /// It runs beside another, which reads the body.
    pub(super) beside: bool,
    /// Where its interim answers go.
    pub(super) interim: &'a Interim,
}

impl Limit {
    /// Whether the whole request has no more time.
    pub(super) fn is_final(self) -> bool {
        matches!(self, Self::Route | Self::Caller | Self::CallerIdle | Self::Revoked)
    }

    fn cause(self) -> Cause {
        match self {
            Self::Attempt => Cause::AttemptTimeout,
            Self::Route => Cause::RouteTimeout,
            Self::Caller => Cause::CallerDeadline,
            Self::Head => Cause::HeadTimeout,
            Self::Idle | Self::CallerIdle | Self::Revoked => Cause::StreamIdleTimeout,
        }
    }
}

impl Call {
    /// Sends the request until there is a response, or a failure that stays.
    pub(super) async fn run(&mut self, exchange: &mut Exchange) -> Result<Answer, Failure> {
        enter_service(self, exchange).await?;
        exchange.reach(|phases| &mut phases.admitted);
        self.backend.view.count_request();
        let mut history = History::default();
        history.why = self.stands_in.then_some("failover");
        loop {
            let picked = self.pick(&history).await?;
            let speech = self.speech(&picked, exchange.is_grpc)?;
            address_request(&mut self.parts, &self.target, speech);
            let entry = exchange.attempt(&self.backend, &picked, history.why, Some(&mut self.parts.headers));
            let mut report = Report::begin(&self.backend, picked, entry);
            let (fresh, interim) = (history.fresh, &self.interim);
            let way = Way { speech, parts: &self.parts, fresh, beside: false, interim };
            let begun = report.begun();
            let outcome = if self.may_hedge(exchange, &history) {
                Box::pin(self.hedged(&mut report, way, exchange, &mut history)).await
            } else {
                self.attempt(&mut report, way).await
            };
            exchange.waited.set(exchange.waited.get() + begun.elapsed());
            history.avoid.extend(report.lost());
            let Some(wait) = self.again(&outcome, report.picked(), exchange, &mut history) else {
                return self.settle(outcome, report, exchange.is_grpc);
            };
            drop(report.end(counted(&outcome, exchange.is_grpc)));
            if let Some(body) = &self.body {
                body.recall();
            }
            discard(outcome);
            if !wait.is_zero() {
                Box::pin(tokio::time::sleep(wait)).await;
            }
        }
    }

    /// What the last attempt has come to is what the caller gets.
    fn settle(&self, outcome: Outcome, report: Report<'_>, is_grpc: bool) -> Result<Answer, Failure> {
        if let Some(entry) = report.entry() {
            entry.decides();
        }
        match outcome {
            Ok((response, lease)) => {
                if let Some(body) = &self.body {
                    body.settle();
                }
                let answered = report.answered(self.judge(&response, is_grpc));
                Ok(Answer { response, lease, answered })
            }
            Err(error) => {
                let picked = report.end(error.outcome());
                Err(self.failure(error, &picked))
            }
        }
    }

    /// What an attempt on this endpoint is written for. Nodes speak HTTP/2 with each other, whatever their endpoints do.
    pub(super) fn speech(&self, picked: &Picked, is_grpc: bool) -> Result<Speech, Failure> {
        let is_through = self.through(picked).is_some();
        let version = match self.backend.view.service.policy.protocol {
            _ if is_through => Version::Http2,
            Protocol::Http2 => Version::Http2,
            Protocol::Auto if is_grpc => Version::Http2,
            Protocol::Http1 | Protocol::Auto => Version::Http1,
        };
        if version == Version::Http2 && self.target.host().is_empty() {
            let message = "the request names no host, which HTTP/2 endpoints need";
            return Err(Failure::new(Reason::BadRequest, message));
        }
        Ok(Speech { version, secure: is_through || picked.target.secure.is_some() })
    }

    /// An endpoint; the first request of a service waits for discovery's first answer.
    pub(super) async fn pick(&self, history: &History) -> Result<Picked, Failure> {
        let view = &self.backend.view;
        let wish = Wish { avoid: &history.avoid, affinity: self.affinity, unreachable: history.unreachable };
        let mut waited = false;
        loop {
            let choice = match self.pin {
                None => view.pick(&wish, || self.worker.random()),
                Some(endpoint) => self.pick_pinned(endpoint),
            };
            match choice {
                Choice::Picked(picked) => return Ok(picked),
                Choice::Nothing(message) => return Err(Failure::new(Reason::NoEndpoints, message)),
                Choice::Unhealthy(ailment, message) => {
                    return Err(Failure::new(Reason::AllUnhealthy, message).because(cause_of(ailment)));
                }
                Choice::Waiting if waited => {
                    let (name, wait) = (&view.service.name, self.first_answer_timeout);
                    let message =
                        format!("{name} has no endpoints: discovery has not answered within {wait:?}");
                    return Err(Failure::new(Reason::NoEndpoints, message).because(Cause::FirstAnswerTimeout));
                }
                Choice::Waiting => {
                    let limit = Instant::now() + self.first_answer_timeout;
                    let until = self.deadline.map_or(limit, |deadline| deadline.min(limit));
                    // Whether it answered or not shows in the next pick.
                    let _ = timeout_at(until, view.service.first_answer()).await;
                    if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                        return Err(Failure::new(
                            Reason::Timeout,
                            "the deadline passed before discovery answered",
                        )
                        .because(self.whose_deadline()));
                    }
                    waited = true;
                }
            }
        }
    }

    /// One attempt, within its deadline.
    pub(super) async fn attempt(&self, report: &mut Report<'_>, way: Way<'_>) -> Outcome {
        let own = self.attempt_timeout.map(|timeout| Instant::now() + timeout);
        let of_request = if self.deadline_is_callers { Limit::Caller } else { Limit::Route };
        let (until, limit) = match (own, self.deadline) {
            (Some(own), Some(whole)) if whole <= own => (whole, of_request),
            (Some(own), _) => (own, Limit::Attempt),
            (None, Some(whole)) => (whole, of_request),
            (None, None) => return self.exchange(report, way).await,
        };
        match timeout_at(until, self.exchange(report, way)).await {
            Ok(result) => result,
            Err(_) => Err(AttemptError::Timeout(limit)),
        }
    }

    async fn exchange(&self, report: &mut Report<'_>, way: Way<'_>) -> Outcome {
        let want = Want {
            version: way.speech.version,
            fresh: way.fresh,
            certain: !self.parts.method.is_idempotent() || self.body.is_some(),
            even_retired: false,
        };
        let mut lease = self.connect(report, want, way.speech).await.map_err(AttemptError::Connect)?;
        if self.is_revoked() {
            return Err(AttemptError::Timeout(Limit::Revoked));
        }
        if let Some(entry) = report.entry() {
            entry.sent();
        }
        let response = self.send(&mut lease, way, report.picked()).await?;
        match self.through(report.picked()) {
            None => Ok((response, lease)),
            Some(_) => self.heard(response, lease),
        }
        .inspect(|(response, _)| {
            if let Some(entry) = report.entry() {
                entry.head(response.status());
            }
        })
    }

    async fn send(
        &self,
        lease: &mut Lease,
        way: Way<'_>,
        picked: &Picked,
    ) -> Result<Response<Body>, AttemptError> {
        let mut sending = pin!(lease.send(self.request(way, picked), way.interim));
        let Some(body) = self.body.as_ref().filter(|_| self.expects_continue) else {
            return self.head(sending).await;
        };
        tokio::select! {
            biased;
            result = &mut sending => return result.map_err(AttemptError::Send),
            () = self.interim.continued() => {}
            () = tokio::time::sleep(self.continue_wait()) => {}
        }
        body.open();
        self.head(sending).await
    }

    /// A caller that waits must not be made to miss its own deadline.
    fn continue_wait(&self) -> Duration {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let shortest = [left, self.attempt_timeout].into_iter().flatten().min();
        shortest.map_or(CONTINUE_WAIT, |shortest| CONTINUE_WAIT.min(shortest / 2))
    }

    /// The request for the next attempt.
    fn request<'r>(&'r self, way: Way<'r>, picked: &'r Picked) -> Outgoing<'r> {
        self.sent.set(true);
        Outgoing {
            parts: way.parts,
            body: match &self.body {
                Some(body) if way.beside => body.copy(),
                Some(body) => body.begin(),
                None => Body::Empty,
            },
            left: self.time_left(),
            node: self.through(picked).map(|through| ToNode {
                service: &through.service,
                endpoint: &through.endpoint,
                caller: &self.pass.named.name,
            }),
        }
    }

    /// What is told of an attempt that stays the last. That its endpoint was used in spite of its failures belongs to it.
    pub(super) fn failure(&self, error: AttemptError, picked: &Picked) -> Failure {
        let service = &self.backend.view.service;
        let mut failure = error.failure(&service.name, picked);
        let set = service.endpoints();
        if set.is_panicking(&service.policy) && !failure.caller_gone {
            let (usable, all) = (set.usable(), set.endpoints.len());
            failure.message.to_mut().push_str(&format!(
                "; {usable} of {all} endpoints are healthy, so all are used (panic_percent)"
            ));
        }
        failure
    }
}

/// What an attempt counts as.
pub(super) fn counted(outcome: &Outcome, is_grpc: bool) -> AttemptOutcome {
    match outcome {
        Ok((response, _)) => classify(response, is_grpc),
        Err(error) => error.outcome(),
    }
}

fn cause_of(ailment: Ailment) -> Cause {
    match ailment {
        Ailment::Ejected => Cause::Ejected,
        Ailment::Unwell => Cause::HealthChecks,
    }
}

impl AttemptError {
    fn outcome(&self) -> AttemptOutcome {
        match self {
            Self::Connect(error) if !error.is_of_endpoint() => AttemptOutcome::Cancelled,
            Self::Timeout(Limit::Caller | Limit::CallerIdle | Limit::Revoked) => AttemptOutcome::Cancelled,
            Self::Connect(_) => AttemptOutcome::ConnectFailed,
            Self::Busy(_) => AttemptOutcome::Overloaded,
            Self::Send(SendError { caller: Some(_), .. }) => AttemptOutcome::Cancelled,
            Self::Send(SendError { reused: true, sent: Sent::Nothing | Sent::Maybe, .. }) => {
                AttemptOutcome::Closed
            }
            Self::Send(_) => AttemptOutcome::Reset,
            Self::Timeout(_) => AttemptOutcome::Timeout,
        }
    }

    fn failure(self, service: &str, picked: &Picked) -> Failure {
        let endpoint = &picked.address;
        match self {
            Self::Connect(error @ ConnectError::Full { .. }) => {
                let message = format!("endpoint {endpoint} of {service}: {error}");
                overloaded(Cause::ServiceConnections, message)
            }
            Self::Connect(error) => {
                let message = format!("cannot connect to endpoint {endpoint} of {service}: {error}");
                let cause = matches!(error, ConnectError::Timeout(_)).then_some(Cause::ConnectTimeout);
                Failure { cause, ..Failure::new(Reason::ConnectFailed, message) }
            }
            Self::Busy(why) => peer::busy(service, picked, &why),
            Self::Timeout(Limit::CallerIdle) => Failure::new(
                Reason::Timeout,
                "the request's body has stood still for too long (stream_idle_timeout)",
            )
            .because(Cause::StreamIdleTimeout),
            Self::Timeout(Limit::Revoked) => Failure::new(Reason::Denied, REVOKED),
            Self::Timeout(limit) => Failure::new(
                Reason::Timeout,
                format!(
                    "endpoint {endpoint} of {service} has not answered in time ({})",
                    limit.cause().name()
                ),
            )
            .because(limit.cause()),
            Self::Send(SendError { caller: Some(CallerFault::Malformed(what)), .. }) => {
                Failure::new(Reason::BadRequest, format!("malformed body: {what}"))
            }
            Self::Send(SendError { caller: Some(CallerFault::Timeout), .. }) => {
                Failure::new(Reason::Timeout, "the request's body did not arrive in time")
                    .because(Cause::RequestBodyTimeout)
            }
            Self::Send(SendError { caller: Some(CallerFault::Gone), .. }) => Failure::caller_gone(),
            Self::Send(error) => Failure::new(
                Reason::UpstreamReset,
                format!("endpoint {endpoint} of {service} broke off before a response: {}", error.message),
            ),
        }
    }
}
