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
    time::{Duration, SystemTime},
};

use super::{access_line, series::Counter};
use crate::{config::LogPath, net::Address};

/// Lines that wait for the writer.
const QUEUE: usize = 8192;
/// What the writer lets gather after the first line: a worker wakes it once per batch, not once per line.
const GATHER: Duration = Duration::from_millis(5);
/// A batch is written when it has this many bytes.
const BATCH: usize = 64 * 1024;

/// One request, as its line shows it. Times are the caller's view; bytes are of bodies.
pub struct Record<'a> {
    /// When its head had come.
    pub time: SystemTime,
    /// Name.
    pub listener: &'a str,
    /// The caller's end of the connection.
    pub peer: &'a Address,
    /// As sent.
    pub method: &'a str,
    /// As sent.
    pub host: &'a [u8],
    /// As sent, query included.
    pub path: &'a [u8],
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'a str,
    /// None when no route matched.
    pub route: Option<&'a str>,
    /// None when no service was chosen.
    pub service: Option<&'a str>,
    /// None when no endpoint was chosen.
    pub endpoint: Option<&'a Address>,
    /// What the caller got.
    pub status: u16,
    /// `towpath-error`, when towpath itself answered.
    pub reason: Option<&'a str>,
    /// How many there were.
    pub attempts: u32,
    /// From the head to the end of the response.
    pub duration: Duration,
    /// Of the request.
    pub bytes_in: u64,
    /// Of the response.
    pub bytes_out: u64,
    /// `x-request-id`.
    pub request_id: &'a [u8],
    /// `grpc-status`, where the response has one.
    pub grpc_status: Option<u32>,
}

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
    pub fn record(&self, record: Record<'_>) {
        let line = access_line::format(&record);
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
        while let Ok(first) = lines.recv() {
            thread::sleep(GATHER);
            let (mut batch, mut count) = (first, 1);
            while batch.len() < BATCH
                && let Ok(line) = lines.try_recv()
            {
                batch.extend_from_slice(&line);
                count += 1;
            }
            self.write(&batch, count);
        }
    }

    fn write(&mut self, batch: &[u8], lines: u64) {
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
