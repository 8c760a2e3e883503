//! A hash that is the same on every node, on every processor and in every version, because nodes must agree on it.
//!
//! Eight bytes at a time, least significant first, the last ones filled up with zeros: each is mixed in by a
//! multiplication to 128 bits whose halves are added without carry; the length goes first. The last step is the finalizer of
//! splitmix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014), under which every bit
//! of the input reaches every bit of the result. Its values are part of what nodes of different versions agree on: a test
//! pins them.
//!
//! It has no secret. Whoever can choose keys can choose many that meet at one endpoint; it is the bound on load
//! (`ring.rs`) that keeps this harmless.

use std::net::{IpAddr, SocketAddr};

/// The fractional parts of the golden ratio and of the square root of 3: odd, and without pattern.
const START: u64 = 0x9e37_79b9_7f4a_7c15;
const FACTOR: u64 = 0xbb67_ae85_84ca_a73b;

/// The hash of a key, such as a header's value.
pub fn hash_key(bytes: &[u8]) -> u64 {
    let mut state = START ^ bytes.len() as u64;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state = folded(state, u64::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        state = folded(state, u64::from_le_bytes(word));
    }
    mixed(state)
}

/// The hash of an address: of its 16 bytes as IPv6 (IPv4 as mapped) and its port.
pub(super) fn hash_address(address: SocketAddr) -> u64 {
    let octets = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(&octets);
    bytes[16..].copy_from_slice(&address.port().to_be_bytes());
    hash_key(&bytes)
}

fn folded(state: u64, word: u64) -> u64 {
    let product = u128::from((state ^ word).wrapping_add(START)) * u128::from(FACTOR);
    (product as u64) ^ ((product >> 64) as u64)
}

/// The finalizer of splitmix64: a permutation of the 64-bit numbers.
pub(super) fn mixed(mut state: u64) -> u64 {
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_never_change() {
        let found = [b"".as_slice(), b"a", b"user-1", b"12345678", b"a longer key, of 33 bytes in all."]
            .map(hash_key);
        assert_eq!(
            found,
            [
                0xe220_a839_7b1d_cdaf,
                0xd7bb_dee3_b5c8_5887,
                0x166f_5187_7f63_0800,
                0xd85f_18e9_9241_4062,
                0x4b61_592d_12c7_e730
            ]
        );
        let addresses = ["10.0.0.1:80", "[2001:db8::1]:8080"].map(|text| hash_address(text.parse().unwrap()));
        assert_eq!(addresses, [0x131b_6d10_3d1d_1592, 0xed9c_ad53_8112_60e1]);
    }

    #[test]
    fn the_mapped_form_of_an_ipv4_address_is_the_same_address() {
        let [short, long] = ["10.0.0.1:80", "[::ffff:10.0.0.1]:80"].map(|text| text.parse().unwrap());
        assert_eq!(hash_address(short), hash_address(long));
    }

    #[test]
    fn zeros_at_the_end_count() {
        let hashes: Vec<u64> = (0..20).map(|len| hash_key(&[0; 20][..len])).collect();
        assert!((1..20).all(|len| !hashes[..len].contains(&hashes[len])));
    }

    #[test]
    fn each_bit_of_a_key_changes_half_of_the_result() {
        let mut flipped = 0;
        for number in 0u64..1000 {
            let key = number.to_le_bytes();
            for bit in 0..64 {
                let other = (number ^ (1 << bit)).to_le_bytes();
                flipped += (hash_key(&key) ^ hash_key(&other)).count_ones();
            }
        }
        let mean = f64::from(flipped) / 64_000.0;
        assert!((31.5..32.5).contains(&mean), "{mean}");
    }
}
