//! A limit on how many requests run at a time, over all workers, with a bounded queue.
//!
//! # Cost
//! A request takes a place from its worker's lane and gives it back there (`lanes.rs`): two additions to a line that no other
//! worker writes while there is enough, and a look at a word that is only written while requests wait.
//!
//! # Nothing is lost
//! Whoever gives a place back looks afterwards whether anybody wants one ([`Places::wanted`]); whoever wants one says so there
//! first and looks for places afterwards. Both orders are sequentially consistent, so that one of the two sees the other. Places
//! are handed out under the lock: to the debt of a limit that was lowered, then to who waits, in order.

use std::{
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    gradient::Adaptive,
    lanes::Lanes,
    queue::{Position, Pushed, Queue},
    ticket::{Entry, Permit, Ticket, Word},
};
use crate::config::{Concurrency, Priority};

/// The places at one limit.
pub struct Places {
    lanes: Lanes,
    /// How many requests wait, and how many places are to go. Written under the lock.
    wanted: AtomicU32,
    /// How many requests wait.
    pending: AtomicU32,
    /// How many may wait.
    max_pending: AtomicU32,
    /// The limit now.
    limit: AtomicU32,
    is_adaptive: AtomicBool,
    desk: Mutex<Desk>,
    /// Milliseconds of the caller's clock plus 1 at the first refusal of a row; 0 while none is refused.
    refusing_since: AtomicU64,
    refused: AtomicU64,
    pub(super) adaptive: Adaptive,
}

/// What is behind the lock.
struct Desk {
    queue: Queue<oneshot::Sender<Word>>,
    /// Places that exist beyond the limit.
    debt: u32,
    config: Concurrency,
    /// Refusals that the last sweep knew of.
    seen: u64,
    told: bool,
}

/// What a sweep finds to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaking {
    /// Requests are being refused.
    Begins,
    /// None has been refused since the last sweep, and none would be.
    Ends,
}

impl Places {
    /// For `workers` workers.
    pub fn new(workers: usize, config: &Concurrency) -> Self {
        let limit = first_limit(config);
        let desk = Desk { queue: Queue::default(), debt: 0, config: *config, seen: 0, told: false };
        Self {
            lanes: Lanes::new(workers, limit),
            wanted: AtomicU32::new(0),
            pending: AtomicU32::new(0),
            max_pending: AtomicU32::new(config.max_pending),
            limit: AtomicU32::new(limit),
            is_adaptive: AtomicBool::new(config.adaptive),
            desk: Mutex::new(desk),
            refusing_since: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            adaptive: Adaptive::new(limit),
        }
    }

    /// Changes what is configured. What runs goes on, and who waits stays.
    pub fn configure(&self, config: &Concurrency) {
        let mut desk = self.lock();
        if desk.config == *config {
            return;
        }
        let was_adaptive = std::mem::replace(&mut desk.config, *config).adaptive;
        self.max_pending.store(config.max_pending, Relaxed);
        self.is_adaptive.store(config.adaptive, Relaxed);
        let limit = match (was_adaptive, config.adaptive) {
            (true, true) => self.limit().min(config.max_requests),
            _ => first_limit(config),
        };
        self.adaptive.restart(limit);
        self.resize(&mut desk, limit);
    }

    /// How many requests may run now.
    pub fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    /// How many run, give or take those that come and go meanwhile.
    pub fn running(&self) -> u32 {
        let all = self.limit() + self.lock().debt;
        all.saturating_sub(self.lanes.free())
    }

    /// How many wait.
    pub fn pending(&self) -> u32 {
        self.pending.load(Relaxed)
    }

    /// Whether a further request of normal priority would be refused now.
    pub fn is_full(&self) -> bool {
        self.pending() >= self.max_pending() && self.lanes.free() == 0
    }

    /// What is configured.
    pub fn config(&self) -> Concurrency {
        self.lock().config
    }

    /// How long one waits.
    pub fn pending_timeout(&self) -> Duration {
        self.lock().config.pending_timeout
    }

    /// Since when requests are being refused, by the clock of [`Gate::enter`].
    pub fn refusing_since(&self) -> Option<u64> {
        self.refusing_since.load(Relaxed).checked_sub(1)
    }

    /// Requests that were refused because it was full.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// To be called about once a second: says when refusing begins and when it ends.
    pub fn sweep(&self) -> Option<Breaking> {
        let mut desk = self.lock();
        let refused = self.refused();
        let refuses = std::mem::replace(&mut desk.seen, refused) != refused || self.is_full();
        if !refuses {
            self.refusing_since.store(0, Relaxed);
        }
        let refusing = self.refusing_since().is_some();
        if std::mem::replace(&mut desk.told, refusing) == refusing {
            return None;
        }
        Some(if refusing { Breaking::Begins } else { Breaking::Ends })
    }

    /// Under an adaptive limit no more wait than run: a wait takes then as long as an answer, and not a multiple of it.
    fn max_pending(&self) -> u32 {
        let max = self.max_pending.load(Relaxed);
        if self.is_adaptive() { max.min(self.limit()) } else { max }
    }

    /// Whether the limit follows latency.
    pub(super) fn is_adaptive(&self) -> bool {
        self.is_adaptive.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adapts the limit, if nobody else is about it.
    pub(super) fn adapt(&self, to: impl FnOnce(u32, u32) -> u32) {
        let Ok(mut desk) = self.desk.try_lock() else { return };
        let most = desk.config.max_requests;
        let running = (self.limit() + desk.debt).saturating_sub(self.lanes.free());
        // A reload may have ended it meanwhile.
        if desk.config.adaptive {
            let limit = to(running, most).clamp(1, most);
            self.resize(&mut desk, limit);
        }
    }

    fn resize(&self, desk: &mut Desk, limit: u32) {
        let old = self.limit.swap(limit, Relaxed);
        match limit.checked_sub(old) {
            Some(more) => {
                let paid = more.min(desk.debt);
                desk.debt -= paid;
                self.lanes.spread(more - paid);
            }
            None => desk.debt += old - limit,
        }
        self.settle(desk);
    }

    /// Hands free places to those who want them.
    fn settle(&self, desk: &mut Desk) {
        loop {
            self.publish(desk);
            desk.debt -= self.lanes.take_up_to(desk.debt);
            if desk.queue.is_empty() || desk.debt > 0 || self.lanes.take_up_to(1) == 0 {
                break self.publish(desk);
            }
            let heard = desk.queue.pop().is_some_and(|waiter| waiter.send(Word::Place).is_ok());
            if !heard {
                self.lanes.give(0);
            }
        }
    }

    fn publish(&self, desk: &Desk) {
        let pending = u32::try_from(desk.queue.len()).unwrap_or(u32::MAX);
        self.pending.store(pending, Relaxed);
        self.wanted.store(pending.saturating_add(desk.debt), SeqCst);
    }
}

/// An adaptive limit begins low and finds its way up: it has to know what answers take without load.
fn first_limit(config: &Concurrency) -> u32 {
    if config.adaptive { config.max_requests.min(Adaptive::FIRST) } else { config.max_requests }
}

/// One worker's way to the places.
pub struct Gate {
    pub(super) places: Arc<Places>,
    lane: usize,
    pub(super) samples: super::gradient::Samples,
}

impl Gate {
    /// That of worker `worker`. All of one worker share their lane.
    pub fn new(places: Arc<Places>, worker: usize) -> Rc<Self> {
        let lane = places.lanes.of(worker);
        Rc::new(Self { places, lane, samples: super::gradient::Samples::default() })
    }

    /// The places it leads to.
    pub fn places(&self) -> &Arc<Places> {
        &self.places
    }

    /// A place, or a ticket for one.
    pub fn enter(self: &Rc<Self>, priority: Priority, now: impl FnOnce() -> u64) -> Entry {
        if self.places.lanes.take(self.lane) || self.take_elsewhere() {
            return Entry::Place(Permit(self.clone()));
        }
        self.wait(priority).unwrap_or_else(|| {
            self.places.refused.fetch_add(1, Relaxed);
            if self.places.refusing_since.load(Relaxed) == 0 {
                self.places.refusing_since.store(now() + 1, Relaxed);
            }
            Entry::Full
        })
    }

    fn take_elsewhere(&self) -> bool {
        let taken = self.places.lanes.take_elsewhere(self.lane);
        if taken.is_some_and(|more| more > 0) {
            // Nobody saw these on their way here.
            self.look_around();
        }
        taken.is_some()
    }

    fn wait(self: &Rc<Self>, priority: Priority) -> Option<Entry> {
        let max = self.places.max_pending() as usize;
        if max == 0 {
            return None;
        }
        let mut desk = self.places.lock();
        if !desk.queue.admits(priority, max) {
            return None;
        }
        let (sender, word) = oneshot::channel();
        let position = match desk.queue.push(priority, sender, max) {
            Pushed::Refused(_) => return None,
            Pushed::Waits(position) => position,
            Pushed::Displaces(position, displaced) => {
                // It may have left.
                let _ = displaced.send(Word::Displaced);
                position
            }
        };
        self.places.settle(&mut desk);
        drop(desk);
        Some(Entry::Waits(Ticket::new(self.clone(), position, word)))
    }

    pub(super) fn leave(&self, position: Position) {
        let mut desk = self.places.lock();
        if desk.queue.remove(position).is_some() {
            self.places.publish(&desk);
        }
    }

    pub(super) fn give_back(&self) {
        self.places.lanes.give(self.lane);
        self.look_around();
    }

    fn look_around(&self) {
        if self.places.wanted.load(SeqCst) > 0 {
            self.places.settle(&mut self.places.lock());
        }
    }
}
