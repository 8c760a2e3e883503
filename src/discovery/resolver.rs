//! From a host's name to its addresses: hosts file, search list, A and AAAA, one server after the other.
//!
//! hickory-resolver speaks DNS (UDP with retransmission, TCP where an answer is truncated). It is given one server and
//! one fully qualified name at a time, because with several servers it takes a SERVFAIL from the quickest for the
//! answer, and with several names it searches separately for A and AAAA. When a name is asked for again is
//! `schedule.rs`'s business.

use std::{
    collections::BTreeSet,
    fmt, fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hickory_resolver::{
    Hosts, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::runtime::TokioRuntimeProvider,
    proto::{
        op::Query,
        rr::{Name, Record, RecordType},
    },
    system_conf,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::{
    cause::Cause,
    search::Search,
    update::{Failure, FailureKind::NoSuchName},
};
use crate::config::Dns;

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Lookups that run at once. Each holds up to eight UDP sockets (two families, four transmissions), and a node may
/// follow a thousand names on the usual 1024 file descriptors' budget.
const CONCURRENT_LOOKUPS: usize = 64;

/// Asks the configured DNS servers. Cheap to clone; clones share what they learn about the servers.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    servers: Vec<Server>,
    /// The server that answered last, asked first: a dead one costs its share of the timeout only once.
    preferred: AtomicUsize,
    search: Search,
    hosts: Hosts,
    /// For one lookup, over all names, families and servers.
    timeout: Duration,
    permits: Semaphore,
}

struct Server {
    address: SocketAddr,
    dns: TokioResolver,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    /// Never empty, in no order.
    pub(super) addresses: Vec<IpAddr>,
    /// The minimum over the records.
    pub(super) ttl: Duration,
}

/// Why there is no answer, and how long that holds where a server said so.
#[derive(Debug)]
pub(super) struct Unanswered {
    pub(super) failure: Failure,
    pub(super) negative_ttl: Option<Duration>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers = self.0.servers.iter().map(|server| server.address);
        f.debug_tuple("Resolver").field(&servers.collect::<Vec<_>>()).finish()
    }
}

impl Resolver {
    /// Servers from `dns`, or else servers, search list and `ndots` from `/etc/resolv.conf`; `/etc/hosts` in both
    /// cases. Both files are read here, once. Opens no socket.
    ///
    /// # Errors
    /// `/etc/resolv.conf` is needed and cannot be understood; the text names the file and the reason.
    pub fn new(dns: &Dns) -> Result<Self, String> {
        let hosts = Hosts::from_system().unwrap_or_default();
        if dns.servers.is_empty() {
            let text = read_resolv_conf()?;
            let (servers, search, options) =
                parse_resolv_conf(&text).map_err(|e| format!("{RESOLV_CONF}: {e}"))?;
            Self::build(&servers, search, options, hosts, dns.timeout)
        } else {
            Self::build(&dns.servers, Search::default(), ResolverOpts::default(), hosts, dns.timeout)
        }
    }

    fn build(
        servers: &[SocketAddr],
        search: Search,
        mut options: ResolverOpts,
        hosts: Hosts,
        timeout: Duration,
    ) -> Result<Self, String> {
        options.timeout = timeout;
        options.attempts = 0;
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.max_active_requests = 2 * CONCURRENT_LOOKUPS;
        let servers = servers.iter().map(|address| Server::new(*address, options.clone()));
        Ok(Self(Arc::new(Inner {
            servers: servers.collect::<Result<_, _>>()?,
            preferred: AtomicUsize::new(0),
            search,
            hosts,
            timeout,
            permits: Semaphore::new(CONCURRENT_LOOKUPS),
        })))
    }

    /// All addresses of `host`, within the configured timeout once its turn comes.
    pub(super) async fn lookup(&self, host: &str) -> Result<Answer, Unanswered> {
        let names = self.0.search.candidates(host).map_err(|e| {
            let cause = Cause::other(format!("not a DNS name: {e}"));
            Unanswered { failure: cause.into_failure(host, &[]), negative_ttl: None }
        })?;
        if let Some(answer) = self.0.hosts_file_entry(host) {
            return Ok(answer);
        }
        let _permit = self.0.permits.acquire().await.expect("the semaphore is never closed");
        let mut tried = Vec::new();
        self.0.search(&names, &mut tried).await.map_err(|cause| Unanswered {
            negative_ttl: cause.negative_ttl,
            failure: cause.into_failure(host, &tried),
        })
    }
}

impl Server {
    fn new(address: SocketAddr, options: ResolverOpts) -> Result<Self, String> {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = address.port();
            connection
        });
        let server = NameServerConfig::new(address.ip(), true, connections.to_vec());
        let config = ResolverConfig::from_name_servers(vec![server]);
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let dns = builder.with_options(options).build().map_err(|e| format!("DNS server {address}: {e}"))?;
        Ok(Self { address, dns })
    }
}

impl Inner {
    /// As the system's resolver does, a host that the file lists is not asked for in DNS at all.
    fn hosts_file_entry(&self, host: &str) -> Option<Answer> {
        let name = Name::from_str_relaxed(host).ok()?;
        let listed = [RecordType::A, RecordType::AAAA].into_iter().filter_map(|record_type| {
            let found = self.hosts.lookup_static_host(&Query::query(name.clone(), record_type))?;
            answer(found.answers())
        });
        listed.reduce(both)
    }

    /// The first of `names` that has addresses. Only "there is none" moves on to the next name: after a server's
    /// failure, the next name's addresses could be another service's.
    async fn search(&self, names: &[Name], tried: &mut Vec<String>) -> Result<Answer, Cause> {
        let deadline = Instant::now() + self.timeout;
        let mut none: Option<Cause> = None;
        for name in names {
            tried.push(name.to_string().trim_end_matches('.').to_owned());
            let cause = match self.addresses(name, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(cause) => none.take().map_or(cause.clone(), |earlier| earlier.or(cause)),
            };
            if !cause.is_negative() {
                return Err(cause);
            }
            none = Some(cause);
        }
        Err(none.unwrap_or_else(Cause::no_records))
    }

    /// Both families of one name; one of them suffices.
    async fn addresses(&self, name: &Name, deadline: Instant) -> Result<Answer, Cause> {
        let (ipv4, ipv6) = tokio::join!(
            self.family(name, RecordType::A, deadline),
            self.family(name, RecordType::AAAA, deadline)
        );
        match (ipv4, ipv6) {
            (Ok(ipv4), Ok(ipv6)) => Ok(both(ipv4, ipv6)),
            (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
            (Err(ipv4), Err(ipv6)) => Err(same_name(ipv4, ipv6)),
        }
    }

    /// One family of one name: the servers in turn, from the preferred one, until one answers either way. Each gets
    /// an equal share of the time that is left.
    async fn family(&self, name: &Name, record_type: RecordType, deadline: Instant) -> Result<Answer, Cause> {
        let count = self.servers.len();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut failed: Option<Cause> = None;
        for turn in 0..count {
            let index = (first + turn) % count;
            let left = deadline.saturating_duration_since(Instant::now());
            let share = Instant::now() + left / u32::try_from(count - turn).unwrap_or(u32::MAX);
            let result = self.ask(&self.servers[index], name, record_type, share).await;
            if result.as_ref().err().is_none_or(Cause::is_negative) {
                self.preferred.store(index, Ordering::Relaxed);
                return result;
            }
            failed = match (failed, result.err()) {
                (Some(earlier), Some(cause)) => Some(earlier.or(cause)),
                (earlier, cause) => cause.or(earlier),
            };
        }
        Err(failed.unwrap_or_else(|| Cause::other("no DNS server is configured")))
    }

    async fn ask(
        &self,
        server: &Server,
        name: &Name,
        record_type: RecordType,
        until: Instant,
    ) -> Result<Answer, Cause> {
        let cause = match timeout_at(until, server.dns.lookup(name.clone(), record_type)).await {
            Ok(Ok(found)) => match answer(found.answers()) {
                Some(answer) => return Ok(answer),
                None => Cause::no_records(),
            },
            Ok(Err(error)) => Cause::from_error(&error, self.timeout),
            Err(_) => Cause::timeout(self.timeout),
        };
        Err(cause.asking([server.address]))
    }
}

/// The addresses among `records`; the TTL is that of the whole chain, CNAMEs included.
fn answer(records: &[Record]) -> Option<Answer> {
    let addresses: Vec<IpAddr> = records.iter().filter_map(|record| record.data.ip_addr()).collect();
    let ttl = records.iter().map(|record| record.ttl).min()?;
    (!addresses.is_empty()).then(|| Answer { addresses, ttl: Duration::from_secs(ttl.into()) })
}

fn both(mut one: Answer, other: Answer) -> Answer {
    one.addresses.extend(other.addresses);
    Answer { addresses: one.addresses, ttl: one.ttl.min(other.ttl) }
}

/// What two negative or failed answers for one name mean together. NXDOMAIN holds for every type (RFC 8020), so it
/// decides whatever became of the other query.
fn same_name(ipv4: Cause, ipv6: Cause) -> Cause {
    match (ipv4.kind, ipv6.kind) {
        (NoSuchName, _) | (_, NoSuchName) if ipv4.kind != ipv6.kind => {
            if ipv4.kind == NoSuchName {
                ipv4
            } else {
                ipv6
            }
        }
        _ => ipv4.or(ipv6),
    }
}

/// A system without the file, or without a server in it, has its resolver on this host (resolv.conf(5)).
fn read_resolv_conf() -> Result<String, String> {
    match fs::read(RESOLV_CONF) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(format!("{RESOLV_CONF}: {e}")),
    }
}

/// Servers, search list and options. Timeout and attempts in the file are overruled by `[dns]`.
fn parse_resolv_conf(text: &str) -> Result<(Vec<SocketAddr>, Search, ResolverOpts), String> {
    let named = text.lines().any(|line| line.trim_start().starts_with("nameserver"));
    let text = if named { text.to_owned() } else { format!("{text}\nnameserver {}\n", Ipv4Addr::LOCALHOST) };
    let (config, options) = system_conf::parse_resolv_conf(text).map_err(|e| e.to_string())?;
    let mut seen = BTreeSet::new();
    let servers = config.name_servers().iter().map(|server| SocketAddr::new(server.ip, 53));
    let servers = servers.filter(|address| seen.insert(*address)).collect();
    // The host's own domain counts only when the file has no search list.
    let domains = match config.search() {
        [] => config.domain().cloned().into_iter().collect(),
        search => search.to_vec(),
    };
    let domains = domains.into_iter().filter(|domain: &Name| !domain.is_root()).collect();
    Ok((servers, Search { domains, ndots: options.ndots }, options))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::{FailureKind, tests::dns::DnsServer};

    const TIMEOUT: Duration = Duration::from_secs(1);
    const V4: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);

    fn hosts(text: &str) -> Hosts {
        let mut hosts = Hosts::default();
        hosts.read_hosts_conf(text.as_bytes()).unwrap();
        hosts
    }

    /// Asks `server`, with the rest as in this resolv.conf and hosts file.
    fn resolver(server: &DnsServer, resolv_conf: &str, hosts_file: &str) -> Resolver {
        let (_, search, options) = parse_resolv_conf(resolv_conf).unwrap();
        Resolver::build(&[server.address()], search, options, hosts(hosts_file), TIMEOUT).unwrap()
    }

    #[test]
    fn resolv_conf_gives_servers_search_list_and_ndots() {
        let text = "search prod.svc.cluster.local cluster.local\nnameserver 10.0.0.2\nnameserver fd00::2\n\
                    nameserver 10.0.0.2\noptions ndots:5\n";
        let (servers, search, _) = parse_resolv_conf(text).unwrap();
        assert_eq!(servers, ["10.0.0.2:53".parse().unwrap(), "[fd00::2]:53".parse().unwrap()]);
        let domains: Vec<_> = search.domains.iter().map(Name::to_string).collect();
        assert_eq!(
            (domains.join(" ").replace(". ", " "), search.ndots),
            ("prod.svc.cluster.local cluster.local".into(), 5)
        );
    }

    #[test]
    fn without_a_nameserver_the_local_one_is_asked() {
        let (servers, _, _) = parse_resolv_conf("# nothing here\n").unwrap();
        assert_eq!(servers, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[tokio::test]
    async fn the_hosts_file_goes_before_dns() {
        let server = DnsServer::start();
        server.set_a("reviews", 60, &[Ipv4Addr::new(10, 9, 9, 9)]);
        let resolver = resolver(&server, "search prod.test", "10.1.2.3 reviews\nfd00::7 reviews\n");
        let mut addresses = resolver.lookup("reviews").await.unwrap().addresses;
        addresses.sort();
        assert_eq!(addresses, [IpAddr::from(V4), "fd00::7".parse().unwrap()]);
        assert_eq!(server.queries("reviews") + server.queries("reviews.prod.test"), 0);
    }

    #[tokio::test]
    async fn both_families_come_from_the_first_name_that_has_either() {
        let server = DnsServer::start();
        server.set_a("reviews.prod.test", 60, &[V4]);
        server.set_aaaa("reviews.other.test", 60, &["fd00::7".parse().unwrap()]);
        let resolver = resolver(&server, "search none.test prod.test other.test", "");
        assert_eq!(resolver.lookup("reviews").await.unwrap().addresses, [V4]);
    }

    #[tokio::test]
    async fn a_server_failure_ends_the_search() {
        let server = DnsServer::start();
        server.servfail("reviews.prod.test");
        server.set_a("reviews.other.test", 60, &[V4]);
        let resolver = resolver(&server, "search prod.test other.test", "");
        let failure = resolver.lookup("reviews").await.unwrap_err().failure;
        assert_eq!(failure.kind, FailureKind::ServFail);
    }

    #[tokio::test]
    async fn a_search_in_vain_names_all_it_tried() {
        let server = DnsServer::start();
        let resolver = resolver(&server, "search prod.test", "");
        let failure = resolver.lookup("reviews").await.unwrap_err().failure;
        let asked = server.address();
        assert_eq!(
            failure.message,
            format!("reviews: no such name (NXDOMAIN, tried reviews.prod.test, reviews, asked {asked})")
        );
    }
}
