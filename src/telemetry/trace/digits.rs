//! Hexadecimal digits, read and written without formatting machinery.

use bytes::Bytes;
use http::HeaderValue;

/// In [`VALUES`]: no digit at all.
const NONE: u8 = 0x80;
/// In [`VALUES`]: an upper-case digit.
const UPPER: u8 = 0x40;

/// What each byte is worth.
const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut value = 0;
    while value < 16 {
        let digit = b"0123456789abcdef"[value as usize];
        values[digit.to_ascii_uppercase() as usize] = value | UPPER;
        values[digit as usize] = value;
        value += 1;
    }
    values
};

/// The number that these lower-case digits write; at most 16.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    read(text, NONE | UPPER)
}

/// As [`number`], in any case.
pub(super) fn number_of_any_case(text: &[u8]) -> Option<u64> {
    read(text, NONE)
}

fn read(text: &[u8], refused: u8) -> Option<u64> {
    if text.is_empty() || text.len() > 16 {
        return None;
    }
    let (mut number, mut seen) = (0, 0);
    for byte in text {
        let value = VALUES[usize::from(*byte)];
        seen |= value;
        number = number << 4 | u64::from(value & 0xf);
    }
    (seen & refused == 0).then_some(number)
}

/// The id of a trace that 16 or 32 lower-case digits write; never 0.
pub(super) fn trace_id(text: &[u8]) -> Option<u128> {
    let id = match text.len() {
        16 => u128::from(number(text)?),
        32 => u128::from(number(&text[..16])?) << 64 | u128::from(number(&text[16..])?),
        _ => return None,
    };
    (id != 0).then_some(id)
}

/// The id of a span that 16 lower-case digits write; never 0.
pub(super) fn span_id(text: &[u8]) -> Option<u64> {
    number(text).filter(|id| text.len() == 16 && *id != 0)
}

/// A field's value that is put together in place: one allocation when it is done, none before.
pub(super) struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Text<N> {
    /// Nothing yet. `N` is the longest that it can become.
    pub(super) fn new() -> Self {
        Self { bytes: [0; N], length: 0 }
    }

    pub(super) fn byte(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    /// The last digits of `number`, this many.
    pub(super) fn hex(&mut self, number: u64, digits: usize) {
        for index in (0..digits).rev() {
            self.byte(b"0123456789abcdef"[(number >> (4 * index) & 0xf) as usize]);
        }
    }

    /// All 32 digits, or 16 where those before are zeros: some systems have no longer ids (W3C's advice on shorter ones).
    pub(super) fn trace_id(&mut self, id: u128) {
        let high = (id >> 64) as u64;
        if high != 0 {
            self.hex(high, 16);
        }
        self.hex(id as u64, 16);
    }

    /// Without zeros in front.
    pub(super) fn hex_short(&mut self, number: u128) {
        let digits = (128 - number.leading_zeros()).div_ceil(4).max(1) as usize;
        if digits > 16 {
            self.hex((number >> 64) as u64, digits - 16);
        }
        self.hex(number as u64, digits.min(16));
    }

    /// A clone shares the one allocation. Over HTTP/2 it is sent without a place in the table of fields (RFC 7541 6.2.3), where it
    /// would push out what does come again.
    pub(super) fn into_value(self) -> HeaderValue {
        let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(self))
            .expect("hex digits and what stands between them are valid in a value");
        value.set_sensitive(true);
        value
    }
}

impl<const N: usize> AsRef<[u8]> for Text<N> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_a_number_and_nothing_else_is() {
        assert_eq!(number(b"0"), Some(0));
        assert_eq!(number(b"00af"), Some(0xaf));
        assert_eq!(number(b"ffffffffffffffff"), Some(u64::MAX));
        for text in ["", "0ffffffffffffffff", "AF", "0x1", "g", " 1", "1 ", "-1", "é", "/", ":", "`", "@"] {
            assert_eq!(number(text.as_bytes()), None, "{text}");
        }
        assert_eq!(number_of_any_case(b"aF09"), Some(0xaf09));
        assert_eq!(number_of_any_case(b"aG"), None);
    }

    #[test]
    fn an_id_has_its_length_and_is_not_zero() {
        assert_eq!(trace_id(b"000000000000000a000000000000000b"), Some(0xa << 64 | 0xb));
        assert_eq!(trace_id(b"000000000000000b"), Some(0xb));
        assert_eq!(span_id(b"000000000000000b"), Some(0xb));
        assert_eq!(trace_id(&[b'0'; 32]), None);
        assert_eq!(trace_id(&[b'1'; 31]), None);
        assert_eq!(trace_id(&[b'1'; 33]), None);
        assert_eq!(span_id(&[b'0'; 16]), None);
        assert_eq!(span_id(&[b'1'; 15]), None);
        assert_eq!(span_id(&[b'1'; 17]), None);
    }

    #[test]
    fn numbers_are_written_as_they_are_read() {
        let written = |write: &dyn Fn(&mut Text<40>)| {
            let mut text = Text::new();
            write(&mut text);
            text.into_value().to_str().unwrap().to_owned()
        };
        assert_eq!(written(&|text| text.hex(0xab, 4)), "00ab");
        assert_eq!(written(&|text| text.hex(u64::MAX, 16)), "ffffffffffffffff");
        assert_eq!(written(&|text| text.trace_id(0xb)), "000000000000000b");
        assert_eq!(written(&|text| text.trace_id(1 << 64)), "00000000000000010000000000000000");
        for (number, expected) in [
            (0, "0"),
            (0x10, "10"),
            (u128::from(u64::MAX), "ffffffffffffffff"),
            (0xa << 64, "a0000000000000000"),
            (u128::MAX, "ffffffffffffffffffffffffffffffff"),
        ] {
            assert_eq!(written(&|text| text.hex_short(number)), expected);
        }
    }
}
