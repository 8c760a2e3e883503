//! A limit on the connections to one service, over all workers.
//!
//! Connections are rare beside requests, so one count for all will do. Who waits for a place is woken when one is given back;
//! [`Connections::is_wanted`] tells others to give up what they do not need.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{
            AtomicU32,
            Ordering::{Relaxed, SeqCst},
        },
    },
};

use tokio::sync::Notify;

/// The connections of a service.
#[derive(Default)]
pub struct Connections {
    open: AtomicU32,
    waiting: AtomicU32,
    freed: Notify,
}

/// One of them, until this is dropped.
pub struct HeldConnection(Arc<Connections>);

impl Drop for HeldConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, SeqCst);
        if self.0.is_wanted() {
            self.0.freed.notify_one();
        }
    }
}

/// Counts who waits for one of so many places.
struct Waiting<'c>(&'c Connections, u32);

impl Drop for Waiting<'_> {
    /// Who stops waiting beside a free place may not take it: a connection may have become idle for it meanwhile.
    fn drop(&mut self) {
        let Self(connections, max) = self;
        connections.waiting.fetch_sub(1, SeqCst);
        if connections.is_wanted() && connections.open.load(SeqCst) < *max {
            connections.freed.notify_one();
        }
    }
}

impl Connections {
    /// Room for one more, if there are fewer than `max`.
    pub fn open(self: &Arc<Self>, max: u32) -> Option<HeldConnection> {
        let more = |open: u32| (open < max).then_some(open + 1);
        self.open.fetch_update(SeqCst, SeqCst, more).ok().map(|_| HeldConnection(self.clone()))
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.open.load(Relaxed)
    }

    /// Whether anybody waits for a place.
    pub fn is_wanted(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }

    /// Returns once there may be a place: one has been given back, or there are fewer than `max`.
    pub async fn freed(&self, max: u32) {
        self.waiting.fetch_add(1, SeqCst);
        let _waiting = Waiting(self, max);
        let mut freed = pin!(self.freed.notified());
        // In line first: places that are given back between the look and the line would wake one where several wait.
        freed.as_mut().enable();
        // Said first and looked at second, as those who give back do it the other way round.
        if self.open.load(SeqCst) >= max {
            freed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{task::Poll, time::Duration};

    use super::*;

    #[test]
    fn there_are_never_more_than_allowed_and_a_closed_one_makes_room() {
        let connections = Arc::new(Connections::default());
        let (first, second) = (connections.open(2), connections.open(2));
        assert!(first.is_some() && second.is_some() && connections.open(2).is_none());
        drop(first);
        assert!(connections.open(2).is_some());
        assert_eq!(connections.count(), 1);
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_the_next_that_closes() {
        let connections = Arc::new(Connections::default());
        let held = connections.open(1);
        let mut waiting = std::pin::pin!(connections.freed(1));
        tokio::select! {
            biased;
            () = &mut waiting => panic!("there is none"),
            () = std::future::ready(()) => {}
        }
        assert!(connections.is_wanted());
        drop(held);
        waiting.await;
        assert!(!connections.is_wanted() && connections.open(1).is_some());
    }

    #[tokio::test]
    async fn a_place_that_is_left_by_who_was_woken_for_it_goes_to_the_next() {
        let connections = Arc::new(Connections::default());
        let held = connections.open(1);
        let (mut first, mut second) = (Box::pin(connections.freed(1)), Box::pin(connections.freed(1)));
        for waiting in [&mut first, &mut second] {
            assert!(std::future::poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await);
        }
        drop(held);
        first.await;
        tokio::time::timeout(Duration::from_secs(5), second).await.expect("the place is free");
        assert!(!connections.is_wanted());
    }
}
