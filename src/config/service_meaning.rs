//! What was read -> services.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use super::{
    check,
    checked::{
        Balancer, Ejection, FixedEndpoint, Locality, Name, Pool, Prefer, Protocol, Service, ServicePolicy,
        Source,
    },
    keys,
    problems::Report,
    resilience_meaning,
    section::Section,
    security_check, security_meaning,
    tree::{Data, Node},
};

/// Of `peak-ewma` where none is written: Finagle's default.
const DECAY: Duration = Duration::from_secs(10);

/// Of the first and the longest ejection, where none are written.
const BACKOFF: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(300)];

/// Every service, by name. Relative paths start at `directory`.
pub(super) fn services(
    root: Section<'_>,
    directory: &Path,
    report: &mut Report,
) -> BTreeMap<Name, Arc<Service>> {
    let defaults = defaults(root);
    let mut services = BTreeMap::new();
    for (name, node) in root.map("services") {
        if let Some(service) = service(node, defaults, directory, report) {
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
pub(super) fn service(
    node: &Node,
    defaults: Section<'_>,
    directory: &Path,
    report: &mut Report,
) -> Option<Service> {
    let section = Section::new(&keys::SERVICE, node).or(defaults);
    check::endpoints(section, report);
    check::ejection(Section::new(&keys::SERVICE, node).table("ejection"), report);
    let source = source(section, directory)?;
    security_check::client_tls(section, &source, report);
    let policy = policy(section, directory, Some(&source));
    Some(Service { source, policy })
}

fn source(section: Section<'_>, directory: &Path) -> Option<Source> {
    if let Some(name) = section.text("srv") {
        return Some(Source::Srv(name));
    }
    if let Some(file) = section.text("file") {
        return Some(Source::File(directory.join(file)));
    }
    if let Some(Data::DnsName { host, port }) = section.written("dns").map(|node| &node.data) {
        return Some(named(host, *port));
    }
    section.written("endpoints")?;
    Some(Source::Fixed(section.list("endpoints").iter().filter_map(endpoint).collect()))
}

/// An IP literal needs no resolver.
fn named(host: &str, port: u16) -> Source {
    match host.parse::<IpAddr>() {
        Ok(ip) => Source::Fixed(vec![FixedEndpoint::plain(SocketAddr::new(ip, port))]),
        Err(_) => Source::Dns { host: host.to_owned(), port },
    }
}

/// An entry of `endpoints`, in either form.
pub(super) fn endpoint(node: &Node) -> Option<FixedEndpoint> {
    if let Data::Socket(address) = node.data {
        return Some(FixedEndpoint::plain(address));
    }
    let section = Section::new(&keys::ENDPOINT, node);
    let zone = section.text("zone").map(Name::from);
    section.socket("address").map(|address| FixedEndpoint { address, weight: section.count("weight"), zone })
}

/// The policies of a service, or of `[defaults.service]`.
pub(super) fn policy(section: Section<'_>, directory: &Path, source: Option<&Source>) -> ServicePolicy {
    ServicePolicy {
        protocol: match section.text("protocol").as_deref() {
            Some("http1") => Protocol::Http1,
            Some("http2") => Protocol::Http2,
            _ => Protocol::Auto,
        },
        balancer: balancer(section.written("balancer")),
        slow_start: section.duration("slow_start").unwrap_or_default(),
        locality: locality(section.table("locality")),
        aperture: section.number("aperture").and_then(|most| usize::try_from(most).ok()),
        panic_percent: section.count("panic_percent"),
        ejection: ejection(section.table("ejection")),
        connect_timeout: section.duration("connect_timeout").unwrap_or_default(),
        head_timeout: section.duration("head_timeout"),
        stream_idle_timeout: section.duration("stream_idle_timeout").unwrap_or_default(),
        pool: pool(section.table("pool")),
        breaker: resilience_meaning::breaker(section.table("breaker")),
        retry_budget: resilience_meaning::retry_budget(section.table("retry_budget")),
        health_check: resilience_meaning::health_check(section),
        tls: security_meaning::client_tls(section, directory, source),
        peer: security_meaning::peer(section, directory),
    }
}

fn balancer(written: Option<&Node>) -> Balancer {
    let Some(node) = written else { return Balancer::LeastRequest };
    if let Data::Text(word) = &node.data {
        return match word.as_str() {
            "round-robin" => Balancer::RoundRobin,
            "peak-ewma" => Balancer::PeakEwma { decay: DECAY },
            _ => Balancer::LeastRequest,
        };
    }
    match node.entry("hash").map(|hash| &hash.data) {
        Some(Data::HashKey(key)) => Balancer::Hash(key.clone()),
        _ => {
            let decay = Section::new(&keys::BALANCER, node).duration("peak_ewma");
            Balancer::PeakEwma { decay: decay.unwrap_or(DECAY) }
        }
    }
}

fn locality(locality: Section<'_>) -> Locality {
    let prefer = match locality.text("prefer").as_deref() {
        Some("none") => Prefer::None,
        Some("zone") => Prefer::Zone,
        _ => Prefer::Node,
    };
    Locality { prefer, max_requests: locality.count("max_requests") }
}

fn ejection(ejection: Section<'_>) -> Ejection {
    let [first, longest] = resilience_meaning::two_durations(ejection.list("backoff")).unwrap_or(BACKOFF);
    Ejection {
        consecutive_failures: ejection.count("consecutive_failures"),
        success_percent: ejection.count("success_percent"),
        window: ejection.duration("window").unwrap_or_default(),
        min_requests: ejection.count("min_requests"),
        max_latency: ejection.duration("max_latency"),
        first,
        longest,
        max_percent: ejection.count("max_percent"),
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
