//! The reading side of a connection: heads, and the bodies between them.
//!
//! The connection's task reads heads; whoever sends a request on reads its body, which may be another task of the same
//! worker. They share this, one at a time.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::{
    http::{
        Body, BodyError,
        http1::{
            Content, Framing, Head, HeadError, HeadLimits,
            head::{find_end, leading_empty_lines, parse},
        },
    },
    net::{ReadSize, SharedStream, poll_read_some},
};

/// Of the next requests, while one is being served. More waits in the kernel, which stops the caller.
const AHEAD: usize = 64 * 1024;

/// The reading side. Clones share it.
#[derive(Clone)]
pub(super) struct Inbound(Rc<RefCell<State>>);

struct State {
    stream: SharedStream,
    buffer: BytesMut,
    /// How far `buffer` has been searched for the end of a head.
    scanned: usize,
    /// Of the present request.
    body: Content,
    size: ReadSize,
    /// The caller finished sending.
    ended: bool,
    /// The caller waits for `100 Continue`, and somebody has begun to read the body.
    continue_due: bool,
    /// The caller waits, and nobody has begun.
    continue_awaited: bool,
    /// The connection's task.
    waker: Option<Waker>,
}

impl Inbound {
    pub(super) fn new(stream: SharedStream, buffer: BytesMut) -> Self {
        Self(Rc::new(RefCell::new(State {
            stream,
            buffer,
            scanned: 0,
            body: Content::Done,
            size: ReadSize::default(),
            ended: false,
            continue_due: false,
            continue_awaited: false,
            waker: None,
        })))
    }

    /// The next head; None when the caller has finished. Only between requests.
    pub(super) fn poll_head(
        &self,
        cx: &mut Context<'_>,
        limits: HeadLimits,
    ) -> Poll<Result<Option<Head>, HeadError>> {
        let state = &mut *self.0.borrow_mut();
        loop {
            if let Some(head) = state.take_head(limits)? {
                return Poll::Ready(Ok(Some(head)));
            }
            if state.ended {
                return Poll::Ready(Ok(None));
            }
            match ready!(poll_read_some(&state.stream, cx, &mut state.buffer)) {
                Ok(0) | Err(_) => state.ended = true,
                Ok(_) => {}
            }
        }
    }

    /// Whether a head has begun to arrive.
    pub(super) fn has_begun(&self) -> bool {
        !self.0.borrow().buffer.is_empty()
    }

    /// The body of the request whose head was last read.
    pub(super) fn body(&self, head: &Head) -> Body {
        let mut state = self.0.borrow_mut();
        state.continue_due = false;
        state.continue_awaited = head.expects_continue;
        state.body = match head.framing {
            Framing::None => Content::Done,
            Framing::Length(length) => Content::length(length),
            Framing::Chunked => Content::chunked(),
        };
        match state.body {
            Content::Done => Body::Empty,
            _ => Body::other(InboundBody { inbound: self.clone(), over: false }),
        }
    }

    /// Leaves the connection's waker, to be woken when the body needs an answer or has ended.
    pub(super) fn wake_with(&self, waker: &Waker) {
        self.0.borrow_mut().waker = Some(waker.clone());
    }

    /// Whether `100 Continue` is to be said now.
    pub(super) fn take_continue(&self) -> bool {
        std::mem::take(&mut self.0.borrow_mut().continue_due)
    }

    /// Whether the body has been read to its end.
    pub(super) fn is_done(&self) -> bool {
        self.0.borrow().body.is_done()
    }

    /// Whether the connection can carry no further request: the framing is broken, or the caller may or may not send
    /// the body that nobody asked for.
    pub(super) fn is_spoilt(&self) -> bool {
        let state = self.0.borrow();
        matches!(state.body, Content::Broken) || (state.continue_awaited && !state.body.is_done())
    }

    /// Returns when nobody else reads the body any more: to its end, or at all.
    pub(super) async fn left_alone(&self) {
        std::future::poll_fn(|_| {
            match Rc::strong_count(&self.0) > 1 && !self.is_done() && !self.is_spoilt() {
                // The reader wakes the connection when it ends or goes.
                true => Poll::Pending,
                false => Poll::Ready(()),
            }
        })
        .await;
    }

    /// The caller has finished sending, for good or bad. Reads ahead to find out, when nobody reads the body.
    pub(super) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        let state = &mut *self.0.borrow_mut();
        while !state.ended {
            if state.buffer.len() >= AHEAD {
                return Poll::Pending;
            }
            match ready!(poll_read_some(&state.stream, cx, &mut state.buffer)) {
                Ok(0) | Err(_) => state.ended = true,
                Ok(_) => {}
            }
        }
        Poll::Ready(())
    }

    /// Reads the rest of a body that nobody wants, up to `limit` bytes; true when its end was found.
    pub(super) async fn skip_body(&self, limit: usize) -> bool {
        let mut skipped = 0;
        while !self.is_done() {
            let frame = std::future::poll_fn(|cx| self.0.borrow_mut().poll_body(cx)).await;
            match frame {
                Some(Ok(frame)) => skipped += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) => return false,
                None => return true,
            }
            if skipped > limit {
                return false;
            }
        }
        true
    }

    /// Reads and forgets until the caller has finished.
    pub(super) async fn skip_all(&self) {
        std::future::poll_fn(|cx| {
            let state = &mut *self.0.borrow_mut();
            while !state.ended {
                state.buffer.clear();
                match ready!(poll_read_some(&state.stream, cx, &mut state.buffer)) {
                    Ok(0) | Err(_) => state.ended = true,
                    Ok(_) => {}
                }
            }
            Poll::Ready(())
        })
        .await;
    }
}

impl State {
    fn take_head(&mut self, limits: HeadLimits) -> Result<Option<Head>, HeadError> {
        let empty = leading_empty_lines(&self.buffer);
        if empty > 0 && self.scanned == 0 {
            let _ = self.buffer.split_to(empty);
        }
        // The caller's half of an empty line: the other half is on its way.
        if self.buffer[..] == *b"\r" {
            return Ok(None);
        }
        let Some(end) = find_end(&self.buffer, &mut self.scanned, limits)? else { return Ok(None) };
        self.scanned = 0;
        let head = self.buffer.split_to(end).freeze();
        if self.buffer.is_empty() {
            // The head keeps the memory alive; the connection, which may be idle for long, does not.
            self.buffer = BytesMut::new();
        }
        parse(&head, limits).map(Some)
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if std::mem::take(&mut self.continue_awaited) {
            self.continue_due = true;
            self.wake();
        }
        loop {
            match self.body.next_frame(&mut self.buffer) {
                Ok(Some(frame)) => {
                    self.wake_when_over();
                    return Poll::Ready(Some(Ok(frame)));
                }
                Ok(None) if self.body.is_done() => {
                    self.wake();
                    return Poll::Ready(None);
                }
                Ok(None) => {}
                Err(error) => {
                    self.wake();
                    return Poll::Ready(Some(Err(error)));
                }
            }
            let read = ready!(self.size.poll_read(&self.stream, cx, &mut self.buffer, self.body.wanted()));
            if read.unwrap_or(0) == 0 {
                self.ended = true;
                let incomplete = self.body.ended();
                self.wake();
                return Poll::Ready(incomplete.err().map(Err));
            }
        }
    }

    fn wake_when_over(&self) {
        if self.body.is_done() {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

/// The body of the present request.
struct InboundBody {
    inbound: Inbound,
    /// All of it has been taken: what `inbound` holds from now on is the next request's.
    over: bool,
}

impl HttpBody for InboundBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        let mut state = this.inbound.0.borrow_mut();
        let poll = state.poll_body(cx);
        this.over = state.body.is_done();
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }

    fn size_hint(&self) -> SizeHint {
        if self.over { SizeHint::with_exact(0) } else { self.inbound.0.borrow().body.size_hint() }
    }
}

impl Drop for InboundBody {
    fn drop(&mut self) {
        // The connection may be waiting for this to be gone; when it runs, it is.
        self.inbound.0.borrow().wake();
    }
}
