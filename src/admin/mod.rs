//! The admin API: what operators, dashboards and the command line read and press.
//!
//! Runs on the control thread, never on a worker. `server.rs` says which path is answered by what, `connections.rs` accepts; `gate.rs` lets
//! requests in, by `guard.rs` (web pages) and `access.rs` (certificates and the tokens of `tokens.rs`); `status.rs`, `services.rs`, `callers.rs`, `limits.rs`, `routes.rs`, `config_view.rs`, `token_view.rs`, `access_log_view.rs` and `resilience_view.rs` hold the answers, `tap.rs` the stream of requests, `actions.rs` what changes the
//! node, `explain.rs`, `explain_policy.rs` and `explain_text.rs` the reasons of a routing decision (the command line asks them too), `page.rs` the page for people.

mod access;
mod access_log_view;
mod actions;
mod callers;
mod config_view;
mod connections;
pub mod explain;
mod explain_policy;
mod explain_text;
mod gate;
mod guard;
mod limits;
mod page;
mod resilience_view;
mod routes;
mod server;
mod services;
mod status;
mod tap;
mod token_view;
mod tokens;
mod words;

pub use access::{Access, warnings};
pub use access_log_view::AccessLogState;
pub use actions::ReloadAnswer;
pub use limits::{BreakerState, CallerLimits, CallerUse, MemoryState, RequestLimit};
pub use server::{Admin, serve};
pub use services::{EndpointState, PassedOver, ServiceState, Services};
pub use status::{AdminState, LastReload, ListenerState, Status};
pub use token_view::IssuerState;
