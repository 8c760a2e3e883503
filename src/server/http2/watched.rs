//! A caller's HTTP/2 socket, watched: every byte passes `flood.rs`, and what waits to be sent is bounded.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use h2::Reason as Reset;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::flood::{Conduct, Flood};
use crate::{config::Limits, net::SharedStream};

/// Of all responses of a connection, given to h2 and perhaps not sent: 16 streams' send buffers. With max_streams of 256 it
/// were 32 MiB for a caller that opens its windows and reads nothing.
const MOST_WAITING: usize = 2 << 20;

/// What is known of a connection by the bytes on it.
pub(super) struct Watch {
    conduct: RefCell<Conduct>,
    /// The socket has not taken all that it was given.
    blocked: Cell<bool>,
}

impl Watch {
    /// Of a connection that carries the requests of as many `callers`.
    pub(super) fn new(limits: &Limits, callers: u32) -> Self {
        let each = |limit: u32| limit.saturating_mul(callers);
        let (resets, control_frames) = (each(limits.http2_resets), each(limits.http2_control_frames));
        let conduct = Conduct::new(resets, control_frames, Instant::now());
        Self { conduct: RefCell::new(conduct), blocked: Cell::new(false) }
    }

    pub(super) fn flood(&self) -> Option<Flood> {
        self.conduct.borrow().flood()
    }

    pub(super) fn head_since(&self) -> Option<Instant> {
        self.conduct.borrow().head_since()
    }

    pub(super) fn has_reset(&self) -> bool {
        self.conduct.borrow().has_reset()
    }

    pub(super) fn excuse(&self, reason: Reset) {
        self.conduct.borrow_mut().excuse(reason.into());
    }

    /// The connection is about to be moved on.
    pub(super) fn begin(&self) {
        self.blocked.set(false);
        self.conduct.borrow_mut().begin_turn();
    }

    /// Whether the socket was full since [`Self::begin`].
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.get()
    }

    fn received(&self, bytes: &[u8]) {
        self.conduct.borrow_mut().received(bytes, Instant::now);
    }

    fn wrote<T>(&self, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_pending() {
            self.blocked.set(true);
        }
        poll
    }

    fn sent(&self, slices: &[io::IoSlice<'_>], mut count: usize) {
        let mut conduct = self.conduct.borrow_mut();
        for slice in slices {
            let taken = count.min(slice.len());
            conduct.sent(&slice[..taken], Instant::now);
            count -= taken;
        }
    }
}

/// Response data that was given to h2. All of it can be sent, windows included, so once the connection was moved on and the socket took
/// everything, nothing waits.
#[derive(Default)]
pub(super) struct Outflow {
    waiting: Cell<usize>,
    for_room: RefCell<Vec<Waker>>,
}

impl Outflow {
    /// Ready when more may be given to h2.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiting.get() < MOST_WAITING {
            return Poll::Ready(());
        }
        self.for_room.borrow_mut().push(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn add(&self, bytes: usize) {
        self.waiting.set(self.waiting.get() + bytes);
    }

    /// Nothing waits.
    pub(super) fn sent(&self) {
        if self.waiting.replace(0) >= MOST_WAITING {
            self.for_room.take().into_iter().for_each(Waker::wake);
        }
    }
}

/// The socket. Its first bytes have been read already.
pub(super) struct Watched {
    first: Bytes,
    stream: SharedStream,
    watch: Rc<Watch>,
}

impl Watched {
    pub(super) fn new(first: Bytes, stream: SharedStream, watch: Rc<Watch>) -> Self {
        Self { first, stream, watch }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.watch.flood().is_some() {
            // Nothing more is taken in. The connection is looked at as soon as it comes back from here.
            return Poll::Pending;
        }
        if self.watch.conduct.borrow().has_had_its_turn() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if self.first.is_empty() {
            if Pin::new(&mut self.stream).poll_read(cx, buffer)?.is_pending() {
                return Poll::Pending;
            }
        } else {
            let count = self.first.len().min(buffer.remaining());
            buffer.put_slice(&self.first.split_to(count));
        }
        self.watch.received(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = poll {
            self.watch.sent(&[io::IoSlice::new(bytes)], count);
        }
        self.watch.wrote(poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(count)) = poll {
            self.watch.sent(slices, count);
        }
        self.watch.wrote(poll)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch.wrote(poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_room_is_woken_when_all_was_sent() {
        let (outflow, counter) = (Outflow::default(), futures_counter());
        let mut cx = Context::from_waker(&counter.0);
        outflow.add(MOST_WAITING - 1);
        assert!(outflow.poll_room(&mut cx).is_ready());
        outflow.add(1);
        assert!(outflow.poll_room(&mut cx).is_pending());
        assert_eq!(counter.1.load(std::sync::atomic::Ordering::Relaxed), 0);
        outflow.sent();
        assert_eq!(counter.1.load(std::sync::atomic::Ordering::Relaxed), 1);
        assert!(outflow.poll_room(&mut cx).is_ready());
    }

    /// A waker, and how often it was woken.
    fn futures_counter() -> (Waker, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
        struct Counts(std::sync::Arc<std::sync::atomic::AtomicUsize>);
        impl std::task::Wake for Counts {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let count = std::sync::Arc::<std::sync::atomic::AtomicUsize>::default();
        (std::sync::Arc::new(Counts(count.clone())).into(), count)
    }
}
