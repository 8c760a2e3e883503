//! Which members a name has: what answers add counts at once, what they lack goes only after a hold-down.
//!
//! Many servers hand out a part of a name's addresses at a time, another one each time. Taking each answer for the whole
//! would close connections and open new ones without end. But a member that is really gone must not get a request later
//! than its TTL + 1 s after the change.
//!
//! # The rule
//! A member that an answer lacks is asked for again soon, and is gone when [`MISSES`] answers in a row lacked it. The
//! questions are spread over the time there is, at most [`PATIENCE`] apart. Should they fail or come late, it is gone
//! [`GRACE`] after its TTL, counted from when it was last seen.
//!
//! When a member comes back within [`ROTATION`] after it went, the name hands out a part of its members at a time. Asking
//! again soon tells nothing then, and with long TTLs would be most of the queries: the questions are spread over all of
//! the time there is, until nobody has come back for as long.
//!
//! # Edge cases
//! - An answer that was late itself (after an outage, say) does not remove at once: [`GRACE`] counts from it.
//! - An answer that says nothing about some members (the other address family was not answered) neither misses nor
//!   confirms them. They go when nothing has been heard of them for `max_stale`.
//! - What a member brings along (an SRV record's weight) counts at once.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// Answers in a row that must lack a member.
const MISSES: u32 = 3;

/// Between two questions that are asked because of a missing member, at most. Shorter than the floor of the TTL:
/// nothing else asks again as soon.
const PATIENCE: Duration = Duration::from_millis(750);

/// A missing member lives on so long after its TTL. The rest of the second that is allowed is for an answer's way
/// through the node.
const GRACE: Duration = Duration::from_millis(700);

/// Who comes back within this was not really gone.
const ROTATION: Duration = Duration::from_secs(600);

/// Members that are remembered after they went.
const MAX_GONE: usize = 4096;

/// Ahead of a deadline, so that the last answer can still come.
const MARGIN: Duration = Duration::from_millis(100);

/// The members that a name is believed to have.
#[derive(Clone, Debug)]
pub(super) struct Members<K, V> {
    known: BTreeMap<K, Member<V>>,
    max_stale: Duration,
    /// Who went within the last [`ROTATION`], and when.
    gone: BTreeMap<K, Instant>,
    /// A member came back the last time.
    came_back: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Member<V> {
    value: V,
    /// In the last answer that had it.
    seen: Instant,
    /// Of that answer.
    ttl: Duration,
    /// Since it was last seen.
    missed: Option<Missed>,
}

#[derive(Clone, Copy, Debug)]
struct Missed {
    /// Answers in a row.
    times: u32,
    /// The member goes then at the latest.
    until: Instant,
}

impl<K: Ord + Clone, V> Members<K, V> {
    /// None yet. What no answer speaks of stays for `max_stale`.
    pub(super) fn new(max_stale: Duration) -> Self {
        Self { known: BTreeMap::new(), max_stale, gone: BTreeMap::new(), came_back: None }
    }

    /// What no answer speaks of stays for this from now on.
    pub(super) fn set_max_stale(&mut self, max_stale: Duration) {
        self.max_stale = max_stale;
    }

    /// Takes in an answer that holds for `ttl`. It says nothing about members that it does not have and that
    /// `covers` denies.
    pub(super) fn answered(
        &mut self,
        found: impl IntoIterator<Item = (K, V)>,
        covers: impl Fn(&K) -> bool,
        ttl: Duration,
        now: Instant,
    ) {
        let max_stale = self.max_stale;
        self.known.retain(|key, member| {
            let covered = covers(key);
            if covered {
                member.miss(now);
            }
            covered || now < member.seen + max_stale.max(member.ttl)
        });
        self.gone.retain(|_, went| now < *went + ROTATION);
        for (key, value) in found {
            if self.gone.remove(&key).is_some() {
                self.came_back = Some(now);
            }
            self.known.insert(key, Member { value, seen: now, ttl, missed: None });
        }
        self.expire(now);
    }

    /// Removes what has to go by now. Whether there was any.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let over = |member: &mut Member<V>| {
            member.missed.is_some_and(|missed| missed.times >= MISSES || missed.until <= now)
        };
        let mut any = false;
        for (key, _) in self.known.extract_if(.., |_, member| over(member)) {
            any = true;
            if self.gone.len() < MAX_GONE {
                self.gone.insert(key, now);
            }
        }
        any
    }

    /// When [`Self::expire`] has something to remove, if no answer comes before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.known.values().filter_map(|member| member.missed).map(|missed| missed.until).min()
    }

    /// How soon to ask again because of missing members.
    pub(super) fn ask_again(&self, now: Instant) -> Option<Duration> {
        let patience = if self.rotates(now) { Duration::MAX } else { PATIENCE };
        let missed = self.known.values().filter_map(|member| member.missed);
        missed.map(|missed| missed.ask_again(now, patience)).min()
    }

    fn rotates(&self, now: Instant) -> bool {
        self.came_back.is_some_and(|at| now < at + ROTATION)
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// In order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.known.iter().map(|(key, member)| (key, &member.value))
    }
}

impl<V> Member<V> {
    fn miss(&mut self, now: Instant) {
        let until = (self.seen + self.ttl).max(now) + GRACE;
        let missed = self.missed.get_or_insert(Missed { times: 0, until });
        missed.times += 1;
    }
}

impl Missed {
    fn ask_again(self, now: Instant, patience: Duration) -> Duration {
        let left = self.until.saturating_duration_since(now).saturating_sub(MARGIN);
        (left / (MISSES - self.times).max(1)).min(patience)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A name of TTL 1 s, asked as the members want it.
    struct Asked {
        members: Members<u32, ()>,
        now: Instant,
        ttl: Duration,
    }

    impl Asked {
        fn new(ttl: Duration, first: &[u32]) -> Self {
            let mut asked = Self { members: Members::new(ms(3_600_000)), now: Instant::now(), ttl };
            asked.answer(first);
            asked
        }

        fn answer(&mut self, found: &[u32]) {
            let found = found.iter().map(|key| (*key, ()));
            self.members.answered(found, |_| true, self.ttl, self.now);
        }

        /// Lets the time to the next question pass.
        fn wait(&mut self, regular: Duration) {
            self.now += self.members.ask_again(self.now).map_or(regular, |soon| soon.min(regular));
            self.members.expire(self.now);
        }

        fn known(&self) -> Vec<u32> {
            self.members.iter().map(|(key, ())| *key).collect()
        }
    }

    #[test]
    fn what_is_new_counts_at_once_and_what_is_missing_stays() {
        let mut asked = Asked::new(ms(10_000), &[1, 2]);
        asked.wait(ms(9000));
        asked.answer(&[2, 3]);
        assert_eq!(asked.known(), [1, 2, 3]);
        assert_eq!(asked.members.ask_again(asked.now), Some(PATIENCE));
    }

    #[test]
    fn three_answers_in_a_row_remove_a_member() {
        let mut asked = Asked::new(ms(10_000), &[1, 2]);
        asked.wait(ms(9000));
        for known in [&[1, 2][..], &[1, 2], &[2]] {
            asked.answer(&[2]);
            assert_eq!(asked.known(), known);
            asked.wait(ms(9000));
        }
    }

    #[test]
    fn a_member_that_comes_back_starts_anew() {
        let mut asked = Asked::new(ms(10_000), &[1, 2]);
        for _ in 0..10 {
            asked.answer(&[2]);
            asked.answer(&[2]);
            asked.answer(&[1, 2]);
        }
        assert_eq!(asked.known(), [1, 2]);
        assert_eq!((asked.members.deadline(), asked.members.ask_again(asked.now)), (None, None));
    }

    #[test]
    fn a_name_that_hands_out_few_of_many_is_soon_asked_hardly_more_often_than_others() {
        let (ttl, regular) = (ms(60_000), ms(54_000));
        let mut asked = Asked::new(ttl, &[0, 1, 2, 3, 4, 5, 6, 7]);
        let mut random = fastrand::Rng::with_seed(1);
        let start = asked.now;
        let mut learning = 0;
        let mut later = 0;
        while asked.now < start + ms(600_000) {
            asked.wait(regular);
            asked.answer(&random.choose_multiple(0..100, 8));
            *(if asked.now < start + ttl { &mut learning } else { &mut later }) += 1;
        }
        assert!(learning <= 20, "{learning} answers in the first minute");
        assert!((20..=32).contains(&later), "{later} in nine minutes: three for each TTL");
        assert!(asked.known().len() > 20, "{:?}", asked.known());
    }

    #[test]
    fn a_name_counts_as_rotating_while_members_come_back() {
        let mut asked = Asked::new(ms(60_000), &[1, 2]);
        let lose = |asked: &mut Asked| {
            for _ in 0..MISSES {
                asked.answer(&[2]);
            }
            assert_eq!(asked.known(), [2]);
        };
        lose(&mut asked);
        asked.answer(&[1, 2]);
        asked.answer(&[2]);
        assert_eq!(asked.members.ask_again(asked.now), Some(ms(30_300)), "half of the time there is");
        lose(&mut asked);
        asked.now += ROTATION;
        asked.answer(&[1, 2]);
        asked.answer(&[2]);
        assert_eq!(asked.members.ask_again(asked.now), Some(PATIENCE), "that was too long ago");
    }

    #[test]
    fn without_further_answers_a_missing_member_goes_700_ms_after_its_ttl() {
        let mut asked = Asked::new(ms(1000), &[1, 2]);
        let seen = asked.now;
        asked.wait(ms(1000));
        asked.answer(&[2]);
        assert_eq!(asked.members.deadline(), Some(seen + ms(1700)));
        assert!(!asked.members.expire(seen + ms(1699)));
        assert!(asked.members.expire(seen + ms(1700)));
        assert_eq!(asked.known(), [2]);
    }

    #[test]
    fn a_late_answer_does_not_remove_at_once() {
        let mut asked = Asked::new(ms(1000), &[1, 2]);
        asked.now += ms(60_000);
        asked.answer(&[2]);
        assert_eq!(asked.known(), [1, 2]);
        assert_eq!(asked.members.deadline(), Some(asked.now + GRACE));
    }

    #[test]
    fn members_that_an_answer_does_not_speak_of_stay_for_max_stale() {
        let mut asked = Asked::new(ms(1000), &[1, 2]);
        asked.members.set_max_stale(ms(5000));
        for (after, known) in [(1000, &[1, 2][..]), (3999, &[1, 2]), (1, &[2])] {
            asked.now += ms(after);
            asked.members.answered([(2, ())], |key| *key == 2, ms(1000), asked.now);
            assert_eq!(asked.known(), known, "after {after} ms more");
        }
    }

    #[test]
    fn eight_of_ten_in_a_moving_window_never_lose_anybody() {
        for step in 1..10 {
            let all: Vec<u32> = (0..10).collect();
            let mut asked = Asked::new(ms(1000), &all);
            for round in 0..1000 {
                asked.wait(ms(1000));
                let subset: Vec<u32> = (0..8).map(|n| (round * step + n) % 10).collect();
                asked.answer(&subset);
                assert_eq!(asked.known(), all, "round {round}, step {step}");
            }
        }
    }

    proptest! {
        /// Questions are asked as `ask_again` says, or at 95 % of the TTL; each answer may fail.
        #[test]
        fn a_removed_member_is_gone_within_its_ttl_and_a_second(
            ttl in 1000_u64..20_000,
            removed_after in 0_u64..30_000,
            fails in proptest::collection::vec(any::<bool>(), 200),
            rotates in any::<bool>(),
        ) {
            let ttl = ms(ttl);
            let mut asked = Asked::new(ttl, &[1, 2]);
            asked.members.came_back = rotates.then_some(asked.now);
            let regular = ttl.mul_f64(0.95).max(ms(1000));
            let change = asked.now + ms(removed_after);
            let mut fails = fails.into_iter();
            // The first answer after the change arrives: nobody can know before.
            while asked.known() == [1, 2] {
                let asks = asked.now + asked.members.ask_again(asked.now).map_or(regular, |d| d.min(regular));
                let next = asked.members.deadline().map_or(asks, |deadline| deadline.min(asks));
                asked.now = next;
                asked.members.expire(next);
                let missed = asked.members.deadline().is_some();
                if next == asks && (!missed || !fails.next().unwrap_or(true)) {
                    let found: &[u32] = if next >= change { &[2] } else { &[1, 2] };
                    asked.answer(found);
                }
            }
            prop_assert!(asked.now <= change + ttl + ms(1000), "{:?}", asked.now - change);
        }

        /// Nobody is removed without having been missed, and an answer's members are always there.
        #[test]
        fn an_answers_members_are_known(
            answers in proptest::collection::vec((proptest::collection::btree_set(0_u32..6, 1..6), 0_u64..3000), 1..60)
        ) {
            let mut asked = Asked::new(ms(1000), &[0, 1, 2, 3, 4, 5]);
            let mut in_a_row = [0; 6];
            for (found, after) in answers {
                asked.now += ms(after);
                asked.members.expire(asked.now);
                let before = asked.known();
                let found: Vec<u32> = found.into_iter().collect();
                asked.answer(&found);
                for key in 0..6_u32 {
                    let count = &mut in_a_row[key as usize];
                    *count = if found.contains(&key) { 0 } else { *count + 1 };
                    let known = asked.known().contains(&key);
                    prop_assert!(!found.contains(&key) || known);
                    prop_assert!(known || !before.contains(&key) || *count == 3, "{key} went after {count}");
                }
            }
        }
    }
}
