//! One timer for the life of a connection.
//!
//! Moving a deadline further away, which every request does, only writes a field: the runtime's timer is left to fire
//! at the old time and is set again then. So a busy connection sets a timer once in the length of its timeout.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline that moves.
pub(super) struct Timer {
    deadline: Instant,
    /// Made when the timer is first waited for.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    pub(super) fn new(deadline: Instant) -> Self {
        Self { deadline, sleep: None }
    }

    pub(super) fn set(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// Ready when the deadline has passed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn fired(timer: &mut Timer) {
        std::future::poll_fn(|cx| timer.poll(cx)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_fires_at_the_last_deadline_set_later_or_earlier() {
        let start = Instant::now();
        let mut timer = Timer::new(start + Duration::from_secs(10));
        assert!(std::future::poll_fn(|cx| Poll::Ready(timer.poll(cx))).await.is_pending());
        timer.set(start + Duration::from_secs(30));
        fired(&mut timer).await;
        assert!(start.elapsed() >= Duration::from_secs(30));
        timer.set(start + Duration::from_secs(100));
        assert!(std::future::poll_fn(|cx| Poll::Ready(timer.poll(cx))).await.is_pending());
        timer.set(start + Duration::from_secs(40));
        fired(&mut timer).await;
        assert!(start.elapsed() < Duration::from_secs(41));
    }
}
