//! The daemon: from its configuration file until it has drained.

use super::{
    args::Run,
    outcome::{Failure, Outcome},
};
use crate::{
    app::{Node, Source},
    telemetry::log,
};

pub(super) fn run(args: Run) -> Outcome {
    let log = log::init(args.log_format.into(), &args.log_level)
        .map_err(|error| Failure::usage(format!("--log-level: {error}")))?;
    // All that can go wrong here is the configuration, or an address in it that is taken.
    let node = Node::start_with_log(Source::File(args.config), Some(log)).map_err(Failure::usage)?;
    node.handle_signals().map_err(|error| Failure::running(format!("cannot handle signals: {error}")))?;
    tracing::info!(admin = %node.admin(), "towpath {} runs", env!("CARGO_PKG_VERSION"));
    node.join();
    tracing::info!("towpath has drained");
    Ok(String::new())
}
