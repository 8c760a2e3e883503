//! A range of addresses: RFC 4632's and RFC 4291's `ADDRESS/LENGTH`.

use std::{fmt, net::IpAddr};

/// Addresses that share their first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subnet {
    /// Its bits beyond `length` are zero.
    first: IpAddr,
    /// In bits: 32 at most for IPv4, 128 for IPv6.
    length: u8,
}

impl Subnet {
    /// The subnet of `address`, or None when the family has no such length.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let first = match address {
            IpAddr::V4(ip) if length <= 32 => IpAddr::V4((ip.to_bits() & mask32(length)).into()),
            IpAddr::V6(ip) if length <= 128 => IpAddr::V6((ip.to_bits() & mask128(length)).into()),
            _ => return None,
        };
        Some(Self { first, length })
    }

    /// Whether `address` is in it. An IPv4 address mapped into IPv6 counts as the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::new(address.to_canonical(), self.length).as_ref() == Some(self)
    }

    /// Whether every address of `other` is in it.
    pub fn contains_all_of(&self, other: &Self) -> bool {
        self.length <= other.length && Self::new(other.first, self.length).as_ref() == Some(self)
    }

    /// In bits: the longer, the more specific.
    pub fn length(&self) -> u8 {
        self.length
    }
}

fn mask32(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

fn mask128(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        let (address, length) = text.split_once('/').unwrap();
        Subnet::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
    }

    #[test]
    fn an_address_is_in_the_subnet_whose_bits_it_shares() {
        for (range, inside, outside) in [
            ("10.1.2.3/16", "10.1.255.255", "10.2.0.0"),
            ("10.1.2.3/32", "10.1.2.3", "10.1.2.2"),
            ("0.0.0.0/0", "255.1.1.1", "::1"),
            ("fd00:1::/32", "fd00:1:ffff::1", "fd00:2::"),
            ("::/0", "fd00::", "10.0.0.1"),
        ] {
            let range = subnet(range);
            assert!(range.contains(inside.parse().unwrap()), "{inside} in {range}");
            assert!(!range.contains(outside.parse().unwrap()), "{outside} in {range}");
        }
        assert!(subnet("10.0.0.0/8").contains("::ffff:10.1.1.1".parse().unwrap()));
        assert!(subnet("10.0.0.0/8").contains_all_of(&subnet("10.1.0.0/16")));
        assert!(!subnet("10.1.0.0/16").contains_all_of(&subnet("10.0.0.0/8")));
        assert!(!subnet("0.0.0.0/0").contains_all_of(&subnet("::/0")));
    }

    #[test]
    fn a_subnet_is_written_from_its_first_address() {
        assert_eq!(subnet("10.1.2.3/16").to_string(), "10.1.0.0/16");
        assert_eq!(subnet("10.1.2.3/16"), subnet("10.1.0.0/16"));
    }

    #[test]
    fn no_length_goes_beyond_the_address() {
        assert_eq!(Subnet::new("10.0.0.1".parse().unwrap(), 33), None);
        assert_eq!(Subnet::new("::".parse().unwrap(), 129), None);
    }
}
