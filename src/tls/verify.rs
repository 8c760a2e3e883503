//! Whether a server's certificate is the right one: chain, time and signatures as rustls has them, and the name as configured.

use std::sync::Arc;

use rustls::{
    DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use super::names::{Names, are_siblings};
use crate::config::{Verify, is_like};

/// Judges certificates of servers.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    /// None: everybody is believed.
    pub(super) roots: Option<Arc<RootCertStore>>,
    pub(super) how: Verify,
    /// The own SPIFFE id.
    pub(super) own: Option<String>,
    pub(super) provider: Arc<CryptoProvider>,
}

impl ServerVerifier {
    /// Whether a certificate that somebody believed has vouched for is for the right server.
    fn name(
        &self,
        certificate: &CertificateDer<'_>,
        parsed: &ParsedCertificate<'_>,
        name: &ServerName<'_>,
    ) -> Result<(), Error> {
        let id = Names::of(certificate).spiffe;
        match &self.how {
            Verify::Nothing { .. } => Ok(()),
            Verify::Name(_) | Verify::Host => verify_server_name(parsed, name),
            Verify::Spiffe { ids, .. } => match id {
                Some(id) if ids.iter().any(|pattern| is_like(&id, pattern)) => Ok(()),
                Some(id) => Err(Error::General(format!(
                    "the certificate is for {id}, which is not among the ids of spiffe"
                ))),
                None => Err(Error::General("the certificate has no SPIFFE id".to_owned())),
            },
            Verify::Node => match (&self.own, id) {
                (Some(own), Some(id)) if are_siblings(own, &id) => Ok(()),
                _ => verify_server_name(parsed, name),
            },
        }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(roots) = &self.roots else { return Ok(ServerCertVerified::assertion()) };
        let parsed = ParsedCertificate::try_from(certificate)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)?;
        self.name(certificate, &parsed, name).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
