//! The access log, as meant: where it goes, what a line looks like, which requests have one.

use std::{fmt, path::PathBuf, time::Duration};

use super::{LogTemplate, Name};

/// The access log: one line per request.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    /// Where lines go.
    pub path: LogPath,
    /// What a line looks like.
    pub format: LogFormat,
    /// Which requests have one.
    pub only: RecordFilter,
}

/// Where access log lines go.
#[derive(Clone, Debug, PartialEq)]
pub enum LogPath {
    /// The daemon's standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
    /// A Unix socket that somebody listens on.
    Unix(PathBuf),
}

/// In the words of the file.
impl fmt::Display for LogPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What a line looks like.
#[derive(Clone, Debug, PartialEq)]
pub enum LogFormat {
    /// One JSON object.
    Json,
    /// A text with fields in it.
    Template(LogTemplate),
}

/// Requests that all of these hold for. What is empty holds for every request.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordFilter {
    /// The status is in any of these.
    pub status: Vec<StatusRange>,
    /// It took longer.
    pub slower_than: Option<Duration>,
    /// Its route's name is like any of these.
    pub routes: Vec<Name>,
    /// Its service's.
    pub services: Vec<Name>,
    /// Its caller's.
    pub callers: Vec<Name>,
    /// So many of a million; the same ones on every node that it crosses.
    pub sample_ppm: u32,
}

/// Statuses from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    /// The least.
    pub first: u16,
    /// The greatest.
    pub last: u16,
}

/// All of them, in millionths.
pub const EVERY: u32 = 1_000_000;

impl Default for RecordFilter {
    /// Every request.
    fn default() -> Self {
        let [routes, services, callers] = [const { Vec::new() }; 3];
        Self { status: Vec::new(), slower_than: None, routes, services, callers, sample_ppm: EVERY }
    }
}

impl StatusRange {
    /// What is allowed, in words.
    pub const ALLOWED: &str = "a status such as \"404\", or a class such as \"5xx\"";

    /// Reads `503` or `5xx`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is no status");
        let bytes: [u8; 3] = text.as_bytes().try_into().map_err(|_| wrong())?;
        let class = match bytes[0] {
            digit @ b'1'..=b'5' => u16::from(digit - b'0') * 100,
            _ => return Err(wrong()),
        };
        if bytes[1..].eq_ignore_ascii_case(b"xx") {
            return Ok(Self { first: class, last: class + 99 });
        }
        let status = text.parse().map_err(|_| wrong())?;
        Ok(Self { first: status, last: status })
    }

    /// Whether `status` is one of these.
    pub fn has(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_or_a_class() {
        assert_eq!(StatusRange::read("404"), Ok(StatusRange { first: 404, last: 404 }));
        assert_eq!(StatusRange::read("5XX"), Ok(StatusRange { first: 500, last: 599 }));
        let class = StatusRange::read("5xx").unwrap();
        assert!(class.has(500) && class.has(599) && !class.has(499) && !class.has(600));
        for wrong in ["", "5x", "x5x", "50x", "600", "099", "5xxx", "+50", "5xé"] {
            assert!(StatusRange::read(wrong).is_err(), "{wrong}");
        }
    }
}
