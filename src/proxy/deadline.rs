//! When a request has to be over: the route's `timeout`, and what its caller has left.
//!
//! # On every hop
//! `towpath-deadline` is the time that is left, in whole milliseconds; a gRPC call says it as `grpc-timeout`. Whoever the caller
//! is, the shortest of these and of the route's timeout counts, from the moment at which the request's head was here. Each
//! attempt tells its endpoint what is left when it is sent, so a chain of hops shares one budget. It is a duration and no
//! moment, because the clocks of two nodes need not agree; what the network takes is nobody's.
//!
//! # What cannot be read
//! It is no deadline, and is not passed on: the next hop might read it otherwise. Of a repeated field only the first counts.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, request::Parts};
use tokio::time::Instant;

use super::{Cause, Failure, Reason, attempt::Call, report::classify};
use crate::{
    http::{Body, grpc},
    telemetry::AttemptOutcome,
    upstream::{DEADLINE, GRPC_TIMEOUT, TimeLeft},
};

/// What a deadline may lose when it is told: [`TimeLeft::millis`] rounds down.
const ROUNDING: Duration = Duration::from_millis(1);

/// When a request that came at `started` has to be over, by its route's `timeout` and its own fields, which are taken out; and
/// whether that is what the caller waits, and not what the route allows.
///
/// # Errors
/// `timeout` when the caller has no time left.
pub(super) fn deadline(
    parts: &mut Parts,
    timeout: Option<Duration>,
    (started, is_grpc): (Instant, bool),
) -> Result<(Option<Instant>, bool), Failure> {
    let callers = take(&mut parts.headers, is_grpc);
    if callers.is_some_and(|left| left <= started.elapsed()) {
        let message = "the caller's deadline had passed when its request came";
        return Err(Failure::new(Reason::Timeout, message).because(Cause::CallerDeadline));
    }
    let shortest = shorter(timeout, callers);
    let is_callers = callers.is_some() && shortest == callers;
    Ok((shortest.and_then(|shortest| started.checked_add(shortest)), is_callers))
}

/// What the fields say, which are gone then.
fn take(headers: &mut HeaderMap, is_grpc: bool) -> Option<Duration> {
    // Most requests have neither. One pass over the few names they have is cheaper than a look-up for each of ours.
    if !headers.keys().any(|name| is_concerned(name, is_grpc)) {
        return None;
    }
    let own = headers.remove(&DEADLINE).and_then(|value| parse(&value));
    let grpcs = if is_grpc { headers.remove(&GRPC_TIMEOUT) } else { None };
    shorter(own, grpcs.as_ref().and_then(grpc::parse_timeout))
}

fn is_concerned(name: &HeaderName, is_grpc: bool) -> bool {
    match name.as_str().len() {
        16 => *name == DEADLINE,
        12 => is_grpc && *name == GRPC_TIMEOUT,
        _ => false,
    }
}

fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Whole milliseconds: decimal digits and nothing else.
fn parse(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse().ok().map(Duration::from_millis)
}

impl Call {
    /// The deadline, and who is told when it passes.
    pub(super) fn until(&self) -> Option<(Instant, Cause)> {
        self.deadline.map(|deadline| (deadline, self.whose_deadline()))
    }

    /// Which limit the deadline is.
    pub(super) fn whose_deadline(&self) -> Cause {
        if self.deadline_is_callers { Cause::CallerDeadline } else { Cause::RouteTimeout }
    }

    /// What an answer says of its endpoint. The deadline that it was told passes a moment before the one here: when that is the
    /// caller's, to have met it is no failure there either.
    pub(super) fn judge(&self, response: &Response<Body>, is_grpc: bool) -> AttemptOutcome {
        let is_late = |deadline| Instant::now() + ROUNDING >= deadline;
        let of_caller = self.deadline.filter(|_| self.deadline_is_callers);
        match response.status() {
            StatusCode::GATEWAY_TIMEOUT if of_caller.is_some_and(is_late) => AttemptOutcome::Cancelled,
            _ => classify(response, is_grpc),
        }
    }

    /// What the endpoint of an attempt that is sent now is told of the time that is left.
    pub(super) fn time_left(&self) -> Option<TimeLeft> {
        let time = self.deadline?.saturating_duration_since(Instant::now());
        Some(TimeLeft { time, is_grpc: grpc::is_grpc(&self.parts.headers) })
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn parts(fields: &[(&'static str, &str)]) -> Parts {
        let mut request = Request::new(());
        for (name, value) in fields {
            request.headers_mut().append(*name, HeaderValue::from_str(value).unwrap());
        }
        request.into_parts().0
    }

    /// How long after now the deadline is, and whether it is the caller's; what is left of the fields.
    async fn read(
        fields: &[(&'static str, &str)],
        timeout: Option<u64>,
        is_grpc: bool,
    ) -> (Option<u64>, bool, usize) {
        let mut parts = parts(fields);
        let now = Instant::now();
        let timeout = timeout.map(Duration::from_millis);
        let (deadline, is_callers) = deadline(&mut parts, timeout, (now, is_grpc)).unwrap();
        let left = deadline.map(|deadline| (deadline - now).as_millis() as u64);
        (left, is_callers, parts.headers.len())
    }

    #[tokio::test(start_paused = true)]
    async fn the_shortest_counts_and_says_whose_it_is() {
        let both = [("towpath-deadline", "300"), ("grpc-timeout", "200m")];
        for (timeout, is_grpc, expected) in [
            (None, true, (Some(200), true, 0)),
            (Some(250), true, (Some(200), true, 0)),
            (Some(100), true, (Some(100), false, 0)),
            // grpc-timeout of what is no gRPC call is a field like any other.
            (None, false, (Some(300), true, 1)),
            (Some(250), false, (Some(250), false, 1)),
        ] {
            assert_eq!(read(&both, timeout, is_grpc).await, expected, "{timeout:?} {is_grpc}");
        }
        assert_eq!(read(&[("accept", "*/*")], Some(70), false).await, (Some(70), false, 1));
        assert_eq!(read(&[("accept", "*/*")], None, true).await, (None, false, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_read_is_no_deadline_and_goes() {
        for value in ["", "-1", "+5", "1.5", "5s", "0x10", " 7 8", "99999999999999999999999", "ü"] {
            let fields = [("towpath-deadline", value), ("grpc-timeout", "soon")];
            assert_eq!(read(&fields, None, true).await, (None, false, 0), "{value:?}");
            assert_eq!(read(&fields, Some(9), true).await, (Some(9), false, 0), "{value:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_with_nothing_left_is_refused() {
        let refused = |field: (&'static str, &str), ago: u64| {
            let started = Instant::now() - Duration::from_millis(ago);
            let failure = deadline(&mut parts(&[field]), None, (started, true)).err()?;
            Some((failure.reason, failure.cause))
        };
        tokio::time::advance(Duration::from_secs(1)).await;
        let late = Some((Reason::Timeout, Some(Cause::CallerDeadline)));
        assert_eq!(refused(("towpath-deadline", "0"), 0), late);
        assert_eq!(refused(("grpc-timeout", "0m"), 0), late);
        assert_eq!(refused(("towpath-deadline", "5"), 5), late, "it was over before it was looked at");
        assert_eq!(refused(("towpath-deadline", "5"), 4), None);
    }

    proptest! {
        #[test]
        fn what_is_passed_on_is_never_more_than_what_is_left(micros in 1u64..u64::MAX / 1000) {
            let left = Duration::from_micros(micros);
            let read = parse(&HeaderValue::from(TimeLeft { time: left, is_grpc: false }.millis())).expect("what is written can be read");
            prop_assert!(read <= left.max(MILLI));
            prop_assert!(read + MILLI > left);
        }
    }
}
