//! Follows a name for ever: look up, report, wait, again.
//!
//! Reports what each answer says. Keeping the last good answer when one fails is up to the listener.

use std::{future, net::IpAddr};

use super::{
    Resolver, Schedule,
    endpoint::{Endpoint, resolved},
    resolver::{Answer, Unanswered},
};

/// What one round of queries found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// The name's endpoints: sorted, distinct, never empty.
    Endpoints(Vec<Endpoint>),
    /// The name has no usable answer now.
    Failed(Failure),
}

/// Why a name has no usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For programs.
    pub kind: FailureKind,
    /// For operators: names the host, what happened, and the servers that were asked.
    pub message: String,
}

/// What kept a name from being resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// NXDOMAIN.
    NoSuchName,
    /// The name exists, with neither A nor AAAA records.
    NoRecords,
    /// No server answered in time.
    Timeout,
    /// The server does not serve this node or name.
    Refused,
    /// The server failed.
    ServFail,
    /// Anything else; the message tells.
    Other,
}

/// Resolves `host` for ever, with one update per answer; every endpoint gets `port`.
///
/// An IP address in place of a name is reported once. Dropping the future stops it.
pub async fn follow(
    resolver: Resolver,
    host: String,
    port: u16,
    schedule: Schedule,
    mut on_update: impl FnMut(Update),
) {
    if let Some(address) = literal(&host) {
        on_update(Update::Endpoints(resolved(&[address], port)));
        return future::pending().await;
    }
    let mut follower = Follower { host, port, schedule, state: State::Unknown };
    loop {
        let (update, delay) = match resolver.lookup(&follower.host).await {
            Ok(answer) => follower.answered(&answer),
            Err(unanswered) => follower.failed(unanswered),
        };
        on_update(update);
        tokio::time::sleep(delay).await;
    }
}

/// `host` as an IP address, in brackets or without.
fn literal(host: &str) -> Option<IpAddr> {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    inner.parse().ok()
}

/// One followed name.
struct Follower {
    host: String,
    port: u16,
    schedule: Schedule,
    state: State,
}

/// How the last round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Good,
    /// So many failures in a row.
    Failing(u32),
}

impl Follower {
    fn answered(&mut self, answer: &Answer) -> (Update, std::time::Duration) {
        let endpoints = resolved(&answer.addresses, self.port);
        if let State::Failing(failures) = self.state {
            tracing::info!(host = self.host, failures, "name resolves again");
        }
        tracing::debug!(host = self.host, ?endpoints, ttl = ?answer.ttl, "name resolved");
        self.state = State::Good;
        (Update::Endpoints(endpoints), self.schedule.after_answer(answer.ttl))
    }

    fn failed(&mut self, unanswered: Unanswered) -> (Update, std::time::Duration) {
        let failures = match self.state {
            State::Failing(before) => before.saturating_add(1),
            State::Unknown | State::Good => 1,
        };
        let message = &unanswered.failure.message;
        match failures {
            1 => tracing::warn!("cannot resolve {message}"),
            _ => tracing::debug!(failures, "still cannot resolve {message}"),
        }
        self.state = State::Failing(failures);
        let delay = self.schedule.after_failure(failures, unanswered.negative_ttl);
        (Update::Failed(unanswered.failure), delay)
    }
}
