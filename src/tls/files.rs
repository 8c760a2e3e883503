//! PEM files: certificates, keys, and who is believed.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::KeyPair;

/// No file with certificates is larger; what is, is something else.
const LARGEST: u64 = 4 << 20;

/// When a certificate of a file ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The file.
    pub file: PathBuf,
    /// The earliest end of its certificates.
    pub at: SystemTime,
    /// The latest beginning of its certificates.
    pub from: SystemTime,
    /// They are shown to others, and are not those of whoever is believed.
    pub is_own: bool,
}

/// A certificate with its key, which belong together.
///
/// # Errors
/// Which file it is, and what is wrong with it.
pub(super) fn pair(pair: &KeyPair, provider: &CryptoProvider) -> Result<(Arc<CertifiedKey>, Expiry), String> {
    let chain = certificates(&pair.cert)?;
    let expiry = Expiry { is_own: true, ..expiry(&pair.cert, &chain)? };
    let key = private_key(&pair.key)?;
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            format!("{} is not the key of the certificate in {}", pair.key.display(), pair.cert.display())
        }
        error => format!("{} and {} cannot be used: {error}", pair.cert.display(), pair.key.display()),
    })?;
    Ok((Arc::new(certified), expiry))
}

/// Those who may vouch for others.
///
/// # Errors
/// Which file it is, and what is wrong with it.
pub(super) fn roots(file: &Path) -> Result<(Arc<RootCertStore>, Expiry), String> {
    let all = certificates(file)?;
    let expiry = expiry(file, &all)?;
    let mut roots = RootCertStore::empty();
    for certificate in all {
        roots.add(certificate).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok((Arc::new(roots), expiry))
}

/// Those whom the system trusts.
///
/// # Errors
/// When it trusts nobody.
pub(super) fn system_roots() -> Result<Arc<RootCertStore>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or(String::new(), |error| format!(": {error}"));
        return Err(format!("the system trusts nobody{why}; install ca-certificates, or name a ca"));
    }
    Ok(Arc::new(roots))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read(file)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let all = all.map_err(|error| format!("{}: {error}", file.display()))?;
    if all.is_empty() {
        return Err(format!("{} holds no certificate in PEM form", file.display()));
    }
    Ok(all)
}

/// A key. Whoever may write the file could take the node's identity, so nobody else may; whoever may read it could as well, which
/// is told (see [`readable_by_others`]) and not refused: Kubernetes mounts secrets readable by default.
fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let bytes = read(file)?;
    if mode(file)? & 0o022 != 0 {
        return Err(format!("others may write {}, a private key; chmod 600 mends that", file.display()));
    }
    PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|error| format!("{} holds no private key in PEM form: {error}", file.display()))
}

/// Whether everybody on this host can read the file.
pub(super) fn readable_by_others(file: &Path) -> bool {
    mode(file).is_ok_and(|mode| mode & 0o004 != 0)
}

fn mode(file: &Path) -> Result<u32, String> {
    let metadata = fs::metadata(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    Ok(metadata.permissions().mode())
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error| format!("cannot read {}: {error}", file.display());
    let metadata = fs::metadata(file).map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Err(format!("{} is no file with certificates or a key", file.display()));
    }
    fs::read(file).map_err(unreadable)
}

fn expiry(file: &Path, chain: &[CertificateDer<'_>]) -> Result<Expiry, String> {
    let (mut first, mut last) = (None::<i64>, 0);
    for certificate in chain {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| {
            format!("{} holds a certificate that cannot be read: {error}", file.display())
        })?;
        let end = parsed.validity().not_after.timestamp();
        first = Some(first.map_or(end, |first| first.min(end)));
        last = last.max(parsed.validity().not_before.timestamp());
    }
    let time = |seconds: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    Ok(Expiry { file: file.to_owned(), at: time(first.unwrap_or_default()), from: time(last), is_own: false })
}
