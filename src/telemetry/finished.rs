//! A request that is over and gets spans, as it waits for the exporter: a [`Record`] that owns what it tells.

use std::time::{Duration, SystemTime};

use super::{AttemptNote, Phases, Record, TraceContext};
use crate::net::Address;

/// Bytes of any text that are kept: what waits must be bounded, and callers write some of it (host, path with its query, id, and the name
/// of a service that is made for a host).
const LONGEST: usize = 1024;
/// Bytes of a method that are kept: it is a word, but a caller may write any.
const LONGEST_METHOD: usize = 64;

/// One request. Fields as in [`Record`].
#[derive(Clone, Debug)]
#[allow(missing_docs)] // as in `Record`
pub struct Finished {
    pub trace: TraceContext,
    pub time: SystemTime,
    pub duration: Duration,
    pub listener: Box<str>,
    pub peer: Address,
    pub caller: Box<str>,
    pub method: Box<str>,
    pub host: Box<[u8]>,
    pub path: Box<[u8]>,
    pub protocol: Box<str>,
    pub route: Option<Box<str>>,
    pub service: Option<Box<str>>,
    pub endpoint: Option<Address>,
    pub status: u16,
    pub reason: Option<Box<str>>,
    pub cause: Option<Box<str>>,
    pub fault: Option<Box<str>>,
    pub attempts: u32,
    pub request_id: Box<[u8]>,
    pub grpc_status: Option<u32>,
    pub is_grpc: bool,
    pub failed: bool,
    pub phases: Phases,
    pub notes: Box<[AttemptNote]>,
}

impl Finished {
    /// What `record` tells of a request in the trace `trace`.
    pub(super) fn new(record: &Record<'_>, trace: TraceContext, failed: bool) -> Self {
        let own = |text: Option<&str>| text.map(|text| cut(text, LONGEST));
        Self {
            trace,
            time: record.time,
            duration: record.duration,
            listener: cut(record.listener, LONGEST),
            peer: record.peer.clone(),
            caller: cut(record.caller, LONGEST),
            method: cut(record.method, LONGEST_METHOD),
            host: bounded(record.host),
            path: bounded(record.path),
            protocol: record.protocol.into(),
            route: own(record.route),
            service: own(record.service),
            endpoint: record.endpoint.cloned(),
            status: record.status,
            reason: own(record.reason),
            cause: own(record.cause),
            fault: own(record.fault),
            attempts: record.attempts,
            request_id: bounded(record.request_id),
            grpc_status: record.grpc_status,
            is_grpc: record.is_grpc,
            failed,
            phases: record.phases,
            notes: record.notes.into(),
        }
    }

    /// How many spans it gets: its own, and one for each attempt.
    pub fn spans(&self) -> usize {
        1 + self.notes.len()
    }
}

fn cut(text: &str, longest: usize) -> Box<str> {
    text[..text.floor_char_boundary(longest)].into()
}

fn bounded(bytes: &[u8]) -> Box<[u8]> {
    bytes[..bytes.len().min(LONGEST)].into()
}
