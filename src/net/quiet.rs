//! Whether the other end of an idle connection has neither closed nor sent anything.
//!
//! # Over TLS
//! What has arrived may be nothing that matters: a server sends session tickets when it likes, most often just behind the
//! handshake. So what the socket has is taken in, and only content, a close or an error ends the silence.

use std::{
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd},
};

use rustix::net::RecvFlags;
use tokio_rustls::TlsStream;

use super::{Socket, Stream};

/// Asks the kernel itself, because what the runtime knows is as old as its last look at the sockets.
pub(super) fn is_quiet(stream: &mut Stream) -> bool {
    let Stream::Tls(tls) = stream else { return !has_news(stream.as_fd()) };
    !has_news(tls.get_ref().0.as_fd()) || take_in(tls).unwrap_or(false)
}

/// Whether there is something to read, or an end.
fn has_news(socket: BorrowedFd<'_>) -> bool {
    let mut byte = [0u8];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    match rustix::net::recv(socket, &mut byte[..], flags) {
        Ok(_) => true,
        Err(error) => error != rustix::io::Errno::AGAIN && error != rustix::io::Errno::INTR,
    }
}

/// Reads without waiting, past what the runtime knows of the socket.
struct Now<'s>(BorrowedFd<'s>);

impl Read for Now<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (length, _) = rustix::net::recv(self.0, buffer, RecvFlags::DONTWAIT)?;
        Ok(length)
    }
}

/// Takes in what has arrived; whether the other end has said nothing with it.
fn take_in(tls: &mut TlsStream<Socket>) -> io::Result<bool> {
    // Callers' connections are not looked at in this way.
    let TlsStream::Client(tls) = tls else { return Ok(false) };
    let (socket, session) = tls.get_mut();
    loop {
        match session.read_tls(&mut Now(socket.as_fd())) {
            Ok(0) => return Ok(false),
            Ok(_) => {
                let state = session.process_new_packets().map_err(io::Error::other)?;
                if state.plaintext_bytes_to_read() > 0 || state.peer_has_closed() {
                    return Ok(false);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream as Other;

    use tokio::net::UnixStream;

    use super::*;
    use std::io::Write;

    #[tokio::test]
    async fn a_plain_connection_is_quiet_until_a_byte_or_the_end_comes() {
        let (near, mut far) = Other::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut near = Stream::Plain(Socket::Unix(UnixStream::from_std(near).unwrap()));
        assert!(is_quiet(&mut near));
        far.write_all(b"x").unwrap();
        assert!(!is_quiet(&mut near));
        let (near, far) = Other::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut near = Stream::Plain(Socket::Unix(UnixStream::from_std(near).unwrap()));
        drop(far);
        assert!(!is_quiet(&mut near));
    }
}
