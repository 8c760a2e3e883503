//! One service's endpoints together: how many may be ejected, how many are, how many are unusable, and when the next is to be probed.
//!
//! # The maximum
//! An ejection takes a place first, out of as many as the service has. Both numbers stand in one atomic, so that no two workers
//! take the last place, nor one that a reload has just removed.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

use super::gate::{Admission, Gate};

/// In the place of a moment: nothing is to be probed.
const NEVER: u64 = u64::MAX;
/// Milliseconds until an endpoint is looked at again that is to be probed and is not wanted just now.
const UNWANTED: u64 = 1000;
/// Log lines a second at most.
const LINES: u64 = 10;

/// What a service's gates share.
#[derive(Debug)]
pub struct Ward {
    /// How many may be ejected in the upper half, how many are in the lower.
    places: AtomicU64,
    /// How many are unusable, for whatever reason. Raised before a gate closes and lowered after it has opened: never too small.
    unusable: AtomicU64,
    /// Counts the changes of which endpoints are usable.
    changes: AtomicU64,
    /// [`Self::changes`] when somebody last asked for news.
    seen: AtomicU64,
    /// Before this moment no endpoint is to be probed.
    next_probe: AtomicU64,
    /// The second of the last log line, and how many it had in the lowest byte.
    lines: AtomicU64,
}

impl Default for Ward {
    fn default() -> Self {
        let [places, unusable, changes, seen, lines] = [const { AtomicU64::new(0) }; 5];
        Self { places, unusable, changes, seen, next_probe: AtomicU64::new(NEVER), lines }
    }
}

impl Ward {
    /// How many endpoints are ejected or unwell.
    #[inline]
    pub fn unusable(&self) -> usize {
        self.unusable.load(Relaxed) as usize
    }

    /// How many endpoints are ejected.
    pub fn ejected(&self) -> usize {
        (self.places.load(Relaxed) & u64::from(u32::MAX)) as usize
    }

    /// A number that is another one whenever other endpoints are usable.
    pub fn generation(&self) -> u64 {
        self.changes.load(Acquire)
    }

    /// Whether other endpoints are usable since this was last asked.
    pub fn has_news(&self) -> bool {
        let now = self.generation();
        self.seen.swap(now, Relaxed) != now
    }

    /// Whether one more line may be logged at `now`.
    pub fn may_log(&self, now: u64) -> bool {
        let second = now / 1000;
        let next = |lines: u64| match (lines >> 8 == second, lines & 0xff) {
            (false, _) => Some(second << 8 | 1),
            (true, written) => (written < LINES).then_some(lines + 1),
        };
        self.lines.fetch_update(Relaxed, Relaxed, next).is_ok()
    }

    /// Lets at most `max_percent` of the service's endpoints be ejected, and never the only one. What is ejected above that
    /// becomes usable: those first that would be probed first.
    pub fn settle<'g>(&self, max_percent: u8, gates: impl ExactSizeIterator<Item = &'g Gate>) {
        let total = gates.len();
        let limit = if total < 2 { 0 } else { total * usize::from(max_percent) / 100 };
        let limit_now = |places: u64| Some((limit as u64) << 32 | places & u64::from(u32::MAX));
        // The function never refuses.
        let _ = self.places.fetch_update(AcqRel, Relaxed, limit_now);
        let mut ejected: Vec<_> = gates.filter_map(|gate| Some((gate.ejected()?.until, gate))).collect();
        ejected.sort_unstable_by_key(|(next, _)| *next);
        for (_, gate) in ejected.iter().take(ejected.len().saturating_sub(limit)) {
            gate.open(self);
        }
    }

    pub(super) fn take_place(&self) -> bool {
        let take = |places: u64| ((places & u64::from(u32::MAX)) < places >> 32).then_some(places + 1);
        self.places.fetch_update(AcqRel, Relaxed, take).is_ok()
    }

    pub(super) fn give_back_place(&self) {
        self.places.fetch_sub(1, AcqRel);
    }

    /// A gate is about to close.
    pub(super) fn closes(&self) {
        self.unusable.fetch_add(1, AcqRel);
    }

    /// A gate has opened, or was closed already.
    pub(super) fn opens(&self) {
        self.unusable.fetch_sub(1, AcqRel);
    }

    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, AcqRel);
    }

    /// An endpoint is to be probed at this moment.
    pub(super) fn probe_at(&self, moment: u64) {
        self.next_probe.fetch_min(moment, AcqRel);
    }

    /// Notes again when the first of these endpoints is to be probed. A look with an older set of endpoints loses the moments of
    /// those that it lacks; to be called about once a second.
    pub fn note_probes<'g>(&self, gates: impl Iterator<Item = &'g Gate>) {
        if self.ejected() > 0
            && let Some(first) = gates.filter_map(Gate::next_probe).min()
        {
            self.probe_at(first);
        }
    }

    /// Takes the place of a probe at one of the endpoints that are to be probed now. `wanted` says of which endpoints it may
    /// be, by their numbers. Looks at the endpoints only when there is something to be found.
    pub fn probe<'g>(
        &self,
        now: u64,
        gates: impl Iterator<Item = &'g Gate>,
        wanted: impl Fn(usize) -> bool,
    ) -> Option<(usize, Admission)> {
        let due = self.next_probe.load(Acquire);
        // First the moment goes, then the gates are read: what is ejected meanwhile sets it again.
        if due > now || self.next_probe.compare_exchange(due, NEVER, AcqRel, Relaxed).is_err() {
            return None;
        }
        let mut found = None;
        for (number, gate) in gates.enumerate() {
            let Some(mut next) = gate.next_probe() else { continue };
            if next <= now && !wanted(number) {
                next = now + UNWANTED;
            } else if next <= now && found.is_none() {
                found = gate.try_probe(now).map(|admission| (number, admission));
                next = gate.next_probe().unwrap_or(NEVER);
            }
            self.probe_at(next);
        }
        found
    }
}
