//! How requests are shared out among an endpoint set: made once for each set, read by all workers.

use std::{collections::BTreeSet, ops::Range, time::Duration};

use super::neighbourhood::Neighbourhood;
use crate::{
    balance::{self, Member, Options, Place, Plan, Ring, Weights},
    config::{Balancer, Ejection, Name, Prefer, ServicePolicy},
    discovery,
};

/// The time constant of latencies that no balancer goes by.
const DECAY: Duration = Duration::from_secs(10);

/// What is made of a set, its members' places and the service's policy.
pub(super) struct Layout {
    /// Priorities, distances, weights.
    pub(super) plan: Plan,
    /// One for each priority, where a hash decides.
    pub(super) rings: Box<[Tier]>,
    /// By endpoint: what its source tells, else what `[zones]` does.
    pub(super) zones: Box<[Option<Name>]>,
    /// There are IPv4 and IPv6 endpoints.
    pub(super) both_families: bool,
    /// By endpoint.
    pub(super) places: Box<[Place]>,
    /// Over which the endpoints' latencies fade.
    pub(super) decay: Duration,
    /// Over which endpoints come to their full share.
    pub(super) slow_start: Duration,
    /// When failing endpoints get no requests.
    pub(super) ejection: Ejection,
}

/// The endpoints of one priority, on a ring.
pub(super) struct Tier {
    /// Their numbers in the set.
    pub(super) members: Range<usize>,
    pub(super) ring: Ring,
    pub(super) weights: Weights,
}

impl Default for Layout {
    fn default() -> Self {
        let plan = Plan::new(&[], Options { prefer: balance::Prefer::None, aperture: None, spill: 0 });
        Self {
            plan,
            rings: Box::default(),
            zones: Box::default(),
            both_families: false,
            places: Box::default(),
            decay: DECAY,
            slow_start: Duration::ZERO,
            ejection: Ejection::NEVER,
        }
    }
}

impl Layout {
    /// `found` is sorted by priority.
    pub(super) fn new(
        found: &[discovery::Endpoint],
        policy: &ServicePolicy,
        neighbourhood: &Neighbourhood,
    ) -> Self {
        let zone = |found: &discovery::Endpoint| neighbourhood.zone(found.zone.as_ref(), found.address.ip());
        let zones: Box<[Option<Name>]> = found.iter().map(zone).collect();
        let names: BTreeSet<&Name> = zones.iter().flatten().collect();
        let number = |zone: Option<&Name>| {
            names.iter().zip(1..).find(|(name, _)| Some(**name) == zone).map_or(0, |(_, number)| number)
        };
        let own = neighbourhood.own();
        let member = |(endpoint, zone): (&discovery::Endpoint, &Option<Name>)| Member {
            address: endpoint.address,
            weight: endpoint.weight,
            priority: endpoint.priority,
            place: neighbourhood.place(zone.as_ref(), endpoint.address.ip(), &own),
            zone: number(zone.as_ref()),
        };
        let members: Vec<Member> = found.iter().zip(&zones).map(member).collect();
        let aperture = policy.aperture.map(|size| (size, neighbourhood.coordinate));
        let (prefer, spill) = (preference(policy.locality.prefer, &members), policy.locality.max_requests);
        Self {
            plan: Plan::new(&members, Options { prefer, aperture, spill }),
            rings: match policy.balancer {
                Balancer::Hash(_) => tiers(found),
                _ => Box::default(),
            },
            places: members.iter().map(|member| member.place).collect(),
            zones,
            both_families: found.iter().any(|found| found.address.is_ipv4())
                && found.iter().any(|found| found.address.is_ipv6()),
            decay: match policy.balancer {
                Balancer::PeakEwma { decay } => decay,
                _ => DECAY,
            },
            slow_start: policy.slow_start,
            ejection: policy.ejection,
        }
    }
}

/// Where all endpoints are equally near, nothing is to be preferred: a pick then has one group to look at.
fn preference(prefer: Prefer, members: &[Member]) -> balance::Prefer {
    let all = |place: Place| members.iter().all(|member| member.place == place);
    match prefer {
        Prefer::None => balance::Prefer::None,
        _ if all(Place::Node) || all(Place::Zone) => balance::Prefer::None,
        Prefer::Zone => balance::Prefer::Zone,
        Prefer::Node => balance::Prefer::Node,
    }
}

fn tiers(found: &[discovery::Endpoint]) -> Box<[Tier]> {
    let mut start = 0;
    let tier = |members: &[discovery::Endpoint]| {
        let range = start..start + members.len();
        start = range.end;
        Tier {
            members: range,
            ring: Ring::new(members.iter().map(|endpoint| (endpoint.address, endpoint.weight))),
            weights: Weights::new(members.iter().map(|endpoint| endpoint.weight)),
        }
    };
    found.chunk_by(|a, b| a.priority == b.priority).map(tier).collect()
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Instant};

    use super::*;
    use crate::config::{self, Environment};

    const TOML: &str = r#"
        [services.many]
        endpoints = ["127.0.0.1:1"]
        [[listeners]]
        name = "outgoing"
        kind = "outgoing"
        listen = "127.0.0.1:0"
    "#;

    #[test]
    fn a_thousand_layouts_list_the_hosts_addresses_at_most_once_a_second() {
        let config = config::parse_in(TOML, Path::new("t.toml"), &Environment::of_process()).unwrap();
        let neighbourhood = Neighbourhood::new(&config);
        let found: Vec<_> =
            (0..100).map(|n| discovery::Endpoint::plain(([198, 51, 100, n], 80).into())).collect();
        let (start, mut lists) = (Instant::now(), vec![neighbourhood.own()]);
        for _ in 0..1000 {
            let layout = Layout::new(&found, &config.services["many"].policy, &neighbourhood);
            assert!(layout.places.iter().all(|place| *place == Place::Elsewhere));
            lists.push(neighbourhood.own());
        }
        lists.dedup_by(|a, b| a.is(b));
        let most = 2 + start.elapsed().as_secs();
        assert!(lists.len() as u64 <= most, "{} lists in {:?}", lists.len(), start.elapsed());
    }
}
