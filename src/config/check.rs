//! What several keys together can get wrong: names that stand twice or lead nowhere, sockets that overlap, weights.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::Path,
};

use super::{
    checked::Listener,
    definition::{TableDef, Text},
    environment::Environment,
    keys,
    problems::Report,
    resilience_meaning,
    section::Section,
    service_meaning, suggest,
    tree::{Data, Node},
    values, wording,
};
use crate::net::Address;

/// `name` is unique among the tables of an array.
pub(super) fn names(nodes: &[Node], def: &'static TableDef, report: &mut Report) {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for node in nodes {
        let section = Section::new(def, node);
        let (Some(name), Some(written)) = (section.text("name"), section.written("name")) else { continue };
        if let Some(first) = seen.get(&name) {
            let text = format!("\"{name}\" is the name of {first} already; names must be unique");
            report.add(written.at, &written.path, text);
        } else {
            seen.insert(name, &node.path);
        }
    }
}

/// No two listeners share a socket, nor that of the admin API. Takes each listener with its node.
pub(super) fn sockets(admin: &Address, listeners: &[(Listener, &Node)], report: &mut Report) {
    let mut taken: Vec<(&Address, &str)> = vec![(admin, "the admin API")];
    for (listener, node) in listeners {
        if let Some((address, owner)) = taken.iter().find(|(other, _)| overlap(other, &listener.address)) {
            let at =
                Section::new(&keys::LISTENER, node).written("listen").map_or(node.at, |listen| listen.at);
            let text =
                format!("{} overlaps {address} of {owner}; every socket must be its own", listener.address);
            report.add(at, &format!("{}.listen", node.path), text);
        }
        taken.push((&listener.address, &node.path));
    }
}

fn overlap(a: &Address, b: &Address) -> bool {
    match (a, b) {
        (Address::Tcp(a), Address::Tcp(b)) => a.port() == b.port() && a.port() != 0 && same_interface(*a, *b),
        (Address::Unix(a), Address::Unix(b)) => a == b,
        _ => false,
    }
}

/// Linux binds `[::]` for IPv4 as well, so it covers every address.
fn same_interface(a: SocketAddr, b: SocketAddr) -> bool {
    let (a, b) = (a.ip().to_canonical(), b.ip().to_canonical());
    let covers = |wild: IpAddr, other: IpAddr| wild.is_unspecified() && (wild.is_ipv6() || other.is_ipv4());
    a == b || covers(a, b) || covers(b, a)
}

/// The kernel's `sun_path` has 108 bytes, one of them a final zero.
pub(super) fn socket_path(path: &Path, written: &Node, report: &mut Report) {
    let length = path.as_os_str().len();
    if length > 107 {
        let text = format!("\"{}\" has {length} bytes; a Unix socket's path has at most 107", path.display());
        report.add(written.at, &written.path, text);
    }
}

/// Names that routes may use.
pub(super) struct Known<'a> {
    listeners: BTreeSet<String>,
    services: BTreeSet<&'a str>,
    providers: BTreeSet<&'a str>,
}

impl<'a> Known<'a> {
    /// Those of the whole file.
    pub(super) fn of(root: Section<'a>) -> Self {
        Self {
            listeners: listener_sections(root).filter_map(|listener| listener.text("name")).collect(),
            services: root.map("services").map(|(name, _)| name.as_str()).collect(),
            providers: root.map("jwt").map(|(name, _)| name.as_str()).collect(),
        }
    }

    /// The same with these services.
    pub(super) fn with_services(self, services: impl Iterator<Item = &'a str>) -> Self {
        Self { services: services.collect(), ..self }
    }

    /// The listeners that a route names exist.
    pub(super) fn listeners(&self, route: Section<'_>, report: &mut Report) {
        for node in route.list("listeners") {
            let there = |name: &str| self.listeners.contains(name);
            exists(node, "listener", there, self.listeners.iter().map(String::as_str), report);
        }
    }

    /// The issuer that a route names exists.
    pub(super) fn providers(&self, route: Section<'_>, report: &mut Report) {
        if let Some(node) = route.table("jwt").written("provider") {
            let there = |name: &str| self.providers.contains(name);
            exists(node, "issuer of tokens", there, self.providers.iter().copied(), report);
        }
    }

    /// Services made on first use are known to no other node, so none can hand calls to their endpoints.
    pub(super) fn reaches_peers(&self, route: Section<'_>, services: Section<'_>, report: &mut Report) {
        let template = |node| Section::new(&keys::BACKEND, node).written("dns");
        let per_host = route.list("backends").iter().find_map(template);
        if let (Some(written), Some(_)) = (per_host, services.written("peer")) {
            let text = "defaults.service.peer does not reach services that are made on first use; must be a service of [services], or peer stand there";
            report.add(written.at, &written.path, text);
        }
    }

    /// The service that a policy names exists.
    pub(super) fn policy(&self, policy: Section<'_>, report: &mut Report) {
        if let Some(node) = policy.written("service") {
            let there = |name: &str| name == "*" || self.services.contains(name);
            exists(node, "service", there, self.services.iter().copied(), report);
        }
    }

    /// The services that a route names exist.
    pub(super) fn services(&self, route: Section<'_>, report: &mut Report) {
        let service = |node| Section::new(&keys::BACKEND, node).written("service");
        let backends = route.list("backends").iter().filter_map(service);
        let asked = route.table("authorize").written("service");
        for node in backends.chain(route.list("failover")).chain(asked) {
            let there = |name: &str| self.services.contains(name);
            exists(node, "service", there, self.services.iter().copied(), report);
        }
    }
}

fn exists<'a>(
    node: &Node,
    what: &str,
    there: impl Fn(&str) -> bool,
    all: impl Iterator<Item = &'a str> + Clone,
    report: &mut Report,
) {
    let Data::Text(name) = &node.data else { return };
    if !there(name) {
        let instead = suggest::instead(name, all.clone(), all);
        report.add(node.at, &node.path, format!("there is no {what} \"{name}\"; {instead}"));
    }
}

/// A route that names no listener needs an outgoing one. (Without any listener, that is the problem.)
pub(super) fn some_outgoing(root: Section<'_>, route: Section<'_>, report: &mut Report) {
    let incoming = |listener: Section<'_>| listener.text("kind").as_deref() == Some("incoming");
    if !root.list("listeners").is_empty() && listener_sections(root).all(incoming) {
        let text = "missing, and no listener is outgoing; must name the listeners whose requests it takes";
        report.add(route.at(), &format!("{}.listeners", route.path()), text);
    }
}

fn listener_sections<'a>(root: Section<'a>) -> impl Iterator<Item = Section<'a>> {
    root.list("listeners").iter().map(|node| Section::new(&keys::LISTENER, node))
}

/// One of a route's backends takes something.
pub(super) fn weights(route: Section<'_>, report: &mut Report) {
    let backends = route.list("backends");
    let weight = |node: &Node| Section::new(&keys::BACKEND, node).count::<u64>("weight");
    let nothing = !backends.is_empty() && backends.iter().all(|node| weight(node) == 0);
    if let Some(written) = route.written("backends").filter(|_| nothing) {
        report.add(written.at, &written.path, "the weights sum to 0; one must be above 0");
    }
}

/// What the environment says where the file is silent is a name as well.
pub(super) fn environment(node: Section<'_>, environment: &Environment, report: &mut Report) {
    for (key, variable, value) in
        [("name", "$NODE_NAME", &environment.node_name), ("zone", "$NODE_ZONE", &environment.node_zone)]
    {
        let wrong = value.as_ref().filter(|value| values::read(Text::Name, value).is_err());
        if let Some(value) = wrong.filter(|_| node.written(key).is_none()) {
            let text = format!("{variable} is \"{value}\"; must be {}", wording::syntax(Text::Name));
            report.add(node.at(), &format!("node.{key}"), text);
        }
    }
}

/// A node is one of those that are counted.
pub(super) fn position(position: Section<'_>, report: &mut Report) {
    let (index, count): (u32, u32) = (position.count("index"), position.count("count"));
    if let Some(written) =
        position.written("count").filter(|_| count > 0 && position.written("index").is_none())
    {
        // All nodes with index 0 would talk to the same endpoints.
        report.add(
            written.at,
            position.path(),
            "index is missing; must be this node's number, from 0 to count - 1",
        );
    }
    if let Some(written) = position.written("index").filter(|_| index >= count.max(1)) {
        let text = match position.written("count") {
            Some(_) => format!("{index} is not below count, which is {count}; must be from 0 to count - 1"),
            None => "count is missing: how many nodes there are".to_owned(),
        };
        report.add(written.at, &written.path, text);
    }
}

/// `backoff` of an `ejection`.
pub(super) fn ejection(ejection: Section<'_>, report: &mut Report) {
    backoff(ejection, ["the first and the longest ejection", "[\"5s\", \"5m\"]"], report);
}

/// Who stands in is another service than those that it stands in for, and is named once.
fn failover(route: Section<'_>, report: &mut Report) {
    let service = |node| Section::new(&keys::BACKEND, node).text("service");
    let backends: Vec<String> = route.list("backends").iter().filter_map(service).collect();
    let mut seen = BTreeSet::new();
    for node in route.list("failover") {
        let Data::Text(name) = &node.data else { continue };
        if backends.contains(name) {
            let text =
                format!("\"{name}\" is a backend of the route; must be a service that can stand in for it");
            report.add(node.at, &node.path, text);
        } else if !seen.insert(name) {
            let text = format!("\"{name}\" is named already; each service is tried once");
            report.add(node.at, &node.path, text);
        }
    }
}

/// What a route's policies can get wrong together.
pub(super) fn route_policy(route: Section<'_>, report: &mut Report) {
    failover(route, report);
    let [retry, fault] = ["retry", "fault"].map(|table| route.table(table));
    backoff(retry, ["the shortest and the longest wait", "[\"25ms\", \"250ms\"]"], report);
    does_something(route, fault, report);
    let Some(longest) = fault.written("delay_max") else { return };
    match fault.duration("delay") {
        None => report.add(longest.at, &longest.path, "delay is missing: the shortest delay"),
        Some(shortest) if fault.duration("delay_max").is_some_and(|longest| longest < shortest) => {
            let text = format!("must not be shorter than delay, which is {shortest:?}");
            report.add(longest.at, &longest.path, text);
        }
        Some(_) => {}
    }
}

/// A fault delays or aborts, and a share is of something.
fn does_something(route: Section<'_>, fault: Section<'_>, report: &mut Report) {
    let Some(written) = route.written("fault").filter(|written| !report.has_below(&written.path)) else {
        return;
    };
    let [delay, abort] = ["delay", "abort"].map(|key| fault.written(key).is_some());
    if !delay && !abort && fault.written("delay_max").is_none() {
        report.add(written.at, &written.path, "does nothing; must have delay or abort");
        return;
    }
    for (key, share, there) in [("delay", "delay_percent", delay), ("abort", "abort_percent", abort)] {
        if let Some(share) = fault.written(share).filter(|_| !there) {
            report.add(share.at, &share.path, format!("{key} is missing: what is done to this share"));
        }
    }
}

/// `backoff` is two durations, the shorter one first.
fn backoff(table: Section<'_>, [of, such]: [&str; 2], report: &mut Report) {
    let Some(written) = table.written("backoff") else { return };
    // What is wrong with one of them is told already, and the rest may not be two for that reason.
    if report.has_below(&written.path) {
        return;
    }
    match resilience_meaning::two_durations(table.list("backoff")) {
        None => {
            let text = format!("must have two durations, of {of}, such as {such}");
            report.add(written.at, &written.path, text);
        }
        Some([first, longest]) if first > longest => {
            let text = format!(
                "the first duration, {first:?}, is above the longest, {longest:?}; must not be longer than that"
            );
            report.add(written.at, &written.path, text);
        }
        Some(_) => {}
    }
}

/// The addresses of a service's endpoints are unique.
pub(super) fn endpoints(service: Section<'_>, report: &mut Report) {
    let mut seen = BTreeMap::new();
    for node in service.list("endpoints") {
        let Some(endpoint) = service_meaning::endpoint(node) else { continue };
        if let Some(first) = seen.insert(endpoint.address, &node.path) {
            let text =
                format!("{} is the address of {first} already; raise its weight instead", endpoint.address);
            let at = node.entry("address").map_or(node.at, |address| address.at);
            report.add(at, &node.path, text);
        }
    }
}
