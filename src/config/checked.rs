//! Configuration as meant: every name resolved, every default filled in, every value in range.
//!
//! The rest of the program sees only these types. They hold no live object: `snapshot/build.rs` turns them into
//! those. Two equal values mean the same node, which is how a reload recognises that nothing changed.

use std::{
    collections::BTreeMap, net::SocketAddr, num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration,
};

pub use super::{access_log::*, log_template::*, matching::*, observability::*, resilience::*, security::*};
use crate::net::{Address, Subnet};

/// A name that metrics, logs and the admin API carry around.
pub type Name = Arc<str>;

/// One whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Who this node is.
    pub node: Node,
    /// Where the admin API listens.
    pub admin: Admin,
    /// How long running requests may finish once the node drains.
    pub drain: Drain,
    /// What a caller may send.
    pub limits: Limits,
    /// How much the node carries at a time.
    pub overload: Concurrency,
    /// How names are resolved.
    pub dns: Dns,
    /// Zones, as ranges of addresses, sorted by name; the longest range that holds an address counts.
    pub zones: Vec<(Name, Vec<Subnet>)>,
    /// The access log, or none.
    pub access_log: Option<AccessLog>,
    /// Distributed tracing, or none.
    pub tracing: Option<Tracing>,
    /// Services made on first use from a `{host}` template.
    pub host_services: HostServices,
    /// In file order; at least one.
    pub listeners: Vec<Listener>,
    /// Who callers are, in file order.
    pub callers: Vec<CallerRule>,
    /// Who may call what, in file order.
    pub policies: Vec<Arc<Policy>>,
    /// Issuers of tokens, by name.
    pub jwt: BTreeMap<Name, Arc<JwtProvider>>,
    /// In file order, which breaks ties of precedence.
    pub routes: Vec<Arc<Route>>,
    /// By name.
    pub services: BTreeMap<Name, Arc<Service>>,
}

/// Who this node is.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Default: `$NODE_NAME`, else the host's name.
    pub name: Name,
    /// Default: `$NODE_ZONE`, else none.
    pub zone: Option<Name>,
    /// Worker threads. Default: the CPUs that the cgroup allows.
    pub workers: NonZeroUsize,
    /// Addresses of endpoints on this node, besides the host's own.
    pub subnets: Vec<Subnet>,
    /// This node's place among all nodes, if it is known.
    pub position: Option<Position>,
}

/// A node's place among all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// From 0; below `count`.
    pub index: u32,
    /// All nodes; never 0.
    pub count: u32,
}

/// Where the admin API listens.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Default `127.0.0.1:9990`; the path of a Unix socket is absolute.
    pub listen: Address,
    /// Who may ask.
    pub access: AdminAccess,
}

/// How a node stops.
#[derive(Clone, Debug, PartialEq)]
pub struct Drain {
    /// Requests still running after this are cut off. Default 30 s.
    pub timeout: Duration,
}

/// What a caller may send, over every listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Bytes of a request head (HTTP/1.1) or decoded header list (HTTP/2). Default 64 KiB.
    pub header_bytes: usize,
    /// Fields in a head. Default 100.
    pub header_count: usize,
    /// From accept to the first byte. Default 10 s.
    pub first_byte_timeout: Duration,
    /// From a head's first byte to its last. Default 10 s.
    pub head_timeout: Duration,
    /// A connection without a running request is closed after this. Default 10 min.
    pub idle_timeout: Duration,
    /// Bytes of a request's target. Default 16 KiB.
    pub uri_bytes: usize,
    /// Of a TLS handshake. Default 10 s.
    pub handshake_timeout: Duration,
    /// TLS handshakes under way at a time, over all workers. Default 512.
    pub max_handshakes: usize,
    /// Connections of one listener at a time. Default 65,536.
    pub connections: usize,
    /// Connections of one caller at a time: by its name, else by its address. Default 16,384.
    pub connections_per_caller: usize,
    /// Requests of one caller at a time; none: as many as the node carries.
    pub requests_per_caller: Option<usize>,
    /// Streams of one connection that end in a reset, each second, beyond half of those that it opens. Default 100.
    pub http2_resets: u32,
    /// Frames of one connection that carry nothing (PING, SETTINGS, PRIORITY, empty ones), each second. Default 200.
    pub http2_control_frames: u32,
    /// Concurrent HTTP/2 streams of one connection. Default 256.
    pub max_streams: u32,
    /// Bytes of resident memory, without mapped files, above which new work is refused. Default: nine tenths of what the cgroup allows.
    pub memory: Option<u64>,
}

/// How names are resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Dns {
    /// Empty: the system's `resolv.conf`. Port 53 where an entry names none.
    pub servers: Vec<SocketAddr>,
    /// One query's answer. Default 2 s.
    pub timeout: Duration,
    /// A request for a service that has no answer yet waits this long. Default 5 s.
    pub first_answer_timeout: Duration,
    /// The last good answer is kept so long without a further one. Default 1 h.
    pub max_stale: Duration,
}

/// Bounds on services made from `{host}` templates.
#[derive(Clone, Debug, PartialEq)]
pub struct HostServices {
    /// At most this many at once; a request for one more is refused as `overloaded`. Default 1024.
    pub max: usize,
    /// Dropped after this long without a request. Default 10 min.
    pub idle_timeout: Duration,
    /// Domains that their names must be in, lower case, without dots at either end; any when empty.
    pub suffixes: Vec<String>,
}

impl HostServices {
    /// Whether a name may have a service: it is one of the suffixes or below one. Without any, every name may.
    pub fn allow(&self, name: &str) -> bool {
        let under = |suffix: &String| {
            name.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        self.suffixes.is_empty() || self.suffixes.iter().any(under)
    }
}

/// One listening socket.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Unique.
    pub name: Name,
    /// Which way its requests go.
    pub kind: ListenerKind,
    /// `ADDRESS:PORT` or `unix:/path` (absolute). No two listeners overlap.
    pub address: Address,
    /// None: plain.
    pub tls: Option<Arc<ServerTls>>,
    /// What may be done where no policy speaks.
    pub default_policy: DefaultPolicy,
}

/// Which way a listener's requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// From services of this host.
    Outgoing,
    /// From other nodes.
    Incoming,
}

/// One rule: which requests, and where they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Unique.
    pub name: Name,
    /// Indices into [`Config::listeners`].
    pub listeners: Vec<usize>,
    /// At least one.
    pub hosts: Vec<HostPattern>,
    /// Any of these matches. Never empty: a route without `match` has one entry that matches everything.
    pub matches: Vec<Match>,
    /// At least one; the weights sum to more than nothing.
    pub backends: Vec<Backend>,
    /// The whole request, retries included.
    pub timeout: Option<Duration>,
    /// One attempt, up to the response's head.
    pub attempt_timeout: Option<Duration>,
    /// Who goes first.
    pub priority: Priority,
    /// Who stands in for a backend that cannot take a request.
    pub failover: Failover,
    /// Which failed requests are sent again.
    pub retry: Option<Retry>,
    /// When a second attempt is made beside the first, of requests with the methods of `hedged`.
    pub hedge: Option<Hedge>,
    /// Upper case, sorted; what `retry` lists, else the idempotent ones.
    pub hedged: Vec<String>,
    /// What is done to requests on purpose.
    pub fault: Option<Fault>,
    /// A token that requests must have.
    pub jwt: Option<RouteJwt>,
    /// Who is asked whether a request may pass.
    pub authorize: Option<Authorize>,
}

impl Route {
    /// One that matches no request and does nothing to it.
    pub fn nothing(name: Name) -> Self {
        Self {
            name,
            listeners: Vec::new(),
            hosts: Vec::new(),
            matches: Vec::new(),
            backends: Vec::new(),
            timeout: None,
            attempt_timeout: None,
            priority: Priority::default(),
            failover: Failover::default(),
            retry: None,
            hedge: None,
            hedged: Vec::new(),
            fault: None,
            jwt: None,
            authorize: None,
        }
    }
}

/// One share of a route's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Where the share goes.
    pub target: BackendTarget,
    /// Share of the sum of the weights. Default 1; 0 takes nothing.
    pub weight: u32,
}

/// Where a share goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendTarget {
    /// A configured service: a key of [`Config::services`].
    Service(Name),
    /// A service per distinct host, made on first use.
    PerHost(HostTemplate),
}

/// `prefix{host}suffix[:port]`: the DNS name that a request's host stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostTemplate {
    /// In front of the host.
    pub prefix: String,
    /// Behind the host.
    pub suffix: String,
    /// Fixed; else the authority's port, else 80.
    pub port: Option<u16>,
    /// What such a service is like: `[defaults.service]`.
    pub policy: Arc<ServicePolicy>,
}

/// A name, where its endpoints come from, and its policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Where endpoints come from.
    pub source: Source,
    /// How they are spoken to and chosen.
    pub policy: ServicePolicy,
}

/// Where endpoints come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A and AAAA records of `host`, all on one port.
    Dns {
        /// Lower case, without trailing dot.
        host: String,
        /// Of every endpoint.
        port: u16,
    },
    /// SRV records of this name (lower case, without trailing dot).
    Srv(String),
    /// A watched file; absolute.
    File(PathBuf),
    /// Written in the file; at least one.
    Fixed(Vec<FixedEndpoint>),
}

/// An endpoint written in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedEndpoint {
    /// Unique within its service.
    pub address: SocketAddr,
    /// Relative to the other endpoints. Default 1, never 0.
    pub weight: u32,
    /// Where it stands, if that is written.
    pub zone: Option<Name>,
}

impl FixedEndpoint {
    /// One of weight 1, of which nothing else is known.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, weight: 1, zone: None }
    }
}

/// How a service's endpoints are spoken to and chosen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServicePolicy {
    /// Default [`Protocol::Auto`].
    pub protocol: Protocol,
    /// Default [`Balancer::LeastRequest`].
    pub balancer: Balancer,
    /// An endpoint that joins others comes to its full share over this; zero: at once, the default.
    pub slow_start: Duration,
    /// Whether nearer endpoints come first.
    pub locality: Locality,
    /// Endpoints that this node uses at most, where there are more of the same distance. Default: all.
    pub aperture: Option<usize>,
    /// With less than this share of the endpoints usable (0-100), all are used. Default 0: never.
    pub panic_percent: u8,
    /// When failing endpoints get no requests.
    pub ejection: Ejection,
    /// TCP handshake. Default 1 s.
    pub connect_timeout: Duration,
    /// From sending a request to the head of its response.
    pub head_timeout: Option<Duration>,
    /// A request may stand still for so long. Default 1 h.
    pub stream_idle_timeout: Duration,
    /// Connections kept for reuse.
    pub pool: Pool,
    /// How much of this node it may have.
    pub breaker: Breaker,
    /// How many repetitions its requests may cause.
    pub retry_budget: RetryBudget,
    /// How it is found out which endpoints are well.
    pub health_check: Option<HealthCheck>,
    /// None: plain.
    pub tls: Option<Arc<ClientTls>>,
    /// The way leads through the towpath of the endpoint's node.
    pub peer: Option<Arc<Peer>>,
}

/// What is spoken to endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// gRPC over HTTP/2, the rest over HTTP/1.1.
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Balancer {
    /// The less loaded of two random endpoints (power of two choices).
    LeastRequest,
    /// The one of two random endpoints with less latency times load.
    PeakEwma {
        /// Over which an estimate of latency fades. Default 10 s.
        decay: Duration,
    },
    /// In turn.
    RoundRobin,
    /// Equal keys go to the same endpoint.
    Hash(HashKey),
}

/// What of a request is hashed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HashKey {
    /// A header's first value; the name in lower case.
    Header(Name),
    /// A cookie's value.
    Cookie(Name),
    /// The caller's IP address.
    Source,
    /// The path, without query.
    Path,
}

/// Which endpoints are taken first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Locality {
    /// Default [`Prefer::Node`].
    pub prefer: Prefer,
    /// Requests of this node that run on each near endpoint before farther ones share the rest. Default 32.
    pub max_requests: u32,
}

/// How near is preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prefer {
    /// This node, then its zone, then the rest.
    Node,
    /// The node's zone, then the rest.
    Zone,
    /// All alike.
    None,
}

/// Connections kept for reuse, per endpoint and worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pool {
    /// Idle HTTP/1.1 connections kept at most. Default 128.
    pub max_idle: usize,
    /// An idle connection is closed after this. Default 60 s.
    pub idle_timeout: Duration,
    /// A connection takes no new request after this. Default 1 h.
    pub max_lifetime: Duration,
    /// Connections at most, idle or not, of either protocol; a request over it waits for one. Default 1024.
    pub max_connections: usize,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            max_idle: 128,
            idle_timeout: Duration::from_secs(60),
            max_lifetime: Duration::from_secs(3600),
            max_connections: 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_within_a_domain_on_the_boundaries_of_labels() {
        let of = |suffixes: &[&str]| HostServices {
            max: 1,
            idle_timeout: Duration::ZERO,
            suffixes: suffixes.iter().map(ToString::to_string).collect(),
        };
        let two = of(&["internal", "svc.local"]);
        for name in ["internal", "a.internal", "a.b.svc.local"] {
            assert!(two.allow(name), "{name}");
            assert!(of(&[]).allow(name));
        }
        for name in ["", "ainternal", "a.local", "internal.evil", "10.0.0.1"] {
            assert!(!two.allow(name), "{name}");
        }
    }
}
