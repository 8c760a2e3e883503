//! What happens often and is to be said seldom.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Between two words about the same thing.
const PAUSE: Duration = Duration::from_secs(60);

/// One kind of event.
#[derive(Default)]
pub struct Occasional(Mutex<Since>);

#[derive(Default)]
struct Since {
    said: Option<Instant>,
    count: u64,
}

impl Occasional {
    /// It has happened. When it is to be said: how often since it was last said.
    pub fn note(&self, now: Instant) -> Option<u64> {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.count += 1;
        if since.said.is_some_and(|said| now.saturating_duration_since(said) < PAUSE) {
            return None;
        }
        since.said = Some(now);
        Some(std::mem::take(&mut since.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_at_once_and_then_once_a_minute_with_what_was_kept_quiet() {
        let (events, start) = (Occasional::default(), Instant::now());
        assert_eq!(events.note(start), Some(1));
        for second in 1..60 {
            assert_eq!(events.note(start + Duration::from_secs(second)), None);
        }
        assert_eq!(events.note(start + PAUSE), Some(60));
    }
}
