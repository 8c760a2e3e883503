//! The picture that requests are served by: checked configuration + previous snapshot -> snapshot; reload.
//!
//! `build.rs` is the only file that turns configuration into live objects. `view.rs` is one worker's way to them,
//! `node_limits.rs` how much the node carries, `doors.rs` the listening sockets, `host_services.rs` the services made on first use,
//! `observers.rs` who is told of requests, `rules.rs` who callers are and what they may do, `certificates.rs` looks after the certificates in use, `key_sets.rs` after the keys of issuers of tokens, `clients.rs` opens TLS towards
//! endpoints, `peer_routes.rs` are the routes of other nodes' requests, `faults.rs` and `unverified.rs` warn of what may surprise,
//! `reload.rs` is the order in which a new configuration takes force, `attempts.rs` what came of the last ones.

mod attempts;
mod build;
mod certificates;
mod clients;
mod doors;
mod faults;
mod host_services;
mod idle_rules;
mod key_sets;
mod node_limits;
mod observers;
mod peer_routes;
mod picture;
mod reload;
mod rules;
mod source;
mod unverified;
mod view;

pub use attempts::Attempts;
pub use clients::Clients;
pub use doors::{Door, DoorCommand};
pub use host_services::{HostServices, Refused};
pub use node_limits::{NodeLimits, watch_memory};
pub use observers::Observers;
pub use picture::{Authorizer, Backend, ListenerRoutes, Route, Snapshot};
pub use reload::{Attempt, ReloadRequest, Reloaded, Reloader, Seen, Wiring};
pub use rules::Rules;
pub use source::{Reader, Source};
pub use unverified::unverified;
pub use view::{BackendView, View};
