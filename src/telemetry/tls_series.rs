//! What TLS counts with: handshakes of a listener, certificates of a file.

use std::sync::{Arc, OnceLock};

use super::{
    family::Family,
    series::{Counter, Level},
};

/// How a handshake with a caller ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// The connection is secure.
    Made,
    /// One side refused, or went away.
    Failed,
    /// It took too long.
    Timeout,
}

/// Handshakes of one listener, each series made when it is first needed: most listeners have none.
pub struct HandshakeSeries {
    listener: Box<str>,
    family: Arc<Family>,
    by_result: [OnceLock<Counter>; 3],
}

impl HandshakeSeries {
    pub(super) fn new(listener: &str, family: Arc<Family>) -> Self {
        Self { listener: listener.into(), family, by_result: [const { OnceLock::new() }; 3] }
    }

    /// One more.
    pub fn inc(&self, result: Handshake) {
        let label = match result {
            Handshake::Made => "ok",
            Handshake::Failed => "failed",
            Handshake::Timeout => "timeout",
        };
        let counter = || self.family.counter(&[&self.listener, label]);
        self.by_result[result as usize].get_or_init(counter).inc();
    }
}

/// The certificates of one file.
pub struct CertificateSeries {
    /// Until the first of them ends; negative when it has.
    pub days: Level,
    /// 1 while what is in the file now is not what is in use.
    pub stale: Level,
}
