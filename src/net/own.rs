//! Which addresses are this host's own, as the kernel lists those of its interfaces (`rtnetlink(7)`).
//!
//! Trying to bind a socket to an address would tell as well, but costs system calls for each address, and tells nothing
//! where `ip_nonlocal_bind` is set. Addresses that only a route makes local are not listed.

use std::{
    collections::HashSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, Once, PoisonError},
    time::{Duration, Instant},
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink::SocketAddrNetlink, recv, sendto,
    socket_with, sockopt,
};

/// How old a list may be. An address and the endpoint that listens on it often come together, so not long.
const FRESH: Duration = Duration::from_secs(1);
/// For each part of the kernel's answer. It answers within the call; the limit only guards against one that does not.
const PATIENCE: Duration = Duration::from_millis(20);
/// The kernel sends no longer part.
const PART: usize = 32 * 1024;

const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct ifaddrmsg`.
const ABOUT: usize = 8;
/// `struct rtattr`.
const ATTRIBUTE: usize = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// Another host on the link has this address.
const IFA_F_DADFAILED: u8 = 0x08;

/// Keeps the list of this host's own addresses, and asks the kernel for it at most once a second.
#[derive(Default)]
pub struct OwnAddresses(Mutex<Option<Listed>>);

/// This host's own addresses at one moment.
#[derive(Clone, Debug)]
pub struct Own(Arc<HashSet<IpAddr>>);

struct Listed {
    own: Own,
    at: Instant,
}

impl OwnAddresses {
    /// The addresses, as they were within the last second. Where the kernel does not tell, those it told last.
    pub fn get(&self, now: Instant) -> Own {
        self.get_from(now, list)
    }

    fn get_from(&self, now: Instant, list: impl FnOnce() -> io::Result<HashSet<IpAddr>>) -> Own {
        let mut listed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match &*listed {
            Some(listed) if now.saturating_duration_since(listed.at) < FRESH => return listed.own.clone(),
            Some(listed) => listed.own.clone(),
            None => Own(Arc::default()),
        };
        let own = list().map_or_else(
            |error| {
                warn(&error);
                known
            },
            |addresses| Own(addresses.into()),
        );
        *listed = Some(Listed { own: own.clone(), at: now });
        own
    }
}

impl Own {
    /// Whether `address` is one of this host's. Loopback addresses are, whether an interface has them or not.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_loopback() || self.0.contains(&address)
    }

    /// Whether both come from one asking.
    #[cfg(test)]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Once in a process: what keeps the kernel from answering lasts.
fn warn(error: &io::Error) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::warn!(%error, "the host's addresses cannot be listed: only [node] subnets tell what is on this node");
    });
}

/// Asks the kernel.
fn list() -> io::Result<HashSet<IpAddr>> {
    // No protocol is number 0, NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
    sendto(&socket, &request(), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut addresses = HashSet::new();
    let mut part = vec![0; PART];
    loop {
        let (length, _) = recv(&socket, part.as_mut_slice(), RecvFlags::empty())?;
        if take_in(&part[..length.min(PART)], &mut addresses)? {
            return Ok(addresses);
        }
    }
}

/// For all addresses of both families.
fn request() -> [u8; HEADER + ABOUT] {
    let mut bytes = [0; HEADER + ABOUT];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, &((HEADER + ABOUT) as u32).to_ne_bytes());
    put(4, &RTM_GETADDR.to_ne_bytes());
    put(6, &(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    bytes
}

/// Reads one part of the answer. Whether it was the last one.
fn take_in(mut part: &[u8], addresses: &mut HashSet<IpAddr>) -> io::Result<bool> {
    while !part.is_empty() {
        let (message, rest) = cut(part, number(part, 0).map(u32::from_ne_bytes)).ok_or_else(garbled)?;
        let body = message.get(HEADER..).ok_or_else(garbled)?;
        match number(message, 4).map(u16::from_ne_bytes) {
            Some(RTM_NEWADDR) => addresses.extend(address(body)),
            Some(NLMSG_DONE) => return Ok(true),
            Some(NLMSG_ERROR) => {
                let code = number(body, 0).map(i32::from_ne_bytes).ok_or_else(garbled)?;
                return Err(io::Error::from_raw_os_error(-code));
            }
            _ => {}
        }
        part = rest;
    }
    Ok(false)
}

/// The address that an `ifaddrmsg` and its attributes tell of, if the host may use it.
fn address(message: &[u8]) -> Option<IpAddr> {
    let flags = *message.get(2)?;
    let mut attributes = message.get(ABOUT..)?;
    let mut found = None;
    while let Some(length) = number(attributes, 0).map(u16::from_ne_bytes) {
        let (attribute, rest) = cut(attributes, Some(length.into()))?;
        match number(attribute, 2).map(u16::from_ne_bytes) {
            // Where both are given, the other is the far end's.
            Some(IFA_LOCAL) => found = ip(attribute.get(ATTRIBUTE..)?),
            Some(IFA_ADDRESS) if found.is_none() => found = ip(attribute.get(ATTRIBUTE..)?),
            _ => {}
        }
        attributes = rest;
    }
    found.filter(|_| flags & IFA_F_DADFAILED == 0)
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(octets).map(|octets| Ipv4Addr::from(octets).into());
    let v6 = || <[u8; 16]>::try_from(octets).map(|octets| Ipv6Addr::from(octets).into());
    v4().or_else(|_| v6()).ok()
}

/// What is `length` bytes long, and what follows it, which begins at a multiple of four. None: the length is impossible.
fn cut(bytes: &[u8], length: Option<u32>) -> Option<(&[u8], &[u8])> {
    let length = usize::try_from(length?).ok().filter(|length| *length >= ATTRIBUTE)?;
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((bytes.get(..length)?, rest))
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn garbled() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, process::Command};

    use super::*;

    fn own() -> Own {
        Own(list().unwrap().into())
    }

    fn has(own: &Own, address: &str) -> bool {
        own.contains(address.parse().unwrap())
    }

    #[test]
    fn loopback_is_own_and_what_belongs_to_nobody_is_not() {
        let own = own();
        assert!(has(&own, "127.0.0.1") && has(&own, "127.9.9.9"));
        assert!(has(&own, "::1") && has(&own, "::ffff:127.0.0.1"));
        // RFC 5737 and RFC 3849: for documentation.
        assert!(!has(&own, "198.51.100.1") && !has(&own, "2001:db8::1"));
        assert!(!has(&own, "0.0.0.0") && !has(&own, "::"));
    }

    #[test]
    fn the_kernel_lists_the_address_of_the_loopback_interface() {
        assert!(list().unwrap().contains(&IpAddr::from(Ipv4Addr::LOCALHOST)));
    }

    #[test]
    fn however_often_the_addresses_are_needed_the_kernel_is_asked_once_a_second() {
        let (addresses, start) = (OwnAddresses::default(), Instant::now());
        let mut asked = 0;
        for millisecond in 0..10_000 {
            addresses.get_from(start + Duration::from_millis(millisecond), || {
                asked += 1;
                Ok(HashSet::new())
            });
        }
        assert_eq!(asked, 10);
    }

    #[test]
    fn a_new_address_is_known_a_second_later_and_lasts_while_the_kernel_does_not_answer() {
        let (addresses, start) = (OwnAddresses::default(), Instant::now());
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let fails = || Err(io::ErrorKind::TimedOut.into());
        assert!(!addresses.get_from(start, fails).contains(address));
        let told = addresses.get_from(start + FRESH, || Ok([address].into()));
        assert!(told.contains(address));
        assert!(addresses.get_from(start + 3 * FRESH, fails).contains(address));
        assert!(!addresses.get_from(start + 5 * FRESH, || Ok(HashSet::new())).contains(address));
    }

    /// An attribute, padded.
    fn attribute(kind: u16, octets: &[u8]) -> Vec<u8> {
        let length = u16::try_from(ATTRIBUTE + octets.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(octets);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + body.len()).unwrap();
        let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10]].concat();
        bytes.extend(body);
        bytes
    }

    fn told(flags: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        let about = [2, 24, flags, 0, 1, 0, 0, 0];
        message(RTM_NEWADDR, &[&about[..], &attributes.concat()].concat())
    }

    #[test]
    fn the_near_end_of_a_link_is_own_the_far_end_and_a_duplicate_are_not() {
        let label = attribute(3, b"eth0\0");
        let near = attribute(IFA_LOCAL, &[192, 0, 2, 1]);
        let far = attribute(IFA_ADDRESS, &[192, 0, 2, 2]);
        let mut part = told(0, &[far.clone(), label.clone(), near.clone()]);
        part.extend(told(0, &[label, near, far]));
        part.extend(told(IFA_F_DADFAILED, &[attribute(IFA_ADDRESS, &[0xfd; 16])]));
        part.extend(told(0, &[attribute(IFA_ADDRESS, &[0xfc; 16])]));
        let mut found = HashSet::new();
        assert!(!take_in(&part, &mut found).unwrap(), "there is more to come");
        let expected = [[192, 0, 2, 1].into(), [0xfc; 16].into()];
        assert_eq!(found, HashSet::from(expected));
        assert!(take_in(&message(NLMSG_DONE, &[0; 4]), &mut found).unwrap());
    }

    #[test]
    fn a_refusal_and_a_garbled_answer_are_errors() {
        let refused = message(NLMSG_ERROR, &(-1i32).to_ne_bytes());
        let error = take_in(&refused, &mut HashSet::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let whole = told(0, &[attribute(IFA_LOCAL, &[192, 0, 2, 1])]);
        for end in 1..whole.len() {
            assert!(take_in(&whole[..end], &mut HashSet::new()).is_err(), "{end} bytes");
        }
        assert!(take_in(&[0; 64], &mut HashSet::new()).is_err(), "a length of nothing");
    }

    /// Runs the next test in a network namespace of its own, where the host allows that.
    #[test]
    fn nonlocal_binds_make_no_address_own() {
        if !Command::new("unshare").args(["-rn", "true"]).status().is_ok_and(|status| status.success()) {
            return;
        }
        let inner = "net::own::tests::of_a_host_with_nonlocal_binds";
        let script = "echo 1 >/proc/sys/net/ipv4/ip_nonlocal_bind && exec \"$0\" --ignored --exact \"$1\"";
        let test = std::env::current_exe().unwrap();
        let ran =
            Command::new("unshare").args(["-rn", "sh", "-c", script]).arg(test).arg(inner).output().unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(
            ran.status.success() && said.contains("1 passed"),
            "{said}{}",
            String::from_utf8_lossy(&ran.stderr)
        );
    }

    #[test]
    #[ignore = "run by nonlocal_binds_make_no_address_own in a network namespace of its own"]
    fn of_a_host_with_nonlocal_binds() {
        assert!(UdpSocket::bind("192.0.2.1:0").is_ok(), "the kernel binds what is not its own");
        assert!(!has(&own(), "192.0.2.1"));
        assert!(has(&own(), "127.0.0.1"));
    }
}
