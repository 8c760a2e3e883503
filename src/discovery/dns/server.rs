//! One DNS server: a question, its answer, over UDP with retransmission, over TCP where an answer is truncated.
//!
//! hickory-resolver speaks DNS. Its pool of servers is given one server each: with several it takes a SERVFAIL from the
//! quickest for the answer. It drops what has another id or comes from elsewhere; what an answer means is `answer.rs`'s
//! business, and which server is asked `resolver.rs`'s.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hickory_resolver::{
    NameServerPool, PoolContext, TlsConfig,
    config::{ConnectionConfig, NameServerConfig, ResolverOpts},
    net::{
        NetError,
        runtime::TokioRuntimeProvider,
        xfer::{DnsHandle, FirstAnswer},
    },
    proto::{
        op::{DnsRequestOptions, DnsResponse, Query},
        rr::{Name, RecordType},
    },
};
use tokio::time::{Instant, timeout_at};

use super::{
    answer::{self, MAX_ALIASES, Reading, Share},
    cause::Cause,
    members::{Answer, Member},
};

/// Lookups of one server that run at once over TCP.
const MAX_ACTIVE: usize = 256;

/// One DNS server.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    dns: NameServerPool<TokioRuntimeProvider>,
    options: DnsRequestOptions,
}

impl Server {
    /// Opens no socket. Timeouts are the caller's; `timeout` only bounds what it gives up.
    pub(super) fn new(
        address: SocketAddr,
        mut options: ResolverOpts,
        timeout: Duration,
    ) -> Result<Self, String> {
        options.timeout = timeout;
        options.attempts = 0;
        options.max_active_requests = MAX_ACTIVE;
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = address.port();
            connection
        });
        let server = NameServerConfig::new(address.ip(), true, connections.to_vec());
        let mut asking = DnsRequestOptions::default();
        asking.use_edns = options.edns0;
        asking.recursion_desired = options.recursion_desired;
        let tls = TlsConfig::new().map_err(|e| format!("DNS server {address}: {e}"))?;
        let context = Arc::new(PoolContext::new(options, tls));
        let dns = NameServerPool::from_config([server], context, TokioRuntimeProvider::default());
        Ok(Self { address, dns, options: asking })
    }

    /// The records of `name`, through its aliases. `timeout` is for the message of a failure.
    pub(super) async fn ask(
        &self,
        name: &Name,
        record_type: RecordType,
        until: Instant,
        timeout: Duration,
    ) -> Result<Answer, Cause> {
        let asked = match timeout_at(until, self.follow_aliases(name, record_type, timeout)).await {
            Ok(result) => result,
            Err(_) => Err(Cause::timeout(timeout)),
        };
        asked.map_err(|cause| cause.asking([self.address]))
    }

    async fn follow_aliases(
        &self,
        name: &Name,
        record_type: RecordType,
        timeout: Duration,
    ) -> Result<Answer, Cause> {
        let mut asked = name.clone();
        let mut holds = Duration::MAX;
        for _ in 0..MAX_ALIASES {
            let response = self.query(&asked, record_type).await;
            let response = response.map_err(|error| Cause::from_error(&error, record_type, timeout))?;
            match read(&asked, record_type, &response) {
                Reading::Found(found, ttl) => return Ok(Answer::new(found, ttl.min(holds))),
                Reading::Alias(next, ttl) if !is_final(&response) => {
                    asked = next;
                    holds = holds.min(ttl);
                }
                Reading::Alias(..) | Reading::Nothing => return Err(Cause::nothing(&response, record_type)),
                Reading::Unavailable(ttl) => return Err(Cause::unavailable(ttl)),
                Reading::Loop => break,
            }
        }
        Err(Cause::other("its aliases lead nowhere"))
    }

    async fn query(&self, name: &Name, record_type: RecordType) -> Result<DnsResponse, NetError> {
        let query = Query::query(name.clone(), record_type);
        let response = self.dns.lookup(query.clone(), self.options).first_answer().await?;
        // Over UDP such an answer is dropped before, and the right one waited for; over TCP it is not looked at.
        if response.queries != [query] {
            return Err("the answer is to another question".into());
        }
        Ok(response)
    }
}

/// Whether the server has looked for the alias's target itself, and says that there is no such record.
fn is_final(response: &DnsResponse) -> bool {
    response.negative_ttl().is_some()
        || response.response_code != hickory_resolver::proto::op::ResponseCode::NoError
}

fn read(name: &Name, record_type: RecordType, response: &DnsResponse) -> Reading<Vec<(Member, Share)>> {
    match record_type {
        RecordType::SRV => answer::targets(name, &response.answers)
            .map(|found| found.into_iter().map(|(target, share)| (Member::Target(target), share)).collect()),
        _ => answer::addresses(name, record_type, &response.answers)
            .map(|found| found.into_iter().map(|ip| (Member::Address(ip), Share::default())).collect()),
    }
}
