//! Who may do what: verified certificates and tokens.
//!
//! Where neither is configured, whoever reaches the API may do everything; the configuration allows that on loopback and on a Unix
//! socket only. Where one is, it is demanded wherever the API listens. Who has shown a certificate of `tls.client_ca`, or knows
//! `control_token`, may do everything; who knows `read_token` may read.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, Method, header};

use super::tokens::Token;
use crate::{
    config::{self, AdminAccess},
    net::Address,
    tls::{Keeper, Server},
};

/// Who may use the admin API, and its certificate.
pub struct Access {
    /// None: plain.
    pub(super) tls: Option<Arc<Server>>,
    /// Certificates that callers show are verified.
    certificates: bool,
    read: Option<Token>,
    control: Option<Token>,
}

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    Nothing,
    Read,
    Everything,
}

impl Right {
    /// Whether it covers a request. What is safe reads (RFC 9110 9.2.1); everything else controls.
    pub(super) fn covers(self, method: &Method) -> bool {
        self == Self::Everything || (self == Self::Read && method.is_safe())
    }
}

impl Access {
    /// Reads the files.
    ///
    /// # Errors
    /// Each file that cannot be used, a line each.
    pub fn open(config: &AdminAccess, keeper: &Keeper) -> Result<Self, String> {
        let tls = config.tls.as_ref().map(|tls| keeper.server(tls)).transpose();
        let tls = tls.map_err(|problem| format!("admin.tls: {problem}"));
        let token = |key, file: &Option<_>| {
            file.as_ref().map(|file: &std::path::PathBuf| Token::open(key, file)).transpose()
        };
        let read = token("read_token", &config.read_token);
        let control = token("control_token", &config.control_token);
        let certificates = config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        match (tls, read, control) {
            (Ok(tls), Ok(read), Ok(control)) => Ok(Self { tls, certificates, read, control }),
            (tls, read, control) => {
                let problems = [tls.err(), read.err(), control.err()];
                Err(problems.into_iter().flatten().collect::<Vec<_>>().join("\n"))
            }
        }
    }

    /// Whether nobody has to say who he is.
    pub(super) fn is_open(&self) -> bool {
        self.demands().is_empty()
    }

    /// What callers are asked for, in the words of the file; any of these.
    pub(super) fn demands(&self) -> Vec<&'static str> {
        let all = [
            ("tls.client_ca", self.certificates),
            ("read_token", self.read.is_some()),
            ("control_token", self.control.is_some()),
        ];
        all.into_iter().filter_map(|(name, there)| there.then_some(name)).collect()
    }

    /// What a caller may do who has shown a certificate that was verified (`certified`), or a token.
    pub(super) fn right(&self, certified: bool, headers: &HeaderMap) -> Right {
        if self.is_open() || (self.certificates && certified) {
            return Right::Everything;
        }
        let mut all = headers.get_all(header::AUTHORIZATION).iter();
        // Of two tokens, neither is it.
        let (Some(value), None) = (all.next(), all.next()) else { return Right::Nothing };
        let Some(token) = bearer(value) else { return Right::Nothing };
        let is = |known: &Option<Token>| known.as_ref().is_some_and(|known| known.is(token));
        match (is(&self.control), is(&self.read)) {
            (true, _) => Right::Everything,
            (false, true) => Right::Read,
            (false, false) => Right::Nothing,
        }
    }

    /// Reads the tokens again. To be called about once a second; whoever has the [`Keeper`] looks after certificates.
    pub(super) fn look(&self) {
        self.read.iter().chain(&self.control).for_each(Token::look);
    }

    /// Why tokens are not what their files hold.
    pub(super) fn problems(&self) -> Vec<String> {
        self.read.iter().chain(&self.control).filter_map(Token::problem).collect()
    }
}

/// The token of `Bearer TOKEN` (RFC 6750 2.1); the scheme in any case.
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// What a configuration of the admin API allows and should not.
pub fn warnings(config: &config::Admin) -> Vec<String> {
    match &config.listen {
        Address::Tcp(address) if !address.ip().is_loopback() && config.access.tls.is_none() => {
            vec![format!(
                "admin.listen is {address}, beyond loopback, without admin.tls: tokens travel in the clear, and who reads one may use it"
            )]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

    use super::*;

    const READ: &str = "reader-0123456789";
    const CONTROL: &str = "control-0123456789";

    fn file(directory: &tempfile::TempDir, name: &str) -> Option<PathBuf> {
        let file = directory.path().join(name);
        fs::write(&file, if name == "read" { READ } else { CONTROL }).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        Some(file)
    }

    fn access(read: bool, control: bool, certificates: bool) -> Access {
        let directory = tempfile::tempdir().unwrap();
        let config = AdminAccess {
            tls: None,
            read_token: file(&directory, "read").filter(|_| read),
            control_token: file(&directory, "control").filter(|_| control),
        };
        Access { certificates, ..Access::open(&config, &Keeper::default()).unwrap() }
    }

    fn with(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (header::AUTHORIZATION, value.parse().unwrap())).collect()
    }

    fn bearer_of(token: &str) -> HeaderMap {
        with(&[&format!("Bearer {token}")])
    }

    #[test]
    fn where_nothing_is_configured_everybody_may_do_everything() {
        assert_eq!(access(false, false, false).right(false, &with(&[])), Right::Everything);
    }

    #[test]
    fn each_token_opens_what_it_is_for() {
        let access = access(true, true, false);
        assert_eq!(access.right(false, &bearer_of(READ)), Right::Read);
        assert_eq!(access.right(false, &bearer_of(CONTROL)), Right::Everything);
        assert_eq!(access.right(false, &with(&[&format!("bearer  {CONTROL} ")])), Right::Everything);
        for wrong in ["", "Bearer", "Bearer ", "Basic cmVhZA==", CONTROL, "Bearer reader-012345678"] {
            assert_eq!(access.right(false, &with(&[wrong])), Right::Nothing, "{wrong}");
        }
        let two = with(&[&format!("Bearer {READ}"), &format!("Bearer {READ}")]);
        assert_eq!(access.right(false, &two), Right::Nothing);
        assert_eq!(access.right(false, &with(&[])), Right::Nothing);
    }

    #[test]
    fn a_token_that_is_not_configured_opens_nothing() {
        let reader = access(true, false, false);
        assert_eq!(reader.right(false, &bearer_of(CONTROL)), Right::Nothing);
        assert_eq!(reader.right(false, &bearer_of(READ)), Right::Read);
        let controller = access(false, true, false);
        assert_eq!(controller.right(false, &bearer_of(READ)), Right::Nothing);
        assert_eq!(controller.right(false, &with(&[])), Right::Nothing);
    }

    #[test]
    fn a_certificate_counts_only_where_it_is_verified() {
        assert_eq!(access(true, false, true).right(true, &with(&[])), Right::Everything);
        assert_eq!(access(false, false, true).right(false, &with(&[])), Right::Nothing);
        assert_eq!(access(true, false, false).right(true, &with(&[])), Right::Nothing);
    }

    #[test]
    fn reading_covers_what_is_safe() {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            assert!(Right::Read.covers(&method) && !Right::Nothing.covers(&method), "{method}");
        }
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::CONNECT] {
            assert!(!Right::Read.covers(&method) && Right::Everything.covers(&method), "{method}");
        }
    }
}
