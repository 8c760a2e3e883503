//! Files: endpoints that a file lists, and the watch on files that change.
//!
//! `file.rs` follows one, `lines.rs` reads it. `watch.rs` tells when a file may have changed: `notice.rs` follows the way to it, link by
//! link, with what `inotify.rs` hears of the kernel.

pub(super) mod file;
pub(super) mod inotify;
pub(super) mod lines;
mod notice;
pub(super) mod watch;

use super::{Endpoint, update};
