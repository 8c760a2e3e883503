//! A request as one line by a template of the configuration.
//!
//! Values are escaped as in JSON, so that a template may put them between quotes.

use std::time::Duration;

use super::{
    Record,
    line_text::{address, escaped, hex_digits, millis, number, time},
};
use crate::config::{LogField, LogPiece, LogTemplate};

/// Writes the line, without a newline.
pub(super) fn write(to: &mut Vec<u8>, template: &LogTemplate, record: &Record<'_>) {
    for piece in &template.pieces {
        match piece {
            LogPiece::Text(text) => to.extend_from_slice(text.as_bytes()),
            LogPiece::Field { field, optional } => {
                let before = to.len();
                value(to, *field, record);
                if to.len() == before && !optional {
                    to.push(b'-');
                }
            }
        }
    }
}

/// Nothing where there is none.
fn value(to: &mut Vec<u8>, field: LogField, record: &Record<'_>) {
    let last = record.answering;
    match field {
        LogField::Time => time(to, record.time),
        LogField::Listener => text(to, record.listener),
        LogField::Peer => address(to, record.peer),
        LogField::Caller => text(to, record.caller),
        LogField::Method => text(to, record.method),
        LogField::Host => escaped(to, record.host),
        LogField::Path => escaped(to, record.path),
        LogField::Protocol => text(to, record.protocol),
        LogField::Route => text(to, record.route),
        LogField::Service => text(to, record.service),
        LogField::Endpoint => record.endpoint.into_iter().for_each(|endpoint| address(to, endpoint)),
        LogField::Status => number(to, record.status),
        LogField::Reason => text(to, record.reason),
        LogField::Cause => text(to, record.cause),
        LogField::Fault => text(to, record.fault),
        LogField::Policy => text(to, record.policy),
        LogField::Attempts => number(to, record.attempts),
        LogField::Duration => millis(to, record.duration),
        LogField::BytesIn => number(to, record.bytes_in),
        LogField::BytesOut => number(to, record.bytes_out),
        LogField::RequestId => escaped(to, record.request_id),
        LogField::GrpcStatus => record.grpc_status.into_iter().for_each(|status| number(to, status)),
        LogField::TraceId => trace_id(to, record),
        LogField::SpanId => record.trace.into_iter().for_each(|trace| hex(to, trace.span)),
        LogField::Routed => timing(to, record.phases.routed),
        LogField::Admitted => timing(to, record.phases.admitted),
        LogField::Sent => timing(to, last.and_then(|note| note.sent)),
        LogField::Head => timing(to, last.and_then(|note| note.head)),
        LogField::Answered => timing(to, record.phases.answered),
    }
}

fn text<'a>(to: &mut Vec<u8>, text: impl Into<Option<&'a str>>) {
    if let Some(text) = text.into() {
        escaped(to, text.as_bytes());
    }
}

fn timing(to: &mut Vec<u8>, since: Option<Duration>) {
    if let Some(since) = since {
        millis(to, since);
    }
}

fn trace_id(to: &mut Vec<u8>, record: &Record<'_>) {
    if let Some(trace) = record.trace {
        hex(to, (trace.trace_id >> 64) as u64);
        hex(to, trace.trace_id as u64);
    }
}

fn hex(to: &mut Vec<u8>, number: u64) {
    to.extend_from_slice(&hex_digits::<16>(number));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::record::samples::sample;

    fn field(field: LogField, optional: bool) -> LogPiece {
        LogPiece::Field { field, optional }
    }

    fn line(pieces: Vec<LogPiece>, record: &Record<'_>) -> String {
        let mut line = Vec::new();
        write(&mut line, &LogTemplate { written: "".into(), pieces }, record);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_field_that_is_not_there_is_a_dash_or_nothing() {
        let text = |text: &str| LogPiece::Text(text.into());
        let record = Record { reason: None, ..sample() };
        let (reason, either) = (field(LogField::Reason, false), field(LogField::Reason, true));
        let line = line(
            vec![field(LogField::Status, false), text(" "), reason, text("["), either, text("]")],
            &record,
        );
        assert_eq!(line, "200 -[]");
    }

    #[test]
    fn what_a_caller_sends_stays_within_its_line_and_its_quotes() {
        let path: Vec<u8> = (0..=255).collect();
        let line = line(vec![field(LogField::Path, false)], &Record { path: &path, ..sample() });
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(line.contains(" !\\\"#") && line.contains("[\\\\]"), "{line:?}");
    }
}
