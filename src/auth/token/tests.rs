//! Every way in which a token can be bad, and the few in which it is good.

use std::time::Duration;

use jsonwebtoken::Header;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    auth::testing::{Signer, set},
    config::Jwks,
};

const NOW: i64 = 1_800_000_000;

fn provider() -> JwtProvider {
    JwtProvider {
        issuer: "https://id.example".to_owned(),
        jwks: Jwks::File("keys.json".into()),
        audience: vec!["orders".to_owned(), "stock".to_owned()],
        leeway: Duration::from_secs(60),
        algorithms: vec![JwtAlgorithm::Rs256, JwtAlgorithm::Es256, JwtAlgorithm::EdDsa],
        header: "authorization".to_owned(),
        forward: Vec::new(),
    }
}

fn claims() -> Value {
    json!({ "iss": "https://id.example", "aud": "orders", "sub": "ann", "exp": NOW + 300 })
}

/// The claims with these in place of theirs; null takes one away.
fn with(other: Value) -> Value {
    let mut all = claims();
    for (name, value) in other.as_object().unwrap() {
        match value {
            Value::Null => drop(all.as_object_mut().unwrap().remove(name)),
            value => all[name] = value.clone(),
        }
    }
    all
}

fn keys(signers: &[&Signer]) -> KeySet {
    KeySet::parse(set(signers).as_bytes()).unwrap()
}

fn result(token: &str, keys: &KeySet) -> Result<Value, Refused> {
    verify(token, keys, &provider(), NOW).map(|verified| verified.claims)
}

#[test]
fn each_kind_of_signature_is_verified_by_its_key() {
    let all = [Signer::rs256("r"), Signer::es256("e"), Signer::eddsa("d")];
    let set = keys(&[&all[0], &all[1], &all[2]]);
    for signer in &all {
        assert_eq!(result(&signer.token(&claims()), &set), Ok(claims()), "{}", signer.id);
        let unnamed = Header { kid: None, ..signer.header() };
        assert_eq!(result(&signer.token_with(&unnamed, &claims()), &set), Ok(claims()), "{}", signer.id);
        let mut only = provider();
        only.algorithms.retain(|taken| algorithm(*taken) != signer.header().alg);
        let refused = verify(&signer.token(&claims()), &set, &only, NOW);
        assert_eq!(refused, Err(Refused::Signature), "{} is not taken", signer.id);
    }
}

#[test]
fn what_a_token_says_must_be_for_us_and_for_now() {
    let signer = Signer::es256("k");
    let set = keys(&[&signer]);
    for (other, expected) in [
        (json!({}), None),
        (json!({ "exp": NOW - 59 }), None),
        (json!({ "exp": NOW - 60 }), Some(Refused::Expired)),
        (json!({ "exp": (NOW - 60) as f64 + 0.9 }), Some(Refused::Expired)),
        (json!({ "exp": u64::MAX }), None),
        (json!({ "exp": 1e300 }), None),
        (json!({ "exp": -1 }), Some(Refused::Expired)),
        (json!({ "exp": null }), Some(Refused::Malformed)),
        (json!({ "exp": "1900000000" }), Some(Refused::Malformed)),
        (json!({ "nbf": NOW + 60 }), None),
        (json!({ "nbf": NOW + 61 }), Some(Refused::NotYet)),
        (json!({ "nbf": "now" }), Some(Refused::Malformed)),
        (json!({ "iat": NOW + 9999 }), None),
        (json!({ "iss": "https://id.example/" }), Some(Refused::Issuer)),
        (json!({ "iss": ["https://id.example"] }), Some(Refused::Issuer)),
        (json!({ "iss": null }), Some(Refused::Issuer)),
        (json!({ "aud": ["x", "stock"] }), None),
        (json!({ "aud": ["x"] }), Some(Refused::Audience)),
        (json!({ "aud": [] }), Some(Refused::Audience)),
        (json!({ "aud": null }), Some(Refused::Audience)),
        (json!({ "aud": "order" }), Some(Refused::Audience)),
    ] {
        let expected = expected.map_or_else(|| Ok(with(other.clone())), Err);
        assert_eq!(result(&signer.token(&with(other.clone())), &set), expected, "{other}");
    }
    let anybodys = JwtProvider { audience: Vec::new(), ..provider() };
    for aud in [json!({ "aud": null }), json!({ "aud": "elsewhere" })] {
        assert!(verify(&signer.token(&with(aud)), &set, &anybodys, NOW).is_ok());
    }
}

#[test]
fn a_token_that_its_issuer_has_not_signed_is_refused() {
    let [ours, other] = [Signer::es256("ours"), Signer::es256("other")];
    let set = keys(&[&ours]);
    let forged = other.token_with(&Header { kid: Some("ours".to_owned()), ..other.header() }, &claims());
    assert_eq!(result(&forged, &set), Err(Refused::Signature));
    let unnamed = other.token_with(&Header { kid: None, ..other.header() }, &claims());
    assert_eq!(result(&unnamed, &set), Err(Refused::Signature));
    assert_eq!(result(&other.token(&claims()), &set), Err(Refused::UnknownKey));
    let embedded = Header { jwk: serde_json::from_value(other.jwk()).ok(), ..other.header() };
    assert_eq!(result(&other.token_with(&embedded, &claims()), &set), Err(Refused::UnknownKey));
    let [token, later] = [claims(), with(json!({ "exp": NOW + 9999 }))].map(|claims| ours.token(&claims));
    let [head, _, signature]: [&str; 3] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let spliced = format!("{head}.{}.{signature}", later.split('.').nth(1).unwrap());
    assert_eq!(result(&spliced, &set), Err(Refused::Signature));
    assert_eq!(result(&token, &KeySet::default()), Err(Refused::NoKeys));
}

#[test]
fn a_public_key_is_no_secret_and_none_is_no_signature() {
    let rsa = Signer::rs256("r");
    let set = keys(&[&rsa]);
    let public = rsa.jwk()["n"].as_str().unwrap().to_owned();
    for secret in [public.as_bytes(), set_text(&rsa).as_bytes()] {
        let header = Header { kid: Some("r".to_owned()), ..Header::new(Algorithm::HS256) };
        let key = jsonwebtoken::EncodingKey::from_secret(secret);
        let token = jsonwebtoken::encode(&header, &claims(), &key).unwrap();
        assert_eq!(result(&token, &set), Err(Refused::Signature));
    }
    // {"alg":"none"}, {"alg":"NONE","kid":"r"}, {"alg":"RS256","kid":"r"}
    for (head, expected) in [
        ("eyJhbGciOiJub25lIn0", Refused::Malformed),
        ("eyJhbGciOiJOT05FIiwia2lkIjoiciJ9", Refused::Malformed),
        ("eyJhbGciOiJSUzI1NiIsImtpZCI6InIifQ", Refused::Signature),
    ] {
        let body = rsa.token(&claims()).split('.').nth(1).unwrap().to_owned();
        assert_eq!(result(&format!("{head}.{body}."), &set), Err(expected), "{head}");
    }
    // An elliptic key under the name of an RSA one.
    let impostor = Signer::es256("r");
    assert_eq!(result(&impostor.token(&claims()), &set), Err(Refused::UnknownKey));
}

fn set_text(signer: &Signer) -> String {
    set(&[signer])
}

#[test]
fn what_is_marked_as_critical_is_not_understood() {
    let signer = Signer::eddsa("d");
    let set = keys(&[&signer]);
    for crit in [vec![], vec!["exp".to_owned()], vec!["b64".to_owned()]] {
        let header = Header { crit: Some(crit.clone()), ..signer.header() };
        let refused = result(&signer.token_with(&header, &claims()), &set);
        assert_eq!(refused, Err(Refused::Malformed), "{crit:?}");
    }
}

#[test]
fn what_is_no_token_is_malformed() {
    let signer = Signer::eddsa("d");
    let set = keys(&[&signer]);
    let good = signer.token(&claims());
    let [head, body, signature]: [&str; 3] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let long = signer.token(&with(json!({ "filler": "x".repeat(LONGEST) })));
    for bad in [
        "",
        ".",
        "..",
        "a.b.c",
        head,
        &format!("{head}.{body}"),
        &format!("{good}.more"),
        &format!("{head}.{body}.{signature}="),
        &format!("{head}.{body}.!"),
        &format!(" {good}"),
        &long,
        &signer.token(&json!("text")),
        &signer.token(&json!(["list"])),
    ] {
        assert_eq!(result(bad, &set), Err(Refused::Malformed), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_text_at_all_is_taken_for_a_token(text in ".{0,200}", parts in "[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,90}") {
        let set = KeySet::parse(include_bytes!("../../../config/examples/keys/company.json")).unwrap();
        prop_assert!(result(&text, &set).is_err());
        prop_assert!(result(&parts, &set).is_err());
    }

    #[test]
    fn a_token_is_valid_exactly_between_its_dates(begin in -200i64..200, end in -200i64..200) {
        let times = with(json!({ "nbf": NOW + begin, "exp": NOW + end }));
        let expected = begin <= 60 && end > -60;
        prop_assert_eq!(judge(&times, &provider(), NOW).is_ok(), expected);
    }
}
