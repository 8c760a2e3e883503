//! What signals mean: SIGHUP reloads; SIGUSR1 opens the access log again; SIGTERM and SIGINT drain, a second one exits at once.

use std::io;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
};

use crate::{
    drain::{Phase, Trigger},
    published::Published,
    snapshot::{ReloadRequest, Snapshot},
};

/// What a process that is told to exit at once says: it failed while running.
const EXIT_AT_ONCE: i32 = 1;

/// The signals of this process.
pub struct Signals {
    hangup: Signal,
    rotated: Signal,
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
            rotated: signal(SignalKind::user_defined1())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Obeys them for ever.
    pub async fn obey(
        mut self,
        reload: mpsc::UnboundedSender<ReloadRequest>,
        node: Trigger,
        snapshot: Published<Snapshot>,
    ) {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => {
                    // The outcome is logged where the reload happens.
                    let (reply, _) = oneshot::channel();
                    let _ = reload.send(ReloadRequest { text: None, reply });
                }
                _ = self.rotated.recv() => reopen(&snapshot.get()),
                _ = self.terminate.recv() => stop(&node),
                _ = self.interrupt.recv() => stop(&node),
            }
        }
    }
}

fn reopen(snapshot: &Snapshot) {
    match &snapshot.observers.access_log {
        Some(log) => log.reopen(),
        None => tracing::info!("told to open the access log again (SIGUSR1), but there is none"),
    }
}

fn stop(node: &Trigger) {
    if node.phase() != Phase::Running {
        tracing::warn!("told to stop a second time: exiting at once");
        std::process::exit(EXIT_AT_ONCE);
    }
    node.advance(Phase::Draining);
}
