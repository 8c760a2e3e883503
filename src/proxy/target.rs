//! Whom a request is for: the authority that routing and `{host}` services go by.

use http::{HeaderMap, Request, Uri, header::HOST};

use super::{Failure, Reason};
use crate::http::{Body, authority};

/// The authority of a request, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// As the caller wrote it; empty when an HTTP/1.0 caller named none.
    pub(super) authority: http::HeaderValue,
    host: std::ops::Range<usize>,
    /// When the caller wrote one.
    pub(super) port: Option<u16>,
}

impl Target {
    /// Reads the authority: that of the URI (`:authority`, absolute form), else `Host`; both must agree.
    ///
    /// # Errors
    /// `bad_request` when it is missing, contradictory, or no host and port.
    pub(super) fn of(request: &Request<Body>) -> Result<Self, Failure> {
        let value = match request.uri().authority() {
            Some(authority) => {
                agree(request.uri(), request.headers(), authority.as_str())?;
                http::HeaderValue::from_str(authority.as_str())
                    .map_err(|_| Failure::new(Reason::BadRequest, "the authority is not a host and port"))?
            }
            None => match single_host(request.headers())? {
                Some(host) => host.clone(),
                None if request.version() == http::Version::HTTP_10 => http::HeaderValue::from_static(""),
                None => return Err(Failure::new(Reason::BadRequest, "the request names no host")),
            },
        };
        Self::named(value)
    }

    /// Of this authority.
    ///
    /// # Errors
    /// `bad_request` when it is no host and port.
    pub(super) fn named(authority: http::HeaderValue) -> Result<Self, Failure> {
        let text = authority.to_str().unwrap_or("?");
        if text.is_empty() {
            return Ok(Self { authority, host: 0..0, port: None });
        }
        let Some((host, port)) = authority::split(text) else {
            return Err(Failure::new(Reason::BadRequest, "the authority is not a host and port"));
        };
        let start = host.as_ptr().addr() - text.as_ptr().addr();
        let host = start..start + host.len();
        Ok(Self { authority, host, port })
    }

    /// Without port or brackets, in the caller's case.
    pub(super) fn host(&self) -> &str {
        self.authority.to_str().map_or("", |text| &text[self.host.clone()])
    }
}

fn single_host(headers: &HeaderMap) -> Result<Option<&http::HeaderValue>, Failure> {
    let mut hosts = headers.get_all(HOST).iter();
    let first = hosts.next();
    match hosts.next() {
        Some(_) => Err(Failure::new(Reason::BadRequest, "Host is repeated")),
        None => Ok(first),
    }
}

fn agree(uri: &Uri, headers: &HeaderMap, authority: &str) -> Result<(), Failure> {
    let Some(host) = single_host(headers)? else { return Ok(()) };
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    let same = host.to_str().is_ok_and(|host| authority::same(host, authority, default));
    if same { Ok(()) } else { Err(Failure::new(Reason::BadRequest, "Host contradicts the authority")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(uri: &str, hosts: &[&str]) -> Result<(String, Option<u16>), Reason> {
        let mut request = Request::builder().uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let target = Target::of(&request.body(Body::Empty).unwrap());
        target.map(|target| (target.host().to_owned(), target.port)).map_err(|failure| failure.reason)
    }

    #[test]
    fn the_authority_comes_from_the_uri_or_from_host() {
        assert_eq!(target("/", &["Reviews:8080"]), Ok(("Reviews".to_owned(), Some(8080))));
        assert_eq!(target("http://reviews/", &[]), Ok(("reviews".to_owned(), None)));
        assert_eq!(target("http://[::1]:80/", &["[::1]"]), Ok(("::1".to_owned(), Some(80))));
    }

    #[test]
    fn what_is_missing_or_contradictory_is_refused() {
        for (uri, hosts) in [
            ("/", &[][..]),
            ("/", &["a", "a"]),
            ("http://a/", &["b"]),
            ("http://a/", &["a:81"]),
            ("/", &["a b"]),
        ] {
            assert_eq!(target(uri, hosts), Err(Reason::BadRequest), "{uri} {hosts:?}");
        }
    }
}
