//! What issuers of tokens, and services that are asked whether requests may pass, count with.

use std::sync::Arc;

use super::{
    family::{ByLabel, Family},
    series::Level,
};

/// An issuer of tokens.
pub struct TokenSeries {
    /// Seconds since its keys were last had.
    pub age: Level,
    provider: Box<str>,
    tokens: Arc<Family>,
    updates: Arc<Family>,
    by_result: ByLabel<12>,
}

impl TokenSeries {
    pub(super) fn new(provider: &str, tokens: Arc<Family>, updates: Arc<Family>, age: Level) -> Self {
        Self { age, provider: provider.into(), tokens, updates, by_result: ByLabel::new() }
    }

    /// One more request to a route with tokens; `result` is of a small fixed set.
    pub fn token(&self, result: &'static str) {
        self.by_result.inc(result, || self.tokens.counter(&[&self.provider, result]));
    }

    /// One more reading of its keys. Takes a lock: for the control thread.
    pub fn update(&self, result: &str) {
        self.updates.counter(&[&self.provider, result]).inc();
    }
}

/// A route whose requests another service is asked about.
pub struct AuthorizationSeries {
    route: Box<str>,
    answers: Arc<Family>,
    by_result: ByLabel<4>,
}

impl AuthorizationSeries {
    pub(super) fn new(route: &str, answers: Arc<Family>) -> Self {
        Self { route: route.into(), answers, by_result: ByLabel::new() }
    }

    /// One more question that came to this, of a small fixed set.
    pub fn answer(&self, result: &'static str) {
        self.by_result.inc(result, || self.answers.counter(&[&self.route, result]));
    }
}
