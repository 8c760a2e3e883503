//! What a request must be before anything is done with it, whichever protocol it came over: what the next reader could take
//! otherwise is refused here, and so is what towpath does not do.
//!
//! The readers of heads (`http/http1/head.rs`, h2) know their protocol; this knows what becomes of a request in the other one: a
//! path that is a word of a request line, a length that is a field beside chunks.

use http::{
    HeaderMap, HeaderValue, Method, Version,
    header::{CONTENT_LENGTH, EXPECT, MAX_FORWARDS},
    request::Parts,
    uri::PathAndQuery,
};

use super::{Failure, Reason};
use crate::http::{
    body::is_token,
    http1::head::{AMBIGUOUS_METHOD, decimal},
    method::is_ambiguous,
};

/// Refuses what is not forwarded; takes one from `Max-Forwards`.
///
/// # Errors
/// `bad_request`, or `loop_detected` when the request was to come no further than this.
pub(super) fn check(parts: &mut Parts, has_content: bool) -> Result<(), Failure> {
    check_method(&parts.method, has_content)?;
    check_target(parts)?;
    if parts.version == Version::HTTP_2 && parts.headers.keys().any(|name| !is_token(name)) {
        return Err(bad("a field name is not a token"));
    }
    check_length(&parts.headers)?;
    check_expectation(&parts.headers)?;
    if [Method::OPTIONS, Method::TRACE].contains(&parts.method) {
        count_forwards(&mut parts.headers)?;
    }
    Ok(())
}

fn bad(what: &'static str) -> Failure {
    Failure::new(Reason::BadRequest, what)
}

fn check_method(method: &Method, has_content: bool) -> Result<(), Failure> {
    match *method {
        Method::GET | Method::POST | Method::PUT | Method::DELETE | Method::HEAD | Method::OPTIONS => Ok(()),
        Method::PATCH => Ok(()),
        Method::CONNECT => Err(bad("CONNECT tunnels are not built yet")),
        // RFC 9110 9.3.8. A server that echoes it would be one that parses it first.
        Method::TRACE if has_content => Err(bad("a TRACE has no content")),
        Method::TRACE => Ok(()),
        _ if is_ambiguous(method.as_str()) => Err(bad(AMBIGUOUS_METHOD)),
        _ => Ok(()),
    }
}

fn check_target(parts: &Parts) -> Result<(), Failure> {
    let uri = &parts.uri;
    // HTTP/2 lets other schemes be said.
    let known = |scheme: &str| ["http", "https"].iter().any(|known| known.eq_ignore_ascii_case(scheme));
    if !uri.scheme_str().is_none_or(known) {
        return Err(bad("the scheme is neither http nor https"));
    }
    let path = uri.path();
    match path {
        "*" if parts.method == Method::OPTIONS => Ok(()),
        "*" => Err(bad("only OPTIONS is about the whole server (`*`)")),
        // `http://host?query` has an empty path, which is written as a slash; in HTTP/2 it has to be written so.
        _ if parts.version == Version::HTTP_2 && uri.path_and_query().is_some_and(begins_with_query) => {
            Err(bad("the path does not begin with a slash"))
        }
        _ if !path.starts_with('/') => Err(bad("the path does not begin with a slash")),
        _ if uri.path_and_query().is_some_and(|target| target.as_str().bytes().any(|b| b == 0x7f)) => {
            Err(bad("the path has a control character"))
        }
        _ => Ok(()),
    }
}

fn begins_with_query(target: &PathAndQuery) -> bool {
    target.as_str().starts_with('?')
}

/// That of HTTP/1.1 has been read strictly; h2 takes more.
fn check_length(headers: &HeaderMap) -> Result<(), Failure> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(()) };
    if lengths.next().is_some() || decimal(length.as_bytes()).is_none() {
        return Err(bad("Content-Length is not one number"));
    }
    Ok(())
}

fn check_expectation(headers: &HeaderMap) -> Result<(), Failure> {
    let understood = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    match headers.get_all(EXPECT).iter().all(understood) {
        true => Ok(()),
        false => Err(bad("the expectation is not 100-continue")),
    }
}

/// RFC 9110 7.6.2. What cannot be read is not passed on: the next hop might read it otherwise.
fn count_forwards(headers: &mut HeaderMap) -> Result<(), Failure> {
    let Some(value) = headers.remove(MAX_FORWARDS) else { return Ok(()) };
    match decimal(value.as_bytes()) {
        Some(0) => Err(Failure::new(Reason::LoopDetected, "Max-Forwards lets the request come no further")),
        Some(left) => {
            headers.insert(MAX_FORWARDS, HeaderValue::from(left - 1));
            Ok(())
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn checked(method: &str, uri: &str, fields: &[(&'static str, &str)]) -> Result<Parts, Reason> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        check(&mut parts, false).map_err(|failure| failure.reason)?;
        Ok(parts)
    }

    #[test]
    fn what_the_next_reader_could_take_otherwise_is_refused() {
        for (method, uri, fields) in [
            ("get", "/", &[][..]),
            ("PRI", "*", &[]),
            ("CONNECT", "/", &[]),
            ("GET", "*", &[]),
            ("GET", "ftp://a/", &[]),
            ("POST", "/", &[("content-length", "")]),
            ("POST", "/", &[("content-length", "+1")]),
            ("POST", "/", &[("content-length", "1"), ("content-length", "1")]),
            ("POST", "/", &[("expect", "magic")]),
        ] {
            assert_eq!(
                checked(method, uri, fields).err(),
                Some(Reason::BadRequest),
                "{method} {uri} {fields:?}"
            );
        }
        for (method, uri) in
            [("GET", "/"), ("OPTIONS", "*"), ("QUERY", "/"), ("get-all", "/"), ("TRACE", "/")]
        {
            assert!(checked(method, uri, &[]).is_ok(), "{method} {uri}");
        }
    }

    #[test]
    fn max_forwards_is_counted_down_where_it_means_something() {
        let left = |method, value| {
            let parts = checked(method, "/", &[("max-forwards", value)])?;
            Ok(parts.headers.get(MAX_FORWARDS).map(|left| left.to_str().unwrap().to_owned()))
        };
        assert_eq!(left("TRACE", "5"), Ok(Some("4".to_owned())));
        assert_eq!(left("OPTIONS", "0"), Err(Reason::LoopDetected));
        assert_eq!(left("OPTIONS", "x"), Ok(None));
        assert_eq!(left("GET", "0"), Ok(Some("0".to_owned())));
    }
}
