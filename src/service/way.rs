//! The way to a service's endpoints: plain, by TLS, or through the towpath of their nodes.
//!
//! # Endpoints of this node
//! They are called directly, unless `local = "peer"`. Loopback addresses are every node's own and tell nothing by themselves: where
//! several towpaths share a host, an endpoint at one is of this node when the towpath of its node is this one.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use http::HeaderValue;

use super::hops::{Hop, Hops, NodeAt};
use crate::{
    config::{NodeOf, Peer},
    tls::{Client, ServerNameOf},
    upstream::Secure,
};

/// How the endpoints of a service are reached.
#[derive(Clone, Default)]
pub enum Way {
    /// As they are.
    #[default]
    Plain,
    /// By TLS.
    Tls(Arc<Client>),
    /// Through the towpath of their nodes.
    Peer {
        /// As configured.
        peer: Arc<Peer>,
        /// TLS towards nodes.
        client: Arc<Client>,
        /// Where this node's listeners are that take calls of others.
        doors: Arc<[SocketAddr]>,
        /// All nodes that this one calls.
        hops: Arc<Hops>,
    },
}

/// That an endpoint is reached through the towpath of its node.
#[derive(Clone)]
pub struct Through {
    /// That towpath.
    pub hop: Arc<Hop>,
    /// Its endpoint's service, as that towpath is told.
    pub service: HeaderValue,
    /// The endpoint, as that towpath is told.
    pub endpoint: HeaderValue,
}

impl Way {
    /// How connections to an endpoint at `address` are secured; `host`: what it is called where nothing is configured.
    pub(super) fn secure(&self, host: Option<&str>, address: IpAddr) -> Option<Secure> {
        match self {
            Self::Tls(client) => Some(Secure::new(client, ServerNameOf { host, address })),
            Self::Plain | Self::Peer { .. } => None,
        }
    }

    /// Through which towpath the endpoint is reached. `is_here`: it is on this node.
    pub(super) fn through(&self, service: &str, endpoint: SocketAddr, is_here: bool) -> Option<Through> {
        let Self::Peer { peer, client, doors, hops } = self else { return None };
        let node = node_of(&peer.node, endpoint.ip());
        let is_own = is_here && (!endpoint.ip().is_loopback() || is_at(doors, &node, peer.port));
        if is_own && peer.local_direct {
            return None;
        }
        let hop = hops.get(node, peer.port, client);
        let text = "an address, or a name that is written in a configuration file, makes a valid value";
        Some(Through {
            hop,
            service: HeaderValue::from_str(service).expect(text),
            endpoint: HeaderValue::from_str(&endpoint.to_string()).expect(text),
        })
    }
}

impl Through {
    /// Whether both lead through the same towpath.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.hop, &other.hop)
    }
}

/// Whether one of these listeners is that of the node.
fn is_at(doors: &[SocketAddr], node: &NodeAt, port: u16) -> bool {
    let NodeAt::Address(address) = node else { return false };
    let takes = |door: &SocketAddr| door.ip() == *address || door.ip().is_unspecified();
    doors.iter().any(|door| door.port() == port && takes(door))
}

/// Where the node of the endpoint at `address` is.
fn node_of(of: &NodeOf, address: IpAddr) -> NodeAt {
    match of {
        NodeOf::SameAddress => NodeAt::Address(address),
        NodeOf::Subnet(length) => NodeAt::Address(first_of_range(address, *length)),
        NodeOf::Name { prefix, suffix } => {
            let dashed = address.to_string().replace(['.', ':'], "-");
            NodeAt::Name(format!("{prefix}{dashed}{suffix}"))
        }
    }
}

/// The address behind the network's own, which gateways and nodes have by custom.
fn first_of_range(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            Ipv4Addr::from_bits((address.to_bits() & mask).saturating_add(1)).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            Ipv6Addr::from_bits((address.to_bits() & mask).saturating_add(1)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(of: &NodeOf, address: &str) -> String {
        match node_of(of, address.parse().unwrap()) {
            NodeAt::Address(address) => address.to_string(),
            NodeAt::Name(name) => name,
        }
    }

    #[test]
    fn a_listener_is_a_nodes_at_its_address_or_at_all() {
        let node = NodeAt::Address([127, 0, 0, 2].into());
        for (door, expected) in [
            ("127.0.0.2:4141", true),
            ("0.0.0.0:4141", true),
            ("127.0.0.1:4141", false),
            ("0.0.0.0:4142", false),
        ] {
            assert_eq!(is_at(&[door.parse().unwrap()], &node, 4141), expected, "{door}");
        }
        assert!(!is_at(&["0.0.0.0:4141".parse().unwrap()], &NodeAt::Name("n.test".into()), 4141));
    }

    #[test]
    fn the_node_of_an_endpoint_is_at_its_address_at_the_first_of_its_range_or_at_a_name() {
        assert_eq!(node(&NodeOf::SameAddress, "10.1.2.3"), "10.1.2.3");
        for (length, address, expected) in [
            (24, "10.1.2.3", "10.1.2.1"),
            (16, "10.1.2.3", "10.1.0.1"),
            (26, "10.1.2.200", "10.1.2.193"),
            (64, "fd00:1:2:3::77", "fd00:1:2:3::1"),
            (80, "fd00::7:1:2:3", "fd00::7:0:0:1"),
        ] {
            assert_eq!(node(&NodeOf::Subnet(length), address), expected, "{address}/{length}");
        }
        let name = NodeOf::Name { prefix: "node-".into(), suffix: ".mesh".into() };
        assert_eq!(node(&name, "10.1.2.3"), "node-10-1-2-3.mesh");
        assert_eq!(node(&name, "fd00::7"), "node-fd00--7.mesh");
    }
}
