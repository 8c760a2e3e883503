//! One endpoint's gate: usable, or ejected for a while after too many failures in a row.
//!
//! # Coming back
//! An ejected endpoint gets no request until its backoff is over. Then one request at a time goes to it as a probe: a success makes
//! it usable, a failure ejects it for twice as long. Its other requests that still run, and end while it is ejected, change
//! nothing: they say how it was. A request that is forced upon it, since all endpoints are used for want of usable ones,
//! counts when it succeeds.
//!
//! # Probes that never report
//! Whoever has a probe releases it ([`Gate::release`]) when it goes away without an outcome. One that just takes long gives
//! up its place after [`PATIENCE`], or an endpoint with one endless request would never come back.

use std::{
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
    time::Duration,
};

use super::ward::Ward;
use crate::{config::Ejection, telemetry::AttemptOutcome};

/// In place of a moment: may be used.
const USABLE: u64 = 0;
/// In place of a moment: its service does not have it any more.
const LEFT: u64 = u64::MAX;
/// Milliseconds after which a probe that has said nothing does not keep others away.
const PATIENCE: u64 = 10_000;

/// Whether one endpoint may be used.
#[derive(Debug, Default)]
pub struct Gate {
    /// From when an ejected endpoint may be probed; else [`USABLE`] or [`LEFT`].
    until: AtomicU64,
    /// Failures since the last success, over all workers.
    failures: AtomicU32,
    /// Ejections since it was last usable for long.
    ejections: AtomicU32,
    /// Until when the running probe has the place for itself; 0 without one.
    probe: AtomicU64,
    /// When it last became usable again.
    returned: AtomicU64,
}

/// By which right a request went to an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// It was usable.
    #[default]
    Usable,
    /// It was ejected, but all endpoints are used for want of usable ones.
    Forced,
    /// It was ejected, and is being probed. The number tells this probe from later ones.
    Probe(u64),
}

/// What a report made of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is ejected for this long.
    Ejected(Duration),
    /// Its probe failed: it stays ejected for this long.
    Prolonged(Duration),
    /// It is usable again.
    Returned,
}

impl Gate {
    /// Whether requests may go to it.
    #[inline]
    pub fn is_usable(&self) -> bool {
        !is_ejected(self.until.load(Acquire))
    }

    /// Whether it is ejected and the time for a probe has come.
    pub fn is_due(&self, now: u64) -> bool {
        self.next_probe().is_some_and(|next| next <= now)
    }

    /// Whether a probe of it is running.
    pub fn is_probed(&self, now: u64) -> bool {
        !self.is_usable() && self.probe.load(Acquire) > now
    }

    /// When it may be probed next, in milliseconds; None while it is usable.
    pub fn next_probe(&self) -> Option<u64> {
        let until = self.until.load(Acquire);
        is_ejected(until).then(|| until.max(self.probe.load(Acquire)))
    }

    /// Takes the place of the only probe, if that is due. To be given back by [`Gate::report`] or [`Gate::release`].
    pub fn try_probe(&self, now: u64) -> Option<Admission> {
        let held = self.probe.load(Acquire);
        if !is_ejected(self.until.load(Acquire)) || self.next_probe()? > now {
            return None;
        }
        let mine = now + PATIENCE;
        self.probe.compare_exchange(held, mine, AcqRel, Relaxed).ok()?;
        // Between the two looks it may have become usable, or been ejected anew.
        if self.until.load(Acquire) > now || self.is_usable() {
            self.free(mine);
            return None;
        }
        Some(Admission::Probe(mine))
    }

    /// Gives back the place of a probe that has no outcome; the next request may have it.
    pub fn release(&self, ward: &Ward, admission: Admission, now: u64) {
        if let Admission::Probe(mine) = admission
            && self.free(mine)
        {
            ward.probe_at(now);
        }
    }

    fn free(&self, mine: u64) -> bool {
        self.probe.compare_exchange(mine, 0, AcqRel, Relaxed).is_ok()
    }

    /// Counts how a request ended that was let in by `admission`. `random` is uniform over all 64-bit numbers.
    #[inline]
    pub fn report(
        &self,
        (ward, policy): (&Ward, &Ejection),
        (outcome, admission): (AttemptOutcome, Admission),
        now: u64,
        random: impl FnOnce() -> u64,
    ) -> Option<Change> {
        match (outcome, admission) {
            (AttemptOutcome::Success, Admission::Usable) => {
                // Nearly always so: a line that all workers read is not written.
                if self.failures.load(Relaxed) != 0 {
                    self.failures.store(0, Relaxed);
                }
                None
            }
            // It has too much to do, and is alive: a probe asks no more.
            (AttemptOutcome::Overloaded, Admission::Usable) => None,
            (AttemptOutcome::Success | AttemptOutcome::Overloaded, _) => self.readmit(ward, admission, now),
            (AttemptOutcome::Cancelled, _) => {
                self.release(ward, admission, now);
                None
            }
            (_, Admission::Probe(mine)) => self.prolong((ward, policy), mine, now, random),
            _ => self.fail((ward, policy), now, random),
        }
    }

    #[cold]
    fn fail(
        &self,
        (ward, policy): (&Ward, &Ejection),
        now: u64,
        random: impl FnOnce() -> u64,
    ) -> Option<Change> {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        let enough = policy.consecutive_failures > 0 && failures >= policy.consecutive_failures;
        if !enough || self.until.load(Acquire) != USABLE || !ward.take_place() {
            return None;
        }
        let quiet = now.saturating_sub(self.returned.load(Relaxed)) > millis(policy.longest);
        let before = if quiet { 0 } else { self.ejections.load(Relaxed) };
        let delay = delay(policy, before, random());
        if self.until.compare_exchange(USABLE, now + delay, AcqRel, Relaxed).is_err() {
            ward.give_back_place();
            return None;
        }
        self.ejections.store(before.saturating_add(1), Relaxed);
        ward.changed();
        ward.probe_at(now + delay);
        Some(Change::Ejected(Duration::from_millis(delay)))
    }

    /// After a probe that failed. The place is free only when the next probe has its moment.
    #[cold]
    fn prolong(
        &self,
        (ward, policy): (&Ward, &Ejection),
        mine: u64,
        now: u64,
        random: impl FnOnce() -> u64,
    ) -> Option<Change> {
        let until = self.until.load(Acquire);
        let still_mine = self.probe.load(Acquire) == mine;
        if !is_ejected(until) || !still_mine {
            self.free(mine);
            return self.fail((ward, policy), now, random);
        }
        let before = self.ejections.load(Relaxed);
        let delay = delay(policy, before, random());
        let prolonged = self.until.compare_exchange(until, now + delay, AcqRel, Relaxed).is_ok();
        self.free(mine);
        if !prolonged {
            return None;
        }
        self.ejections.store(before.saturating_add(1), Relaxed);
        ward.probe_at(now + delay);
        Some(Change::Prolonged(Duration::from_millis(delay)))
    }

    #[cold]
    fn readmit(&self, ward: &Ward, admission: Admission, now: u64) -> Option<Change> {
        self.returned.store(now, Relaxed);
        let was_ejected = self.open(ward);
        if let Admission::Probe(mine) = admission {
            self.free(mine);
        }
        was_ejected.then_some(Change::Returned)
    }

    /// Makes it usable again, whatever its requests say. Says whether it was ejected.
    pub(super) fn open(&self, ward: &Ward) -> bool {
        let until = self.until.load(Acquire);
        self.failures.store(0, Relaxed);
        if !is_ejected(until) || self.until.compare_exchange(until, USABLE, AcqRel, Relaxed).is_err() {
            return false;
        }
        ward.give_back_place();
        ward.changed();
        true
    }

    /// Its service does not have it any more: it is not ejected again.
    pub fn leave(&self, ward: &Ward) {
        if is_ejected(self.until.swap(LEFT, AcqRel)) {
            ward.give_back_place();
            ward.changed();
        }
    }

    /// Its service has it again, and knows nothing against it.
    pub fn rejoin(&self) {
        if self.until.compare_exchange(LEFT, USABLE, AcqRel, Relaxed).is_ok() {
            self.failures.store(0, Relaxed);
            self.ejections.store(0, Relaxed);
            self.probe.store(0, Release);
        }
    }
}

fn is_ejected(until: u64) -> bool {
    until != USABLE && until != LEFT
}

/// Twice as long after each ejection before, up to the longest; then up to a quarter more, by chance, so that nodes do not
/// probe as one. In milliseconds, at least 1.
fn delay(policy: &Ejection, before: u32, random: u64) -> u64 {
    let (first, longest) = (millis(policy.first), millis(policy.longest));
    let doubled = first.saturating_mul(1u64.checked_shl(before).unwrap_or(u64::MAX)).min(longest).max(1);
    doubled + random % (doubled / 4 + 1)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4)
}
