//! The record of one request: made when it arrives, written when it is over, however that comes.
//!
//! It travels with the response's body, so "over" is when the last byte has been handed on, when the caller goes away,
//! or when the task is dropped. Counts that were raised fall in `Drop`.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    sync::Arc,
    time::SystemTime,
};

use http::{HeaderValue, Request, Response, Version};
use tokio::time::Instant;

use super::{
    Cause, Failure, Reason, ResponseBody, Worker,
    attempt::Answer,
    caller::{Named, Pass, Person},
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
    telemetry::Record,
};

/// What a response that was never begun counts as: the caller went away (nginx's code).
const CALLER_GONE: u16 = 499;
/// What it counts as where the caller was to get none (nginx's code as well).
const NO_ANSWER: u16 = 444;

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
    /// Only when there is an access log.
    line: Option<Box<Line>>,
}

/// What only the access log needs.
struct Line {
    time: SystemTime,
    peer: Address,
    method: http::Method,
    host: HeaderValue,
    path: Option<http::uri::PathAndQuery>,
    protocol: &'static str,
    endpoint: Option<Address>,
    grpc_status: Option<u32>,
}

impl Exchange {
    /// The record of `request`.
    pub(super) fn begin(worker: &Rc<Worker>, caller: &Caller, request: &Request<Body>) -> Self {
        let (view, listener) = caller.view(worker);
        let pass = Pass::new(&caller.person, worker, &view.snapshot.rules, request.headers());
        let line = view.snapshot.access_log.as_ref().map(|_| Box::new(Line::new(caller, request)));
        Self {
            worker: worker.clone(),
            view,
            started: Instant::now(),
            is_grpc: grpc::is_grpc(request.headers()),
            is_proxy: request.version() != Version::HTTP_2 && request.uri().authority().is_some(),
            listener,
            route: None,
            backend: None,
            is_pinned: false,
            pass,
            policy: None,
            attempts: Cell::new(0),
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
            line,
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
        if let Some(line) = &mut self.line {
            line.endpoint = None;
        }
    }

    /// Notes that an attempt begins.
    pub(super) fn attempt(&self) {
        self.attempts.set(self.attempts.get() + 1);
    }

    /// Notes which endpoint an attempt went to.
    pub(super) fn went_to(&mut self, picked: &Picked) {
        if let Some(line) = &mut self.line {
            line.endpoint = Some(picked.address.clone());
        }
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
    pub(super) fn grpc_status(&mut self, fields: &http::HeaderMap) {
        if let Some(line) = &mut self.line
            && let Some(status) = fields.get("grpc-status")
        {
            line.grpc_status = status.to_str().ok().and_then(|status| status.parse().ok());
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

    /// Says what was done to the request on purpose.
    fn mark(&self, headers: &mut http::HeaderMap) {
        if let Some(fault) = self.fault {
            headers.insert("towpath-fault", HeaderValue::from_static(fault));
        }
    }

    fn about(&self) -> About<'_> {
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
        if let (Some(log), Some(line)) = (&self.view.snapshot.access_log, &self.line) {
            log.record(self.log_record(line, status, duration));
        }
    }

    fn log_record<'a>(&'a self, line: &'a Line, status: u16, duration: std::time::Duration) -> Record<'a> {
        let about = self.about();
        Record {
            time: line.time,
            listener: self.listener.map_or("", |listener| &self.view.snapshot.listeners[listener].name),
            peer: &line.peer,
            caller: &self.pass.named.name,
            method: line.method.as_str(),
            host: line.host.as_bytes(),
            path: line.path.as_ref().map_or("*", |path| path.as_str()).as_bytes(),
            protocol: line.protocol,
            route: about.route,
            service: about.service,
            endpoint: line.endpoint.as_ref(),
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
            grpc_status: line.grpc_status,
        }
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

impl Line {
    fn new(caller: &Caller, request: &Request<Body>) -> Self {
        let host =
            request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        let host = host.or_else(|| request.headers().get(http::header::HOST).cloned());
        Self {
            time: SystemTime::now(),
            peer: caller.peer.clone(),
            method: request.method().clone(),
            host: host.unwrap_or(HeaderValue::from_static("")),
            path: request.uri().path_and_query().cloned(),
            protocol: match request.version() {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_2 => "HTTP/2",
                _ => "HTTP/1.1",
            },
            endpoint: None,
            grpc_status: None,
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
