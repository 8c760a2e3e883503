//! What one worker thread has: its view of the snapshot, its connections to endpoints, its random numbers.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{caller::Callers, idle::Waiting};
use crate::{
    auth::Tokens,
    limit::Gate,
    published::{Published, Reader},
    snapshot::{ListenerRoutes, NodeLimits, Snapshot, View},
    telemetry::Metrics,
    upstream::Pools,
};

/// How long the routes of a removed listener serve the requests that are on their way.
const LEAVING: Duration = Duration::from_secs(5);

/// One worker. Everything in it belongs to one thread.
pub struct Worker {
    /// Which, from 0.
    pub index: usize,
    /// Where everything counts.
    pub metrics: Arc<Metrics>,
    /// Connections to endpoints.
    pub pools: Pools,
    /// How much this node carries.
    pub limits: Arc<NodeLimits>,
    /// This worker's way to the places of its requests.
    pub(super) gate: Rc<Gate>,
    /// Tokens that were verified here.
    pub(super) tokens: Tokens,
    /// The callers that it knows.
    pub(super) callers: Callers,
    /// Requests that wait for something to move.
    pub(super) waiting: Rc<Waiting>,
    snapshot: Reader<Snapshot>,
    view: RefCell<Rc<View>>,
    /// Earlier views with listeners that the present one lacks, until connections have had the time to leave.
    leaving: RefCell<Vec<(Instant, Rc<View>)>>,
    random: RefCell<fastrand::Rng>,
    /// The `Date` field, and the second that it was made for.
    date: RefCell<(u64, http::HeaderValue)>,
}

impl Worker {
    /// A worker that reads `snapshot`. To be made on its own thread.
    pub fn new(index: usize, snapshot: &Published<Snapshot>, metrics: Arc<Metrics>) -> Self {
        let snapshot = snapshot.reader();
        let view = Rc::new(View::new((*snapshot.get()).clone(), None));
        Self {
            index,
            metrics,
            pools: Pools::default(),
            gate: Gate::new(view.snapshot.limits.requests.clone(), index),
            limits: view.snapshot.limits.clone(),
            tokens: Tokens::default(),
            callers: Callers::default(),
            waiting: Rc::default(),
            snapshot,
            view: RefCell::new(view),
            leaving: RefCell::default(),
            random: RefCell::new(fastrand::Rng::new()),
            date: RefCell::new((0, http::HeaderValue::from_static(""))),
        }
    }

    /// The snapshot in force, as this worker reads it. A request calls this once.
    pub fn view(&self) -> Rc<View> {
        let now = self.snapshot.get();
        let mut view = self.view.borrow_mut();
        if !Arc::ptr_eq(&view.snapshot, &now) {
            let new = Rc::new(View::new((*now).clone(), Some(&view)));
            let old = std::mem::replace(&mut *view, new);
            if !Arc::ptr_eq(&old.snapshot.rules, &now.rules) {
                self.waiting.revise();
            }
            let lacks = |listener: &ListenerRoutes| now.listener(&listener.name).is_none();
            if old.snapshot.listeners.iter().any(lacks) {
                self.leaving.borrow_mut().push((Instant::now(), old));
            }
        }
        view.clone()
    }

    /// A uniform random number; not for secrets.
    pub fn random(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }

    /// The `Date` field of a response made now (RFC 9110 6.6.1).
    pub fn date(&self) -> http::HeaderValue {
        let now = std::time::SystemTime::now();
        let second = now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut date = self.date.borrow_mut();
        if date.0 != second {
            let text = httpdate::fmt_http_date(now);
            let value = http::HeaderValue::from_str(&text).expect("an HTTP date is visible ASCII");
            *date = (second, value);
        }
        date.1.clone()
    }

    /// Housekeeping; to be called about once a second.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.pools.sweep(now);
        self.waiting.sweep(now);
        self.callers.sweep();
        self.leaving.borrow_mut().retain(|(since, _)| now - *since < LEAVING);
        // Also lets go of a snapshot that no request has asked about since it was replaced.
        let view = self.view();
        self.tokens.retain(&view.snapshot.providers);
        view.sweep();
    }
}
