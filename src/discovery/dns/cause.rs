//! Why a name has no addresses, in an operator's words.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use hickory_resolver::{
    net::{DnsError, NetError},
    proto::{
        op::{DnsResponse, ResponseCode},
        rr::RecordType,
    },
};

use super::update::{Failure, FailureKind};

/// Why a lookup found nothing.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cause {
    /// What happened.
    pub(super) kind: FailureKind,
    /// What happened, in words, without the servers.
    what: String,
    /// The answer's code as DNS tools print it.
    code: Option<String>,
    /// The servers that were asked.
    asked: BTreeSet<SocketAddr>,
    /// How long a negative answer holds.
    pub(super) negative_ttl: Option<Duration>,
}

impl Cause {
    fn new(kind: FailureKind, what: impl Into<String>, code: Option<String>) -> Self {
        Self { kind, what: what.into(), code, asked: BTreeSet::new(), negative_ttl: None }
    }

    /// The name exists without such records.
    fn no_records(asked_for: RecordType) -> Self {
        let what = match asked_for {
            RecordType::SRV => "no SRV records",
            _ => "no A or AAAA records",
        };
        Self::new(FailureKind::NoRecords, what, None)
    }

    /// The SRV record says that the service is not available, for so long.
    pub(super) fn unavailable(ttl: Duration) -> Self {
        let what = "the SRV record says that the service is not available (its target is \".\")";
        Self { negative_ttl: Some(ttl), ..Self::new(FailureKind::NoRecords, what, None) }
    }

    /// An answer without such records.
    pub(super) fn nothing(response: &DnsResponse, asked_for: RecordType) -> Self {
        let negative_ttl = response.negative_ttl().map(|secs| Duration::from_secs(secs.into()));
        Self { negative_ttl, ..Self::from_code(response.response_code, asked_for) }
    }

    /// Nobody answered within `timeout`.
    pub(super) fn timeout(timeout: Duration) -> Self {
        Self::new(FailureKind::Timeout, format!("no answer within {timeout:?}"), None)
    }

    /// Nobody has answered for `waited`, and that is as long as a request waits. The lookup goes on.
    pub(super) fn no_answer_yet(waited: Duration, asked: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self::new(FailureKind::Timeout, format!("no answer yet after {waited:?}"), None).asking(asked)
    }

    /// For `waited`, which is as long as a request waits, there was no place for the lookup.
    pub(super) fn not_asked_yet(waited: Duration) -> Self {
        let what = format!("not asked for yet after {waited:?}: too many other lookups are running");
        Self::new(FailureKind::Timeout, what, None)
    }

    /// `what` is none of the usual causes.
    pub(super) fn other(what: impl Into<String>) -> Self {
        Self::new(FailureKind::Other, what, None)
    }

    /// What the resolver library reported; `timeout` is what it was given.
    pub(super) fn from_error(error: &NetError, asked_for: RecordType, timeout: Duration) -> Self {
        match error {
            NetError::Timeout => Self::timeout(timeout),
            NetError::Dns(DnsError::NoRecordsFound(none)) => {
                let mut cause = Self::from_code(none.response_code, asked_for);
                cause.negative_ttl = none.negative_ttl.map(|secs| Duration::from_secs(secs.into()));
                cause
            }
            NetError::Dns(DnsError::ResponseCode(code)) => Self::from_code(*code, asked_for),
            NetError::Io(e) => Self::other(e.to_string()),
            other => Self::other(other.to_string()),
        }
    }

    fn from_code(code: ResponseCode, asked_for: RecordType) -> Self {
        match code {
            ResponseCode::NoError => Self::no_records(asked_for),
            ResponseCode::NXDomain => {
                Self::new(FailureKind::NoSuchName, "no such name", Some("NXDOMAIN".into()))
            }
            ResponseCode::ServFail => {
                Self::new(FailureKind::ServFail, "the server failed", Some("SERVFAIL".into()))
            }
            ResponseCode::Refused => {
                Self::new(FailureKind::Refused, "the server refuses", Some("REFUSED".into()))
            }
            other => Self::new(FailureKind::Other, "the server reports an error", Some(other.to_string())),
        }
    }

    /// Adds servers that were asked.
    pub(super) fn asking(mut self, servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.asked.extend(servers);
        self
    }

    /// Whether a server said that there is nothing, as opposed to not saying.
    pub(super) fn is_negative(&self) -> bool {
        matches!(self.kind, FailureKind::NoSuchName | FailureKind::NoRecords)
    }

    /// Of two queries for one name (or for two names of a search), what is to be reported: the rest of the cause that
    /// says most, having asked the servers of both.
    pub(super) fn or(self, other: Self) -> Self {
        let negative_ttl = match (self.negative_ttl, other.negative_ttl) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let (mut told, also) = if other.rank() > self.rank() { (other, self) } else { (self, other) };
        told.asked.extend(also.asked);
        told.negative_ttl = negative_ttl.filter(|_| told.is_negative());
        told
    }

    /// A failure to answer outranks an answer of "none", because the missing answer might have been another.
    fn rank(&self) -> u8 {
        match self.kind {
            FailureKind::NoSuchName => 0,
            FailureKind::NoRecords => 1,
            FailureKind::Timeout => 2,
            FailureKind::BadFile | FailureKind::Other => 3,
            FailureKind::Refused => 4,
            FailureKind::ServFail => 5,
        }
    }

    /// For `host`, which was looked up under the names `tried`.
    pub(super) fn into_failure(self, host: &str, tried: &[String]) -> Failure {
        let mut details: Vec<String> = self.code.into_iter().collect();
        if tried.len() > 1 {
            details.push(format!("tried {}", tried.join(", ")));
        }
        if !self.asked.is_empty() {
            let servers: Vec<_> = self.asked.iter().map(SocketAddr::to_string).collect();
            details.push(format!("asked {}", servers.join(", ")));
        }
        let mut message = format!("{host}: {}", self.what);
        if !details.is_empty() {
            message.push_str(&format!(" ({})", details.join(", ")));
        }
        Failure { kind: self.kind, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> [SocketAddr; 1] {
        [text.parse().unwrap()]
    }

    #[test]
    fn a_failure_names_the_host_what_happened_and_the_servers() {
        let timeout = Cause::timeout(Duration::from_secs(2));
        let cause = timeout.asking(server("10.0.0.3:53")).asking(server("10.0.0.2:53"));
        let failure = cause.into_failure("reviews.test", &["reviews.test".into()]);
        assert_eq!(failure.message, "reviews.test: no answer within 2s (asked 10.0.0.2:53, 10.0.0.3:53)");
        assert_eq!(failure.kind, FailureKind::Timeout);
    }

    #[test]
    fn a_failed_search_names_every_name_tried() {
        let cause = Cause::from_code(ResponseCode::NXDomain, RecordType::A).asking(server("10.0.0.2:53"));
        let failure = cause.into_failure("reviews", &["reviews.a".into(), "reviews".into()]);
        assert_eq!(
            failure.message,
            "reviews: no such name (NXDOMAIN, tried reviews.a, reviews, asked 10.0.0.2:53)"
        );
    }

    #[test]
    fn a_missing_answer_outranks_a_negative_one() {
        let none = Cause { negative_ttl: Some(Duration::from_secs(9)), ..Cause::no_records(RecordType::A) };
        let silent = Cause::timeout(Duration::from_secs(2));
        for cause in [none.clone().or(silent.clone()), silent.or(none)] {
            assert_eq!(cause.kind, FailureKind::Timeout);
            assert_eq!(
                cause.negative_ttl, None,
                "a negative TTL says nothing about a server that was silent"
            );
        }
    }

    #[test]
    fn the_shorter_of_two_negative_ttls_counts() {
        let of = |secs| Cause {
            negative_ttl: Some(Duration::from_secs(secs)),
            ..Cause::no_records(RecordType::A)
        };
        assert_eq!(of(9).or(of(4)).negative_ttl, Some(Duration::from_secs(4)));
    }
}
