//! Endpoints from a watched file: a change is in force well within a second, and what cannot be understood changes
//! nothing.
//!
//! # A file that is being written
//! A file should be replaced by a rename, which is a change from one whole content to the other. One that is written in
//! place is read once its writer closes it, and read again when it was written meanwhile. What is empty, or ends within
//! a line, may be a part of something, unless it came by a rename: it counts once it has stayed like that for
//! [`PATIENCE`]. So an empty file does mean that there are no endpoints; one that holds only comments says so at once.
//!
//! What a line looks like is `lines.rs`'s business, and `watch.rs`'s how changes are noticed.

use std::{
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::fs::OFlags;
use tokio::time::{Instant, sleep, timeout};

use super::{
    Endpoint,
    inotify::{Inotify, Notice},
    lines::{self, MAX_BYTES},
    update::{Failure, FailureKind, Update},
    watch::Watch,
};

/// How long a file must have looked unfinished to be believed, and how long one that is written without an end is read
/// again and again. Together with the time that a change takes to be told, it stays below a second.
const PATIENCE: Duration = Duration::from_millis(400);
/// Between such readings.
const PAUSE: Duration = Duration::from_millis(5);
/// Until a path that cannot be watched at all is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Reads `path` now and after every change, for ever, and tells what it says whenever that is something else than
/// before. Empty endpoints are the file's own statement. Dropping the future stops it.
pub(in crate::discovery) async fn follow(inotify: Inotify, path: PathBuf, mut on_update: impl FnMut(Update)) {
    let mut follower = Follower { path: path.into(), state: State::Unknown };
    let mut watch = loop {
        match Watch::start(&inotify, follower.path.to_path_buf()) {
            Ok(watch) => break watch,
            Err(error) => follower.take_in(Err(unreadable(&follower.path, &error)), &mut on_update),
        }
        sleep(AGAIN).await;
    };
    loop {
        let read = settled(&follower.path, &mut watch).await;
        follower.take_in(read, &mut on_update);
        watch.changed().await;
    }
}

/// What the file says: its endpoints, or why they are not known.
type Content = Result<Vec<Endpoint>, String>;

/// Reads the file until nothing happened to it meanwhile and it looks finished.
async fn settled(path: &Arc<Path>, watch: &mut Watch) -> Content {
    let end = Instant::now() + PATIENCE;
    loop {
        watch.forget();
        let Read { content, unfinished, torn } = read(path).await;
        let stirred = watch.is_stirred();
        let writing = watch.state() == Notice::Writing;
        let unfinished = unfinished && watch.state() != Notice::Replaced;
        let over = Instant::now() >= end;
        // A file system that tells no sizes lets every reading look torn.
        let torn = torn && (stirred || !over);
        if !torn && !unfinished && (over || !(stirred || writing)) {
            return content;
        }
        if torn || stirred {
            sleep(PAUSE).await;
        } else if timeout(PATIENCE, watch.stirs()).await.is_err() {
            return content;
        }
    }
}

/// What reading the file gave.
struct Read {
    content: Content,
    /// Somebody may be about to write the rest.
    unfinished: bool,
    /// The file changed while it was read.
    torn: bool,
}

/// On another thread: the file may be long, and its file system slow.
async fn read(path: &Arc<Path>) -> Read {
    let shared = path.clone();
    let reading = tokio::task::spawn_blocking(move || match bytes(&shared) {
        Ok((text, torn)) => Read {
            content: lines::parse(&text).map_err(|problems| problems.of(&shared)),
            unfinished: lines::may_be_unfinished(&text),
            torn,
        },
        Err(error) => failed(&shared, &error),
    });
    reading.await.unwrap_or_else(|died| failed(path, &io::Error::other(died)))
}

fn failed(path: &Path, error: &io::Error) -> Read {
    Read { content: Err(unreadable(path, error)), unfinished: false, torn: false }
}

/// One byte more than a file may have, at most; and whether the file changed meanwhile.
fn bytes(path: &Path) -> io::Result<(Vec<u8>, bool)> {
    // Opening a pipe would wait for its other end.
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let mut file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    let before = file.metadata()?;
    if !before.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let most = MAX_BYTES as u64 + 1;
    let size = before.len().min(most);
    let mut text = Vec::with_capacity(usize::try_from(size).unwrap_or(MAX_BYTES) + 1);
    (&mut file).take(most).read_to_end(&mut text)?;
    let after = file.metadata()?;
    let same = after.modified().ok() == before.modified().ok() && after.len() == before.len();
    let torn = !same || text.len() as u64 != size;
    Ok((text, torn))
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    format!("{}: cannot be read: {error}", path.display())
}

/// One followed file.
struct Follower {
    path: Arc<Path>,
    state: State,
}

/// What was told last.
enum State {
    Unknown,
    Good(Vec<Endpoint>),
    Failing(String),
}

impl Follower {
    /// Tells what is new, once.
    fn take_in(&mut self, content: Content, on_update: &mut impl FnMut(Update)) {
        match (content, &self.state) {
            (Ok(endpoints), State::Good(told)) if endpoints == *told => {}
            (Err(message), State::Failing(told)) if message == *told => {}
            (Ok(endpoints), _) => {
                self.log_good(&endpoints);
                self.state = State::Good(endpoints.clone());
                on_update(Update::Endpoints(endpoints));
            }
            (Err(message), _) => {
                tracing::warn!("endpoint file not taken, what it last said stays in force:\n{message}");
                self.state = State::Failing(message.clone());
                on_update(Update::Failed(Failure { kind: FailureKind::BadFile, message }));
            }
        }
    }

    fn log_good(&self, endpoints: &[Endpoint]) {
        let (file, count) = (self.path.display(), endpoints.len());
        match self.state {
            State::Failing(_) => tracing::info!(%file, endpoints = count, "endpoint file is in order again"),
            _ => tracing::debug!(%file, endpoints = count, "endpoint file read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, remove_file, rename, write};
    use std::io::Write;

    use tempfile::TempDir;
    use tokio::{
        sync::mpsc::{UnboundedReceiver, unbounded_channel},
        task::JoinHandle,
    };

    use super::*;

    /// Within which a change is to be in force; below the second that is promised, so that the promise has room.
    const SOON: Duration = Duration::from_millis(950);

    /// A followed file in a directory of its own.
    struct Followed {
        directory: TempDir,
        updates: UnboundedReceiver<Update>,
        following: JoinHandle<()>,
    }

    impl Drop for Followed {
        fn drop(&mut self) {
            self.following.abort();
        }
    }

    impl Followed {
        /// None: there is no file.
        fn new(text: Option<&str>) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("endpoints");
            if let Some(text) = text {
                write(&path, text).unwrap();
            }
            let (to, updates) = unbounded_channel();
            let following =
                tokio::spawn(follow(Inotify::default(), path, move |update| to.send(update).unwrap()));
            Self { directory, updates, following }
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("endpoints")
        }

        fn replace(&self, text: &str) {
            let new = self.directory.path().join("new");
            write(&new, text).unwrap();
            rename(new, self.path()).unwrap();
        }

        async fn next(&mut self) -> Update {
            timeout(SOON, self.updates.recv()).await.expect("an update comes soon").unwrap()
        }

        /// The addresses and weights of the next update, which is a good one.
        async fn endpoints(&mut self) -> Vec<String> {
            match self.next().await {
                Update::Endpoints(found) => {
                    found.iter().map(|e| format!("{} {}", e.address, e.weight)).collect()
                }
                other => panic!("{other:?}"),
            }
        }

        async fn failure(&mut self) -> String {
            match self.next().await {
                Update::Failed(Failure { kind: FailureKind::BadFile, message }) => message,
                other => panic!("{other:?}"),
            }
        }

        async fn nothing(&mut self) {
            let update = timeout(Duration::from_millis(600), self.updates.recv()).await;
            assert!(update.is_err(), "{update:?}");
        }
    }

    #[tokio::test]
    async fn a_file_is_read_at_once_and_after_every_change() {
        let mut file = Followed::new(Some("10.0.0.2:80\n10.0.0.1:80 weight=3\n"));
        assert_eq!(file.endpoints().await, ["10.0.0.1:80 3", "10.0.0.2:80 1"]);
        let start = Instant::now();
        file.replace("10.0.0.3:80\n");
        assert_eq!(file.endpoints().await, ["10.0.0.3:80 1"]);
        assert!(start.elapsed() < Duration::from_millis(200), "{:?}", start.elapsed());
        write(file.path(), "10.0.0.4:80\n").unwrap();
        assert_eq!(file.endpoints().await, ["10.0.0.4:80 1"]);
    }

    #[tokio::test]
    async fn a_change_that_says_the_same_is_not_told() {
        let mut file = Followed::new(Some("10.0.0.1:80\n"));
        file.endpoints().await;
        file.replace("# the same\n10.0.0.1:80 weight=1\n");
        file.nothing().await;
    }

    #[tokio::test]
    async fn each_problem_is_told_once_and_recovery_as_well() {
        let mut file = Followed::new(Some("10.0.0.1:80\n"));
        file.endpoints().await;
        file.replace("10.0.0.1:80\n10.0.0.2\n");
        let told = format!("{}:2:1: \"10.0.0.2\" has no port", file.path().display());
        assert!(file.failure().await.starts_with(&told));
        file.replace("10.0.0.1:80\n10.0.0.2\n");
        file.nothing().await;
        file.replace("10.0.0.1:80\n10.0.0.2:0\n");
        assert!(file.failure().await.contains("port 0"));
        file.replace("10.0.0.1:80\n");
        assert_eq!(file.endpoints().await, ["10.0.0.1:80 1"], "though it said so before");
    }

    #[tokio::test]
    async fn a_missing_file_is_a_failure_that_its_creation_ends() {
        let mut file = Followed::new(None);
        let told = format!("{}: cannot be read: No such file", file.path().display());
        assert!(file.failure().await.starts_with(&told));
        file.replace("10.0.0.1:80\n");
        assert_eq!(file.endpoints().await, ["10.0.0.1:80 1"]);
        remove_file(file.path()).unwrap();
        assert!(file.failure().await.contains("No such file"));
    }

    #[tokio::test]
    async fn only_a_regular_file_is_read() {
        let mut file = Followed::new(None);
        file.failure().await;
        std::fs::create_dir(file.path()).unwrap();
        assert!(file.failure().await.contains("not a regular file"));
        std::fs::remove_dir(file.path()).unwrap();
        file.failure().await;
        std::os::unix::fs::symlink("/dev/zero", file.path()).unwrap();
        assert!(file.failure().await.contains("not a regular file"));
    }

    #[tokio::test]
    async fn an_empty_file_counts_when_it_stays_empty_and_at_once_when_it_came_whole() {
        let mut file = Followed::new(Some("10.0.0.1:80\n"));
        file.endpoints().await;
        let start = Instant::now();
        File::create(file.path()).unwrap();
        assert!(file.endpoints().await.is_empty());
        assert!(start.elapsed() >= PATIENCE / 2, "{:?}", start.elapsed());
        for whole in ["# none\n", ""] {
            file.replace("10.0.0.1:80");
            file.endpoints().await;
            let start = Instant::now();
            file.replace(whole);
            assert!(file.endpoints().await.is_empty());
            assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
        }
    }

    #[tokio::test]
    async fn a_file_that_is_written_piece_by_piece_is_never_taken_in_part() {
        let mut file = Followed::new(Some("10.0.0.1:8080\n"));
        file.endpoints().await;
        let mut writer = File::create(file.path()).unwrap();
        for piece in ["10.0.0", ".1:8080\n10.0.", "0.2:80", "80\n"] {
            tokio::time::sleep(Duration::from_millis(30)).await;
            writer.write_all(piece.as_bytes()).unwrap();
        }
        drop(writer);
        assert_eq!(file.endpoints().await, ["10.0.0.1:8080 1", "10.0.0.2:8080 1"]);
    }

    #[tokio::test]
    async fn a_last_line_without_its_end_counts_when_it_stays_so() {
        let mut file = Followed::new(Some("10.0.0.1:8080"));
        assert_eq!(file.endpoints().await, ["10.0.0.1:8080 1"]);
    }

    /// Rewritten in place as fast as possible, with a reader that may come at any moment.
    #[tokio::test]
    async fn no_half_written_content_is_told_under_a_storm_of_rewrites() {
        let text = |n: usize| (0..200).map(|e| format!("10.{n}.0.{e}:8080\n")).collect::<String>();
        let mut file = Followed::new(Some(&text(0)));
        let path = file.path();
        let writing = tokio::task::spawn_blocking(move || {
            for n in 0..400 {
                write(&path, text(n % 200)).unwrap();
                std::thread::sleep(Duration::from_millis(n as u64 % 4));
            }
        });
        let mut last = Vec::new();
        while let Ok(Some(update)) = timeout(SOON, file.updates.recv()).await {
            let Update::Endpoints(found) = update else { panic!("{update:?}") };
            assert_eq!(found.len(), 200);
            last = found;
        }
        writing.await.unwrap();
        assert_eq!(last[0].address.to_string(), "10.199.0.0:8080");
    }
    /// How many of this process's inotify instances watch the directory.
    fn instances_on(directory: &Path) -> usize {
        let inode =
            format!(" ino:{:x} ", std::os::unix::fs::MetadataExt::ino(&directory.metadata().unwrap()));
        let descriptors = std::fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
        let told = descriptors.filter_map(|descriptor| std::fs::read_to_string(descriptor.path()).ok());
        told.filter(|told| told.lines().any(|line| line.starts_with("inotify") && line.contains(&inode)))
            .count()
    }

    /// More than the instances that a user may have (128).
    #[tokio::test]
    async fn three_hundred_files_need_one_inotify_instance_and_each_change_is_soon_in_force() {
        let (directory, inotify) = (tempfile::tempdir().unwrap(), Inotify::default());
        let path = |n: usize| directory.path().join(format!("{}/file-{n}", n % 3));
        (0..3).for_each(|n| std::fs::create_dir(directory.path().join(n.to_string())).unwrap());
        let (to, mut updates) = unbounded_channel();
        let mut following = tokio::task::JoinSet::new();
        for n in 0..300 {
            write(path(n), "10.0.0.1:80\n").unwrap();
            let to = to.clone();
            following.spawn(follow(inotify.clone(), path(n), move |update| {
                to.send((n, update, Instant::now())).unwrap();
            }));
        }
        for _ in 0..300 {
            assert!(matches!(updates.recv().await.unwrap().1, Update::Endpoints(_)));
        }
        assert_eq!(instances_on(directory.path()), 1);
        let mut changed = Vec::new();
        for n in 0..300 {
            write(directory.path().join("new"), format!("10.0.1.1:{}\n", n + 1)).unwrap();
            rename(directory.path().join("new"), path(n)).unwrap();
            changed.push(Instant::now());
            tokio::task::yield_now().await;
        }
        for _ in 0..300 {
            let (n, update, at) = timeout(SOON, updates.recv()).await.expect("an update comes soon").unwrap();
            let Update::Endpoints(found) = update else { panic!("{update:?}") };
            assert_eq!(usize::from(found[0].address.port()), n + 1);
            let took = at.saturating_duration_since(changed[n]);
            assert!(took < Duration::from_secs(1), "file {n}: {took:?}");
        }
    }
}
