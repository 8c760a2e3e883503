//! Where lines of the access log go: standard output, a file, a Unix socket.
//!
//! # Files
//! Opened again on request (SIGUSR1), so that whoever rotates them renames and asks. One that was removed is noticed within a second,
//! and made again.
//!
//! # Sockets
//! Datagrams, one for each line, where the listener takes them, else a stream. Whoever listens may come, go and be slow: what cannot be
//! sent is lost, and the next lines are tried on a new connection.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::{
        fs::{FileExt, MetadataExt},
        net::{UnixDatagram, UnixStream},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
};

use crate::config::LogPath;

/// Between two looks whether the file is still there.
const LOOK: Duration = Duration::from_secs(1);
/// For a listener on a socket to take what it is sent.
const PATIENCE: Duration = Duration::from_secs(1);

/// An output.
pub(super) enum Output {
    File(LogFile),
    Socket(LogSocket),
    /// Standard output, and what tests put in its place.
    Stream(Box<dyn Write + Send>, Torn),
}

/// Lines that could not be written.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) lines: u64,
    pub(super) error: io::Error,
}

/// Whether what was written ends within a line.
#[derive(Default)]
pub(super) struct Torn(bool);

impl Output {
    /// Opens it. A file is made with mode 0640 and appended to; a socket is connected when there is something to send.
    pub(super) fn open(path: &LogPath) -> io::Result<Self> {
        Ok(match path {
            LogPath::Stdout => Self::Stream(Box::new(io::stdout()), Torn::default()),
            LogPath::File(path) => Self::File(LogFile::open(path)?),
            LogPath::Unix(path) => Self::Socket(LogSocket { path: path.clone(), link: None }),
        })
    }

    /// Writes whole lines.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Lost> {
        match self {
            Self::File(file) => file.write(lines),
            Self::Socket(socket) => socket.write(lines),
            Self::Stream(stream, torn) => torn.write(stream, lines),
        }
    }

    /// Opens a file again; a socket is connected anew.
    pub(super) fn reopen(&mut self) {
        match self {
            Self::File(file) => file.reopen(),
            Self::Socket(socket) => socket.link = None,
            Self::Stream(..) => {}
        }
    }
}

impl Torn {
    /// After a failed write the next lines begin on a line of their own.
    fn write(&mut self, to: &mut impl Write, lines: &[u8]) -> Result<(), Lost> {
        let mut rest = lines;
        let written = self.try_write(to, &mut rest);
        written.map_err(|error| Lost { lines: count(rest), error })
    }

    fn try_write(&mut self, to: &mut impl Write, rest: &mut &[u8]) -> io::Result<()> {
        if self.0 {
            to.write_all(b"\n")?;
            self.0 = false;
        }
        while !rest.is_empty() {
            match to.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.0 = rest[written - 1] != b'\n';
                    *rest = &rest[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        to.flush()
    }
}

fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

/// A file, by its name and as it is open.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    torn: Torn,
    looked: Instant,
    /// It was to be opened again, and could not be.
    late: bool,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        let (file, torn) = open_file(path)?;
        Ok(Self { path: path.to_owned(), file, torn, looked: Instant::now(), late: false })
    }

    fn write(&mut self, lines: &[u8]) -> Result<(), Lost> {
        self.look().map_err(|error| Lost { lines: count(lines), error })?;
        self.torn.write(&mut self.file, lines)
    }

    /// What is written to a file that nobody can find would be lost without being counted.
    fn look(&mut self) -> io::Result<()> {
        if self.looked.elapsed() < LOOK {
            return Ok(());
        }
        let gone = self.file.metadata().is_ok_and(|file| file.nlink() == 0);
        if gone {
            // Looked for again with the next lines, until it can be made.
            self.renew()?;
        } else if self.late {
            // Meanwhile the old file takes the lines.
            let _ = self.renew();
        }
        self.looked = Instant::now();
        Ok(())
    }

    fn renew(&mut self) -> io::Result<()> {
        (self.file, self.torn) = open_file(&self.path)?;
        self.late = false;
        tracing::info!(path = %self.path.display(), "the access log was opened again");
        Ok(())
    }

    fn reopen(&mut self) {
        if let Err(error) = self.renew() {
            let path = self.path.display();
            tracing::error!(%error, %path, "the access log cannot be opened again; records go to the file that is open until it can");
            self.late = true;
        }
    }
}

/// Never waits: that a FIFO has nobody who reads it is an error.
fn open_file(path: &Path) -> io::Result<(File, Torn)> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags | OFlags::NONBLOCK, Mode::from_raw_mode(0o640)) {
        Err(Errno::NXIO) => return Err(io::Error::other("nobody reads it")),
        opened => File::from(opened?),
    };
    // Whoever writes has a thread of its own, and waits.
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    let torn = ends_within_a_line(path, &file);
    Ok((file, Torn(torn)))
}

/// As after a crash, or on a disk that was full. What may not be read is taken to be whole.
fn ends_within_a_line(path: &Path, file: &File) -> bool {
    let Ok(about) = file.metadata() else { return false };
    let mut last = [0];
    about.is_file()
        && about.len() > 0
        && File::open(path).and_then(|file| file.read_exact_at(&mut last, about.len() - 1)).is_ok()
        && last != *b"\n"
}

/// A socket that somebody listens on, or will.
pub(super) struct LogSocket {
    path: PathBuf,
    link: Option<Link>,
}

enum Link {
    Datagram(UnixDatagram),
    Stream(UnixStream),
}

impl LogSocket {
    /// A listener that was started anew is found at the second try.
    fn write(&mut self, lines: &[u8]) -> Result<(), Lost> {
        let (mut rest, mut tries) = (lines, 0);
        let mut too_long: Option<Lost> = None;
        let lost = |too_long: &Option<Lost>| too_long.as_ref().map_or(0, |lost| lost.lines);
        loop {
            let sent = self.connected().and_then(|link| link.send(&mut rest));
            let Err(error) = sent else { return too_long.map_or(Ok(()), Err) };
            if error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error()) {
                // No try makes it fit; the next line may.
                rest = memchr::memchr(b'\n', rest).map_or(&[], |end| &rest[end + 1..]);
                too_long = Some(Lost { lines: lost(&too_long) + 1, error });
                continue;
            }
            tries += 1;
            // Whatever has taken half a line gets no other half.
            self.link = None;
            if tries == 2 || error.kind() == io::ErrorKind::WouldBlock {
                return Err(Lost { lines: lost(&too_long) + count(rest), error });
            }
        }
    }

    fn connected(&mut self) -> io::Result<&mut Link> {
        let link = match self.link.take() {
            Some(link) => link,
            None => Link::connect(&self.path)?,
        };
        Ok(self.link.insert(link))
    }
}

impl Link {
    fn connect(path: &Path) -> io::Result<Self> {
        let datagram = UnixDatagram::unbound()?;
        match datagram.connect(path) {
            Ok(()) => {
                datagram.set_write_timeout(Some(PATIENCE))?;
                Ok(Self::Datagram(datagram))
            }
            // It takes streams.
            Err(error) if error.raw_os_error() == Some(Errno::PROTOTYPE.raw_os_error()) => {
                let stream = UnixStream::connect(path)?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Self::Stream(stream))
            }
            Err(error) => Err(error),
        }
    }

    /// Takes whole lines that were sent away from `rest`.
    fn send(&mut self, rest: &mut &[u8]) -> io::Result<()> {
        match self {
            Self::Datagram(socket) => {
                while let Some(end) = memchr::memchr(b'\n', rest) {
                    socket.send(&rest[..=end])?;
                    *rest = &rest[end + 1..];
                }
                Ok(())
            }
            Self::Stream(stream) => {
                let mut sent = 0;
                while sent < rest.len() {
                    match stream.write(&rest[sent..]) {
                        Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                        Ok(written) => {
                            let end = memchr::memrchr(b'\n', &rest[sent..sent + written]);
                            sent += written;
                            if let Some(end) = end {
                                let whole = sent - written + end + 1;
                                *rest = &rest[whole..];
                                sent -= whole;
                            }
                        }
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Read,
        os::unix::{fs::PermissionsExt, net::UnixListener},
        sync::{Arc, Mutex},
    };

    use super::*;

    fn file(path: &Path) -> LogFile {
        LogFile { looked: Instant::now().checked_sub(2 * LOOK).unwrap(), ..LogFile::open(path).unwrap() }
    }

    #[test]
    fn a_file_that_was_renamed_is_written_until_it_is_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let [path, rotated] = ["log", "log.1"].map(|name| directory.path().join(name));
        let mut log = file(&path);
        log.write(b"a\n").unwrap();
        fs::rename(&path, &rotated).unwrap();
        log.write(b"b\n").unwrap();
        log.reopen();
        log.write(b"c\n").unwrap();
        assert_eq!(fs::read_to_string(&rotated).unwrap(), "a\nb\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "c\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0, "wider than 0640");
    }

    #[test]
    fn lines_for_a_file_in_a_directory_that_is_gone_are_counted_and_a_new_one_takes_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("towpath");
        fs::create_dir(&inner).unwrap();
        let mut log = file(&inner.join("log"));
        fs::remove_dir_all(&inner).unwrap();
        assert_eq!(log.write(b"a\nb\n").unwrap_err().lines, 2);
        assert_eq!(log.write(b"c\n").unwrap_err().lines, 1, "it is looked for with all lines");
        fs::create_dir(&inner).unwrap();
        log.write(b"d\n").unwrap();
        assert_eq!(fs::read_to_string(inner.join("log")).unwrap(), "d\n");
    }

    #[test]
    fn a_file_that_cannot_be_opened_again_is_written_on_and_tried_later() {
        let directory = tempfile::tempdir().unwrap();
        let [inner, moved] = ["towpath", "moved"].map(|name| directory.path().join(name));
        fs::create_dir(&inner).unwrap();
        let mut log = file(&inner.join("log"));
        fs::rename(&inner, &moved).unwrap();
        log.reopen();
        log.write(b"a\n").unwrap();
        assert_eq!(fs::read_to_string(moved.join("log")).unwrap(), "a\n");
        fs::create_dir(&inner).unwrap();
        log.looked = Instant::now().checked_sub(2 * LOOK).unwrap();
        log.write(b"b\n").unwrap();
        assert_eq!(fs::read_to_string(inner.join("log")).unwrap(), "b\n");
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
    fn after_a_failed_write_the_next_lines_begin_on_a_line_of_their_own() {
        let written = Arc::new(Mutex::new(vec![]));
        let flaky = Flaky(vec![None, Some(7), None, None], written.clone());
        let mut output = Output::Stream(Box::new(flaky), Torn::default());
        for (lines, lost) in [("aaaa\n", 1), ("bbbb\nbbbb\nbbbb\n", 2), ("cccc\n", 1), ("dddd\n", 0)] {
            let said = output.write(lines.as_bytes()).map_or_else(|lost| lost.lines, |()| 0);
            assert_eq!(said, lost, "{lines}");
        }
        assert_eq!(*written.lock().unwrap(), b"bbbb\nbb\ndddd\n");
    }

    fn socket(path: &Path) -> Output {
        Output::open(&LogPath::Unix(path.to_owned())).unwrap()
    }

    #[test]
    fn each_line_is_a_datagram_where_the_listener_takes_datagrams_also_one_that_comes_later() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.sock");
        let mut log = socket(&path);
        assert_eq!(log.write(b"a\nb\n").unwrap_err().lines, 2);
        for _ in 0..2 {
            let listener = UnixDatagram::bind(&path).unwrap();
            log.write(b"c\nd\n").unwrap();
            let mut buffer = [0; 100];
            let mut next = || listener.recv(&mut buffer).map(|length| buffer[..length].to_vec()).unwrap();
            assert_eq!([next(), next()], [b"c\n".to_vec(), b"d\n".to_vec()]);
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_line_that_is_too_long_for_a_datagram_is_lost_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.sock");
        let listener = UnixDatagram::bind(&path).unwrap();
        let lines = [&b"a\n"[..], &[b'x'; 4 << 20], b"\nb\n"].concat();
        let lost = socket(&path).write(&lines).unwrap_err();
        assert_eq!((lost.lines, lost.error.raw_os_error()), (1, Some(Errno::MSGSIZE.raw_os_error())));
        let mut buffer = [0; 100];
        let mut next = || listener.recv(&mut buffer).map(|length| buffer[..length].to_vec()).unwrap();
        assert_eq!([next(), next()], [b"a\n".to_vec(), b"b\n".to_vec()]);
    }

    #[test]
    fn a_fifo_that_nobody_reads_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let Err(refused) = LogFile::open(&path) else { panic!("it was opened") };
        assert_eq!(refused.to_string(), "nobody reads it");
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let mut reader = File::from(rustix::fs::open(&path, flags, Mode::empty()).unwrap());
        let mut log = file(&path);
        assert!(!fcntl_getfl(&log.file).unwrap().contains(OFlags::NONBLOCK));
        log.write(b"a\n").unwrap();
        drop(log);
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        assert_eq!(said, "a\n");
    }

    #[test]
    fn after_a_file_that_ends_within_a_line_the_first_line_stands_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        for (there, after) in [("", "b\n"), ("a\n", "a\nb\n"), ("a", "a\nb\n")] {
            fs::write(&path, there).unwrap();
            file(&path).write(b"b\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
        }
    }

    #[test]
    fn a_stream_that_breaks_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.sock");
        let mut log = socket(&path);
        for _ in 0..2 {
            let listener = UnixListener::bind(&path).unwrap();
            log.write(b"a\nb\n").unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 4];
            stream.read_exact(&mut buffer).unwrap();
            assert_eq!(&buffer, b"a\nb\n");
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_listener_that_does_not_read_loses_lines_after_a_while() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let lines = [&[b'x'; 99][..], b"\n"].concat().repeat(100_000);
        let lost = socket(&path).write(&lines).unwrap_err();
        assert_eq!(lost.error.kind(), io::ErrorKind::WouldBlock);
        let (mut stream, _) = listener.accept().unwrap();
        let mut taken = Vec::new();
        stream.read_to_end(&mut taken).unwrap();
        assert_eq!(count(&taken) + lost.lines, 100_000, "all are read or counted");
    }
}
