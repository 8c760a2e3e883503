//! Jaeger's `uber-trace-id` (<https://www.jaegertracing.io/sdk-migration/#propagation-format>): `trace:span:parent:flags` in
//! hexadecimal digits, without zeros in front if the sender likes it so. Some senders write `%3A` for the colons.
//!
//! What belongs to Jaeger besides, `uberctx-*` and `jaeger-debug-id`, is none of towpath's business and passes.

use http::{HeaderMap, HeaderValue};

use super::{
    TraceContext,
    digits::{self, Text},
    fields::JAEGER,
    reading::{Decision, Ids, Said},
};

const SAMPLED: u64 = 1;
const DEBUG: u64 = 2;

/// Bytes of the longest without `%`.
const LONGEST: usize = 32 + 1 + 16 + 1 + 16 + 1 + 2;

/// What an `uber-trace-id` says; none when it is invalid.
pub(super) fn read(text: &[u8]) -> Option<Said> {
    let (mut plain, mut length) = ([0; LONGEST], 0);
    let mut rest = text;
    while let Some((byte, behind)) = next(rest)? {
        *plain.get_mut(length)? = byte;
        length += 1;
        rest = behind;
    }
    let mut parts = plain[..length].split(|byte| *byte == b':');
    let [trace, span, parent, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    if parts.next().is_some() || flags.len() > 2 {
        return None;
    }
    // The parent of a root is 0, and nobody reads it: only what it looks like counts.
    digits::number_of_any_case(parent)?;
    let ids = Ids { trace_id: trace_id(trace)?, span: digits::number_of_any_case(span)? };
    let decision = match digits::number_of_any_case(flags)? {
        flags if flags & DEBUG != 0 => Decision::Debug,
        flags if flags & SAMPLED != 0 => Decision::Accept,
        _ => Decision::Deny,
    };
    (ids.trace_id != 0 && ids.span != 0).then_some(Said {
        ids: Some(ids),
        decision: Some(decision),
        random: false,
    })
}

/// The first byte, which may be written with `%`, and what is behind it; none of nothing. None at all: a `%` that is none.
fn next(text: &[u8]) -> Option<Option<(u8, &[u8])>> {
    match text {
        [] => Some(None),
        [b'%', high, low, rest @ ..] => {
            let byte = u8::try_from(digits::number_of_any_case(&[*high, *low])?).ok()?;
            Some(Some((byte, rest)))
        }
        [b'%', ..] => None,
        [byte, rest @ ..] => Some(Some((*byte, rest))),
    }
}

fn trace_id(text: &[u8]) -> Option<u128> {
    let (high, low) = text.split_at(text.len().saturating_sub(16));
    let high = if high.is_empty() { 0 } else { digits::number_of_any_case(high)? };
    Some(u128::from(high) << 64 | u128::from(digits::number_of_any_case(low)?))
}

/// Writes it for one whose parent is `span`.
pub(super) fn write(context: &TraceContext, span: u64, headers: &mut HeaderMap) {
    let mut text = Text::<LONGEST>::new();
    text.hex_short(context.trace_id);
    text.byte(b':');
    text.hex_short(u128::from(span));
    text.byte(b':');
    text.hex_short(u128::from(context.parent_of(span).unwrap_or_default()));
    text.byte(b':');
    let sampled = if context.is_recorded() { SAMPLED } else { 0 };
    text.hex(sampled | if context.debug { DEBUG } else { 0 }, 1);
    let value: HeaderValue = text.into_value();
    headers.insert(&JAEGER, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_read_exactly_when_it_is_valid() {
        let (long, short) = (0x80f1_98ee_5634_3ba8_64fe_8b2a_57d3_eff7, 0x64fe_8b2a_57d3_eff7);
        let cases = [
            ("80f198ee56343ba864fe8b2a57d3eff7:e457b5a2e4d86bd1:05e3ac9a4f6e3b90:1", Some((long, 'a'))),
            ("80f198ee56343ba864fe8b2a57d3eff7:e457b5a2e4d86bd1:0:1", Some((long, 'a'))),
            ("80F198EE56343BA864FE8B2A57D3EFF7:E457B5A2E4D86BD1:0:1", Some((long, 'a'))),
            ("64fe8b2a57d3eff7:e457b5a2e4d86bd1:0:0", Some((short, 'n'))),
            ("000000000000000064fe8b2a57d3eff7:e457b5a2e4d86bd1:0:00", Some((short, 'n'))),
            ("64fe8b2a57d3eff7:e457b5a2e4d86bd1:0:3", Some((short, 'd'))),
            ("64fe8b2a57d3eff7:e457b5a2e4d86bd1:0:02", Some((short, 'd'))),
            ("64fe8b2a57d3eff7:e457b5a2e4d86bd1:0:9", Some((short, 'a'))),
            ("64fe8b2a57d3eff7%3Ae457b5a2e4d86bd1%3a0%3A1", Some((short, 'a'))),
            ("%36%34fe8b2a57d3eff7:e457b5a2e4d86bd1:0:1", Some((short, 'a'))),
            ("", None),
            ("1", None),
            (":::", None),
            ("64fe8b2a57d3eff7:e457b5a2e4d86bd1", None),
            ("64fe8b2a57d3eff7:e457b5a2e4d86bd1:0", None),
            ("64fe8b2a57d3eff7:e457b5a2e4d86bd1:0:", None),
            ("64fe8b2a57d3eff7:e457b5a2e4d86bd1::1", None),
            ("64fe8b2a57d3eff7:e457b5a2e4d86bd1:0:1:", None),
            ("64fe8b2a57d3eff7:e457b5a2e4d86bd1:0:1:1", None),
            ("64fe8b2a57d3eff7:e457b5a2e4d86bd1:0:001", None),
            ("64fe8b2a57d3eff7:e457b5a2e4d86bd1:0:g", None),
            ("0:e457b5a2e4d86bd1:0:1", None),
            ("00000000000000000000000000000000:e457b5a2e4d86bd1:0:1", None),
            ("64fe8b2a57d3eff7:0:0:1", None),
            ("180f198ee56343ba864fe8b2a57d3eff7:e457b5a2e4d86bd1:0:1", None),
            ("64fe8b2a57d3eff7:1e457b5a2e4d86bd1:0:1", None),
            ("64fe8b2a57d3eff7:e457b5a2e4d86bd1:x:1", None),
            ("64fe8b2a57d3eff7%3e457b5a2e4d86bd1%3A0%3A1", None),
            ("64fe8b2a57d3eff7:e457b5a2e4d86bd1:0:1%", None),
            ("64fe8b2a57d3eff7:e457b5a2e4d86bd1:0:1%3", None),
            ("64fe8b2a57d3eff7%253Ae457b5a2e4d86bd1%253A0%253A1", None),
            ("64fe8b2a57d3eff7-e457b5a2e4d86bd1-0-1", None),
            (" 64fe8b2a57d3eff7:e457b5a2e4d86bd1:0:1", None),
        ];
        for (given, expected) in cases {
            let expected = expected.map(|(trace_id, decision)| {
                let decision = match decision {
                    'a' => Decision::Accept,
                    'd' => Decision::Debug,
                    _ => Decision::Deny,
                };
                (Some(Ids { trace_id, span: 0xe457_b5a2_e4d8_6bd1 }), Some(decision))
            });
            let said = read(given.as_bytes()).map(|said| (said.ids, said.decision));
            assert_eq!(said, expected, "{given}");
        }
    }

    #[test]
    fn short_ids_are_ids() {
        let ids = read(b"a:b:0:0").and_then(|said| said.ids);
        assert_eq!(ids, Some(Ids { trace_id: 0xa, span: 0xb }));
        let ids = read(b"a0000000000000000:b:0:0").and_then(|said| said.ids);
        assert_eq!(ids, Some(Ids { trace_id: 0xa << 64, span: 0xb }));
    }
}
