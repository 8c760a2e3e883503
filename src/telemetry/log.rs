//! towpath's own log: what it did and what went wrong, on standard error. Its level changes at run time.
//!
//! Requests are not its business: they stand in the access log.

use std::{
    io,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use tracing_subscriber::{EnvFilter, Layer, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object.
    Json,
    /// For people.
    Text,
}

/// Reads and changes the level. Clones are the same control: a process has one log.
#[derive(Clone, Copy)]
pub struct LogControl(&'static Shared);

struct Shared {
    filter: reload::Handle<EnvFilter, Registry>,
    /// As given: the filter's own text is sorted and filled in.
    level: Mutex<String>,
}

static SHARED: OnceLock<Shared> = OnceLock::new();

/// Starts the log at `level`, which is as for [`LogControl::set`]. Where it was started before, only the level
/// changes.
///
/// # Errors
/// What is wrong with `level`.
pub fn init(format: LogFormat, level: &str) -> Result<LogControl, String> {
    let filter = parse(level)?;
    let control = LogControl(SHARED.get_or_init(|| start(format, filter)));
    control.set(level)?;
    Ok(control)
}

fn start(format: LogFormat, filter: EnvFilter) -> Shared {
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false);
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text => lines.boxed(),
    };
    // A program that embeds towpath may have a subscriber already: its log is the one that counts.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    Shared { filter: handle, level: Mutex::default() }
}

fn parse(level: &str) -> Result<EnvFilter, String> {
    let builder = EnvFilter::builder();
    builder.parse(level).map_err(|error| {
        format!(
            "log level `{level}`: {error}; allowed are off, error, warn, info, debug, trace, and target=level, \
             separated by commas"
        )
    })
}

impl LogControl {
    /// The level in force, as it was given.
    pub fn get(&self) -> String {
        self.level().clone()
    }

    /// Changes it: `off`, `error`, `warn`, `info`, `debug`, `trace`, or those for single modules, such as
    /// `info,towpath::proxy=debug`.
    ///
    /// # Errors
    /// What is wrong with `level`; the one in force stays.
    pub fn set(&self, level: &str) -> Result<(), String> {
        let filter = parse(level)?;
        let mut now = self.level();
        // It fails only when another subscriber is in place, and then there is nothing to change.
        let _ = self.0.filter.reload(filter);
        level.clone_into(&mut now);
        Ok(())
    }

    fn level(&self) -> MutexGuard<'_, String> {
        self.0.level.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
