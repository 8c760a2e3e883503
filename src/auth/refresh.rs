//! When the keys of a URL are fetched: at once, then each `refresh`, sooner after a failure, and when a token comes that keys are
//! missing for.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::Provider;
use crate::config::Jwks;

/// Between two fetches because of tokens. Anybody can make up tokens; the issuer must not be flooded for them.
const EARLY: Duration = Duration::from_secs(30);
/// After the first failure; doubled after each further one.
const RETRY: Duration = Duration::from_secs(1);
/// The longest wait after a failure.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// How long the server's name may take to be resolved.
const RESOLVE: Duration = Duration::from_secs(5);

/// Where a name leads.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// In the order in which they are tried.
    pub addresses: Vec<SocketAddr>,
    /// Why there are none.
    pub problem: Option<String>,
}

/// Keeps the keys of a provider current until it is dropped. `resolved` follows the name of its [`Provider::key_server`].
pub async fn keep_current(provider: Arc<Provider>, mut resolved: watch::Receiver<Resolved>) {
    let Jwks::Url { refresh, .. } = provider.config.jwks else { return };
    let mut failures = 0;
    let mut early_from = Instant::now();
    loop {
        let fetched = fetch(&provider, &mut resolved).await;
        failures = if fetched { 0 } else { failures + 1 };
        provider.wanted.settle();
        let next = Instant::now() + pause(refresh, failures, fastrand::f64());
        tokio::select! {
            () = sleep_until(next) => {}
            () = provider.wanted.asked() => {
                sleep_until(early_from.min(next)).await;
                early_from = Instant::now() + EARLY;
            }
        }
    }
}

/// Whether there was an answer with keys.
async fn fetch(provider: &Provider, resolved: &mut watch::Receiver<Resolved>) -> bool {
    let Some(server) = &provider.server else { return false };
    let told =
        timeout(RESOLVE, resolved.wait_for(|told| !told.addresses.is_empty() || told.problem.is_some()));
    // Whether anything was told shows in what is known.
    drop(told.await);
    let Resolved { addresses, problem } = resolved.borrow().clone();
    let fetched = match problem.filter(|_| addresses.is_empty()) {
        Some(problem) => Err(problem),
        None => server.fetch(&addresses).await,
    };
    let well = fetched.is_ok();
    provider.heard(fetched);
    well
}

/// The wait before the next fetch after so many failures in a row, spread by a tenth either way so that nodes do not ask together.
/// `random` is from 0 to 1.
fn pause(refresh: Duration, failures: u32, random: f64) -> Duration {
    let pause = match failures {
        0 => refresh,
        failures => RETRY.saturating_mul(1 << (failures - 1).min(10)).min(LONGEST_RETRY).min(refresh),
    };
    pause.mul_f64(0.9 + random / 5.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_shorten_the_wait_and_then_lengthen_it() {
        let waits = |refresh: u64| {
            (0..12)
                .map(|failures| pause(Duration::from_secs(refresh), failures, 0.5).as_secs())
                .collect::<Vec<_>>()
        };
        assert_eq!(waits(300), [300, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]);
        assert_eq!(waits(5), [5, 1, 2, 4, 5, 5, 5, 5, 5, 5, 5, 5], "never longer than without failures");
        let spread = [0.0, 1.0].map(|random| pause(Duration::from_secs(100), 0, random).as_secs());
        assert_eq!(spread, [90, 110]);
    }
}
