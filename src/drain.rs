//! Shutdown as a type: a [`Trigger`] starts it, every [`Watcher`] sees it.
//!
//! Two steps, in order: *draining* (finish what runs, take nothing new) and *closed* (the deadline has passed: stop
//! now). Each listener has its own trigger, so that a reload can retire one of them while the others go on.

use tokio::sync::watch;

/// How far a shutdown has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Running,
    /// No new work; what runs may finish.
    Draining,
    /// What still runs is cut off.
    Closed,
}

/// Starts the shutdown; dropping it leaves watchers where they are.
#[derive(Clone, Debug)]
pub struct Trigger(watch::Sender<Phase>);

/// Sees the shutdown.
#[derive(Clone, Debug)]
pub struct Watcher(watch::Receiver<Phase>);

impl Trigger {
    /// A trigger that nobody watches yet.
    pub fn new() -> Self {
        Self(watch::Sender::new(Phase::Running))
    }

    /// A further watcher.
    pub fn watcher(&self) -> Watcher {
        Watcher(self.0.subscribe())
    }

    /// Moves on to `phase`; never back.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let later = phase > *now;
            *now = phase.max(*now);
            later
        });
    }

    /// How far it has come.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }
}

impl Default for Trigger {
    fn default() -> Self {
        Self::new()
    }
}

impl Watcher {
    /// How far it has come.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Returns once `phase` is reached; never when it is not and the trigger is gone.
    pub async fn reached(&mut self, phase: Phase) {
        if self.0.wait_for(|now| *now >= phase).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn watchers_see_each_step_and_it_never_goes_back() {
        let trigger = Trigger::new();
        let mut watcher = trigger.watcher();
        trigger.advance(Phase::Closed);
        trigger.advance(Phase::Draining);
        assert_eq!(trigger.phase(), Phase::Closed);
        watcher.reached(Phase::Draining).await;
    }
}
