//! How near an endpoint is: on this node, in its zone, or elsewhere.
//!
//! What is made of that is left to `balance`.

use std::{net::IpAddr, time::Instant};

use crate::{
    balance::{Coordinate, Place},
    config::{self, Name},
    net::{Own, OwnAddresses, Subnet},
};

/// This node among others, as services see it.
pub struct Neighbourhood {
    zone: Option<Name>,
    /// Addresses of this node, besides the host's own.
    subnets: Vec<Subnet>,
    own: OwnAddresses,
    zones: Vec<(Name, Vec<Subnet>)>,
    /// Where this node's apertures begin.
    pub(super) coordinate: Coordinate,
}

impl Neighbourhood {
    /// That of the node that `config` describes.
    pub fn new(config: &config::Config) -> Self {
        let node = &config.node;
        Self {
            zone: node.zone.clone(),
            subnets: node.subnets.clone(),
            own: OwnAddresses::default(),
            zones: config.zones.clone(),
            coordinate: match node.position {
                Some(position) => Coordinate::of_peer(position.index, position.count),
                None => Coordinate::of_name(&node.name),
            },
        }
    }

    /// Whether two configurations mean the same neighbourhood.
    pub fn is_same(a: &config::Config, b: &config::Config) -> bool {
        let node = |config: &config::Config| {
            let node = &config.node;
            // The name counts only where it says where apertures begin.
            let name = node.position.is_none().then(|| node.name.clone());
            (node.zone.clone(), node.subnets.clone(), node.position, name)
        };
        a.zones == b.zones && node(a) == node(b)
    }

    /// The zone of an endpoint: what its source tells, else that of the longest range that holds its address.
    pub(super) fn zone(&self, told: Option<&Name>, address: IpAddr) -> Option<Name> {
        let longest = |subnets: &[Subnet]| {
            subnets.iter().filter(|subnet| subnet.contains(address)).map(Subnet::length).max()
        };
        let ranges = || self.zones.iter().filter_map(|(name, subnets)| Some((longest(subnets)?, name)));
        told.or_else(|| ranges().max_by_key(|(length, _)| *length).map(|(_, name)| name)).cloned()
    }

    /// The host's own addresses. Costs little, but is to be asked once for many endpoints.
    pub(super) fn own(&self) -> Own {
        self.own.get(Instant::now())
    }

    /// Where an endpoint of this zone and address is. What is in another zone is not on this node, whatever its address.
    pub(super) fn place(&self, zone: Option<&Name>, address: IpAddr, own: &Own) -> Place {
        match (zone, &self.zone) {
            (Some(zone), Some(own)) if zone != own => Place::Elsewhere,
            _ if self.is_here(address, own) => Place::Node,
            (Some(_), Some(_)) => Place::Zone,
            _ => Place::Elsewhere,
        }
    }

    /// Whether an address is of this node.
    pub(super) fn is_here(&self, address: IpAddr, own: &Own) -> bool {
        self.subnets.iter().any(|subnet| subnet.contains(address)) || own.contains(address)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Environment;

    const TOML: &str = r#"
        [node]
        zone = "a"
        subnets = ["10.1.7.0/24"]
        [zones]
        a = ["10.1.0.0/16"]
        b = ["10.0.0.0/8", "fd00::/16"]
        [[listeners]]
        name = "outgoing"
        kind = "outgoing"
        listen = "127.0.0.1:0"
    "#;

    fn config(toml: &str) -> config::Config {
        config::parse_in(toml, Path::new("t.toml"), &Environment::of_process()).unwrap()
    }

    fn seen(address: &str, told: Option<&str>) -> (Option<String>, Place) {
        let neighbourhood = Neighbourhood::new(&config(TOML));
        let address = address.parse().unwrap();
        let zone = neighbourhood.zone(told.map(Name::from).as_ref(), address);
        (
            zone.as_deref().map(str::to_owned),
            neighbourhood.place(zone.as_ref(), address, &neighbourhood.own()),
        )
    }

    #[test]
    fn the_longest_range_tells_the_zone_unless_the_source_does() {
        assert_eq!(seen("10.1.2.3", None), (Some("a".into()), Place::Zone));
        assert_eq!(seen("10.2.2.3", None), (Some("b".into()), Place::Elsewhere));
        assert_eq!(seen("fd00::1", None), (Some("b".into()), Place::Elsewhere));
        assert_eq!(seen("192.0.2.1", None), (None, Place::Elsewhere));
        assert_eq!(seen("10.2.2.3", Some("a")), (Some("a".into()), Place::Zone));
    }

    #[test]
    fn the_hosts_own_addresses_and_the_nodes_subnets_are_on_the_node() {
        assert_eq!(seen("127.0.0.9", None).1, Place::Node);
        assert_eq!(seen("::1", None).1, Place::Node);
        assert_eq!(seen("10.1.7.200", None).1, Place::Node);
        assert_eq!(seen("10.1.7.200", Some("b")).1, Place::Elsewhere);
    }

    #[test]
    fn a_neighbourhood_is_what_places_endpoints() {
        let base = config(TOML);
        assert!(Neighbourhood::is_same(&base, &config(&TOML.replace("127.0.0.1:0", "127.0.0.1:9"))));
        for (old, new) in [("zone = \"a\"", "zone = \"b\""), ("10.1.7.0", "10.1.8.0"), ("fd00::", "fd01::")] {
            assert!(!Neighbourhood::is_same(&base, &config(&TOML.replace(old, new))), "{new}");
        }
    }
}
