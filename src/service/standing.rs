//! Whether a service takes requests, as far as those want to know who have another to go to (`failover` of a route).
//!
//! A service that could not take a request is passed over, by all workers and through reloads, until it has been able to for a
//! while (`failover_back_after`): one that comes and goes shall not toss requests to and fro.
//!
//! # The way back
//! - While it is known that no endpoint can be used, the while does not begin.
//! - What else keeps it from taking requests shows only when one is sent: after the while it gets one, and then one a second,
//!   until one is taken. Then all go to it again.
//! - An ejected endpoint comes back only by a request that tries it. That one it gets when it is due, as ever.
//!
//! # Cost
//! A service that takes its requests costs them one look at a number that nobody writes. What is written while it does not is written
//! every [`GRAIN`] at most.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::{clock, endpoints::EndpointSet, shared::Service};

/// Milliseconds within which a service that stays unable is noted once.
const GRAIN: u64 = 100;
/// Milliseconds from one request that sees whether a service can again to the next.
const TRIALS: u64 = 1000;

/// Whether a request that may go elsewhere should go to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It should: nothing is wrong.
    Take,
    /// It should, to see whether the service can again; see [`Service::took`].
    Try,
    /// It should, for an ejected endpoint is to be tried.
    Probe,
    /// It should not, unless there is nobody else.
    PassOver,
}

/// What is known of a service's endpoints without sending anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outlook {
    Usable,
    /// None is, and an ejected one is to be tried.
    Due,
    Bleak,
}

/// How a service stands with those who have another. Moments are milliseconds of [`clock`].
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Since when it is passed over; 0 while it is not.
    since: AtomicU64,
    /// When it was last seen unable to take a request.
    unable: AtomicU64,
    /// For how long it is passed over after that, as the last route had it that saw it unable.
    back_after: AtomicU64,
    /// When a request was last sent to see whether it can again.
    tried: AtomicU64,
}

impl Standing {
    #[inline]
    fn turn(&self, back_after: u64, now: impl Fn() -> u64, outlook: impl Fn() -> Outlook) -> Turn {
        if self.since.load(Relaxed) == 0 { Turn::Take } else { self.turn_back(back_after, now(), outlook()) }
    }

    #[cold]
    fn turn_back(&self, back_after: u64, now: u64, outlook: Outlook) -> Turn {
        match outlook {
            Outlook::Due => return Turn::Probe,
            Outlook::Bleak => drop(self.cannot(back_after, now)),
            Outlook::Usable => {}
        }
        let unable = self.unable.load(Relaxed);
        if now < unable.saturating_add(back_after) || outlook == Outlook::Bleak {
            return Turn::PassOver;
        }
        let tried = self.tried.load(Relaxed);
        let waits = tried > unable && now < tried + TRIALS;
        match waits || self.tried.compare_exchange(tried, now, Relaxed, Relaxed).is_err() {
            true => Turn::PassOver,
            false => Turn::Try,
        }
    }

    /// Notes that it could not take a request; true when it could until now.
    fn cannot(&self, back_after: u64, now: u64) -> bool {
        if now >= self.unable.load(Relaxed) + GRAIN || self.back_after.load(Relaxed) != back_after {
            self.back_after.store(back_after, Relaxed);
            self.unable.fetch_max(now, Relaxed);
        }
        self.since.load(Relaxed) == 0 && self.since.compare_exchange(0, now, Relaxed, Relaxed).is_ok()
    }

    /// Notes that it took the request that was to see whether it can; true when it could not until now.
    fn can(&self) -> bool {
        self.since.swap(0, Relaxed) != 0
    }

    /// Since when it is passed over, and for how long at least.
    fn passed_over(&self, now: u64) -> Option<[u64; 2]> {
        let since = self.since.load(Relaxed);
        let until = self.unable.load(Relaxed).saturating_add(self.back_after.load(Relaxed));
        (since > 0).then(|| [now.saturating_sub(since), until.saturating_sub(now)])
    }
}

impl Service {
    /// Whether requests that may go elsewhere go to this service as ever.
    #[inline]
    pub fn takes(&self) -> bool {
        self.standing.since.load(Relaxed) == 0
    }

    /// Whether a request that may go elsewhere should go to this service.
    pub fn turn(&self, back_after: Duration) -> Turn {
        self.standing.turn(millis(back_after), clock::millis, || outlook(&self.endpoints(), self))
    }

    /// Notes that it could not take a request, for this reason, and is to be passed over for `back_after` from now on.
    pub fn could_not_take(&self, back_after: Duration, reason: &str) {
        if self.standing.cannot(millis(back_after), clock::millis()) {
            tracing::warn!(
                service = &*self.name,
                reason,
                "a service cannot take requests: others stand in for it"
            );
        }
    }

    /// Notes that it took a request whose turn was [`Turn::Try`].
    pub fn took(&self) {
        if self.standing.can() {
            tracing::info!(service = &*self.name, "a service takes requests again");
        }
    }

    /// While it is passed over: since when, and for how long at least.
    pub fn passed_over(&self) -> Option<[Duration; 2]> {
        self.standing.passed_over(clock::millis()).map(|times| times.map(Duration::from_millis))
    }
}

fn outlook(set: &EndpointSet, service: &Service) -> Outlook {
    let now = clock::millis();
    if set.has_another(&[], &service.policy) {
        Outlook::Usable
    } else if set.endpoints.iter().any(|endpoint| endpoint.gate.is_due(now)) {
        Outlook::Due
    } else {
        Outlook::Bleak
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Ten seconds, as by default.
    const BACK: u64 = 10_000;

    fn turn(standing: &Standing, now: u64, outlook: Outlook) -> Turn {
        standing.turn(BACK, || now, || outlook)
    }

    #[test]
    fn a_service_that_could_not_take_a_request_is_passed_over_and_then_tried_once_a_second() {
        let standing = Standing::default();
        assert_eq!(turn(&standing, 1, Outlook::Bleak), Turn::Take, "nobody has seen it fail");
        assert!(standing.cannot(BACK, 1000));
        assert!(!standing.cannot(BACK, 1001), "it is news once");
        for (now, expected) in [
            (1001, Turn::PassOver),
            (10_999, Turn::PassOver),
            (11_000, Turn::Try),
            (11_001, Turn::PassOver),
            (11_999, Turn::PassOver),
            (12_000, Turn::Try),
        ] {
            assert_eq!(turn(&standing, now, Outlook::Usable), expected, "at {now}");
        }
        assert!(standing.can());
        assert_eq!(turn(&standing, 12_001, Outlook::Usable), Turn::Take);
        assert!(!standing.can(), "it is news once");
    }

    #[test]
    fn a_trial_that_fails_begins_the_while_anew() {
        let standing = Standing::default();
        standing.cannot(BACK, 1000);
        assert_eq!(turn(&standing, 11_000, Outlook::Usable), Turn::Try);
        assert!(!standing.cannot(BACK, 11_500), "it never could");
        assert_eq!(turn(&standing, 12_500, Outlook::Usable), Turn::PassOver);
        assert_eq!(turn(&standing, 21_499, Outlook::Usable), Turn::PassOver);
        assert_eq!(turn(&standing, 21_500, Outlook::Usable), Turn::Try);
    }

    #[test]
    fn the_while_begins_when_an_endpoint_is_usable() {
        let standing = Standing::default();
        standing.cannot(BACK, 1000);
        for now in (1000..60_000).step_by(50) {
            assert_eq!(turn(&standing, now, Outlook::Bleak), Turn::PassOver);
        }
        assert_eq!(turn(&standing, 69_800, Outlook::Usable), Turn::PassOver);
        assert_eq!(turn(&standing, 70_000, Outlook::Usable), Turn::Try);
    }

    #[test]
    fn an_ejected_endpoint_gets_its_probe_while_the_service_is_passed_over() {
        let standing = Standing::default();
        standing.cannot(BACK, 1000);
        assert_eq!(turn(&standing, 1500, Outlook::Due), Turn::Probe);
        assert_eq!(turn(&standing, 1501, Outlook::Bleak), Turn::PassOver);
        assert_eq!(standing.passed_over(1601), Some([601, 9900]));
    }

    #[test]
    fn it_shows_since_when_and_until_when() {
        let standing = Standing::default();
        assert_eq!(standing.passed_over(5), None);
        standing.cannot(BACK, 1000);
        standing.cannot(BACK, 3000);
        assert_eq!(standing.passed_over(4000), Some([3000, 9000]));
        assert_eq!(standing.passed_over(20_000), Some([19_000, 0]));
    }

    proptest! {
        /// Requests come every 37 ms; the service is able or not as it pleases. Whatever is sent to it fails while it is not.
        #[test]
        fn nothing_is_sent_before_it_was_not_seen_unable_for_the_while(
            spells in prop::collection::vec((any::<bool>(), 1u64..30_000), 1..20),
        ) {
            let standing = Standing::default();
            let (mut now, mut unable, mut tried) = (1, None::<u64>, None::<u64>);
            for (able, spell) in spells {
                let end = now + spell;
                while now < end {
                    let turn = turn(&standing, now, Outlook::Usable);
                    if turn == Turn::Try {
                        let since = unable.unwrap();
                        prop_assert!(now + GRAIN >= since + BACK, "tried at {now}, unable at {since}");
                        prop_assert!(tried.is_none_or(|tried| now >= tried + TRIALS));
                        tried = Some(now);
                    }
                    match (turn, able) {
                        (Turn::PassOver, _) => {}
                        (_, false) => {
                            standing.cannot(BACK, now);
                            unable = Some(now);
                        }
                        (Turn::Try, true) => {
                            standing.can();
                            (unable, tried) = (None, None);
                        }
                        (_, true) => {}
                    }
                    if turn == Turn::Take && able {
                        prop_assert!(unable.is_none(), "it is passed over");
                    }
                    now += 37;
                }
            }
        }
    }
}
