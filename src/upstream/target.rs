//! What a connection is made to.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::secure::Secure;
use crate::{limit::Connections, telemetry::ConnectionSeries};

/// Numbers targets; never reused in a process.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// One address of one service, or of a node. Pools know it by its number, which no other target of this process ever has.
pub struct Target {
    /// Unique in this process.
    pub id: u64,
    /// Where.
    pub address: SocketAddr,
    /// None: plain.
    pub secure: Option<Secure>,
    /// Counts the connections of its service.
    pub connections: ConnectionSeries,
    /// Places for the connections of its service, over all workers.
    pub places: Arc<Connections>,
    retired: AtomicBool,
}

/// The protocol that is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

impl Target {
    /// A target that is in use.
    pub fn new(
        address: SocketAddr,
        secure: Option<Secure>,
        connections: ConnectionSeries,
        places: Arc<Connections>,
    ) -> Self {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { id, address, secure, connections, places, retired: AtomicBool::new(false) }
    }

    /// Says that no request will ask for it again: workers close its idle connections.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Takes a retirement back: the address is in use again.
    pub fn revive(&self) {
        self.retired.store(false, Ordering::Relaxed);
    }

    /// Whether it was retired.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }
}
