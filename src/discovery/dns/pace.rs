//! How many lookups run, and how fast they start: thousands of names must not become a burst of queries.
//!
//! # The rule
//! Names that are new (or that all are to be asked again, because the servers changed) start [`GAP`] apart. Refreshes
//! are spread by their jitter already and start when they are due. Names of each [`Trust`] have places of their own, for
//! one whose server is silent holds its place for the whole timeout: however many those are, a name that is answered
//! does not wait for them. A name that a request waits for starts at once, and has [`URGENT`] places of its own.

use std::{cell::Cell, time::Duration};

use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit, TryAcquireError},
    time::{Instant, sleep_until},
};

/// Between two lookups that are not refreshes: 500 a second, of two queries each.
pub(super) const GAP: Duration = Duration::from_millis(2);

/// Lookups that run at once of names that were answered the last time. Each holds up to eight UDP sockets (two
/// families, four transmissions), and a node may follow a thousand names on the usual 1024 file descriptors' budget.
const ANSWERED: usize = 40;

/// Lookups that run at once of names that were never asked for.
const NEW: usize = 16;

/// Lookups that run at once of names whose last good answer still stands.
const FAILING: usize = 8;

/// Lookups that run at once of names that have failed, and of which nothing is known.
const UNKNOWN: usize = 8;

/// Lookups that run at once beside those, for names that a request waits for.
const URGENT: usize = 16;

/// Late parts of answers that are waited for at once.
const LATE: usize = 16;

/// What may be expected of a name's server, by what it did the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// It answered.
    Answered,
    /// It was never asked.
    New,
    /// It failed, but what it said before still stands.
    Failing,
    /// It failed, and nothing is known.
    Unknown,
}

/// Hands out turns.
pub(super) struct Pace {
    next: Cell<Option<Instant>>,
    /// By [`Trust`].
    places: [Semaphore; 4],
    urgent: Semaphore,
    late: Semaphore,
}

impl Pace {
    pub(super) fn new() -> Self {
        let places = [ANSWERED, NEW, FAILING, UNKNOWN].map(Semaphore::new);
        Self { next: Cell::new(None), places, urgent: Semaphore::new(URGENT), late: Semaphore::new(LATE) }
    }

    /// The turn of a name that is due. It lasts until the permit is dropped.
    pub(super) async fn turn(&self, trust: Trust) -> SemaphorePermit<'_> {
        self.places[trust as usize].acquire().await.expect("the semaphore is never closed")
    }

    /// The turn of a name among many that start; sooner when `urgent` is notified.
    pub(super) async fn paced_turn(&self, trust: Trust, urgent: &Notify) -> SemaphorePermit<'_> {
        let slot = self.slot(Instant::now());
        let in_order = async {
            sleep_until(slot).await;
            self.turn(trust).await
        };
        tokio::select! {
            biased;
            () = urgent.notified() => self.urgent_turn(trust).await,
            permit = in_order => permit,
        }
    }

    /// A place to wait for a late part of an answer, if there is one: it is asked for again with the next lookup.
    pub(super) fn late(&self) -> Result<SemaphorePermit<'_>, TryAcquireError> {
        self.late.try_acquire()
    }

    async fn urgent_turn(&self, trust: Trust) -> SemaphorePermit<'_> {
        tokio::select! {
            permit = self.urgent.acquire() => permit.expect("the semaphore is never closed"),
            permit = self.turn(trust) => permit,
        }
    }

    fn slot(&self, now: Instant) -> Instant {
        let slot = self.next.get().map_or(now, |next| next.max(now));
        self.next.set(Some(slot + GAP));
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn new_names_start_apart_and_an_urgent_one_at_once() {
        let pace = Pace::new();
        let start = Instant::now();
        let quiet = Notify::new();
        let mut last = start;
        for _ in 0..100 {
            let _permit = pace.paced_turn(Trust::New, &quiet).await;
            last = Instant::now();
        }
        assert!(last - start >= GAP * 99, "{:?}", last - start);
        for _ in 0..500 {
            pace.slot(Instant::now());
        }
        let urgent = Notify::new();
        urgent.notify_one();
        let before = Instant::now();
        let _permit = pace.paced_turn(Trust::New, &urgent).await;
        assert_eq!(Instant::now(), before);
    }

    #[tokio::test(start_paused = true)]
    async fn an_urgent_name_has_a_place_when_all_others_are_taken() {
        let pace = Pace::new();
        let mut taken = Vec::new();
        for _ in 0..NEW {
            taken.push(pace.turn(Trust::New).await);
        }
        let urgent = Notify::new();
        urgent.notify_one();
        let _permit = pace.paced_turn(Trust::New, &urgent).await;
        assert!(tokio::time::timeout(Duration::from_secs(1), pace.turn(Trust::New)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn names_of_one_trust_take_no_place_of_another() {
        let pace = Pace::new();
        let mut taken = Vec::new();
        for (trust, places) in [(Trust::New, NEW), (Trust::Failing, FAILING), (Trust::Unknown, UNKNOWN)] {
            for _ in 0..places {
                taken.push(pace.turn(trust).await);
            }
            assert!(
                tokio::time::timeout(Duration::from_secs(1), pace.turn(trust)).await.is_err(),
                "{trust:?}"
            );
        }
        let before = Instant::now();
        let _permit = pace.turn(Trust::Answered).await;
        assert_eq!(Instant::now(), before);
    }
}
