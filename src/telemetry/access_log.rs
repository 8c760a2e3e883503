//! The access log: one line per request, written by a thread of its own.
//!
//! A worker formats the line into a buffer that only it fills, and goes on. The writer takes the buffers every few milliseconds;
//! while there is nothing it sleeps, and the first line wakes it. A worker never waits for an output: when its buffer is full, lines
//! are dropped and counted.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use super::{
    Metrics, Record, access_line,
    access_output::{Lost, Output},
    access_template,
    arena::present_worker,
    record_filter,
    series::{Counter, Level},
};
use crate::config::{self, LogFormat, RecordFilter};

/// Bytes that wait for the writer, over all workers: 8,000 requests.
const MOST_WAITING: usize = 4 << 20;
/// What one worker may leave in any case.
const LEAST: usize = 256 << 10;
/// What the writer lets gather: a worker wakes it at most once in this time.
const GATHER: Duration = Duration::from_millis(10);
/// Buffers that a burst has made larger than this are given back.
const KEEP: usize = 256 << 10;
/// After trouble, so long without any is said to be its end: what comes and goes does not fill towpath's own log.
const CALM: Duration = Duration::from_secs(5);
/// For the writer to write what waits, when the log is closed.
const LAST_LINES: Duration = Duration::from_secs(2);

/// An open access log. When it is dropped, its writer writes what waits. That is waited for when the node ends, unless it takes too
/// long; else, when another log is in its place, the writer ends by itself: whoever drops it has more to do.
pub struct AccessLog {
    format: LogFormat,
    only: RecordFilter,
    waiting: Arc<Waiting>,
    writer: Thread,
    /// Ends when the writer has.
    ended: Mutex<Receiver<()>>,
    dropped: Counter,
    draining: Level,
}

/// What workers and the writer share.
struct Waiting {
    buffers: Box<[Buffer]>,
    /// Of one buffer.
    most: usize,
    /// The writer must be woken.
    asleep: AtomicBool,
    /// Lines were dropped because the writer is too slow, and towpath's own log says so.
    behind: AtomicBool,
    /// Lines cannot be written, and towpath's own log says so.
    failing: AtomicBool,
    reopen: AtomicBool,
    closing: AtomicBool,
}

/// Lines of one worker. The writer holds the lock while it swaps two pointers, some nanoseconds every [`GATHER`]; nobody else wants it.
/// Aligned so that no two workers share a cache line.
#[repr(align(128))]
#[derive(Default)]
struct Buffer(Mutex<Vec<u8>>);

impl Buffer {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AccessLog {
    /// Opens the log and starts its writer.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread not started.
    pub fn open(wanted: &config::AccessLog, metrics: &Metrics) -> io::Result<Self> {
        Self::start(wanted, Output::open(&wanted.path)?, metrics)
    }

    fn start(wanted: &config::AccessLog, output: Output, metrics: &Metrics) -> io::Result<Self> {
        let workers = metrics.workers().max(1);
        let waiting = Arc::new(Waiting {
            buffers: (0..workers).map(|_| Buffer::default()).collect(),
            most: (MOST_WAITING / workers).max(LEAST),
            asleep: AtomicBool::new(false),
            behind: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            reopen: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        });
        let dropped = metrics.access_log_dropped.clone();
        let writer =
            Writer { output, waiting: waiting.clone(), dropped: dropped.clone(), seen: 0, trouble: None };
        let (alive, ended) = sync_channel(1);
        let thread = thread::Builder::new().name("access-log".into()).spawn(move || writer.run(&alive))?;
        let writer = thread.thread().clone();
        let (format, only) = (wanted.format.clone(), wanted.only.clone());
        let (ended, draining) = (Mutex::new(ended), metrics.draining.clone());
        Ok(Self { format, only, waiting, writer, ended, dropped, draining })
    }

    /// Leaves a request's line for the writer where the filter wants it, or drops and counts it when too much waits.
    pub fn record(&self, record: &Record<'_>) {
        if !record_filter::holds(&self.only, record) {
            return;
        }
        let mut lines = self.waiting.buffers[present_worker() % self.waiting.buffers.len()].lock();
        if lines.len() >= self.waiting.most {
            drop(lines);
            return self.drop_line();
        }
        match &self.format {
            LogFormat::Json => access_line::write(&mut lines, record),
            LogFormat::Template(template) => access_template::write(&mut lines, template, record),
        }
        lines.push(b'\n');
        drop(lines);
        // The lock orders this: whoever has not seen the line was asleep before it.
        if self.waiting.asleep.load(Relaxed) && self.waiting.asleep.swap(false, Relaxed) {
            self.writer.unpark();
        }
    }

    #[cold]
    fn drop_line(&self) {
        self.dropped.inc();
        if !self.waiting.behind.load(Relaxed) && !self.waiting.behind.swap(true, Relaxed) {
            tracing::warn!(
                "the access log takes records too slowly; those that it does not take are dropped"
            );
        }
    }

    /// Opens the file again, soon: it was renamed.
    pub fn reopen(&self) {
        self.waiting.reopen.store(true, Relaxed);
        self.writer.unpark();
    }

    /// Why records were dropped lately, if any were: `failing`, `behind`.
    pub fn trouble(&self) -> Option<&'static str> {
        match (self.waiting.failing.load(Relaxed), self.waiting.behind.load(Relaxed)) {
            (true, _) => Some("failing"),
            (_, true) => Some("behind"),
            _ => None,
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.waiting.closing.store(true, Relaxed);
        self.writer.unpark();
        if self.draining.get() == 0.0 {
            return;
        }
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(LAST_LINES) == Err(RecvTimeoutError::Timeout) {
            tracing::error!("the access log takes no records; the last ones are lost");
        }
    }
}

struct Writer {
    output: Output,
    waiting: Arc<Waiting>,
    dropped: Counter,
    /// Of what was dropped, at the last look.
    seen: u64,
    /// When records were lost last, until that has been over for a while.
    trouble: Option<Instant>,
}

impl Writer {
    /// Until the log is dropped and everything written.
    fn run(mut self, _alive: &SyncSender<()>) {
        let mut lines = Vec::new();
        loop {
            // What is there when the log is dropped is all that ever will be.
            let closing = self.waiting.closing.load(Relaxed);
            if self.waiting.reopen.swap(false, Relaxed) {
                self.output.reopen();
            }
            let any = self.round(&mut lines);
            if closing {
                return;
            }
            if !any {
                self.sleep();
            }
            if !self.waiting.closing.load(Relaxed) {
                thread::park_timeout(GATHER);
            }
        }
    }

    /// Until there is something to do.
    fn sleep(&self) {
        self.waiting.asleep.store(true, Relaxed);
        let nothing = self.waiting.buffers.iter().all(|buffer| buffer.lock().is_empty());
        let told = self.waiting.closing.load(Relaxed) || self.waiting.reopen.load(Relaxed);
        if nothing && !told {
            thread::park();
        }
        self.waiting.asleep.store(false, Relaxed);
    }

    /// Writes what all workers have left; whether that was anything. `lines` is empty, and is again.
    fn round(&mut self, lines: &mut Vec<u8>) -> bool {
        let mut any = false;
        for index in 0..self.waiting.buffers.len() {
            std::mem::swap(&mut *self.waiting.buffers[index].lock(), lines);
            if lines.is_empty() {
                continue;
            }
            any = true;
            self.write(lines);
            lines.clear();
            if lines.capacity() > KEEP {
                *lines = Vec::new();
            }
        }
        self.calm_down();
        any
    }

    fn write(&mut self, lines: &[u8]) {
        let Err(Lost { lines, error }) = self.output.write(lines) else { return };
        self.dropped.add(lines);
        if !self.waiting.failing.swap(true, Relaxed) {
            tracing::error!(%error, "cannot write the access log; records are dropped until it works");
        }
    }

    /// Notes whether records were lost, and says when that is over.
    fn calm_down(&mut self) {
        let dropped = self.dropped.get();
        if std::mem::replace(&mut self.seen, dropped) != dropped {
            self.trouble = Some(Instant::now());
        } else if self.trouble.is_some_and(|last| last.elapsed() >= CALM) {
            self.trouble = None;
            self.waiting.failing.store(false, Relaxed);
            self.waiting.behind.store(false, Relaxed);
            tracing::info!(dropped, "the access log takes all records again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, sync::mpsc};

    use super::*;
    use crate::{
        config::{LogPath, StatusRange},
        telemetry::{access_output::Torn, record::samples::sample},
    };

    fn wanted(path: LogPath) -> config::AccessLog {
        config::AccessLog { path, format: LogFormat::Json, only: RecordFilter::default() }
    }

    /// Of a node that ends.
    fn ending() -> Arc<Metrics> {
        let metrics = Metrics::new(1);
        metrics.draining.set(true);
        metrics
    }

    fn record(log: &AccessLog, attempts: u32) {
        log.record(&Record { attempts, ..sample() });
    }

    fn attempts(text: &str) -> Vec<u64> {
        let number =
            |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["attempts"].as_u64().unwrap();
        text.lines().map(number).collect()
    }

    #[test]
    fn records_are_appended_in_order_and_written_before_the_log_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let metrics = ending();
        for start in [0, 3000] {
            let log = AccessLog::open(&wanted(LogPath::File(path.clone())), &metrics).unwrap();
            (start..start + 3000).for_each(|n| record(&log, n));
        }
        assert!(attempts(&fs::read_to_string(&path).unwrap()).into_iter().eq(0..6000));
        assert_eq!(metrics.access_log_dropped.get(), 0);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = LogPath::File(directory.path().join("no/such/directory"));
        assert!(AccessLog::open(&wanted(path), &Metrics::new(1)).is_err());
    }

    #[test]
    fn a_request_that_the_filter_does_not_want_has_no_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let status = vec![StatusRange::read("5xx").unwrap()];
        let only = RecordFilter { status, ..RecordFilter::default() };
        let log =
            AccessLog::open(&config::AccessLog { only, ..wanted(LogPath::File(path.clone())) }, &ending());
        let log = log.unwrap();
        for (attempts, status) in [(1, 200), (2, 503), (3, 499)] {
            log.record(&Record { attempts, status, ..sample() });
        }
        drop(log);
        assert_eq!(attempts(&fs::read_to_string(&path).unwrap()), [2]);
    }

    /// Shows what was written; the first write waits until it may.
    struct Held(mpsc::Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Held {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_output_drops_and_counts_and_does_not_block() {
        let (release, held) = mpsc::channel();
        let written = Arc::new(Mutex::new(vec![]));
        let metrics = ending();
        let output = Output::Stream(Box::new(Held(held, written.clone())), Torn::default());
        let log = AccessLog::start(&wanted(LogPath::Stdout), output, &metrics).unwrap();
        (0..40_000).for_each(|n| record(&log, n));
        let dropped = metrics.access_log_dropped.get();
        let room = MOST_WAITING as u64 / 300;
        assert!(dropped >= 40_000 - 2 * room, "{dropped}");
        assert_eq!(log.trouble(), Some("behind"));
        drop(release);
        drop(log);
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert_eq!(attempts(&text).len() as u64 + metrics.access_log_dropped.get(), 40_000);
    }

    #[test]
    fn a_log_whose_output_is_stuck_for_ever_can_be_closed() {
        let (_held, waits) = mpsc::channel();
        let output = Output::Stream(Box::new(Held(waits, Arc::default())), Torn::default());
        let log = AccessLog::start(&wanted(LogPath::Stdout), output, &ending()).unwrap();
        record(&log, 1);
        let start = Instant::now();
        drop(log);
        assert!((LAST_LINES..5 * LAST_LINES).contains(&start.elapsed()));
    }

    #[test]
    fn a_stuck_log_that_is_replaced_is_not_waited_for_and_still_writes_what_it_had() {
        let (release, waits) = mpsc::channel();
        let written = Arc::new(Mutex::new(vec![]));
        let output = Output::Stream(Box::new(Held(waits, written.clone())), Torn::default());
        let log = AccessLog::start(&wanted(LogPath::Stdout), output, &Metrics::new(1)).unwrap();
        record(&log, 1);
        let start = Instant::now();
        drop(log);
        assert!(start.elapsed() < LAST_LINES);
        drop(release);
        while written.lock().unwrap().is_empty() {
            assert!(start.elapsed() < 20 * LAST_LINES, "nothing was written");
            thread::yield_now();
        }
    }
}
