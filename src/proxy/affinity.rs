//! What of a request decides its endpoint, for services that are balanced by a hash.
//!
//! A request without the key (no such header, no such cookie, a caller on a Unix socket) has none: any endpoint will do.

use http::{header::COOKIE, request::Parts};

use super::target::Target;
use crate::{
    balance::hash_key,
    config::{Balancer, HashKey},
    net::Address,
};

/// The hash of the request's key; None where its service is not balanced by one, or the request has none.
pub(super) fn affinity(balancer: &Balancer, parts: &Parts, target: &Target, peer: &Address) -> Option<u64> {
    let Balancer::Hash(key) = balancer else { return None };
    match key {
        // The field goes with HTTP/2, and into the target with HTTP/1.1.
        HashKey::Header(name) if &**name == "host" => Some(hash_key(target.host().as_bytes())),
        HashKey::Header(name) => parts.headers.get(&**name).map(|value| hash_key(value.as_bytes())),
        HashKey::Cookie(name) => cookie(parts, name).map(hash_key),
        HashKey::Source => match peer {
            Address::Tcp(address) => Some(match address.ip().to_canonical() {
                std::net::IpAddr::V4(ip) => hash_key(&ip.octets()),
                std::net::IpAddr::V6(ip) => hash_key(&ip.octets()),
            }),
            Address::Unix(_) => None,
        },
        HashKey::Path => Some(hash_key(parts.uri.path().as_bytes())),
    }
}

/// The first cookie of this name (RFC 6265 5.4); HTTP/2 may spread cookies over several fields (RFC 9113 8.2.3).
fn cookie<'p>(parts: &'p Parts, name: &str) -> Option<&'p [u8]> {
    let pairs = parts.headers.get_all(COOKIE).iter().flat_map(|field| field.as_bytes().split(|b| *b == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::http::Body;

    fn parts(fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::get("http://svc.test/a/b?c=d");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn of(key: HashKey, fields: &[(&str, &str)], peer: &str) -> Option<u64> {
        let request = Request::get("http://svc.test/a/b?c=d").body(Body::Empty).unwrap();
        let target = Target::of(&request).unwrap();
        let peer = peer.parse().map_or_else(|_| Address::Unix(peer.into()), Address::Tcp);
        affinity(&Balancer::Hash(key), &parts(fields), &target, &peer)
    }

    const PEER: &str = "10.0.0.1:1";

    #[test]
    fn a_headers_value_is_the_key() {
        let header = || HashKey::Header("x-user".into());
        assert_eq!(of(header(), &[("x-user", "ann")], PEER), Some(hash_key(b"ann")));
        assert_eq!(of(header(), &[("x-other", "ann")], PEER), None);
        assert_eq!(of(HashKey::Header("host".into()), &[], PEER), Some(hash_key(b"svc.test")));
    }

    #[test]
    fn a_cookie_is_found_among_others_and_by_its_whole_name() {
        let cookie = || HashKey::Cookie("s".into());
        for fields in [&[("cookie", "a=1; s=ann; ss=2")][..], &[("cookie", "ss=2;a=1"), ("cookie", "s=ann")]]
        {
            assert_eq!(of(cookie(), fields, PEER), Some(hash_key(b"ann")), "{fields:?}");
        }
        assert_eq!(of(cookie(), &[("cookie", "S=ann; ss=2")], PEER), None);
        assert_eq!(of(cookie(), &[], PEER), None);
    }

    #[test]
    fn the_callers_address_counts_without_its_port() {
        assert_eq!(of(HashKey::Source, &[], PEER), of(HashKey::Source, &[], "10.0.0.1:9"));
        assert_eq!(of(HashKey::Source, &[], PEER), of(HashKey::Source, &[], "[::ffff:10.0.0.1]:9"));
        assert_ne!(of(HashKey::Source, &[], PEER), of(HashKey::Source, &[], "10.0.0.2:1"));
        assert_eq!(of(HashKey::Source, &[], "/run/socket"), None);
    }

    #[test]
    fn the_path_counts_without_its_query() {
        assert_eq!(of(HashKey::Path, &[], PEER), Some(hash_key(b"/a/b")));
    }
}
