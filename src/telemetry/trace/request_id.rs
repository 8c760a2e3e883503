//! The request's id: kept when it is valid, else made.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::digits::Text;

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Bytes of a request id that is kept.
const MAX_REQUEST_ID: usize = 128;

/// The request's id: the one `x-request-id` when it is 1 to 128 visible ASCII characters, else 32 hex digits of
/// `random`, which then stand in the headers.
pub fn ensure_request_id(headers: &mut HeaderMap, random: [u64; 2]) -> HeaderValue {
    if let Some(kept) = only(headers, &REQUEST_ID).filter(|value| is_request_id(value.as_bytes())) {
        return kept.clone();
    }
    let mut text = Text::<32>::new();
    text.hex(random[0], 16);
    text.hex(random[1], 16);
    let made = text.into_value();
    headers.insert(&REQUEST_ID, made.clone());
    made
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut all = headers.get_all(name).iter();
    let first = all.next();
    first.filter(|_| all.next().is_none())
}

fn is_request_id(text: &[u8]) -> bool {
    (1..=MAX_REQUEST_ID).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        fields.iter().map(pair).collect()
    }

    #[test]
    fn a_request_id_is_kept_exactly_when_it_is_short_visible_ascii() {
        let (longest, too_long) = ("x".repeat(128), "x".repeat(129));
        let cases = [
            ("a", true),
            ("7f3c~!\"{}", true),
            (&longest, true),
            (&too_long, false),
            ("", false),
            ("two words", false),
            ("tab\there", false),
            ("é", false),
        ];
        for (given, kept) in cases {
            let mut headers = headers(&[("x-request-id", given)]);
            let id = ensure_request_id(&mut headers, [0xab, 1]);
            let expected = if kept { given } else { "00000000000000ab0000000000000001" };
            assert_eq!((id.to_str().unwrap(), &headers["x-request-id"]), (expected, &id), "{given}");
        }
    }

    #[test]
    fn a_missing_or_repeated_request_id_is_made_new() {
        for given in [headers(&[]), headers(&[("x-request-id", "a"), ("x-request-id", "b")])] {
            let mut headers = given;
            let id = ensure_request_id(&mut headers, [1, 2]);
            assert_eq!(headers.get_all("x-request-id").iter().collect::<Vec<_>>(), [&id]);
            assert_eq!(id, "00000000000000010000000000000002");
        }
    }
}
