//! What health checks know of one endpoint. It lives with the endpoint: through reloads and answers of discovery.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{clock, endpoints::Endpoint};
use crate::{
    config::HealthCheck,
    health::{Check, ProbeResult, Seen, Status, Ward},
};

/// Empty while nobody checks the endpoint. The control thread writes it; a lock does, since no request takes it.
pub(super) struct Checked(Mutex<Option<Box<Record>>>);

struct Record {
    check: Check,
    /// By which it was made.
    policy: Option<HealthCheck>,
    last: Option<(Instant, Seen)>,
    /// When the next probe is due; at once without one.
    next: Option<Instant>,
}

/// What health checks say of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckState {
    /// `unknown`, `healthy` or `unhealthy`.
    pub status: &'static str,
    /// What the last probe saw, and how long ago; none before the first.
    pub last: Option<(String, Duration)>,
    /// How many of the last results were alike.
    pub row: u32,
}

impl Checked {
    /// Of an endpoint that its service has just got.
    pub(super) fn new(policy: Option<&HealthCheck>) -> Self {
        Self(Mutex::new(policy.map(|_| Box::new(Record::new(Status::New)))))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<Record>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The endpoint is new once more.
    pub(super) fn renew(&self, policy: Option<&HealthCheck>) {
        *self.lock() = policy.map(|_| Box::new(Record::new(Status::New)));
    }

    /// It is checked by `policy` from now on. Says when; at once without a moment.
    pub(super) fn begin(&self, policy: &HealthCheck) -> Option<Instant> {
        let mut record = self.lock();
        let record = record.get_or_insert_with(|| Box::new(Record::new(Status::Known)));
        if record.policy.as_ref().is_some_and(|before| before != policy) {
            record.check.begin_row();
            record.next = None;
        }
        record.policy = Some(policy.clone());
        record.next
    }

    /// Nobody checks it any longer.
    fn end(&self) -> bool {
        self.lock().take().is_some()
    }

    /// Takes a result in; `next` is when the next probe is due, by whether this was the first. The status, if it is another one now.
    fn observe(
        &self,
        seen: Seen,
        policy: &HealthCheck,
        next: impl FnOnce(bool) -> Instant,
    ) -> Option<Status> {
        let mut record = self.lock();
        // A probe that was under way when the checks ended.
        let record = record.as_deref_mut().filter(|record| record.policy.as_ref() == Some(policy))?;
        record.next = Some(next(record.last.is_none()));
        let change = record.check.observe(seen.result == ProbeResult::Pass, policy);
        record.last = Some((Instant::now(), seen));
        change
    }

    fn next(&self) -> Option<Instant> {
        self.lock().as_ref()?.next
    }

    fn state(&self) -> Option<CheckState> {
        let record = self.lock();
        let Record { check, last, .. } = record.as_deref()?;
        let last = last.as_ref().map(|(at, seen)| (seen.text.clone(), at.elapsed()));
        Some(CheckState { status: check.status().as_str(), last, row: check.row() })
    }
}

impl Record {
    fn new(status: Status) -> Self {
        Self { check: Check::new(status), policy: None, last: None, next: None }
    }
}

impl Endpoint {
    /// What health checks say of it; none without any.
    pub fn check_state(&self) -> Option<CheckState> {
        self.checked.state()
    }

    /// When its next probe is due; at once without a moment.
    pub(super) fn next_check(&self) -> Option<Instant> {
        self.checked.next()
    }

    /// Takes the result of a probe in.
    pub(super) fn check_result(
        &self,
        ward: &Ward,
        seen: Seen,
        policy: &HealthCheck,
        next: impl FnOnce(bool) -> Instant,
    ) {
        let text = seen.text.clone();
        match self.checked.observe(seen, policy, next) {
            Some(Status::Unhealthy) => {
                self.gate.mark_unwell(ward);
                self.tell_checks(false, &text, ward);
            }
            Some(Status::Healthy) if self.gate.mark_well(ward) => self.tell_checks(true, &text, ward),
            _ => {}
        }
    }

    /// In the metric and in the log.
    fn tell_checks(&self, well: bool, last: &str, ward: &Ward) {
        self.show_available();
        if !ward.may_log(clock::millis()) {
            return;
        }
        let (service, endpoint) = (self.series.service(), &self.address);
        if well {
            tracing::info!(service, %endpoint, last, "an endpoint passes its health checks");
        } else {
            tracing::warn!(service, %endpoint, last, "an endpoint fails its health checks and gets no requests");
        }
    }

    /// Nobody checks it any longer: nothing that was found is held against it.
    pub(super) fn end_checks(&self, ward: &Ward) {
        if self.checked.end() && self.gate.mark_well(ward) {
            self.show_available();
        }
    }
}
