//! What waits to be written to a socket.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

use super::SharedStream;

/// A piece of content up to this is copied behind what waits; a larger one is written from where it is.
const COPIED: usize = 16 * 1024;
/// A buffer that has grown beyond this is not kept.
const SPARED: usize = 64 * 1024;

thread_local! {
    /// The worker's spare buffer: most writes succeed at once, and the next connection takes over the memory.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Gathers small pieces in one buffer, and writes them together with at most one large piece behind them.
pub struct Writer {
    stream: SharedStream,
    buffer: Vec<u8>,
    /// Of `buffer`.
    written: usize,
    large: Bytes,
    total: u64,
}

impl Writer {
    /// Writes to `stream`.
    pub fn new(stream: SharedStream) -> Self {
        Self { stream, buffer: Vec::new(), written: 0, large: Bytes::new(), total: 0 }
    }

    /// Where the next small piece goes. Only while no large one waits.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.large.is_empty(), "what is added now would overtake the large piece");
        if self.buffer.capacity() == 0 {
            self.buffer = SPARE.take();
        }
        &mut self.buffer
    }

    /// Puts content in, behind what waits. Only while no large piece waits.
    pub fn push(&mut self, data: Bytes) {
        if data.len() <= COPIED {
            self.buffer().extend_from_slice(&data);
        } else {
            self.large = data;
        }
    }

    /// Whether a large piece waits.
    pub fn has_large(&self) -> bool {
        !self.large.is_empty()
    }

    /// Bytes that wait.
    pub fn waiting(&self) -> usize {
        self.buffer.len() - self.written + self.large.len()
    }

    /// Bytes that the kernel has taken, since the beginning.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Writes what waits.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.waiting() > 0 {
            let rest = &self.buffer[self.written..];
            let count = if self.large.is_empty() {
                ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?
            } else {
                let slices = [io::IoSlice::new(rest), io::IoSlice::new(&self.large)];
                ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &slices))?
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.total += count as u64;
            let small = count.min(self.buffer.len() - self.written);
            self.written += small;
            self.large.advance(count - small);
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.rest();
        Poll::Ready(Ok(()))
    }

    /// Gives the buffer's memory back: a connection may be idle for long.
    fn rest(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        if (1..=SPARED).contains(&buffer.capacity()) {
            buffer.clear();
            SPARE.set(buffer);
        }
        self.written = 0;
        self.large = Bytes::new();
    }

    /// Says that nothing more will come.
    pub fn poll_shut_down(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
