//! The keys of an issuer, as it publishes them (a JWK set, RFC 7517).
//!
//! A set may hold keys for other purposes, of kinds that towpath does not take, or with parts that nobody here knows: those are left
//! out, and counted. One key that cannot be used must not cost the others. A set without any that can be used is refused.

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind, Validation,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use serde_json::Value;

/// No set is larger; what is, is something else.
pub(super) const LARGEST: usize = 1 << 20;
/// So many keys are tried for one token: each costs a signature's time, which whoever sends tokens must not choose freely.
const MOST_TRIED: usize = 16;
/// Bytes of an RSA key: 2048 bits. Shorter ones are broken by whoever has the means.
const SHORTEST_RSA: usize = 256;

/// The keys of an issuer that can be used.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    left_out: usize,
    text: Box<[u8]>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Key {
    /// Its `kid`.
    id: Option<Box<str>>,
    algorithm: Algorithm,
    pub(super) key: DecodingKey,
    /// The signature alone; claims are judged apart.
    pub(super) validation: Validation,
}

impl KeySet {
    /// Reads a set.
    ///
    /// # Errors
    /// It is none, or none of its keys can be used.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let set: Value = serde_json::from_slice(text).map_err(|error| format!("no JSON: {error}"))?;
        let written = set.get("keys").and_then(Value::as_array);
        let written = written.ok_or("no JWK set: the array `keys` is missing")?;
        let keys: Vec<_> = written.iter().filter_map(Key::of).collect();
        if keys.is_empty() {
            let all = written.len();
            return Err(format!(
                "none of its {all} keys can be used: no RSA key of 2048 bits or more, P-256 or Ed25519 among them"
            ));
        }
        let left_out = written.len() - keys.len();
        Ok(Self { keys, left_out, text: text.into() })
    }

    /// Whether there are keys yet.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many can be used, and how many cannot.
    pub fn count(&self) -> (usize, usize) {
        (self.keys.len(), self.left_out)
    }

    /// Whether it was read from the same text.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.text == other.text
    }

    /// The keys that may have signed a token: those that its `kid` names or that have no name, all when it names none.
    pub(super) fn candidates<'s>(
        &'s self,
        id: Option<&'s str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &'s Key> {
        let fits = move |key: &&Key| match (id, &key.id) {
            (Some(id), Some(of)) => **of == *id,
            _ => true,
        };
        self.keys.iter().filter(move |key| key.algorithm == algorithm).filter(fits).take(MOST_TRIED)
    }
}

impl Key {
    /// None where it cannot be used.
    fn of(written: &Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(written.clone()).ok()?;
        if !is_for_signatures(&jwk) {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        let (algorithm, name, key) = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256, rsa(&key)?),
            AlgorithmParameters::EllipticCurve(of) if of.curve == EllipticCurve::P256 => {
                (Algorithm::ES256, KeyAlgorithm::ES256, of_length(key, 65)?)
            }
            AlgorithmParameters::OctetKeyPair(of) if of.curve == EllipticCurve::Ed25519 => {
                (Algorithm::EdDSA, KeyAlgorithm::EdDSA, of_length(key, 32)?)
            }
            _ => return None,
        };
        let as_named = jwk.common.key_algorithm.is_none_or(|of| of == name);
        let id = jwk.common.key_id.map(Box::from);
        as_named.then(|| Self { id, algorithm, key, validation: signature_only(algorithm) })
    }
}

fn is_for_signatures(jwk: &Jwk) -> bool {
    let of = &jwk.common;
    let purpose = matches!(of.public_key_use, None | Some(PublicKeyUse::Signature));
    purpose && of.key_operations.as_ref().is_none_or(|may| may.contains(&KeyOperations::Verify))
}

/// Without the zeros that some issuers put in front of the modulus.
fn rsa(key: &DecodingKey) -> Option<DecodingKey> {
    let DecodingKeyKind::RsaModulusExponent { n, e } = key.kind() else { return None };
    let zeros = n.iter().take_while(|byte| **byte == 0).count();
    let n = &n[zeros..];
    (n.len() >= SHORTEST_RSA).then(|| DecodingKey::from_rsa_raw_components(n, e))
}

fn of_length(key: DecodingKey, length: usize) -> Option<DecodingKey> {
    let is_so = key.try_get_as_bytes().is_ok_and(|bytes| bytes.len() == length);
    is_so.then_some(key)
}

fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
    validation
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::testing::Signer;

    fn parsed(keys: &Value) -> Result<(usize, usize), String> {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).map(|set| set.count())
    }

    #[test]
    fn keys_of_other_kinds_and_for_other_purposes_are_left_out() {
        let key = |with: Value| {
            let mut key = Signer::es256("k").jwk();
            key.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
            key
        };
        let good = key(json!({}));
        for (other, why) in [
            (key(json!({ "use": "enc" })), "for encryption"),
            (key(json!({ "key_ops": ["sign"] })), "not to verify with"),
            (key(json!({ "alg": "ES384" })), "for another algorithm"),
            (key(json!({ "alg": "HS256" })), "for a kind that it is not"),
            (key(json!({ "crv": "P-384" })), "another curve"),
            (key(json!({ "x": "AAAA" })), "half a point"),
            (key(json!({ "kty": "oct", "k": "c2VjcmV0" })), "a secret"),
            (key(json!({ "kty": "AKP" })), "of the future"),
            (json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" }), "too short"),
            (json!({ "kty": "OKP", "crv": "Ed25519", "x": "AQAB" }), "too short as well"),
            (json!(7), "nothing at all"),
        ] {
            assert_eq!(parsed(&json!([good, other])), Ok((1, 1)), "{why}");
            assert!(
                parsed(&json!([other])).is_err_and(|error| error.contains("none of its 1 keys")),
                "{why}"
            );
        }
        for fine in [json!({ "use": "sig", "alg": "ES256" }), json!({ "key_ops": ["verify"], "x5t": "?" })] {
            assert_eq!(parsed(&json!([key(fine.clone())])), Ok((1, 0)), "{fine}");
        }
    }

    #[test]
    fn what_is_no_set_says_so() {
        for (text, expected) in [("", "no JSON"), ("[]", "the array `keys`"), (r#"{"keys":{}}"#, "the array")]
        {
            let error = KeySet::parse(text.as_bytes()).err().unwrap();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_token_without_kid_may_be_of_any_key_of_its_kind_but_not_of_very_many() {
        let jwk = |id: Option<usize>| {
            let mut key = Signer::es256("x").jwk();
            key["kid"] = id.map_or(Value::Null, |id| id.to_string().into());
            key
        };
        let keys: Vec<Value> = (0..40).map(|id| jwk(Some(id))).chain([jwk(None)]).collect();
        let set = KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
        let count = |id, algorithm| set.candidates(id, algorithm).count();
        assert_eq!(count(None, Algorithm::ES256), MOST_TRIED);
        assert_eq!(count(Some("39"), Algorithm::ES256), 2, "its own, and one that says nothing");
        assert_eq!(count(Some("40"), Algorithm::ES256), 1);
        assert_eq!(count(Some("39"), Algorithm::EdDSA), 0);
    }
}
