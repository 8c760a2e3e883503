//! What signals mean: SIGHUP reloads; SIGTERM and SIGINT drain, a second one exits at once.

use std::io;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
};

use crate::{
    drain::{Phase, Trigger},
    snapshot::ReloadRequest,
};

/// What a process that is told to exit at once says: it failed while running.
const EXIT_AT_ONCE: i32 = 1;

/// The signals of this process.
pub struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over, within a runtime.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn take_over() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Obeys them for ever.
    pub async fn obey(mut self, reload: mpsc::UnboundedSender<ReloadRequest>, node: Trigger) {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => {
                    // The outcome is logged where the reload happens.
                    let (reply, _) = oneshot::channel();
                    let _ = reload.send(ReloadRequest { text: None, reply });
                }
                _ = self.terminate.recv() => stop(&node),
                _ = self.interrupt.recv() => stop(&node),
            }
        }
    }
}

fn stop(node: &Trigger) {
    if node.phase() != Phase::Running {
        tracing::warn!("told to stop a second time: exiting at once");
        std::process::exit(EXIT_AT_ONCE);
    }
    node.advance(Phase::Draining);
}
