//! A request's head: found in a buffer, then read strictly.
//!
//! # What is refused, and why
//! A proxy that repairs what it reads lets two parsers disagree about where a message ends, which is how requests are
//! smuggled. So everything that RFC 9112 allows a server to refuse is refused: line ends other than CRLF, obsolete
//! line folding, white space before a colon, a `Content-Length` that is repeated or sent beside
//! `Transfer-Encoding`, codings other than `chunked`, a missing, repeated or contradicting `Host`.
//! `httparse` reads the tokens; the rules above are here.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING},
    uri::PathAndQuery,
};

use crate::http::{authority, method::is_ambiguous};

/// Fields that are read without an allocation for the parser's own table.
const FIELDS_ON_STACK: usize = 128;

/// What is wrong with a method that some servers take for another.
pub const AMBIGUOUS_METHOD: &str = "the method is another in the wrong case, or HTTP/2's preface";

/// Of a request line: a method, the version, spaces and the line's end.
const LINE_BESIDES_TARGET: usize = 64;

/// How much head a caller may send.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes, the request line and the final empty line included.
    pub bytes: usize,
    /// Fields.
    pub fields: usize,
    /// Bytes of the request's target.
    pub target: usize,
}

/// Why a head is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum HeadError {
    /// Longer than [`HeadLimits`] allow.
    TooLarge,
    /// Its target is longer than [`HeadLimits`] allow.
    TargetTooLong,
    /// Not HTTP as towpath forwards it. Says what is wrong.
    Malformed(&'static str),
}

use HeadError::Malformed;

/// How the body's end is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// This many bytes.
    Length(u64),
    /// Until the last chunk.
    Chunked,
}

/// A request's head, and what it says about its connection.
#[derive(Debug)]
pub struct Head {
    /// The request line and fields. The URI is as sent: origin form, absolute form, authority form or `*`.
    pub parts: http::request::Parts,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the caller wants the connection kept after this request.
    pub keep_alive: bool,
    /// Whether the caller waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

/// Where the head in `buffer` ends; `None` while more bytes are needed.
///
/// `scanned` is how far an earlier call has looked, and is moved on.
///
/// # Errors
/// [`HeadError`] as soon as the bytes so far cannot become an acceptable head.
pub fn find_end(buffer: &[u8], scanned: &mut usize, limits: HeadLimits) -> Result<Option<usize>, HeadError> {
    if buffer.first().is_some_and(|first| !is_token_byte(*first)) {
        return Err(Malformed("the request does not begin with a method"));
    }
    while let Some(at) = memchr::memchr(b'\n', &buffer[*scanned..]) {
        let newline = *scanned + at;
        if newline == 0 || buffer[newline - 1] != b'\r' {
            return Err(Malformed("a line ends in LF without CR"));
        }
        *scanned = newline + 1;
        if newline >= 3 && buffer[newline - 2] == b'\n' {
            return if newline < limits.bytes { Ok(Some(newline + 1)) } else { Err(HeadError::TooLarge) };
        }
    }
    *scanned = buffer.len();
    if buffer.len() >= limits.bytes {
        return Err(HeadError::TooLarge);
    }
    // Where the first line is longer than the rest of it could be, its target is.
    let line = limits.target + LINE_BESIDES_TARGET;
    let is_long = buffer.len() > line && memchr::memchr(b'\n', &buffer[..line]).is_none();
    if is_long { Err(HeadError::TargetTooLong) } else { Ok(None) }
}

/// How many bytes of empty lines stand in front of a request; a server skips them (RFC 9112 2.2).
pub fn leading_empty_lines(buffer: &[u8]) -> usize {
    buffer.chunks_exact(2).take_while(|pair| pair == b"\r\n").count() * 2
}

/// Reads a whole head: what [`find_end`] delimited.
///
/// # Errors
/// [`HeadError`] when the head is not one that towpath forwards.
pub fn parse(head: &Bytes, limits: HeadLimits) -> Result<Head, HeadError> {
    if limits.fields <= FIELDS_ON_STACK {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_ON_STACK];
        parse_with(head, &mut fields[..limits.fields], limits.target)
    } else {
        let mut fields = vec![MaybeUninit::uninit(); limits.fields];
        parse_with(head, &mut fields, limits.target)
    }
}

fn parse_with<'h>(
    head: &'h Bytes,
    fields: &mut [MaybeUninit<httparse::Header<'h>>],
    longest_target: usize,
) -> Result<Head, HeadError> {
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, fields) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(Malformed("the head is cut short")),
        Err(error) => return Err(token_error(error)),
    }
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(Malformed("the request line is incomplete"));
    };
    if target.len() > longest_target {
        return Err(HeadError::TargetTooLong);
    }
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Malformed("the method is not a token"))?;
    if is_ambiguous(method.as_str()) {
        return Err(Malformed(AMBIGUOUS_METHOD));
    }
    let version = if version == 1 { Version::HTTP_11 } else { Version::HTTP_10 };
    let uri = target_uri(&method, head.slice_ref(target.as_bytes()))?;
    let (headers, special) = header_map(head, request.headers)?;
    check_host(&uri, &method, version, &headers)?;
    // Most requests have none of the fields that the rest looks for.
    let framing = if special { framing(version, &headers)? } else { Framing::None };
    if method == Method::TRACE && framing != Framing::None {
        // RFC 9110 9.3.8.
        return Err(Malformed("a TRACE has no content"));
    }
    let keep_alive = if special { keep_alive(version, &headers) } else { version == Version::HTTP_11 };
    let expects_continue = special && expects_continue(version, &headers)? && framing != Framing::None;
    let mut parts = http::Request::new(()).into_parts().0;
    (parts.method, parts.uri, parts.version, parts.headers) = (method, uri, version, headers);
    Ok(Head { parts, framing, keep_alive, expects_continue })
}

fn token_error(error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::TooManyHeaders => HeadError::TooLarge,
        httparse::Error::HeaderName => {
            Malformed("a field name is not a token, or white space precedes the colon")
        }
        httparse::Error::HeaderValue => Malformed("a field value has control characters or is folded"),
        httparse::Error::NewLine => Malformed("a line does not end in CRLF"),
        httparse::Error::Status => Malformed("a status where a request was expected"),
        httparse::Error::Token => Malformed("the request line has characters that are not allowed"),
        httparse::Error::Version => Malformed("the HTTP version is not 1.0 or 1.1"),
    }
}

/// The four forms of a request target (RFC 9112 3.2).
fn target_uri(method: &Method, target: Bytes) -> Result<Uri, HeadError> {
    let bad = |_| Malformed("the request target is not a URI");
    if target.contains(&b'#') {
        return Err(Malformed("the request target has a fragment"));
    }
    match target.first() {
        Some(b'/') => Ok(Uri::from(
            PathAndQuery::from_maybe_shared(target).map_err(|_| Malformed("the path is not a URI's"))?,
        )),
        Some(b'*') if target.len() == 1 && method == Method::OPTIONS => Ok(Uri::from_static("*")),
        _ if method == Method::CONNECT => Uri::from_maybe_shared(target).map_err(bad),
        _ => absolute(Uri::from_maybe_shared(target).map_err(bad)?),
    }
}

fn absolute(uri: Uri) -> Result<Uri, HeadError> {
    match uri.scheme_str() {
        Some("http" | "https") if uri.authority().is_some_and(|a| authority::split(a.as_str()).is_some()) => {
            Ok(uri)
        }
        Some("http" | "https") => Err(Malformed("the target's authority is not a host and port")),
        _ => Err(Malformed("the request target is neither a path nor an http URI")),
    }
}

/// The fields, and whether any of them says something about framing or the connection.
pub(super) fn header_map(
    head: &Bytes,
    fields: &[httparse::Header<'_>],
) -> Result<(HeaderMap, bool), HeadError> {
    // Room for what towpath adds: via, x-request-id, traceparent.
    let mut headers = HeaderMap::with_capacity(fields.len() + 4);
    let mut special = false;
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| Malformed("a field name is too long"))?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value))
            .map_err(|_| Malformed("a field value has control characters"))?;
        special |= [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, EXPECT].contains(&name);
        headers.append(name, value);
    }
    Ok((headers, special))
}

fn check_host(uri: &Uri, method: &Method, version: Version, headers: &HeaderMap) -> Result<(), HeadError> {
    let mut hosts = headers.get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Malformed("Host is repeated"));
    }
    let Some(host) = first else {
        let needs_none = version == Version::HTTP_10;
        return if needs_none { Ok(()) } else { Err(Malformed("Host is missing")) };
    };
    let host = host.to_str().map_err(|_| Malformed("Host is not a host and port"))?;
    if authority::split(host).is_none() {
        return Err(Malformed("Host is not a host and port"));
    }
    match uri.authority() {
        Some(target) if method != Method::CONNECT => {
            let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
            let agrees = authority::same(target.as_str(), host, default);
            if agrees { Ok(()) } else { Err(Malformed("Host contradicts the request target")) }
        }
        _ => Ok(()),
    }
}

/// RFC 9112 6.3, without its tolerances.
fn framing(version: Version, headers: &HeaderMap) -> Result<Framing, HeadError> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(Framing::None),
        (Some(_), Some(_)) => Err(Malformed("Content-Length beside Transfer-Encoding")),
        (Some(_), None) if version == Version::HTTP_10 => {
            Err(Malformed("Transfer-Encoding in a request of version 1.0"))
        }
        (Some(coding), None) => {
            let chunked = codings.next().is_none() && coding.as_bytes().eq_ignore_ascii_case(b"chunked");
            if chunked { Ok(Framing::Chunked) } else { Err(Malformed("Transfer-Encoding is not chunked")) }
        }
        (None, Some(_)) if lengths.next().is_some() => Err(Malformed("Content-Length is repeated")),
        (None, Some(length)) => match decimal(length.as_bytes()) {
            Some(0) => Ok(Framing::None),
            Some(length) => Ok(Framing::Length(length)),
            None => Err(Malformed("Content-Length is not a number")),
        },
    }
}

/// The value of digits only: no sign, no list, no more than an `i64` holds, which others may read it into.
pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = std::str::from_utf8(text).ok()?.parse().ok()?;
    i64::try_from(value).is_ok().then_some(value)
}

pub(super) fn keep_alive(version: Version, headers: &HeaderMap) -> bool {
    let mut keep = version == Version::HTTP_11;
    for value in headers.get_all(CONNECTION) {
        for token in value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"close") {
                return false;
            }
            keep |= token.eq_ignore_ascii_case(b"keep-alive");
        }
    }
    keep
}

/// RFC 9110 10.1.1: an expectation that is not known is refused; one of an HTTP/1.0 caller is ignored.
fn expects_continue(version: Version, headers: &HeaderMap) -> Result<bool, HeadError> {
    match headers.get(EXPECT) {
        None => Ok(false),
        Some(value) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
            Ok(version == Version::HTTP_11)
        }
        Some(_) => Err(Malformed("Expect is not 100-continue")),
    }
}

/// RFC 9110 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 1024, fields: 8, target: 256 };

    fn read(text: &str) -> Result<Head, HeadError> {
        let end = find_end(text.as_bytes(), &mut 0, LIMITS)?.expect("the test's head is whole");
        parse(&Bytes::copy_from_slice(&text.as_bytes()[..end]), LIMITS)
    }

    #[test]
    fn an_ordinary_request_is_read() {
        let head = read("GET /a?b=c HTTP/1.1\r\nHost: reviews:80\r\nX-A: 1\r\n\r\n").expect("valid");
        assert_eq!(head.parts.uri, "/a?b=c");
        assert_eq!(head.framing, Framing::None);
        assert!(head.keep_alive && !head.expects_continue);
    }

    #[test]
    fn the_end_is_found_however_the_bytes_arrive() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
        let mut scanned = 0;
        for length in 0..text.len() - 4 {
            assert_eq!(find_end(&text[..length], &mut scanned, LIMITS), Ok(None), "{length}");
        }
        assert_eq!(find_end(text, &mut scanned, LIMITS), Ok(Some(text.len() - 4)));
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        for text in [
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
            "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
            "G=T / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: magic\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\n",
            "TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
            "delete / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert!(matches!(read(text), Err(Malformed(_))), "{text:?}");
        }
    }

    #[test]
    fn heads_over_the_limits_are_too_large() {
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(1024));
        assert_eq!(read(&long).err(), Some(HeadError::TooLarge));
        let unfinished = "G".repeat(1024);
        assert_eq!(find_end(unfinished.as_bytes(), &mut 0, LIMITS), Err(HeadError::TooLarge));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(8));
        assert_eq!(read(&many).err(), Some(HeadError::TooLarge));
    }

    #[test]
    fn a_target_over_the_limit_is_too_long_before_and_after_its_line_has_come() {
        let line = |length| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "p".repeat(length - 1));
        assert!(read(&line(LIMITS.target)).is_ok());
        assert_eq!(read(&line(LIMITS.target + 1)).err(), Some(HeadError::TargetTooLong));
        let unfinished = "G".repeat(LIMITS.target + LINE_BESIDES_TARGET + 1);
        assert_eq!(find_end(unfinished.as_bytes(), &mut 0, LIMITS), Err(HeadError::TargetTooLong));
        // A long field behind a short line is another matter.
        let field = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(LIMITS.target + 100));
        assert_eq!(find_end(field.as_bytes(), &mut 0, LIMITS), Ok(None));
    }

    #[test]
    fn all_forms_of_a_target_are_read() {
        for (text, expected) in [
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "*"),
            ("GET http://A:80/x HTTP/1.1\r\nHost: a\r\n\r\n", "http://A:80/x"),
            ("GET / HTTP/1.0\r\n\r\n", "/"),
        ] {
            assert_eq!(read(text).expect(text).parts.uri.to_string().to_lowercase(), expected.to_lowercase());
        }
    }

    #[test]
    fn the_connection_is_kept_as_the_caller_wishes() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n", false),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
        ] {
            assert_eq!(read(text).expect(text).keep_alive, expected, "{text}");
        }
    }

    #[test]
    fn garbage_is_known_by_its_first_byte() {
        let hello = [0x16, 0x03, 0x01, 0x02];
        assert!(matches!(find_end(&hello, &mut 0, LIMITS), Err(Malformed(_))));
    }

    #[test]
    fn empty_lines_before_a_request_are_skipped() {
        assert_eq!(leading_empty_lines(b"\r\n\r\nGET"), 4);
        assert_eq!(leading_empty_lines(b"GET"), 0);
    }
}
