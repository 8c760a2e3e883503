//! Composition root: a checked configuration becomes a running node.

use std::net::SocketAddr;

use crate::net::Address;
pub use crate::snapshot::{Reloaded, Source};

/// A running node: its threads, and the handles to them.
pub struct Node {}

impl Node {
    /// Reads, checks and builds the configuration, binds every listener, starts the threads.
    ///
    /// # Errors
    /// Every problem of the configuration, or what could not be bound, a line each.
    pub fn start(_source: Source) -> Result<Self, String> {
        Err(String::new())
    }

    /// Where the listener `name` is bound, with the port that the kernel chose for port 0.
    pub fn listener(&self, _name: &str) -> Option<Address> {
        None
    }

    /// Where the admin API is bound.
    pub fn admin(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    /// Reads the source again and waits for the outcome. For a [`Source::Text`], `text` replaces it.
    ///
    /// # Errors
    /// Every problem, a line each; the old generation stays in force.
    pub fn reload(&self, _text: Option<&str>) -> Result<Reloaded, String> {
        Err(String::new())
    }

    /// Starts to drain; returns at once.
    pub fn drain(&self) {}

    /// Waits until the node has drained (see [`Node::drain`]) and its threads have ended.
    pub fn join(self) {}
}
