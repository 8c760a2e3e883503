//! One token (a JSON Web Token, RFC 7519): whether it is what it says it is, and says it now.
//!
//! # What is taken
//! Signatures of the configured algorithms, by a key of the configured issuer that is of the algorithm's kind. What the token says
//! of its own key (`jwk`, `jku`, `x5u`, `x5c`) is not looked at. `exp` must be there. A header that marks anything as critical is
//! refused: nothing that can be marked so is understood here (RFC 7515 4.1.11).
//!
//! # In which order
//! The signature first: whoever cannot sign learns nothing of what the claims would have to be.

use jsonwebtoken::{Algorithm, errors::ErrorKind};
use serde_json::Value;

use super::key_set::KeySet;
use crate::config::{JwtAlgorithm, JwtProvider};

/// No token is longer: headers are bounded anyway, and each byte is hashed and decoded.
pub(super) const LONGEST: usize = 16 << 10;

/// What a token says that was verified.
#[derive(Debug, PartialEq)]
pub(super) struct Verified {
    /// An object.
    pub(super) claims: Value,
    /// It is valid before this second (Unix time), leeway included.
    pub(super) until: i64,
}

/// Why a token is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is no token that can be judged.
    Malformed,
    /// The issuer has no such key.
    UnknownKey,
    /// It was not signed by the issuer, or not in a way that is taken.
    Signature,
    /// It is no longer valid.
    Expired,
    /// It is not valid yet.
    NotYet,
    /// Another has issued it.
    Issuer,
    /// It is for others.
    Audience,
    /// The issuer's keys have not been had yet.
    NoKeys,
}

impl Refused {
    /// As metrics and logs name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::NoKeys => "no_keys",
        }
    }
}

/// Verifies `token` at `now`, in seconds of Unix time.
pub(super) fn verify(
    token: &str,
    keys: &KeySet,
    provider: &JwtProvider,
    now: i64,
) -> Result<Verified, Refused> {
    if token.len() > LONGEST {
        return Err(Refused::Malformed);
    }
    let claims = signed(token, keys, provider)?;
    judge(&claims, provider, now).map(|until| Verified { claims, until })
}

/// What stands in the token, if it was signed by a key of the issuer.
fn signed(token: &str, keys: &KeySet, provider: &JwtProvider) -> Result<Value, Refused> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| Refused::Malformed)?;
    if header.crit.is_some() || header.enc.is_some() || header.zip.is_some() {
        return Err(Refused::Malformed);
    }
    if !provider.algorithms.iter().any(|taken| algorithm(*taken) == header.alg) {
        return Err(Refused::Signature);
    }
    if keys.is_empty() {
        return Err(Refused::NoKeys);
    }
    let mut refused = Refused::UnknownKey;
    for key in keys.candidates(header.kid.as_deref(), header.alg) {
        match jsonwebtoken::decode::<Value>(token, &key.key, &key.validation) {
            Ok(token) => return Ok(token.claims),
            Err(error) => match error.kind() {
                ErrorKind::Base64(_) | ErrorKind::Json(_) | ErrorKind::Utf8(_) => {
                    return Err(Refused::Malformed);
                }
                _ => refused = Refused::Signature,
            },
        }
    }
    Err(refused)
}

fn algorithm(of: JwtAlgorithm) -> Algorithm {
    match of {
        JwtAlgorithm::Rs256 => Algorithm::RS256,
        JwtAlgorithm::Es256 => Algorithm::ES256,
        JwtAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}

/// Until when claims that were signed are valid, if they are.
fn judge(claims: &Value, provider: &JwtProvider, now: i64) -> Result<i64, Refused> {
    if !claims.is_object() {
        return Err(Refused::Malformed);
    }
    if claims.get("iss").and_then(Value::as_str) != Some(&provider.issuer) {
        return Err(Refused::Issuer);
    }
    if !provider.audience.is_empty() && !claims.get("aud").is_some_and(|aud| is_for(aud, &provider.audience))
    {
        return Err(Refused::Audience);
    }
    let leeway = i64::try_from(provider.leeway.as_secs()).unwrap_or(i64::MAX);
    if let Some(begin) = claims.get("nbf") {
        let begin = seconds(begin).ok_or(Refused::Malformed)?;
        if begin > now.saturating_add(leeway) {
            return Err(Refused::NotYet);
        }
    }
    let end = claims.get("exp").and_then(seconds).ok_or(Refused::Malformed)?;
    let until = end.saturating_add(leeway);
    if now < until { Ok(until) } else { Err(Refused::Expired) }
}

fn is_for(aud: &Value, wanted: &[String]) -> bool {
    let is_wanted = |one: &Value| one.as_str().is_some_and(|one| wanted.iter().any(|wanted| wanted == one));
    match aud {
        Value::Array(all) => all.iter().any(is_wanted),
        one => is_wanted(one),
    }
}

/// A date (RFC 7519 2): seconds of Unix time, perhaps with a fraction, which is left out.
fn seconds(date: &Value) -> Option<i64> {
    match date {
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(seconds), _) => Some(seconds),
            (None, Some(_)) => Some(i64::MAX),
            // As a cast does it: beyond the ends, the ends.
            (None, None) => number.as_f64().map(|seconds| seconds as i64),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests;
