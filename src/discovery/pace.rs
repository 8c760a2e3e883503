//! How many lookups run, and how fast they start: thousands of names must not become a burst of queries.
//!
//! # The rule
//! Names that are new (or that all are to be asked again, because the servers changed) start [`GAP`] apart. Refreshes
//! are spread by their jitter already and start when they are due. Neither has more than [`BACKGROUND`] running. A name
//! that a request waits for starts at once, and has [`URGENT`] places of its own.

use std::{cell::Cell, time::Duration};

use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit},
    time::{Instant, sleep_until},
};

/// Between two lookups that are not refreshes: 500 a second, of two queries each.
pub(super) const GAP: Duration = Duration::from_millis(2);

/// Lookups that run at once. Each holds up to eight UDP sockets (two families, four transmissions), and a node may
/// follow a thousand names on the usual 1024 file descriptors' budget.
const BACKGROUND: usize = 48;

/// Lookups that run at once beside those, for names that a request waits for.
const URGENT: usize = 16;

/// Hands out turns.
pub(super) struct Pace {
    next: Cell<Option<Instant>>,
    background: Semaphore,
    urgent: Semaphore,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { next: Cell::new(None), background: Semaphore::new(BACKGROUND), urgent: Semaphore::new(URGENT) }
    }

    /// The turn of a name that is due. It lasts until the permit is dropped.
    pub(super) async fn turn(&self) -> SemaphorePermit<'_> {
        self.background.acquire().await.expect("the semaphore is never closed")
    }

    /// The turn of a name among many that start; sooner when `urgent` is notified.
    pub(super) async fn paced_turn(&self, urgent: &Notify) -> SemaphorePermit<'_> {
        let slot = self.slot(Instant::now());
        let in_order = async {
            sleep_until(slot).await;
            self.turn().await
        };
        tokio::select! {
            biased;
            () = urgent.notified() => self.urgent_turn().await,
            permit = in_order => permit,
        }
    }

    async fn urgent_turn(&self) -> SemaphorePermit<'_> {
        tokio::select! {
            permit = self.urgent.acquire() => permit.expect("the semaphore is never closed"),
            permit = self.turn() => permit,
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
            let _permit = pace.paced_turn(&quiet).await;
            last = Instant::now();
        }
        assert!(last - start >= GAP * 99, "{:?}", last - start);
        for _ in 0..500 {
            pace.slot(Instant::now());
        }
        let urgent = Notify::new();
        urgent.notify_one();
        let before = Instant::now();
        let _permit = pace.paced_turn(&urgent).await;
        assert_eq!(Instant::now(), before);
    }

    #[tokio::test(start_paused = true)]
    async fn an_urgent_name_has_a_place_when_all_others_are_taken() {
        let pace = Pace::new();
        let mut taken = Vec::new();
        for _ in 0..BACKGROUND {
            taken.push(pace.turn().await);
        }
        let urgent = Notify::new();
        urgent.notify_one();
        let _permit = pace.paced_turn(&urgent).await;
        assert!(tokio::time::timeout(Duration::from_secs(1), pace.turn()).await.is_err());
    }
}
