//! Requests that stand still: the service's `stream_idle_timeout`.
//!
//! # What it costs
//! A timer for each request would be most of what waiting costs. So one that waits leaves its waker with its worker, which looks
//! once a second whose time is over. Nothing is noted when bytes move: they are counted anyway, and a request that is woken and
//! finds that some have moved waits anew. It ends up to two seconds after its time, and never before.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::Worker;

/// From one sweep to the next, or a little more.
const TICK: Duration = Duration::from_secs(1);
/// Longer is as good as for ever, and moments so far away need not exist.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// One worker's requests that wait for something to move.
pub(super) struct Waiting {
    /// The time of the last sweep.
    clock: Cell<Instant>,
    places: RefCell<Places>,
}

#[derive(Default)]
struct Places {
    all: Vec<Option<Place>>,
    /// Of `all`.
    free: Vec<usize>,
}

struct Place {
    waker: Waker,
    /// When its time is over, if nothing has moved until then.
    due: Instant,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { clock: Cell::new(Instant::now()), places: RefCell::default() }
    }
}

impl Waiting {
    /// Wakes those whose time is over. To be called about once a second.
    pub(super) fn sweep(&self, now: Instant) {
        self.clock.set(now);
        for place in self.places.borrow().all.iter().flatten().filter(|place| place.due <= now) {
            place.waker.wake_by_ref();
        }
    }

    fn enter(&self, waker: &Waker, due: Instant) -> usize {
        let place = Some(Place { waker: waker.clone(), due });
        let places = &mut *self.places.borrow_mut();
        if let Some(free) = places.free.pop() {
            places.all[free] = place;
            return free;
        }
        places.all.push(place);
        places.all.len() - 1
    }

    fn renew(&self, place: usize, waker: &Waker, due: Instant) {
        if let Some(place) = &mut self.places.borrow_mut().all[place] {
            place.due = due;
            if !place.waker.will_wake(waker) {
                place.waker.clone_from(waker);
            }
        }
    }

    fn leave(&self, place: usize) {
        let places = &mut *self.places.borrow_mut();
        places.all[place] = None;
        places.free.push(place);
    }
}

/// How long one request may stand still.
pub(super) struct Patience {
    worker: Rc<Worker>,
    limit: Duration,
    place: Option<usize>,
    /// What had moved when it was last looked at.
    moved: u64,
    due: Instant,
}

impl Patience {
    /// For a request of `worker`.
    pub(super) fn new(worker: &Rc<Worker>, limit: Duration) -> Self {
        let (due, limit) = (worker.waiting.clock.get(), limit.min(LONGEST));
        Self { worker: worker.clone(), limit, place: None, moved: 0, due }
    }

    /// Ready when nothing has moved for the limit. `moved` is any count that grows with what moves.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, moved: u64) -> Poll<()> {
        let waiting = &self.worker.waiting;
        let now = waiting.clock.get();
        let Some(place) = self.place else {
            (self.moved, self.due) = (moved, now + TICK + self.limit);
            self.place = Some(waiting.enter(cx.waker(), self.due));
            return Poll::Pending;
        };
        if self.moved != moved {
            (self.moved, self.due) = (moved, now + TICK + self.limit);
        } else if now >= self.due {
            return Poll::Ready(());
        }
        waiting.renew(place, cx.waker(), self.due);
        Poll::Pending
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.worker.waiting.leave(place);
        }
    }
}
