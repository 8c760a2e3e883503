//! What is known of one name: its members, since when, whether it fails, and when to ask again.
//!
//! Synchronous: answers, failures and the time go in, news comes out. The last good answer stays through failures for
//! `max_stale`, counted from that answer.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Schedule,
    answer::Share,
    holddown::Members,
    members::{Answer, Member, Unanswered},
    pace::Trust,
    update::Failure,
};

/// What has just come to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::discovery) enum News {
    /// There was an answer.
    Answered,
    /// There was none.
    Failed,
    /// There was none for so long that nothing is known any more.
    Expired,
    /// The members are others, without a new answer: the time of one is over, or a late part of the last one came.
    Changed,
}

/// One name.
pub(in crate::discovery) struct Standing {
    host: String,
    members: Members<Member, Share>,
    schedule: Schedule,
    max_stale: Duration,
    /// Of the last answer.
    good: Option<Instant>,
    /// In a row.
    failures: u32,
    failure: Option<Failure>,
}

impl Standing {
    /// Nothing is known yet.
    pub(in crate::discovery) fn new(host: &str, schedule: Schedule, max_stale: Duration) -> Self {
        let host = host.to_owned();
        let members = Members::new(max_stale);
        Self { host, members, schedule, max_stale, good: None, failures: 0, failure: None }
    }

    /// Nothing is kept longer than this without an answer.
    pub(in crate::discovery) fn set_max_stale(&mut self, max_stale: Duration) {
        self.max_stale = max_stale;
        self.members.set_max_stale(max_stale);
    }

    /// What it has, in order.
    pub(in crate::discovery) fn members(&self) -> impl Iterator<Item = (&Member, &Share)> {
        self.members.iter()
    }

    /// Why there was no answer, if there was none the last time.
    pub(in crate::discovery) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// How quick the next answer may be expected to be.
    pub(super) fn trust(&self) -> Trust {
        match (&self.failure, self.members.is_empty()) {
            (Some(_), false) => Trust::Failing,
            (Some(_), true) => Trust::Unknown,
            (None, _) if self.good.is_some() => Trust::Answered,
            (None, _) => Trust::New,
        }
    }

    /// Takes in an answer. Returns how long to wait before asking again.
    pub(in crate::discovery) fn answered(&mut self, answer: Answer, now: Instant) -> Duration {
        if self.failures > 0 {
            tracing::info!(host = self.host, failures = self.failures, "name resolves again");
        }
        tracing::debug!(host = self.host, found = ?answer.found, ttl = ?answer.ttl, "name resolved");
        (self.failures, self.failure, self.good) = (0, None, Some(now));
        self.take_in(answer, now)
    }

    /// Takes in what came later than the rest of an answer: it does not end a failure that began since. Returns how long
    /// to wait before asking again, at most.
    pub(in crate::discovery) fn take_in(&mut self, answer: Answer, now: Instant) -> Duration {
        let ttl = self.schedule.held(answer.ttl);
        let delay = self.schedule.after_answer(answer.ttl);
        let silent = Answer { found: Vec::new(), ..answer.clone() };
        self.members.answered(answer.found, |member| silent.covers(member), ttl, now);
        self.members.ask_again(now).map_or(delay, |soon| soon.min(delay))
    }

    /// Takes in that there is no answer. Returns how long to wait before asking again.
    pub(in crate::discovery) fn failed(&mut self, unanswered: Unanswered, now: Instant) -> (News, Duration) {
        self.failures = self.failures.saturating_add(1);
        let message = &unanswered.failure.message;
        match self.failures {
            1 => tracing::warn!("cannot resolve {message}"),
            failures => tracing::debug!(failures, "still cannot resolve {message}"),
        }
        self.failure = Some(unanswered.failure);
        let delay = self.schedule.after_failure(self.failures, unanswered.negative_ttl);
        let delay = self.members.ask_again(now).map_or(delay, |soon| soon.min(delay));
        let news = if self.expire(now) { News::Expired } else { News::Failed };
        (news, delay)
    }

    /// When [`Self::time_passed`] has something to do.
    pub(in crate::discovery) fn deadline(&self) -> Option<Instant> {
        let stale = self.stale_at();
        self.members.deadline().into_iter().chain(stale).min()
    }

    /// Lets go of what is too old by now.
    pub(in crate::discovery) fn time_passed(&mut self, now: Instant) -> Option<News> {
        if self.expire(now) {
            return Some(News::Expired);
        }
        self.members.expire(now).then_some(News::Changed)
    }

    fn stale_at(&self) -> Option<Instant> {
        self.good
            .filter(|_| self.failure.is_some() && !self.members.is_empty())
            .map(|good| good + self.max_stale)
    }

    fn expire(&mut self, now: Instant) -> bool {
        let stale = self.stale_at().is_some_and(|at| at <= now);
        if stale {
            let max_stale = self.max_stale;
            tracing::error!(host = self.host, ?max_stale, "no answer for too long: the last one is dropped");
            self.members.clear();
        }
        stale
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing::Level;

    use super::*;
    use crate::discovery::FailureKind;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What towpath logs at info and above while `work` runs.
    fn logged(work: impl FnOnce()) -> Vec<String> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::INFO)
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, work);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    const TTL: Duration = Duration::from_secs(10);

    fn standing() -> Standing {
        let schedule = Schedule { random: fastrand::Rng::with_seed(1), ..Schedule::default() };
        Standing::new("reviews.test", schedule, Duration::from_secs(60))
    }

    fn answer(last: &[u8]) -> Answer {
        let found = last.iter().map(|last| (Member::Address([10, 0, 0, *last].into()), Share::default()));
        Answer::new(found.collect(), TTL)
    }

    fn unanswered() -> Unanswered {
        let message = "reviews.test: no such name (NXDOMAIN)".into();
        let failure = Failure { kind: FailureKind::NoSuchName, message };
        Unanswered { failure, negative_ttl: None }
    }

    #[test]
    fn a_failing_name_is_logged_once_and_so_is_its_recovery() {
        let (mut standing, now) = (standing(), Instant::now());
        let lines = logged(|| {
            standing.answered(answer(&[1]), now);
            for _ in 0..3 {
                standing.failed(unanswered(), now);
            }
            standing.answered(answer(&[1]), now);
            standing.answered(answer(&[1]), now);
        });
        assert_eq!(
            lines,
            [
                "WARN cannot resolve reviews.test: no such name (NXDOMAIN)",
                "INFO name resolves again host=\"reviews.test\" failures=3",
            ]
        );
    }

    #[test]
    fn retries_slow_down_and_start_anew_after_an_answer() {
        let (mut standing, now) = (standing(), Instant::now());
        let delays: Vec<_> = (0..4).map(|_| standing.failed(unanswered(), now).1).collect();
        assert!(delays.is_sorted() && delays[3] >= Duration::from_secs(6), "{delays:?}");
        standing.answered(answer(&[1]), now);
        let (_, delay) = standing.failed(unanswered(), now);
        assert!(delay <= Duration::from_millis(1250), "{delay:?}");
    }

    #[test]
    fn a_missing_member_is_asked_for_again_within_a_second_and_in_spite_of_failures() {
        let (mut standing, now) = (standing(), Instant::now());
        standing.answered(answer(&[1, 2]), now);
        let now = now + TTL;
        assert!(standing.answered(answer(&[2]), now) <= Duration::from_millis(750));
        assert!(standing.failed(unanswered(), now).1 <= Duration::from_millis(750));
        let deadline = standing.deadline().unwrap();
        assert!(deadline <= now + Duration::from_millis(700));
        assert_eq!(standing.time_passed(deadline), Some(News::Changed));
        assert_eq!(standing.members().count(), 1);
        assert!(standing.failure().is_some(), "the name still fails");
    }

    #[test]
    fn what_is_expected_of_a_name_goes_by_its_last_answer() {
        let (mut standing, start) = (standing(), Instant::now());
        assert_eq!(standing.trust(), Trust::New);
        standing.failed(unanswered(), start);
        assert_eq!(standing.trust(), Trust::Unknown);
        standing.answered(answer(&[1]), start);
        assert_eq!(standing.trust(), Trust::Answered);
        standing.failed(unanswered(), start);
        assert_eq!(standing.trust(), Trust::Failing);
        standing.time_passed(start + Duration::from_secs(60));
        assert_eq!(standing.trust(), Trust::Unknown);
    }

    #[test]
    fn the_last_answer_is_dropped_once_when_it_is_too_old() {
        let (mut standing, start) = (standing(), Instant::now());
        standing.answered(answer(&[1]), start);
        assert_eq!(standing.deadline(), None, "a name that does not fail never gets too old");
        assert_eq!(standing.failed(unanswered(), start + TTL).0, News::Failed);
        assert_eq!(standing.deadline(), Some(start + Duration::from_secs(60)));
        assert_eq!(standing.time_passed(start + Duration::from_secs(59)), None);
        assert_eq!(standing.time_passed(start + Duration::from_secs(60)), Some(News::Expired));
        assert_eq!((standing.members().count(), standing.deadline()), (0, None));
        assert_eq!(standing.failed(unanswered(), start + Duration::from_secs(61)).0, News::Failed);
        standing.answered(answer(&[1]), start + Duration::from_secs(90));
        assert_eq!((standing.members().count(), standing.failure()), (1, None));
    }
}
