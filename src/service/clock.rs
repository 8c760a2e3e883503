//! A clock in milliseconds that all workers share, for what is kept in one atomic number.

use std::{sync::LazyLock, time::Instant};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds up to `moment` since some moment in this process's life; wraps after 49 days.
pub(super) fn at(moment: Instant) -> u32 {
    moment.saturating_duration_since(*START).as_millis() as u32
}

/// The same for now.
pub(super) fn now() -> u32 {
    at(Instant::now())
}
