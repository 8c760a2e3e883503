//! The trickle: one caller that asks for `reviews` and `ratings` in turn, through the proxy.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{Method, StatusCode};
use tokio::time::{MissedTickBehavior, interval};

use crate::cli::http_client::Connection;

/// One request after this.
const PACE: Duration = Duration::from_millis(10);

/// Answers by who gave them, since the last look.
#[derive(Clone, Default)]
pub(super) struct Counts(Arc<Mutex<BTreeMap<String, u64>>>);

/// Under this name stand requests that got no answer, or not 200.
pub(super) const FAILED: &str = "failed";

impl Counts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, who: &str) {
        *self.lock().entry(who.to_owned()).or_default() += 1;
    }

    /// Takes what was counted since the last call.
    pub(super) fn take(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.lock())
    }
}

/// Asks for ever, over one connection that is made anew when it fails.
pub(super) async fn trickle(proxy: SocketAddr, counts: Counts) {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connection = None;
    for host in ["reviews", "ratings"].into_iter().cycle() {
        pace.tick().await;
        match ask(&mut connection, proxy, host).await {
            Some(who) => counts.add(&who),
            None => {
                connection = None;
                counts.add(FAILED);
            }
        }
    }
}

/// Who answered; none when nobody did.
async fn ask(connection: &mut Option<Connection>, proxy: SocketAddr, host: &str) -> Option<String> {
    let open = match connection {
        Some(open) => open,
        None => connection.insert(Connection::open(&proxy.to_string()).await.ok()?),
    };
    let answer = open.ask(Method::GET, host, "/").await.ok()?;
    (answer.status == StatusCode::OK).then(|| answer.body.trim_end().to_owned())
}
