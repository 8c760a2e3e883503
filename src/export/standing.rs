//! What is known of a collector: said in the log when it changes, and in the admin API at any time.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

/// How it goes with a collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollectorState {
    /// Nothing has been sent yet.
    Idle,
    /// It takes spans.
    Working,
    /// It does not.
    Failing,
}

/// A collector, as it is shown.
#[derive(Clone, Debug)]
pub struct Standing {
    /// How it goes.
    pub state: CollectorState,
    /// Since when it has gone so.
    pub since: SystemTime,
    /// Why it did not take spans last, if it ever did not.
    pub last_error: Option<String>,
}

/// The present [`Standing`]: written by the exporter's thread.
pub(super) struct Watched {
    url: String,
    standing: Mutex<Standing>,
}

impl Watched {
    pub(super) fn new(url: &str) -> Self {
        let standing = Standing { state: CollectorState::Idle, since: SystemTime::now(), last_error: None };
        Self { url: url.to_owned(), standing: Mutex::new(standing) }
    }

    pub(super) fn get(&self) -> Standing {
        self.lock().clone()
    }

    /// It has taken spans.
    pub(super) fn works(&self) {
        let before = self.change(CollectorState::Working);
        if before == CollectorState::Failing {
            tracing::info!(collector = self.url, "the collector takes spans again");
        }
    }

    /// It has not taken spans.
    pub(super) fn fails(&self, error: &str) {
        let before = self.change(CollectorState::Failing);
        let same = self.lock().last_error.replace(error.to_owned()).as_deref() == Some(error);
        if before != CollectorState::Failing {
            tracing::warn!(
                collector = self.url,
                error,
                "spans cannot be sent (tracing.otlp); they are kept for a while, then dropped"
            );
        } else if !same {
            tracing::debug!(collector = self.url, error, "spans still cannot be sent");
        }
    }

    fn change(&self, to: CollectorState) -> CollectorState {
        let mut standing = self.lock();
        let before = standing.state;
        if before != to {
            (standing.state, standing.since) = (to, SystemTime::now());
        }
        before
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
