//! What the end of an attempt says of its endpoint, and why one is ejected.

use std::time::Duration;

use crate::{config::Ejection, telemetry::AttemptOutcome};

/// What the end of an attempt says of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It works.
    Good,
    /// It answered, and took longer than `max_latency`. A failure like any other.
    Slow,
    /// It does not work.
    Bad,
    /// It works, and has too much to do: that is load, not failure.
    Busy,
    /// Nothing.
    None,
}

impl Sign {
    /// Of an attempt that ended so, after `elapsed`.
    #[inline]
    pub fn of(outcome: AttemptOutcome, elapsed: Duration, policy: &Ejection) -> Self {
        match outcome {
            AttemptOutcome::Success if policy.max_latency.is_some_and(|most| elapsed > most) => Self::Slow,
            AttemptOutcome::Success => Self::Good,
            AttemptOutcome::Overloaded => Self::Busy,
            AttemptOutcome::Cancelled => Self::None,
            AttemptOutcome::ServerError
            | AttemptOutcome::ConnectFailed
            | AttemptOutcome::Reset
            | AttemptOutcome::Timeout => Self::Bad,
        }
    }
}

/// Why an endpoint is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// So many of its requests failed one after the other.
    ConsecutiveFailures,
    /// Too small a share of its requests succeeded.
    SuccessRate,
    /// One of these two, and the last failure was an answer that took too long.
    Latency,
}

impl Why {
    /// As the log and the admin API name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::SuccessRate => "success_rate",
            Self::Latency => "latency",
        }
    }

    /// In one small number, for an atomic.
    pub(super) fn pack(self) -> u8 {
        self as u8
    }

    /// What [`Self::pack`] made.
    pub(super) fn unpack(packed: u8) -> Self {
        match packed {
            1 => Self::SuccessRate,
            2 => Self::Latency,
            _ => Self::ConsecutiveFailures,
        }
    }
}
