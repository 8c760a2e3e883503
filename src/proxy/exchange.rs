//! The record of one request: made when it arrives, written when it is over, however that comes.
//!
//! It travels with the response's body, so "over" is when the last byte has been handed on, when the caller goes away,
//! or when the task is dropped. Counts that were raised fall in `Drop`.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Request, Response, Version};
use tokio::time::Instant;

use super::{
    Cause, Failure, Reason, ResponseBody, Worker,
    account::{Account, Entry},
    attempt::Answer,
    caller::{Named, Pass, Person},
    debug,
    failure::About,
    headers,
    request_body::RequestBody,
    target::Target,
};
use crate::{
    auth::Identity,
    config::{self, DefaultPolicy},
    http::{Body, grpc},
    limit::{CallerConnection, CallerRequest, Permit},
    net::{Address, SharedStream},
    service::Picked,
    snapshot::{Backend, BackendView, Door, Refused, Route, Rules, View},
    telemetry::{AttemptNote, CALLER_GONE, NO_ANSWER, Phases, Record},
};

/// Where a connection's requests come from.
pub struct Caller {
    /// The listener.
    pub door: Arc<Door>,
    /// The other end.
    pub peer: Address,
    /// Who that is.
    pub identity: Rc<Identity>,
    pub(super) person: Rc<Person>,
    /// The last view that has the listener. The worker keeps it for a while after a reload has removed the listener, so
    /// that requests which are on their way are served; an idle connection keeps nothing alive.
    view: RefCell<Option<(Weak<View>, usize)>>,
}

impl Caller {
    /// The caller at `peer`, who came through `door` and is `identity`.
    pub fn new(
        door: Arc<Door>,
        peer: Address,
        identity: Rc<Identity>,
        place: Option<CallerConnection>,
    ) -> Self {
        let person = Rc::new(Person::new(&door, &identity, place));
        Self { door, peer, identity, person, view: RefCell::new(None) }
    }

    /// The stream over which it came, by which the kernel can be asked who it is.
    pub fn attach(&self, stream: &SharedStream) {
        self.person.attach(stream.loose());
    }

    /// What it is called now.
    pub fn named(&self, worker: &Worker, rules: &Arc<Rules>) -> Rc<Named> {
        self.person.named(rules, worker)
    }

    /// The view that this caller's next request is served by, and the listener's index in it.
    fn view(&self, worker: &Worker) -> (Rc<View>, Option<usize>) {
        let now = worker.view();
        let mut last = self.view.borrow_mut();
        if let Some((view, listener)) = &*last
            && std::ptr::eq(view.as_ptr(), Rc::as_ptr(&now))
        {
            return (now, Some(*listener));
        }
        if let Some(listener) = now.snapshot.listener(&self.door.name) {
            *last = Some((Rc::downgrade(&now), listener));
            return (now, Some(listener));
        }
        let kept = last.as_ref().and_then(|(view, listener)| Some((view.upgrade()?, Some(*listener))));
        kept.unwrap_or((now, None))
    }
}

/// One request and what becomes of it.
pub(super) struct Exchange {
    pub(super) worker: Rc<Worker>,
    pub(super) view: Rc<View>,
    pub(super) started: Instant,
    pub(super) is_grpc: bool,
    /// The caller named the whole URI, as it does to a proxy.
    is_proxy: bool,
    /// None when the listener is not in the snapshot, and never was while this connection looked.
    pub(super) listener: Option<usize>,
    route: Option<usize>,
    /// The service, and the listener, route and backend by which it was found.
    backend: Option<((usize, usize, usize), Rc<BackendView>)>,
    /// Another node has chosen its endpoint.
    pub(super) is_pinned: bool,
    /// Who asks.
    pub(super) pass: Pass,
    /// The policy, and its rule, that denied it or would have.
    pub(super) policy: Option<Box<str>>,
    pub(super) attempts: Cell<u32>,
    /// How long endpoints have had it, up to the head of a response.
    pub(super) waited: Cell<Duration>,
    pub(super) request_id: Option<HeaderValue>,
    pub(super) body: Option<RequestBody>,
    status: u16,
    reason: Option<Reason>,
    cause: Option<Cause>,
    /// What its token says, which was verified.
    pub(super) claims: Option<Rc<serde_json::Value>>,
    /// What was done to it on purpose.
    pub(super) fault: Option<&'static str>,
    /// Its place on this node, and the one at its service, until it is over.
    pub(super) node_place: Option<Permit>,
    pub(super) service_place: Option<Permit>,
    /// Its place among those of its caller, where they are limited.
    pub(super) caller_place: Option<CallerRequest>,
    /// Since when it has both; only where the node's limit follows latency.
    pub(super) admitted: Option<Instant>,
    bytes_out: u64,
    /// The response has reached its end.
    complete: bool,
    /// Only when somebody wants to know of requests.
    pub(super) account: Option<Rc<Account>>,
}

impl Exchange {
    /// The record of `request`.
    pub(super) fn begin(worker: &Rc<Worker>, caller: &Caller, request: &Request<Body>) -> Self {
        let (view, listener) = caller.view(worker);
        let pass = Pass::new(&caller.person, worker, &view.snapshot.rules, request.headers());
        let started = Instant::now();
        let account = view.snapshot.observers.any().then(|| Account::of(caller, request, started.into_std()));
        Self {
            worker: worker.clone(),
            view,
            started,
            is_grpc: grpc::is_grpc(request.headers()),
            is_proxy: request.version() != Version::HTTP_2 && request.uri().authority().is_some(),
            listener,
            route: None,
            backend: None,
            is_pinned: false,
            pass,
            policy: None,
            attempts: Cell::new(0),
            waited: Cell::default(),
            request_id: None,
            body: None,
            status: 0,
            reason: None,
            cause: None,
            claims: None,
            fault: None,
            node_place: None,
            service_place: None,
            caller_place: None,
            admitted: None,
            bytes_out: 0,
            complete: false,
            account,
        }
    }

    /// Notes which rule matched, and chooses one of its backends.
    pub(super) fn enter(
        &mut self,
        listener: usize,
        route: usize,
        target: &Target,
    ) -> Result<Rc<BackendView>, Failure> {
        self.route = Some(route);
        let rule = &self.view.snapshot.routes[route];
        let share = rule.split.choose(self.worker.random());
        if target.host().is_empty() && matches!(rule.backends[share], Backend::PerHost(_)) {
            return Err(Failure::new(
                Reason::BadRequest,
                "the request names no host, and its route goes by host",
            ));
        }
        let backend = self.view.backend((listener, route, share), target.host(), target.port);
        let backend = backend.map_err(no_host_service)?;
        backend.view.service.series.in_flight.inc();
        self.backend = Some(((listener, route, share), backend.clone()));
        Ok(backend)
    }

    /// The service that stands in at this position of its route's backends.
    pub(super) fn stand_in(&self, share: usize) -> Option<Rc<BackendView>> {
        let ((listener, route, _), _) = self.backend.as_ref()?;
        // It has a name of its own: no host is needed to find it.
        self.view.backend((*listener, *route, share), "", None).ok()
    }

    /// The position of its backend among those of its route.
    pub(super) fn share(&self) -> Option<usize> {
        self.backend.as_ref().map(|((_, _, share), _)| *share)
    }

    /// Notes that another backend of its route gets the request.
    pub(super) fn goes_to(&mut self, share: usize, backend: &Rc<BackendView>) {
        let Some(((_, _, now), of)) = self.backend.as_mut().filter(|((_, _, now), _)| *now != share) else {
            return;
        };
        backend.view.service.series.in_flight.inc();
        of.view.service.series.in_flight.dec();
        (*now, *of) = (share, backend.clone());
    }

    /// Notes that an attempt begins, for this reason where it is not the first. Its endpoint is told of the trace in `headers`.
    pub(super) fn attempt(
        &self,
        backend: &BackendView,
        picked: &Picked,
        why: Option<&'static str>,
        headers: Option<&mut HeaderMap>,
    ) -> Option<Entry> {
        self.attempts.set(self.attempts.get() + 1);
        let account = self.account.as_ref()?;
        let mut span = 0;
        if let (Some(trace), Some(tracer), Some(headers)) =
            (account.trace.get(), &self.view.snapshot.observers.tracer, headers)
        {
            span = self.worker.random().max(1);
            trace.write(headers, span, tracer.wanted().propagate);
        }
        Some(account.begin(&backend.view.service.name, picked, (why, span)))
    }

    /// Tells whom towpath itself asks about the request, of its trace.
    pub(super) fn tell_trace(&self, headers: &mut HeaderMap) {
        let trace = self.account.as_ref().and_then(|account| account.trace.get());
        if let Some((trace, tracer)) = trace.zip(self.view.snapshot.observers.tracer.as_ref()) {
            trace.write(headers, trace.span, tracer.wanted().propagate);
        }
    }

    /// Notes that it has come so far now.
    pub(super) fn reach(&self, phase: impl FnOnce(&mut Phases) -> &mut Option<Duration>) {
        if let Some(account) = &self.account {
            account.reach(phase);
        }
    }

    /// Whether each attempt tells its endpoint of a span of its own.
    pub(super) fn is_traced(&self) -> bool {
        self.account.is_some() && self.view.snapshot.observers.tracer.is_some()
    }

    /// Notes that the response has reached its end.
    pub(super) fn complete(&mut self) {
        self.complete = true;
        if let Some(body) = &self.body {
            body.wind_up();
        }
    }

    /// Counts content that goes to the caller.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.bytes_out += bytes as u64;
    }

    /// Notes that the response broke off after it had begun.
    pub(super) fn broke_off(&mut self, reason: Reason, cause: Option<Cause>) {
        self.fail(reason, cause);
    }

    fn fail(&mut self, reason: Reason, cause: Option<Cause>) {
        self.worker.metrics.error(reason.name(), cause.map(Cause::name));
        (self.reason, self.cause) = (Some(reason), cause);
    }

    /// The route that matched.
    pub(super) fn route(&self) -> Option<&Route> {
        self.route.map(|route| &self.view.snapshot.routes[route])
    }

    /// The rule that matched.
    pub(super) fn rule(&self) -> Option<&config::Route> {
        self.route.map(|route| &*self.view.snapshot.routes[route].rule)
    }

    /// What holds for it where no policy speaks.
    pub(super) fn default_policy(&self) -> DefaultPolicy {
        let listener = self.listener.and_then(|listener| self.view.snapshot.listeners.get(listener));
        listener.map_or(DefaultPolicy::Deny, |listener| listener.default_policy)
    }

    /// Whether a reload has forbidden its caller the service that serves it.
    pub(super) fn is_revoked(&self) -> bool {
        self.backend.as_ref().is_some_and(|(_, backend)| self.pass.is_revoked(&self.worker, backend))
    }

    /// Bytes of content that have moved either way.
    pub(super) fn moved(&self) -> u64 {
        self.bytes_out + self.body.as_ref().map_or(0, RequestBody::bytes)
    }

    /// The rule that matched, if it has requests sent again or twice. Most do not, and are not looked at.
    pub(super) fn persistent_rule(&self) -> Option<&config::Route> {
        let route = &self.view.snapshot.routes[self.route?];
        route.persists.then_some(&*route.rule)
    }

    /// Notes the status that a gRPC call ended with.
    pub(super) fn grpc_status(&mut self, fields: &HeaderMap) {
        if let Some(account) = &self.account
            && let Some(status) = fields.get("grpc-status")
        {
            account.grpc_status.set(status.to_str().ok().and_then(|status| status.parse().ok()));
        }
    }

    /// The endpoint's response, as the caller gets it.
    pub(super) fn forward(
        mut self,
        answer: Answer,
        deadline: Option<(Instant, Cause)>,
    ) -> Response<ResponseBody> {
        let (mut parts, body) = answer.response.into_parts();
        headers::prepare_response(&mut parts, &self.view.snapshot, self.is_proxy);
        self.mark(&mut parts.headers);
        self.reach(|phases| &mut phases.answered);
        self.added();
        debug::report(&self, &mut parts.headers);
        self.status = parts.status.as_u16();
        self.grpc_status(&parts.headers);
        let body = ResponseBody::forwarded(body, self, (answer.lease, answer.answered), deadline);
        Response::from_parts(parts, body)
    }

    /// Towpath's own response to a request that failed.
    pub(super) fn refuse(mut self, failure: &Failure) -> Response<ResponseBody> {
        self.fail(failure.reason, failure.cause);
        tracing::debug!(
            reason = failure.reason.name(),
            cause = failure.cause.map(Cause::name),
            caller = &*self.pass.named.name,
            message = &*failure.message,
            "a request failed"
        );
        let mut response = failure.response(&self.about());
        self.own_up(response.headers_mut(), failure);
        self.mark(response.headers_mut());
        self.reach(|phases| &mut phases.answered);
        debug::report(&self, response.headers_mut());
        if !failure.reset {
            self.grpc_status(response.headers());
        }
        self.status = match failure {
            Failure { caller_gone: true, .. } => CALLER_GONE,
            Failure { reset: true, .. } => NO_ANSWER,
            _ => response.status().as_u16(),
        };
        response.map(|body| ResponseBody::own(body, self, failure.reset))
    }

    /// Counts what towpath has added to the time of the response's head.
    fn added(&self) {
        if let Some(listener) = self.listener.and_then(|listener| self.view.snapshot.listeners.get(listener))
        {
            listener.added.record(self.started.elapsed().saturating_sub(self.waited.get()));
        }
    }

    /// Says what was done to the request on purpose.
    fn mark(&self, headers: &mut HeaderMap) {
        if let Some(fault) = self.fault {
            headers.insert("towpath-fault", HeaderValue::from_static(fault));
        }
    }

    pub(super) fn about(&self) -> About<'_> {
        About {
            route: self.route.map(|route| &*self.view.snapshot.routes[route].name),
            service: self.backend.as_ref().map(|(_, backend)| &*backend.view.service.name),
            request_id: self.request_id.as_ref().and_then(|id| id.to_str().ok()),
            is_grpc: self.is_grpc,
        }
    }

    fn record(&self) {
        let duration = self.started.elapsed();
        let status = if self.status == 0 { CALLER_GONE } else { self.status };
        match &self.backend {
            Some((way, backend)) => self.view.record(*way, backend, status, duration),
            None => self.view.unrouted(self.listener.unwrap_or(usize::MAX)).record(status, duration),
        }
        self.pass.named.record(self.about().service.unwrap_or_default(), status);
        if let Some(account) = &self.account {
            self.tell(account, status, duration);
        }
    }

    /// Tells everybody who wants to know.
    fn tell(&self, account: &Account, status: u16, duration: Duration) {
        let (about, notes, trace) = (self.about(), account.notes(), account.trace.get());
        let answering = account.answering().and_then(|index| notes.get(index));
        // Of the service that has the request now: where nothing has been sent to it, nothing has.
        let of_service = |note: &&AttemptNote| Some(&*note.service) == about.service;
        self.view.snapshot.observers.tell(&Record {
            time: account.time,
            listener: self.listener.map_or("", |listener| &self.view.snapshot.listeners[listener].name),
            peer: &account.peer,
            caller: &self.pass.named.name,
            method: account.method.as_str(),
            host: account.host.as_bytes(),
            path: account.path.as_ref().map_or("*", |path| path.as_str()).as_bytes(),
            protocol: account.protocol,
            route: about.route,
            service: about.service,
            endpoint: answering.filter(of_service).map(|note| &note.endpoint),
            status,
            reason: self.reason.map(Reason::name),
            cause: self.cause.map(Cause::name),
            fault: self.fault,
            policy: self.policy.as_deref(),
            attempts: self.attempts.get(),
            duration,
            bytes_in: self.body.as_ref().map_or(0, RequestBody::bytes),
            bytes_out: self.bytes_out,
            request_id: self.request_id.as_ref().map_or(b"", |id| id.as_bytes()),
            grpc_status: account.grpc_status.get(),
            trace: trace.as_ref(),
            is_grpc: self.is_grpc,
            phases: account.phases.get(),
            notes: &notes,
            answering,
        });
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.record();
        if let Some(body) = self.body.as_ref().filter(|_| !self.complete) {
            body.stop();
        }
        if let Some((_, backend)) = &self.backend {
            backend.view.service.series.in_flight.dec();
        }
    }
}

fn no_host_service(refused: Refused) -> Failure {
    match refused {
        Refused::Full { max } => {
            let message = format!("{max} hosts have a service of their own already (host_services.max)");
            Failure::new(Reason::Overloaded, message).because(Cause::HostServices)
        }
        Refused::Outside { name } => {
            let message = format!("{name} is in none of the domains of host_services.suffixes");
            Failure::new(Reason::Denied, message)
        }
    }
}
