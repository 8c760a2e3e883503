//! The admin API: what operators, dashboards and the command line read and press.
//!
//! Runs on the control thread, never on a worker. `server.rs` says which path is answered by what, `connections.rs` accepts; `gate.rs` lets
//! requests in, by `guard.rs` (web pages) and `access.rs` (certificates and the tokens of `tokens.rs`); `status.rs`, `services.rs`, `callers.rs`, `limits.rs`, `routes.rs`, `history.rs`, `map.rs`, `reloads.rs`, `config_view.rs`, `token_view.rs`, `tracing_view.rs`, `access_log_view.rs` and `resilience_view.rs` hold the answers, `tap.rs` the stream of requests, `actions.rs` what changes the
//! node, `scrape.rs` the answer to Prometheus in the form that `accept.rs` finds, `explain.rs`, `explain_policy.rs` and `explain_text.rs` the reasons of a routing decision (the command line asks them too), `dashboard.rs` the page for people, whose files are in `dashboard/`.

mod accept;
mod access;
mod access_log_view;
mod actions;
mod callers;
mod config_view;
mod connections;
mod dashboard;
pub mod explain;
mod explain_policy;
mod explain_text;
mod gate;
mod guard;
mod history;
mod limits;
mod map;
mod reloads;
mod resilience_view;
mod routes;
mod scrape;
mod server;
mod services;
mod status;
mod tap;
mod token_view;
mod tokens;
mod tracing_view;
mod words;

pub use access::{Access, warnings};
pub use access_log_view::AccessLogState;
pub use actions::ReloadAnswer;
pub use history::{Minute, Past, Series};
pub use limits::{BreakerState, CallerLimits, CallerUse, MemoryState, RequestLimit};
pub use reloads::Reload;
pub use server::{Admin, serve};
pub use services::{EndpointState, PassedOver, ServiceState, Services};
pub use status::{AdminState, ListenerState, Status};
pub use token_view::IssuerState;
pub use tracing_view::TracingState;
