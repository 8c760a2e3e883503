//! The way to a running daemon's admin API: where it is, how it is known, and what is shown to it.

use std::{fmt, fs, io, net::IpAddr, path::PathBuf, sync::Arc};

use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::{
    args::Remote,
    http_client::{Answer, Connection, Pieces},
    outcome::Failure,
};
use crate::{
    config::{ClientTls, KeyPair, Verify},
    tls::{Client, Keeper, ServerNameOf},
};

/// Holds a token where no file does.
const VARIABLE: &str = "TOWPATH_ADMIN_TOKEN";

/// The way to an admin API.
pub(super) struct Way {
    place: Place,
    /// `Bearer TOKEN`.
    authorization: Option<HeaderValue>,
}

enum Place {
    /// `HOST:PORT`.
    Http(String),
    /// `HOST:PORT`, and TLS.
    Https(String, Arc<Client>),
    Unix(PathBuf),
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Http(authority) => write!(f, "http://{authority}"),
            Place::Https(authority, _) => write!(f, "https://{authority}"),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Way {
    /// What was typed, with the files read.
    pub(super) fn of(remote: &Remote) -> Result<Self, Failure> {
        let token = match &remote.admin_token_file {
            Some(file) => Some(fs::read_to_string(file).map_err(|error| {
                Failure::usage(format!("--admin-token-file: cannot read {}: {error}", file.display()))
            })?),
            None => std::env::var(VARIABLE).ok(),
        };
        let authorization = token.as_deref().map(str::trim).filter(|token| !token.is_empty());
        let authorization = authorization.map(authorization_of).transpose()?;
        Ok(Self { place: place(remote)?, authorization })
    }

    /// One request on a connection of its own.
    pub(super) async fn ask(&self, method: Method, path: &str) -> io::Result<Answer> {
        self.connect().await?.send(self.request(method, path)?).await
    }

    /// The same, whose answer may go on for ever. The connection is to be kept as long.
    pub(super) async fn listen(&self, path: &str) -> io::Result<(Connection, StatusCode, Pieces)> {
        let mut connection = self.connect().await?;
        let (status, body) = connection.begin(self.request(Method::GET, path)?).await?;
        Ok((connection, status, body))
    }

    async fn connect(&self) -> io::Result<Connection> {
        match &self.place {
            Place::Http(authority) => Connection::open(authority).await,
            Place::Unix(path) => Connection::over(UnixStream::connect(path).await?).await,
            Place::Https(authority, client) => secured(authority, client).await,
        }
    }

    fn request(&self, method: Method, path: &str) -> io::Result<Request<String>> {
        let host = match &self.place {
            Place::Http(authority) | Place::Https(authority, _) => authority,
            Place::Unix(_) => "localhost",
        };
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, host);
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        request.body(String::new()).map_err(io::Error::other)
    }
}

async fn secured(authority: &str, client: &Client) -> io::Result<Connection> {
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    let address = stream.peer_addr()?.ip();
    let name = client.server_name(ServerNameOf { host: None, address });
    let connector = TlsConnector::from(client.now().http1.clone());
    Connection::over(connector.connect(name, stream).await?).await
}

fn authorization_of(token: &str) -> Result<HeaderValue, Failure> {
    let value = HeaderValue::from_str(&format!("Bearer {token}"));
    let mut value = value.map_err(|_| Failure::usage("the token has characters that no token has"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn place(remote: &Remote) -> Result<Place, Failure> {
    let admin = &remote.admin;
    if let Some(path) = admin.strip_prefix("unix:").filter(|path| !path.is_empty()) {
        return Ok(Place::Unix(PathBuf::from(path)));
    }
    let wrong = || {
        let allowed = "must be a URL such as http://127.0.0.1:9990 or https://node-7:9990, or unix:PATH";
        Failure::usage(format!("--admin {admin}: {allowed}"))
    };
    let uri: Uri = admin.parse().map_err(|_| wrong())?;
    let bare = matches!(uri.path(), "/" | "") && uri.query().is_none();
    let authority = uri.authority().filter(|_| bare).ok_or_else(wrong)?;
    let at = |port| format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(port));
    match uri.scheme_str() {
        Some("http") => Ok(Place::Http(at(80))),
        Some("https") => Ok(Place::Https(at(443), client(remote, authority.host())?)),
        _ => Err(wrong()),
    }
}

/// Verifies that the API's certificate is for `host`, as it was typed.
fn client(remote: &Remote, host: &str) -> Result<Arc<Client>, Failure> {
    let identity = remote.admin_cert.clone().zip(remote.admin_key.clone());
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = host.parse::<IpAddr>().map_or_else(|_| host.to_owned(), |address| address.to_string());
    let wanted = ClientTls {
        ca: remote.admin_ca.clone(),
        identity: identity.map(|(cert, key)| KeyPair { cert, key }),
        verify: Verify::Name(name),
        only_13: false,
    };
    Keeper::default().client(&wanted).map_err(Failure::usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(admin: &str) -> Result<Way, Failure> {
        let remote = Remote {
            admin: admin.to_owned(),
            admin_ca: None,
            admin_cert: None,
            admin_key: None,
            admin_token_file: None,
        };
        place(&remote).map(|place| Way { place, authorization: None })
    }

    #[test]
    fn an_admin_url_is_a_host_and_a_port_or_a_path() {
        for (url, expected) in [
            ("http://127.0.0.1:9990", "http://127.0.0.1:9990"),
            ("http://[::1]:9990/", "http://[::1]:9990"),
            ("http://node-7", "http://node-7:80"),
            ("unix:/run/towpath/admin.sock", "unix:/run/towpath/admin.sock"),
        ] {
            assert_eq!(way(url).ok().map(|way| way.to_string()).as_deref(), Some(expected));
        }
        for wrong in ["", "127.0.0.1:9990", "ftp://a", "http://a/b", "http://a/?b", "unix:"] {
            assert!(way(wrong).is_err(), "{wrong}");
        }
    }
}
