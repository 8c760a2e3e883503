//! W3C Trace Context, Level 2: `tracestate`, what tracing systems tell themselves along a trace. towpath has nothing to add to it.
//!
//! # What is kept
//! A list of at most 32 `key=value`, however many fields it comes in, whole: no part of a valid one is ever cut off, so much more than
//! the 512 bytes that the specification asks for gets through (16 KiB, if the request's head may be as large). Empty members
//! count for nothing and may be any number. Of members with one key the first counts, which is the latest.
//!
//! # What is dropped
//! All of it, when any of it is invalid: which of the rest can be trusted is nothing that towpath could know. A key of Level 1
//! (`tenant@vendor`) is one of Level 2 as well, where `@` may stand anywhere but in front.

use http::{HeaderMap, HeaderValue};

use super::fields::{Field, TRACESTATE};

const MAX_MEMBERS: usize = 32;
const MAX_KEY: usize = 256;
const MAX_VALUE: usize = 256;

/// What is to be done with the `tracestate` of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing: it is valid, or not there.
    Keep,
    /// It is valid, in several fields or with empty members.
    Combine,
    /// It has members that do not count.
    Thin,
    Drop,
}

/// The members of a list, without those that do not count.
struct List<'a> {
    members: [&'a [u8]; MAX_MEMBERS],
    count: usize,
    /// Some were empty.
    gaps: bool,
    /// Some had the key of one before.
    repeated: bool,
}

/// What becomes of the `tracestate` beside a valid `traceparent`.
pub(super) fn judge(field: Field<'_>, headers: &HeaderMap) -> State {
    let (list, is_split) = match field {
        Field::Absent => return State::Keep,
        Field::Once(value) => (List::of(std::iter::once(value)), false),
        Field::Repeated => (List::of(values(headers)), true),
    };
    match list {
        None => State::Drop,
        Some(List { count: 0, .. }) => State::Drop,
        Some(List { repeated: true, .. }) => State::Thin,
        Some(List { gaps, .. }) if gaps || is_split => State::Combine,
        Some(_) => State::Keep,
    }
}

/// Writes it as one field.
pub(super) fn combine(headers: &mut HeaderMap) {
    let joined = List::of(values(headers)).map(|list| list.members[..list.count].join(&b","[..]));
    match joined.and_then(|text| HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok()) {
        Some(value) => headers.insert(&TRACESTATE, value),
        None => headers.remove(&TRACESTATE),
    };
}

fn values(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(&TRACESTATE).iter().map(HeaderValue::as_bytes)
}

impl<'a> List<'a> {
    /// The list that fields with these values make up; none when it is invalid.
    fn of(values: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let mut list = Self { members: [&[]; MAX_MEMBERS], count: 0, gaps: false, repeated: false };
        let mut found = 0;
        for member in values.flat_map(|value| value.split(|byte| *byte == b',')).map(trim) {
            if member.is_empty() {
                list.gaps = true;
                continue;
            }
            found += 1;
            let key = key_of(member).filter(|_| found <= MAX_MEMBERS)?;
            if list.has(key) {
                list.repeated = true;
            } else {
                list.members[list.count] = member;
                list.count += 1;
            }
        }
        Some(list)
    }

    fn has(&self, key: &[u8]) -> bool {
        let is_of = |member: &&[u8]| member.starts_with(key) && member.get(key.len()) == Some(&b'=');
        self.members[..self.count].iter().any(is_of)
    }
}

/// Without the whitespace around it.
fn trim(mut member: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = member {
        member = rest;
    }
    member
}

/// The key of a member without whitespace around it; none when the member is invalid.
fn key_of(member: &[u8]) -> Option<&[u8]> {
    let (key, value) = member.split_at(member.iter().position(|byte| *byte == b'=')?);
    let value = &value[1..];
    let starts = matches!(key.first(), Some(b'a'..=b'z' | b'0'..=b'9'));
    let is_key = starts && key.len() <= MAX_KEY && key.iter().all(|byte| is_key_byte(*byte));
    // A value does not end with a space, since that is whitespace around the member.
    let is_value = (1..=MAX_VALUE).contains(&value.len()) && value.iter().all(|byte| is_value_byte(*byte));
    (is_key && is_value).then_some(key)
}

fn is_key_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@')
}

fn is_value_byte(byte: u8) -> bool {
    // A comma has ended the member already.
    matches!(byte, b' '..=b'~') && byte != b'='
}

#[cfg(test)]
mod tests {
    use super::{super::fields::Fields, *};

    fn headers(values: &[&str]) -> HeaderMap {
        values
            .iter()
            .map(|value| (TRACESTATE.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap()))
            .collect()
    }

    /// What is left of it when it is combined; none when it is dropped.
    fn combined(values: &[&str]) -> Option<String> {
        let mut headers = headers(values);
        match judge(Fields::of(&headers).tracestate, &headers) {
            State::Drop => return None,
            State::Keep => {}
            State::Combine | State::Thin => combine(&mut headers),
        }
        let left: Vec<_> = headers.get_all(&TRACESTATE).iter().map(|value| value.to_str().unwrap()).collect();
        assert!(left.len() <= 1, "{left:?}");
        left.first().map(ToString::to_string)
    }

    fn kept(value: &str) -> bool {
        let headers = headers(&[value]);
        match judge(Fields::of(&headers).tracestate, &headers) {
            State::Keep => true,
            State::Drop => false,
            other => panic!("{other:?} of {value}"),
        }
    }

    #[test]
    fn a_valid_list_stays_as_it_is() {
        let key = "abcdefghijklmnopqrstuvwxyz0123456789_-*/";
        let value: String = (' '..='~').filter(|c| !matches!(c, ',' | '=')).collect();
        for list in [
            "foo=1",
            "foo=1,bar=2",
            "foo=1, \t bar=2 \t ,baz=3",
            "foo= 1",
            "0=1",
            "1a-2f@foo=bar1",
            "tenant@vendor=x",
            "foo@=1,bar=2",
            "foo@@bar=1,bar=2",
            "foo@bar@baz=1,bar=2",
            "foo=bar;baz:\"x\"",
            &format!("{key}={value}"),
            &format!("{key}@a-z0-9_-*/={value}"),
            &format!("{}=1", "z".repeat(256)),
            &format!("{}@{}=1", "t".repeat(241), "v".repeat(14)),
            &format!("foo={}", "x".repeat(256)),
        ] {
            assert!(kept(list), "{list}");
        }
    }

    #[test]
    fn an_invalid_member_takes_the_whole_list_with_it() {
        for list in [
            "foo",
            "foo=",
            "=1",
            "=",
            "foo=1,bar",
            "bar=2,foo=bar=baz",
            "foo=,bar=3",
            "foo =1",
            "FOO=1",
            "foo.bar=1",
            "@foo=1,bar=2",
            "_foo=1",
            "-foo=1",
            "fo\to=1",
            "foo=1\t2",
            "foo=é",
            "fooé=1",
            "foo=1;bar=2=3",
            &format!("{}=1", "z".repeat(257)),
            &format!("foo={}", "x".repeat(257)),
        ] {
            assert_eq!(combined(&[list]), None, "{list}");
            assert_eq!(combined(&["a=1", list]), None, "a=1 and {list}");
            assert_eq!(combined(&[list, "a=1"]), None, "{list} and a=1");
        }
    }

    #[test]
    fn several_fields_are_one_list_in_their_order() {
        let three = ["foo=1,bar=2", "rojo=1,congo=2", "baz=3"];
        assert_eq!(combined(&three).unwrap(), "foo=1,bar=2,rojo=1,congo=2,baz=3");
        assert_eq!(combined(&["foo=1 \t , \t bar=2", " baz=3 "]).unwrap(), "foo=1,bar=2,baz=3");
    }

    #[test]
    fn empty_members_count_for_nothing() {
        assert_eq!(combined(&["foo=1", ""]).unwrap(), "foo=1");
        assert_eq!(combined(&["", "foo=1"]).unwrap(), "foo=1");
        assert_eq!(combined(&["foo=1,,bar=2, \t ,"]).unwrap(), "foo=1,bar=2");
        for nothing in [&[""][..], &["", ""], &[","], &[" , \t"]] {
            assert_eq!(combined(nothing), None, "{nothing:?}");
        }
        let many = format!("foo=1{}", ",".repeat(1000));
        assert_eq!(combined(&[&many]).unwrap(), "foo=1");
    }

    #[test]
    fn of_members_with_one_key_the_first_counts() {
        assert_eq!(combined(&["foo=1,foo=1"]).unwrap(), "foo=1");
        assert_eq!(combined(&["foo=1,bar=2,foo=3"]).unwrap(), "foo=1,bar=2");
        assert_eq!(combined(&["foo=1", "foo=2"]).unwrap(), "foo=1");
        assert_eq!(combined(&["foo=1,foobar=2,fo=3"]).unwrap(), "foo=1,foobar=2,fo=3");
    }

    #[test]
    fn a_list_has_32_members_at_most_over_all_fields() {
        let members = |count| (1..=count).map(|n| format!("bar{n:02}={n:02}")).collect::<Vec<_>>();
        for (count, valid) in [(32, true), (33, false)] {
            let members = members(count);
            assert_eq!(combined(&[&members.join(",")]), valid.then(|| members.join(",")), "{count}");
            let fields: Vec<_> = members.chunks(10).map(|some| some.join(",")).collect();
            let fields: Vec<_> = fields.iter().map(String::as_str).collect();
            assert_eq!(combined(&fields), valid.then(|| members.join(",")), "{count} in some fields");
        }
        assert_eq!(combined(&[&["a=1"; 33].join(",")]), None, "33 of one key");
    }

    #[test]
    fn the_longest_list_is_kept_whole() {
        let members: Vec<_> =
            (0..32).map(|n| format!("{n:02}{}={}", "k".repeat(254), "v".repeat(256))).collect();
        let fields: Vec<_> = members.iter().map(String::as_str).collect();
        assert_eq!(combined(&fields).unwrap().len(), 32 * 513 + 31);
    }
}
