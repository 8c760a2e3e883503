//! An authority that vouches for nodes: ECDSA P-256, a SPIFFE trust domain in its name.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::files::Files;
use crate::tls::Names;

/// Clocks of nodes may differ by this.
const SKEW: Duration = Duration::from_secs(3600);

/// Vouches for others.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    domain: String,
}

/// Whom a certificate is for.
pub(super) struct Subject {
    /// Of its files and its subject.
    pub(super) name: String,
    pub(super) dns: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
    /// In place of the one that is made of `name`.
    pub(super) spiffe: Option<String>,
}

impl Subject {
    fn id(&self, domain: &str) -> String {
        self.spiffe.clone().unwrap_or_else(|| format!("spiffe://{domain}/node/{}", self.name))
    }

    /// All of them, for people.
    pub(super) fn alternative_names(&self, authority: &Authority) -> Vec<String> {
        let addresses = self.addresses.iter().map(ToString::to_string);
        self.dns.iter().cloned().chain(addresses).chain([self.id(&authority.domain)]).collect()
    }
}

/// Whether it may be a trust domain (SPIFFE-ID 2.1).
pub(super) fn spiffe_domain(domain: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
    (1..=255).contains(&domain.len()) && domain.chars().all(allowed)
}

impl Authority {
    pub(super) fn new(domain: &str, end: SystemTime) -> Result<Self, String> {
        let key = KeyPair::generate().map_err(|error| error.to_string())?;
        let mut params = valid_until(end);
        params.distinguished_name.push(DnType::CommonName, format!("towpath development CA of {domain}"));
        params.subject_alt_names = vec![uri(&format!("spiffe://{domain}"))?];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).map_err(|error| error.to_string())?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem, domain: domain.to_owned() })
    }

    /// The one whose files are there.
    pub(super) fn read(files: &Files) -> Result<Self, String> {
        let (pem, key) = (files.read("ca.crt")?, files.read("ca.key")?);
        let unusable = |what: &str| format!("{} cannot be used: {what}", files.path("ca.crt").display());
        let certificate =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| unusable(&error.to_string()))?;
        let key = KeyPair::from_pem(&key)
            .map_err(|_| format!("{} holds no private key in PEM form", files.path("ca.key").display()))?;
        let id = Names::of(&certificate).spiffe.unwrap_or_default();
        let domain = id.strip_prefix("spiffe://").filter(|domain| spiffe_domain(domain));
        let domain = domain.ok_or_else(|| unusable("it was not made by towpath ca init"))?.to_owned();
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|error| unusable(&error.to_string()))?;
        Ok(Self { issuer, pem, domain })
    }

    pub(super) fn certificate_pem(&self) -> &str {
        &self.pem
    }

    pub(super) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A certificate and its key, both in PEM form.
    pub(super) fn issue(&self, subject: &Subject, end: SystemTime) -> Result<(String, String), String> {
        let key = KeyPair::generate().map_err(|error| error.to_string())?;
        let mut params = valid_until(end);
        params.distinguished_name.push(DnType::CommonName, subject.name.clone());
        params.subject_alt_names = subject.sans(&self.domain)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).map_err(|error| error.to_string())?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

impl Subject {
    fn sans(&self, domain: &str) -> Result<Vec<SanType>, String> {
        let name = |name: &String| name.as_str().try_into().map(SanType::DnsName);
        let mut sans: Vec<_> =
            self.dns.iter().map(name).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        sans.extend(self.addresses.iter().copied().map(SanType::IpAddress));
        sans.push(uri(&self.id(domain))?);
        Ok(sans)
    }
}

fn uri(uri: &str) -> Result<SanType, String> {
    uri.try_into().map(SanType::URI).map_err(|error: rcgen::Error| format!("{uri:?}: {error}"))
}

fn valid_until(end: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = (SystemTime::now() - SKEW).into();
    params.not_after = end.into();
    params
}
