//! What the router looks at in a request.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, Method, header, request::Parts};
use percent_encoding::percent_decode;

/// What the router looks at in a request. Nothing is decoded or normalised before it is needed.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// Without port, in any case; a trailing dot and the brackets of an IPv6 address do not count.
    pub host: &'a str,
    /// Compared exactly.
    pub method: &'a Method,
    /// As sent, without query; `*` for `OPTIONS *`.
    pub path: &'a str,
    /// As sent, without the question mark.
    pub query: Option<&'a str>,
    /// The request's fields.
    pub headers: &'a HeaderMap,
}

impl<'a> RequestView<'a> {
    /// Of a request for `host`.
    pub fn of(parts: &'a Parts, host: &'a str) -> Self {
        let (method, headers) = (&parts.method, &parts.headers);
        Self { host, method, path: parts.uri.path(), query: parts.uri.query(), headers }
    }

    /// The value of a header, or None without one. Several fields of a name count as one, joined by commas, which is
    /// what they mean (RFC 9110 5.3) and what Envoy and so most Gateway API implementations compare. `cookie`, which
    /// HTTP/2 may split, is joined by `; ` (RFC 9113 8.2.3).
    pub(super) fn header(&self, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
        let mut values = self.headers.get_all(name).iter().map(|value| value.as_bytes());
        let first = values.next()?;
        let Some(second) = values.next() else { return Some(Cow::Borrowed(first)) };
        let separator: &[u8] = if *name == header::COOKIE { b"; " } else { b"," };
        let mut joined = first.to_vec();
        for value in std::iter::once(second).chain(values) {
            joined.extend_from_slice(separator);
            joined.extend_from_slice(value);
        }
        Some(Cow::Owned(joined))
    }

    /// The decoded value of the first query parameter of this (decoded) name; empty where it has no `=`.
    pub(super) fn parameter(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        let parameters = self.query?.split('&').filter(|parameter| !parameter.is_empty());
        parameters
            .map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
            .find(|(encoded, _)| decode(encoded).eq(name.bytes()))
            .map(|(_, value)| match value.contains(['%', '+']) {
                true => Cow::Owned(decode(value).collect()),
                false => Cow::Borrowed(value.as_bytes()),
            })
    }
}

/// The bytes that a name or value in a query stands for: `+` is a space, `%XX` a byte, anything else itself.
fn decode(encoded: &str) -> impl Iterator<Item = u8> {
    encoded.split('+').enumerate().flat_map(|(position, piece)| {
        let space = (position > 0).then_some(b' ');
        space.into_iter().chain(percent_decode(piece.as_bytes()))
    })
}
