//! The only file that turns configuration into live objects.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicU64},
};

use http::{HeaderName, HeaderValue};

use super::{
    Clients, HostServices, NodeLimits, Observers, Rules, peer_routes,
    picture::{Authorizer, Backend, ListenerRoutes, Route, Snapshot, Via},
};
use crate::{
    auth::Provider,
    config::{self, BackendTarget, Config, Name},
    router::{Matcher, Router, Split},
    service::{Hops, Neighbourhood, Service},
    telemetry::Metrics,
    tls::Keeper,
};

/// What outlives every snapshot.
pub(super) struct Shared {
    pub(super) metrics: Arc<Metrics>,
    pub(super) host_services: Arc<HostServices>,
    pub(super) limits: Arc<NodeLimits>,
    /// Certificates and keys, of listeners and services alike.
    pub(super) keeper: Arc<Keeper>,
    /// The towpaths of other nodes.
    pub(super) hops: Arc<Hops>,
}

/// This node among others: the one in use while it means the same.
fn neighbourhood(config: &Config, previous: Option<&Snapshot>, shared: &Shared) -> Arc<Neighbourhood> {
    match previous {
        Some(previous) if !Neighbourhood::is_same(&previous.config, config) => {
            Arc::new(Neighbourhood::new(config))
        }
        _ => shared.host_services.neighbourhood(),
    }
}

/// Builds the snapshot of `config`; what `previous` has and the new one needs alike is taken over alive. Nothing here
/// can fail: what could has been opened before.
pub(super) fn build(
    config: Config,
    previous: Option<&Snapshot>,
    shared: &Shared,
    (observers, providers, clients): (Observers, Vec<Arc<Provider>>, Clients),
) -> Snapshot {
    shared.limits.configure(&config);
    let neighbourhood = neighbourhood(&config, previous, shared);
    let services = services(&config, previous, (&shared.metrics, &neighbourhood), &clients);
    let index: HashMap<&Name, usize> =
        config.services.keys().enumerate().map(|(at, name)| (name, at)).collect();
    let known = Known { config: &config, services: index, providers: &providers };
    let mut routes: Vec<Route> =
        config.routes.iter().map(|rule| route(rule, &known, &shared.metrics)).collect();
    let peer_routes = peer_routes::take_nodes(&config).then_some(routes.len());
    if peer_routes.is_some() {
        routes.extend(peer_routes::all(services.len()));
    }
    let listeners = (0..config.listeners.len())
        .map(|listener| listener_routes(&config, listener, &shared.metrics))
        .collect();
    Snapshot {
        generation: previous.map_or(1, |previous| previous.generation + 1),
        listeners,
        routes,
        peer_routes,
        services,
        providers,
        host_services: shared.host_services.clone(),
        limits: shared.limits.clone(),
        rules: Rules::build(&config, previous, &shared.metrics),
        observers,
        clients,
        neighbourhood,
        via: via(&config.node.name),
        metrics: shared.metrics.clone(),
        config: Arc::new(config),
    }
}

/// In the order of their names. An equal service is the same object, with its endpoints and discovery.
fn services(
    config: &Config,
    previous: Option<&Snapshot>,
    around: (&Arc<Metrics>, &Arc<Neighbourhood>),
    clients: &Clients,
) -> Vec<Arc<Service>> {
    let old: HashMap<&Name, &Arc<Service>> = previous
        .into_iter()
        .flat_map(|previous| &previous.services)
        .map(|service| (&service.name, service))
        .collect();
    // Another resolver may give other answers, so discovery starts anew; the endpoints stay until it has some.
    let same_dns = previous.is_none_or(|previous| previous.config.dns == config.dns);
    let same_place = previous.is_none_or(|previous| Arc::ptr_eq(&previous.neighbourhood, around.1));
    let same = same_dns && same_place;
    let service = |(name, service): (&Name, &Arc<config::Service>)| match old.get(name) {
        Some(old) if same && old.source == service.source && old.policy == service.policy => (*old).clone(),
        old => Arc::new(Service::new(
            name.clone(),
            service.source.clone(),
            (service.policy.clone(), clients.way(&service.policy)),
            around,
            old.map(|old| &***old),
        )),
    };
    config.services.iter().map(service).collect()
}

/// What routes name.
struct Known<'a> {
    config: &'a Config,
    /// Their places in the snapshot.
    services: HashMap<&'a Name, usize>,
    providers: &'a [Arc<Provider>],
}

fn route(rule: &Arc<config::Route>, known: &Known<'_>, metrics: &Metrics) -> Route {
    let services = &known.services;
    let weights: Vec<u32> = rule.backends.iter().map(|backend| backend.weight).collect();
    let backend = |backend: &config::Backend| match &backend.target {
        BackendTarget::Service(name) => Backend::Service(services[name]),
        BackendTarget::PerHost(template) => Backend::PerHost(Box::new(template.clone())),
    };
    let mut backends: Vec<Backend> = rule.backends.iter().map(backend).collect();
    backends.extend(rule.failover.services.iter().map(|name| Backend::Service(services[name])));
    let is_special = rule.fault.is_some() || !rule.failover.services.is_empty();
    Route {
        rule: rule.clone(),
        name: rule.name.clone(),
        split: Split::new(&weights),
        stand_ins: rule.backends.len()..backends.len(),
        backends,
        fault: rule.fault.as_ref().map(|fault| Box::new(Matcher::new(&fault.matches))),
        series: is_special.then(|| Box::new(metrics.route_series(&rule.name))),
        timeout: rule.timeout,
        attempt_timeout: rule.attempt_timeout,
        issuer: rule.jwt.as_ref().map(|jwt| issuer(&jwt.provider, known.providers)),
        authorizer: rule.authorize.as_ref().map(|asked| authorizer(rule, asked, known, metrics)),
        persists: rule.retry.is_some() || rule.hedge.is_some(),
    }
}

fn issuer(name: &Name, providers: &[Arc<Provider>]) -> Arc<Provider> {
    let at = providers
        .binary_search_by(|provider| provider.name.cmp(name))
        .expect("the configuration was checked");
    providers[at].clone()
}

fn authorizer(
    rule: &config::Route,
    asked: &config::Authorize,
    known: &Known<'_>,
    metrics: &Metrics,
) -> Arc<Authorizer> {
    let names =
        |names: &[String]| names.iter().filter_map(|name| HeaderName::try_from(&**name).ok()).collect();
    Arc::new(Authorizer {
        service: known.services[&asked.service],
        authority: authority(&known.config.services[&asked.service].source, &asked.service),
        headers: names(&asked.headers),
        forward: names(&asked.forward),
        series: metrics.authorization_series(&rule.name),
        warned: AtomicU64::new(0),
    })
}

/// What a service is called in requests of towpath's own.
fn authority(source: &config::Source, name: &str) -> HeaderValue {
    let text = match source {
        config::Source::Dns { host, port: 80 } => host.clone(),
        config::Source::Dns { host, port } => format!("{host}:{port}"),
        _ => name.to_owned(),
    };
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("authorize"))
}

fn listener_routes(config: &Config, listener: usize, metrics: &Metrics) -> ListenerRoutes {
    let routes = config.routes.iter().map(|rule| &**rule).enumerate();
    let rules = routes.filter(|(_, rule)| rule.listeners.contains(&listener));
    let config::Listener { name, default_policy, .. } = &config.listeners[listener];
    let added = metrics.added_by(name);
    ListenerRoutes { name: name.clone(), router: Router::new(rules), default_policy: *default_policy, added }
}

fn via(node: &str) -> Via {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "-._~".contains(c) { c } else { '_' };
    let pseudonym = format!("towpath-{}", node.chars().map(allowed).collect::<String>());
    let entry = |version: &str| {
        HeaderValue::from_str(&format!("{version} {pseudonym}")).expect("token characters make a valid value")
    };
    Via { http10: entry("1.0"), http11: entry("1.1"), http2: entry("2.0"), pseudonym }
}
