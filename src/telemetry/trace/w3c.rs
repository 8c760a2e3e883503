//! W3C Trace Context, Level 2 (<https://www.w3.org/TR/trace-context-2/>): `traceparent`. `tracestate` has a file of its own.
//!
//! # Versions
//! Written is version 00. A later one is read by its first four fields, which is what the specification promises of it, and may say more
//! behind a further dash; what is written instead of it has no more than version 00 has. ff is no version.
//!
//! # Flags
//! Sampled, and that the trace id is random (of Level 2, where it must be passed on). Others are written as 0, whatever came.

use http::HeaderValue;

use super::{
    TraceContext,
    digits::{self, Text},
    reading::{Decision, Ids, Said},
};

const SAMPLED: u64 = 1;
const RANDOM: u64 = 2;

/// Bytes of version 00: `version-trace_id-parent_id-flags`.
const LENGTH: usize = 55;

/// What a `traceparent` says; none when it is invalid.
pub(super) fn read(text: &[u8]) -> Option<Said> {
    let (fields, rest) = text.split_at_checked(LENGTH)?;
    let (version, flags) = (&fields[..2], digits::number(&fields[53..])?);
    let dashes = [2, 35, 52].iter().all(|&index| fields[index] == b'-');
    let tail =
        rest.is_empty() || (version != b"00" && rest[0] == b'-' && rest.iter().all(|byte| is_plain(*byte)));
    if !dashes || !tail || version == b"ff" {
        return None;
    }
    digits::number(version)?;
    let ids = Ids { trace_id: digits::trace_id(&fields[3..35])?, span: digits::span_id(&fields[36..52])? };
    let decision = if flags & SAMPLED == 0 { Decision::Deny } else { Decision::Accept };
    Some(Said { ids: Some(ids), decision: Some(decision), random: flags & RANDOM != 0 })
}

/// What a later version may be made of: no version has more than ASCII, and a comma would be two fields that somebody has joined.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b','
}

/// The `traceparent` of one whose parent is `span`.
pub(super) fn write(context: &TraceContext, span: u64) -> HeaderValue {
    let mut text = Text::<LENGTH>::new();
    text.hex(0, 2);
    text.byte(b'-');
    text.hex((context.trace_id >> 64) as u64, 16);
    text.hex(context.trace_id as u64, 16);
    text.byte(b'-');
    text.hex(span, 16);
    text.byte(b'-');
    let sampled = if context.is_recorded() { SAMPLED } else { 0 };
    text.hex(sampled | if context.random { RANDOM } else { 0 }, 2);
    text.into_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cases of the working group's own tests (w3c/trace-context, `test/test.py`), and more.
    #[test]
    fn a_traceparent_is_read_exactly_when_it_is_valid() {
        let cases = [
            ("00-12345678901234567890123456789012-1234567890123456-01", true),
            ("00-12345678901234567890123456789012-1234567890123456-00", true),
            ("00-12345678901234567890123456789012-1234567890123456-ff", true),
            // Another version.
            ("cc-12345678901234567890123456789012-1234567890123456-01", true),
            ("cc-12345678901234567890123456789012-1234567890123456-01-what-the-future-will-be-like", true),
            ("cc-12345678901234567890123456789012-1234567890123456-01-", true),
            ("fe-12345678901234567890123456789012-1234567890123456-01", true),
            ("cc-12345678901234567890123456789012-1234567890123456-01.what-the-future-will-be-like", false),
            ("cc-12345678901234567890123456789012-1234567890123456-01-é", false),
            ("cc-12345678901234567890123456789012-1234567890123456-01-x, y", false),
            ("cc-12345678901234567890123456789012-1234567890123456-011", false),
            ("cc-12345678901234567890123456789012-1234567890123456-0", false),
            ("ff-12345678901234567890123456789012-1234567890123456-01", false),
            ("ff-12345678901234567890123456789012-1234567890123456-01-more", false),
            ("CC-12345678901234567890123456789012-1234567890123456-01", false),
            (".0-12345678901234567890123456789012-1234567890123456-01", false),
            ("0.-12345678901234567890123456789012-1234567890123456-01", false),
            ("0x-12345678901234567890123456789012-1234567890123456-01", false),
            ("000-12345678901234567890123456789012-1234567890123456-01", false),
            ("0000-12345678901234567890123456789012-1234567890123456-01", false),
            ("0-12345678901234567890123456789012-1234567890123456-01", false),
            // Version 00 ends with its flags.
            ("00-12345678901234567890123456789012-1234567890123456-01.", false),
            ("00-12345678901234567890123456789012-1234567890123456-01-", false),
            ("00-12345678901234567890123456789012-1234567890123456-01-what-the-future-will-be-like", false),
            // Trace ids.
            ("00-00000000000000000000000000000000-1234567890123456-01", false),
            ("00-.2345678901234567890123456789012-1234567890123456-01", false),
            ("00-1234567890123456789012345678901.-1234567890123456-01", false),
            ("00-123456789012345678901234567890123-1234567890123456-01", false),
            ("00-1234567890123456789012345678901-1234567890123456-01", false),
            ("00-ABCDEF78901234567890123456789012-1234567890123456-01", false),
            ("00-1234567890123456789012345678901--1234567890123456-01", false),
            ("00-1234567890123456-1234567890123456-01", false),
            // Parent ids.
            ("00-12345678901234567890123456789012-0000000000000000-01", false),
            ("00-12345678901234567890123456789012-.234567890123456-01", false),
            ("00-12345678901234567890123456789012-123456789012345.-01", false),
            ("00-12345678901234567890123456789012-12345678901234567-01", false),
            ("00-12345678901234567890123456789012-123456789012345-01", false),
            ("00-12345678901234567890123456789012-ABCDEF7890123456-01", false),
            // Flags.
            ("00-12345678901234567890123456789012-1234567890123456-.0", false),
            ("00-12345678901234567890123456789012-1234567890123456-0.", false),
            ("00-12345678901234567890123456789012-1234567890123456-001", false),
            ("00-12345678901234567890123456789012-1234567890123456-1", false),
            ("00-12345678901234567890123456789012-1234567890123456-", false),
            ("00-12345678901234567890123456789012-1234567890123456-0A", false),
            // Dashes, and two in one.
            ("00_12345678901234567890123456789012-1234567890123456-01", false),
            ("00-12345678901234567890123456789012_1234567890123456-01", false),
            ("00-12345678901234567890123456789012-1234567890123456_01", false),
            (
                "00-12345678901234567890123456789012-1234567890123456-01,00-12345678901234567890123456789012-1234567890123456-01",
                false,
            ),
            (" 00-12345678901234567890123456789012-1234567890123456-01", false),
            ("00-12345678901234567890123456789012-1234567890123456é", false),
            ("00", false),
            ("", false),
        ];
        for (given, valid) in cases {
            let ids = read(given.as_bytes()).and_then(|said| said.ids);
            let expected =
                Ids { trace_id: 0x1234_5678_9012_3456_7890_1234_5678_9012, span: 0x1234_5678_9012_3456 };
            assert_eq!(ids, valid.then_some(expected), "{given}");
        }
    }

    #[test]
    fn of_the_flags_sampled_and_random_are_known() {
        for (flags, decision, random) in [
            ("00", Decision::Deny, false),
            ("01", Decision::Accept, false),
            ("02", Decision::Deny, true),
            ("03", Decision::Accept, true),
            ("fc", Decision::Deny, false),
            ("ff", Decision::Accept, true),
        ] {
            for version in ["00", "cc"] {
                let text = format!("{version}-12345678901234567890123456789012-1234567890123456-{flags}");
                let said = read(text.as_bytes()).unwrap();
                assert_eq!((said.decision, said.random), (Some(decision), random), "{text}");
            }
        }
    }
}
