//! One endpoint's gate: usable, ejected for a while because its requests fail, or unwell by its health checks.
//!
//! # Two reasons, one word
//! Whether it is ejected and whether its checks fail are told apart, and stand in one atomic, so that every change is one step
//! and the ward's counts are exact. Both must agree that it is well: an endpoint whose `/healthz` works while its requests fail
//! stays ejected, and no request goes to one that is unwell, not even as a probe.
//!
//! # What ejects
//! Failures in a row, over all workers; and, where the policy says so, a window in which too small a share of its requests
//! succeeded. The share is looked at when a request fails, and begins anew when the endpoint returns.
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
    sync::{
        OnceLock,
        atomic::{
            AtomicU8, AtomicU32, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use super::{
    sign::{Sign, Why},
    ward::Ward,
    window::Window,
};
use crate::config::Ejection;

/// It may be used.
const USABLE: u64 = 0;
/// In the highest bit: its health checks fail.
const UNWELL: u64 = 1 << 63;
/// In place of all: its service does not have it any more.
const LEFT: u64 = u64::MAX;
/// Milliseconds after which a probe that has said nothing does not keep others away.
const PATIENCE: u64 = 10_000;

/// Whether one endpoint may be used.
#[derive(Debug, Default)]
pub struct Gate {
    /// From when an ejected endpoint may be probed, and [`UNWELL`]; else [`USABLE`] or [`LEFT`].
    state: AtomicU64,
    /// Failures since the last success, over all workers.
    failures: AtomicU32,
    /// Ejections since it was last usable for long.
    ejections: AtomicU32,
    /// Until when the running probe has the place for itself; 0 without one.
    probe: AtomicU64,
    /// When it last became usable again.
    returned: AtomicU64,
    /// When it was last ejected.
    since: AtomicU64,
    /// Why it was last ejected: a [`Why`].
    why: AtomicU8,
    /// How its requests ended of late; made when a policy first wants to know.
    window: OnceLock<Box<Window>>,
}

/// An ejection that lasts. Moments are as those of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejected {
    /// What began it.
    pub why: Why,
    /// When it began.
    pub since: u64,
    /// From when a request may try the endpoint.
    pub until: u64,
    /// How many there were without a long time between them, failed probes included; this one is the last.
    pub times: u32,
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
    Ejected(Duration, Why),
    /// Its probe failed: it stays ejected for this long.
    Prolonged(Duration),
    /// It is usable again.
    Returned,
}

impl Gate {
    /// Whether requests may go to it.
    #[inline]
    pub fn is_usable(&self) -> bool {
        matches!(self.state.load(Acquire), USABLE | LEFT)
    }

    /// Whether its health checks fail.
    pub fn is_unwell(&self) -> bool {
        let state = self.state.load(Acquire);
        state != LEFT && state & UNWELL != 0
    }

    /// Whether it is ejected and the time for a probe has come.
    pub fn is_due(&self, now: u64) -> bool {
        self.next_probe().is_some_and(|next| next <= now)
    }

    /// Whether a probe of it is running.
    pub fn is_probed(&self, now: u64) -> bool {
        moment(self.state.load(Acquire)).is_some() && self.probe.load(Acquire) > now
    }

    /// When it may be probed next, in milliseconds; None while it is not ejected, and while it is unwell.
    pub fn next_probe(&self) -> Option<u64> {
        let state = self.state.load(Acquire);
        let until = moment(state).filter(|_| state & UNWELL == 0)?;
        Some(until.max(self.probe.load(Acquire)))
    }

    /// The ejection that lasts.
    pub fn ejected(&self) -> Option<Ejected> {
        let until = moment(self.state.load(Acquire))?.max(self.probe.load(Acquire));
        let (since, times) = (self.since.load(Relaxed), self.ejections.load(Relaxed));
        Some(Ejected { why: Why::unpack(self.why.load(Relaxed)), since, until, times })
    }

    /// Takes the place of the only probe, if that is due. To be given back by [`Gate::report`] or [`Gate::release`].
    pub fn try_probe(&self, now: u64) -> Option<Admission> {
        let held = self.probe.load(Acquire);
        if self.next_probe()? > now {
            return None;
        }
        let mine = now + PATIENCE;
        self.probe.compare_exchange(held, mine, AcqRel, Relaxed).ok()?;
        // Between the two looks it may have become usable or unwell, or been ejected anew.
        let state = self.state.load(Acquire);
        if state & UNWELL != 0 || moment(state).is_none_or(|until| until > now) {
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
        (sign, admission): (Sign, Admission),
        now: u64,
        random: impl FnOnce() -> u64,
    ) -> Option<Change> {
        match (sign, admission) {
            (Sign::Good, Admission::Usable) => {
                // Nearly always so: a line that all workers read is not written.
                if self.failures.load(Relaxed) != 0 {
                    self.failures.store(0, Relaxed);
                }
                if policy.success_percent > 0 {
                    self.window().count(now, policy.window, false);
                }
                None
            }
            // It has too much to do, and is alive: a probe asks no more.
            (Sign::Busy, Admission::Usable) => None,
            (Sign::Good | Sign::Busy, _) => self.readmit(ward, admission, now),
            (Sign::None, _) => {
                self.release(ward, admission, now);
                None
            }
            (_, Admission::Probe(mine)) => self.prolong((ward, policy), (sign, mine), now, random),
            _ => self.fail((ward, policy), sign, now, random),
        }
    }

    fn window(&self) -> &Window {
        self.window.get_or_init(Box::default)
    }

    #[cold]
    fn fail(
        &self,
        (ward, policy): (&Ward, &Ejection),
        sign: Sign,
        now: u64,
        random: impl FnOnce() -> u64,
    ) -> Option<Change> {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        let in_a_row = policy.consecutive_failures > 0 && failures >= policy.consecutive_failures;
        let by_share = policy.success_percent > 0 && {
            self.window().count(now, policy.window, true);
            self.window().tally(now, policy.window).is_below(policy.success_percent, policy.min_requests)
        };
        let why = match sign {
            _ if !in_a_row && !by_share => return None,
            Sign::Slow => Why::Latency,
            _ if in_a_row => Why::ConsecutiveFailures,
            _ => Why::SuccessRate,
        };
        self.eject((ward, policy), why, now, random)
    }

    fn eject(
        &self,
        (ward, policy): (&Ward, &Ejection),
        why: Why,
        now: u64,
        random: impl FnOnce() -> u64,
    ) -> Option<Change> {
        if self.state.load(Acquire) != USABLE || !ward.take_place() {
            return None;
        }
        let quiet = now.saturating_sub(self.returned.load(Relaxed)) > millis(policy.longest);
        let before = if quiet { 0 } else { self.ejections.load(Relaxed) };
        let delay = delay(policy, before, random());
        ward.closes();
        if self.state.compare_exchange(USABLE, now + delay, AcqRel, Relaxed).is_err() {
            ward.opens();
            ward.give_back_place();
            return None;
        }
        self.ejections.store(before.saturating_add(1), Relaxed);
        self.since.store(now, Relaxed);
        self.why.store(why.pack(), Relaxed);
        ward.changed();
        ward.probe_at(now + delay);
        Some(Change::Ejected(Duration::from_millis(delay), why))
    }

    /// After a probe that failed. The place is free only when the next probe has its moment.
    #[cold]
    fn prolong(
        &self,
        (ward, policy): (&Ward, &Ejection),
        (sign, mine): (Sign, u64),
        now: u64,
        random: impl FnOnce() -> u64,
    ) -> Option<Change> {
        let until = moment(self.state.load(Acquire));
        let still_mine = self.probe.load(Acquire) == mine;
        if until.is_none() || !still_mine {
            self.free(mine);
            return self.fail((ward, policy), sign, now, random);
        }
        let before = self.ejections.load(Relaxed);
        let delay = delay(policy, before, random());
        let later = |state: u64| (moment(state) == until).then_some(now + delay | state & UNWELL);
        let prolonged = self.state.fetch_update(AcqRel, Relaxed, later).is_ok();
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
        let returns = self.open(ward);
        if returns {
            self.returned.store(now, Relaxed);
        }
        if let Admission::Probe(mine) = admission {
            self.free(mine);
        }
        (returns && self.is_usable()).then_some(Change::Returned)
    }

    /// Ends its ejection, whatever its requests say. Says whether it was ejected.
    pub(super) fn open(&self, ward: &Ward) -> bool {
        self.failures.store(0, Relaxed);
        if let Some(window) = self.window.get() {
            window.clear();
        }
        let end = |state: u64| moment(state).map(|_| state & UNWELL);
        let Ok(before) = self.state.fetch_update(AcqRel, Relaxed, end) else { return false };
        ward.give_back_place();
        if before & UNWELL == 0 {
            ward.opens();
            ward.changed();
        }
        true
    }

    /// Its health checks fail: it gets no request. Says whether that is news.
    pub fn mark_unwell(&self, ward: &Ward) -> bool {
        ward.closes();
        let mark = |state: u64| (state & UNWELL == 0).then_some(state | UNWELL);
        let before = self.state.fetch_update(AcqRel, Relaxed, mark);
        match before {
            Ok(USABLE) => ward.changed(),
            // It was closed already.
            _ => ward.opens(),
        }
        before.is_ok()
    }

    /// Its health checks say nothing against it. Says whether that is news.
    pub fn mark_well(&self, ward: &Ward) -> bool {
        let unmark = |state: u64| (state != LEFT && state & UNWELL != 0).then_some(state & !UNWELL);
        match self.state.fetch_update(AcqRel, Relaxed, unmark).map(moment) {
            // It was ejected meanwhile, and may be probed again.
            Ok(Some(until)) => ward.probe_at(until),
            Ok(None) => {
                ward.opens();
                ward.changed();
            }
            Err(_) => return false,
        }
        true
    }

    /// Its service does not have it any more: it is neither ejected nor unwell again.
    pub fn leave(&self, ward: &Ward) {
        let before = self.state.swap(LEFT, AcqRel);
        if moment(before).is_some() {
            ward.give_back_place();
        }
        if !matches!(before, USABLE | LEFT) {
            ward.opens();
            ward.changed();
        }
    }

    /// Its service has it again, and knows nothing against it. Says whether it had left.
    pub fn rejoin(&self) -> bool {
        let had_left = self.state.compare_exchange(LEFT, USABLE, AcqRel, Relaxed).is_ok();
        if had_left {
            self.failures.store(0, Relaxed);
            self.ejections.store(0, Relaxed);
            self.probe.store(0, Release);
            if let Some(window) = self.window.get() {
                window.clear();
            }
        }
        had_left
    }
}

/// From when an ejected endpoint may be probed; None for one that is not ejected.
fn moment(state: u64) -> Option<u64> {
    let moment = state & !UNWELL;
    (state != LEFT && moment != 0).then_some(moment)
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
