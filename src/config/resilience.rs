//! Configuration as meant: what keeps calls alive when callees fail: retries, hedging, failover, limits, health checks, faults.

use std::time::Duration;

use super::checked::{Match, Name};

/// Which requests are tried again, how often, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// What makes an attempt one that is repeated.
    pub on: RetryOn,
    /// Attempts of a request at most, the first included. Default 3.
    pub attempts: u32,
    /// Of requests that may be repeated; upper case, sorted. Default: the idempotent ones (RFC 9110 9.2.2).
    pub methods: Vec<String>,
    /// The shortest wait before a repetition. Default 25 ms.
    pub backoff_first: Duration,
    /// The longest wait; never less than the shortest. Default 250 ms.
    pub backoff_longest: Duration,
    /// Bytes of a request's body that are kept for a repetition. Default 64 KiB.
    pub body_limit: usize,
}

/// What makes an attempt one that is repeated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryOn {
    /// No connection could be made.
    pub connect_failure: bool,
    /// The connection or stream broke before the response's head.
    pub reset: bool,
    /// An attempt met its own time limit (`attempt_timeout`, `head_timeout`).
    pub timeout: bool,
    /// A status from 500 to 599, or no response at all.
    pub server_error: bool,
    /// 502, 503, 504, or no response at all.
    pub gateway_error: bool,
    /// These statuses as well; sorted.
    pub statuses: Vec<u16>,
    /// gRPC codes, as bits: `1 << code`.
    pub grpc: u32,
}

/// When a second attempt is made beside the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hedge {
    /// After this long without a response.
    After(Duration),
    /// After as long as this share of the service's responses takes (50-99).
    Percentile(u8),
}

/// What a route does to requests on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Requests are delayed by a time between these, the ends included.
    pub delay: Option<(Duration, Duration)>,
    /// The share that is delayed.
    pub delay_share: Share,
    /// Requests are answered so instead of being forwarded.
    pub abort: Option<Abort>,
    /// The share that is aborted.
    pub abort_share: Share,
    /// Only requests that match any of these; all of the route's when empty.
    pub matches: Vec<Match>,
}

/// How a request is aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    /// With this HTTP status.
    Status(u16),
    /// With this gRPC code (to a caller that does not speak gRPC: 503).
    Grpc(u8),
    /// By breaking the connection (HTTP/1.1) or the stream (HTTP/2).
    Reset,
}

/// A share of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// In parts of a million.
    pub ppm: u32,
}

impl Share {
    /// Whether a request is part of it; `random` is uniform over all 64-bit numbers.
    pub fn holds(self, random: u64) -> bool {
        ((u128::from(random) * 1_000_000) >> 64) < u128::from(self.ppm)
    }
}

/// Who goes first when there is not enough for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// The first to be refused.
    Low,
    /// The usual one.
    #[default]
    Normal,
    /// The last to be refused.
    High,
}

/// Services that stand in for a route's backends, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failover {
    /// Keys of `Config::services`; none by default.
    pub services: Vec<Name>,
    /// A backend has to have been able to take requests for so long before they come back to it. Default 10 s.
    pub back_after: Duration,
}

/// How many requests may run at a time, and wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Concurrency {
    /// Requests that run at most. Never 0.
    pub max_requests: u32,
    /// Requests that wait for a place at most.
    pub max_pending: u32,
    /// How long one waits.
    pub pending_timeout: Duration,
    /// The limit follows latency, up to `max_requests`.
    pub adaptive: bool,
}

/// How much one service may have of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Breaker {
    /// Connections to its endpoints, over all workers. Never 0.
    pub max_connections: u32,
    /// Its requests.
    pub requests: Concurrency,
}

/// How many repetitions a service's requests may cause (Finagle's `RetryBudget`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RetryBudget {
    /// Of the requests of the last ten seconds, in percent. Default 20.
    pub percent: u32,
    /// And besides, per second. Default 10.
    pub min_per_second: u32,
}

/// When failing endpoints get no requests, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ejection {
    /// Failed attempts in a row that eject an endpoint; 0: none do. Default 5.
    pub consecutive_failures: u32,
    /// Less than this share (0-100) of successes within the window ejects an endpoint; 0, the default: none does.
    pub success_percent: u8,
    /// Over which the share of successes is taken. Default 10 s.
    pub window: Duration,
    /// Attempts within the window before the share counts. Default 20.
    pub min_requests: u32,
    /// An answer whose head takes longer counts as a failure.
    pub max_latency: Option<Duration>,
    /// Of a first ejection. Default 5 s.
    pub first: Duration,
    /// Of an ejection that follows many others; never less than the first. Default 5 min.
    pub longest: Duration,
    /// Share of the endpoints (0-100) that may be ejected at a time, rounded down. Default 50.
    pub max_percent: u8,
}

impl Ejection {
    /// Of nothing at all.
    pub const NEVER: Self = Self {
        consecutive_failures: 0,
        success_percent: 0,
        window: Duration::ZERO,
        min_requests: 0,
        max_latency: None,
        first: Duration::ZERO,
        longest: Duration::ZERO,
        max_percent: 0,
    };

    /// The share of the endpoints that may be ejected at a time.
    pub fn share(&self) -> u8 {
        if self.consecutive_failures == 0 && self.success_percent == 0 { 0 } else { self.max_percent }
    }
}

/// How the prober finds out whether an endpoint is well.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: HealthProbe,
    /// From one probe to the next, give or take a tenth. Default 5 s.
    pub interval: Duration,
    /// Of one probe, connecting included. Default 1 s.
    pub timeout: Duration,
    /// Passes in a row that make an unhealthy endpoint healthy. Default 2.
    pub healthy: u32,
    /// Failures in a row that make a healthy endpoint unhealthy. Default 3.
    pub unhealthy: u32,
    /// In place of the endpoint's own port.
    pub port: Option<u16>,
    /// A new endpoint gets no request before its first pass. Default: it does.
    pub first_pass: bool,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HealthProbe {
    /// `GET path`; one of these statuses is expected.
    Http {
        /// With query, if there is one.
        path: String,
        /// `Host`; the endpoint's address by default.
        host: Option<String>,
        /// Sorted; never empty.
        expect: Vec<u16>,
    },
    /// Whether a connection can be made.
    Tcp,
    /// `grpc.health.v1.Health/Check` of this service; empty: of the server as a whole.
    Grpc(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_holds_in_proportion_and_its_ends_are_exact() {
        let share = |ppm| Share { ppm };
        assert!(!share(0).holds(0));
        assert!(share(1_000_000).holds(u64::MAX));
        let mut random = fastrand::Rng::with_seed(3);
        let held = (0..100_000).filter(|_| share(5_000).holds(random.u64(..))).count();
        assert!((400..600).contains(&held), "{held}");
    }
}
