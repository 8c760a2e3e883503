//! A template of access log lines: text with fields in braces.
//!
//! `{name}` is a field of the record and `-` where the record has none; `{name?}` is nothing then. `{{` and `}}` are braces.

/// A template that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct LogTemplate {
    /// As written.
    pub written: Box<str>,
    /// In order.
    pub pieces: Vec<LogPiece>,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub enum LogPiece {
    /// As written.
    Text(Box<str>),
    /// A field.
    Field {
        /// Which.
        field: LogField,
        /// Nothing stands where there is none, in place of `-`.
        optional: bool,
    },
}

macro_rules! fields {
    ($($(#[$doc:meta])* $field:ident = $name:literal,)*) => {
        /// A field of a record. Names are the keys of the JSON record.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum LogField {
            $($(#[$doc])* $field,)*
        }

        impl LogField {
            /// Every field, by name.
            const ALL: &[(&str, Self)] = &[$(($name, Self::$field),)*];
        }
    };
}

fields! {
    /// When its head had come.
    Time = "time",
    /// The listener's name.
    Listener = "listener",
    /// The caller's end of the connection.
    Peer = "peer",
    /// Who that is.
    Caller = "caller",
    /// The method.
    Method = "method",
    /// The host, as sent.
    Host = "host",
    /// The path, as sent, query included.
    Path = "path",
    /// The protocol.
    Protocol = "protocol",
    /// The route's name.
    Route = "route",
    /// The service's name.
    Service = "service",
    /// The endpoint's address.
    Endpoint = "endpoint",
    /// The status.
    Status = "status",
    /// Why towpath itself answered.
    Reason = "reason",
    /// Which limit, timeout or policy that was.
    Cause = "cause",
    /// What was done to it on purpose.
    Fault = "fault",
    /// The policy that denied it or would have.
    Policy = "policy",
    /// How many attempts there were.
    Attempts = "attempts",
    /// From the head to the end of the response.
    Duration = "duration_ms",
    /// Of the request's body.
    BytesIn = "bytes_in",
    /// Of the response's body.
    BytesOut = "bytes_out",
    /// `x-request-id`.
    RequestId = "request_id",
    /// `grpc-status`.
    GrpcStatus = "grpc_status",
    /// Its trace.
    TraceId = "trace_id",
    /// Its span.
    SpanId = "span_id",
    /// Until its route and service were known.
    Routed = "timings_ms.routed",
    /// Until it had its places.
    Admitted = "timings_ms.admitted",
    /// Until the last attempt had a connection.
    Sent = "timings_ms.sent",
    /// Until the head of the last attempt's response was here.
    Head = "timings_ms.head",
    /// Until the head of the response was ready for the caller.
    Answered = "timings_ms.answered",
}

/// What is allowed, in words.
pub(super) fn allowed() -> String {
    let names: Vec<String> = LogField::ALL.iter().map(|(name, _)| format!("{{{name}}}")).collect();
    format!(
        "\"json\", or a template such as \"{{time}} {{method}} {{path}} {{status}}\" of the fields {} ({{name?}}: nothing in place of - where there is none; {{{{ is a brace)",
        names.join(", ")
    )
}

/// Reads a template. Places in errors count characters, from 1.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(text: &str) -> Result<LogTemplate, String> {
    let (mut pieces, mut plain) = (Vec::new(), String::new());
    let mut rest = text;
    let place = |rest: &str| text[..text.len() - rest.len()].chars().count() + 1;
    while let Some(c) = rest.chars().next() {
        let next = &rest[c.len_utf8()..];
        rest = match c {
            '{' | '}' if next.starts_with(c) => {
                plain.push(c);
                &next[1..]
            }
            '{' => {
                let inside = next.split_once('}').filter(|(name, _)| !name.contains('{'));
                let (name, after) =
                    inside.ok_or_else(|| format!("the brace at character {} is not closed", place(rest)))?;
                pieces.extend(text_of(&mut plain));
                pieces.push(field(name, place(rest))?);
                after
            }
            '}' => return Err(format!("the brace at character {} was not opened", place(rest))),
            // One record is one line, which no terminal takes for anything else.
            c if c.is_control() && c != '\t' => {
                return Err(format!("{c:?} at character {} cannot stand in a line", place(rest)));
            }
            c => {
                plain.push(c);
                next
            }
        };
    }
    pieces.extend(text_of(&mut plain));
    let has_field = pieces.iter().any(|piece| matches!(piece, LogPiece::Field { .. }));
    if has_field {
        Ok(LogTemplate { written: text.into(), pieces })
    } else {
        Err(format!("\"{text}\" has no field"))
    }
}

fn text_of(plain: &mut String) -> Option<LogPiece> {
    (!plain.is_empty()).then(|| LogPiece::Text(std::mem::take(plain).into()))
}

fn field(written: &str, place: usize) -> Result<LogPiece, String> {
    let bare = written.strip_suffix('?');
    let name = bare.unwrap_or(written);
    let known = LogField::ALL.iter().find(|(known, _)| *known == name);
    let (_, field) = known.ok_or_else(|| format!("{{{written}}} at character {place} is no field"))?;
    Ok(LogPiece::Field { field: *field, optional: bare.is_some() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> LogPiece {
        LogPiece::Text(text.into())
    }

    fn field(field: LogField) -> LogPiece {
        LogPiece::Field { field, optional: false }
    }

    #[test]
    fn a_template_is_text_and_fields() {
        let read = read("{time} \"{method}\"\t{{{timings_ms.sent}}} {reason?}").unwrap();
        let expected = [
            field(LogField::Time),
            text(" \""),
            field(LogField::Method),
            text("\"\t{"),
            field(LogField::Sent),
            text("} "),
            LogPiece::Field { field: LogField::Reason, optional: true },
        ];
        assert_eq!(read.pieces, expected);
    }

    #[test]
    fn what_is_wrong_with_a_template_is_told_with_its_place() {
        for (text, said) in [
            ("{time} {foo}", "{foo} at character 8 is no field"),
            ("ö{time", "the brace at character 2 is not closed"),
            ("{time {host}", "the brace at character 1 is not closed"),
            ("{time} }", "the brace at character 8 was not opened"),
            ("{}", "{} at character 1 is no field"),
            ("{time}\n", "'\\n' at character 7 cannot stand in a line"),
            ("common", "\"common\" has no field"),
            ("", "\"\" has no field"),
        ] {
            assert_eq!(read(text).unwrap_err(), said, "{text}");
        }
    }

    #[test]
    fn every_field_has_a_name_of_its_own_that_can_be_read() {
        for (name, expected) in LogField::ALL {
            assert_eq!(read(&format!("{{{name}}}")).unwrap().pieces, [field(*expected)], "{name}");
        }
    }
}
