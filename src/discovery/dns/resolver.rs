//! From a name to what it has: hosts file, search list, A and AAAA or SRV, one server after the other.
//!
//! One fully qualified name and one server at a time: hickory-resolver would search separately for A and AAAA. When a
//! name is asked for again, and what stands meanwhile, are others' business.
//!
//! A and AAAA are asked for together. Once one of them has records, the other gets [`RESOLUTION_DELAY`]; what comes
//! later is an answer of its own ([`Late`]), so that a server that is silent about one family delays nothing.

use std::{
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hickory_resolver::{
    config::ResolverOpts,
    proto::rr::{Name, RecordType},
};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    answer::Share,
    cause::Cause,
    members::{Answer, Family, Kind, Member, Question, Unanswered},
    search::Search,
    server::Server,
    system::{HostsFile, ResolvConf, SystemFiles},
    update::FailureKind::{self, NoSuchName},
};
use crate::{config::Dns, telemetry::DnsSeries};

/// For the other family, once one has records. RFC 8305, section 3, has 50 ms for a connection that waits; here an
/// answer in two parts is told twice, and a server that has to ask others first is often slower than that.
const RESOLUTION_DELAY: Duration = Duration::from_millis(150);

/// What a lookup found.
pub(in crate::discovery) struct Found {
    pub(in crate::discovery) answer: Answer,
    /// The other family's part, still under way.
    pub(in crate::discovery) late: Option<Late>,
}

/// The part of an answer that is about one family.
pub(in crate::discovery) struct Late {
    pub(in crate::discovery) family: Family,
    part: Part,
}

type Part = Pin<Box<dyn Future<Output = Result<Answer, Cause>>>>;

/// Asks the configured DNS servers. Cheap to clone; clones share what they learn about the servers.
#[derive(Clone)]
pub(in crate::discovery) struct Resolver(Arc<Inner>);

struct Inner {
    servers: Vec<Server>,
    /// The server that answered last, asked first: a dead one costs its share of the timeout only once.
    preferred: AtomicUsize,
    search: Search,
    /// The search list is that of the system, and may change with it.
    searches: bool,
    hosts: HostsFile,
    /// For one lookup, over all names, families and servers.
    timeout: Duration,
    series: Arc<DnsSeries>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Resolver").field(&self.servers().collect::<Vec<_>>()).finish()
    }
}

impl Resolver {
    /// Servers from `dns`, or else servers, search list and `ndots` from `resolv.conf`; the hosts file in both cases.
    /// Both files are read here, once. Opens no socket.
    ///
    /// # Errors
    /// `resolv.conf` is needed and cannot be understood; the text names the file and the reason.
    pub(in crate::discovery) fn new(
        dns: &Dns,
        files: &SystemFiles,
        series: &Arc<DnsSeries>,
    ) -> Result<Self, String> {
        let hosts = files.hosts();
        let from = if dns.servers.is_empty() {
            files.resolv_conf()?
        } else {
            let (search, options) = (Search::default(), ResolverOpts::default());
            ResolvConf { servers: dns.servers.clone(), search, options }
        };
        let server = |address: &SocketAddr| Server::new(*address, from.options.clone(), dns.timeout);
        let servers = from.servers.iter().map(server);
        Ok(Self(Arc::new(Inner {
            servers: servers.collect::<Result<_, _>>()?,
            preferred: AtomicUsize::new(0),
            search: from.search,
            searches: dns.servers.is_empty(),
            hosts,
            timeout: dns.timeout,
            series: series.clone(),
        })))
    }

    /// What its questions count with.
    pub(in crate::discovery) fn series(&self) -> &Arc<DnsSeries> {
        &self.0.series
    }

    /// What to ask for when a configuration or an SRV record names `host`. Names that can only mean the same are
    /// written alike.
    pub(in crate::discovery) fn question(&self, host: &str, kind: Kind) -> Question {
        let mut host = host.to_ascii_lowercase();
        if !self.0.searches && !host.ends_with('.') {
            host.push('.');
        }
        Question { host, kind }
    }

    /// Who is asked.
    pub(in crate::discovery) fn servers(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.servers.iter().map(|server| server.address)
    }

    /// What the hosts file says about `host`.
    pub(in crate::discovery) fn hosts_file_entry(&self, host: &str) -> Option<Answer> {
        self.0.hosts.entry(host)
    }

    /// All that is asked for, within the configured timeout. A family that was `silent` the last time is not waited
    /// for.
    pub(in crate::discovery) async fn lookup(
        &self,
        question: &Question,
        silent: Option<Family>,
    ) -> Result<Found, Unanswered> {
        let host = question.host.as_str();
        let shown = host.trim_end_matches('.');
        let names = self.0.search.candidates(host).map_err(|e| {
            let cause = Cause::other(format!("not a DNS name: {e}"));
            Unanswered { failure: cause.into_failure(shown, &[]), negative_ttl: None }
        })?;
        if question.kind == Kind::Addresses
            && let Some(answer) = self.hosts_file_entry(host).or_else(|| loopback(&names))
        {
            return Ok(answer.into());
        }
        let mut tried = Vec::new();
        self.0.search(&names, question.kind, silent, &mut tried).await.map_err(|cause| Unanswered {
            negative_ttl: cause.negative_ttl,
            failure: cause.into_failure(shown, &tried),
        })
    }
}

impl Inner {
    /// The first of `names` that has what is asked for. Only "there is none" moves on to the next name: after a
    /// server's failure, the next name's records could be another service's.
    async fn search(
        self: &Arc<Self>,
        names: &[Name],
        kind: Kind,
        silent: Option<Family>,
        tried: &mut Vec<String>,
    ) -> Result<Found, Cause> {
        let deadline = Instant::now() + self.timeout;
        let mut none: Option<Cause> = None;
        for name in names {
            tried.push(name.to_string().trim_end_matches('.').to_owned());
            let result = match kind {
                Kind::Addresses => self.addresses(name, silent, deadline).await,
                Kind::Targets => self.records(name, RecordType::SRV, deadline).await.map(Found::from),
            };
            let cause = match result {
                Ok(found) => return Ok(found),
                Err(cause) => none.take().map_or(cause.clone(), |earlier| earlier.or(cause)),
            };
            if !cause.is_negative() {
                return Err(cause);
            }
            none = Some(cause);
        }
        Err(none.unwrap_or_else(|| Cause::other("there is nothing to ask for")))
    }

    /// Both families of one name; one of them suffices.
    async fn addresses(
        self: &Arc<Self>,
        name: &Name,
        silent: Option<Family>,
        deadline: Instant,
    ) -> Result<Found, Cause> {
        if let Some(family) = silent
            && let Ok(answer) = self.part(name, family.other(), deadline).await
        {
            return Ok(Found::without(answer, Late { family, part: self.part(name, family, deadline) }));
        }
        let mut ipv4 = self.part(name, Family::V4, deadline);
        let mut ipv6 = self.part(name, Family::V6, deadline);
        let (first, second) = tokio::select! {
            first = &mut ipv4 => (first, Late { family: Family::V6, part: ipv6 }),
            first = &mut ipv6 => (first, Late { family: Family::V4, part: ipv4 }),
        };
        second.complete(first).await
    }

    /// What `name` has of `family`.
    fn part(self: &Arc<Self>, name: &Name, family: Family, deadline: Instant) -> Part {
        let (resolver, name) = (self.clone(), name.clone());
        let record_type = match family {
            Family::V4 => RecordType::A,
            Family::V6 => RecordType::AAAA,
        };
        Box::pin(async move { resolver.records(&name, record_type, deadline).await })
    }

    /// One server; counted unless nobody waits for it any more.
    async fn ask(
        &self,
        server: usize,
        name: &Name,
        record_type: RecordType,
        deadline: Instant,
    ) -> Result<Answer, Cause> {
        let begun = Instant::now();
        let asked = self.servers[server].ask(name, record_type, deadline, self.timeout).await;
        self.series.query(result_of(&asked), begun.elapsed());
        asked
    }

    /// Records of one type of one name: the servers in turn, from the preferred one, until one answers either way.
    /// Each gets an equal share of the time that is left before the next is asked as well; what is asked may still
    /// answer, so that a server which is merely slow has all the time there is.
    async fn records(
        &self,
        name: &Name,
        record_type: RecordType,
        deadline: Instant,
    ) -> Result<Answer, Cause> {
        let count = self.servers.len();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut asked = Asked::default();
        for turn in 0..count {
            let index = (first + turn) % count;
            let asking = self.ask(index, name, record_type, deadline);
            asked.running.push((index, Box::pin(asking)));
            let left = deadline.saturating_duration_since(Instant::now());
            let share = Instant::now() + left / u32::try_from(count - turn).unwrap_or(u32::MAX);
            if let Ok(Some((index, result))) = timeout_at(share, asked.next_told(1)).await {
                self.preferred.store(index, Ordering::Relaxed);
                return result;
            }
        }
        match asked.next_told(usize::MAX).await {
            Some((index, result)) => {
                self.preferred.store(index, Ordering::Relaxed);
                result
            }
            None => Err(asked.failed.unwrap_or_else(|| Cause::other("no DNS server is configured"))),
        }
    }
}

/// As metrics call what became of a question.
fn result_of(asked: &Result<Answer, Cause>) -> &'static str {
    match asked.as_ref().map_err(|cause| cause.kind) {
        Ok(_) => "answered",
        Err(NoSuchName) => "no_such_name",
        Err(FailureKind::NoRecords) => "no_records",
        Err(FailureKind::Timeout) => "timeout",
        Err(FailureKind::Refused) => "refused",
        Err(FailureKind::ServFail) => "server_failure",
        Err(FailureKind::BadFile | FailureKind::Other) => "error",
    }
}

/// A server that is being asked, by its number.
type Asking<'a> = (usize, Pin<Box<dyn Future<Output = Result<Answer, Cause>> + 'a>>);

/// The servers that are being asked, and what those have met that could not answer.
#[derive(Default)]
struct Asked<'a> {
    running: Vec<Asking<'a>>,
    failed: Option<Cause>,
}

impl Asked<'_> {
    /// The first to say something, be it that there is nothing. None: `most` of them have failed, or all.
    async fn next_told(&mut self, most: usize) -> Option<(usize, Result<Answer, Cause>)> {
        for _ in 0..most {
            if self.running.is_empty() {
                return None;
            }
            let (index, result) = std::future::poll_fn(|context| self.poll_ended(context)).await;
            match result {
                Err(cause) if !cause.is_negative() => {
                    self.failed = Some(self.failed.take().map_or(cause.clone(), |earlier| earlier.or(cause)));
                }
                told => return Some((index, told)),
            }
        }
        None
    }

    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<(usize, Result<Answer, Cause>)> {
        for at in 0..self.running.len() {
            if let Poll::Ready(result) = self.running[at].1.as_mut().poll(context) {
                return Poll::Ready((self.running.swap_remove(at).0, result));
            }
        }
        Poll::Pending
    }
}

impl From<Answer> for Found {
    fn from(answer: Answer) -> Self {
        Self { answer, late: None }
    }
}

impl Found {
    fn without(answer: Answer, late: Late) -> Self {
        Self { answer: answer.without(late.family), late: Some(late) }
    }
}

impl Late {
    /// Both parts of an answer, if this one does not keep `first` waiting for long.
    async fn complete(mut self, first: Result<Answer, Cause>) -> Result<Found, Cause> {
        match first {
            Ok(answer) => match timeout(RESOLUTION_DELAY, &mut self.part).await {
                Ok(Ok(other)) => Ok(answer.both(other).into()),
                Ok(Err(cause)) if cause.is_negative() => Ok(answer.into()),
                Ok(Err(_)) => Ok(answer.without(self.family).into()),
                Err(_) => Ok(Found::without(answer, self)),
            },
            // NXDOMAIN holds for every type (RFC 8020): there is nothing to wait for.
            Err(none) if none.kind == NoSuchName => Err(none),
            Err(first) => match self.part.await {
                Ok(answer) if first.is_negative() => Ok(answer.into()),
                Ok(answer) => Ok(answer.without(self.family.other()).into()),
                Err(second) if second.kind == NoSuchName => Err(second),
                Err(second) => Err(first.or(second)),
            },
        }
    }

    /// What there is of this family, as an answer that says nothing about the other. None: it is silent.
    pub(in crate::discovery) async fn answer(self) -> Option<Answer> {
        let nothing = |cause: Cause| {
            let ttl = cause.negative_ttl.unwrap_or(Duration::MAX);
            cause.is_negative().then(|| Answer::new(Vec::new(), ttl))
        };
        let answer = self.part.await.map_or_else(nothing, Some)?;
        Some(answer.without(self.family.other()))
    }
}

/// `localhost` and what is below it never go out to a server (RFC 6761, 6.3).
fn loopback(names: &[Name]) -> Option<Answer> {
    names.first().filter(|name| name.is_localhost())?;
    let addresses = [[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()];
    let found = addresses.map(|ip| (Member::Address(ip), Share::default())).to_vec();
    Some(Answer::new(found, Duration::from_secs(24 * 3600)))
}
