//! What following a name reports.

use super::Endpoint;

/// What one round of queries found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// The endpoints: sorted and distinct. Of a name, never empty; a file may say that there are none.
    Endpoints(Vec<Endpoint>),
    /// There is no usable answer now: the last good one stays.
    Failed(Failure),
    /// There has been no usable answer for so long that the last good one is no longer believed.
    Expired(Failure),
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
    /// An endpoint file that cannot be read, or that says what is not understood.
    BadFile,
    /// Anything else; the message tells.
    Other,
}
