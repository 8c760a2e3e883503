//! Whether an address is this host's own.

use std::net::{IpAddr, UdpSocket};

/// Whether `address` is one of this host's. Asks the kernel, which binds a socket to no other; nothing is sent.
pub fn is_own(address: IpAddr) -> bool {
    address.is_loopback() || (!address.is_unspecified() && UdpSocket::bind((address, 0)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_own_and_what_belongs_to_nobody_is_not() {
        assert!(is_own("127.0.0.1".parse().unwrap()));
        assert!(is_own("::1".parse().unwrap()));
        // RFC 5737 and RFC 3849: for documentation.
        assert!(!is_own("192.0.2.1".parse().unwrap()));
        assert!(!is_own("2001:db8::1".parse().unwrap()));
        assert!(!is_own("0.0.0.0".parse().unwrap()));
    }
}
