//! The demonstration: sample services, the daemon and a little traffic in one process, all on loopback.
//!
//! Everything that is shown happened: counts come from answers that were received through the proxy.
//! `show.rs` is the play, `stage.rs` what it is played with, `sample.rs` a sample service, `traffic.rs` the trickle.

mod sample;
mod show;
mod stage;
mod traffic;

pub(super) use show::demo;
