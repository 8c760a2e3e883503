//! The kernel's view of a connection's other end, through `sock_diag(7)`.
//!
//! A caller that closes its socket and one that only finishes sending (`shutdown(SHUT_WR)`) look the same on the wire:
//! a FIN. The first one's request should be dropped at once, the second one waits for its answer. When the caller
//! is on this host, the kernel can be asked about its socket: one that nobody owns any more has no inode.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
    netlink::{self, SocketAddrNetlink},
    recv, sendto, socket_with, sockopt,
};

/// What became of a peer's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// A process holds it.
    Open,
    /// Nobody holds it any more.
    Gone,
    /// It is not on this host, or the kernel does not tell.
    Unknown,
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const IPPROTO_TCP: u8 = 6;
/// `struct nlmsghdr`, then `struct inet_diag_req_v2`.
const REQUEST_LENGTH: usize = 16 + 56;
/// Where fields of `struct inet_diag_msg` stand, the netlink header included.
const STATE_AT: usize = 16 + 1;
const PEER_PORT_AT: usize = 16 + 4 + 2;
const UID_AT: usize = 16 + 4 + 48 + 12;
const INODE_AT: usize = UID_AT + 4;
/// Where its attributes begin.
const ATTRIBUTES_AT: usize = INODE_AT + 4;
const INET_DIAG_CGROUP_ID: u16 = 21;
const TCP_SYN_SENT: u8 = 2;
const TCP_LISTEN: u8 = 10;

/// Looks up the socket of the peer at `peer` that is connected to our end at `local`.
pub fn peer_state(local: SocketAddr, peer: SocketAddr) -> PeerState {
    match ask(&request(peer, local)) {
        Ok(Some(0)) => PeerState::Gone,
        Ok(Some(_)) => PeerState::Open,
        // No such socket here: on the loopback network that means that it is gone.
        Ok(None) if peer.ip().to_canonical().is_loopback() => PeerState::Gone,
        Ok(None) | Err(_) => PeerState::Unknown,
    }
}

/// Who holds a socket on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The number of the control group (version 2) that it was made in; none where the kernel does not tell.
    pub cgroup: Option<u64>,
}

/// Who holds the socket of the peer at `peer` that is connected to our end at `local`. None when it is not on this host (or not in
/// this network namespace), when nobody holds it any more, and when the kernel does not tell.
///
/// The answer is about our peer only while our own end is connected: the caller looks at that afterwards.
pub fn owner(local: SocketAddr, peer: SocketAddr) -> Option<Owner> {
    let (answer, length) = exchange(&request(peer, local)).ok()?;
    owner_in(&answer[..length], local.port())
}

fn owner_in(answer: &[u8], our_port: u16) -> Option<Owner> {
    // A socket that nobody holds any more counts as root's, and so does one in TIME_WAIT.
    if inode(answer).ok().flatten()? == 0 {
        return None;
    }
    // For want of a connection the kernel tells of a socket that listens at the peer's port, whoever that belongs to.
    let port = answer.get(PEER_PORT_AT..PEER_PORT_AT + 2)?;
    // One that has not connected yet is of somebody who has come by the port since.
    if [TCP_LISTEN, TCP_SYN_SENT].contains(answer.get(STATE_AT)?) || port != our_port.to_be_bytes() {
        return None;
    }
    let uid = answer.get(UID_AT..UID_AT + 4)?.try_into().map(u32::from_ne_bytes).ok()?;
    Some(Owner { uid, cgroup: cgroup_id(answer.get(ATTRIBUTES_AT..)?) })
}

/// The number of the control group among an answer's attributes.
fn cgroup_id(mut attributes: &[u8]) -> Option<u64> {
    while attributes.len() >= 4 {
        let [length, kind] = [0, 2].map(|at| u16::from_ne_bytes([attributes[at], attributes[at + 1]]));
        let value = attributes.get(4..usize::from(length))?;
        if kind == INET_DIAG_CGROUP_ID {
            return value.try_into().ok().map(u64::from_ne_bytes).filter(|id| *id != 0);
        }
        // Each begins at a multiple of four bytes.
        attributes = attributes.get(usize::from(length).next_multiple_of(4)..)?;
    }
    None
}

/// The inode in the kernel's answer; `None` when there is no such socket.
fn ask(request: &[u8; REQUEST_LENGTH]) -> io::Result<Option<u32>> {
    let (answer, length) = exchange(request)?;
    inode(&answer[..length])
}

/// The kernel's answer, and its length.
fn exchange(request: &[u8; REQUEST_LENGTH]) -> io::Result<([u8; 1024], usize)> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG))?;
    // The kernel answers within the call; the limit only guards against one that does not.
    let limit = Some(std::time::Duration::from_millis(20));
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, limit)?;
    sendto(&socket, request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0u8; 1024];
    let (length, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    Ok((answer, length))
}

fn inode(answer: &[u8]) -> io::Result<Option<u32>> {
    let field =
        |at: usize| answer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    match kind {
        Some(SOCK_DIAG_BY_FAMILY) => {
            field(INODE_AT).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
        }
        Some(NLMSG_ERROR) => match field(16).map(u32::cast_signed) {
            Some(code) if code == -rustix::io::Errno::NOENT.raw_os_error() => Ok(None),
            Some(code) => Err(io::Error::from_raw_os_error(-code)),
            None => Err(io::ErrorKind::InvalidData.into()),
        },
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn request(source: SocketAddr, destination: SocketAddr) -> [u8; REQUEST_LENGTH] {
    let mut bytes = [0u8; REQUEST_LENGTH];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, &u32::try_from(REQUEST_LENGTH).unwrap_or(0).to_ne_bytes());
    put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(6, &NLM_F_REQUEST.to_ne_bytes());
    let family = if source.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    put(16, &[u8::try_from(family.as_raw()).unwrap_or(0), IPPROTO_TCP]);
    put(20, &u32::MAX.to_ne_bytes()); // every state
    put(24, &source.port().to_be_bytes());
    put(26, &destination.port().to_be_bytes());
    put(28, &octets(source.ip()));
    put(44, &octets(destination.ip()));
    put(64, &[0xff; 8]); // no cookie: by address
    bytes
}

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => {
            let mut padded = [0; 16];
            padded[..4].copy_from_slice(&v4.octets());
            padded
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_half_closed_peer_is_told_from_one_that_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let ends =
            || (server.local_addr().unwrap(), client.peer_addr().map(|_| client.local_addr().unwrap()));
        let (local, peer) = (ends().0, ends().1.unwrap());
        assert_eq!(peer_state(local, peer), PeerState::Open);
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(peer_state(local, peer), PeerState::Open);
        drop(client);
        assert_eq!(peer_state(local, peer), PeerState::Gone);
    }

    /// A connection over loopback: our end's and the peer's address, and both sockets.
    fn pair() -> (SocketAddr, SocketAddr, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        (server.local_addr().unwrap(), client.local_addr().unwrap(), server, client)
    }

    #[test]
    fn the_owner_of_a_peer_on_this_host_is_known_while_somebody_holds_it() {
        use std::os::unix::fs::MetadataExt;
        let (local, peer, _server, client) = pair();
        let own = std::fs::metadata("/proc/self").unwrap().uid();
        assert_eq!(owner(local, peer).map(|owner| owner.uid), Some(own));
        let mapped = |address: SocketAddr| {
            let SocketAddr::V4(v4) = address else { panic!("{address}") };
            SocketAddr::new(IpAddr::V6(v4.ip().to_ipv6_mapped()), v4.port())
        };
        assert_eq!(owner(mapped(local), mapped(peer)).map(|owner| owner.uid), Some(own));
        drop(client);
        assert_eq!(owner(local, peer), None, "nobody holds it: the kernel would say root");
    }

    #[test]
    fn who_listens_at_the_port_of_a_peer_that_is_gone_is_not_its_owner() {
        // Another test may take the port first.
        let taken = std::iter::repeat_with(|| {
            let (local, peer, server, client) = pair();
            socket2::SockRef::from(&client).set_linger(Some(std::time::Duration::ZERO)).unwrap();
            drop((client, server));
            TcpListener::bind(peer).map(|other| (local, peer, other))
        });
        let (local, peer, other) = taken.take(20).find_map(Result::ok).unwrap();
        assert_eq!(other.local_addr().unwrap(), peer);
        assert_eq!(owner(local, peer), None);
    }

    #[test]
    fn who_only_begins_to_connect_from_the_port_of_a_peer_is_not_its_owner() {
        let (local, peer, _server, _client) = pair();
        let (mut answer, length) = exchange(&request(peer, local)).unwrap();
        assert!(owner_in(&answer[..length], local.port()).is_some());
        answer[STATE_AT] = TCP_SYN_SENT;
        assert_eq!(owner_in(&answer[..length], local.port()), None);
    }

    #[test]
    fn an_answer_that_is_cut_off_anywhere_names_nobody_wrongly() {
        let (local, peer, _server, _client) = pair();
        let (answer, length) = exchange(&request(peer, local)).unwrap();
        let whole = owner_in(&answer[..length], local.port()).unwrap();
        for cut in 0..length {
            let found = owner_in(&answer[..cut], local.port());
            assert!(found.is_none_or(|found| found.uid == whole.uid), "{cut}");
            assert!(found.and_then(|found| found.cgroup).is_none_or(|id| Some(id) == whole.cgroup), "{cut}");
        }
    }
}
