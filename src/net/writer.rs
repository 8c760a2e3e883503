//! What waits to be written to a socket.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

use super::SharedStream;

/// A piece of content up to this is copied behind what waits; a larger one is written from where it is.
const COPIED: usize = 16 * 1024;

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
        self.buffer.clear();
        self.written = 0;
        self.large = Bytes::new();
        Poll::Ready(Ok(()))
    }

    /// Gives the buffer's memory back; to be called when the connection becomes idle.
    pub fn rest(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
    }

    /// Says that nothing more will come.
    pub fn poll_shut_down(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
