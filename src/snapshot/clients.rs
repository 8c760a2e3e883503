//! TLS towards endpoints and other nodes: opened before a configuration takes force, and kept for as long as it has.

use std::{collections::HashMap, sync::Arc};

use crate::{
    config::{BackendTarget, ClientTls, Config, ServicePolicy, Verify},
    service::{Hops, Way},
    tls::{Client, Keeper},
};

/// What every service of a configuration goes by, those made on first use included.
pub struct Clients {
    by_tls: HashMap<ClientTls, Arc<Client>>,
    hops: Arc<Hops>,
}

impl Clients {
    /// Reads the files of every service.
    ///
    /// # Errors
    /// Each file that cannot be used, a line each.
    pub(super) fn open(config: &Config, keeper: &Keeper, hops: &Arc<Hops>) -> Result<Self, String> {
        let mut opened = Self { by_tls: HashMap::new(), hops: hops.clone() };
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
                Way::Peer { peer: peer.clone(), client: opened(&peer.tls), hops: self.hops.clone() }
            }
            (None, Some(tls)) => Way::Tls(opened(tls)),
            (None, None) => Way::Plain,
        }
    }
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

/// Warns of services whose endpoints anybody may pretend to be, if there are any.
pub(super) fn warn(config: &Config) {
    if let Some(services) = unverified(config) {
        tracing::warn!(services, "anybody may answer in place of these services (tls.verify = \"none\")");
    }
}

fn unverified(config: &Config) -> Option<String> {
    let is_unverified = |policy: &ServicePolicy| {
        policy.tls.as_ref().is_some_and(|tls| matches!(tls.verify, Verify::Nothing { .. }))
    };
    let configured = config.services.iter().filter(|(_, service)| is_unverified(&service.policy));
    let mut names: Vec<&str> = configured.map(|(name, _)| &**name).collect();
    if policies_of_hosts(config).any(is_unverified) {
        names.push("{host}");
    }
    (!names.is_empty()).then(|| names.join(", "))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    #[test]
    fn services_that_nobody_verifies_are_named() {
        let config = |services: &str| {
            let text = format!(
                "[[listeners]]\nname = \"l\"\nkind = \"outgoing\"\nlisten = \"127.0.0.1:0\"\n{services}"
            );
            config::parse(&text, Path::new("t.toml")).unwrap()
        };
        let service = |name: &str, tls: &str| {
            format!("[services.{name}]\nendpoints = [\"10.0.0.1:443\"]\ntls = {{ {tls} }}\n")
        };
        let verified = service("a", "server_name = \"a.test\"");
        assert_eq!(unverified(&config(&verified)), None);
        let others = [service("b", "verify = \"none\""), service("c", "verify = \"none\"")].concat();
        assert_eq!(unverified(&config(&(verified + &others))).as_deref(), Some("b, c"));
    }
}
