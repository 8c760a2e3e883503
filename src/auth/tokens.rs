//! One worker's way to verified tokens: what was verified is remembered, because a signature costs as much as several requests.
//!
//! # What is remembered
//! Valid tokens only, whole, until they end or the issuer's keys change. A token is found by a keyed hash and then compared byte by
//! byte: nobody can make another token be taken for one that was verified. How many there are is bounded by their bytes, since their
//! claims take a multiple of those; those that are used stay.

use std::{
    cell::RefCell,
    collections::{HashMap, hash_map::RandomState},
    rc::Rc,
    sync::Arc,
};

use http::{HeaderName, HeaderValue};
use serde_json::Value;

use super::{
    claims,
    key_set::KeySet,
    provider::Provider,
    token::{self, Refused},
};
use crate::published::{Current, Reader};

/// Bytes of tokens in one half of what is remembered of an issuer. Some 300 tokens of the usual size; with their claims about 1 MiB.
const HALF: usize = 256 << 10;

/// What a valid token says.
#[derive(Debug)]
pub struct Holder {
    /// An object.
    pub claims: Rc<Value>,
    /// Those of [`Provider::forward`] whose claims are there.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Before this second of Unix time.
    until: i64,
}

/// The tokens that a worker has verified.
#[derive(Default)]
pub struct Tokens(RefCell<Vec<OfProvider>>);

struct OfProvider {
    provider: Arc<Provider>,
    keys: Reader<KeySet>,
    /// The keys by which those that are remembered were verified.
    by: Current<KeySet>,
    remembered: Remembered,
}

impl Tokens {
    /// What `token` says, if it is valid at `now`, in seconds of Unix time.
    ///
    /// # Errors
    /// Why it is not.
    pub fn verify(&self, provider: &Arc<Provider>, token: &str, now: i64) -> Result<Rc<Holder>, Refused> {
        let mut all = self.0.borrow_mut();
        let at = all.iter().position(|of| Arc::ptr_eq(&of.provider, provider)).unwrap_or_else(|| {
            all.push(OfProvider::new(provider));
            all.len() - 1
        });
        all[at].verify(token, now)
    }

    /// Forgets issuers other than these.
    pub fn retain(&self, providers: &[Arc<Provider>]) {
        self.0.borrow_mut().retain(|of| providers.iter().any(|provider| Arc::ptr_eq(provider, &of.provider)));
    }
}

impl OfProvider {
    fn new(provider: &Arc<Provider>) -> Self {
        let keys = provider.reader();
        let by = keys.get();
        Self { provider: provider.clone(), keys, by, remembered: Remembered::default() }
    }

    fn verify(&mut self, token: &str, now: i64) -> Result<Rc<Holder>, Refused> {
        let keys = self.keys.get();
        if !Arc::ptr_eq(&keys, &self.by) {
            self.remembered = Remembered::default();
            self.by = keys;
        }
        if let Some(holder) = self.remembered.get(token).filter(|holder| now < holder.until) {
            return Ok(holder);
        }
        let verified = token::verify(token, &self.by, &self.provider.config, now).inspect_err(|refused| {
            // A signature that does not fit may be by a key that is newer than those here, when the token names none.
            if matches!(refused, Refused::UnknownKey | Refused::Signature | Refused::NoKeys) {
                self.provider.wanted.ask();
            }
        })?;
        let headers = headers(&self.provider, &verified.claims)?;
        let holder = Rc::new(Holder { claims: Rc::new(verified.claims), headers, until: verified.until });
        self.remembered.put(token, holder.clone());
        Ok(holder)
    }
}

/// The headers that an endpoint gets. A claim that cannot be a header's value makes the token one that cannot be used.
fn headers(provider: &Provider, claims: &Value) -> Result<Vec<(HeaderName, HeaderValue)>, Refused> {
    let mut headers = Vec::new();
    for (name, claim) in &provider.forward {
        let Some(text) = claims::find(claims, claim).and_then(claims::in_words) else { continue };
        let value =
            HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).map_err(|_| Refused::Malformed)?;
        headers.push((name.clone(), value));
    }
    Ok(headers)
}

/// The last tokens: two halves, of which the older goes when the younger is full. What is found in the older moves to the younger.
#[derive(Default)]
struct Remembered {
    young: HashMap<Box<str>, Rc<Holder>, RandomState>,
    old: HashMap<Box<str>, Rc<Holder>, RandomState>,
    /// Of the tokens in `young`.
    bytes: usize,
}

impl Remembered {
    fn get(&mut self, token: &str) -> Option<Rc<Holder>> {
        if let Some(holder) = self.young.get(token) {
            return Some(holder.clone());
        }
        let holder = self.old.remove(token)?;
        self.put(token, holder.clone());
        Some(holder)
    }

    fn put(&mut self, token: &str, holder: Rc<Holder>) {
        if self.bytes + token.len() > HALF {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        if self.young.insert(token.into(), holder).is_none() {
            self.bytes += token.len();
        }
    }
}

#[cfg(test)]
mod tests;
