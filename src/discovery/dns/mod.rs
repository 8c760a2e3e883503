//! Names: what they stand for, for how long, and what stands when no answer comes.
//!
//! From the outside in: `names.rs` are all names that are followed, each once; `srv.rs` a service of SRV records on top of them;
//! `standing.rs` what is known of one name, with `holddown.rs` (when an address is gone), `schedule.rs` (when to ask again) and
//! `pace.rs` (how fast many start); `resolver.rs` one lookup over search list (`search.rs`), families and servers (`server.rs`);
//! `answer.rs` what a message means, `cause.rs` why there is none; `system.rs` this host's files, `reach.rs` its routes.

pub(super) mod answer;
mod cause;
mod holddown;
pub(super) mod members;
pub(super) mod names;
mod pace;
pub(super) mod reach;
pub(super) mod resolver;
pub(super) mod schedule;
mod search;
mod server;
pub(super) mod srv;
pub(super) mod standing;
pub(super) mod system;

use super::{Endpoint, Schedule, update};
