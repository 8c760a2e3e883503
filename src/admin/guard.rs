//! Keeps web pages that a browser on this host shows from using the admin API, and callers from reaching it through the proxy.
//!
//! # Another site's name for this address (DNS rebinding)
//! Where the API is bound to loopback and asks for nothing, a page cannot reach it under its own name unless its DNS answers
//! `127.0.0.1`, and then `Host` carries that name. So only names of loopback are answered. Bound elsewhere, the API is reached
//! under names that towpath cannot know; there, and wherever it asks for tokens or certificates, a page gets nothing by another name: it
//! has no token, and the certificate that the browser is shown is for no name of the page's. No browser reaches a Unix socket.
//!
//! # Another site's request (CSRF)
//! Browsers put `Origin` on every request that changes something. It has to be the API's own. Other programs send none.
//!
//! # A caller's request (confused deputy)
//! Where hosts get services of their own, whoever may call the proxy may name `127.0.0.1:9990`, and the proxy dials it: as a program of this
//! host. What has come through a towpath says so in `via`, which no caller can take away. It is let in only where it has to say who it is.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue, Method, header};

use super::access::Access;
use crate::{http::authority, net::Address};

/// The checks, for one bound address.
pub(super) struct Guard {
    /// Only names of loopback are answered.
    named: bool,
    /// What has come through a towpath is refused.
    direct: bool,
    /// Of its own pages, with the port that it leaves out.
    scheme: (&'static str, u16),
}

impl Guard {
    pub(super) fn new(bound: &Address, access: &Access) -> Self {
        let loopback = matches!(bound, Address::Tcp(address) if address.ip().is_loopback());
        Self {
            named: loopback && access.is_open() && access.tls.is_none(),
            direct: access.is_open(),
            scheme: if access.tls.is_some() { ("https://", 443) } else { ("http://", 80) },
        }
    }

    /// Why the request is refused: the cause, and what the caller is told.
    pub(super) fn refusal(
        &self,
        method: &Method,
        host: Option<&str>,
        headers: &HeaderMap,
    ) -> Option<(&'static str, &'static str)> {
        if self.direct && headers.get_all(header::VIA).iter().any(by_towpath) {
            return Some((
                "forwarded",
                "came through a towpath; the admin API is asked directly, or with a token",
            ));
        }
        if self.named && !host.is_none_or(is_loopback) {
            return Some(("host", "Host is not a name of this address; ask for 127.0.0.1 or localhost"));
        }
        let origin = headers.get(header::ORIGIN).filter(|_| !method.is_safe())?;
        let (scheme, port) = self.scheme;
        let origin = origin.to_str().ok().and_then(|origin| origin.strip_prefix(scheme));
        let own = origin.zip(host).is_some_and(|(origin, host)| authority::same(origin, host, port));
        if own { None } else { Some(("origin", "Origin is another site, which may not change this node")) }
    }
}

fn by_towpath(via: &HeaderValue) -> bool {
    via.as_bytes().windows(8).any(|part| part == b"towpath-")
}

fn is_loopback(authority: &str) -> bool {
    let Some((host, _)) = authority::split(authority) else { return false };
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: Guard = Guard { named: true, direct: true, scheme: ("http://", 80) };
    const BEYOND: Guard = Guard { named: false, direct: false, scheme: ("http://", 80) };
    const SECURED: Guard = Guard { named: false, direct: false, scheme: ("https://", 443) };

    fn refused(guard: &Guard, method: Method, host: Option<&str>, origin: Option<&'static str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        guard.refusal(&method, host, &headers).is_some()
    }

    #[test]
    fn on_loopback_only_names_of_loopback_are_answered() {
        for host in ["127.0.0.1:9990", "localhost", "LocalHost:1", "[::1]:9990", "127.8.8.8"] {
            assert!(!refused(&LOOPBACK, Method::GET, Some(host), None), "{host}");
        }
        for host in ["evil.test", "127.0.0.1.evil.test", "localhost.evil.test:9990", "10.0.0.1", "", "a b"] {
            assert!(refused(&LOOPBACK, Method::GET, Some(host), None), "{host}");
        }
        assert!(!refused(&LOOPBACK, Method::GET, None, None));
        assert!(!refused(&BEYOND, Method::GET, Some("node-7.example:9990"), None));
    }

    #[test]
    fn only_its_own_pages_may_change_something() {
        let host = Some("localhost:9990");
        let changes = |origin| refused(&LOOPBACK, Method::POST, host, origin);
        assert!(!changes(None));
        assert!(!changes(Some("http://localhost:9990")));
        for origin in ["http://evil.test", "null", "https://localhost:9990", "http://localhost:8080"] {
            assert!(changes(Some(origin)), "{origin}");
        }
        assert!(!refused(&LOOPBACK, Method::GET, host, Some("http://evil.test")));
        assert!(refused(&BEYOND, Method::PUT, Some("node-7"), Some("http://evil.test")));
    }

    #[test]
    fn pages_of_a_secured_api_are_https() {
        let changes = |host, origin| refused(&SECURED, Method::POST, Some(host), Some(origin));
        assert!(!changes("node-7:9990", "https://node-7:9990"));
        assert!(!changes("node-7", "https://node-7"));
        assert!(changes("node-7:9990", "http://node-7:9990"));
    }

    #[test]
    fn what_came_through_a_towpath_has_to_say_who_it_is() {
        let through = |guard: &Guard, via: &'static str| {
            let headers = [(header::VIA, via.parse().unwrap())].into_iter().collect();
            guard.refusal(&Method::GET, Some("127.0.0.1:9990"), &headers).map(|(cause, _)| cause)
        };
        assert_eq!(through(&LOOPBACK, "1.1 towpath-node-7"), Some("forwarded"));
        assert_eq!(through(&LOOPBACK, "1.0 fred, 2.0 towpath-a, 1.1 nginx"), Some("forwarded"));
        assert_eq!(through(&LOOPBACK, "1.1 nginx"), None);
        assert_eq!(through(&BEYOND, "1.1 towpath-node-7"), None);
    }
}
