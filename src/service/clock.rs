//! A clock in milliseconds that all workers share, for what is kept in one atomic number.

use std::{sync::LazyLock, time::Instant};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since some moment in this process's life; wraps after 49 days.
pub(super) fn now() -> u32 {
    START.elapsed().as_millis() as u32
}
