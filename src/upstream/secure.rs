//! TLS with an endpoint or a node: the handshake, and in which words it fails.

use std::{io, sync::Arc};

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, pki_types::ServerName};
use tokio_rustls::{TlsConnector, TlsStream};

use super::{error::ConnectError, target::Version};
use crate::{
    net::{Socket, Stream},
    tls::{Client, ServerNameOf},
};

/// How the connections to a target are secured.
#[derive(Clone)]
pub struct Secure {
    client: Arc<Client>,
    /// What the certificate must be for, and SNI.
    name: ServerName<'static>,
}

impl Secure {
    /// By what `client` goes by, with a server that is called so where nothing is configured.
    pub fn new(client: &Arc<Client>, of: ServerNameOf<'_>) -> Self {
        Self { client: client.clone(), name: client.server_name(of) }
    }

    /// Whether both mean the same server, and how it is verified.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.client, &other.client) && self.name == other.name
    }

    /// Makes the handshake on `socket`. What is given back is never plain.
    ///
    /// # Errors
    /// [`ConnectError::Tls`] when the server is not the right one, or does not want this node;
    /// [`ConnectError::Protocol`] when it does not agree on the protocol.
    pub async fn handshake(&self, socket: Socket, version: Version) -> Result<Stream, ConnectError> {
        let material = self.client.now();
        let config = match version {
            Version::Http1 => &material.http1,
            Version::Http2 => &material.http2,
        };
        let connecting = TlsConnector::from(config.clone()).connect(self.name.clone(), socket);
        let stream = connecting.await.map_err(|error| ConnectError::Tls(self.explain(&error)))?;
        let agreed = stream.get_ref().1.alpn_protocol();
        if version == Version::Http2 && agreed != Some(b"h2") {
            let what = "it did not agree on HTTP/2 in the TLS handshake (ALPN); does it speak HTTP/1.1 only?";
            return Err(ConnectError::Protocol(what.to_owned()));
        }
        Ok(Stream::Tls(Box::new(TlsStream::Client(stream))))
    }

    /// The cause, for people.
    fn explain(&self, error: &io::Error) -> String {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match inner {
            Some(error) => explain(error, &self.name.to_str()),
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                "it closed the connection; does it speak TLS?".to_owned()
            }
            None => error.to_string(),
        }
    }
}

/// In the words of the configuration: who is at fault, and what mends it.
fn explain(error: &Error, name: &str) -> String {
    match error {
        Error::InvalidCertificate(error) => certificate(error, name),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "what it answers is no TLS; does it speak plain HTTP?".to_owned()
        }
        Error::AlertReceived(alert) => alerted(*alert),
        Error::General(text) => text.clone(),
        error => error.to_string(),
    }
}

fn certificate(error: &CertificateError, name: &str) -> String {
    match error {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("its certificate is not for {name} (server_name)")
        }
        CertificateError::UnknownIssuer => {
            "unknown issuer: nobody who is believed (ca) has vouched for its certificate".to_owned()
        }
        CertificateError::BadSignature => {
            "its certificate was signed by another key than those that are believed (ca) under that name"
                .to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet; is the clock right?".to_owned()
        }
        error => format!("its certificate cannot be accepted: {error}"),
    }
}

fn alerted(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => {
            "it demands a certificate, and none is shown (cert, key)".to_owned()
        }
        AlertDescription::UnknownCA | AlertDescription::BadCertificate => {
            format!("it does not accept the certificate that is shown to it ({alert:?})")
        }
        AlertDescription::NoApplicationProtocol => {
            "it does not speak the protocol that was offered (ALPN)".to_owned()
        }
        AlertDescription::ProtocolVersion => "it speaks no version of TLS that may be used".to_owned(),
        alert => format!("it refused the handshake ({alert:?})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_name_their_cause() {
        for (error, expected) in [
            (Error::InvalidCertificate(CertificateError::NotValidForName), "not for orders.internal"),
            (Error::InvalidCertificate(CertificateError::UnknownIssuer), "unknown issuer"),
            (Error::InvalidCertificate(CertificateError::Expired), "has expired"),
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), "plain HTTP"),
            (Error::AlertReceived(AlertDescription::CertificateRequired), "demands a certificate"),
            (Error::AlertReceived(AlertDescription::UnknownCA), "does not accept the certificate"),
            (Error::General("the certificate has no SPIFFE id".to_owned()), "has no SPIFFE id"),
        ] {
            let text = explain(&error, "orders.internal");
            assert!(text.contains(expected), "{text}");
        }
    }
}
