//! Reading a socket into buffers that fit what its peer sends.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};

use super::SharedStream;

/// Read at once while nothing is known about what comes.
const SMALL: usize = 16 * 1024;
/// Read at once, at most, from a peer that fills what it is given.
const LARGE: usize = 256 * 1024;

thread_local! {
    /// What a worker reads into first: an idle connection holds no buffer of its own.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SMALL].into());
    static LITTLE: Cell<bool> = const { Cell::new(false) };
}

/// Does `read`; with `little`, what it reads of content comes in small pieces.
pub fn reading<T>(little: bool, read: impl FnOnce() -> T) -> T {
    if !little {
        return read();
    }
    LITTLE.set(true);
    let done = read();
    LITTLE.set(false);
    done
}

/// Reads once, through the worker's scratch memory, to the end of `buffer`; 0 is the end of the stream.
pub fn poll_read_some(
    stream: &SharedStream,
    cx: &mut Context<'_>,
    buffer: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut read = ReadBuf::new(scratch);
        ready!(Pin::new(&mut stream.clone()).poll_read(cx, &mut read))?;
        buffer.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    })
}

/// How much is read at once for content: twice as much after each read that brought all that was asked for, up to
/// [`LARGE`], in memory of its own. A large answer cost a quarter less with reads of 256 KiB than of 64
/// (docs/decisions/0011). A read that brings less than [`SMALL`] begins anew, or a slow peer would hold a large buffer for each of its
/// bytes.
#[derive(Debug)]
pub struct ReadSize {
    next: usize,
}

impl Default for ReadSize {
    fn default() -> Self {
        Self { next: SMALL }
    }
}

impl ReadSize {
    /// Reads once to the end of `buffer`; 0 is the end of the stream. No more than `wanted` bytes are to come.
    pub fn poll_read(
        &mut self,
        stream: &SharedStream,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
        wanted: u64,
    ) -> Poll<io::Result<usize>> {
        if LITTLE.get() {
            self.next = SMALL;
        }
        let size = usize::try_from(wanted).unwrap_or(usize::MAX).min(self.next);
        let count = if size > SMALL {
            buffer.reserve(size);
            ready!(stream.poll_read_into(cx, buffer))?
        } else {
            ready!(poll_read_some(stream, cx, buffer))?
        };
        if count >= size {
            self.next = (self.next * 2).min(LARGE);
        } else if count < SMALL {
            self.next = SMALL;
        }
        Poll::Ready(Ok(count))
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, io::Write};

    use super::*;
    use crate::net::{Socket, Stream};

    async fn read(size: &mut ReadSize, stream: &SharedStream) -> usize {
        let mut buffer = BytesMut::new();
        poll_fn(|cx| size.poll_read(stream, cx, &mut buffer, u64::MAX)).await.unwrap()
    }

    #[tokio::test]
    async fn reads_grow_while_the_peer_fills_them_and_begin_anew_after_a_small_one() {
        let (near, far) = tokio::net::UnixStream::pair().unwrap();
        let mut far = far.into_std().unwrap();
        let (stream, mut size) = (SharedStream::new(Stream::Plain(Socket::Unix(near))), ReadSize::default());
        far.write_all(&[0; 7 * SMALL]).unwrap();
        for times in [1, 2, 4] {
            assert_eq!((size.next, read(&mut size, &stream).await), (times * SMALL, times * SMALL));
        }
        assert_eq!(size.next, 8 * SMALL);
        far.write_all(b"x").unwrap();
        assert_eq!((read(&mut size, &stream).await, size.next), (1, SMALL));
    }
}
