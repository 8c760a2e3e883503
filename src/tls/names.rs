//! Whom a certificate is for.

use rustls::pki_types::CertificateDer;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

/// The names in a certificate's subject alternative name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Its SPIFFE id. None also when there are several URIs, which is no SPIFFE certificate (X509-SVID, section 2).
    pub spiffe: Option<String>,
    /// Its DNS names.
    pub dns: Vec<String>,
}

impl Names {
    /// Of a certificate, in DER form; none where it cannot be read.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Self::default() };
        let Ok(Some(names)) = parsed.subject_alternative_name() else { return Self::default() };
        let names = &names.value.general_names;
        let uris = || {
            names.iter().filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
        };
        let one = uris().next().filter(|uri| uris().count() == 1 && uri.starts_with("spiffe://"));
        let dns = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        };
        Self { spiffe: one.map(str::to_owned), dns: names.iter().filter_map(dns).collect() }
    }

    /// Who it is: the SPIFFE id, else the first DNS name.
    pub fn identity(&self) -> Option<&str> {
        self.spiffe.as_deref().or_else(|| self.dns.first().map(String::as_str))
    }
}

/// Whether a certificate has begun and not ended. What is kept of a session is the certificate as it was verified then.
pub(super) fn is_valid_now(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| parsed.validity().is_valid())
}

/// A pattern for all SPIFFE ids that differ from `id` in the last segment only.
pub(super) fn siblings(id: &str) -> Option<&str> {
    let (before, last) = id.rsplit_once('/')?;
    // The slash of a path, not of `spiffe://`.
    (before.len() > "spiffe://".len() && !last.is_empty()).then_some(before)
}

/// Whether `id` differs from `own` in the last segment only, if at all.
pub(super) fn are_siblings(own: &str, id: &str) -> bool {
    siblings(own).is_some_and(|before| siblings(id) == Some(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_differ_in_the_last_segment_only() {
        assert!(are_siblings("spiffe://prod/node/a", "spiffe://prod/node/b"));
        for (own, other) in [
            ("spiffe://prod/node/a", "spiffe://prod/node/a/b"),
            ("spiffe://prod/node/a", "spiffe://test/node/a"),
            ("spiffe://prod/node/a", "spiffe://prod/a"),
            ("spiffe://prod", "spiffe://prod"),
            ("spiffe://prod/", "spiffe://prod/"),
            ("spiffe://prod/node/a", "spiffe://prod/node/"),
        ] {
            assert!(!are_siblings(own, other), "{own} {other}");
        }
    }
}
