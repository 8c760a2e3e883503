//! Faults: what a route does to its requests on purpose (`fault`), so that a team sees what becomes of them.
//!
//! # What is drawn
//! The delay and the abort are drawn apart from each other: a request may get both, and is delayed first.
//!
//! # How it shows
//! Nobody should take it for a failure of the service: an abort has `towpath-error: fault_injected`, whatever was done stands
//! in `towpath-fault` on every response, in the access log (`fault`) and in a metric. The service is not called, so nothing
//! counts against it or its endpoints.
//!
//! # Deadlines
//! A delay is part of the time that the request has. One that is longer ends at the deadline, as a slow service's answer does.

use std::time::Duration;

use http::StatusCode;
use tokio::time::{Instant, sleep_until};

use super::{Cause, Failure, Reason, attempt::Call, exchange::Exchange};
use crate::{
    config::{Abort, Fault},
    http::grpc,
    router::RequestView,
};

/// What is done to one request.
#[derive(Debug, Default, PartialEq, Eq)]
struct Drawn {
    delay: Option<Duration>,
    abort: Option<Abort>,
}

/// Does to the request what its route wants done to it.
///
/// # Errors
/// The failure that is injected, or the deadline that passed in a delay.
pub(super) async fn inject(call: &Call, exchange: &mut Exchange) -> Result<(), Failure> {
    let Some(drawn) = drawn(call, exchange) else { return Ok(()) };
    // Boxed: a request without faults should have no room for this.
    Box::pin(carry_out(drawn, call, exchange)).await
}

/// What is to be done to the request, if anything.
fn drawn(call: &Call, exchange: &Exchange) -> Option<Drawn> {
    let route = exchange.route()?;
    let (matcher, fault) = (route.fault.as_ref()?, route.rule.fault.as_ref()?);
    let request = RequestView {
        host: call.target.host(),
        method: &call.parts.method,
        path: call.parts.uri.path(),
        query: call.parts.uri.query(),
        headers: &call.parts.headers,
    };
    let drawn = matcher.matches(&request).then(|| draw(fault, || exchange.worker.random()));
    drawn.filter(|drawn| *drawn != Drawn::default())
}

/// `random` is uniform over all 64-bit numbers.
fn draw(fault: &Fault, mut random: impl FnMut() -> u64) -> Drawn {
    let delay = fault.delay.filter(|_| fault.delay_share.holds(random()));
    Drawn {
        delay: delay.map(|range| between(range, random())),
        abort: fault.abort.filter(|_| fault.abort_share.holds(random())),
    }
}

/// A time between these, the ends included, as far along as `random` is among all 64-bit numbers.
fn between((shortest, longest): (Duration, Duration), random: u64) -> Duration {
    let room = longest.saturating_sub(shortest);
    // Rounding must not lead beyond the end.
    (shortest + room.mul_f64(random as f64 / u64::MAX as f64)).min(longest)
}

async fn carry_out(drawn: Drawn, call: &Call, exchange: &mut Exchange) -> Result<(), Failure> {
    let kind = drawn.abort.map(kind);
    if let Some(delay) = drawn.delay {
        exchange.fault = Some("delay");
        count(exchange, "delay");
        wait(call, delay).await?;
    }
    let Some((abort, kind)) = drawn.abort.zip(kind) else { return Ok(()) };
    exchange.fault = Some(match (drawn.delay, kind) {
        (None, kind) => kind,
        (Some(_), "reset") => "delay+reset",
        (Some(_), _) => "delay+abort",
    });
    count(exchange, kind);
    Err(failure(abort))
}

fn count(exchange: &Exchange, kind: &'static str) {
    if let Some(series) = exchange.route().and_then(|route| route.series.as_ref()) {
        series.fault(kind);
    }
}

fn kind(abort: Abort) -> &'static str {
    match abort {
        Abort::Status(_) | Abort::Grpc(_) => "abort",
        Abort::Reset => "reset",
    }
}

async fn wait(call: &Call, delay: Duration) -> Result<(), Failure> {
    let until = Instant::now() + delay;
    let Some(deadline) = call.deadline.filter(|deadline| *deadline <= until) else {
        sleep_until(until).await;
        return Ok(());
    };
    sleep_until(deadline).await;
    let cause = if call.deadline_is_callers { Cause::CallerDeadline } else { Cause::RouteTimeout };
    let message = "the deadline passed while the request was delayed on purpose (fault.delay)";
    Err(Failure::new(Reason::Timeout, message).because(cause))
}

fn failure(abort: Abort) -> Failure {
    let failure =
        Failure::new(Reason::FaultInjected, "aborted on purpose (fault.abort)").because(Cause::Abort);
    match abort {
        Abort::Status(status) => Failure {
            status: StatusCode::from_u16(status).ok(),
            grpc: Some(grpc::code_for_http(status)),
            ..failure
        },
        Abort::Grpc(code) => Failure { grpc: Some(code), ..failure },
        Abort::Reset => Failure { reset: true, ..failure },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Share;

    const SHORT: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_millis(200);

    fn fault(delay_ppm: u32, abort_ppm: u32) -> Fault {
        Fault {
            delay: Some((SHORT, LONG)),
            delay_share: Share { ppm: delay_ppm },
            abort: Some(Abort::Status(503)),
            abort_share: Share { ppm: abort_ppm },
            matches: Vec::new(),
        }
    }

    #[test]
    fn delay_and_abort_are_drawn_apart_by_their_shares() {
        let mut random = fastrand::Rng::with_seed(5);
        let fault = fault(300_000, 100_000);
        let all: Vec<Drawn> = (0..100_000).map(|_| draw(&fault, || random.u64(..))).collect();
        let share = |of: fn(&Drawn) -> bool| all.iter().filter(|drawn| of(drawn)).count() as f64 / 1e5;
        for (measured, expected) in [
            (share(|drawn| drawn.delay.is_some()), 0.3),
            (share(|drawn| drawn.abort.is_some()), 0.1),
            (share(|drawn| drawn.delay.is_some() && drawn.abort.is_some()), 0.03),
        ] {
            assert!((measured - expected).abs() < 0.005, "{measured} is not {expected}");
        }
    }

    #[test]
    fn a_share_of_all_is_all_and_a_share_of_nothing_is_none() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..10_000 {
            let all = draw(&fault(1_000_000, 1_000_000), || random.u64(..));
            assert!(all.delay.is_some() && all.abort.is_some());
            assert_eq!(draw(&fault(0, 0), || random.u64(..)), Drawn::default());
        }
    }

    #[test]
    fn a_delay_reaches_both_of_its_ends() {
        assert_eq!(between((SHORT, LONG), 0), SHORT);
        assert_eq!(between((SHORT, LONG), u64::MAX), LONG);
        assert_eq!(between((SHORT, LONG), 1 << 63).as_millis(), 150);
        assert_eq!(between((SHORT, SHORT), u64::MAX), SHORT);
    }

    proptest! {
        #[test]
        fn a_delay_is_never_outside_of_its_ends(short in 0u64..1 << 50, room in 0u64..1 << 50, random: u64) {
            let range = (Duration::from_nanos(short), Duration::from_nanos(short + room));
            let delay = between(range, random);
            prop_assert!(range.0 <= delay && delay <= range.1, "{delay:?} is not in {range:?}");
        }
    }

    #[test]
    fn an_abort_says_the_same_to_http_and_to_grpc() {
        for (status, code) in
            [(400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (500, 2), (503, 14), (200, 2)]
        {
            let failure = failure(Abort::Status(status));
            assert_eq!((failure.status.map(|of| of.as_u16()), failure.grpc), (Some(status), Some(code)));
        }
        let grpc = failure(Abort::Grpc(5));
        assert_eq!((grpc.status.unwrap_or(grpc.reason.status()).as_u16(), grpc.grpc), (503, Some(5)));
        assert!(failure(Abort::Reset).reset && !grpc.reset);
    }
}
