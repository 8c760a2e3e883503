//! What keeps the node safe, as meant: TLS, callers, policies, tokens.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{Match, Name};
use crate::net::Subnet;

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyPair {
    /// PEM: the certificate, then those that vouch for it. Absolute.
    pub cert: PathBuf,
    /// PEM: the private key. Absolute.
    pub key: PathBuf,
}

/// TLS towards callers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerTls {
    /// At least one; the first is for who asks for none by name.
    pub certificates: Vec<KeyPair>,
    /// Who may vouch for callers.
    pub client_ca: Option<PathBuf>,
    /// Callers must show a certificate. Never without `client_ca`.
    pub client_required: bool,
    /// Identities that may speak for their callers; none: siblings of the own SPIFFE id, else everybody verified.
    pub nodes: Option<Vec<String>>,
    /// TLS 1.2 is not spoken.
    pub only_13: bool,
}

/// TLS towards endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientTls {
    /// Who may vouch for endpoints; none: whom the system trusts.
    pub ca: Option<PathBuf>,
    /// What is shown to endpoints.
    pub identity: Option<KeyPair>,
    /// How certificates are verified.
    pub verify: Verify,
    /// TLS 1.2 is not spoken.
    pub only_13: bool,
}

/// How an endpoint's certificate is verified, beside who vouches for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verify {
    /// It is for this name or address.
    Name(String),
    /// It is for the host that the service was made for on first use.
    Host,
    /// It has one of these SPIFFE ids (with `*`). The name, if any, is sent as SNI only.
    Spiffe {
        /// Patterns.
        ids: Vec<String>,
        /// As SNI.
        name: Option<String>,
    },
    /// It is for the node's address or name, or has a SPIFFE id that differs from the own one in the last segment only.
    Node,
    /// Not at all.
    Nothing {
        /// As SNI.
        name: Option<String>,
    },
}

/// The way to endpoints through the towpath of their nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Of those towpaths.
    pub port: u16,
    /// Where the node of an endpoint is.
    pub node: NodeOf,
    /// Endpoints of this node are called directly.
    pub local_direct: bool,
    /// Never [`Verify::Nothing`], never without identity.
    pub tls: ClientTls,
}

/// Where the node of an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NodeOf {
    /// At the endpoint's address.
    SameAddress,
    /// At the first address of the endpoint's range of this length.
    Subnet(u8),
    /// At the address of this name, around the endpoint's address with dashes.
    Name {
        /// In front of the address.
        prefix: String,
        /// Behind it.
        suffix: String,
    },
}

/// Facts by which a caller gets a name. All that are there must hold; at least one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerRule {
    /// The caller's.
    pub name: Name,
    /// The socket's owner.
    pub uid: Option<u32>,
    /// With `*`.
    pub cgroup: Option<String>,
    /// Where it comes from.
    pub address: Option<Subnet>,
    /// With `*`.
    pub spiffe: Option<String>,
    /// It may see how its requests are served (`towpath-debug`). Default false.
    pub trusted: bool,
}

/// Who may call a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Unique.
    pub name: Name,
    /// None: every service.
    pub service: Option<Name>,
    /// What it denies is only counted.
    pub dry_run: bool,
    /// Any of these allows.
    pub allow: Vec<PolicyRule>,
    /// Any of these denies.
    pub deny: Vec<PolicyRule>,
}

/// What a request has to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRule {
    /// Names with `*`; any caller when empty.
    pub callers: Vec<String>,
    /// Without `query`.
    pub matches: Match,
    /// Sorted; see [`RouteJwt::claims`].
    pub claims: Vec<(String, String)>,
}

/// Who issues tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtProvider {
    /// Its `iss`.
    pub issuer: String,
    /// Where its keys are.
    pub jwks: Jwks,
    /// Any when empty.
    pub audience: Vec<String>,
    /// By which clocks may differ.
    pub leeway: Duration,
    /// At least one.
    pub algorithms: Vec<JwtAlgorithm>,
    /// Lower case.
    pub header: String,
    /// Header (lower case) and claim, sorted.
    pub forward: Vec<(String, String)>,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Jwks {
    /// In a file; absolute.
    File(PathBuf),
    /// At an https URL.
    Url {
        /// As written.
        url: String,
        /// Who may vouch for the server; none: whom the system trusts.
        ca: Option<PathBuf>,
        /// Between two fetches.
        refresh: Duration,
    },
}

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwtAlgorithm {
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
    /// ECDSA P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

/// A token that a route's requests must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteJwt {
    /// A key of [`super::Config::jwt`].
    pub provider: Name,
    /// A request without one is refused.
    pub required: bool,
    /// Claim (dots lead into objects) and value, sorted: the claim is the value, has it among its items, or among its words.
    pub claims: Vec<(String, String)>,
}

/// A service that is asked whether a request may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorize {
    /// A key of [`super::Config::services`].
    pub service: Name,
    /// In front of the request's; without a slash at its end.
    pub path: String,
    /// For the answer.
    pub timeout: Duration,
    /// Without an answer the request passes.
    pub fail_open: bool,
    /// Sent along; lower case.
    pub headers: Vec<String>,
    /// Of the answer, to the endpoint; lower case.
    pub forward: Vec<String>,
}

/// What a listener's requests may do where no policy speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultPolicy {
    /// Everything.
    #[default]
    Allow,
    /// Nothing.
    Deny,
}

/// TLS and tokens of the admin API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminAccess {
    /// None: plain HTTP.
    pub tls: Option<Arc<ServerTls>>,
    /// A file whose content lets read.
    pub read_token: Option<PathBuf>,
    /// A file whose content lets do everything.
    pub control_token: Option<PathBuf>,
}
