//! How many TLS handshakes are under way at a time, over all workers.
//!
//! A handshake holds tens of kilobytes and costs as much CPU as tens of requests. Those beyond the limit wait in order. A caller that
//! begins one and says no more would hold its place to the end of the timeout, and as many of them as there are places would keep
//! everybody else out: so that a handshake that takes long may go on only while nobody waits (see [`Handshakes::are_awaited`]).

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The places for handshakes.
pub struct Handshakes {
    places: Semaphore,
    /// Places that there are, taken or not, less those to be done away with.
    limit: AtomicUsize,
    /// Places that are taken and to be done away with.
    surplus: AtomicUsize,
    waiting: AtomicUsize,
}

/// A place that is taken until this is dropped.
pub struct Handshaking<'a> {
    of: &'a Handshakes,
    permit: Option<SemaphorePermit<'a>>,
}

/// Counts as waiting until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Handshakes {
    /// Places for `limit` of them.
    pub fn new(limit: usize) -> Self {
        Self {
            places: Semaphore::new(limit),
            limit: AtomicUsize::new(limit),
            surplus: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
        }
    }

    /// There are `limit` places from now on. Those that are taken beyond it go when they are left. For one thread.
    pub fn configure(&self, limit: usize) {
        let before = self.limit.swap(limit, Ordering::Relaxed);
        if limit < before {
            let gone = self.places.forget_permits(before - limit);
            self.surplus.fetch_add(before - limit - gone, Ordering::Relaxed);
            return;
        }
        let wanted = limit - before;
        let spared = self.surplus.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |surplus| {
            Some(surplus.saturating_sub(wanted))
        });
        let spared = spared.unwrap_or_default().min(wanted);
        self.places.add_permits(wanted - spared);
    }

    /// A place; waits for one behind those who came before.
    pub async fn enter(&self) -> Handshaking<'_> {
        if let Ok(permit) = self.places.try_acquire() {
            return Handshaking { of: self, permit: Some(permit) };
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        // Never closed, so there always is one in the end.
        Handshaking { of: self, permit: self.places.acquire().await.ok() }
    }

    /// Whether more than twice as many wait as there are places.
    pub fn are_crowded(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 2 * self.limit.load(Ordering::Relaxed)
    }

    /// Whether somebody waits for a place.
    pub fn are_awaited(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Handshaking<'_> {
    fn drop(&mut self) {
        let surplus = &self.of.surplus;
        let one_less = |surplus: usize| surplus.checked_sub(1);
        if surplus.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
            && let Some(permit) = self.permit.take()
        {
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::{Pin, pin},
        task::{Context, Poll, Waker},
    };

    use super::*;

    fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn enter_now(handshakes: &Handshakes) -> Option<Handshaking<'_>> {
        match poll_once(pin!(handshakes.enter())) {
            Poll::Ready(entered) => Some(entered),
            Poll::Pending => None,
        }
    }

    #[test]
    fn those_beyond_the_limit_wait_in_order() {
        let handshakes = Handshakes::new(1);
        let first = enter_now(&handshakes).unwrap();
        assert!(!handshakes.are_awaited());
        let (mut second, mut third) = (pin!(handshakes.enter()), pin!(handshakes.enter()));
        assert!(poll_once(second.as_mut()).is_pending() && poll_once(third.as_mut()).is_pending());
        assert!(handshakes.are_awaited() && !handshakes.are_crowded());
        let mut fourth = Box::pin(handshakes.enter());
        assert!(poll_once(fourth.as_mut()).is_pending() && handshakes.are_crowded());
        drop(fourth);
        drop(first);
        assert!(poll_once(third.as_mut()).is_pending());
        let Poll::Ready(second) = poll_once(second.as_mut()) else { panic!("it was the first to wait") };
        drop(second);
        assert!(poll_once(third.as_mut()).is_ready() && !handshakes.are_awaited());
    }

    #[test]
    fn who_gives_up_waiting_is_not_waited_for() {
        let handshakes = Handshakes::new(1);
        let _first = enter_now(&handshakes).unwrap();
        assert!(enter_now(&handshakes).is_none());
        assert!(!handshakes.are_awaited());
    }

    #[test]
    fn a_limit_that_is_lowered_and_raised_while_places_are_taken_holds() {
        let handshakes = Handshakes::new(3);
        let mut taken: Vec<_> = (0..3).map(|_| enter_now(&handshakes).unwrap()).collect();
        handshakes.configure(1);
        taken.pop();
        taken.pop();
        assert!(enter_now(&handshakes).is_none(), "one is taken, and there is one");
        taken.pop();
        taken.push(enter_now(&handshakes).unwrap());
        assert!(enter_now(&handshakes).is_none());
        handshakes.configure(2);
        taken.push(enter_now(&handshakes).unwrap());
        handshakes.configure(1);
        handshakes.configure(2);
        assert!(enter_now(&handshakes).is_none(), "two are taken, and there are two");
        taken.clear();
        let _two = (enter_now(&handshakes).unwrap(), enter_now(&handshakes).unwrap());
        assert!(enter_now(&handshakes).is_none());
    }
}
