//! A service's endpoints from a file.

use std::path::PathBuf;

use super::update::{Failure, FailureKind, Update};

/// Tells `on_update` that files are not read.
pub(super) async fn follow(path: PathBuf, mut on_update: impl FnMut(Update)) {
    let message = format!("{}: endpoint files are not read by this build", path.display());
    on_update(Update::Failed(Failure { kind: FailureKind::Other, message }));
    std::future::pending().await
}
