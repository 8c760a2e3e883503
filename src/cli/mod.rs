//! The command line.
//!
//! `args.rs` is what can be typed, `dispatch.rs` who does it and what the exit status says; `check.rs` and `file.rs` hold the
//! commands that need only a file, `run.rs` the daemon, `remote.rs` those that speak to a running daemon (by the way of
//! `way.rs`, through `http_client.rs`, shown by `table.rs`), `tap.rs` and `top.rs` those that go on (`figures.rs` reads metrics, `terminal.rs` is the screen), `ca/` certificates for development, `demo/` the demonstration.

mod args;
mod ca;
mod check;
mod demo;
mod dispatch;
mod figures;
mod file;
mod http_client;
mod outcome;
mod remote;
mod run;
mod table;
mod tap;
mod terminal;
mod top;
mod way;

pub use dispatch::main;
