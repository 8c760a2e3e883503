//! Bounded waits: a test never sleeps for a fixed time and never hangs.

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// The longest that one step of a test may take.
pub const BOUND: Duration = Duration::from_secs(10);

/// Waits for `future`, and fails the test when it takes longer than [`BOUND`].
#[track_caller]
pub fn within<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> {
    let what = what.to_owned();
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(BOUND, future).await {
            Ok(output) => output,
            Err(_) => panic!("{what}: not within {BOUND:?} (asked at {caller})"),
        }
    }
}

/// Asks `holds` again and again until it says yes, and fails the test when it has not within [`BOUND`].
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < BOUND, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Held by tests that need much of the machine, so that they run one after the other.
pub static HEAVY: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
