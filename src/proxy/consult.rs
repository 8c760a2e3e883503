//! Asking another service whether a request may pass (`authorize` of a route).
//!
//! # The question
//! The request's method, its path and query behind the configured path, the fields that are configured, and who asks what of whom:
//! `x-forwarded-method`, `x-forwarded-host`, `x-forwarded-uri`, `towpath-caller`. No body. It goes to one endpoint, through the
//! pools, balancing and limits that the service has anyhow; a connection that turns out to have been closed while idle is
//! replaced once, and so is an endpoint that is gone; nothing else is tried again.
//!
//! # The answer
//! 2xx lets the request pass, with the fields that the route forwards in place of the caller's. 3xx and 4xx are the caller's
//! answer. Anything else, or none in time, is no answer: `on_failure` says what then. When it is the request's own deadline that
//! has passed, that is what the caller is told.
//!
//! # What callers have in their hands
//! `on_failure = "allow"` is for a service that is not there, not for callers that see to it that there is no answer. A request about
//! which nothing can be asked, or whose own deadline leaves no time for an answer, does not pass. The question is towpath's own: policies
//! of the service that is asked are for those who call it, and have no say here.

use std::{
    cell::Cell,
    sync::{Arc, atomic::Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TE, VIA},
    request::Parts,
};
use tokio::time::{Instant, timeout_at};

use super::{
    Cause, Failure, Reason,
    admission::enter_service,
    attempt::{AttemptError, Call, Outcome, Way, counted},
    authenticate::remove,
    exchange::Exchange,
    headers::address_request,
    report::Report,
    requeue::History,
    retry::discard,
    target::Target,
};
use crate::{
    config,
    http::{Body, Interim, body::next_frame, grpc, hop_by_hop},
    snapshot::Authorizer,
    upstream::{ConnectError, SendError, Sent, Version},
};

/// Of an answer that the caller gets. A longer one is left out: its status has said what matters.
const LONGEST: usize = 64 << 10;
/// Seconds between two warnings that the service of one route does not answer.
const WARNING: u64 = 10;
/// Fields of the request that the question has besides those that are configured: what ties both together in traces, and what a
/// circle is recognised by.
const ALWAYS: [HeaderName; 4] = [
    VIA,
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// Asks whether the request may pass, if its route says so.
///
/// # Errors
/// It may not, or there was no answer and the route is closed then.
pub(super) async fn ask(call: &mut Call, exchange: &mut Exchange) -> Result<(), Failure> {
    if exchange.route().is_none_or(|route| route.authorizer.is_none()) {
        return Ok(());
    }
    // Boxed: a request that nobody is asked about has no room for this.
    Box::pin(consult(call, exchange)).await
}

async fn consult(call: &mut Call, exchange: &mut Exchange) -> Result<(), Failure> {
    let Some((rule, authorizer)) = asked(exchange) else { return Ok(()) };
    let Some(wanted) = &rule.authorize else { return Ok(()) };
    let latest = Instant::now() + wanted.timeout;
    let mut question = question(call, exchange, (wanted, latest), &authorizer).map_err(|problem| {
        warn(&rule, wanted, &authorizer, &problem);
        closed(&authorizer)
    })?;
    let answer = put(&mut question, exchange).await;
    // The request itself is still to get them.
    (exchange.service_place, exchange.admitted) = (None, None);
    match answer {
        Ok(answer) if answer.status().is_success() => {
            authorizer.series.answer("allowed");
            forward(&authorizer.forward, answer.headers(), &mut call.parts.headers);
            Ok(())
        }
        Ok(answer) => {
            authorizer.series.answer("denied");
            Err(denied(answer))
        }
        Err(none) if call.deadline.is_some_and(|deadline| none.is_of(deadline, latest)) => {
            authorizer.series.answer("failed_closed");
            let message = "the deadline passed before it was known whether the request may pass";
            Err(Failure::new(Reason::Timeout, message).because(call.whose_deadline()))
        }
        Err(none) => {
            warn(&rule, wanted, &authorizer, &none.why);
            unanswered(call, wanted, &authorizer)
        }
    }
}

/// That there is no answer.
struct NoAnswer {
    why: String,
    /// It did not come in time, here or where the question went.
    late: bool,
}

impl NoAnswer {
    /// Whether it is for want of the request's own time. Who is asked is told of the deadline, and may give up a moment before it.
    fn is_of(&self, deadline: Instant, latest: Instant) -> bool {
        deadline <= Instant::now() || self.late && deadline <= latest
    }
}

impl From<Failure> for NoAnswer {
    fn from(failure: Failure) -> Self {
        Self { late: failure.reason == Reason::Timeout, why: failure.message.into_owned() }
    }
}

fn asked(exchange: &Exchange) -> Option<(Arc<config::Route>, Arc<Authorizer>)> {
    let route = exchange.route()?;
    Some((route.rule.clone(), route.authorizer.clone()?))
}

/// The question, as a request of its own.
fn question(
    call: &Call,
    exchange: &Exchange,
    (wanted, latest): (&config::Authorize, Instant),
    authorizer: &Authorizer,
) -> Result<Call, String> {
    let target =
        Target::named(authorizer.authority.clone()).map_err(|failure| failure.message.into_owned())?;
    let mut parts = fields(call, &exchange.pass.named.name, &wanted.path, &authorizer.headers)?;
    exchange.tell_trace(&mut parts.headers);
    Ok(Call {
        pass: call.pass.for_towpath(),
        affinity: None,
        worker: call.worker.clone(),
        backend: exchange.view.service(authorizer.service),
        parts,
        target,
        body: None,
        expects_continue: false,
        deadline: Some(call.deadline.map_or(latest, |deadline| deadline.min(latest))),
        deadline_is_callers: false,
        attempt_timeout: None,
        first_answer_timeout: wanted.timeout,
        replaceable: None,
        pin: None,
        sent: Cell::new(false),
        stands_in: false,
        interim: Interim::default(),
    })
}

fn fields(call: &Call, caller: &str, in_front: &str, wanted: &[HeaderName]) -> Result<Parts, String> {
    let path = call.parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let behind = if path.starts_with('/') { path } else { "/" };
    let uri: Uri = format!("{in_front}{behind}").parse().map_err(|error| format!("no path: {error}"))?;
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.method, parts.uri) = (call.parts.method.clone(), uri);
    for name in ALWAYS.iter().chain(wanted) {
        for value in call.parts.headers.get_all(name) {
            parts.headers.append(name, value.clone());
        }
    }
    let text = |text: &str| HeaderValue::from_str(text).map_err(|error| error.to_string());
    parts.headers.insert("x-forwarded-method", text(call.parts.method.as_str())?);
    parts.headers.insert("x-forwarded-host", call.target.authority.clone());
    parts.headers.insert("x-forwarded-uri", text(path)?);
    parts.headers.insert("towpath-caller", text(caller)?);
    Ok(parts)
}

/// Puts the question. Err: why there is no answer.
async fn put(question: &mut Call, exchange: &mut Exchange) -> Result<Response<Bytes>, NoAnswer> {
    enter_service(question, exchange).await?;
    let mut history = History::default();
    let mut excused = false;
    loop {
        let picked = question.pick(&history).await?;
        let speech = question.speech(&picked, false)?;
        address_request(&mut question.parts, &question.target, speech);
        let mut report = Report::begin(&question.backend, picked, None);
        let (fresh, interim) = (history.fresh, &question.interim);
        let way = Way { speech, parts: &question.parts, fresh, beside: false, interim };
        let outcome = question.attempt(&mut report, way).await;
        if excused || !(was_closed_when_idle(&outcome) || was_removed(&outcome)) {
            return settle(question, outcome, report).await;
        }
        drop(report.end(counted(&outcome, false)));
        excused = true;
        // An HTTP/2 connection that has ended is not chosen again anyhow.
        history.fresh = speech.version == Version::Http1;
    }
}

/// Discovery has removed the endpoint meanwhile, which has been sent nothing.
fn was_removed(outcome: &Outcome) -> bool {
    matches!(outcome, Err(AttemptError::Connect(ConnectError::Removed)))
}

fn was_closed_when_idle(outcome: &Outcome) -> bool {
    let Err(AttemptError::Send(SendError { reused: true, sent, .. })) = outcome else { return false };
    matches!(sent, Sent::Nothing | Sent::Maybe)
}

/// What came of the last attempt.
async fn settle(question: &Call, outcome: Outcome, report: Report<'_>) -> Result<Response<Bytes>, NoAnswer> {
    let counted = counted(&outcome, false);
    let (response, lease) = match outcome {
        Ok(answered) => answered,
        Err(error) => {
            let picked = report.end(counted);
            return Err(question.failure(error, &picked).into());
        }
    };
    let endpoint = report.picked().address.clone();
    let mut answered = report.answered(counted);
    let (parts, body) = response.into_parts();
    let status = parts.status;
    if !status.is_redirection() && !status.is_client_error() {
        discard(Ok((Response::new(body), lease)));
        if status.is_success() {
            return Ok(Response::from_parts(parts, Bytes::new()));
        }
        let why = format!("endpoint {endpoint} of {} answers {status}", question.backend.view.service.name);
        return Err(NoAnswer { why, late: status == StatusCode::GATEWAY_TIMEOUT });
    }
    let until = question.deadline.unwrap_or_else(Instant::now);
    let content = timeout_at(until, content(body)).await.ok().flatten();
    if content.is_some() {
        lease.finish();
        answered.end(counted);
    }
    Ok(for_caller(parts, content))
}

/// All of the content, if it is not too long and does not break off.
async fn content(mut body: Body) -> Option<Bytes> {
    let mut content = BytesMut::new();
    while let Some(frame) = next_frame(&mut body).await {
        let frame = frame.ok()?;
        if let Some(data) = frame.data_ref() {
            if content.len() + data.len() > LONGEST {
                return None;
            }
            content.extend_from_slice(data);
        }
    }
    Some(content.freeze())
}

/// The answer as the caller gets it. What it says without its content is as good as what it says with it.
fn for_caller(mut parts: http::response::Parts, content: Option<Bytes>) -> Response<Bytes> {
    let headers = &mut parts.headers;
    hop_by_hop::remove(headers);
    for name in [TE, CONTENT_LENGTH] {
        headers.remove(name);
    }
    if content.is_none() {
        for name in [CONTENT_TYPE, CONTENT_ENCODING] {
            headers.remove(name);
        }
    }
    let content = content.unwrap_or_default();
    if parts.status != StatusCode::NOT_MODIFIED {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(content.len()));
    }
    Response::from_parts(parts, content)
}

fn denied(answer: Response<Bytes>) -> Failure {
    let code = match answer.status() {
        StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS => {
            grpc::code_for_http(answer.status().as_u16())
        }
        _ => grpc::Status::PermissionDenied as u8,
    };
    let failure = Failure::new(Reason::Denied, "the request may not pass");
    Failure {
        grpc: Some(code),
        answer: Some(Box::new(answer)),
        ..failure.because(Cause::AuthorizationDenied)
    }
}

/// The fields of the answer that the endpoint gets, in place of the caller's.
fn forward(names: &[HeaderName], answer: &HeaderMap, request: &mut HeaderMap) {
    remove(names.iter(), request);
    for name in names {
        for value in answer.get_all(name) {
            request.append(name, value.clone());
        }
    }
}

/// There is no answer.
fn unanswered(call: &mut Call, wanted: &config::Authorize, authorizer: &Authorizer) -> Result<(), Failure> {
    if wanted.fail_open {
        authorizer.series.answer("failed_open");
        remove(authorizer.forward.iter(), &mut call.parts.headers);
        return Ok(());
    }
    Err(closed(authorizer))
}

fn closed(authorizer: &Authorizer) -> Failure {
    authorizer.series.answer("failed_closed");
    let message = "it could not be found out whether the request may pass";
    Failure::new(Reason::Denied, message).because(Cause::AuthorizationFailed)
}

/// Tells the operator, not for each request.
fn warn(rule: &config::Route, wanted: &config::Authorize, authorizer: &Authorizer, problem: &str) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let last = authorizer.warned.load(Ordering::Relaxed);
    let is_due = now.saturating_sub(last) >= WARNING;
    let (route, service) = (&*rule.name, &*wanted.service);
    if is_due && authorizer.warned.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        let on_failure = if wanted.fail_open { "allow" } else { "deny" };
        tracing::warn!(
            route,
            service,
            on_failure,
            problem,
            "nobody says whether requests may pass (authorize)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, fields: &[(&'static str, &'static str)]) -> http::response::Parts {
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        response.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_refusal_reaches_the_caller_without_what_concerned_the_connection() {
        let fields = [
            ("location", "/login"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("content-type", "text/html"),
            ("content-encoding", "br"),
        ];
        let whole = for_caller(response(302, &fields), Some(Bytes::from_static(b"go")));
        let names = |answer: &Response<Bytes>| {
            let mut names: Vec<_> = answer.headers().keys().map(ToString::to_string).collect();
            names.sort();
            names
        };
        assert_eq!(
            names(&whole),
            ["content-encoding", "content-length", "content-type", "location", "set-cookie"]
        );
        assert_eq!(whole.headers().get_all("set-cookie").iter().count(), 2);
        assert_eq!(whole.headers()["content-length"], "2");
        let cut = for_caller(response(403, &fields), None);
        assert_eq!(names(&cut), ["content-length", "location", "set-cookie"]);
        assert_eq!(cut.headers()["content-length"], "0");
    }

    #[test]
    fn only_the_answer_says_what_is_forwarded() {
        let names = [HeaderName::from_static("x-user"), HeaderName::from_static("x-role")];
        let mut request = HeaderMap::new();
        for (name, value) in [("x-user", "evil"), ("x_role", "admin"), ("x-role", "admin"), ("accept", "*/*")]
        {
            request.append(name, HeaderValue::from_static(value));
        }
        let answer = response(200, &[("x-user", "ann"), ("x-user", "also"), ("x-other", "1")]);
        forward(&names, &answer.headers, &mut request);
        assert_eq!(request.get_all("x-user").iter().collect::<Vec<_>>(), ["ann", "also"]);
        let left: Vec<_> = request.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["accept", "x-user"]);
    }

    #[test]
    fn grpc_callers_are_told_the_same() {
        for (status, code) in [(401, 16), (403, 7), (302, 7), (404, 7), (429, 14)] {
            let answer = Response::from_parts(response(status, &[]), Bytes::new());
            assert_eq!(denied(answer).grpc, Some(code), "{status}");
        }
    }
}
