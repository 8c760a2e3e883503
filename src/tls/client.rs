//! TLS towards endpoints and other nodes.

use std::{net::IpAddr, path::Path, sync::Arc};

use rustls::{
    ClientConfig, SupportedProtocolVersion,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{DnsName, ServerName},
    sign::SingleCertAndKey,
};

use super::{
    files::{self, Expiry},
    kept::{Kept, Material},
    names::Names,
    verify::ServerVerifier,
};
use crate::config::{ClientTls, Verify};

/// TLS towards endpoints, as the files say now.
pub type Client = Kept<ClientMaterial>;

/// What handshakes with endpoints go by.
pub struct ClientMaterial {
    /// Offers HTTP/1.1.
    pub http1: Arc<ClientConfig>,
    /// Offers HTTP/2.
    pub http2: Arc<ClientConfig>,
    expiries: Vec<Expiry>,
}

/// What an endpoint is called where nothing is configured.
#[derive(Clone, Copy, Debug)]
pub struct ServerNameOf<'a> {
    /// The host that its service was made for, or the DNS name of its node.
    pub host: Option<&'a str>,
    /// Its address, or that of its node.
    pub address: IpAddr,
}

impl Kept<ClientMaterial> {
    /// What the certificate must be for, and SNI; an address where there is no name.
    pub fn server_name(&self, of: ServerNameOf<'_>) -> ServerName<'static> {
        let name = match &self.wanted.verify {
            Verify::Name(name) => Some(name.as_str()),
            Verify::Spiffe { name, .. } | Verify::Nothing { name } => name.as_deref(),
            Verify::Host | Verify::Node => of.host,
        };
        let Some(name) = name else { return ServerName::from(of.address) };
        match name.parse::<IpAddr>() {
            Ok(address) => ServerName::from(address),
            // A name that no certificate can be for (with an underscore at its end, say) is not replaced by one that anybody's may be.
            Err(_) => DnsName::try_from(name.to_owned()).map_or_else(|_| unverifiable(), ServerName::DnsName),
        }
    }
}

/// A name that no certificate is for (RFC 6761 6.4).
fn unverifiable() -> ServerName<'static> {
    ServerName::DnsName(DnsName::try_from_str("name.invalid").expect("it is a name").to_owned())
}

impl Material for ClientMaterial {
    type Wanted = ClientTls;

    fn files(wanted: &ClientTls) -> Vec<&Path> {
        let pair = wanted.identity.iter().flat_map(|pair| [&*pair.cert, &*pair.key]);
        pair.chain(wanted.ca.as_deref()).collect()
    }

    fn keys(wanted: &ClientTls) -> Vec<&Path> {
        wanted.identity.iter().map(|pair| &*pair.key).collect()
    }

    fn read(wanted: &ClientTls) -> Result<Self, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut expiries = Vec::new();
        let roots = match (&wanted.verify, &wanted.ca) {
            (Verify::Nothing { .. }, _) => None,
            (_, None) => Some(files::system_roots()?),
            (_, Some(file)) => {
                let (roots, expiry) = files::roots(file)?;
                expiries.push(expiry);
                Some(roots)
            }
        };
        let identity = wanted.identity.as_ref().map(|pair| files::pair(pair, &provider)).transpose()?;
        let own = identity.as_ref().and_then(|(certified, _)| certified.cert.first());
        let own = own.and_then(|own| Names::of(own).spiffe);
        let verifier = ServerVerifier { roots, how: wanted.verify.clone(), own, provider: provider.clone() };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions(wanted.only_13))
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((certified, expiry)) => {
                expiries.push(expiry);
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
        };
        config.resumption = Resumption::in_memory_sessions(256);
        let offering = |protocol: &[u8]| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(config)
        };
        Ok(Self { http1: offering(b"http/1.1"), http2: offering(b"h2"), expiries })
    }

    fn expiries(&self) -> &[Expiry] {
        &self.expiries
    }
}

static BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

/// The versions of TLS that are spoken, the newest first.
pub(super) fn versions(only_13: bool) -> &'static [&'static SupportedProtocolVersion] {
    if only_13 { &BOTH[..1] } else { &BOTH }
}
