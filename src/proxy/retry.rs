//! Retries: what may have been processed is sent again where the route's policy says so.
//!
//! # Which
//! A failed attempt has a *class*: what came in place of an answer, or which answer. `5xx` and `gateway-error` hold without an answer
//! too, since the caller would be told 502 or 504; so does a gRPC code for what towpath itself would tell a gRPC caller. The class has to be in
//! `retry.on`, and the method in `retry.methods`; a gRPC code is the consent for every gRPC call, all of which are `POST`.
//!
//! # When
//! After a wait with decorrelated jitter, so that callers who failed together do not come back together
//! (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>). An endpoint may say how long instead: `retry-after` of a
//! 429 or 503 (RFC 9110 10.2.3), or `grpc-retry-pushback-ms`
//! (<https://github.com/grpc/proposal/blob/master/A6-client-retries.md>). Never past the deadline.
//!
//! # To whom
//! To another endpoint while there is one. When there is none, what the last one answered is passed on as it is if no retry is made.
//!
//! # How many
//! `retry.attempts` in all, within a budget of the service: of what nobody can have processed the requeue budget, so that a storm of refused
//! connections costs the same with and without a policy; of everything else the retry budget.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, Response, StatusCode, header::RETRY_AFTER};
use tokio::time::{Instant, timeout};

use super::{
    attempt::{AttemptError, Call, Outcome},
    requeue::History,
};
use crate::{
    config::{Retry, RetryOn},
    http::{Body, body::next_frame, grpc},
    service::{Picked, Spend},
    upstream::{ConnectError, Lease, SendError, Sent},
};

/// An endpoint that asks for more than this is not waited for: the caller, who has other things to do, gets its answer.
const LONGEST_PUSHBACK: Duration = Duration::from_secs(5);
/// Of an answer that is not used, so much is read for the sake of its connection: more than an error page has.
const DISCARDED: usize = 16 * 1024;
/// And for so long.
const DISCARD_TIME: Duration = Duration::from_millis(100);

/// What makes an attempt one that is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    ConnectFailed,
    Reset,
    Timeout,
    ServerError,
    GatewayError,
    Status,
    Grpc,
}

impl Class {
    /// As metrics name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ConnectFailed => "connect_failed",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::ServerError => "5xx",
            Self::GatewayError => "gateway_error",
            Self::Status => "status",
            Self::Grpc => "grpc",
        }
    }
}

/// What alone is against another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// There have been as many as there may be.
    Attempts,
    /// More of it has gone than is kept.
    Body,
    Budget,
    /// It would pass before the next attempt.
    Deadline,
    Method,
    /// The endpoint says not to, or not so soon.
    Pushback,
}

impl Denied {
    /// As metrics name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Body => "body",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
            Self::Method => "method",
            Self::Pushback => "pushback",
        }
    }
}

impl Call {
    /// Whether the policy has the request sent again: why and after which wait, or what alone is against it.
    pub(super) fn retry(
        &self,
        policy: &Retry,
        (outcome, is_grpc): (&Outcome, bool),
        picked: &Picked,
        history: &mut History,
    ) -> Result<(Class, Duration), Option<Denied>> {
        let class = class(&policy.on, outcome, is_grpc).ok_or(None)?;
        let method = self.parts.method.as_str();
        if class != Class::Grpc && policy.methods.binary_search_by(|listed| (**listed).cmp(method)).is_err() {
            return Err(Some(Denied::Method));
        }
        if history.further + 1 >= policy.attempts {
            return Err(Some(Denied::Attempts));
        }
        if !self.can_begin_again() {
            return Err(Some(Denied::Body));
        }
        let backoff = backoff(policy, history.backoff, self.worker.random());
        let wait = self.wait(outcome, is_grpc, backoff)?;
        let spend = if is_unprocessed(outcome) { Spend::Requeue } else { Spend::Retry };
        if !self.backend.view.spend(spend) {
            return Err(Some(Denied::Budget));
        }
        (history.backoff, history.requeues) = (Some(backoff), 0);
        history.further += 1;
        self.keep_away(picked, history);
        Ok((class, wait))
    }

    /// The backoff, or what the endpoint asks for, if there is so much time.
    fn wait(&self, outcome: &Outcome, is_grpc: bool, backoff: Duration) -> Result<Duration, Denied> {
        let fits = |wait| {
            let until = Instant::now().checked_add(wait);
            self.deadline.is_none_or(|deadline| until.is_some_and(|until| until < deadline))
        };
        let asked = outcome.as_ref().ok().and_then(|(response, _)| asked(response, is_grpc));
        match asked {
            None if fits(backoff) => Ok(backoff),
            None => Err(Denied::Deadline),
            Some(asked) => {
                let wait = match asked {
                    Asked::After(wait) => wait.max(backoff),
                    Asked::Exactly(wait) => wait,
                    Asked::Never => return Err(Denied::Pushback),
                };
                if wait <= LONGEST_PUSHBACK && fits(wait) { Ok(wait) } else { Err(Denied::Pushback) }
            }
        }
    }

    /// From the endpoint that has failed, while there is another; when all have, at least from the last.
    fn keep_away(&self, picked: &Picked, history: &mut History) {
        let last = picked.target.id;
        if !history.avoid.contains(&last) {
            history.avoid.push(last);
        }
        let service = &self.backend.view.service;
        if history.avoid.len() > 1 && !service.endpoints().has_another(&history.avoid, &service.policy) {
            history.avoid.clear();
            history.avoid.push(last);
        }
    }
}

/// The first class of `on` that an attempt has.
pub(super) fn class(on: &RetryOn, outcome: &Outcome, is_grpc: bool) -> Option<Class> {
    match outcome {
        Ok((response, _)) => class_of_answer(on, response.status(), response.headers(), is_grpc),
        Err(error) => class_of_failure(on, error, is_grpc),
    }
}

fn class_of_answer(on: &RetryOn, status: StatusCode, fields: &HeaderMap, is_grpc: bool) -> Option<Class> {
    let code = if is_grpc { fields.get("grpc-status") } else { None };
    let code = code.and_then(|code| code.to_str().ok()?.parse::<u32>().ok());
    let number = status.as_u16();
    if code.is_some_and(|code| lists(on, code)) {
        Some(Class::Grpc)
    } else if on.gateway_error && matches!(number, 502..=504) {
        Some(Class::GatewayError)
    } else if on.server_error && status.is_server_error() {
        Some(Class::ServerError)
    } else {
        on.statuses.binary_search(&number).is_ok().then_some(Class::Status)
    }
}

fn class_of_failure(on: &RetryOn, error: &AttemptError, is_grpc: bool) -> Option<Class> {
    let (listed, class, code) = match error {
        AttemptError::Send(SendError { caller: Some(_), .. }) => return None,
        AttemptError::Timeout(limit) if limit.is_final() => return None,
        // It has waited as long as it may.
        AttemptError::Connect(ConnectError::Full { .. }) => return None,
        AttemptError::Connect(_) => (on.connect_failure, Class::ConnectFailed, grpc::Status::Unavailable),
        AttemptError::Busy(_) => (false, Class::ServerError, grpc::Status::Unavailable),
        AttemptError::Send(_) => (on.reset, Class::Reset, grpc::Status::Unavailable),
        AttemptError::Timeout(_) => (on.timeout, Class::Timeout, grpc::Status::DeadlineExceeded),
    };
    if is_grpc && lists(on, code as u32) {
        Some(Class::Grpc)
    } else if listed {
        Some(class)
    } else if on.gateway_error {
        Some(Class::GatewayError)
    } else {
        on.server_error.then_some(Class::ServerError)
    }
}

fn lists(on: &RetryOn, code: u32) -> bool {
    1u32.checked_shl(code).is_some_and(|bit| on.grpc & bit != 0)
}

/// Whether nobody can have processed the request.
fn is_unprocessed(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Err(AttemptError::Connect(_)
            | AttemptError::Busy(_)
            | AttemptError::Send(SendError { sent: Sent::Nothing | Sent::Refused, .. }))
    )
}

/// The wait before the next attempt: by chance between the shortest and three times the one before, at most the longest.
fn backoff(policy: &Retry, before: Option<Duration>, random: u64) -> Duration {
    let (first, longest) = (policy.backoff_first, policy.backoff_longest);
    let most = before.unwrap_or(first).saturating_mul(3).max(first);
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let part = (u128::from(random) * u128::from(nanos(most - first))) >> 64;
    (first + Duration::from_nanos(part as u64)).min(longest)
}

/// What an endpoint says of another attempt.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// Not sooner than after this.
    After(Duration),
    /// After this, neither sooner nor later.
    Exactly(Duration),
    Never,
}

fn asked(response: &Response<Body>, is_grpc: bool) -> Option<Asked> {
    let fields = response.headers();
    if let Some(pushback) = fields.get("grpc-retry-pushback-ms").filter(|_| is_grpc) {
        // What cannot be read counts as a no (A6).
        let millis = pushback.to_str().ok().and_then(|text| text.trim().parse::<u32>().ok());
        return Some(
            millis.map_or(Asked::Never, |millis| Asked::Exactly(Duration::from_millis(millis.into()))),
        );
    }
    if !matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    let after = fields.get(RETRY_AFTER)?.to_str().ok()?;
    retry_after(after.trim(), SystemTime::now()).map(Asked::After)
}

/// Seconds, or a date.
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

/// Lets go of an answer that is not used, in such a way that its connection can be, if that is little work.
pub(super) fn discard(outcome: Outcome) {
    let Ok((response, lease)) = outcome else { return };
    let body = response.into_body();
    if http_body::Body::is_end_stream(&body) {
        return lease.finish();
    }
    if http_body::Body::size_hint(&body).lower() > DISCARDED as u64 {
        return;
    }
    tokio::task::spawn_local(async move {
        // Else the connection is closed with the lease, or the stream reset.
        let _ = timeout(DISCARD_TIME, read_away(body, lease)).await;
    });
}

async fn read_away(mut body: Body, lease: Lease) {
    let mut read = 0;
    while let Some(frame) = next_frame(&mut body).await {
        let Ok(frame) = frame else { return };
        read += frame.data_ref().map_or(0, |data| data.len());
        if read > DISCARDED {
            return;
        }
    }
    lease.finish();
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use http::HeaderValue;
    use proptest::prelude::*;

    use super::{super::attempt::Limit, *};
    use crate::upstream::CallerFault;

    fn connect() -> AttemptError {
        AttemptError::Connect(ConnectError::Io(Rc::new(std::io::ErrorKind::ConnectionRefused.into())))
    }

    fn reset(caller: Option<CallerFault>) -> AttemptError {
        AttemptError::Send(SendError { sent: Sent::Some, reused: false, caller, message: String::new() })
    }

    fn on(word: &str) -> RetryOn {
        let mut on = RetryOn::default();
        match word {
            "connect-failure" => on.connect_failure = true,
            "reset" => on.reset = true,
            "timeout" => on.timeout = true,
            "5xx" => on.server_error = true,
            "gateway-error" => on.gateway_error = true,
            "429" => on.statuses.push(429),
            "unavailable" => on.grpc = 1 << 14,
            "deadline-exceeded" => on.grpc = 1 << 4,
            other => panic!("{other}"),
        }
        on
    }

    #[test]
    fn every_failure_without_an_answer_has_its_class() {
        let (own, whole) = (Limit::Attempt, Limit::Route);
        for (word, error, is_grpc, expected) in [
            ("connect-failure", connect(), false, Some(Class::ConnectFailed)),
            ("connect-failure", reset(None), false, None),
            ("reset", reset(None), false, Some(Class::Reset)),
            ("reset", reset(Some(CallerFault::Gone)), false, None),
            ("reset", connect(), false, None),
            ("timeout", AttemptError::Timeout(own), false, Some(Class::Timeout)),
            ("timeout", AttemptError::Timeout(whole), false, None),
            ("5xx", AttemptError::Timeout(whole), false, None),
            ("5xx", AttemptError::Timeout(own), false, Some(Class::ServerError)),
            ("5xx", connect(), false, Some(Class::ServerError)),
            ("gateway-error", reset(None), false, Some(Class::GatewayError)),
            ("gateway-error", reset(Some(CallerFault::Gone)), false, None),
            ("429", connect(), false, None),
            ("unavailable", connect(), true, Some(Class::Grpc)),
            ("unavailable", reset(None), true, Some(Class::Grpc)),
            ("unavailable", reset(None), false, None),
            ("unavailable", AttemptError::Timeout(own), true, None),
            ("deadline-exceeded", AttemptError::Timeout(own), true, Some(Class::Grpc)),
            ("deadline-exceeded", AttemptError::Timeout(whole), true, None),
        ] {
            assert_eq!(class_of_failure(&on(word), &error, is_grpc), expected, "{word} {is_grpc}");
        }
    }

    #[test]
    fn every_answer_that_is_a_failure_has_its_class() {
        for (word, status, code, expected) in [
            ("5xx", 500, None, Some(Class::ServerError)),
            ("5xx", 599, None, Some(Class::ServerError)),
            ("5xx", 499, None, None),
            ("gateway-error", 502, None, Some(Class::GatewayError)),
            ("gateway-error", 504, None, Some(Class::GatewayError)),
            ("gateway-error", 500, None, None),
            ("gateway-error", 505, None, None),
            ("429", 429, None, Some(Class::Status)),
            ("429", 503, None, None),
            ("reset", 503, None, None),
            ("unavailable", 200, Some("14"), Some(Class::Grpc)),
            ("unavailable", 200, Some("13"), None),
            ("unavailable", 200, Some("0"), None),
            ("unavailable", 200, Some("46"), None),
            ("unavailable", 200, Some("x"), None),
            ("unavailable", 200, None, None),
        ] {
            let mut fields = HeaderMap::new();
            if let Some(code) = code {
                fields.insert("grpc-status", HeaderValue::from_static(code));
            }
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                class_of_answer(&on(word), status, &fields, true),
                expected,
                "{word} {status} {code:?}"
            );
            if code.is_some() {
                assert_eq!(class_of_answer(&on(word), status, &fields, false), None, "not gRPC");
            }
        }
    }

    fn response(status: u16, name: &'static str, value: &'static str) -> Response<Body> {
        Response::builder().status(status).header(name, value).body(Body::Empty).unwrap()
    }

    #[test]
    fn an_endpoint_says_when_and_whether_it_will_be_asked_again() {
        let (pushback, secs, millis) = ("grpc-retry-pushback-ms", Duration::from_secs, Duration::from_millis);
        for (response, is_grpc, expected) in [
            (response(429, "retry-after", "2"), false, Some(Asked::After(secs(2)))),
            (response(503, "retry-after", " 0 "), false, Some(Asked::After(secs(0)))),
            (response(503, "retry-after", "99999999999999999999"), false, Some(Asked::After(secs(u64::MAX)))),
            (response(503, "retry-after", "soon"), false, None),
            (response(503, "retry-after", "-1"), false, None),
            (response(500, "retry-after", "2"), false, None),
            (response(200, pushback, "250"), true, Some(Asked::Exactly(millis(250)))),
            (response(200, pushback, "0"), true, Some(Asked::Exactly(millis(0)))),
            (response(200, pushback, "-1"), true, Some(Asked::Never)),
            (response(200, pushback, "x"), true, Some(Asked::Never)),
            (response(200, pushback, "250"), false, None),
        ] {
            assert_eq!(asked(&response, is_grpc), expected, "{response:?}");
        }
    }

    #[test]
    fn a_date_means_the_time_until_then() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(7)));
        let later = now + Duration::from_secs(60);
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", later), Some(Duration::ZERO));
        assert_eq!(retry_after("", now), None);
    }

    fn policy(first: u64, longest: u64) -> Retry {
        Retry {
            on: RetryOn::default(),
            attempts: 3,
            methods: Vec::new(),
            backoff_first: Duration::from_micros(first),
            backoff_longest: Duration::from_micros(first + longest),
            body_limit: 0,
        }
    }

    #[test]
    fn waits_spread_over_the_whole_range_and_grow() {
        let policy = policy(25_000, 10_000_000);
        assert_eq!(backoff(&policy, None, 0), Duration::from_millis(25));
        let longest = backoff(&policy, None, u64::MAX);
        assert!(
            longest > Duration::from_micros(74_999) && longest <= Duration::from_millis(75),
            "{longest:?}"
        );
        let third = backoff(&policy, Some(longest), u64::MAX);
        assert!(third > Duration::from_millis(224), "{third:?}");
    }

    proptest! {
        #[test]
        fn a_wait_is_never_below_the_shortest_nor_above_the_longest(
            (first, more) in (1u64..1_000_000, 0u64..1_000_000),
            before in prop::option::of(0u64..u64::MAX),
            random: u64,
        ) {
            let policy = policy(first, more);
            let wait = backoff(&policy, before.map(Duration::from_micros), random);
            prop_assert!(wait >= policy.backoff_first && wait <= policy.backoff_longest, "{wait:?}");
        }
    }
}
