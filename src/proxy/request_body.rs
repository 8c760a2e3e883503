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
mod tests {
    use http_body::Body as _;

    use super::*;
    use crate::http::body::next_frame;

    /// A body that yields the given pieces.
    struct Pieces(std::collections::VecDeque<Bytes>);

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }
    }

    fn body(pieces: &[usize]) -> RequestBody {
        let pieces = pieces.iter().map(|length| Bytes::from(vec![b'x'; *length])).collect();
        RequestBody::new(Body::other(Pieces(pieces)), false, KEPT)
    }

    async fn read(mut body: Body, frames: usize) -> usize {
        let mut length = 0;
        for _ in 0..frames {
            match next_frame(&mut body).await {
                Some(Ok(frame)) => length += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) | None => break,
            }
        }
        length
    }

    #[tokio::test]
    async fn a_small_body_begins_again_from_whatever_was_read() {
        let body = body(&[1, 2, 3]);
        assert_eq!(read(body.begin(), 2).await, 3);
        assert!(body.can_begin_again());
        assert_eq!(read(body.begin(), 9).await, 6);
        assert_eq!(read(body.begin(), 9).await, 6);
        assert_eq!(body.bytes(), 6);
    }

    #[tokio::test]
    async fn a_large_body_is_sent_once_and_not_kept() {
        let body = body(&[KEPT, 1, 1]);
        let mut attempt = body.begin();
        for _ in 0..2 {
            next_frame(&mut attempt).await.unwrap().unwrap();
        }
        assert!(!body.can_begin_again());
        assert!(body.0.borrow().kept.is_empty());
        assert_eq!(read(attempt, 9).await, 1, "the running attempt goes on");
    }

    #[tokio::test]
    async fn an_attempt_that_was_given_up_gets_nothing_more() {
        let body = body(&[1, 2]);
        let mut first = body.begin();
        let _second = body.begin();
        assert!(matches!(next_frame(&mut first).await, Some(Err(_))));
    }

    #[tokio::test]
    async fn what_was_recalled_reads_no_more_and_the_next_has_all_of_it() {
        let body = body(&[1, KEPT, 1]);
        let mut first = body.begin();
        next_frame(&mut first).await.unwrap().unwrap();
        body.recall();
        assert!(matches!(next_frame(&mut first).await, Some(Err(BodyError::Incomplete))));
        assert!(body.can_begin_again());
        assert_eq!(read(body.begin(), 9).await, KEPT + 2);
    }

    #[tokio::test]
    async fn a_body_that_cannot_begin_again_is_never_begun_in_the_middle() {
        let body = body(&[KEPT, 1, 1]);
        read(body.begin(), 2).await;
        let mut next = body.begin();
        assert!(!next.is_end_stream(), "it is no empty body either");
        assert!(matches!(next_frame(&mut next).await, Some(Err(BodyError::Incomplete))));
    }

    #[tokio::test]
    async fn a_body_in_very_small_pieces_is_not_kept_for_ever() {
        let body = body(&[1; KEPT_PIECES + 1]);
        assert_eq!(read(body.begin(), KEPT_PIECES + 1).await, KEPT_PIECES + 1);
        assert!(!body.can_begin_again());
    }

    #[tokio::test]
    async fn a_policy_decides_how_much_is_kept() {
        for (limit, kept) in [(2, false), (3, true), (10 * KEPT, true)] {
            let pieces = [Bytes::from_static(b"x"), Bytes::from_static(b"yz")].into();
            let body = RequestBody::new(Body::other(Pieces(pieces)), false, limit);
            read(body.begin(), 9).await;
            assert_eq!(body.can_begin_again(), kept, "{limit}");
        }
    }

    #[tokio::test]
    async fn a_body_that_was_read_can_be_had_twice_at_a_time() {
        let body = body(&[1, 2]);
        let mut first = body.begin();
        next_frame(&mut first).await.unwrap().unwrap();
        assert!(!body.is_kept(), "there is more to come");
        next_frame(&mut first).await.unwrap().unwrap();
        assert!(next_frame(&mut first).await.is_none());
        assert!(body.is_kept());
        assert_eq!(read(body.copy(), 9).await, 3);
        assert!(next_frame(&mut first).await.is_none(), "the first attempt still has its own");
    }

    #[tokio::test]
    async fn a_copy_of_what_is_not_there_is_no_empty_body() {
        let body = body(&[KEPT, 1]);
        read(body.begin(), 9).await;
        assert!(!body.is_kept());
        assert!(matches!(next_frame(&mut body.copy()).await, Some(Err(_))));
    }

    #[tokio::test]
    async fn who_waits_for_a_body_that_is_stopped_is_told() {
        let body = RequestBody::new(Body::Full(Bytes::from_static(b"x")), true, KEPT);
        let mut attempt = body.begin();
        let waiting = next_frame(&mut attempt);
        let (frame, ()) = tokio::join!(waiting, async { body.stop() });
        assert!(matches!(frame, Some(Err(BodyError::Incomplete))));
    }

    #[tokio::test]
    async fn nothing_is_read_before_the_gate_opens() {
        let body = RequestBody::new(Body::Full(Bytes::from_static(b"x")), true, KEPT);
        let mut attempt = body.begin();
        let waker = Waker::noop();
        let poll = Pin::new(&mut attempt).poll_frame(&mut Context::from_waker(waker));
        assert!(poll.is_pending());
        body.open();
        assert_eq!(read(attempt, 1).await, 1);
    }
}
