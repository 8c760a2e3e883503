//! One connection: accepted, handed to a worker, its protocol found out, its requests served.
//!
//! `acceptor.rs` and `worker.rs` are the threads; `connection.rs` finds out the protocol; `http1/` and `http2.rs` speak
//! it. What a request means is left to `proxy`.

mod acceptor;
mod connection;
mod handshake;
mod http1;
mod http2;
mod identity;
mod members;
mod places;
mod timer;
mod worker;

pub use acceptor::Acceptor;
pub use worker::{WorkerHandle, WorkerSeed};
