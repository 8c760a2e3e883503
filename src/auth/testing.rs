//! Issuers for tests: keys, and tokens signed with them.

use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use serde_json::Value;

/// A key that signs.
pub(super) struct Signer {
    pub(super) id: String,
    algorithm: Algorithm,
    key: EncodingKey,
}

impl Signer {
    pub(super) fn es256(id: &str) -> Self {
        Self::new(id, Algorithm::ES256, &rcgen::PKCS_ECDSA_P256_SHA256, EncodingKey::from_ec_der)
    }

    pub(super) fn eddsa(id: &str) -> Self {
        Self::new(id, Algorithm::EdDSA, &rcgen::PKCS_ED25519, |der| {
            // As jsonwebtoken has it: PKCS#8 without the public key.
            let v1 = [b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20", &der[16..48]];
            EncodingKey::from_ed_der(&v1.concat())
        })
    }

    pub(super) fn rs256(id: &str) -> Self {
        Self::new(id, Algorithm::RS256, &rcgen::PKCS_RSA_SHA256, |der| {
            // PKCS#1, which PKCS#8 wraps.
            EncodingKey::from_rsa_der(&der[26..])
        })
    }

    fn new(
        id: &str,
        algorithm: Algorithm,
        kind: &'static rcgen::SignatureAlgorithm,
        key: impl Fn(&[u8]) -> EncodingKey,
    ) -> Self {
        let pair = rcgen::KeyPair::generate_for(kind).unwrap();
        Self { id: id.to_owned(), algorithm, key: key(&pair.serialize_der()) }
    }

    /// Its public part.
    pub(super) fn jwk(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.id.clone());
        serde_json::to_value(jwk).unwrap()
    }

    pub(super) fn header(&self) -> Header {
        Header { kid: Some(self.id.clone()), ..Header::new(self.algorithm) }
    }

    /// A token that says `claims`.
    pub(super) fn token(&self, claims: &Value) -> String {
        self.token_with(&self.header(), claims)
    }

    pub(super) fn token_with(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.key).unwrap()
    }
}

/// The set of these keys.
pub(super) fn set(signers: &[&Signer]) -> String {
    let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
    serde_json::json!({ "keys": keys }).to_string()
}
