//! What a service's requests may cost in further attempts, and how long its answers take: what retries and hedges are bound by.
//!
//! There are two budgets of one size. A *requeue* is of what nobody can have processed, a *retry* of what somebody may have: a burst
//! of refused connections is not to eat what retries may use, nor the other way round.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{shared::Service, view::ServiceView};
use crate::limit::{Budget, Quantile};

/// A worker tells the others of its requests by so many.
const BATCH: u32 = 32;

/// The budgets of one service, over all workers and reloads.
pub(super) struct Budgets {
    retries: Budget,
    requeues: Budget,
}

/// Which budget an attempt beyond the first is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spend {
    /// Somebody may have processed the request.
    Retry,
    /// Nobody can have.
    Requeue,
}

impl Budgets {
    /// Those of the service that this one takes over from, or new ones.
    pub(super) fn of(previous: Option<&Service>) -> Arc<Self> {
        let now = Instant::now();
        let new = || Arc::new(Self { retries: Budget::new(now), requeues: Budget::new(now) });
        previous.map_or_else(new, |previous| previous.budgets.clone())
    }

    fn get(&self, spend: Spend) -> &Budget {
        match spend {
            Spend::Retry => &self.retries,
            Spend::Requeue => &self.requeues,
        }
    }
}

impl Service {
    /// Attempts beyond the first that a budget still allows.
    pub fn available(&self, spend: Spend) -> u64 {
        self.budgets.get(spend).available(self.policy.retry_budget)
    }

    pub(super) fn sweep_budgets(&self) {
        let now = Instant::now();
        self.budgets.retries.tick(now);
        self.budgets.requeues.tick(now);
        self.series.retry_budget.set(self.available(Spend::Retry) as f64);
    }
}

/// One worker's part in it.
#[derive(Default)]
pub(super) struct Tally {
    /// Requests that the budgets do not know of yet.
    requests: Cell<u32>,
    /// Only when a hedge goes by it.
    latency: RefCell<Option<Quantile>>,
}

impl ServiceView {
    /// One more request.
    pub fn count_request(&self) {
        let requests = self.tally.requests.get() + 1;
        self.tally.requests.set(requests);
        if requests >= BATCH {
            self.deposit();
        }
    }

    fn deposit(&self) {
        let (requests, policy) = (self.tally.requests.take(), self.service.policy.retry_budget);
        self.service.budgets.retries.deposit(requests, policy);
        self.service.budgets.requeues.deposit(requests, policy);
    }

    /// Takes a further attempt from a budget, if that has one left.
    pub fn spend(&self, spend: Spend) -> bool {
        self.deposit();
        self.service.budgets.get(spend).withdraw(self.service.policy.retry_budget)
    }

    /// An answer took so long, or at least so long.
    pub fn took(&self, time: Duration) {
        self.tally.latency.borrow_mut().get_or_insert_default().record(time);
    }

    /// At most so long took this share of the answers that [`ServiceView::took`] heard of. None before there are enough.
    pub fn quantile(&self, percent: u8) -> Option<Duration> {
        self.tally.latency.borrow_mut().as_mut()?.of(percent)
    }
}

impl Drop for ServiceView {
    /// A reload makes new views: the requests since the last batch are not lost to the budgets, which it keeps.
    fn drop(&mut self) {
        self.deposit();
    }
}
