//! The command line.
//!
//! `args.rs` is what can be typed, `dispatch.rs` who does it and what the exit status says; `file.rs` holds the
//! commands that need only a file, `run.rs` the daemon, `remote.rs` those that speak to a running daemon (by the way of
//! `way.rs`, through `http_client.rs`, shown by `table.rs`), `demo/` the demonstration.

mod args;
mod demo;
mod dispatch;
mod file;
mod http_client;
mod outcome;
mod remote;
mod run;
mod table;
mod way;

pub use dispatch::main;
