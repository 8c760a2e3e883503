//! What can go wrong between a worker and an endpoint, told apart by what the endpoint may have seen.

use std::{error::Error, fmt, io, rc::Rc, time::Duration};

use crate::http::BodyError;

/// No connection could be had.
#[derive(Clone, Debug)]
pub enum ConnectError {
    /// The kernel says why.
    Io(Rc<io::Error>),
    /// No connection, or no first word on it, within the connect timeout.
    Timeout(Duration),
    /// The TLS handshake failed, for this reason.
    Tls(String),
    /// The towpath of the endpoint's node has no connection to it, for this reason.
    Node(String),
    /// The endpoint does not speak the protocol that is configured.
    Protocol(String),
    /// There are as many connections as may be, all in use, and none became free in time.
    Full {
        /// The key that says so.
        limit: &'static str,
        /// How long the request waited.
        waited: Duration,
    },
    /// The service has lost the endpoint while the request waited: nothing was sent, another is to be chosen.
    Removed,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Timeout(after) => write!(f, "no connection within {after:?} (connect_timeout)"),
            Self::Tls(why) => write!(f, "the TLS handshake failed: {why}"),
            Self::Node(why) => write!(f, "its node says: {why}"),
            Self::Protocol(what) => f.write_str(what),
            Self::Full { limit, waited } => {
                write!(f, "no connection became free within {waited:?} ({limit}, breaker.pending_timeout)")
            }
            Self::Removed => f.write_str("it was removed while the request waited for a connection"),
        }
    }
}

impl Error for ConnectError {}

impl ConnectError {
    /// Whether it says something of the endpoint.
    pub fn is_of_endpoint(&self) -> bool {
        !matches!(self, Self::Full { .. } | Self::Removed)
    }
}

/// How much of a failed request the endpoint may have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Nothing can have been processed: the connection was closed before, or a GOAWAY excludes the stream (RFC 9113 8.7).
    /// Safe to send again whatever the method.
    Nothing,
    /// Neither: the endpoint has refused the stream, for want of room as a rule (RFC 9113 8.7). As safe, but no accident.
    Refused,
    /// A reused connection ended without a byte of response. Safe to send again when the method is idempotent
    /// (RFC 9110 9.2.2).
    Maybe,
    /// Something, or everything.
    Some,
}

/// The request could not be sent, or no response came back.
#[derive(Debug)]
pub struct SendError {
    /// How much the endpoint may have seen.
    pub sent: Sent,
    /// An earlier request had used the connection.
    pub reused: bool,
    /// Set when the cause was the caller's request, not the endpoint.
    pub caller: Option<CallerFault>,
    /// For people.
    pub message: String,
}

/// What was wrong with the caller's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerFault {
    /// It broke HTTP's framing.
    Malformed(&'static str),
    /// It stopped in the middle: the caller went away.
    Gone,
    /// It did not arrive in time.
    Timeout,
}

impl CallerFault {
    /// The fault that a request body's error stands for.
    pub fn of(error: &BodyError) -> Self {
        match error {
            BodyError::Malformed(what) => Self::Malformed(what),
            BodyError::Timeout => Self::Timeout,
            BodyError::Incomplete | BodyError::Reset(_) | BodyError::Transport(_) => Self::Gone,
        }
    }
}

impl SendError {
    pub(super) fn caller(fault: CallerFault) -> Self {
        Self {
            sent: Sent::Some,
            reused: false,
            caller: Some(fault),
            message: "the caller's body failed".to_owned(),
        }
    }

    pub(super) fn endpoint(sent: Sent, message: impl Into<String>) -> Self {
        Self { sent, reused: false, caller: None, message: message.into() }
    }
}

/// The causes of `error`, outermost first: libraries wrap what happened in what they were doing.
pub(super) fn chain<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// The whole chain in one line, without repeats.
pub(super) fn describe(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for cause in chain(error).map(ToString::to_string) {
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
    }
    text
}
