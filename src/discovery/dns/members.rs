//! What a name can be asked for, and what it then has.

use std::{net::IpAddr, time::Duration};

use super::{
    answer::{Share, Target},
    update::Failure,
};

/// A name, as written, and which records of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::discovery) struct Question {
    /// Lower case. With a dot at the end it is not searched for.
    pub(in crate::discovery) host: String,
    pub(in crate::discovery) kind: Kind,
}

/// Which records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::discovery) enum Kind {
    /// A and AAAA.
    Addresses,
    /// SRV.
    Targets,
}

/// What a name has: addresses or SRV targets, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::discovery) enum Member {
    Address(IpAddr),
    Target(Target),
}

/// What servers said.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::discovery) struct Answer {
    /// In no order. Empty only when it is the late part of an answer. The share is that of an SRV record.
    pub(in crate::discovery) found: Vec<(Member, Share)>,
    /// The minimum over the records.
    pub(in crate::discovery) ttl: Duration,
    /// This family was not answered: nothing is known of its addresses.
    pub(in crate::discovery) silent: Option<Family>,
}

/// Of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::discovery) enum Family {
    V4,
    V6,
}

impl Family {
    pub(in crate::discovery) fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

/// Why there is no answer, and how long that holds where a server said so.
#[derive(Clone, Debug)]
pub(in crate::discovery) struct Unanswered {
    pub(in crate::discovery) failure: Failure,
    pub(in crate::discovery) negative_ttl: Option<Duration>,
}

impl Answer {
    /// One that speaks of all that was asked for.
    pub(in crate::discovery) fn new(found: Vec<(Member, Share)>, ttl: Duration) -> Self {
        Self { found, ttl, silent: None }
    }

    /// Both families of one name.
    pub(in crate::discovery) fn both(mut self, other: Self) -> Self {
        self.found.extend(other.found);
        Self { found: self.found, ttl: self.ttl.min(other.ttl), silent: None }
    }

    /// The same, when nothing was heard of `family`.
    pub(in crate::discovery) fn without(self, family: Family) -> Self {
        Self { silent: Some(family), ..self }
    }

    /// Whether it would list `member` if the name had it.
    pub(in crate::discovery) fn covers(&self, member: &Member) -> bool {
        match (self.silent, member) {
            (Some(Family::V4), Member::Address(ip)) => !ip.is_ipv4(),
            (Some(Family::V6), Member::Address(ip)) => !ip.is_ipv6(),
            _ => true,
        }
    }
}
