//! The immutable picture itself.

use std::{
    ops::Range,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use http::{HeaderName, HeaderValue};

use super::{Clients, HostServices, NodeLimits, Observers, Rules};
use crate::{
    auth::Provider,
    config::{self, Config, DefaultPolicy, HostTemplate, Name},
    router::{Matcher, Router, Split},
    service::{Neighbourhood, Service},
    telemetry::{AuthorizationSeries, Histogram, Metrics, RouteSeries},
};

/// Everything that a request is decided by. One request reads exactly one.
pub struct Snapshot {
    /// Counts the configurations that have been in force, from 1.
    pub generation: u64,
    /// What it was built from.
    pub config: Arc<Config>,
    /// In the order of the configuration.
    pub listeners: Vec<ListenerRoutes>,
    /// In the order of the configuration, and behind those [`Self::peer_routes`]; routers name them by index.
    pub routes: Vec<Route>,
    /// The number of the first route for requests that come from other nodes, one for each service behind those of the configuration;
    /// none where no node can come.
    pub peer_routes: Option<usize>,
    /// In the order of their names; backends name them by index.
    pub services: Vec<Arc<Service>>,
    /// Issuers of tokens, in the order of their names.
    pub providers: Vec<Arc<Provider>>,
    /// Those made on first use; shared by all snapshots.
    pub host_services: Arc<HostServices>,
    /// How much the node carries; shared by all snapshots.
    pub limits: Arc<NodeLimits>,
    /// Who callers are, and what they may do; the same while that stays the same.
    pub rules: Arc<Rules>,
    /// This node among others.
    pub neighbourhood: Arc<Neighbourhood>,
    /// TLS towards endpoints and other nodes.
    pub clients: Clients,
    /// Who is told of requests.
    pub observers: Observers,
    /// This node's entry in `via`.
    pub via: Via,
    /// Where everything counts.
    pub metrics: Arc<Metrics>,
}

/// This node's entry in `via` (RFC 9110 7.6.3), ready to be added.
pub struct Via {
    /// The pseudonym alone: what a loop is recognised by.
    pub pseudonym: String,
    /// For a message that came by HTTP/1.0.
    pub http10: HeaderValue,
    /// For a message that came by HTTP/1.1.
    pub http11: HeaderValue,
    /// For a message that came by HTTP/2.
    pub http2: HeaderValue,
}

/// The routes of one listener.
pub struct ListenerRoutes {
    /// The listener's.
    pub name: Name,
    /// Over the snapshot's routes.
    pub router: Router,
    /// What holds where no policy speaks.
    pub default_policy: DefaultPolicy,
    /// What towpath adds to the time of its responses' heads.
    pub added: Histogram,
}

/// A rule's consequences.
pub struct Route {
    /// What is configured.
    pub rule: Arc<config::Route>,
    /// In metrics and logs.
    pub name: Name,
    /// Over those of `backends` that are drawn.
    pub split: Split,
    /// Where requests go: first those that are drawn, then those that stand in for them.
    pub backends: Vec<Backend>,
    /// The positions in `backends` of those that stand in, in order.
    pub stand_ins: Range<usize>,
    /// What is done to requests on purpose, to those that meet this; the rest is in `rule`.
    pub fault: Option<Box<Matcher>>,
    /// What it counts with; none without faults and stand-ins.
    pub series: Option<Box<RouteSeries>>,
    /// The whole request.
    pub timeout: Option<Duration>,
    /// One attempt, up to the response's head.
    pub attempt_timeout: Option<Duration>,
    /// Who issues the tokens of its requests; what they must say is in `rule`.
    pub issuer: Option<Arc<Provider>>,
    /// Who is asked whether a request may pass; how is in `rule`.
    pub authorizer: Option<Arc<Authorizer>>,
    /// Whether `rule` has requests sent again or twice (`retry`, `hedge`).
    pub persists: bool,
}

/// A service that is asked whether requests may pass.
pub struct Authorizer {
    /// An index into [`Snapshot::services`].
    pub service: usize,
    /// What it is called in questions: the name that DNS resolves, else that of the service.
    pub authority: HeaderValue,
    /// Of the request, sent along.
    pub headers: Vec<HeaderName>,
    /// Of the answer, to the endpoint.
    pub forward: Vec<HeaderName>,
    /// What came of the questions.
    pub series: AuthorizationSeries,
    /// The second of Unix time when last there was a warning that it does not answer.
    pub warned: AtomicU64,
}

/// Where a share of a route's requests goes.
pub enum Backend {
    /// An index into [`Snapshot::services`].
    Service(usize),
    /// A service per distinct host.
    PerHost(Box<HostTemplate>),
}

impl Snapshot {
    /// The route for requests from other nodes to the service `name`.
    pub fn peer_route(&self, name: &str) -> Option<usize> {
        let service = self.services.binary_search_by(|service| (*service.name).cmp(name)).ok()?;
        self.peer_routes.map(|first| first + service)
    }

    /// The index of the listener `name`, if this snapshot has it.
    pub fn listener(&self, name: &str) -> Option<usize> {
        self.listeners.iter().position(|listener| &*listener.name == name)
    }
}
