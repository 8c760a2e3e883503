//! One request as everything that tells of it sees it: access log, spans, tap.

use std::time::{Duration, SystemTime};

use super::{AttemptOutcome, TraceContext};
use crate::{config::Name, net::Address};

/// What a request counts as whose caller went away.
pub const CALLER_GONE: u16 = 499;
/// What a request counts as whose caller was to get no answer.
pub const NO_ANSWER: u16 = 444;

/// Whether the caller of a request that counts as `status` was sent a response with that status: an endpoint may answer 499 or 444 itself.
pub fn was_sent(status: u16, notes: &[AttemptNote]) -> bool {
    !matches!(status, CALLER_GONE | NO_ANSWER) || notes.iter().any(|note| note.status == Some(status))
}

/// One request, as it is told. Times are the caller's view; bytes are of bodies.
pub struct Record<'a> {
    /// When its head had come.
    pub time: SystemTime,
    /// Name.
    pub listener: &'a str,
    /// The caller's end of the connection.
    pub peer: &'a Address,
    /// Who that is.
    pub caller: &'a str,
    /// As sent.
    pub method: &'a str,
    /// As sent.
    pub host: &'a [u8],
    /// As sent, query included.
    pub path: &'a [u8],
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'a str,
    /// None when no route matched.
    pub route: Option<&'a str>,
    /// None when no service was chosen.
    pub service: Option<&'a str>,
    /// None when no endpoint was chosen.
    pub endpoint: Option<&'a Address>,
    /// What the caller got.
    pub status: u16,
    /// `towpath-error`, when towpath itself answered.
    pub reason: Option<&'a str>,
    /// Which limit, timeout or policy that was, where there are several.
    pub cause: Option<&'a str>,
    /// What was done to it on purpose.
    pub fault: Option<&'a str>,
    /// The policy, and its rule, that denied it or would have.
    pub policy: Option<&'a str>,
    /// How many there were.
    pub attempts: u32,
    /// From the head to the end of the response.
    pub duration: Duration,
    /// Of the request.
    pub bytes_in: u64,
    /// Of the response.
    pub bytes_out: u64,
    /// `x-request-id`.
    pub request_id: &'a [u8],
    /// `grpc-status`, where the response has one.
    pub grpc_status: Option<u32>,
    /// What its trace is called; none where nobody asked.
    pub trace: Option<&'a TraceContext>,
    /// It is a gRPC call.
    pub is_grpc: bool,
    /// How far it was when.
    pub phases: Phases,
    /// Its attempts, in the order in which they began.
    pub notes: &'a [AttemptNote],
    /// The attempt that has decided what the caller got; none without any.
    pub answering: Option<&'a AttemptNote>,
}

/// How long after its head a request had come how far; none: it did not come so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Its route and service were known, and that it may call them.
    pub routed: Option<Duration>,
    /// It had its places on this node and at its service.
    pub admitted: Option<Duration>,
    /// The head of the response was ready for the caller.
    pub answered: Option<Duration>,
}

/// One attempt. Durations are since the request's head had come.
#[derive(Clone, Debug)]
pub struct AttemptNote {
    /// The service; another than the request's where one stood in.
    pub service: Name,
    /// Where it went.
    pub endpoint: Address,
    /// What made it necessary; none of a first one.
    pub why: Option<&'static str>,
    /// An endpoint had been chosen.
    pub begun: Duration,
    /// It had a connection.
    pub sent: Option<Duration>,
    /// The head of its response was here.
    pub head: Option<Duration>,
    /// It was over; none while it runs.
    pub ended: Option<Duration>,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// The status of its response.
    pub status: Option<u16>,
    /// Its span.
    pub span: u64,
}

#[cfg(test)]
pub(super) mod samples {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    use super::*;

    static PEER: Address = Address::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5000));

    /// A request, for tests of what is told of requests.
    pub(in super::super) fn sample() -> Record<'static> {
        Record {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_709_251_199_042),
            listener: "outgoing",
            peer: &PEER,
            caller: "unknown",
            method: "GET",
            host: b"reviews",
            path: b"/v2?x=1",
            protocol: "HTTP/1.1",
            route: Some("r"),
            service: Some("s"),
            endpoint: None,
            status: 200,
            reason: None,
            cause: None,
            fault: None,
            policy: None,
            attempts: 1,
            duration: Duration::from_micros(1_250),
            bytes_in: 0,
            bytes_out: 0,
            request_id: b"id",
            grpc_status: None,
            trace: None,
            is_grpc: false,
            phases: Phases::default(),
            notes: &[],
            answering: None,
        }
    }

    /// One of its attempts.
    pub(in super::super) fn attempt() -> AttemptNote {
        AttemptNote {
            service: "s".into(),
            endpoint: PEER.clone(),
            why: None,
            begun: Duration::ZERO,
            sent: None,
            head: None,
            ended: None,
            outcome: AttemptOutcome::Success,
            status: None,
            span: 0,
        }
    }
}
