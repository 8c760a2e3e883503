//! A clock in milliseconds that all workers share, for what is kept in one atomic number.

use std::{sync::LazyLock, time::Instant};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds up to `moment` since some moment in this process's life; never 0.
pub(super) fn millis_at(moment: Instant) -> u64 {
    moment.saturating_duration_since(*START).as_millis() as u64 + 1
}

/// The same for now.
pub(super) fn millis() -> u64 {
    millis_at(Instant::now())
}

/// The same in less room; wraps after 49 days.
pub(super) fn now() -> u32 {
    millis() as u32
}
