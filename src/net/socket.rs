//! One connected socket, TCP or Unix.
//!
//! # Why TLS stands beside it and not in it
//! A stream that could hold TLS over a stream like itself calls itself on every path. Nothing ever does that more than once, but the
//! compiler has to think of it: an optimised build of the library took over seven minutes of CPU, and takes less than three.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll},
};

use rustix::net::RecvFlags;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};

/// A connected stream socket.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// Unix.
    Unix(UnixStream),
}

impl Socket {
    /// Connects over TCP. The segments of a request are not held back to fill packets (`TCP_NODELAY`).
    ///
    /// # Errors
    /// As the kernel reports them.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    /// Both ends' addresses, where they have some.
    pub fn tcp_ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        match self {
            Self::Tcp(stream) => Some((stream.local_addr().ok()?, stream.peer_addr().ok()?)),
            Self::Unix(_) => None,
        }
    }

    /// The first byte that it has for whoever reads next, when there is one; None at its end.
    ///
    /// # Errors
    /// As the kernel reports them.
    pub async fn peek(&self) -> io::Result<Option<u8>> {
        let mut byte = [0u8];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let look = || Ok(rustix::net::recv(self, &mut byte[..], flags).map(|(_, count)| count)?);
        let count = match self {
            Self::Tcp(stream) => stream.async_io(Interest::READABLE, look).await?,
            Self::Unix(stream) => stream.async_io(Interest::READABLE, look).await?,
        };
        Ok((count > 0).then_some(byte[0]))
    }

    /// The user and the process that connected a Unix socket, as the kernel noted them then.
    pub(super) fn connected_by(&self) -> Option<(u32, Option<i32>)> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(stream) => stream.peer_cred().ok().map(|by| (by.uid(), by.pid())),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

macro_rules! either {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self {
            Socket::Tcp($stream) => $call,
            Socket::Unix($stream) => $call,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // One piece goes out by `send`, which is cheaper than `writev`.
        match slices {
            [one, rest @ ..] if rest.iter().all(|slice| slice.is_empty()) => self.poll_write(cx, one),
            _ => either!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, slices)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}
