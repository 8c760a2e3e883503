//! Who may ask: keeps web pages that a browser on this host shows from using the admin API.
//!
//! # Another site's name for this address (DNS rebinding)
//! Where the API is bound to loopback, a page cannot reach it under its own name unless its DNS answers `127.0.0.1`,
//! and then `Host` carries that name. So only names of loopback are answered. Bound elsewhere, the API is reached
//! under names that towpath cannot know, and there is no such check.
//!
//! # Another site's request (CSRF)
//! Browsers put `Origin` on every request that changes something. It has to be the API's own. Other programs send none.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::Next,
    response::Response,
};

use super::server::refused;
use crate::http::authority;

/// The checks, for one bound address.
pub(super) struct Guard {
    bound: SocketAddr,
}

impl Guard {
    pub(super) fn new(bound: SocketAddr) -> Self {
        Self { bound }
    }

    /// Why the request is refused.
    fn refusal(&self, method: &Method, host: Option<&str>, headers: &HeaderMap) -> Option<&'static str> {
        if self.bound.ip().is_loopback() && !host.is_none_or(is_loopback) {
            return Some("Host is not a name of this address; ask for 127.0.0.1 or localhost");
        }
        let origin = headers.get(header::ORIGIN).filter(|_| !method.is_safe())?;
        let origin = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
        let own = origin.zip(host).is_some_and(|(origin, host)| authority::same(origin, host, 80));
        if own { None } else { Some("Origin is another site, which may not change this node") }
    }
}

fn is_loopback(authority: &str) -> bool {
    let Some((host, _)) = authority::split(authority) else { return false };
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Answers 403 where [`Guard`] says so.
pub(super) async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let in_uri = request.uri().authority().map(|authority| authority.as_str());
    // A host that is no text is no name of loopback either.
    let in_header = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or("?"));
    match guard.refusal(request.method(), in_uri.or(in_header), request.headers()) {
        Some(why) => refused(StatusCode::FORBIDDEN, why),
        None => next.run(request).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bound: &str, method: Method, host: Option<&str>, origin: Option<&'static str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        Guard::new(bound.parse().unwrap()).refusal(&method, host, &headers).is_some()
    }

    #[test]
    fn on_loopback_only_names_of_loopback_are_answered() {
        for host in ["127.0.0.1:9990", "localhost", "LocalHost:1", "[::1]:9990", "127.8.8.8"] {
            assert!(!refused("127.0.0.1:9990", Method::GET, Some(host), None), "{host}");
        }
        for host in ["evil.test", "127.0.0.1.evil.test", "localhost.evil.test:9990", "10.0.0.1", "", "a b"] {
            assert!(refused("127.0.0.1:9990", Method::GET, Some(host), None), "{host}");
        }
        assert!(!refused("127.0.0.1:9990", Method::GET, None, None));
        assert!(!refused("0.0.0.0:9990", Method::GET, Some("node-7.example:9990"), None));
    }

    #[test]
    fn only_its_own_pages_may_change_something() {
        let host = Some("localhost:9990");
        let changes = |origin| refused("127.0.0.1:9990", Method::POST, host, origin);
        assert!(!changes(None));
        assert!(!changes(Some("http://localhost:9990")));
        for origin in ["http://evil.test", "null", "https://localhost:9990", "http://localhost:8080"] {
            assert!(changes(Some(origin)), "{origin}");
        }
        assert!(!refused("127.0.0.1:9990", Method::GET, host, Some("http://evil.test")));
        assert!(refused("0.0.0.0:9990", Method::PUT, Some("node-7"), Some("http://evil.test")));
    }
}
