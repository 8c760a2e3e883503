//! The account of a request: what its access log line, its spans and those who look on are told of it.
//!
//! Kept only while somebody wants to know; a request without it pays one look at a flag. The attempts write their own parts
//! (`report.rs`), so that a cancelled one is in it too.

use std::{
    cell::{Cell, Ref, RefCell},
    rc::Rc,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version, request::Parts};

use super::exchange::Caller;
use crate::{
    config::Name,
    http::Body,
    net::Address,
    service::Picked,
    telemetry::{AttemptNote, AttemptOutcome, Phases, TraceContext},
};

/// What is told of one request.
pub(super) struct Account {
    pub(super) time: SystemTime,
    pub(super) started: Instant,
    pub(super) peer: Address,
    pub(super) method: Method,
    pub(super) host: HeaderValue,
    pub(super) path: Option<http::uri::PathAndQuery>,
    pub(super) protocol: &'static str,
    pub(super) grpc_status: Cell<Option<u32>>,
    pub(super) trace: Cell<Option<TraceContext>>,
    pub(super) phases: Cell<Phases>,
    /// The caller gets told.
    pub(super) debug: Cell<bool>,
    /// Why its route was chosen; only for a caller who gets told.
    pub(super) why: RefCell<String>,
    notes: RefCell<Vec<AttemptNote>>,
    /// Of the attempt that decided what the caller gets.
    decided: Cell<Option<usize>>,
}

/// One attempt in the account of its request.
pub(super) struct Entry {
    account: Rc<Account>,
    index: usize,
}

impl Account {
    /// Of a request that has come at `started`.
    pub(super) fn of(caller: &Caller, request: &Request<Body>, started: Instant) -> Rc<Self> {
        let line = (request.method(), request.uri(), request.version());
        Self::begin_with(caller, line, request.headers(), started)
    }

    /// The same, of one of which the body is elsewhere.
    pub(super) fn new(caller: &Caller, parts: &Parts, started: Instant) -> Rc<Self> {
        let line = (&parts.method, &parts.uri, parts.version);
        Self::begin_with(caller, line, &parts.headers, started)
    }

    fn begin_with(
        caller: &Caller,
        (method, uri, version): (&Method, &Uri, Version),
        headers: &HeaderMap,
        started: Instant,
    ) -> Rc<Self> {
        let host = uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        let host = host.or_else(|| headers.get(http::header::HOST).cloned());
        Rc::new(Self {
            time: SystemTime::now(),
            started,
            peer: caller.peer.clone(),
            method: method.clone(),
            host: host.unwrap_or(HeaderValue::from_static("")),
            path: uri.path_and_query().cloned(),
            protocol: match version {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_2 => "HTTP/2",
                _ => "HTTP/1.1",
            },
            grpc_status: Cell::default(),
            trace: Cell::default(),
            phases: Cell::default(),
            debug: Cell::default(),
            why: RefCell::default(),
            notes: RefCell::default(),
            decided: Cell::default(),
        })
    }

    /// Notes that the request has come so far now.
    pub(super) fn reach(&self, phase: impl FnOnce(&mut Phases) -> &mut Option<Duration>) {
        let mut phases = self.phases.get();
        phase(&mut phases).get_or_insert_with(|| self.started.elapsed());
        self.phases.set(phases);
    }

    /// Notes that an attempt begins, for this reason where it is not the first; its span is `span`.
    pub(super) fn begin(
        self: &Rc<Self>,
        service: &Name,
        picked: &Picked,
        (why, span): (Option<&'static str>, u64),
    ) -> Entry {
        let mut notes = self.notes.borrow_mut();
        // Most requests have one; pushing would make room for four.
        notes.reserve_exact(1);
        notes.push(AttemptNote {
            service: service.clone(),
            endpoint: picked.address.clone(),
            why,
            begun: self.started.elapsed(),
            sent: None,
            head: None,
            ended: None,
            outcome: AttemptOutcome::Cancelled,
            status: None,
            span,
        });
        Entry { account: self.clone(), index: notes.len() - 1 }
    }

    /// Which of its attempts has decided what the caller gets; while none has, the last.
    pub(super) fn answering(&self) -> Option<usize> {
        self.decided.get().or_else(|| self.notes.borrow().len().checked_sub(1))
    }

    /// Its attempts.
    pub(super) fn notes(&self) -> Ref<'_, [AttemptNote]> {
        Ref::map(self.notes.borrow(), |notes| &**notes)
    }
}

impl Entry {
    fn note(&self, change: impl FnOnce(&mut AttemptNote, Duration)) {
        let since = self.account.started.elapsed();
        if let Some(note) = self.account.notes.borrow_mut().get_mut(self.index) {
            change(note, since);
        }
    }

    /// It goes on at another endpoint.
    pub(super) fn moves_to(&self, picked: &Picked) {
        self.note(|note, _| note.endpoint = picked.address.clone());
    }

    /// It decides what the caller gets.
    pub(super) fn decides(&self) {
        self.account.decided.set(Some(self.index));
    }

    /// It has a connection.
    pub(super) fn sent(&self) {
        self.note(|note, since| note.sent = Some(since));
    }

    /// The head of its response is here.
    pub(super) fn head(&self, status: StatusCode) {
        self.note(|note, since| (note.head, note.status) = (Some(since), Some(status.as_u16())));
    }

    /// It is over.
    pub(super) fn end(&self, outcome: AttemptOutcome) {
        self.note(|note, since| (note.ended, note.outcome) = (Some(since), outcome));
    }
}
