//! A request's body on its way to the endpoint: it can begin again, and it can wait for `100 Continue`.
//!
//! # Beginning again
//! What has been read is kept, up to [`KEPT`] bytes or what the route's retry policy says, so that an attempt may be
//! repeated. Past that the body has gone on and the request is sent once. Large pieces are kept by reference. A body that
//! has been read whole can also be had by a second attempt while the first still runs.
//!
//! # Waiting
//! A caller that sends `Expect: 100-continue` sends the body only when it is asked to. It is asked when the body is
//! first read, so the body is not read before the endpoint has said `100 Continue` (or nothing for too long): an
//! endpoint that refuses the request at once spares everybody the upload (RFC 9110 10.1.1).

use std::{
    cell::RefCell,
    collections::VecDeque,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::http::{Body, BodyError};

/// Bytes of a body that are kept for another attempt, where no policy says otherwise.
pub(super) const KEPT: usize = 64 * 1024;
/// Pieces that are kept at least: each costs some memory of its own, however short it is.
const KEPT_PIECES: usize = 256;
/// Where more bytes are kept, so are more pieces: one for so many.
const BYTES_PER_PIECE: usize = KEPT / KEPT_PIECES;
/// How long an upload may go on after the response is complete. An endpoint may answer first and still want the rest.
const UPLOAD_LINGER: Duration = Duration::from_secs(2);
/// The attempt that may never read.
const UNREADABLE: u32 = 0;
/// A piece up to this is kept as a copy.
const COPIED: usize = 4 * 1024;

/// The body of one request, over all its attempts.
#[derive(Clone)]
pub(super) struct RequestBody(Rc<RefCell<State>>);

struct State {
    source: Body,
    /// What the source has yielded; empty once it is more than `limit`.
    kept: Vec<Piece>,
    kept_bytes: usize,
    /// Bytes that are kept at most.
    limit: usize,
    /// More has been read than is kept: no other attempt can have the body.
    gone: bool,
    ended: bool,
    /// Of the whole body, when the caller said so.
    length: SizeHint,
    /// Content that has been read.
    bytes: u64,
    /// Which attempt may read.
    attempt: u32,
    /// That attempt still holds the body.
    being_read: bool,
    /// The reader waits for the caller.
    starved: bool,
    /// It broke: the caller went away, or sent what is no body.
    failed: bool,
    /// The response is complete: the body is of no use to anybody else.
    winding_up: bool,
    /// Nothing is read while it is shut.
    gate_shut: bool,
    /// Of the task that reads, while it waits.
    waker: Option<Waker>,
}

#[derive(Clone)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl RequestBody {
    /// Takes `source` over, of which up to `limit` bytes are kept. With `waits`, nothing is read until [`RequestBody::open`].
    pub(super) fn new(source: Body, waits: bool, limit: usize) -> Self {
        Self(Rc::new(RefCell::new(State {
            length: source.size_hint(),
            source,
            kept: Vec::new(),
            kept_bytes: 0,
            limit,
            gone: false,
            ended: false,
            bytes: 0,
            attempt: 0,
            being_read: false,
            starved: false,
            failed: false,
            winding_up: false,
            gate_shut: waits,
            waker: None,
        })))
    }

    /// The body from its beginning, for the next attempt. What earlier attempts still hold fails from now on.
    pub(super) fn begin(&self) -> Body {
        let mut state = self.0.borrow_mut();
        state.attempt += 1;
        (state.being_read, state.starved) = (true, false);
        // A part of a body must not be sent as if it were the whole: of one that cannot begin again, this attempt gets nothing.
        let attempt = if state.gone { UNREADABLE } else { state.attempt };
        Body::other(AttemptBody { shared: self.0.clone(), attempt, next: 0 })
    }

    /// There will be another attempt: what the last one has not read by now is left for it. The last one may still send, for its
    /// answer has come before its request had ended; what it read beyond what is kept would be missing in the next.
    pub(super) fn recall(&self) {
        if self.is_read() {
            return;
        }
        let waker = {
            let mut state = self.0.borrow_mut();
            state.attempt += 1;
            state.being_read = false;
            state.waker.take()
        };
        wake(waker);
    }

    /// Whether another attempt can have the whole body.
    pub(super) fn can_begin_again(&self) -> bool {
        !self.0.borrow().gone
    }

    /// Whether all of it has been read and kept, so that two attempts can have it at a time.
    pub(super) fn is_kept(&self) -> bool {
        self.can_begin_again() && self.is_read()
    }

    /// The body from its beginning, for an attempt beside the one that runs. For one that [is kept](Self::is_kept).
    pub(super) fn copy(&self) -> Body {
        let state = self.0.borrow();
        Body::other(CopyBody {
            pieces: state.kept.clone().into(),
            length: state.length,
            is_whole: !state.gone,
        })
    }

    /// Content bytes that have been read.
    pub(super) fn bytes(&self) -> u64 {
        self.0.borrow().bytes
    }

    /// Whether whoever reads it waits for the caller.
    pub(super) fn is_starved(&self) -> bool {
        self.0.borrow().starved
    }

    /// Whether it broke, by what the caller did.
    pub(super) fn has_failed(&self) -> bool {
        self.0.borrow().failed
    }

    /// Lets the body be read.
    pub(super) fn open(&self) {
        let waker = {
            let mut state = self.0.borrow_mut();
            state.gate_shut = false;
            state.waker.take()
        };
        wake(waker);
    }

    /// A response has come: there will be no other attempt, and nothing more is kept for one.
    pub(super) fn settle(&self) {
        self.0.borrow_mut().gone = true;
    }

    /// The response is complete. An upload that is under way may still end, within [`UPLOAD_LINGER`]; one that was never
    /// asked for is over.
    pub(super) fn wind_up(&self) {
        if self.is_read() {
            return;
        }
        self.0.borrow_mut().winding_up = true;
        let unwanted = self.0.borrow().gate_shut || !self.0.borrow().being_read;
        if unwanted {
            return self.stop();
        }
        let body = self.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(UPLOAD_LINGER).await;
            body.stop();
        });
    }

    fn is_read(&self) -> bool {
        let state = self.0.borrow();
        state.ended || state.source.is_end_stream()
    }

    /// The request is over. What has not been read by now is not wanted: whoever still reads is told so, and the source
    /// is let go of, so that nobody waits for a body that may never come.
    pub(super) fn stop(&self) {
        if self.is_read() {
            return;
        }
        let (source, waker) = {
            let mut state = self.0.borrow_mut();
            state.attempt += 1;
            (std::mem::take(&mut state.source), state.waker.take())
        };
        drop(source);
        wake(waker);
    }
}

impl State {
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        let poll = Pin::new(&mut self.source).poll_frame(cx);
        self.starved = poll.is_pending();
        let frame = std::task::ready!(poll);
        let piece = match frame {
            None => {
                self.ended = true;
                return Poll::Ready(None);
            }
            Some(Err(error)) => {
                (self.gone, self.failed) = (true, true);
                return Poll::Ready(Some(Err(error)));
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => Piece::Data(data),
                Err(frame) => Piece::Trailers(frame.into_trailers().unwrap_or_default()),
            },
        };
        self.keep(&piece);
        Poll::Ready(Some(Ok(piece)))
    }

    fn keep(&mut self, piece: &Piece) {
        let length = if let Piece::Data(data) = piece { data.len() } else { 0 };
        self.bytes += length as u64;
        if self.gone {
            return;
        }
        self.kept_bytes += length;
        if self.kept_bytes > self.limit || self.kept.len() == KEPT_PIECES.max(self.limit / BYTES_PER_PIECE) {
            self.gone = true;
            self.kept = Vec::new();
        } else {
            self.kept.push(piece.compact());
        }
    }

    /// Remembers whom to wake when the body may be read, or is stopped.
    fn wait<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Piece {
    /// The piece to keep: a small one is copied, because it may be all that holds a large read buffer in memory.
    fn compact(&self) -> Self {
        match self {
            Self::Data(data) if data.len() < COPIED => Self::Data(Bytes::copy_from_slice(data)),
            other => other.clone(),
        }
    }

    fn frame(self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data),
            Self::Trailers(trailers) => Frame::trailers(trailers),
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The body as one attempt reads it.
struct AttemptBody {
    shared: Rc<RefCell<State>>,
    attempt: u32,
    /// How many of the kept pieces it has had.
    next: usize,
}

impl HttpBody for AttemptBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let shared = self.shared.clone();
        let mut state = shared.borrow_mut();
        if state.attempt != self.attempt {
            return Poll::Ready(Some(Err(BodyError::Incomplete)));
        }
        let piece = match state.kept.get(self.next).cloned() {
            _ if state.gate_shut => return state.wait(cx),
            Some(piece) => Some(Ok(piece)),
            None if state.ended => None,
            None => match state.poll_source(cx) {
                Poll::Ready(piece) => piece,
                Poll::Pending => return state.wait(cx),
            },
        };
        self.next += 1;
        Poll::Ready(piece.map(|piece| piece.map(Piece::frame)))
    }

    fn is_end_stream(&self) -> bool {
        let state = self.shared.borrow();
        let all_kept_read = self.attempt == state.attempt && self.next >= state.kept.len();
        all_kept_read && (state.ended || (self.next > 0 && state.source.is_end_stream()))
    }

    fn size_hint(&self) -> SizeHint {
        if self.next == 0 { self.shared.borrow().length } else { SizeHint::default() }
    }
}

impl Drop for AttemptBody {
    fn drop(&mut self) {
        let unwanted = {
            let mut state = self.shared.borrow_mut();
            let current = state.attempt == self.attempt;
            state.being_read &= !current;
            current && state.winding_up
        };
        if unwanted {
            RequestBody(self.shared.clone()).stop();
        }
    }
}

/// The body as a second attempt reads it.
struct CopyBody {
    pieces: VecDeque<Piece>,
    length: SizeHint,
    /// Guards against sending a part of a body as if it were the whole.
    is_whole: bool,
}

impl HttpBody for CopyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.is_whole {
            return Poll::Ready(Some(Err(BodyError::Incomplete)));
        }
        self.length = SizeHint::default();
        Poll::Ready(self.pieces.pop_front().map(|piece| Ok(piece.frame())))
    }

    fn is_end_stream(&self) -> bool {
        self.is_whole && self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.length
    }
}

#[cfg(test)]
mod tests;
