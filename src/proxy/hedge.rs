//! Hedges: a second attempt beside a first one that takes long, and the first good answer is the caller's.
//!
//! Dean and Barroso, "The Tail at Scale" (<https://research.google/pubs/the-tail-at-scale/>). Opt-in by `hedge` of a route, and only for
//! methods that may be sent twice.
//!
//! # Which answer
//! The first that is no failure by class. A failed attempt does not end the other; when both fail, an answer goes before none, and
//! what remains is dealt with like any failed attempt. The loser is cancelled: its connection is closed, or its stream reset.
//!
//! # What is not hedged
//! A request whose body has not been read whole, or is more than is kept; one that waits for `100 Continue`; one that has been hedged
//! before; and whatever the service's retry budget does not allow, or has no other endpoint to go to.
//!
//! # What the percentile is of
//! Of good answers, as this worker has seen them. A first attempt that is cancelled counts as long as it ran: if it did not count, a
//! service of which a share is slow would look fast, and be asked twice ever sooner.
//!
//! # Interim answers
//! Those of the first attempt are passed on, as without a hedge. Those of the second are not: the caller would get hints from two sides.

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use http::request::Parts;
use tokio::time::timeout;

use super::{
    account::Entry,
    attempt::{Call, Outcome, Way, counted},
    exchange::Exchange,
    headers::{Speech, address_request},
    report::Report,
    request_body::RequestBody,
    requeue::History,
    retry::{class, discard},
};
use crate::{
    config::{Hedge, Route},
    http::Interim,
    service::{Choice, Picked, Spend, Wish},
    telemetry::AttemptOutcome,
};

/// The first attempt was good after all.
const LOST: &str = "lost";

/// An attempt that runs.
type Running<'r> = Pin<Box<dyn Future<Output = Outcome> + 'r>>;

impl Call {
    /// Whether this attempt may get another beside it.
    pub(super) fn may_hedge(&self, exchange: &Exchange, history: &History) -> bool {
        let Some(rule) = exchange.persistent_rule().filter(|rule| rule.hedge.is_some()) else { return false };
        let method = self.parts.method.as_str();
        let listed = rule.hedged.binary_search_by(|listed| (**listed).cmp(method)).is_ok();
        listed && !history.hedged && !self.expects_continue
    }

    /// An attempt, and another beside it when it takes long. `report` is of the one whose outcome is returned.
    pub(super) async fn hedged<'a>(
        &'a self,
        report: &mut Report<'a>,
        way: Way<'_>,
        exchange: &Exchange,
        history: &mut History,
    ) -> Outcome {
        let Some((rule, hedge)) = exchange.rule().and_then(|rule| Some((rule, rule.hedge?))) else {
            return self.attempt(report, way).await;
        };
        let (begun, first_target) = (Instant::now(), report.picked().target.id);
        let mut first: Running<'_> = Box::pin(self.attempt(report, way));
        let early = match self.delay(hedge) {
            Some(delay) => timeout(delay, &mut first).await.ok(),
            None => Some((&mut first).await),
        };
        let second = if early.is_none() { self.second(first_target, history) } else { None };
        let Some(second) = second else {
            let outcome = match early {
                Some(outcome) => outcome,
                None => first.await,
            };
            if !is_bad(rule, &outcome, exchange.is_grpc) {
                self.learn(hedge, begun);
            }
            return outcome;
        };
        (history.hedged, history.further) = (true, history.further + 1);
        let interim = Interim::default();
        let (speech, parts, entry) = self.head_beside(&second, way, exchange);
        let mut other = Report::begin(&self.backend, second, entry);
        let parts = parts.as_ref().unwrap_or(way.parts);
        let beside = Way { speech, parts, beside: true, interim: &interim, ..way };
        let race = race(first, Box::pin(self.attempt(&mut other, beside)), |outcome| {
            is_bad(rule, outcome, exchange.is_grpc)
        })
        .await;
        if race.second {
            std::mem::swap(report, &mut other);
        }
        self.backend.view.service.series.hedge(race.result());
        // Also the first that was cancelled: it would have taken longer.
        if race.unused.is_none() || race.result() == LOST {
            self.learn(hedge, begun);
        }
        if let Some(unused) = race.unused {
            history.avoid.push(other.picked().target.id);
            other.end(counted(&unused, exchange.is_grpc));
            discard(unused);
        }
        race.outcome
    }

    /// How long the first attempt is left alone. None: until it ends.
    fn delay(&self, hedge: Hedge) -> Option<Duration> {
        match hedge {
            Hedge::After(delay) => Some(delay),
            Hedge::Percentile(percent) => self.backend.view.quantile(percent),
        }
    }

    /// What a second attempt at `second` says, where that is not what the first does: to another protocol there (on this node and
    /// through another, say), or of another span.
    fn head_beside(
        &self,
        second: &Picked,
        way: Way<'_>,
        exchange: &Exchange,
    ) -> (Speech, Option<Parts>, Option<Entry>) {
        let speech = self.speech(second, exchange.is_grpc).unwrap_or(way.speech);
        let mut parts = (speech != way.speech || exchange.is_traced()).then(|| self.written_for(speech));
        let headers = parts.as_mut().map(|parts| &mut parts.headers);
        let entry = exchange.attempt(&self.backend, second, Some("hedge"), headers);
        (speech, parts, entry)
    }

    /// A head that is written anew.
    fn written_for(&self, speech: Speech) -> Parts {
        let mut parts = self.parts.clone();
        address_request(&mut parts, &self.target, speech);
        parts
    }

    /// Notes how long a first attempt ran.
    fn learn(&self, hedge: Hedge, begun: Instant) {
        if let Hedge::Percentile(_) = hedge {
            self.backend.view.took(begun.elapsed());
        }
    }

    /// Where a second attempt may go.
    fn second(&self, first: u64, history: &History) -> Option<Picked> {
        if !self.body.as_ref().is_none_or(RequestBody::is_kept) {
            return None;
        }
        let view = &self.backend.view;
        let avoid: Vec<u64> = history.avoid.iter().copied().chain([first]).collect();
        if !view.service.endpoints().has_another(&avoid, &view.service.policy) {
            return None;
        }
        if !view.spend(Spend::Retry) {
            view.service.series.hedge("denied");
            return None;
        }
        let wish = Wish { avoid: &avoid, affinity: self.affinity, unreachable: history.unreachable };
        match view.pick(&wish, || self.worker.random()) {
            Choice::Picked(picked) if picked.target.id != first => Some(picked),
            _ => None,
        }
    }
}

/// What came of two attempts.
struct Race {
    /// What is used.
    outcome: Outcome,
    /// It is of the second attempt.
    second: bool,
    /// Neither is good.
    failed: bool,
    /// What the other ended with, if it has.
    unused: Option<Outcome>,
}

impl Race {
    /// As metrics name it.
    fn result(&self) -> &'static str {
        match (self.failed, self.second) {
            (true, _) => "failed",
            (false, true) => "won",
            (false, false) => LOST,
        }
    }
}

/// Returns the first good outcome; when both are bad, the later one, unless only the earlier is an answer.
async fn race(mut first: Running<'_>, mut second: Running<'_>, is_bad: impl Fn(&Outcome) -> bool) -> Race {
    let (earlier, by_second) = tokio::select! {
        biased;
        outcome = &mut first => (outcome, false),
        outcome = &mut second => (outcome, true),
    };
    if !is_bad(&earlier) {
        return Race { outcome: earlier, second: by_second, failed: false, unused: None };
    }
    let later = if by_second { first.await } else { second.await };
    let failed = is_bad(&later);
    if failed && later.is_err() && earlier.is_ok() {
        Race { outcome: earlier, second: by_second, failed, unused: Some(later) }
    } else {
        Race { outcome: later, second: !by_second, failed, unused: Some(earlier) }
    }
}

fn is_bad(rule: &Route, outcome: &Outcome, is_grpc: bool) -> bool {
    let retried = |outcome| rule.retry.as_ref().and_then(|retry| class(&retry.on, outcome, is_grpc));
    outcome.is_err() || counted(outcome, is_grpc) != AttemptOutcome::Success || retried(outcome).is_some()
}
