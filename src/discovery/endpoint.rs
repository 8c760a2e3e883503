//! One address of a service, and the lists of them that a configuration file spells out.
//!
//! Load, health and balancing belong to the service that uses the endpoint.

use std::net::{IpAddr, SocketAddr};

use crate::config::{FixedEndpoint, Name};

/// One address of a service. Ordered by priority, then address (IPv4 first), then the rest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The lowest is used; the next one when that has no usable endpoint. 0 where a source knows none.
    pub priority: u16,
    /// Where it listens.
    pub address: SocketAddr,
    /// Relative to the other endpoints of the service; never 0.
    pub weight: u32,
    /// Where it stands, if its source tells.
    pub zone: Option<Name>,
}

impl Endpoint {
    /// One of weight 1, of which nothing else is known.
    pub fn plain(address: SocketAddr) -> Self {
        Self { priority: 0, address, weight: 1, zone: None }
    }
}

/// The endpoints that a configuration file spells out, sorted.
pub fn fixed(endpoints: &[FixedEndpoint]) -> Vec<Endpoint> {
    sorted(endpoints.iter().map(fixed_one).collect())
}

fn fixed_one(fixed: &FixedEndpoint) -> Endpoint {
    Endpoint { weight: fixed.weight, zone: fixed.zone.clone(), ..Endpoint::plain(fixed.address) }
}

/// One endpoint of weight 1 per distinct address, sorted.
pub(super) fn resolved(addresses: &[IpAddr], port: u16) -> Vec<Endpoint> {
    sorted(addresses.iter().map(|ip| Endpoint::plain(SocketAddr::new(*ip, port))).collect())
}

/// Two equal sets of endpoints compare equal however they were listed.
fn sorted(mut endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    endpoints.sort_unstable();
    endpoints.dedup();
    endpoints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_endpoints_keep_their_weights_and_are_sorted() {
        let list = [
            FixedEndpoint { weight: 3, ..FixedEndpoint::plain("10.0.0.2:80".parse().unwrap()) },
            FixedEndpoint::plain("10.0.0.1:80".parse().unwrap()),
        ];
        let endpoints: Vec<_> = fixed(&list).into_iter().map(|e| (e.address.to_string(), e.weight)).collect();
        assert_eq!(endpoints, [("10.0.0.1:80".to_owned(), 1), ("10.0.0.2:80".to_owned(), 3)]);
    }

    #[test]
    fn resolved_addresses_are_distinct_and_ipv4_comes_first() {
        let addresses = ["::1", "10.0.0.2", "10.0.0.1", "10.0.0.2"].map(|a| a.parse().unwrap());
        let endpoints: Vec<_> = resolved(&addresses, 80).iter().map(|e| e.address.to_string()).collect();
        assert_eq!(endpoints, ["10.0.0.1:80", "10.0.0.2:80", "[::1]:80"]);
    }
}
