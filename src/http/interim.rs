//! Interim (1xx) answers on their way from an endpoint to the caller.
//!
//! An endpoint may send any number of them before the final answer, from a task other than the caller's. They wait
//! here for the caller's connection, which writes them when it can; the final answer does not wait for that.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
};

use http::{HeaderMap, StatusCode, header::CONTENT_LENGTH};

use super::hop_by_hop;

/// More than this wait for nobody: the rest is dropped, as a recipient may ignore any interim answer.
const MAX_WAITING: usize = 16;

/// One request's queue of interim answers. Clones share it.
#[derive(Clone, Default)]
pub struct Interim(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Spares the lock in the common case: no interim answers.
    any: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(StatusCode, HeaderMap)>,
    /// The caller's connection.
    waker: Option<Waker>,
    /// The endpoint has said `100 Continue`.
    continued: bool,
    /// Whoever holds the request's body back until then.
    continue_waker: Option<Waker>,
}

impl Interim {
    /// Puts an answer in and wakes the connection. `100 Continue` is not passed on as it is: it lets the body be read,
    /// which makes the connection say it to the caller.
    pub fn push(&self, status: StatusCode, mut headers: HeaderMap) {
        hop_by_hop::remove(&mut headers);
        headers.remove(CONTENT_LENGTH);
        let waker = {
            let mut state = self.lock();
            if status == StatusCode::CONTINUE {
                state.continued = true;
                state.continue_waker.take()
            } else {
                self.put_in(&mut state, status, headers)
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Puts an answer of towpath's own in.
    pub fn say(&self, status: StatusCode) {
        let waker = self.put_in(&mut self.lock(), status, HeaderMap::new());
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn put_in(&self, state: &mut State, status: StatusCode, headers: HeaderMap) -> Option<Waker> {
        if state.waiting.len() == MAX_WAITING {
            return None;
        }
        state.waiting.push_back((status, headers));
        self.0.any.store(true, Ordering::Release);
        state.waker.clone()
    }

    /// Returns once the endpoint has said `100 Continue`.
    pub async fn continued(&self) {
        std::future::poll_fn(|cx| {
            let mut state = self.lock();
            if state.continued {
                return Poll::Ready(());
            }
            state.continue_waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next answer out, if one waits.
    pub fn pop(&self) -> Option<(StatusCode, HeaderMap)> {
        if !self.0.any.load(Ordering::Acquire) {
            return None;
        }
        let mut state = self.lock();
        let next = state.waiting.pop_front();
        if next.is_none() {
            self.0.any.store(false, Ordering::Release);
        }
        next
    }

    /// A queue for the next request: this one, when nobody else holds it any more.
    pub fn renew(&mut self) {
        match Arc::get_mut(&mut self.0) {
            Some(shared) => {
                *shared.any.get_mut() = false;
                let state = shared.state.get_mut().unwrap_or_else(PoisonError::into_inner);
                state.waiting.clear();
                state.continued = false;
                state.continue_waker = None;
            }
            None => *self = Self::default(),
        }
    }

    /// Whom to wake at the next answer.
    pub fn wake_with(&self, waker: &Waker) {
        let mut state = self.lock();
        if !state.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_out_in_order_and_the_excess_is_dropped() {
        let interim = Interim::default();
        assert!(interim.pop().is_none());
        for _ in 0..MAX_WAITING + 5 {
            interim.push(StatusCode::from_u16(103).expect("a status"), HeaderMap::new());
        }
        let taken = std::iter::from_fn(|| interim.pop()).count();
        assert_eq!(taken, MAX_WAITING);
        assert!(interim.pop().is_none());
    }

    #[test]
    fn what_an_earlier_request_left_behind_is_not_the_next_ones() {
        let mut interim = Interim::default();
        interim.say(StatusCode::EARLY_HINTS);
        interim.renew();
        assert!(interim.pop().is_none());
        let late = interim.clone();
        interim.renew();
        late.say(StatusCode::EARLY_HINTS);
        assert!(interim.pop().is_none(), "an abandoned attempt may still hold the old queue");
    }
}
