//! One connection, with TLS or without, as a worker's tasks share it.

use std::{
    cell::RefCell,
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

use super::{
    Socket,
    peer::{Owner, owner},
    quiet,
};

/// What a connection is read from and written to.
#[derive(Debug)]
pub enum Stream {
    /// The socket itself.
    Plain(Socket),
    /// TLS over it.
    Tls(Box<TlsStream<Socket>>),
}

impl Stream {
    /// What carries it.
    fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Both ends' addresses, where they have some.
    pub fn tcp_ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.socket().tcp_ends()
    }

    /// Who holds the peer's socket, if that is on this host. The kernel is asked by the addresses of both ends, which are this
    /// connection's as long as our own end is connected: another may have them as soon as it is not.
    pub fn owner(&self) -> Option<Owner> {
        let (local, peer) = self.tcp_ends()?;
        owner(local, peer).filter(|_| self.tcp_ends().is_some())
    }

    /// The user and the process that connected a Unix socket, as the kernel noted them then.
    pub fn connected_by(&self) -> Option<(u32, Option<i32>)> {
        self.socket().connected_by()
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}

/// A stream that several tasks of one worker use: one reads the body while another writes the response.
#[derive(Clone, Debug)]
pub struct SharedStream(Rc<RefCell<Stream>>);

impl SharedStream {
    /// Shares `stream`.
    pub fn new(stream: Stream) -> Self {
        Self(Rc::new(RefCell::new(stream)))
    }

    /// Both ends' addresses, where they have some.
    pub fn tcp_ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.0.borrow().tcp_ends()
    }

    /// Whether it is TLS.
    pub fn is_tls(&self) -> bool {
        matches!(&*self.0.borrow(), Stream::Tls(_))
    }

    /// The same, without keeping it open.
    pub fn loose(&self) -> LooseStream {
        LooseStream(Rc::downgrade(&self.0))
    }

    /// Whether the peer has neither closed nor sent anything: asks the kernel itself, because what the runtime knows
    /// is as old as its last look at the sockets.
    pub fn is_quiet(&self) -> bool {
        quiet::is_quiet(&mut self.0.borrow_mut())
    }

    /// Makes the closing of the socket a reset, which nobody takes for the end of a message.
    pub fn reset_when_closed(&self) {
        // Fails only on a socket that is gone already.
        let _ = socket2::SockRef::from(&*self.0.borrow()).set_linger(Some(std::time::Duration::ZERO));
    }

    /// Ends both directions: whoever reads or writes is told.
    pub fn shut_down_both(&self) {
        // Fails only on a socket that is gone already.
        let _ = rustix::net::shutdown(&*self.0.borrow(), rustix::net::Shutdown::Both);
    }

    /// Whether both directions are shut, which a Unix socket shows at once when its peer closes.
    pub fn is_hung_up(&self) -> bool {
        let stream = self.0.borrow();
        let mut fds = [rustix::event::PollFd::new(&*stream, rustix::event::PollFlags::empty())];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let gone = rustix::event::PollFlags::HUP | rustix::event::PollFlags::ERR;
        rustix::event::poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().intersects(gone)
    }

    /// Reads once, to the end of `buffer`; 0 is the end of the stream.
    pub fn poll_read_into(&self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        tokio_util::io::poll_read_buf(Pin::new(&mut *self.0.borrow_mut()), cx, buffer)
    }
}

/// A [`SharedStream`] that somebody else keeps.
#[derive(Clone, Debug)]
pub struct LooseStream(Weak<RefCell<Stream>>);

impl LooseStream {
    /// Who holds the peer's socket; see [`Stream::owner`].
    pub fn owner(&self) -> Option<Owner> {
        self.0.upgrade()?.try_borrow().ok()?.owner()
    }
}

macro_rules! either {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self {
            Stream::Plain($stream) => $call,
            Stream::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Only TLS keeps what it was given: what the socket did not take of a record.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}

impl AsyncRead for SharedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_read(cx, buffer)
    }
}

impl AsyncWrite for SharedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_shutdown(cx)
    }
}
