//! Listening sockets: bound by the control thread, accepted from by the acceptor.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    os::{
        fd::OwnedFd,
        unix::{fs::FileTypeExt, net::UnixListener as StdUnixListener},
    },
    path::{Path, PathBuf},
};

use rustix::fs::Mode;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use super::Address;

/// Connections that wait in the kernel while the acceptor is busy.
const BACKLOG: i32 = 4096;

/// A bound socket. It belongs to no runtime until it is first polled.
#[derive(Debug)]
pub struct Listener {
    socket: Bound,
    address: Address,
}

#[derive(Debug)]
enum Bound {
    Tcp(std::net::TcpListener),
    Unix(StdUnixListener, UnlinkOnDrop),
}

/// Removes a Unix socket's file when nobody listens on it any more.
#[derive(Debug)]
struct UnlinkOnDrop(PathBuf);

impl Drop for UnlinkOnDrop {
    fn drop(&mut self) {
        // Somebody else may have removed it; there is nothing to mend.
        let _ = fs::remove_file(&self.0);
    }
}

/// A connection that nobody serves yet; it belongs to no runtime, so it can move to a worker.
#[derive(Debug)]
pub enum Accepted {
    /// TCP, and where it comes from.
    Tcp(std::net::TcpStream, SocketAddr),
    /// Unix.
    Unix(std::os::unix::net::UnixStream),
}

/// Why an address could not be listened on.
#[derive(Debug)]
pub struct ListenerError {
    address: Address,
    source: io::Error,
}

impl fmt::Display for ListenerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hint = match self.source.kind() {
            io::ErrorKind::AddrInUse => "; another process listens there",
            io::ErrorKind::AddrNotAvailable => "; this host has no such address",
            io::ErrorKind::PermissionDenied => {
                "; a port below 1024 or that path needs a right this process lacks"
            }
            io::ErrorKind::NotFound => "; the directory does not exist",
            _ => "",
        };
        write!(f, "cannot listen on {}: {}{hint}", self.address, self.source)
    }
}

impl std::error::Error for ListenerError {}

impl Listener {
    /// Binds and listens.
    ///
    /// # Errors
    /// What the kernel says, with the address.
    pub fn bind(address: &Address) -> Result<Self, ListenerError> {
        let bound = match address {
            Address::Tcp(tcp) => bind_tcp(*tcp),
            Address::Unix(path) => bind_unix(path, |path| StdUnixListener::bind(path)),
        };
        bound.map_err(|source| ListenerError { address: address.clone(), source })
    }

    /// The same; to a Unix socket, only this process's user and root may connect.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub fn bind_private(address: &Address) -> Result<Self, ListenerError> {
        let Address::Unix(path) = address else { return Self::bind(address) };
        let bound = bind_unix(path, private_unix);
        bound.map_err(|source| ListenerError { address: address.clone(), source })
    }

    /// Where it listens, with the port that the kernel chose for port 0.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Moves the socket onto the calling thread's runtime.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    pub fn into_async(self) -> io::Result<AsyncListener> {
        Ok(match self.socket {
            Bound::Tcp(listener) => AsyncListener::Tcp(TcpListener::from_std(listener)?),
            Bound::Unix(listener, unlink) => AsyncListener::Unix(UnixListener::from_std(listener)?, unlink),
        })
    }
}

/// A listening socket on a runtime.
#[derive(Debug)]
#[allow(private_interfaces)] // the guard only rides along
pub enum AsyncListener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix.
    Unix(UnixListener, UnlinkOnDrop),
}

impl AsyncListener {
    /// The next connection.
    ///
    /// # Errors
    /// As the kernel reports them; the listener goes on.
    pub async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(stream.into_std()?, peer))
            }
            Self::Unix(listener, _) => Ok(Accepted::Unix(listener.accept().await?.0.into_std()?)),
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener: std::net::TcpListener = socket.into();
    let address = Address::Tcp(listener.local_addr()?);
    Ok(Listener { socket: Bound::Tcp(listener), address })
}

/// A socket whose file others cannot open. The kernel makes the file with the mode that the socket has when it is bound, so
/// there is no moment at which the file is open to more.
fn private_unix(path: &Path) -> io::Result<StdUnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(StdUnixListener::from(OwnedFd::from(socket)))
}

fn bind_unix(path: &Path, bind: fn(&Path) -> io::Result<StdUnixListener>) -> io::Result<Listener> {
    remove_stale(path)?;
    let listener = bind(path)?;
    listener.set_nonblocking(true)?;
    let unlink = UnlinkOnDrop(path.to_owned());
    Ok(Listener { socket: Bound::Unix(listener, unlink), address: Address::Unix(path.to_owned()) })
}

/// Removes the file that a killed process left behind; one that somebody still listens on stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => match try_connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            // It was answered, or would have been: somebody's queue is full.
            Ok(()) => Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::AddrInUse.into()),
            Err(error) => Err(error),
        },
        // Anything else in the way makes `bind` fail with a reason of its own.
        _ => Ok(()),
    }
}

/// Connects without waiting.
fn try_connect(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_file_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let address = Address::Unix(directory.path().join("socket"));
        drop(StdUnixListener::bind(directory.path().join("socket")).unwrap());
        let first = Listener::bind(&address).unwrap();
        let error = Listener::bind(&address).unwrap_err();
        assert!(error.to_string().contains("another process listens there"), "{error}");
        drop(first);
        assert!(!directory.path().join("socket").exists());
    }

    #[test]
    fn nobody_else_may_connect_to_a_private_socket() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let private = Listener::bind_private(&Address::Unix(path.clone())).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(try_connect(&path).is_ok());
        drop(private);
        assert!(!path.exists());
    }

    #[test]
    fn an_address_of_another_host_is_explained() {
        let error = Listener::bind(&Address::Tcp(([192, 0, 2, 1], 0).into())).unwrap_err();
        assert!(error.to_string().contains("no such address"), "{error}");
    }
}
