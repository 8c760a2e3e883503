//! TLS towards endpoints and other nodes: opened before a configuration takes force, and kept for as long as it has.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use crate::{
    config::{BackendTarget, ClientTls, Config, ListenerKind, ServicePolicy},
    net::Address,
    service::{Hops, Way},
    tls::{Client, Keeper},
};

/// What every service of a configuration goes by, those made on first use included.
pub struct Clients {
    by_tls: HashMap<ClientTls, Arc<Client>>,
    /// Where this node takes calls of others.
    doors: Arc<[SocketAddr]>,
    hops: Arc<Hops>,
}

impl Clients {
    /// Reads the files of every service.
    ///
    /// # Errors
    /// Each file that cannot be used, a line each.
    pub(super) fn open(config: &Config, keeper: &Keeper, hops: &Arc<Hops>) -> Result<Self, String> {
        let mut opened = Self { by_tls: HashMap::new(), doors: doors(config), hops: hops.clone() };
        let mut problems = Vec::new();
        for (name, service) in &config.services {
            opened.add(&format!("services.{name}"), &service.policy, keeper, &mut problems);
        }
        for policy in policies_of_hosts(config) {
            opened.add("defaults.service", policy, keeper, &mut problems);
            if policy.peer.is_some() {
                // The other node would have to make them as well, for whoever asks.
                problems.push(
                    "defaults.service.peer: services made on first use ({host}) cannot be reached through other \
                     nodes; write peer at each service that is to be"
                        .to_owned(),
                );
            }
        }
        problems.dedup();
        if problems.is_empty() { Ok(opened) } else { Err(problems.join("\n")) }
    }

    fn add(&mut self, of: &str, policy: &ServicePolicy, keeper: &Keeper, problems: &mut Vec<String>) {
        for (key, tls) in wanted(policy) {
            if self.by_tls.contains_key(tls) {
                continue;
            }
            match keeper.client(tls) {
                Ok(client) => drop(self.by_tls.insert(tls.clone(), client)),
                Err(problem) => problems.push(format!("{of}.{key}: {problem}")),
            }
        }
    }

    /// How the endpoints of a service with this policy are reached.
    pub fn way(&self, policy: &ServicePolicy) -> Way {
        let opened = |tls: &ClientTls| {
            let client = self.by_tls.get(tls);
            client.expect("it was opened with the configuration that the policy is of").clone()
        };
        match (&policy.peer, &policy.tls) {
            (Some(peer), _) => {
                let (client, doors) = (opened(&peer.tls), self.doors.clone());
                Way::Peer { peer: peer.clone(), client, doors, hops: self.hops.clone() }
            }
            (None, Some(tls)) => Way::Tls(opened(tls)),
            (None, None) => Way::Plain,
        }
    }
}

fn doors(config: &Config) -> Arc<[SocketAddr]> {
    let incoming = config.listeners.iter().filter(|listener| listener.kind == ListenerKind::Incoming);
    let addresses = incoming.filter_map(|listener| match &listener.address {
        Address::Tcp(address) => Some(*address),
        Address::Unix(_) => None,
    });
    addresses.collect()
}

/// What has to be opened for a policy, and the key that wants it.
fn wanted(policy: &ServicePolicy) -> impl Iterator<Item = (&'static str, &ClientTls)> {
    let tls = policy.tls.iter().map(|tls| ("tls", &**tls));
    tls.chain(policy.peer.iter().map(|peer| ("peer.tls", &peer.tls)))
}

/// Of services that are made on first use.
fn policies_of_hosts(config: &Config) -> impl Iterator<Item = &ServicePolicy> {
    let targets = config.routes.iter().flat_map(|rule| &rule.backends).map(|backend| &backend.target);
    targets.filter_map(|target| match target {
        BackendTarget::PerHost(template) => Some(&*template.policy),
        BackendTarget::Service(_) => None,
    })
}
