//! The life of a request.

use std::{cell::Cell, rc::Rc};

use http::{Request, Response, header::EXPECT, request::Parts};
use http_body::Body as _;

use super::{
    Cause, Failure, Reason, ResponseBody, Worker, admission,
    affinity::affinity,
    attempt::{Answer, Call},
    authenticate::authenticate,
    authorize::authorize,
    callers, consult,
    deadline::deadline,
    debug,
    exchange::{Caller, Exchange},
    failover,
    failure::About,
    fault, headers, lawful, peer,
    request_body::{KEPT, RequestBody},
    target::Target,
    trailers,
};
use crate::{
    http::{Body, Interim},
    router::RequestView,
    telemetry::{self, Phases, Record},
};

/// Answers `request`, which came from `caller`. Dropping the future or the response's body cancels it.
///
/// What needs no waiting happens in the call itself: the future, which is moved and kept for each request, has no room for it.
pub fn handle(
    worker: &Rc<Worker>,
    caller: &Caller,
    request: Request<Body>,
    interim: &Interim,
) -> impl Future<Output = Response<ResponseBody>> + use<> {
    let mut exchange = Exchange::begin(worker, caller, &request);
    let mut call = prepare(&mut exchange, caller, request, interim);
    async move {
        match &mut call {
            Err(failure) => exchange.refuse(failure),
            Ok(call) => match carry(call, &mut exchange).await {
                Ok(answer) => exchange.forward(answer, call.until()),
                Err(failure) => exchange.refuse(&failure),
            },
        }
    }
}

/// The phases that may wait, in order.
async fn carry(call: &mut Call, exchange: &mut Exchange) -> Result<Answer, Failure> {
    authorize(call, exchange)?;
    consult::ask(call, exchange).await?;
    admission::enter_node(call, exchange).await?;
    fault::inject(call, exchange).await?;
    let answer = failover::run(call, exchange).await;
    admission::observe(exchange, &answer);
    answer
}

/// The phases up to the first that may wait, in order.
fn prepare(
    exchange: &mut Exchange,
    caller: &Caller,
    request: Request<Body>,
    interim: &Interim,
) -> Result<Call, Failure> {
    let target = Target::of(&request)?;
    let (mut parts, body) = request.into_parts();
    let pin = peer::take(&mut parts.headers, caller);
    exchange.is_pinned = pin.is_some();
    debug::take(exchange, caller, &mut parts);
    lawful::check(&mut parts, !body.is_end_stream())?;
    let looping = headers::check_loop(&parts.headers, &exchange.view.snapshot);
    exchange.request_id = Some(headers::prepare_request(&mut parts, exchange));
    looping?;
    let (listener, route, pin) = match &pin {
        Some(pin) => pin.route(exchange).map(|(listener, route, pin)| (listener, route, Some(pin)))?,
        None => route(exchange, &parts, &target).map(|(listener, route)| (listener, route, None))?,
    };
    let backend = exchange.enter(listener, route, &target)?;
    debug::explain(exchange, &parts, &target);
    authenticate(exchange, &mut parts.headers)?;
    exchange.caller_place = callers::enter(caller, exchange)?;
    let timeout = exchange.view.snapshot.routes[route].timeout;
    let (deadline, deadline_is_callers) =
        deadline(&mut parts, timeout, (exchange.started, exchange.is_grpc))?;
    let expects_continue = expects_continue(&mut parts, &body);
    exchange.body = (!body.is_end_stream()).then(|| content(exchange, route, body, expects_continue));
    exchange.reach(|phases| &mut phases.routed);
    let affinity = affinity(&backend.view.service.policy.balancer, &parts, &target, &caller.peer);
    Ok(Call {
        pass: exchange.pass.clone(),
        replaceable: failover::replaceable(exchange, &caller.peer),
        pin,
        sent: Cell::new(false),
        stands_in: false,
        affinity,
        worker: exchange.worker.clone(),
        backend,
        parts,
        target,
        body: exchange.body.clone(),
        expects_continue,
        deadline,
        deadline_is_callers,
        attempt_timeout: exchange.view.snapshot.routes[route].attempt_timeout,
        first_answer_timeout: exchange.view.snapshot.config.dns.first_answer_timeout,
        interim: interim.clone(),
    })
}

/// The request's content, of which so much is kept as may have to be sent again.
fn content(exchange: &Exchange, route: usize, body: Body, expects_continue: bool) -> RequestBody {
    let retry = exchange.persistent_rule().and_then(|rule| rule.retry.as_ref());
    let body = trailers::guard(body, &exchange.view.snapshot.routes[route]);
    RequestBody::new(body, expects_continue, retry.map_or(KEPT, |retry| retry.body_limit))
}

/// The listener and the rule that matches.
fn route(exchange: &Exchange, parts: &Parts, target: &Target) -> Result<(usize, usize), Failure> {
    let Some(number) = exchange.listener else {
        return Err(Failure::new(Reason::Draining, "this listener has been removed"));
    };
    let listener = &exchange.view.snapshot.listeners[number];
    let view = RequestView::of(parts, target.host());
    listener.router.route(&view).map(|route| (number, route)).ok_or_else(|| {
        let (method, host, path) = (&parts.method, target.host(), parts.uri.path());
        Failure::new(
            Reason::NoRoute,
            format!("no rule of listener {} matches {method} {host}{path}", listener.name),
        )
    })
}

/// Whether the caller waits before it sends its body. An expectation that nothing hangs on is not passed on.
fn expects_continue(parts: &mut Parts, body: &Body) -> bool {
    if !parts.headers.contains_key(EXPECT) {
        return false;
    }
    let waits = parts.version != http::Version::HTTP_10 && !body.is_end_stream();
    if !waits {
        parts.headers.remove(EXPECT);
    }
    waits
}

/// What the access log says of a request that could not be read: all but its reason is unknown.
fn unread<'a>(
    (caller, name): (&'a Caller, &'a str),
    failure: &Failure,
    status: u16,
    request_id: &'a [u8],
) -> Record<'a> {
    Record {
        time: std::time::SystemTime::now(),
        listener: &caller.door.name,
        peer: &caller.peer,
        caller: name,
        method: "",
        host: b"",
        path: b"",
        protocol: "",
        route: None,
        service: None,
        endpoint: None,
        status,
        reason: Some(failure.reason.name()),
        cause: failure.cause.map(Cause::name),
        fault: None,
        policy: None,
        attempts: 0,
        duration: std::time::Duration::ZERO,
        bytes_in: 0,
        bytes_out: 0,
        request_id,
        grpc_status: None,
        trace: None,
        is_grpc: false,
        phases: Phases::default(),
        notes: &[],
        answering: None,
    }
}

/// The response to what never became a request: a head that cannot be read.
pub fn refuse(worker: &Worker, caller: &Caller, failure: &Failure) -> Response<ResponseBody> {
    worker.metrics.error(failure.reason.name(), failure.cause.map(Cause::name));
    let view = worker.view();
    let listener = view.snapshot.listener(&caller.door.name).unwrap_or(usize::MAX);
    let id = telemetry::ensure_request_id(&mut http::HeaderMap::new(), [worker.random(), worker.random()]);
    let response = failure.response(&About { request_id: id.to_str().ok(), ..About::default() });
    view.unrouted(listener).record(response.status().as_u16(), std::time::Duration::ZERO);
    if view.snapshot.observers.any() {
        let named = caller.named(worker, &view.snapshot.rules);
        let record = unread((caller, &named.name), failure, response.status().as_u16(), id.as_bytes());
        view.snapshot.observers.tell(&record);
    }
    tracing::debug!(peer = %caller.peer, message = &*failure.message, "a request could not be read");
    response.map(ResponseBody::unrecorded)
}
