//! Fetching an issuer's keys from its https URL: one bounded request over a connection of its own, on the control thread.

use std::{net::SocketAddr, path::Path, pin::Pin, sync::Arc, time::Duration};

use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::Body as _;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::key_set::{KeySet, LARGEST};
use crate::{
    config::{ClientTls, Verify},
    http::Body,
    tls::{self, Keeper, ServerNameOf},
};

/// For everything, from the first connection to the last byte.
const PATIENCE: Duration = Duration::from_secs(5);
/// For a connection and its handshake, so that one address that is silent leaves time for another.
const CONNECT: Duration = Duration::from_secs(2);

/// Where an issuer's keys are fetched from.
pub(super) struct KeyServer {
    url: String,
    host: String,
    port: u16,
    /// As the `host` field has it.
    authority: HeaderValue,
    path: String,
    tls: Arc<tls::Client>,
}

/// What a server has said.
enum Said {
    Keys(KeySet),
    /// They are under this path.
    Elsewhere(String),
}

impl KeyServer {
    /// # Errors
    /// The key in `[jwt.NAME]`, and what is wrong with it.
    pub(super) fn new(url: &str, ca: Option<&Path>, keeper: &Keeper) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("jwks: \"{url}\" is no URL: {error}"))?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("https"));
        let authority = authority.filter(|authority| !authority.as_str().contains('@'));
        let authority = authority.ok_or_else(|| format!("jwks: \"{url}\" is no https URL of a host"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let wanted = ClientTls {
            ca: ca.map(Path::to_owned),
            identity: None,
            verify: Verify::Name(host.clone()),
            only_13: false,
        };
        let tls = keeper.client(&wanted).map_err(|error| format!("ca: {error}"))?;
        let value = HeaderValue::from_str(authority.as_str()).map_err(|error| format!("jwks: {error}"))?;
        Ok(Self {
            url: url.to_owned(),
            host,
            port: authority.port_u16().unwrap_or(443),
            authority: value,
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            tls,
        })
    }

    pub(super) fn place(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// The keys that the server at one of these addresses has now.
    ///
    /// # Errors
    /// Who did what.
    pub(super) async fn fetch(&self, addresses: &[SocketAddr]) -> Result<KeySet, String> {
        let fetched = match timeout(PATIENCE, self.follow(addresses)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(format!("no answer within {PATIENCE:?}")),
        };
        fetched.map_err(|error| format!("{}: {error}", self.url))
    }

    /// One redirection is followed, if it stays with the server: elsewhere others may vouch.
    async fn follow(&self, addresses: &[SocketAddr]) -> Result<KeySet, String> {
        match self.ask(addresses, &self.path).await? {
            Said::Keys(keys) => Ok(keys),
            Said::Elsewhere(path) => match self.ask(addresses, &path).await? {
                Said::Keys(keys) => Ok(keys),
                Said::Elsewhere(_) => Err("it redirects more than once".to_owned()),
            },
        }
    }

    async fn ask(&self, addresses: &[SocketAddr], path: &str) -> Result<Said, String> {
        let stream = self.connect(addresses).await?;
        let failed = |error: hyper::Error| format!("the exchange failed: {error}");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let request = Request::get(path)
            .header(header::HOST, &self.authority)
            .header(header::ACCEPT, "application/jwk-set+json, application/json")
            .header(header::USER_AGENT, concat!("towpath/", env!("CARGO_PKG_VERSION")))
            .body(Body::Empty)
            .map_err(|error| format!("the path cannot be asked for: {error}"))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(failed)?;
            self.read(response).await
        };
        tokio::select! {
            biased;
            said = exchange => said,
            // What it ended in, the exchange finds out; it may have had everything by then.
            () = async { drop(connection.await); std::future::pending().await } => unreachable!("it is pending"),
        }
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Said, String> {
        let status = response.status();
        if status.is_redirection() {
            return self.elsewhere(response.headers().get(header::LOCATION)).map(Said::Elsewhere);
        }
        if status != StatusCode::OK {
            return Err(format!("the server answers {status}"));
        }
        let text = content(response.into_body()).await?;
        KeySet::parse(&text).map(Said::Keys)
    }

    fn elsewhere(&self, location: Option<&HeaderValue>) -> Result<String, String> {
        let location = location.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let uri: Option<Uri> = location.parse().ok();
        // A path that begins with two slashes is a host to others.
        let uri = uri.filter(|_| !location.starts_with("//"));
        let path = uri.and_then(|uri| {
            let stays = match (uri.scheme_str(), uri.authority()) {
                (None, None) => true,
                (Some("https"), Some(authority)) => {
                    authority.as_str().eq_ignore_ascii_case(self.authority.to_str().unwrap_or_default())
                }
                _ => false,
            };
            uri.path_and_query()
                .filter(|path| stays && path.as_str().starts_with('/'))
                .map(ToString::to_string)
        });
        path.ok_or_else(|| format!("it redirects to \"{location}\", which is not followed"))
    }

    /// A connection to the first address that takes one, with its certificate verified.
    async fn connect(&self, addresses: &[SocketAddr]) -> Result<TlsStream<TcpStream>, String> {
        let mut failure = "its name has no address".to_owned();
        for address in addresses {
            match timeout_at(Instant::now() + CONNECT, self.connect_to(*address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failure = format!("{address}: {error}"),
                Err(_) => failure = format!("{address}: no connection within {CONNECT:?}"),
            }
        }
        Err(failure)
    }

    async fn connect_to(&self, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        let name = self.tls.server_name(ServerNameOf { host: Some(&self.host), address: address.ip() });
        TlsConnector::from(self.tls.now().http1.clone()).connect(name, stream).await
    }
}

async fn content(mut body: Incoming) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| format!("the answer broke off: {error}"))?;
        if let Some(data) = frame.data_ref() {
            if text.len() + data.len() > LARGEST {
                return Err(format!("the answer is longer than {LARGEST} bytes"));
            }
            text.extend_from_slice(data);
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Result<KeyServer, String> {
        KeyServer::new(url, None, &Keeper::default())
    }

    #[test]
    fn only_https_urls_of_a_host_are_asked() {
        let of = |url| server(url).map(|server| (server.host, server.port, server.path));
        if let Ok(found) = of("https://ID.example/keys?v=1") {
            assert_eq!(found, ("id.example".to_owned(), 443, "/keys?v=1".to_owned()));
            assert_eq!(of("https://[::1]:8443").unwrap(), ("::1".to_owned(), 8443, "/".to_owned()));
        } // else the system that this runs on trusts nobody
        for bad in
            ["http://id.example/", "https:///keys", "/keys", "https://a b/", "https://me:secret@id.example/"]
        {
            assert!(server(bad).is_err_and(|error| error.starts_with("jwks: ")), "{bad}");
        }
    }

    #[test]
    fn a_redirection_must_stay_with_the_server() {
        let Ok(server) = server("https://id.example:444/keys") else { return };
        let to = |location: &'static str| server.elsewhere(Some(&HeaderValue::from_static(location))).ok();
        for (location, path) in [("/new?x", "/new?x"), ("https://ID.example:444/new", "/new")] {
            assert_eq!(to(location).as_deref(), Some(path));
        }
        for location in [
            "http://id.example:444/new",
            "https://id.example/new",
            "https://evil.example/new",
            "//evil/new",
            "new",
            "",
        ] {
            assert_eq!(to(location), None, "{location}");
        }
        assert!(server.elsewhere(None).is_err());
    }
}
