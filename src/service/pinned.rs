//! The endpoint that another node has chosen: just that one, or none.
//!
//! Whether it is well is for the sender to judge, who sees what comes of all its requests; here it only counts as loaded.

use std::{collections::HashMap, net::SocketAddr};

use super::{
    endpoints::{EndpointSet, Known},
    view::{Choice, Picked, ServiceView},
    way::Way,
};

/// Where each endpoint of a set is in it.
pub(super) type ByAddress = HashMap<SocketAddr, usize>;

impl EndpointSet {
    fn at(&self, address: SocketAddr) -> Option<usize> {
        let by_address = self.by_address.get_or_init(|| {
            let addresses = self.endpoints.iter().map(|endpoint| endpoint.target.address);
            addresses.zip(0..).collect()
        });
        by_address.get(&address).copied()
    }
}

impl ServiceView {
    /// The endpoint at `address`, if this node may hand requests of other nodes to it: it is on this node, or all of the service's are
    /// called through a towpath (`local = "peer"`).
    pub fn pick_pinned(&self, address: SocketAddr) -> Choice {
        let set = self.endpoints.get();
        let Some(index) = set.at(address) else {
            return match set.known {
                Known::Nothing => Choice::Waiting,
                _ => Choice::Nothing(format!("{} has no endpoint {address} here", self.service.name)),
            };
        };
        let for_all = matches!(&self.service.way, Way::Peer { peer, .. } if !peer.local_direct);
        if set.endpoints[index].is_here || for_all {
            return Choice::Picked(Picked::within(set, index));
        }
        let name = &self.service.name;
        Choice::Nothing(format!("endpoint {address} of {name} is not on this node ([node] subnets)"))
    }
}
