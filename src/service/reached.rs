//! Endpoints whose way has changed by a reload: they are made anew, so that no connection of the old way is used again.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use super::endpoints::{Endpoint, EndpointSet, Of};
use crate::net::Own;

impl Endpoint {
    /// Whether it is reached as endpoints of this service are.
    pub(super) fn is_reached_as(&self, of: &Of<'_>, own: &Own) -> bool {
        let address = self.target.address;
        let secure = of.way.secure(of.host, address.ip());
        let same_secure = match (&self.target.secure, &secure) {
            (Some(old), Some(new)) => old.is_same(new),
            (old, new) => old.is_none() && new.is_none(),
        };
        let is_here = of.neighbourhood.is_here(address.ip(), own);
        same_secure
            && match (&self.through, of.way.through(of.service, address, is_here)) {
                (Some(old), Some(new)) => old.is_same(&new),
                (old, new) => old.is_none() && new.is_none(),
            }
    }
}

impl EndpointSet {
    /// The endpoints, each anew that is to be reached in another way.
    pub(super) fn reached_as(&self, of: &Of<'_>) -> Vec<Arc<Endpoint>> {
        let own = of.neighbourhood.own();
        let endpoint = |endpoint: &Arc<Endpoint>| {
            if endpoint.is_reached_as(of, &own) {
                return endpoint.clone();
            }
            let anew = Endpoint::new(of, endpoint.target.address, false, &own);
            anew.join(of, &self.ward);
            Arc::new(anew)
        };
        self.endpoints.iter().map(endpoint).collect()
    }

    /// Says that no request will go to these endpoints again, but for those that `successor` has.
    pub(super) fn retire(&self, successor: Option<&Self>) {
        let kept: HashMap<SocketAddr, u64> = successor
            .iter()
            .flat_map(|set| &set.endpoints)
            .map(|endpoint| (endpoint.target.address, endpoint.target.id))
            .collect();
        for endpoint in &self.endpoints {
            let successor = kept.get(&endpoint.target.address);
            if successor != Some(&endpoint.target.id) {
                endpoint.target.retire();
                endpoint.gate.leave(&self.ward);
                if successor.is_none() {
                    endpoint.series.available.set(false);
                }
            }
        }
    }
}
