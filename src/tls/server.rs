//! TLS towards callers.

use std::{path::Path, sync::Arc};

use rustls::{
    HandshakeKind, ServerConfig, ServerConnection,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, DnsName, ServerName},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};

use super::{
    client::versions,
    files::{self, Expiry},
    kept::{Kept, Material},
    names::{self, Names, are_siblings},
};
use crate::config::{KeyPair, ServerTls, is_like};

/// TLS towards callers, as the files say now.
pub type Server = Kept<ServerMaterial>;

/// What handshakes with callers go by.
pub struct ServerMaterial {
    /// For the next handshake.
    pub config: Arc<ServerConfig>,
    expiries: Vec<Expiry>,
    nodes: Nodes,
}

/// Who may speak for others.
enum Nodes {
    /// Those who are like one of these.
    Like(Vec<String>),
    /// Siblings of this SPIFFE id.
    SiblingsOf(String),
    /// Everybody who showed a certificate.
    All,
}

impl ServerMaterial {
    /// Whom the certificate is for that a caller has shown in this handshake, and whether that is a node.
    ///
    /// # Errors
    /// When a session is resumed whose certificate has ended meanwhile.
    pub fn caller(&self, connection: &ServerConnection) -> Result<(Option<Names>, bool), String> {
        let Some([own, others @ ..]) = connection.peer_certificates() else { return Ok((None, false)) };
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        if resumed && ![own].into_iter().chain(others).all(names::is_valid_now) {
            return Err("the session is resumed, and the caller's certificate has ended".to_owned());
        }
        let names = Names::of(own);
        let is_node = self.is_node(&names);
        Ok((Some(names), is_node))
    }

    /// Whether a caller with these names, from a certificate that was verified, is a node that may speak for its callers.
    pub fn is_node(&self, names: &Names) -> bool {
        match &self.nodes {
            Nodes::All => names.identity().is_some(),
            Nodes::SiblingsOf(own) => names.spiffe.as_ref().is_some_and(|id| are_siblings(own, id)),
            Nodes::Like(patterns) => {
                let named = names.spiffe.iter().chain(&names.dns);
                named.into_iter().any(|name| patterns.iter().any(|pattern| is_like(name, pattern)))
            }
        }
    }
}

impl Material for ServerMaterial {
    type Wanted = ServerTls;

    fn files(wanted: &ServerTls) -> Vec<&Path> {
        let pairs = wanted.certificates.iter().flat_map(|pair| [&*pair.cert, &*pair.key]);
        pairs.chain(wanted.client_ca.as_deref()).collect()
    }

    fn keys(wanted: &ServerTls) -> Vec<&Path> {
        wanted.certificates.iter().map(|pair| &*pair.key).collect()
    }

    fn read(wanted: &ServerTls) -> Result<Self, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut expiries = Vec::new();
        let certificates = Certificates::read(&wanted.certificates, &provider, &mut expiries)?;
        let nodes = nodes(wanted, certificates.first.cert.first());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions(wanted.only_13))
            .map_err(|error| error.to_string())?;
        let builder = match &wanted.client_ca {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let (roots, expiry) = files::roots(file)?;
                expiries.push(expiry);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier =
                    if wanted.client_required { verifier } else { verifier.allow_unauthenticated() };
                let verifier = verifier.build().map_err(|error| format!("{}: {error}", file.display()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(certificates));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Made anew with the files: a session that began under other trust anchors is not resumed.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| error.to_string())?;
        Ok(Self { config: Arc::new(config), expiries, nodes })
    }

    fn expiries(&self) -> &[Expiry] {
        &self.expiries
    }
}

fn nodes(wanted: &ServerTls, own: Option<&CertificateDer<'_>>) -> Nodes {
    match (&wanted.nodes, own.and_then(|own| Names::of(own).spiffe)) {
        (Some(patterns), _) => Nodes::Like(patterns.clone()),
        (None, Some(own)) => Nodes::SiblingsOf(own),
        (None, None) => Nodes::All,
    }
}

/// Which certificate a caller is shown.
#[derive(Debug)]
struct Certificates {
    first: Arc<CertifiedKey>,
    all: Vec<Arc<CertifiedKey>>,
}

impl Certificates {
    fn read(
        pairs: &[KeyPair],
        provider: &CryptoProvider,
        expiries: &mut Vec<Expiry>,
    ) -> Result<Self, String> {
        let mut all = Vec::new();
        for pair in pairs {
            let (certified, expiry) = files::pair(pair, provider)?;
            all.push(certified);
            expiries.push(expiry);
        }
        let first = all.first().cloned().ok_or("no certificate is named")?;
        Ok(Self { first, all })
    }

    /// The first that is for `name`.
    fn named(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let name = ServerName::DnsName(DnsName::try_from(name).ok()?);
        let is_for = |certified: &&Arc<CertifiedKey>| {
            let parsed = certified.end_entity_cert().and_then(ParsedCertificate::try_from);
            parsed.is_ok_and(|parsed| rustls::client::verify_server_name(&parsed, &name).is_ok())
        };
        self.all.iter().find(is_for).cloned()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if self.all.len() == 1 {
            return Some(self.first.clone());
        }
        let named = hello.server_name().and_then(|name| self.named(name));
        Some(named.unwrap_or_else(|| self.first.clone()))
    }
}
