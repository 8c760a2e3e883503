//! A response's head: found in a buffer, then read.
//!
//! # As strictly as requests
//! What another reader could frame differently is refused: line ends other than CRLF, obsolete line folding, codings other
//! than `chunked`, a length that is repeated or stands beside `Transfer-Encoding`. An endpoint that is taken in by its own
//! caller's text (response splitting) writes just that. What has one meaning only is read although it is not lawful, and
//! written anew: a status line without its second space, a 204 with a length.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Response, StatusCode, Version,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
    response::Parts,
};

use super::{
    Content,
    head::{decimal, header_map, keep_alive},
};

/// Bytes of a head at most. Endpoints send large cookies and tokens; what is more than this is not a head.
const MAX_BYTES: usize = 256 * 1024;
/// Fields at most.
const MAX_FIELDS: usize = 256;

/// A response's head, and what it says about its connection.
#[derive(Debug)]
pub struct ResponseHead {
    /// Status and fields.
    pub parts: Parts,
    /// Where the content ends.
    pub content: Content,
    /// Whether the connection can be used again after it.
    pub keep_alive: bool,
}

/// Takes a head out of the front of `buffer`; `None` while more bytes are needed.
///
/// `scanned` is how far an earlier call has looked, and is moved on. `to_head` is whether the request was a `HEAD`.
///
/// # Errors
/// Says what is wrong with it.
pub fn take_response(
    buffer: &mut BytesMut,
    scanned: &mut usize,
    to_head: bool,
) -> Result<Option<ResponseHead>, &'static str> {
    let Some(end) = find_end(buffer, scanned)? else {
        return if buffer.len() > MAX_BYTES { Err("its response's head is too large") } else { Ok(None) };
    };
    *scanned = 0;
    parse(&buffer.split_to(end).freeze(), to_head).map(Some)
}

/// Where the empty line ends that ends the head.
fn find_end(buffer: &[u8], scanned: &mut usize) -> Result<Option<usize>, &'static str> {
    if buffer.first().is_some_and(|first| *first != b'H') {
        return Err("its response is not HTTP/1.1");
    }
    while let Some(at) = memchr::memchr(b'\n', &buffer[*scanned..]) {
        let newline = *scanned + at;
        if newline == 0 || buffer[newline - 1] != b'\r' {
            return Err("a line of its response ends in LF without CR");
        }
        *scanned = newline + 1;
        if newline >= 3 && buffer[newline - 2] == b'\n' {
            return Ok(Some(newline + 1));
        }
    }
    *scanned = buffer.len();
    Ok(None)
}

fn parse(head: &Bytes, to_head: bool) -> Result<ResponseHead, &'static str> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        head,
        &mut fields,
    );
    match parsed {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err("its response's head is cut short"),
        Err(httparse::Error::TooManyHeaders) => return Err("its response has too many fields"),
        Err(_) => return Err("its response is not HTTP/1.1"),
    }
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or("its response's status is not one of HTTP's")?;
    let version = if response.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let (mut headers, special) =
        header_map(head, response.headers).map_err(|_| "a field of its response is not valid")?;
    let (content, certain) = match special {
        true => content(status, version, &mut headers, to_head)?,
        false if has_none(status, to_head) => (Content::Done, true),
        false => (Content::UntilClose, false),
    };
    let keep_alive =
        certain && if special { keep_alive(version, &headers) } else { version == Version::HTTP_11 };
    let mut parts = Response::new(()).into_parts().0;
    (parts.status, parts.version, parts.headers) = (status, version, headers);
    Ok(ResponseHead { parts, content, keep_alive })
}

fn has_none(status: StatusCode, to_head: bool) -> bool {
    to_head
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
}

/// The content by RFC 9112 6.3, without its tolerances, and whether what follows it on the connection can be trusted. Leaves at
/// most one plain `Content-Length` in the fields.
fn content(
    status: StatusCode,
    version: Version,
    headers: &mut HeaderMap,
    to_head: bool,
) -> Result<(Content, bool), &'static str> {
    let length = single_length(headers)?;
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return Ok(match length {
            // RFC 9110 8.6: a 204 has no length. One that declares content might also send it.
            _ if has_none(status, to_head) => {
                (Content::Done, status != StatusCode::NO_CONTENT || length.is_none_or(|length| length == 0))
            }
            Some(length) => (Content::length(length), true),
            None => (Content::UntilClose, false),
        });
    };
    let chunked = codings.next().is_none() && coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if !chunked {
        return Err("its Transfer-Encoding is not chunked");
    }
    if length.is_some() {
        return Err("it sent Content-Length beside Transfer-Encoding");
    }
    if version != Version::HTTP_11 {
        // RFC 9112 6.1: the framing is faulty.
        return Err("it sent Transfer-Encoding in a response of version 1.0");
    }
    if has_none(status, to_head) {
        return Ok((Content::Done, status != StatusCode::NO_CONTENT));
    }
    Ok((Content::chunked(), true))
}

/// The declared length of a response; its field is left in plain digits.
///
/// # Errors
/// When it is not a number, or there is more than one.
pub fn single_length(headers: &mut HeaderMap) -> Result<Option<u64>, &'static str> {
    let mut all = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err("its Content-Length is repeated");
    }
    let length = decimal(first.as_bytes()).ok_or("its Content-Length is not a number")?;
    if first.as_bytes().first() == Some(&b'0') && first.len() > 1 {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(Some(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ResponseHead, &'static str> {
        let mut buffer = BytesMut::from(text);
        let head = take_response(&mut buffer, &mut 0, false)?.expect("the test's head is whole");
        assert_eq!(&buffer[..], b"rest", "{text:?}");
        Ok(head)
    }

    fn lengths(fields: &str) -> Result<Vec<String>, &'static str> {
        let head = read(&format!("HTTP/1.1 200 OK\r\n{fields}\r\nrest"))?;
        let lengths = head.parts.headers.get_all(CONTENT_LENGTH).iter();
        Ok(lengths.map(|length| length.to_str().unwrap().to_owned()).collect())
    }

    #[test]
    fn at_most_one_plain_length_is_passed_on() {
        assert_eq!(lengths(""), Ok(vec![]));
        assert_eq!(lengths("content-length: 5\r\n"), Ok(vec!["5".to_owned()]));
        assert_eq!(lengths("content-length: 005\r\n"), Ok(vec!["5".to_owned()]));
        for bad in ["abc", "+5", "", "5, 6", "5, 5", "5,", "99999999999999999999", "9223372036854775808"] {
            assert!(lengths(&format!("content-length: {bad}\r\n")).is_err(), "{bad}");
        }
        for bad in
            ["content-length: 5\r\ncontent-length: 5", "content-length: 7\r\ntransfer-encoding: chunked"]
        {
            assert!(lengths(&format!("{bad}\r\n")).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_end_of_the_content_is_where_rfc_9112_says() {
        let of = |text: &str| {
            let head = read(&format!("{text}\r\n\r\nrest")).unwrap();
            (format!("{:?}", head.content), head.keep_alive)
        };
        let chunked = format!("{:?}", Content::chunked());
        let cases: [(&str, &str, bool); 13] = [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5", "Length(5)", true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0", "Done", true),
            ("HTTP/1.1 200 OK\r\nx-a: 1", "UntilClose", false),
            ("HTTP/1.1 204 No Content\r\nx-a: 1", "Done", true),
            ("HTTP/1.1 204 No Content\r\ncontent-length: 0", "Done", true),
            ("HTTP/1.1 204 No Content\r\ncontent-length: 5", "Done", false),
            ("HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked", "Done", false),
            ("HTTP/1.1 304 Not Modified\r\ncontent-length: 5", "Done", true),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked", &chunked, true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close", "Length(5)", false),
            ("HTTP/1.0 200 OK\r\ncontent-length: 5", "Length(5)", false),
            ("HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive", "Length(5)", true),
            ("HTTP/1.1 200\r\ncontent-length: 5", "Length(5)", true),
        ];
        for (text, content, keep) in cases {
            assert_eq!(of(text), (content.to_owned(), keep), "{text:?}");
        }
    }

    #[test]
    fn the_end_of_the_head_is_found_however_the_bytes_arrive() {
        for text in ["HTTP/1.1 200 OK\r\nx-a: 1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"] {
            let (mut buffer, mut scanned) = (BytesMut::new(), 0);
            for byte in text.as_bytes() {
                assert!(take_response(&mut buffer, &mut scanned, false).unwrap().is_none(), "{buffer:?}");
                buffer.extend_from_slice(&[*byte]);
            }
            assert!(take_response(&mut buffer, &mut scanned, false).unwrap().is_some(), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_response_is_refused() {
        for text in [
            "SSH-2.0-OpenSSH\r\n\r\nrest",
            "HTTP/1.1 99 Low\r\n\r\nrest",
            "HTTP/1.1 200 OK\r\nbad field: 1\r\n\r\nrest",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\nrest",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nrest",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\nrest",
            "HTTP/1.1 200 OK\nx-a: 1\n\nrest",
            "HTTP/1.1 200 OK\r\nx-a: 1\nx-b: 2\r\n\r\nrest",
            "\r\nHTTP/1.1 200 OK\r\n\r\nrest",
        ] {
            assert!(read(text).is_err(), "{text:?}");
        }
        let mut endless = BytesMut::from(&*format!("HTTP/1.1 200 OK\r\nx-a: {}", "a".repeat(MAX_BYTES)));
        assert!(take_response(&mut endless, &mut 0, false).is_err());
    }
}
