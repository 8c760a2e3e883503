//! What towpath changes in a message's fields on the way through.

use http::{
    HeaderMap, HeaderValue, StatusCode, Uri, Version,
    header::{CONTENT_LENGTH, COOKIE, HOST, TE, VIA},
    request::Parts,
    uri::{PathAndQuery, Scheme},
};

use super::{Failure, Reason, exchange::Exchange, target::Target};
use crate::{
    http::hop_by_hop,
    snapshot::Snapshot,
    telemetry::{self, TraceContext},
    upstream,
};

/// What a request is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Speech {
    pub(super) version: upstream::Version,
    /// The connection has TLS.
    pub(super) secure: bool,
}

/// A request that has come through this node this often already is going round in circles. More than once is legitimate: a
/// gateway on the node may send what it received through towpath out through towpath again.
const MAX_PASSES: usize = 4;

/// Refuses a request that goes round in circles.
pub(super) fn check_loop(headers: &HeaderMap, snapshot: &Snapshot) -> Result<(), Failure> {
    if !headers.contains_key(VIA) {
        return Ok(());
    }
    let own = snapshot.via.pseudonym.as_bytes();
    let passes = headers
        .get_all(VIA)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter(|entry| entry.trim_ascii().split(|byte| *byte == b' ').nth(1) == Some(own))
        .count();
    if passes < MAX_PASSES {
        return Ok(());
    }
    let message =
        format!("the request has come through node {} {passes} times: its route leads back here", {
            &snapshot.config.node.name
        });
    Err(Failure::new(Reason::LoopDetected, message))
}

/// Prepares a request's fields for any endpoint: hop-by-hop fields go, `via`, `x-request-id` and `traceparent` come.
/// Returns the request's id.
pub(super) fn prepare_request(parts: &mut Parts, exchange: &Exchange) -> HeaderValue {
    let (headers, worker) = (&mut parts.headers, &exchange.worker);
    hop_by_hop::remove(headers);
    headers.append(VIA, via(parts.version, &exchange.view.snapshot));
    trace(headers, exchange);
    telemetry::ensure_request_id(headers, [worker.random(), worker.random()])
}

/// Finds out which trace the request belongs to. Where towpath has spans of its own, each attempt tells its endpoint of its own.
fn trace(headers: &mut HeaderMap, exchange: &Exchange) {
    let worker = &exchange.worker;
    let random = [worker.random(), worker.random(), worker.random()];
    let mut trace = match &exchange.view.snapshot.observers.tracer {
        Some(tracer) => TraceContext::take(headers, || tracer.samples(worker.random()), random),
        None => TraceContext::pass(headers, random),
    };
    // A caller that is not trusted has no say beyond the sampled flag.
    trace.debug = trace.debug && exchange.pass.is_trusted(&exchange.view.snapshot.rules);
    if trace.debug || exchange.is_debugged() {
        (trace.sampled, trace.deferred) = (true, false);
    }
    if let Some(account) = &exchange.account {
        account.trace.set(Some(trace));
    }
}

/// Writes the request's target as the endpoint's protocol has it.
pub(super) fn address_request(parts: &mut Parts, target: &Target, speech: Speech) {
    match speech.version {
        upstream::Version::Http1 => {
            parts.version = Version::HTTP_11;
            if parts.uri.authority().is_some() {
                parts.uri = Uri::from(path_and_query(&parts.uri));
            }
            if parts.headers.get(HOST) != Some(&target.authority) {
                parts.headers.insert(HOST, target.authority.clone());
            }
            join_cookies(&mut parts.headers);
        }
        upstream::Version::Http2 => {
            parts.version = Version::HTTP_2;
            parts.headers.remove(HOST);
            parts.uri = absolute(&parts.uri, target, speech.secure);
        }
    }
}

/// HTTP/2 may split `cookie` into fields, HTTP/1.1 has one (RFC 9113 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let all: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

fn path_and_query(uri: &Uri) -> PathAndQuery {
    match uri.path_and_query() {
        // The empty path of `http://host?query`: a request line has to begin with a slash (RFC 9112 3.2.1).
        Some(path) if path.as_str().starts_with('?') => {
            PathAndQuery::try_from(format!("/{}", path.as_str())).unwrap_or_else(|_| path.clone())
        }
        Some(path) => path.clone(),
        None => PathAndQuery::from_static("/"),
    }
}

fn absolute(uri: &Uri, target: &Target, secure: bool) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = http::uri::Authority::from_maybe_shared(target.authority.clone()).ok();
    parts.path_and_query = Some(path_and_query(uri));
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

/// Prepares a response's fields for the caller. `via` is added for one who uses towpath as a proxy (`http_proxy`); a gateway,
/// which is what towpath is to everybody else, may leave it out (RFC 9110 7.6.3), and the map need not grow.
pub(super) fn prepare_response(parts: &mut http::response::Parts, snapshot: &Snapshot, is_proxy: bool) {
    let (headers, version) = (&mut parts.headers, parts.version);
    hop_by_hop::remove(headers);
    // Left in by the rules for requests, where it matters to the far end.
    headers.remove(TE);
    if parts.status == StatusCode::NO_CONTENT {
        // RFC 9110 8.6: there is nothing that it could be the length of.
        headers.remove(CONTENT_LENGTH);
    }
    if is_proxy {
        headers.append(VIA, via(version, snapshot));
    }
}

fn via(version: Version, snapshot: &Snapshot) -> HeaderValue {
    match version {
        Version::HTTP_2 => &snapshot.via.http2,
        Version::HTTP_10 => &snapshot.via.http10,
        _ => &snapshot.via.http11,
    }
    .clone()
}
