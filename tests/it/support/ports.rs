//! Addresses that a test can count on.

use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// An address where nobody listens, and that nobody gets by chance to the end of this process: a socket that never listens
/// holds it. A daemon or server that names it can have it, because both sockets allow that (`SO_REUSEADDR`).
pub fn reserved() -> SocketAddr {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    std::mem::forget(socket);
    address
}
