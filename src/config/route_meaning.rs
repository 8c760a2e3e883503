//! What was read -> routes.

use std::{path::Path, sync::Arc};

use super::{
    check,
    checked::{
        Backend, BackendTarget, HostPattern, HostTemplate, Listener, ListenerKind, Match, PathMatch, Route,
        ServicePolicy, ValueMatch,
    },
    keys, meaning,
    problems::Report,
    resilience_meaning,
    section::Section,
    security_check, security_meaning, service_meaning,
    tree::{Data, Node},
};

/// Every route, in file order.
pub(super) fn routes(
    root: Section<'_>,
    listeners: &[Listener],
    directory: &Path,
    report: &mut Report,
) -> Vec<Arc<Route>> {
    let routes = Routes::new(root, listeners, directory, check::Known::of(root));
    root.list("routes").iter().map(|node| Arc::new(routes.read(node, report))).collect()
}

/// What the rest of a file says to its routes.
pub(super) struct Routes<'a> {
    root: Section<'a>,
    listeners: &'a [Listener],
    known: check::Known<'a>,
    defaults: Section<'a>,
    defaults_of_services: Section<'a>,
    per_host: Arc<ServicePolicy>,
}

impl<'a> Routes<'a> {
    /// Of the file `root`, with these listeners; `known`: what routes may name.
    pub(super) fn new(
        root: Section<'a>,
        listeners: &'a [Listener],
        directory: &Path,
        known: check::Known<'a>,
    ) -> Self {
        let defaults = root.table("defaults");
        let per_host = Arc::new(service_meaning::policy(defaults.table("service"), directory, None));
        Self {
            root,
            listeners,
            known,
            defaults: defaults.table("route"),
            defaults_of_services: defaults.table("service"),
            per_host,
        }
    }

    /// One route.
    pub(super) fn read(&self, node: &Node, report: &mut Report) -> Route {
        let route = Section::new(&keys::ROUTE, node).or(self.defaults);
        self.known.services(route, report);
        self.known.listeners(route, report);
        self.known.providers(route, report);
        security_check::authorize(route.table("authorize"), report);
        self.known.reaches_peers(route, self.defaults_of_services, report);
        check::weights(route, report);
        check::route_policy(Section::new(&keys::ROUTE, node), report);
        let listeners = listeners_of(self.root, route, self.listeners, report);
        self::route(route, listeners, &self.per_host)
    }
}

fn route(route: Section<'_>, listeners: Vec<usize>, per_host: &Arc<ServicePolicy>) -> Route {
    let backends: Vec<Backend> =
        route.list("backends").iter().filter_map(|node| backend(node, per_host)).collect();
    Route {
        name: meaning::name(route, "name"),
        listeners,
        hosts: hosts(route),
        matches: matches(route),
        timeout: route.duration("timeout"),
        attempt_timeout: route.duration("attempt_timeout"),
        priority: resilience_meaning::priority(route),
        failover: resilience_meaning::failover(route, &backends),
        backends,
        retry: resilience_meaning::retry(route),
        hedge: resilience_meaning::hedge(route),
        hedged: resilience_meaning::retry_methods(route.table("retry")),
        fault: resilience_meaning::fault(route),
        jwt: security_meaning::route_jwt(route),
        authorize: security_meaning::authorize(route),
    }
}

/// Indices of the listeners that a route names, or of every outgoing one.
fn listeners_of(
    root: Section<'_>,
    route: Section<'_>,
    listeners: &[Listener],
    report: &mut Report,
) -> Vec<usize> {
    if route.written("listeners").is_none() {
        check::some_outgoing(root, route, report);
        let outgoing = |(_, listener): &(usize, &Listener)| listener.kind == ListenerKind::Outgoing;
        return listeners.iter().enumerate().filter(outgoing).map(|(index, _)| index).collect();
    }
    let named = |listener: &Listener| texts(route.list("listeners")).any(|name| *name == *listener.name);
    listeners.iter().enumerate().filter(|(_, listener)| named(listener)).map(|(index, _)| index).collect()
}

/// The strings among some nodes.
pub(super) fn texts(nodes: &[Node]) -> impl Iterator<Item = &str> {
    nodes.iter().filter_map(|node| match &node.data {
        Data::Text(text) => Some(text.as_str()),
        _ => None,
    })
}

fn hosts(route: Section<'_>) -> Vec<HostPattern> {
    let mut hosts = Vec::new();
    for node in route.list("hosts") {
        match &node.data {
            // The same host twice, perhaps in other letter case, is one host.
            Data::Host(host) if !hosts.contains(host) => hosts.push(host.clone()),
            _ => {}
        }
    }
    if hosts.is_empty() { vec![HostPattern::Any] } else { hosts }
}

/// The entries of `match`.
pub(super) fn matches(route: Section<'_>) -> Vec<Match> {
    match route.list("match") {
        [] => vec![Match::default()],
        nodes => nodes.iter().map(|node| entry(Section::new(&keys::MATCH, node))).collect(),
    }
}

fn entry(section: Section<'_>) -> Match {
    Match { query: values(section, "query"), ..conditions(section) }
}

/// What an entry of `match` and a rule of a policy have in common.
pub(super) fn conditions(section: Section<'_>) -> Match {
    let mut methods: Vec<String> = texts(section.list("methods")).map(str::to_owned).collect();
    methods.sort();
    methods.dedup();
    Match { path: path(section), methods, headers: values(section, "headers"), query: Vec::new() }
}

fn path(section: Section<'_>) -> Option<PathMatch> {
    if let Some(path) = section.text("path") {
        return Some(PathMatch::Exact(path));
    }
    if let Some(prefix) = section.text("path_prefix") {
        return Some(PathMatch::Prefix(prefix));
    }
    match &section.written("path_regex")?.data {
        Data::Regex(regex) => Some(PathMatch::Regex(regex.clone())),
        _ => None,
    }
}

/// Conditions by name, sorted.
fn values(section: Section<'_>, key: &str) -> Vec<(String, ValueMatch)> {
    let condition = |(name, node): (&String, &Node)| value(node).map(|value| (name.clone(), value));
    section.map(key).filter_map(condition).collect()
}

fn value(node: &Node) -> Option<ValueMatch> {
    if let Data::Text(text) = &node.data {
        return Some(ValueMatch::Exact(text.clone()));
    }
    let section = Section::new(&keys::VALUE_MATCH, node);
    if let Some(Data::Regex(regex)) = section.written("regex").map(|node| &node.data) {
        return Some(ValueMatch::Regex(regex.clone()));
    }
    match (section.flag("present"), section.flag("absent")) {
        (Some(true), _) => Some(ValueMatch::Present),
        (Some(false), _) | (_, Some(true)) => Some(ValueMatch::Absent),
        _ => None,
    }
}

fn backend(node: &Node, per_host: &Arc<ServicePolicy>) -> Option<Backend> {
    let section = Section::new(&keys::BACKEND, node);
    let target = match section.written("dns").map(|node| &node.data) {
        Some(Data::Template { prefix, suffix, port }) => BackendTarget::PerHost(HostTemplate {
            prefix: prefix.clone(),
            suffix: suffix.clone(),
            port: *port,
            policy: per_host.clone(),
        }),
        _ => BackendTarget::Service(section.text("service")?.into()),
    };
    Some(Backend { target, weight: section.count("weight") })
}
