//! Values as text in a line: escaped so that one record stays one line, and so that no terminal obeys what a caller sent.
//!
//! Written by hand where every request pays for it; the formatting machinery costs several times as much.

use std::{
    fmt::{self, Write},
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::net::Address;

/// Bytes that stand for themselves between the quotes of a JSON string, and do nothing to a terminal.
static PLAIN: [bool; 256] = plain();

const fn plain() -> [bool; 256] {
    let mut plain = [false; 256];
    let mut byte = b' ';
    while byte < 0x7f {
        plain[byte as usize] = byte != b'"' && byte != b'\\';
        byte += 1;
    }
    plain
}

/// What may stand between a JSON string's quotes. What is not UTF-8 shows as U+FFFD.
pub(super) fn escaped(to: &mut Vec<u8>, value: &[u8]) {
    if value.iter().all(|byte| PLAIN[usize::from(*byte)]) {
        return to.extend_from_slice(value);
    }
    for chunk in value.utf8_chunks() {
        chunk.valid().chars().for_each(|c| character(to, c));
        if !chunk.invalid().is_empty() {
            to.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// Control characters are those below U+0020 and U+007F to U+009F, of which U+009B begins a command as ESC does.
fn character(to: &mut Vec<u8>, c: char) {
    match c {
        '"' | '\\' => to.extend_from_slice(&[b'\\', c as u8]),
        c if c.is_control() => {
            to.extend_from_slice(b"\\u00");
            to.extend_from_slice(&hex_digits::<2>(u64::from(u32::from(c))));
        }
        c => to.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// A whole number.
pub(super) fn number(to: &mut Vec<u8>, number: impl itoa::Integer) {
    to.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Milliseconds with three places.
pub(super) fn millis(to: &mut Vec<u8>, duration: Duration) {
    let micros = u64::try_from((duration.as_nanos() + 500) / 1000).unwrap_or(u64::MAX);
    number(to, micros / 1000);
    to.push(b'.');
    to.extend_from_slice(&digits::<3>(micros % 1000));
}

/// `HOST:PORT` or `unix:PATH`, escaped.
pub(super) fn address(to: &mut Vec<u8>, address: &Address) {
    match address {
        Address::Tcp(SocketAddr::V4(address)) => {
            for (index, octet) in address.ip().octets().into_iter().enumerate() {
                if index > 0 {
                    to.push(b'.');
                }
                number(to, octet);
            }
            to.push(b':');
            number(to, address.port());
        }
        other => escaped(to, other.to_string().as_bytes()),
    }
}

/// Lower case, with leading zeroes.
pub(super) fn hex_digits<const N: usize>(number: u64) -> [u8; N] {
    let mut text = [0; N];
    for (index, digit) in text.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (4 * index) & 0xf) as usize];
    }
    text
}

/// The last digits, with leading zeroes.
fn digits<const N: usize>(mut number: u64) -> [u8; N] {
    let mut text = [b'0'; N];
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    text
}

/// RFC 3339 in UTC with milliseconds. A time before 1970 is written as 1970.
pub(super) fn time(to: &mut Vec<u8>, time: SystemTime) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let two = digits::<2>;
    let [y1, y2, y3, y4] = digits::<4>(year);
    let ([m1, m2], [d1, d2]) = (two(month), two(day));
    let ([h1, h2], [n1, n2], [s1, s2]) = (two(second / 3600), two(second / 60 % 60), two(second % 60));
    let [f1, f2, f3] = digits::<3>(u64::from(since.subsec_millis()));
    to.extend_from_slice(&[
        y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2, b'.', f1, f2,
        f3, b'Z',
    ]);
}

/// As [`time`], to a string.
///
/// # Errors
/// Never: a string takes everything.
pub fn write_time(to: &mut String, at: SystemTime) -> fmt::Result {
    let mut text = Vec::with_capacity(24);
    time(&mut text, at);
    to.write_str(&String::from_utf8_lossy(&text))
}

/// Year, month and day of a day since 1970-01-01, counted in 400-year eras of years that begin in March, so that the
/// leap day is a year's last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day + 2) / 153;
    let day = day - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut text = Vec::new();
        write(&mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn times_are_right_across_leap_years_and_centuries() {
        let at = |seconds| written(|to| time(to, UNIX_EPOCH + Duration::from_secs(seconds)));
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(at(seconds), expected);
        }
        assert!((0..200 * 366).map(|day| at(day * 86_400)).is_sorted());
    }

    #[test]
    fn durations_are_milliseconds_rounded_to_three_places() {
        for (nanos, expected) in [
            (0, "0.000"),
            (499, "0.000"),
            (500, "0.001"),
            (1_250_000, "1.250"),
            (61_000_009_500, "61000.010"),
        ] {
            assert_eq!(written(|to| millis(to, Duration::from_nanos(nanos))), expected);
        }
        assert!(written(|to| millis(to, Duration::MAX)).starts_with("18446744073709551"));
    }

    #[test]
    fn addresses_are_written_as_they_display() {
        for text in ["10.0.0.255:80", "[::1]:65535", "0.0.0.0:0"] {
            let tcp = Address::Tcp(text.parse().unwrap());
            assert_eq!(written(|to| address(to, &tcp)), text);
        }
        let unix = Address::Unix("/run/\"a\".sock".into());
        assert_eq!(written(|to| address(to, &unix)), r#"unix:/run/\"a\".sock"#);
    }

    #[test]
    fn no_control_byte_passes_of_whatever_kind() {
        for byte in 0..=255 {
            let text = written(|to| escaped(to, &[b'a', byte, b'b']));
            assert!(!text.chars().any(char::is_control), "{byte}: {text:?}");
        }
        assert_eq!(
            written(|to| escaped(to, "\u{9b}31m\u{1b}é\u{7f}".as_bytes())),
            "\\u009b31m\\u001bé\\u007f"
        );
        assert_eq!(written(|to| escaped(to, b"a\xff\xfe\"b\xe2\x82")), "a\u{fffd}\u{fffd}\\\"b\u{fffd}");
    }
}
