//! Issuers of tokens and services that are asked whether requests may pass, as the admin API shows them.

use serde::{Deserialize, Serialize};

use super::words;
use crate::{
    auth::Provider,
    config::{Authorize, Jwks, RouteJwt},
};

/// How current the keys of an issuer of tokens are.
#[derive(Debug, Serialize, Deserialize)]
pub struct IssuerState {
    /// In `[jwt]`.
    pub name: String,
    /// The file or URL.
    pub source: String,
    /// That can be used.
    pub keys: usize,
    /// That cannot: of other kinds, or for other purposes.
    pub left_out: usize,
    /// Since they were last had.
    pub age_seconds: u64,
    /// Why they could not be had the last time.
    pub problem: Option<String>,
}

impl IssuerState {
    pub(super) fn of(provider: &Provider) -> Self {
        let state = provider.state();
        let source = match &provider.config.jwks {
            Jwks::File(file) => file.display().to_string(),
            Jwks::Url { url, .. } => url.clone(),
        };
        let (keys, left_out) = state.keys;
        let name = provider.name.to_string();
        Self { name, source, keys, left_out, age_seconds: state.age, problem: state.problem }
    }
}

pub(super) fn token_in_words(jwt: &RouteJwt) -> String {
    let claims: Vec<String> = jwt.claims.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    let need = if jwt.required { "required" } else { "not required" };
    let claims = if claims.is_empty() { String::new() } else { format!("; {}", claims.join(", ")) };
    format!("of {}, {need}{claims}", jwt.provider)
}

pub(super) fn authorize_in_words(authorize: &Authorize) -> String {
    let path = if authorize.path.is_empty() { "/" } else { &authorize.path };
    let then = if authorize.fail_open { "let through" } else { "refused" };
    let within = words::duration(authorize.timeout);
    format!("by {} at {path} within {within}; without an answer {then}", authorize.service)
}
