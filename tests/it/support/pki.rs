//! A certification authority for tests, and files with what it issues.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

/// An authority of its own.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key, in PEM form.
#[derive(Clone)]
pub struct Issued {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for DNS names, IP addresses and `spiffe://` URIs, valid for a day.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_until(names, Duration::from_secs(86_400))
    }

    /// The same, valid from an hour ago to this long after now.
    pub fn issue_until(&self, names: &[&str], left: Duration) -> Issued {
        self.issue_up_to(names, std::time::SystemTime::now() + left)
    }

    /// The same, valid until a minute ago.
    pub fn issue_ended(&self, names: &[&str]) -> Issued {
        self.issue_up_to(names, std::time::SystemTime::now() - Duration::from_secs(60))
    }

    /// The same, valid from tomorrow on.
    pub fn issue_early(&self, names: &[&str]) -> Issued {
        let tomorrow = std::time::SystemTime::now() + Duration::from_secs(86_400);
        self.issue_between(names, tomorrow, tomorrow + Duration::from_secs(86_400))
    }

    fn issue_up_to(&self, names: &[&str], end: std::time::SystemTime) -> Issued {
        self.issue_between(names, std::time::SystemTime::now() - Duration::from_secs(3600), end)
    }

    fn issue_between(
        &self,
        names: &[&str],
        begin: std::time::SystemTime,
        end: std::time::SystemTime,
    ) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.not_before = begin.into();
        params.not_after = end.into();
        params.subject_alt_names = names.iter().map(|name| alternative_name(name)).collect();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued { cert: certificate.pem(), key: key.serialize_pem() }
    }

    /// What a client of a test goes by: believes this authority, shows `identity`, offers `protocols`.
    pub fn client(&self, identity: Option<&Issued>, protocols: &[&str]) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots());
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(issued) => builder.with_client_auth_cert(issued.chain(), issued.private_key()).unwrap(),
        };
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// What a server of a test goes by; with `demand`, clients must show a certificate of this authority.
    pub fn server(&self, identity: &Issued, demand: bool, protocols: &[&str]) -> Arc<ServerConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match demand {
            false => builder.with_no_client_auth(),
            true => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let mut config = builder.with_single_cert(identity.chain(), identity.private_key()).unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        roots
    }

    /// Writes `ca.crt`.
    pub fn write(&self, directory: &Path) -> PathBuf {
        let file = directory.join("ca.crt");
        fs::write(&file, &self.pem).unwrap();
        file
    }
}

fn alternative_name(name: &str) -> SanType {
    if let Ok(address) = name.parse() {
        return SanType::IpAddress(address);
    }
    match name.contains("://") {
        true => SanType::URI(name.try_into().unwrap()),
        false => SanType::DnsName(name.try_into().unwrap()),
    }
}

impl Issued {
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.cert.as_bytes()).collect::<Result<_, _>>().unwrap()
    }

    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }

    /// Writes `NAME.crt` and `NAME.key`, each by renaming; the key for its owner only.
    pub fn write(&self, directory: &Path, name: &str) {
        for (ending, text, mode) in [("crt", &self.cert, 0o644), ("key", &self.key, 0o600)] {
            let new = directory.join(format!("{name}.{ending}.new"));
            fs::write(&new, text).unwrap();
            fs::set_permissions(&new, fs::Permissions::from_mode(mode)).unwrap();
            fs::rename(&new, directory.join(format!("{name}.{ending}"))).unwrap();
        }
    }
}
