//! What a request holds at a limit: a place, or a ticket for one. Both give back what they have when they are dropped.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::sync::oneshot;

use super::{concurrency::Gate, queue::Position};

/// What a request gets at a limit.
pub enum Entry {
    /// A place.
    Place(Permit),
    /// None yet.
    Waits(Ticket),
    /// Neither: as many as may run, and as many as may wait.
    Full,
}

/// A place that a request has until this is dropped.
pub struct Permit(pub(super) Rc<Gate>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

/// What a waiter is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// A place is its own.
    Place,
    /// One of a higher priority waits where it did.
    Displaced,
}

/// Another request has the place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// A place in the queue, until this is dropped. Ready when it has become a place, or never will.
pub struct Ticket {
    gate: Rc<Gate>,
    position: Position,
    /// None once it has been heard.
    word: Option<oneshot::Receiver<Word>>,
}

impl Ticket {
    pub(super) fn new(gate: Rc<Gate>, position: Position, word: oneshot::Receiver<Word>) -> Self {
        Self { gate, position, word: Some(word) }
    }
}

impl Future for Ticket {
    type Output = Result<Permit, Refused>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(word) = &mut self.word else { return Poll::Pending };
        let Poll::Ready(said) = Pin::new(word).poll(cx) else { return Poll::Pending };
        self.word = None;
        Poll::Ready(match said {
            Ok(Word::Place) => Ok(Permit(self.gate.clone())),
            // Nobody drops the other end unheard.
            Ok(Word::Displaced) | Err(_) => Err(Refused),
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Some(mut word) = self.word.take() else { return };
        self.gate.leave(self.position);
        // The word may have been said a moment ago: then the place is for others.
        word.close();
        if word.try_recv() == Ok(Word::Place) {
            self.gate.give_back();
        }
    }
}
