//! The access log: one JSON line per request, written by a thread of its own.
//!
//! A worker formats the line from what it borrows and hands it over; when the writer is behind, the line is dropped
//! and counted. A worker never waits. Rotation is left to the file's reader (`copytruncate`) or to a reload.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use super::{Record, access_line, series::Counter};
use crate::config::LogPath;

/// Lines that wait for the writer.
const QUEUE: usize = 8192;
/// What the writer lets gather after the first line: a worker wakes it once per batch, not once per line.
const GATHER: Duration = Duration::from_millis(5);
/// A batch is written when it has this many bytes.
const BATCH: usize = 64 * 1024;

/// An open access log. Dropping it writes what waits.
pub struct AccessLog {
    /// None only while it is dropped.
    queue: Option<SyncSender<Vec<u8>>>,
    writer: Option<thread::JoinHandle<()>>,
    dropped: Counter,
}

impl AccessLog {
    /// Opens the log and starts its writer. A file is made with mode 0640 and appended to.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread not started.
    pub fn open(path: &LogPath, metrics: &super::Metrics) -> io::Result<Self> {
        let output: Box<dyn Write + Send> = match path {
            LogPath::Stdout => Box::new(io::stdout()),
            LogPath::File(path) => {
                Box::new(OpenOptions::new().append(true).create(true).mode(0o640).open(path)?)
            }
        };
        Self::start(output, metrics.access_log_dropped.clone())
    }

    fn start(output: Box<dyn Write + Send>, dropped: Counter) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE);
        let writer = Writer { output, dropped: dropped.clone(), failing: false, torn: false };
        let writer = thread::Builder::new().name("access-log".into()).spawn(move || writer.run(&lines))?;
        Ok(Self { queue: Some(queue), writer: Some(writer), dropped })
    }

    /// Hands a request's line to the writer, or drops and counts it when too many wait.
    pub fn record(&self, record: &Record<'_>) {
        let line = access_line::format(record);
        if self.queue.as_ref().is_none_or(|queue| queue.try_send(line).is_err()) {
            self.dropped.inc();
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has nothing left to write.
            let _ = writer.join();
        }
    }
}

struct Writer {
    output: Box<dyn Write + Send>,
    dropped: Counter,
    /// The last batch could not be written, and the log says so.
    failing: bool,
    /// The output ends within a line.
    torn: bool,
}

impl Writer {
    /// Until the log is dropped and the queue empty.
    fn run(mut self, lines: &Receiver<Vec<u8>>) {
        let mut batch = Vec::with_capacity(2 * BATCH);
        while let Ok(first) = lines.recv() {
            thread::sleep(GATHER);
            batch.extend_from_slice(&first);
            let mut count = 1;
            // Without a pause while there is more: only an empty queue is worth waiting for.
            while let Ok(line) = lines.try_recv() {
                batch.extend_from_slice(&line);
                count += 1;
                if batch.len() >= BATCH {
                    self.write(&batch, std::mem::take(&mut count));
                    batch.clear();
                }
            }
            self.write(&batch, count);
            batch.clear();
        }
    }

    fn write(&mut self, batch: &[u8], lines: u64) {
        if lines == 0 {
            return;
        }
        match self.try_write(batch) {
            Ok(()) if self.failing => tracing::info!("the access log can be written again"),
            Ok(()) => {}
            Err(error) => {
                self.dropped.add(lines);
                if !self.failing {
                    tracing::error!(%error, "cannot write the access log; records are dropped until it works");
                }
                self.failing = true;
                return;
            }
        }
        self.failing = false;
    }

    fn try_write(&mut self, mut rest: &[u8]) -> io::Result<()> {
        if self.torn {
            self.output.write_all(b"\n")?;
            self.torn = false;
        }
        while !rest.is_empty() {
            match self.output.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.torn = rest[written - 1] != b'\n';
                    rest = &rest[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::PermissionsExt,
        sync::{Arc, Mutex, mpsc},
        time::SystemTime,
    };

    use super::*;
    use crate::{
        net::Address,
        telemetry::{Metrics, Phases},
    };

    fn record(log: &AccessLog, attempts: u32) {
        let peer = Address::Tcp(([127, 0, 0, 1], 5000).into());
        log.record(&Record {
            time: SystemTime::UNIX_EPOCH,
            listener: "outgoing",
            peer: &peer,
            caller: "unknown",
            policy: None,
            method: "GET",
            host: b"reviews",
            path: b"/",
            protocol: "HTTP/2",
            route: Some("r"),
            service: Some("s"),
            endpoint: None,
            status: 200,
            reason: None,
            cause: None,
            fault: None,
            attempts,
            duration: Duration::from_millis(1),
            bytes_in: 0,
            bytes_out: 0,
            request_id: b"id",
            grpc_status: None,
            trace: None,
            is_grpc: false,
            phases: Phases::default(),
            notes: &[],
        });
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
        let metrics = Metrics::new(1);
        for start in [0, 3000] {
            let log = AccessLog::open(&LogPath::File(path.clone()), &metrics).unwrap();
            (start..start + 3000).for_each(|n| record(&log, n));
        }
        assert!(attempts(&fs::read_to_string(&path).unwrap()).into_iter().eq(0..6000));
        assert_eq!(metrics.access_log_dropped.get(), 0);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0, "wider than 0640");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = LogPath::File(directory.path().join("no/such/directory"));
        assert!(AccessLog::open(&path, &Metrics::new(1)).is_err());
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
    fn a_full_queue_drops_and_counts_and_does_not_block() {
        let (release, held) = mpsc::channel();
        let written = Arc::new(Mutex::new(vec![]));
        let metrics = Metrics::new(1);
        let output = Box::new(Held(held, written.clone()));
        let log = AccessLog::start(output, metrics.access_log_dropped.clone()).unwrap();
        (0..20_000).for_each(|n| record(&log, n));
        let dropped = metrics.access_log_dropped.get();
        assert!(dropped >= 20_000 - QUEUE as u64 - 1_000, "{dropped}");
        drop(release);
        drop(log);
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert_eq!(attempts(&text).len() as u64 + metrics.access_log_dropped.get(), 20_000);
    }

    /// Takes what the next entry says, or fails where it is none.
    struct Flaky(Vec<Option<usize>>, Arc<Mutex<Vec<u8>>>);

    impl Write for Flaky {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let takes = if self.0.is_empty() { Some(usize::MAX) } else { self.0.remove(0) };
            let taken = takes.ok_or(io::ErrorKind::StorageFull)?.min(bytes.len());
            self.1.lock().unwrap().extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn after_a_failed_write_the_next_batch_is_tried_on_a_line_of_its_own() {
        let written = Arc::new(Mutex::new(vec![]));
        let dropped = Metrics::new(1).access_log_dropped.clone();
        let output = Box::new(Flaky(vec![None, Some(2), None, None], written.clone()));
        let mut writer = Writer { output, dropped: dropped.clone(), failing: false, torn: false };
        for (batch, failing) in [("aaaa\n", true), ("bbbb\n", true), ("cccc\n", true), ("dddd\n", false)] {
            writer.write(batch.as_bytes(), 1);
            assert_eq!(writer.failing, failing, "{batch}");
        }
        assert_eq!(*written.lock().unwrap(), b"bb\ndddd\n");
        assert_eq!(dropped.get(), 3);
    }
}
