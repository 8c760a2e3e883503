//! Lines of towpath's own log that repeat themselves: the first are written, the rest are counted and told of in one line.
//!
//! A place in the code that logs may write [`SAME`] lines that are equal, and [`OF_PLACE`] that differ in their values, within
//! a [`WINDOW`]. What was asked for by level, `debug` and `trace`, is written as it comes. Nothing here knows what is a secret: that is up
//! to who logs.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    fmt::{Debug, Write},
    hash::{Hash, Hasher},
    mem,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    callsite::Identifier,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

/// Equal lines that are written. Enough to see that something is no single case.
const SAME: u32 = 5;
/// Lines of one place that are written, whatever their values: a node of dozens of services that all fail at once is seen whole.
const OF_PLACE: u32 = 50;
/// After it all is as if nothing had been written.
const WINDOW: Duration = Duration::from_secs(10);

/// What has been written lately. The lock is held for a look-up, by whoever logs.
#[derive(Default)]
pub(super) struct Repeats {
    state: Mutex<State>,
    suppressed: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Of the present window.
    since: Option<Instant>,
    /// By place and values; no more than [`OF_PLACE`] of each place.
    lines: HashMap<u64, u32>,
    places: HashMap<Identifier, Place>,
    /// Of windows that are over, not told of yet.
    due: Vec<Summary>,
}

struct Place {
    metadata: &'static Metadata<'static>,
    written: u32,
    suppressed: u64,
    /// The last line that was not written, without its values.
    message: String,
}

/// Lines that were not written.
#[derive(Debug, PartialEq, Eq)]
struct Summary {
    level: Level,
    place: String,
    message: String,
    times: u64,
}

/// A line.
struct Line {
    metadata: &'static Metadata<'static>,
    /// Of its values.
    hash: u64,
    message: String,
}

impl Repeats {
    /// Whether to write it.
    fn admits(&self, line: Line, now: Instant) -> bool {
        let mut state = self.lock();
        state.roll(now);
        let State { places, lines, .. } = &mut *state;
        let place = places.entry(line.metadata.callsite()).or_insert_with(|| Place {
            metadata: line.metadata,
            written: 0,
            suppressed: 0,
            message: String::new(),
        });
        if place.written < OF_PLACE {
            let same = lines.entry(line.hash).or_default();
            if *same < SAME {
                *same += 1;
                place.written += 1;
                return true;
            }
        }
        place.suppressed += 1;
        place.message = line.message;
        self.suppressed.fetch_add(1, Relaxed);
        false
    }

    /// Lines that were not written, since the start.
    pub(super) fn suppressed(&self) -> u64 {
        self.suppressed.load(Relaxed)
    }

    /// Writes what was held back in windows that are over. To be called about once a second.
    pub(super) fn tell(&self) {
        for Summary { level, place, message, times } in self.due(Instant::now()) {
            if level == Level::ERROR {
                tracing::error!(target: TARGET, place, "{message} ... repeated {times} times");
            } else if level == Level::WARN {
                tracing::warn!(target: TARGET, place, "{message} ... repeated {times} times");
            } else {
                tracing::info!(target: TARGET, place, "{message} ... repeated {times} times");
            }
        }
    }

    fn due(&self, now: Instant) -> Vec<Summary> {
        let mut state = self.lock();
        state.roll(now);
        mem::take(&mut state.due)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of the lines that tell of others; they are not held back themselves.
const TARGET: &str = "towpath::repeats";

impl State {
    fn roll(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) < WINDOW {
            return;
        }
        self.since = Some(now);
        self.lines.clear();
        let over = self.places.drain().map(|(_, place)| place).filter(|place| place.suppressed > 0);
        self.due.extend(over.map(|Place { metadata, suppressed, message, .. }| Summary {
            level: *metadata.level(),
            place: format!("{}:{}", metadata.target(), metadata.line().unwrap_or_default()),
            message,
            times: suppressed,
        }));
    }
}

/// The layer that holds lines back.
pub(super) struct HoldBack(pub(super) &'static Repeats);

impl<S: Subscriber> Layer<S> for HoldBack {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || metadata.target() == TARGET {
            return true;
        }
        let mut reading = Reading::default();
        metadata.callsite().hash(&mut reading.hash);
        event.record(&mut reading);
        let line = Line { metadata, hash: reading.hash.finish(), message: reading.message };
        self.0.admits(line, Instant::now())
    }
}

/// The values of a line.
#[derive(Default)]
struct Reading {
    hash: DefaultHasher,
    message: String,
}

impl Visit for Reading {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        (field.name(), &text).hash(&mut self.hash);
        if field.name() == "message" {
            // A line of a caller's making must not fill the memory.
            let end = text.char_indices().nth(200).map_or(text.len(), |(end, _)| end);
            let _ = write!(self.message, "{}", &text[..end]);
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::subscriber::with_default;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Counts what is written.
    struct Written(&'static Mutex<Vec<String>>);

    impl<S: Subscriber> Layer<S> for Written {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut reading = Reading::default();
            event.record(&mut reading);
            self.0.lock().unwrap().push(reading.message);
        }
    }

    /// The lines that come through when `log` logs, with what held the others back.
    fn written(log: impl FnOnce()) -> (Vec<String>, &'static Repeats) {
        let repeats: &'static Repeats = Box::leak(Box::default());
        let lines: &'static Mutex<Vec<String>> = Box::leak(Box::default());
        let subscriber = tracing_subscriber::registry().with(HoldBack(repeats)).with(Written(lines));
        with_default(subscriber, log);
        (lines.lock().unwrap().clone(), repeats)
    }

    #[test]
    fn equal_lines_are_written_a_few_times_and_then_told_of_in_one() {
        let (lines, repeats) = written(|| (0..105).for_each(|_| tracing::warn!(service = "a", "it fails")));
        assert_eq!(lines.len(), SAME as usize);
        assert_eq!(repeats.suppressed(), 100);
        assert_eq!(repeats.due(Instant::now()), [], "not before the window is over");
        let due = repeats.due(Instant::now() + WINDOW);
        assert_eq!((due.len(), due[0].times, &*due[0].message), (1, 100, "it fails"));
        assert!(due[0].level == Level::WARN && due[0].place.starts_with("towpath::telemetry::repeats"));
        assert_eq!(repeats.due(Instant::now() + WINDOW), [], "told of once");
    }

    #[test]
    fn lines_of_one_place_that_differ_have_a_larger_share_and_others_places_theirs() {
        let (lines, _) = written(|| {
            (0..500).for_each(|n| tracing::info!(n, "different"));
            tracing::info!("elsewhere");
        });
        assert_eq!(lines.len(), OF_PLACE as usize + 1);
        assert_eq!(lines.last().unwrap(), "elsewhere");
    }

    #[test]
    fn what_was_asked_for_by_level_is_written_as_it_comes() {
        let (lines, repeats) = written(|| (0..100).for_each(|_| tracing::debug!("detail")));
        assert_eq!((lines.len(), repeats.suppressed()), (100, 0));
    }

    #[test]
    fn after_the_window_lines_are_written_again() {
        let (repeats, start) = (Repeats::default(), Instant::now());
        let (_, other) = written(|| tracing::warn!("to have a place"));
        let metadata = other.lock().places.values().next().unwrap().metadata;
        let line = || Line { metadata, hash: 1, message: "m".to_owned() };
        let admitted = |now| (0..20).filter(|_| repeats.admits(line(), now)).count();
        assert_eq!(admitted(start), SAME as usize);
        assert_eq!(admitted(start + WINDOW / 2), 0);
        assert_eq!(admitted(start + WINDOW), SAME as usize);
        assert_eq!(repeats.due(start + WINDOW).len(), 1);
    }
}
