//! Follows a name for ever: look up, report, wait, again.
//!
//! Reports what each answer says. Keeping the last good answer when one fails is up to the listener.

use std::{future, net::IpAddr, time::Duration};

use super::{
    Resolver, Schedule,
    endpoint::resolved,
    resolver::{Answer, Unanswered},
    update::Update,
};

/// Resolves `host` for ever, with one update per answer; every endpoint gets `port`.
///
/// An IP address in place of a name is reported once. Dropping the future stops it.
pub async fn follow(
    resolver: Resolver,
    host: String,
    port: u16,
    schedule: Schedule,
    mut on_update: impl FnMut(Update),
) {
    if let Some(address) = literal(&host) {
        on_update(Update::Endpoints(resolved(&[address], port)));
        return future::pending().await;
    }
    let mut follower = Follower { host, port, schedule, state: State::Unknown };
    loop {
        let (update, delay) = match resolver.lookup(&follower.host).await {
            Ok(answer) => follower.answered(&answer),
            Err(unanswered) => follower.failed(unanswered),
        };
        on_update(update);
        tokio::time::sleep(delay).await;
    }
}

/// `host` as an IP address, in brackets or without.
fn literal(host: &str) -> Option<IpAddr> {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    inner.parse().ok()
}

/// One followed name.
struct Follower {
    host: String,
    port: u16,
    schedule: Schedule,
    state: State,
}

/// How the last round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Good,
    /// So many failures in a row.
    Failing(u32),
}

impl Follower {
    fn answered(&mut self, answer: &Answer) -> (Update, Duration) {
        let endpoints = resolved(&answer.addresses, self.port);
        if let State::Failing(failures) = self.state {
            tracing::info!(host = self.host, failures, "name resolves again");
        }
        tracing::debug!(host = self.host, ?endpoints, ttl = ?answer.ttl, "name resolved");
        self.state = State::Good;
        (Update::Endpoints(endpoints), self.schedule.after_answer(answer.ttl))
    }

    fn failed(&mut self, unanswered: Unanswered) -> (Update, Duration) {
        let failures = match self.state {
            State::Failing(before) => before.saturating_add(1),
            State::Unknown | State::Good => 1,
        };
        let message = &unanswered.failure.message;
        match failures {
            1 => tracing::warn!("cannot resolve {message}"),
            _ => tracing::debug!(failures, "still cannot resolve {message}"),
        }
        self.state = State::Failing(failures);
        let delay = self.schedule.after_failure(failures, unanswered.negative_ttl);
        (Update::Failed(unanswered.failure), delay)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing::Level;

    use super::*;
    use crate::discovery::{Failure, FailureKind};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What towpath logs at info and above while `work` runs.
    fn logged(work: impl FnOnce()) -> Vec<String> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::INFO)
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, work);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    fn follower() -> Follower {
        Follower {
            host: "reviews.test".into(),
            port: 80,
            schedule: Schedule { random: fastrand::Rng::with_seed(1), ..Schedule::default() },
            state: State::Unknown,
        }
    }

    fn answer() -> Answer {
        Answer { addresses: vec!["10.0.0.1".parse().unwrap()], ttl: Duration::from_secs(10) }
    }

    fn unanswered() -> Unanswered {
        let message = "reviews.test: no such name (NXDOMAIN)".into();
        let failure = Failure { kind: FailureKind::NoSuchName, message };
        Unanswered { failure, negative_ttl: None }
    }

    #[test]
    fn a_failing_name_is_logged_once_and_so_is_its_recovery() {
        let mut follower = follower();
        let lines = logged(|| {
            follower.answered(&answer());
            for _ in 0..3 {
                follower.failed(unanswered());
            }
            follower.answered(&answer());
            follower.answered(&answer());
        });
        assert_eq!(
            lines,
            [
                "WARN cannot resolve reviews.test: no such name (NXDOMAIN)",
                "INFO name resolves again host=\"reviews.test\" failures=3",
            ]
        );
    }

    #[test]
    fn retries_slow_down_and_start_anew_after_an_answer() {
        let mut follower = follower();
        let delays: Vec<_> = (0..4).map(|_| follower.failed(unanswered()).1).collect();
        assert!(delays.is_sorted() && delays[3] >= Duration::from_secs(6), "{delays:?}");
        follower.answered(&answer());
        let (_, delay) = follower.failed(unanswered());
        assert!(delay <= Duration::from_millis(1250), "{delay:?}");
    }

    #[test]
    fn an_ip_address_is_recognised_with_and_without_brackets() {
        assert_eq!(literal("[::1]"), literal("::1"));
        assert!(literal("10.0.0.1").is_some());
        assert!(literal("10.0.0.1.test").is_none());
    }
}
