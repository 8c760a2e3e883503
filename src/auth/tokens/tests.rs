//! What is remembered, and what ends it.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use serde_json::json;

use super::*;
use crate::{
    auth::testing::{Signer, set},
    config::{Jwks, JwtAlgorithm, JwtProvider},
    telemetry::Metrics,
    tls::Keeper,
};

const NOW: i64 = 1_800_000_000;

/// An issuer whose keys are in a file.
struct Issuer {
    provider: Arc<Provider>,
    file: PathBuf,
    _directory: tempfile::TempDir,
}

impl Issuer {
    fn new(signers: &[&Signer]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("keys.json");
        fs::write(&file, set(signers)).unwrap();
        Self { provider: Arc::new(provider(&file).unwrap()), file, _directory: directory }
    }

    fn replace(&self, text: &str) {
        let new = self.file.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, &self.file).unwrap();
        self.provider.look();
    }
}

fn provider(file: &std::path::Path) -> Result<Provider, String> {
    let config = JwtProvider {
        issuer: "us".to_owned(),
        jwks: Jwks::File(file.to_owned()),
        audience: Vec::new(),
        leeway: std::time::Duration::from_secs(5),
        algorithms: vec![JwtAlgorithm::Es256, JwtAlgorithm::EdDsa],
        header: "authorization".to_owned(),
        forward: vec![("x-groups".to_owned(), "groups".to_owned()), ("x-user".to_owned(), "sub".to_owned())],
    };
    let series = Metrics::new(1).token_series("company");
    Provider::new(&"company".into(), &Arc::new(config), &Keeper::default(), series, None)
}

fn claims(other: Value) -> Value {
    let mut claims = json!({ "iss": "us", "exp": NOW + 10 });
    claims.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
    claims
}

#[test]
fn what_is_remembered_ends_with_the_token() {
    let signer = Signer::es256("k");
    let (issuer, tokens) = (Issuer::new(&[&signer]), Tokens::default());
    let token = signer.token(&claims(json!({ "sub": "ann" })));
    let first = tokens.verify(&issuer.provider, &token, NOW).unwrap();
    for (later, expected) in [(0, true), (14, true), (15, false), (99, false), (14, true)] {
        let again = tokens.verify(&issuer.provider, &token, NOW + later);
        assert_eq!(again.is_ok(), expected, "{later} s later");
        match again {
            Ok(again) => assert!(Rc::ptr_eq(&first, &again), "it was verified a second time"),
            Err(refused) => assert_eq!(refused, Refused::Expired),
        }
    }
}

#[test]
fn what_is_remembered_ends_with_the_keys() {
    let [old, new] = [Signer::es256("old"), Signer::eddsa("new")];
    let (issuer, tokens) = (Issuer::new(&[&old]), Tokens::default());
    let [of_old, of_new] = [&old, &new].map(|signer| signer.token(&claims(json!({}))));
    let result = |token: &str| tokens.verify(&issuer.provider, token, NOW).map(|_| ());
    assert_eq!((result(&of_old), result(&of_new)), (Ok(()), Err(Refused::UnknownKey)));
    issuer.replace(&set(&[&old, &new]));
    assert_eq!((result(&of_old), result(&of_new)), (Ok(()), Ok(())));
    issuer.replace(&set(&[&new]));
    assert_eq!((result(&of_old), result(&of_new)), (Err(Refused::UnknownKey), Ok(())));
    for half in ["", "{\"keys\": [", "{\"keys\": []}"] {
        issuer.replace(half);
        assert_eq!((result(&of_new), issuer.provider.state().problem.is_some()), (Ok(()), true), "{half}");
    }
    issuer.replace(&set(&[&new]));
    assert_eq!((result(&of_new), issuer.provider.state().problem), (Ok(()), None));
}

#[test]
fn a_token_is_found_by_all_of_it() {
    let signer = Signer::es256("k");
    let (issuer, tokens) = (Issuer::new(&[&signer]), Tokens::default());
    let token = signer.token(&claims(json!({})));
    assert!(tokens.verify(&issuer.provider, &token, NOW).is_ok());
    for at in [0, token.len() / 2, token.len() - 3] {
        let mut other = token.clone().into_bytes();
        other[at] = if other[at] == b'A' { b'B' } else { b'A' };
        let other = String::from_utf8(other).unwrap();
        assert!(tokens.verify(&issuer.provider, &other, NOW).is_err(), "{at}");
    }
    assert!(tokens.verify(&issuer.provider, &token[..token.len() - 1], NOW).is_err());
}

#[test]
fn what_is_remembered_is_bounded_and_what_is_used_stays() {
    let holder = Rc::new(Holder { claims: Rc::new(json!({})), headers: Vec::new(), until: NOW });
    let mut remembered = Remembered::default();
    let token = |number: usize| format!("{number:01000}");
    remembered.put("used", holder.clone());
    for number in 0..10_000 {
        remembered.put(&token(number), holder.clone());
        assert!(remembered.get("used").is_some(), "after {number} others");
        let kept = remembered.young.len() + remembered.old.len();
        assert!(kept * 1000 <= 2 * HALF + 1000, "{kept} after {number}");
    }
    assert!(remembered.get(&token(9_999)).is_some() && remembered.get(&token(9_000)).is_none());
}

#[test]
fn claims_become_headers_and_a_token_whose_claims_cannot_is_refused() {
    let signer = Signer::eddsa("k");
    let (issuer, tokens) = (Issuer::new(&[&signer]), Tokens::default());
    let headers = |other| {
        let token = signer.token(&claims(other));
        let holder = tokens.verify(&issuer.provider, &token, NOW)?;
        Ok(holder.headers.iter().map(|(name, value)| (name.to_string(), value.clone())).collect::<Vec<_>>())
    };
    let user = |value: &'static str| ("x-user".to_owned(), HeaderValue::from_static(value));
    assert_eq!(headers(json!({ "sub": "ann" })), Ok(vec![user("ann")]));
    let groups = ("x-groups".to_owned(), HeaderValue::from_static("a,b"));
    assert_eq!(headers(json!({ "sub": 7, "groups": ["a", "b"] })), Ok(vec![groups, user("7")]));
    assert_eq!(headers(json!({})), Ok(vec![]));
    for bad in ["a\r\nx-admin: 1", "a\nb", "\0"] {
        assert_eq!(headers(json!({ "sub": bad })), Err(Refused::Malformed), "{bad:?}");
    }
}

#[test]
fn a_file_that_cannot_be_trusted_stops_a_start() {
    let signer = Signer::eddsa("k");
    let issuer = Issuer::new(&[&signer]);
    let with_mode = |mode| {
        fs::set_permissions(&issuer.file, fs::Permissions::from_mode(mode)).unwrap();
        provider(&issuer.file).err()
    };
    assert_eq!(with_mode(0o644), None);
    assert!(with_mode(0o666).is_some_and(|error| error.starts_with("jwks: everybody may write ")));
    let missing = provider(&issuer.file.with_extension("none")).err();
    assert!(missing.is_some_and(|error| error.starts_with("jwks: cannot read ")));
}

#[test]
fn issuers_that_are_gone_are_forgotten() {
    let signer = Signer::eddsa("k");
    let [one, other] = [Issuer::new(&[&signer]), Issuer::new(&[&signer])];
    let tokens = Tokens::default();
    for issuer in [&one, &other] {
        tokens.verify(&issuer.provider, &signer.token(&claims(json!({}))), NOW).unwrap();
    }
    tokens.retain(std::slice::from_ref(&other.provider));
    assert_eq!(tokens.0.borrow().len(), 1);
    assert_eq!(Arc::strong_count(&one.provider), 1);
}
