//! One address of a service, and the lists of them that a configuration file spells out.
//!
//! Load, health and balancing belong to the service that uses the endpoint.

use std::net::{IpAddr, SocketAddr};

use crate::config::FixedEndpoint;

/// One address of a service. Ordered by address (IPv4 first), then weight.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Relative to the other endpoints of the service; never 0.
    pub weight: u32,
}

/// The endpoints that a configuration file spells out, sorted.
pub fn fixed(endpoints: &[FixedEndpoint]) -> Vec<Endpoint> {
    sorted(endpoints.iter().map(|e| Endpoint { address: e.address, weight: e.weight }).collect())
}

/// One endpoint of weight 1 per distinct address, sorted.
pub(super) fn resolved(addresses: &[IpAddr], port: u16) -> Vec<Endpoint> {
    sorted(addresses.iter().map(|ip| Endpoint { address: SocketAddr::new(*ip, port), weight: 1 }).collect())
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
            FixedEndpoint { address: "10.0.0.2:80".parse().unwrap(), weight: 3 },
            FixedEndpoint { address: "10.0.0.1:80".parse().unwrap(), weight: 1 },
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
