//! towpath's own log: what it did and what went wrong, on standard error. Its level changes at run time.
//!
//! Requests are not its business: they stand in the access log. Lines that repeat others are held back by `repeats.rs`.

use std::{
    io,
    sync::{LazyLock, Mutex, MutexGuard, OnceLock, PoisonError},
};

use tracing_subscriber::{
    Layer, Registry,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

use super::repeats::{HoldBack, Repeats};

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
    filter: reload::Handle<Targets, Registry>,
    /// As given.
    level: Mutex<String>,
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

static SHARED: OnceLock<Shared> = OnceLock::new();
static REPEATS: LazyLock<Repeats> = LazyLock::new(Repeats::default);

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

/// Tells of lines that were not written because they repeated others. To be called about once a second.
pub fn tell_repeats() {
    REPEATS.tell();
}

/// Lines that were not written for that reason.
pub(super) fn suppressed() -> u64 {
    REPEATS.suppressed()
}

fn start(format: LogFormat, filter: Targets) -> Shared {
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false);
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text => lines.boxed(),
    };
    // A program that embeds towpath may have a subscriber already: its log is the one that counts.
    let _ = tracing_subscriber::registry().with(filter).with(HoldBack(&REPEATS)).with(lines).try_init();
    Shared { filter: handle, level: Mutex::default() }
}

/// Strict, where the library's own parser takes a misspelt level for a module's name.
fn parse(level: &str) -> Result<Targets, String> {
    let named = |name: &str| {
        let name = name.trim();
        let known = LEVELS.contains(&name).then(|| name.parse::<LevelFilter>().ok()).flatten();
        known.ok_or_else(|| format!("`{name}` is no log level; allowed are {}", LEVELS.join(", ")))
    };
    // h2 warns of single frames: a caller would write this log as fast as it can send.
    let quiet = Targets::new().with_target("h2", LevelFilter::ERROR);
    level.split(',').try_fold(quiet, |targets, directive| match directive.split_once('=') {
        Some((module, level)) => Ok(targets.with_target(module.trim(), named(level)?)),
        None => Ok(targets.with_default(named(directive)?)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starting_twice_changes_the_level_of_the_one_log() {
        let first = init(LogFormat::Json, "error").unwrap();
        let second = init(LogFormat::Text, "warn,towpath::proxy=debug").unwrap();
        assert_eq!(first.get(), "warn,towpath::proxy=debug");
        let proxy = || tracing::enabled!(target: "towpath::proxy::attempt", tracing::Level::DEBUG);
        assert!(proxy());
        assert!(!tracing::enabled!(target: "towpath::router", tracing::Level::INFO));
        second.set("info").unwrap();
        assert_eq!(first.get(), "info");
        assert!(!proxy());
        let error = first.set("inof").unwrap_err();
        assert!(error.contains("`inof`") && error.contains("debug"), "{error}");
        assert_eq!(first.get(), "info");
    }

    #[test]
    fn only_levels_by_their_names_are_taken() {
        for good in ["off", "trace", "info, a::b=off", "a=warn,error"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["", "verbose", "3", "a", "info,", "a=", "a=b=info"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
