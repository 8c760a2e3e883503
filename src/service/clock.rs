//! A clock in milliseconds that all workers share, for what is kept in one atomic number.

use std::{
    sync::LazyLock,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds up to `moment` since some moment in this process's life; never 0.
pub(super) fn millis_at(moment: Instant) -> u64 {
    moment.saturating_duration_since(*START).as_millis() as u64 + 1
}

/// The same for now.
pub fn millis() -> u64 {
    millis_at(Instant::now())
}

/// The same in less room; wraps after 49 days.
pub(super) fn now() -> u32 {
    millis() as u32
}

/// Milliseconds since 1970, for what people are shown.
pub fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
