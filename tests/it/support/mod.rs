//! What the integration tests are written with: the daemon, real peers on both sides of it, and bounded waits.

#[macro_use]
mod protocols;

pub mod backend;
pub mod body;
pub mod client;
pub mod collector;
pub mod daemon;
pub mod dns;
pub mod faulty;
pub mod frames;
pub mod grpc;
pub mod health;
pub mod issuer;
pub mod load;
#[allow(dead_code)] // until its users come
pub mod pki;
pub mod ports;
pub mod process;
pub mod raw;
pub mod secure;
pub mod wait;

pub use backend::Backend;
pub use client::{Answer, Call, Client, Speaks, call, get};
pub use daemon::Daemon;
pub use faulty::{BlackHole, Fault, Fault2, Faulty, Faulty2};
pub use process::Process;
pub use raw::{Raw, RawServer};
pub use wait::{eventually, within};
