//! `towpath-debug: 1`: a trusted caller gets told, with the response, how its request was served.
//!
//! # Who is trusted
//! Whom `[[callers]]` calls so; on outgoing listeners, where no entry can hold, root and towpath's own user on this node; and nodes of the
//! mesh, which have asked themselves whether their caller is. From anybody else the field is removed, and the answer says nothing. What
//! an endpoint says in such fields itself is passed on like any of its fields.
//!
//! # Every hop tells
//! The field goes on to the endpoint, which may be a towpath again. Each hop adds one field of each name, so that the first of all are
//! those of the hop nearest to the endpoint.
//!
//! Where towpath traces, the trace of such a request is sampled, whatever the rates.

use std::{fmt::Write, rc::Rc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};

use super::{
    account::Account,
    exchange::{Caller, Exchange},
    target::Target,
};
use crate::{
    config::Route,
    router::{Matcher, RequestView},
    telemetry::{AttemptNote, Phases},
};

static ASKS: HeaderName = HeaderName::from_static("towpath-debug");

/// What is said where there is nothing to say: each hop has a field of each name.
const NOTHING: &str = "-";

/// Sees whether the caller asks, and may.
pub(super) fn take(exchange: &mut Exchange, caller: &Caller, parts: &mut Parts) {
    // Most requests have none. One look at the few names they have is cheaper than a look-up.
    if !parts.headers.keys().any(|name| name.as_str().len() == ASKS.as_str().len() && *name == ASKS) {
        return;
    }
    let Some(asked) = parts.headers.get(&ASKS) else { return };
    if asked != "1" || !exchange.pass.is_trusted(&exchange.view.snapshot.rules) {
        parts.headers.remove(&ASKS);
        return;
    }
    let started = exchange.started.into_std();
    let account = exchange.account.get_or_insert_with(|| Account::new(caller, parts, started));
    account.debug.set(true);
}

/// Notes why the request's route was chosen.
pub(super) fn explain(exchange: &Exchange, parts: &Parts, target: &Target) {
    let Some(account) = exchange.account.as_ref().filter(|account| account.debug.get()) else { return };
    let Some(rule) = exchange.rule() else { return };
    let view = RequestView::of(parts, target.host());
    account.why.replace(why(rule, &view));
}

fn why(rule: &Route, view: &RequestView<'_>) -> String {
    let met = |entry: &&crate::config::Match| Matcher::new(std::slice::from_ref(*entry)).matches(view);
    let conditions =
        rule.matches.iter().find(met).map_or_else(|| "any request".to_owned(), ToString::to_string);
    format!("host {}, {conditions}", view.host)
}

/// Says on the response how the request was served.
pub(super) fn report(exchange: &Exchange, headers: &mut HeaderMap) {
    let Some(account) = exchange.account.as_ref().filter(|account| account.debug.get()) else { return };
    let about = exchange.about();
    let (notes, phases) = (account.notes(), account.phases.get());
    let last = account.answering().and_then(|index| notes.get(index));
    let trace = account.trace.get().map(|trace| format!("{:032x}", trace.trace_id));
    let why = account.why.borrow();
    for (name, value) in [
        ("towpath-debug-node", &*exchange.view.snapshot.config.node.name),
        ("towpath-debug-caller", &*exchange.pass.named.name),
        ("towpath-debug-route", about.route.unwrap_or(NOTHING)),
        ("towpath-debug-why", if why.is_empty() { NOTHING } else { &why }),
        ("towpath-debug-service", about.service.unwrap_or(NOTHING)),
        ("towpath-debug-endpoint", &last.map_or(NOTHING.to_owned(), |note| note.endpoint.to_string())),
        ("towpath-debug-attempts", &attempts(&notes)),
        ("towpath-debug-timings", &timings(phases, last)),
        ("towpath-debug-trace", trace.as_deref().unwrap_or(NOTHING)),
    ] {
        headers.append(HeaderName::from_static(name), visible(value));
    }
}

/// Their number; then each with its endpoint, what came of it, how long it has taken, and what made it necessary.
fn attempts(notes: &[AttemptNote]) -> String {
    let mut text = notes.len().to_string();
    for note in notes {
        let until = note.head.or(note.ended).unwrap_or(note.begun);
        // Writing to a string does not fail, here and below.
        let _ = write!(text, "; {}", note.endpoint);
        let _ = match (note.status, note.ended) {
            (Some(status), _) => write!(text, " {status}"),
            (None, Some(_)) => write!(text, " {}", note.outcome.as_str()),
            (None, None) => Ok(()),
        };
        let _ = write!(text, " {}", millis(until.saturating_sub(note.begun)));
        if let Some(why) = note.why {
            let _ = write!(text, " because {why}");
        }
    }
    text
}

/// How long after the request's head had come what was.
fn timings(phases: Phases, last: Option<&AttemptNote>) -> String {
    let points = [
        ("routed", phases.routed),
        ("admitted", phases.admitted),
        ("begun", last.map(|note| note.begun)),
        ("sent", last.and_then(|note| note.sent)),
        ("head", last.and_then(|note| note.head)),
        ("answered", phases.answered),
    ];
    let known = points.iter().filter_map(|(name, at)| Some(format!("{name}={}", millis((*at)?))));
    known.collect::<Vec<_>>().join(", ")
}

fn millis(duration: Duration) -> String {
    format!("{:.3}ms", duration.as_secs_f64() * 1e3)
}

/// Names come from hosts of requests, too: what cannot stand in a field is shown as `?`.
fn visible(text: &str) -> HeaderValue {
    let shown: String = text.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect();
    HeaderValue::from_str(&shown).unwrap_or(HeaderValue::from_static(NOTHING))
}

impl Exchange {
    /// Whether the caller gets told how its request was served.
    pub(super) fn is_debugged(&self) -> bool {
        self.account.as_ref().is_some_and(|account: &Rc<Account>| account.debug.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{net::Address, telemetry::AttemptOutcome};

    fn note(port: u16, why: Option<&'static str>, status: Option<u16>) -> AttemptNote {
        AttemptNote {
            service: "s".into(),
            endpoint: Address::Tcp(([10, 0, 0, 1], port).into()),
            why,
            begun: Duration::from_millis(1),
            sent: None,
            head: status.map(|_| Duration::from_micros(2500)),
            ended: Some(Duration::from_millis(3)),
            outcome: AttemptOutcome::ConnectFailed,
            status,
            span: 1,
        }
    }

    #[test]
    fn attempts_say_where_what_how_long_and_why() {
        let notes = [note(80, None, None), note(81, Some("5xx"), Some(200))];
        assert_eq!(
            attempts(&notes),
            "2; 10.0.0.1:80 connect_failed 2.000ms; 10.0.0.1:81 200 1.500ms because 5xx"
        );
        assert_eq!(attempts(&[]), "0");
    }

    #[test]
    fn what_did_not_happen_has_no_time() {
        let phases = Phases { routed: Some(Duration::from_micros(20)), ..Phases::default() };
        assert_eq!(timings(phases, None), "routed=0.020ms");
        assert_eq!(
            timings(phases, Some(&note(1, None, Some(200)))),
            "routed=0.020ms, begun=1.000ms, head=2.500ms"
        );
    }

    #[test]
    fn no_byte_of_a_name_breaks_a_field() {
        assert_eq!(visible("a\r\nb\u{e9}"), "a??b?");
    }
}
