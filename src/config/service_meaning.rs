//! What was read -> services.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{
    check,
    checked::{Balancer, FixedEndpoint, Name, Pool, Protocol, Service, ServicePolicy, Source},
    keys,
    problems::Report,
    section::Section,
    tree::{Data, Node},
};

/// Every service, by name.
pub(super) fn services(root: Section<'_>, report: &mut Report) -> BTreeMap<Name, Arc<Service>> {
    let defaults = defaults(root);
    let mut services = BTreeMap::new();
    for (name, node) in root.map("services") {
        if let Some(service) = service(node, defaults, report) {
            services.insert(name.as_str().into(), Arc::new(service));
        }
    }
    services
}

/// What services are like that are silent.
pub(super) fn defaults(root: Section<'_>) -> Section<'_> {
    root.table("defaults").table("service")
}

/// One service, unless its source is wrong.
pub(super) fn service(node: &Node, defaults: Section<'_>, report: &mut Report) -> Option<Service> {
    let section = Section::new(&keys::SERVICE, node).or(defaults);
    check::endpoints(section, report);
    Some(Service { source: source(section)?, policy: policy(section) })
}

fn source(section: Section<'_>) -> Option<Source> {
    if let Some(Data::DnsName { host, port }) = section.written("dns").map(|node| &node.data) {
        return Some(named(host, *port));
    }
    section.written("endpoints")?;
    Some(Source::Fixed(section.list("endpoints").iter().filter_map(endpoint).collect()))
}

/// An IP literal needs no resolver.
fn named(host: &str, port: u16) -> Source {
    match host.parse::<IpAddr>() {
        Ok(ip) => Source::Fixed(vec![FixedEndpoint { address: SocketAddr::new(ip, port), weight: 1 }]),
        Err(_) => Source::Dns { host: host.to_owned(), port },
    }
}

/// An entry of `endpoints`, in either form.
pub(super) fn endpoint(node: &Node) -> Option<FixedEndpoint> {
    if let Data::Socket(address) = node.data {
        return Some(FixedEndpoint { address, weight: 1 });
    }
    let section = Section::new(&keys::ENDPOINT, node);
    section.socket("address").map(|address| FixedEndpoint { address, weight: section.count("weight") })
}

/// The policies of a service, or of `[defaults.service]`.
pub(super) fn policy(section: Section<'_>) -> ServicePolicy {
    ServicePolicy {
        protocol: match section.text("protocol").as_deref() {
            Some("http1") => Protocol::Http1,
            Some("http2") => Protocol::Http2,
            _ => Protocol::Auto,
        },
        balancer: match section.text("balancer").as_deref() {
            Some("round-robin") => Balancer::RoundRobin,
            _ => Balancer::LeastRequest,
        },
        connect_timeout: section.duration("connect_timeout").unwrap_or_default(),
        pool: pool(section.table("pool")),
    }
}

fn pool(pool: Section<'_>) -> Pool {
    Pool {
        max_idle: pool.count("max_idle"),
        idle_timeout: pool.duration("idle_timeout").unwrap_or_default(),
        max_lifetime: pool.duration("max_lifetime").unwrap_or_default(),
        max_connections: pool.count("max_connections"),
    }
}
