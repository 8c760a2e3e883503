//! What was read -> the types of `checked.rs`: node-wide settings and listeners.
//!
//! Routes and services have files of their own. Where something is wrong, a problem is in the report and the value
//! made here is never used.

use std::{collections::BTreeMap, num::NonZeroUsize, path::Path, sync::Arc};

use super::{
    check,
    checked::{
        Admin, AdminAccess, Config, Dns, Drain, HostServices, Limits, Listener, ListenerKind, Name, Node,
        Position, ServerTls,
    },
    environment::Environment,
    keys, observability_meaning,
    problems::Report,
    resilience_meaning, route_meaning,
    section::Section,
    security_check, security_meaning, service_meaning,
    tree::{self, Data},
};
use crate::net::{Address, Subnet};

/// The whole configuration. Relative paths start at `directory`, which is absolute.
pub(super) fn whole(
    root: Section<'_>,
    directory: &Path,
    environment: &Environment,
    report: &mut Report,
) -> Config {
    let mut config = config(root, directory, environment, report);
    config.services = service_meaning::services(root, directory, report);
    config.routes = route_meaning::routes(root, &config.listeners, directory, report);
    security_check::policies(root, check::Known::of(root), report);
    check::names(root.list("routes"), &keys::ROUTE, report);
    config
}

/// The same without routes and services.
pub(super) fn config(
    root: Section<'_>,
    directory: &Path,
    environment: &Environment,
    report: &mut Report,
) -> Config {
    let admin = admin(root.table("admin"), directory, report);
    let listeners = listeners(root, directory, &admin.listen, report);
    check::environment(root.table("node"), environment, report);
    check::position(root.table("node").table("position"), report);
    check::ejection(service_meaning::defaults(root).table("ejection"), report);
    check::route_policy(root.table("defaults").table("route"), report);
    Config {
        node: node(root.table("node"), environment),
        admin,
        drain: Drain { timeout: root.table("drain").duration("timeout").unwrap_or_default() },
        limits: limits(root.table("limits"), environment),
        overload: resilience_meaning::concurrency(root.table("overload")),
        dns: dns(root.table("dns")),
        zones: zones(root),
        access_log: observability_meaning::access_log(root.table("access_log"), directory, report),
        tracing: observability_meaning::tracing(root, directory),
        host_services: host_services(root.table("host_services")),
        callers: security_meaning::callers(root, report),
        policies: security_meaning::policies(root, report),
        jwt: security_meaning::jwt(root, directory, report),
        listeners,
        routes: Vec::new(),
        services: BTreeMap::new(),
    }
}

/// A name, or nothing where one was wrong.
pub(super) fn name(section: Section<'_>, key: &str) -> Name {
    section.text(key).unwrap_or_default().into()
}

fn node(node: Section<'_>, environment: &Environment) -> Node {
    let own_name = || environment.node_name.clone().unwrap_or_else(|| environment.host_name.clone());
    Node {
        name: node.text("name").unwrap_or_else(own_name).into(),
        zone: node.text("zone").or_else(|| environment.node_zone.clone()).map(Name::from),
        workers: NonZeroUsize::new(node.count("workers")).unwrap_or(environment.cpus),
        subnets: subnets(node.list("subnets")),
        position: position(node.table("position")),
    }
}

fn position(position: Section<'_>) -> Option<Position> {
    let (index, count) = (position.count("index"), position.count("count"));
    (count > 0).then_some(Position { index, count })
}

fn subnets(nodes: &[tree::Node]) -> Vec<Subnet> {
    let subnet = |node: &tree::Node| match node.data {
        Data::Subnet(subnet) => Some(subnet),
        _ => None,
    };
    nodes.iter().filter_map(subnet).collect()
}

fn zones(root: Section<'_>) -> Vec<(Name, Vec<Subnet>)> {
    let zone = |(name, node): (&String, &tree::Node)| match &node.data {
        Data::List(nodes) => Some((Name::from(name.as_str()), subnets(nodes))),
        _ => None,
    };
    root.map("zones").filter_map(zone).collect()
}

fn admin(admin: Section<'_>, directory: &Path, report: &mut Report) -> Admin {
    security_check::admin(admin, report);
    // Who shows no certificate may still have a token, or ask whether the node is ready.
    let optional = |tls: Arc<ServerTls>| Arc::new(ServerTls { client_required: false, ..(*tls).clone() });
    let access = AdminAccess {
        tls: security_meaning::server_tls(admin, directory, report).map(optional),
        read_token: admin.text("read_token").map(|file| directory.join(file)),
        control_token: admin.text("control_token").map(|file| directory.join(file)),
    };
    let address = match admin.address("listen") {
        Some(Address::Unix(path)) => Address::Unix(directory.join(path)),
        Some(address) => address,
        // There is a problem.
        None => Address::Tcp(([127, 0, 0, 1], 0).into()),
    };
    if let (Some(written), Address::Unix(path)) = (admin.written("listen"), &address) {
        check::socket_path(path, written, report);
    }
    Admin { listen: address, access }
}

fn limits(limits: Section<'_>, environment: &Environment) -> Limits {
    let duration = |key| limits.duration(key).unwrap_or_default();
    Limits {
        header_bytes: limits.count("header_bytes"),
        header_count: limits.count("header_count"),
        first_byte_timeout: duration("first_byte_timeout"),
        head_timeout: duration("head_timeout"),
        idle_timeout: duration("idle_timeout"),
        uri_bytes: limits.count("uri_bytes"),
        handshake_timeout: duration("handshake_timeout"),
        max_handshakes: limits.count("max_handshakes"),
        connections: limits.count("connections"),
        connections_per_caller: limits.count("connections_per_caller"),
        requests_per_caller: limits.number("requests_per_caller").and_then(|most| usize::try_from(most).ok()),
        http2_resets: limits.count("http2_resets"),
        http2_control_frames: limits.count("http2_control_frames"),
        max_streams: limits.count("max_streams"),
        memory: limits.number("memory").or(environment.memory.map(|allowed| allowed / 10 * 9)),
    }
}

fn dns(dns: Section<'_>) -> Dns {
    let address = |node: &tree::Node| match node.data {
        Data::Socket(address) => Some(address),
        _ => None,
    };
    Dns {
        servers: dns.list("servers").iter().filter_map(address).collect(),
        timeout: dns.duration("timeout").unwrap_or_default(),
        first_answer_timeout: dns.duration("first_answer_timeout").unwrap_or_default(),
        max_stale: dns.duration("max_stale").unwrap_or_default(),
    }
}

fn host_services(bounds: Section<'_>) -> HostServices {
    HostServices {
        max: bounds.count("max"),
        idle_timeout: bounds.duration("idle_timeout").unwrap_or_default(),
        suffixes: bounds.texts("suffixes"),
    }
}

fn listeners(root: Section<'_>, directory: &Path, admin: &Address, report: &mut Report) -> Vec<Listener> {
    let nodes = root.list("listeners");
    check::names(nodes, &keys::LISTENER, report);
    let read =
        |node| listener(Section::new(&keys::LISTENER, node), directory, report).map(|read| (read, node));
    let listeners: Vec<(Listener, &tree::Node)> = nodes.iter().filter_map(read).collect();
    check::sockets(admin, &listeners, report);
    listeners.into_iter().map(|(listener, _)| listener).collect()
}

fn listener(section: Section<'_>, directory: &Path, report: &mut Report) -> Option<Listener> {
    let written = section.written("listen")?;
    let address = match &written.data {
        Data::Address(Address::Unix(path)) => Address::Unix(directory.join(path)),
        Data::Address(address) => address.clone(),
        _ => return None,
    };
    if let Address::Unix(path) = &address {
        check::socket_path(path, written, report);
    }
    let kind = match section.text("kind")?.as_str() {
        "incoming" => ListenerKind::Incoming,
        _ => ListenerKind::Outgoing,
    };
    let tls = security_meaning::server_tls(section, directory, report);
    let default_policy = security_meaning::default_policy(section);
    Some(Listener { name: name(section, "name"), kind, address, tls, default_policy })
}
