//! Interim (1xx) answers on their way from an endpoint to the caller.
//!
//! An endpoint may send any number of them before the final answer. They wait here for the caller's connection, which writes
//! them when it can; the final answer does not wait for that.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    task::{Poll, Waker},
};

use http::{HeaderMap, StatusCode, header::CONTENT_LENGTH};

use super::hop_by_hop;

/// More than this wait for nobody: the rest is dropped, as a recipient may ignore any interim answer.
const MAX_WAITING: usize = 16;
/// More than this are not passed on for one request: nothing else bounds what waits for an HTTP/2 caller that does not read.
const MAX_PASSED: u32 = 256;

/// One request's queue of interim answers. Clones share it; all of them belong to one worker.
#[derive(Clone, Default)]
pub struct Interim(Rc<Shared>);

#[derive(Default)]
struct Shared {
    /// Spares a look into the queue in the common case: no interim answers.
    any: Cell<bool>,
    waiting: RefCell<VecDeque<(StatusCode, HeaderMap)>>,
    /// How many have been put in.
    passed: Cell<u32>,
    /// The caller's connection.
    waker: RefCell<Option<Waker>>,
    /// The endpoint has said `100 Continue`.
    continued: Cell<bool>,
    /// Whoever holds the request's body back until then.
    continue_waker: RefCell<Option<Waker>>,
}

impl Interim {
    /// Puts an answer in and wakes the connection. `100 Continue` is not passed on as it is: it lets the body be read,
    /// which makes the connection say it to the caller.
    pub fn push(&self, status: StatusCode, mut headers: HeaderMap) {
        if status == StatusCode::CONTINUE {
            self.0.continued.set(true);
            return wake(self.0.continue_waker.take());
        }
        hop_by_hop::remove(&mut headers);
        headers.remove(CONTENT_LENGTH);
        self.put_in(status, headers);
    }

    /// Puts an answer of towpath's own in.
    pub fn say(&self, status: StatusCode) {
        self.put_in(status, HeaderMap::new());
    }

    fn put_in(&self, status: StatusCode, headers: HeaderMap) {
        if self.0.waiting.borrow().len() == MAX_WAITING || self.0.passed.get() == MAX_PASSED {
            return;
        }
        self.0.passed.set(self.0.passed.get() + 1);
        self.0.waiting.borrow_mut().push_back((status, headers));
        self.0.any.set(true);
        wake(self.0.waker.borrow().clone());
    }

    /// Returns once the endpoint has said `100 Continue`.
    pub async fn continued(&self) {
        std::future::poll_fn(|cx| {
            if self.0.continued.get() {
                return Poll::Ready(());
            }
            self.0.continue_waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Takes the next answer out, if one waits.
    pub fn pop(&self) -> Option<(StatusCode, HeaderMap)> {
        if !self.0.any.get() {
            return None;
        }
        let next = self.0.waiting.borrow_mut().pop_front();
        self.0.any.set(next.is_some());
        next
    }

    /// A queue for the next request: this one, when nobody else holds it any more.
    pub fn renew(&mut self) {
        match Rc::get_mut(&mut self.0) {
            Some(shared) => {
                shared.any.set(false);
                shared.passed.set(0);
                shared.waiting.get_mut().clear();
                shared.continued.set(false);
                shared.continue_waker.take();
            }
            None => *self = Self::default(),
        }
    }

    /// Whom to wake at the next answer.
    pub fn wake_with(&self, waker: &Waker) {
        let mut known = self.0.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
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
    fn no_request_passes_on_more_than_its_share() {
        let mut interim = Interim::default();
        let passed = |interim: &Interim| {
            let one = || {
                interim.push(StatusCode::EARLY_HINTS, HeaderMap::new());
                interim.pop()
            };
            std::iter::from_fn(one).take(MAX_PASSED as usize + 5).count()
        };
        assert_eq!(passed(&interim), MAX_PASSED as usize);
        interim.renew();
        assert_eq!(passed(&interim), MAX_PASSED as usize, "the next request has its own");
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
