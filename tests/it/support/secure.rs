//! TLS towards the daemon: files for its listener, and callers that speak it.

use std::{io, net::SocketAddr, path::Path, sync::Arc};

use rustls::{ClientConfig, client::Resumption, pki_types::ServerName};
use tempfile::TempDir;
use tokio::{io::AsyncReadExt, net::TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    Speaks,
    pki::{Authority, Issued},
    within,
};

/// A directory with `ca.crt`, `node.crt` and `node.key`, for `node.test`.
pub struct Site {
    pub authority: Authority,
    directory: TempDir,
}

impl Site {
    pub fn new() -> Self {
        let site = Self { authority: Authority::new("test"), directory: tempfile::tempdir().unwrap() };
        site.authority.write(site.path());
        site.renew();
        site
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Another certificate and key for the node.
    pub fn renew(&self) -> Issued {
        let issued = self.authority.issue(&["node.test"]);
        issued.write(self.path(), "node");
        issued
    }

    /// The path of a file here.
    pub fn file(&self, name: &str) -> String {
        self.path().join(name).display().to_string()
    }

    /// A listener `outgoing` with the node's certificate; `keys` are further ones of its `tls`.
    pub fn listener(&self, keys: &str) -> String {
        self.listener_at("127.0.0.1:0", keys)
    }

    pub fn listener_at(&self, address: &str, keys: &str) -> String {
        let (cert, key) = (self.file("node.crt"), self.file("node.key"));
        let keys = keys.replace("DIR", &self.path().display().to_string());
        let tls = [format!("cert = \"{cert}\", key = \"{key}\""), keys];
        let tls: Vec<_> = tls.iter().filter(|part| !part.is_empty()).map(String::as_str).collect();
        format!(
            "[[listeners]]\nname = \"outgoing\"\nkind = \"outgoing\"\nlisten = \"{address}\"\ntls = {{ {} }}\n",
            tls.join(", ")
        )
    }

    /// A caller without a certificate that offers this protocol.
    pub fn client(&self, speaks: Speaks) -> Arc<ClientConfig> {
        self.authority.client(None, &[alpn(speaks)])
    }
}

/// As ALPN names it.
pub fn alpn(speaks: Speaks) -> &'static str {
    match speaks {
        Speaks::Http1 => "http/1.1",
        Speaks::Http2 => "h2",
    }
}

/// The same, that begins every session anew.
pub fn without_resumption(config: &Arc<ClientConfig>) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(config);
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// A connection to `node.test` at `address`.
pub async fn secure(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    secure_as(address, config, "node.test").await
}

pub async fn secure_as(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &str,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = within("connect", TcpStream::connect(address)).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    within("a TLS handshake", TlsConnector::from(config.clone()).connect(name, stream)).await
}

/// What the daemon says to a caller that it refuses: with TLS 1.3, only after the caller has taken the handshake for made.
pub async fn refusal(address: SocketAddr, config: &Arc<ClientConfig>) -> String {
    let refused = match secure(address, config).await {
        Err(error) => error,
        Ok(mut stream) => match within("a refusal", stream.read(&mut [0; 1])).await {
            Ok(0) => return "closed".to_owned(),
            Ok(_) => panic!("it says something else"),
            Err(error) => error,
        },
    };
    refused.to_string()
}
