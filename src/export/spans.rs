//! A request that is over, as OpenTelemetry tells it: one SERVER span, and below it one CLIENT span for each attempt.
//!
//! Attributes are those of the stable HTTP conventions and of those for RPC, which are release candidates and changed names on the way there:
//! `rpc.system` and `rpc.grpc.status_code` are told beside `rpc.system.name` and `rpc.response.status_code`
//! (docs/decisions/0023-spans.md). What they have no word for begins with `towpath.`. `trace_state` stays empty: `tracestate` passes through
//! towpath and is not kept.
//!
//! # Names
//! A name must be of few. towpath knows no templates of paths: where the route has one path or prefix, that stands for one, else the method
//! alone is the name. A gRPC method is a name by itself, unless no route wanted it: then it is whatever the caller wrote.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::trace::v1::{
    Span, SpanFlags, Status,
    span::{Event, SpanKind},
    status::StatusCode,
};

use super::{
    attributes::{Attributes, known_method},
    facts::Facts,
    redact,
};
use crate::{
    http::{authority, grpc},
    net::Address,
    telemetry::{AttemptNote, AttemptOutcome, Finished, was_sent},
};

/// The spans of one request.
pub(super) fn of(request: &Finished, facts: &Facts) -> impl Iterator<Item = Span> {
    let told = Told::new(request, facts);
    let attempts: Vec<Span> =
        request.notes.iter().enumerate().map(|(index, note)| told.attempt(index, note)).collect();
    std::iter::once(told.request()).chain(attempts)
}

/// A request, with what is read from it once.
struct Told<'a> {
    request: &'a Finished,
    facts: &'a Facts,
    path: &'a str,
    query: Option<String>,
    host: &'a str,
    port: Option<u16>,
    /// The service and the method of a gRPC call.
    method: Option<(&'a str, &'a str)>,
}

impl<'a> Told<'a> {
    fn new(request: &'a Finished, facts: &'a Facts) -> Self {
        let target = text(&request.path);
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let host = text(&request.host);
        let (host, port) = authority::split(host).unwrap_or((host, None));
        let method = path.strip_prefix('/').and_then(|path| path.rsplit_once('/'));
        let query = query.map(|query| redact::query(query).into_owned());
        Self { request, facts, path, query, host, port, method: method.filter(|_| request.is_grpc) }
    }

    fn request(&self) -> Span {
        let request = self.request;
        let mut attributes = self.common();
        attributes.text("url.scheme", self.facts.caller_scheme(&request.listener));
        attributes.text("url.path", self.path);
        attributes.maybe("url.query", self.query.as_deref());
        attributes.maybe("http.route", self.template());
        if let Some(port) = self.port {
            attributes.number("server.port", port);
        }
        attributes.text("network.protocol.name", "http");
        attributes.text("network.protocol.version", request.protocol.trim_start_matches("HTTP/"));
        attributes.peer(&request.peer);
        if let Address::Tcp(peer) = &request.peer {
            attributes.text("client.address", peer.ip().to_string());
            attributes.number("client.port", peer.port());
        }
        if was_sent(request.status, &request.notes) {
            attributes.number("http.response.status_code", request.status);
        }
        self.rpc(&mut attributes, request.grpc_status);
        let error = request.failed.then(|| self.error());
        attributes.maybe("error.type", error.as_deref());
        self.own(&mut attributes);
        Span {
            parent_span_id: request.trace.parent.map_or(vec![], id),
            // A parent is another process's.
            flags: self.flags() | request.trace.parent.map_or(0, |_| SpanFlags::ContextIsRemoteMask as u32),
            events: self.events(),
            status: error.map(|_| self.failure(request.reason.as_deref())),
            ..self.span(
                (self.name(self.template()), SpanKind::Server, request.trace.span),
                (Duration::ZERO, request.duration),
                attributes,
            )
        }
    }

    fn attempt(&self, index: usize, note: &AttemptNote) -> Span {
        let scheme = self.facts.endpoint_scheme(&note.service);
        let mut attributes = self.common();
        attributes.text("url.full", self.full(scheme));
        attributes.number("server.port", self.port.unwrap_or(if scheme == "https" { 443 } else { 80 }));
        attributes.peer(&note.endpoint);
        if let Some(status) = note.status {
            attributes.number("http.response.status_code", status);
        }
        if index > 0 {
            attributes.number("http.request.resend_count", i64::try_from(index).unwrap_or(i64::MAX));
        }
        let grpc_status = self.grpc_status_of(index);
        self.rpc(&mut attributes, grpc_status);
        let error = attempt_error(note, grpc_status);
        attributes.maybe("error.type", error.as_deref());
        attributes.text("towpath.service", &*note.service);
        attributes.text("towpath.endpoint", note.endpoint.to_string());
        attributes.text("towpath.outcome", note.outcome.as_str());
        attributes.maybe("towpath.why", note.why);
        // A span that nobody was told of has no number yet.
        let span = if note.span == 0 { fastrand::u64(1..) } else { note.span };
        let event = |name, at: Option<Duration>| Some(self.event(name, at?, Attributes::default()));
        Span {
            parent_span_id: id(self.request.trace.span),
            flags: self.flags(),
            events: [event("towpath.sent", note.sent), event("towpath.head", note.head)]
                .into_iter()
                .flatten()
                .collect(),
            status: error.map(|_| self.failure(note.status.is_none().then(|| note.outcome.as_str()))),
            ..self.span(
                (self.name(None), SpanKind::Client, span),
                (note.begun, note.ended.unwrap_or(self.request.duration)),
                attributes,
            )
        }
    }

    /// What both kinds of spans say.
    fn common(&self) -> Attributes {
        let mut attributes = Attributes::default();
        attributes.method(&self.request.method);
        if !self.host.is_empty() {
            attributes.text("server.address", self.host);
        }
        attributes
    }

    /// In towpath's words.
    fn own(&self, attributes: &mut Attributes) {
        let request = self.request;
        attributes.text("towpath.listener", &*request.listener);
        attributes.text("towpath.caller", &*request.caller);
        attributes.maybe("towpath.route", request.route.as_deref());
        attributes.maybe("towpath.service", request.service.as_deref());
        attributes.maybe("towpath.endpoint", request.endpoint.as_ref().map(ToString::to_string));
        attributes.number("towpath.attempts", request.attempts);
        // As metrics and the access log have it, also where nothing was sent.
        attributes.number("towpath.code", request.status);
        attributes.maybe("towpath.reason", request.reason.as_deref());
        attributes.maybe("towpath.cause", request.cause.as_deref());
        attributes.maybe("towpath.fault", request.fault.as_deref());
        attributes.maybe("towpath.request_id", Some(text(&request.request_id)));
    }

    fn rpc(&self, attributes: &mut Attributes, status: Option<u32>) {
        if !self.request.is_grpc {
            return;
        }
        attributes.text("rpc.system", "grpc");
        attributes.text("rpc.system.name", "grpc");
        if let Some((service, method)) = self.method {
            attributes.text("rpc.service", service);
            attributes.text("rpc.method", method);
        }
        if let Some(status) = status {
            attributes.number("rpc.grpc.status_code", status);
            attributes.text("rpc.response.status_code", grpc_name(status));
        }
    }

    /// How far the request was when, and what had to be done again.
    fn events(&self) -> Vec<Event> {
        let phases = &self.request.phases;
        let reached = [
            ("towpath.routed", phases.routed),
            ("towpath.admitted", phases.admitted),
            ("towpath.answered", phases.answered),
        ];
        let mut events: Vec<Event> = reached
            .into_iter()
            .filter_map(|(name, at)| Some(self.event(name, at?, Attributes::default())))
            .collect();
        for (index, note) in self.request.notes.iter().enumerate() {
            let Some(why) = note.why else { continue };
            let mut attributes = Attributes::default();
            attributes.number("towpath.attempt", i64::try_from(index + 1).unwrap_or(i64::MAX));
            attributes.text("towpath.why", why);
            let name = if why == "hedge" { "towpath.hedge" } else { "towpath.retry" };
            events.push(self.event(name, note.begun, attributes));
        }
        events.sort_by_key(|event| event.time_unix_nano);
        events
    }

    fn event(&self, name: &str, at: Duration, attributes: Attributes) -> Event {
        Event {
            time_unix_nano: nanos(self.request.time, at),
            name: name.to_owned(),
            attributes: attributes.0,
            dropped_attributes_count: 0,
        }
    }

    fn span(
        &self,
        (name, kind, span): (String, SpanKind, u64),
        (begun, ended): (Duration, Duration),
        attributes: Attributes,
    ) -> Span {
        Span {
            trace_id: self.request.trace.trace_id.to_be_bytes().to_vec(),
            span_id: id(span),
            name,
            kind: kind as i32,
            start_time_unix_nano: nanos(self.request.time, begun),
            // A clock of one span never runs backwards.
            end_time_unix_nano: nanos(self.request.time, ended.max(begun)),
            attributes: attributes.0,
            ..Span::default()
        }
    }

    /// Of the span and its context: W3C's, and that it is known whether the parent is remote.
    fn flags(&self) -> u32 {
        let trace = &self.request.trace;
        u32::from(trace.sampled || trace.debug)
            | u32::from(trace.random) << 1
            | SpanFlags::ContextHasIsRemoteMask as u32
    }

    fn name(&self, template: Option<&str>) -> String {
        if let Some((service, method)) = self.method.filter(|_| self.request.route.is_some()) {
            return format!("{service}/{method}");
        }
        let method = known_method(&self.request.method).unwrap_or("HTTP");
        template.map_or_else(|| method.to_owned(), |template| format!("{method} {template}"))
    }

    fn template(&self) -> Option<&str> {
        self.facts.template(self.request.route.as_deref()?)
    }

    fn full(&self, scheme: &str) -> String {
        let host = text(&self.request.host);
        let query = self.query.as_ref().map_or(String::new(), |query| format!("?{query}"));
        format!("{scheme}://{host}{}{query}", self.path)
    }

    /// The status that the caller got came from the last attempt that was answered, unless towpath itself gave it.
    fn grpc_status_of(&self, index: usize) -> Option<u32> {
        let answered = self.request.notes.iter().rposition(|note| note.head.is_some());
        self.request.grpc_status.filter(|_| answered == Some(index) && self.request.reason.is_none())
    }

    /// Of a request that failed.
    fn error(&self) -> String {
        let request = self.request;
        match (&request.reason, request.grpc_status) {
            (Some(reason), _) => reason.to_string(),
            (None, Some(code)) if request.is_grpc && code != 0 => grpc_name(code),
            _ => request.status.to_string(),
        }
    }

    /// The message only says what the status code does not.
    fn failure(&self, message: Option<&str>) -> Status {
        let mut text = message.unwrap_or_default().to_owned();
        if let (Some(cause), false) = (&self.request.cause, text.is_empty()) {
            text = format!("{text} ({cause})");
        }
        Status { message: text, code: StatusCode::Error as i32 }
    }
}

/// What an attempt failed with: for a client any 4xx or 5xx, and any status of gRPC but OK. One that was given up (a hedge's other
/// did better, the caller went away) has not failed.
fn attempt_error(note: &AttemptNote, grpc_status: Option<u32>) -> Option<String> {
    match (note.status, grpc_status, note.outcome) {
        (Some(status @ 400..), ..) => Some(status.to_string()),
        (_, Some(code @ 1..), _) => Some(grpc_name(code)),
        (.., AttemptOutcome::Success | AttemptOutcome::Cancelled) => None,
        (.., outcome) => Some(outcome.as_str().to_owned()),
    }
}

/// `UNAVAILABLE`; the number of a code that has no name.
fn grpc_name(code: u32) -> String {
    let name = u8::try_from(code).ok().and_then(grpc::name);
    name.map_or_else(|| code.to_string(), |name| name.to_ascii_uppercase().replace('-', "_"))
}

/// As far as it is text: what was cut may end within a character.
fn text(bytes: &[u8]) -> &str {
    bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())
}

fn id(span: u64) -> Vec<u8> {
    span.to_be_bytes().to_vec()
}

fn nanos(time: SystemTime, later: Duration) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default() + later;
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
