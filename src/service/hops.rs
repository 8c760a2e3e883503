//! The towpaths of other nodes, as all services of this node share them: one per node, port and TLS.
//!
//! # Nodes that have a name
//! The control thread follows each name for as long as an endpoint of its node is there, like the names of services: the last good
//! answer stays in use. Of several addresses one is used until it is gone from the answer, since they are of one node.
//! The first requests wait for the first answer, as long as for a connection.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    config::ClientTls,
    discovery::{ByName, Update},
    limit::Connections,
    telemetry::Metrics,
    tls::{Client, ServerNameOf},
    upstream::{ConnectError, Secure, Target},
};

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NodeAt {
    /// At this address.
    Address(IpAddr),
    /// Where DNS says that this name is.
    Name(String),
}

/// The towpath of another node.
pub struct Hop {
    /// Where it is, as people are told: address or name, and port.
    pub name: String,
    at: At,
}

enum At {
    Address(Arc<Target>),
    Name(Named),
}

/// One that DNS finds.
struct Named {
    host: String,
    port: u16,
    client: Arc<Client>,
    metrics: Arc<Metrics>,
    /// None before the first answer; else where it is, or why that is not known.
    now: watch::Sender<Option<Result<Arc<Target>, String>>>,
}

impl Drop for Hop {
    /// Its last endpoint is gone: workers close their connections.
    fn drop(&mut self) {
        if let Some(target) = self.present() {
            target.retire();
        }
    }
}

impl Hop {
    fn new(node: NodeAt, port: u16, client: &Arc<Client>, metrics: &Arc<Metrics>) -> Self {
        match node {
            NodeAt::Address(address) => {
                let address = SocketAddr::new(address, port);
                let target = target(None, address, client, metrics);
                Self { name: address.to_string(), at: At::Address(target) }
            }
            NodeAt::Name(host) => Self {
                name: format!("{host}:{port}"),
                at: At::Name(Named {
                    host,
                    port,
                    client: client.clone(),
                    metrics: metrics.clone(),
                    now: watch::Sender::new(None),
                }),
            },
        }
    }

    /// What connections are made to, where that is known for ever.
    pub fn fixed(&self) -> Option<&Arc<Target>> {
        match &self.at {
            At::Address(target) => Some(target),
            At::Name(_) => None,
        }
    }

    /// What connections are made to now; none while its name has no address.
    pub fn present(&self) -> Option<Arc<Target>> {
        match &self.at {
            At::Address(target) => Some(target.clone()),
            At::Name(named) => named.now.borrow().as_ref()?.as_ref().ok().cloned(),
        }
    }

    /// What connections are made to; the first answer to its name is waited for.
    ///
    /// # Errors
    /// The name has no address, or none within `limit`.
    pub async fn target(&self, limit: Duration) -> Result<Arc<Target>, ConnectError> {
        let named = match &self.at {
            At::Address(target) => return Ok(target.clone()),
            At::Name(named) => named,
        };
        let mut now = named.now.subscribe();
        let unknown =
            |why: &str| ConnectError::Protocol(format!("its node {} cannot be found: {why}", self.name));
        let answer = timeout(limit, now.wait_for(Option::is_some)).await;
        let answer = answer.map_err(|_| unknown("DNS has not answered (connect_timeout)"))?;
        match answer.as_deref() {
            Ok(Some(Ok(target))) => Ok(target.clone()),
            Ok(Some(Err(why))) => Err(unknown(why)),
            Ok(None) | Err(_) => Err(unknown("nobody looks for it")),
        }
    }
}

impl Named {
    fn update(&self, update: Update) {
        let known = self.now.borrow().clone();
        let known = known.and_then(Result::ok);
        let new = match update {
            Update::Endpoints(found) => match found.first() {
                None => Err("the name has no address".to_owned()),
                Some(first) => {
                    let address = |target: &Arc<Target>| target.address;
                    let stays = known
                        .clone()
                        .filter(|known| found.iter().any(|found| found.address == address(known)));
                    Ok(stays.unwrap_or_else(|| {
                        target(Some(&self.host), first.address, &self.client, &self.metrics)
                    }))
                }
            },
            Update::Failed(failure) => known.clone().ok_or(failure.message),
            Update::Expired(failure) => Err(failure.message),
        };
        let gone = known.filter(|known| !new.as_ref().is_ok_and(|new| Arc::ptr_eq(new, known)));
        self.now.send_replace(Some(new));
        if let Some(gone) = gone {
            gone.retire();
        }
    }
}

fn target(host: Option<&str>, address: SocketAddr, client: &Arc<Client>, metrics: &Metrics) -> Arc<Target> {
    let secure = Secure::new(client, ServerNameOf { host, address: address.ip() });
    let connections = metrics.peer_connections.clone();
    Arc::new(Target::new(address, Some(secure), connections, Arc::<Connections>::default()))
}

type Key = (NodeAt, u16, ClientTls);

/// All towpaths of other nodes that an endpoint of this node's services is reached through.
pub struct Hops {
    by_key: Mutex<HashMap<Key, Weak<Hop>>>,
    metrics: Arc<Metrics>,
    /// To the control thread, which looks for those that have a name.
    named: mpsc::UnboundedSender<Weak<Hop>>,
}

impl Hops {
    /// None yet. Each that has a name is sent to `named`: see [`follow_names`].
    pub fn new(metrics: Arc<Metrics>, named: mpsc::UnboundedSender<Weak<Hop>>) -> Self {
        Self { by_key: Mutex::default(), metrics, named }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Weak<Hop>>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The towpath of this node; the one that is known already, if there is.
    pub(super) fn get(&self, node: NodeAt, port: u16, client: &Arc<Client>) -> Arc<Hop> {
        let mut by_key = self.lock();
        let key = (node, port, client.wanted.clone());
        if let Some(hop) = by_key.get(&key).and_then(Weak::upgrade) {
            return hop;
        }
        let hop = Arc::new(Hop::new(key.0.clone(), port, client, &self.metrics));
        if let At::Name(_) = hop.at {
            // The control thread is gone only when the node stops.
            let _ = self.named.send(Arc::downgrade(&hop));
        }
        by_key.insert(key, Arc::downgrade(&hop));
        hop
    }

    /// Forgets those that no endpoint is reached through. To be called about once a second.
    pub fn sweep(&self) {
        self.lock().retain(|_, hop| hop.strong_count() > 0);
    }
}

/// Looks for the nodes that have a name, as they come from [`Hops`]. Runs on the control thread.
pub async fn follow_names(discovery: ByName, mut named: mpsc::UnboundedReceiver<Weak<Hop>>) {
    let mut following = Vec::new();
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            hop = named.recv() => {
                let Some(hop) = hop else { return };
                if let Some(followed) = follow(&discovery, &hop) {
                    following.push((hop, followed));
                }
            }
            _ = seconds.tick() => following.retain(|(hop, _)| hop.strong_count() > 0),
        }
    }
}

fn follow(discovery: &ByName, hop: &Weak<Hop>) -> Option<crate::discovery::Following> {
    let (host, port) = match &hop.upgrade()?.at {
        At::Name(named) => (named.host.clone(), named.port),
        At::Address(_) => return None,
    };
    let hop = hop.clone();
    let following = discovery.follow(&host, port, move |update| {
        if let Some(hop) = hop.upgrade()
            && let At::Name(named) = &hop.at
        {
            named.update(update);
        }
    });
    following.urgent();
    Some(following)
}
