//! Which addresses this host can reach at all (RFC 6724, rule 1: avoid unusable destinations).
//!
//! A name may have IPv6 addresses on a host without IPv6, or the other way round. Connecting to those would fail at
//! once and for ever, so a family without a route is left out while the other has one. No packet is sent: connecting
//! a UDP socket only looks up the route.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
};

/// Addresses of one family whose route is looked up: one of them suffices.
const SAMPLE: usize = 4;

/// The addresses of `all` without a family that is `unreachable`, unless that is all there is.
pub(in crate::discovery) fn reachable(all: Vec<IpAddr>, unreachable: impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
    let family = |v4: bool| all.iter().copied().filter(move |ip| ip.is_ipv4() == v4);
    if family(true).next().is_none() || family(false).next().is_none() {
        return all;
    }
    let without = |v4: bool| family(v4).take(SAMPLE).all(&unreachable);
    match (without(true), without(false)) {
        (true, false) => family(false).collect(),
        (false, true) => family(true).collect(),
        _ => all,
    }
}

/// Whether the kernel knows no way to `ip`. In doubt there is one.
pub(in crate::discovery) fn has_no_route(ip: IpAddr) -> bool {
    let from: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // Any port will do: nothing is sent.
    let connected = UdpSocket::bind((from, 0)).and_then(|socket| socket.connect((ip, 9)));
    connected.is_err_and(|error| {
        let kind = error.kind();
        matches!(
            kind,
            ErrorKind::NetworkUnreachable
                | ErrorKind::HostUnreachable
                | ErrorKind::AddrNotAvailable
                | ErrorKind::Unsupported
        ) || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_family_without_a_route_is_left_out_while_the_other_has_one() {
        let both = ips(&["10.0.0.1", "fd00::1", "fd00::2"]);
        assert_eq!(reachable(both.clone(), |ip| ip.is_ipv6()), ips(&["10.0.0.1"]));
        assert_eq!(reachable(both.clone(), |ip| ip.is_ipv4()), ips(&["fd00::1", "fd00::2"]));
        assert_eq!(reachable(both.clone(), |_| true), both);
        assert_eq!(reachable(both.clone(), |_| false), both);
    }

    #[test]
    fn one_reachable_address_keeps_its_family() {
        let both = ips(&["10.0.0.1", "fd00::1", "fd00::2"]);
        assert_eq!(reachable(both.clone(), |ip| ip == ips(&["fd00::1"])[0]), both);
    }

    #[test]
    fn a_single_family_is_never_left_out() {
        assert_eq!(reachable(ips(&["fd00::1"]), |_| true), ips(&["fd00::1"]));
    }

    #[test]
    fn loopback_is_reachable() {
        assert!(!has_no_route(Ipv4Addr::LOCALHOST.into()));
    }
}
