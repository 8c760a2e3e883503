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

/// From one sweep to the next, or a little more.
const TICK: Duration = Duration::from_secs(1);
/// Longer is as good as for ever, and moments so far away need not exist.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// One worker's requests that wait for something to move.
pub(super) struct Waiting {
    /// Counts up when what callers may do has changed.
    revision: Cell<u32>,
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
        Self { revision: Cell::new(0), clock: Cell::new(Instant::now()), places: RefCell::default() }
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

    /// How often what callers may do has changed.
    pub(super) fn revision(&self) -> u32 {
        self.revision.get()
    }

    /// What callers may do has changed: wakes everybody, to look whether they still may.
    pub(super) fn revise(&self) {
        self.revision.set(self.revision.get().wrapping_add(1));
        for place in self.places.borrow().all.iter().flatten() {
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
    waiting: Rc<Waiting>,
    limit: Duration,
    place: Option<usize>,
    /// What had moved when it was last looked at.
    moved: u64,
    due: Instant,
}

impl Patience {
    /// For a request of the worker that has `waiting`.
    pub(super) fn new(waiting: &Rc<Waiting>, limit: Duration) -> Self {
        let (due, limit) = (waiting.clock.get(), limit.min(LONGEST));
        Self { waiting: waiting.clone(), limit, place: None, moved: 0, due }
    }

    /// Ready when nothing has moved for the limit. `moved` is any count that grows with what moves.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, moved: u64) -> Poll<()> {
        let now = self.waiting.clock.get();
        let Some(place) = self.place else {
            (self.moved, self.due) = (moved, now + TICK + self.limit);
            self.place = Some(self.waiting.enter(cx.waker(), self.due));
            return Poll::Pending;
        };
        if self.moved != moved {
            (self.moved, self.due) = (moved, now + TICK + self.limit);
        } else if now >= self.due {
            return Poll::Ready(());
        }
        self.waiting.renew(place, cx.waker(), self.due);
        Poll::Pending
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.waiting.leave(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    };

    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicU32);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    struct Stream {
        patience: Patience,
        woken: Arc<Woken>,
    }

    impl Stream {
        fn new(waiting: &Rc<Waiting>, limit: Duration) -> Self {
            Self { patience: Patience::new(waiting, limit), woken: Arc::default() }
        }

        fn is_over(&mut self, moved: u64) -> bool {
            let waker = self.woken.clone().into();
            self.patience.poll(&mut Context::from_waker(&waker), moved).is_ready()
        }

        fn woken(&self) -> u32 {
            self.woken.0.swap(0, Relaxed)
        }
    }

    /// Sweeps once a second, for so many.
    async fn pass(waiting: &Waiting, seconds: u64) {
        for _ in 0..seconds {
            tokio::time::advance(TICK).await;
            waiting.sweep(Instant::now());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_stands_still_is_woken_after_its_time_and_not_before() {
        let waiting = Rc::new(Waiting::default());
        tokio::time::advance(TICK - Duration::from_millis(1)).await;
        let mut stream = Stream::new(&waiting, Duration::from_secs(5));
        let begun = Instant::now();
        assert!(!stream.is_over(0));
        while stream.woken() == 0 {
            assert!(!stream.is_over(0), "after {:?}", begun.elapsed());
            pass(&waiting, 1).await;
        }
        assert!(stream.is_over(0));
        let taken = begun.elapsed();
        assert!((Duration::from_secs(5)..Duration::from_secs(7)).contains(&taken), "{taken:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_moves_goes_on_for_ever_and_is_looked_at_rarely() {
        let waiting = Rc::new(Waiting::default());
        let mut stream = Stream::new(&waiting, Duration::from_secs(10));
        let mut looks = 0;
        for moved in 0..100 {
            if stream.woken() > 0 {
                looks += 1;
                assert!(!stream.is_over(moved));
            }
            if moved == 0 {
                assert!(!stream.is_over(moved));
            }
            pass(&waiting, 1).await;
        }
        assert!((5..=10).contains(&looks), "{looks}");
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_given_back_and_used_again() {
        let waiting = Rc::new(Waiting::default());
        for _ in 0..3 {
            let mut streams: Vec<_> = (0..4).map(|_| Stream::new(&waiting, Duration::from_secs(1))).collect();
            assert!(streams.iter_mut().all(|stream| !stream.is_over(0)));
            let gone = streams.remove(1);
            let woken = gone.woken.clone();
            drop(gone);
            pass(&waiting, 3).await;
            assert!(streams.iter().all(|stream| stream.woken() > 0));
            assert_eq!(woken.0.load(Relaxed), 0, "what has gone is woken no more");
            assert_eq!(waiting.places.borrow().all.len(), 4);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_without_end_is_none() {
        let waiting = Rc::new(Waiting::default());
        let mut stream = Stream::new(&waiting, Duration::MAX);
        assert!(!stream.is_over(0));
        pass(&waiting, 10).await;
        assert!(!stream.is_over(0));
        assert_eq!(stream.woken(), 0);
    }
}
