//! Tells when the content of one file may have changed, however it is changed: written in place, replaced by a
//! rename, deleted and made again, or reached through symlinks that are swapped (a Kubernetes ConfigMap).
//!
//! inotify watches the file and every directory on the way to it, symlinks resolved. What inotify cannot see (network
//! file systems), a look at the file's metadata finds every [`LOOK`]; where the kernel grants no inotify at all, such
//! looks every [`LOOK_BLIND`] are all there is. What the file says is for others to read.

use std::{
    future, io,
    path::{Path, PathBuf},
    sync::Once,
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, sleep_until};

use super::{
    inotify::{Inotify, Notice},
    notice::Notices,
};

/// Changes that follow each other within this are one.
const QUIET: Duration = Duration::from_millis(5);
/// The same, while somebody has the file open for writing and has not closed it.
const QUIET_OPEN: Duration = Duration::from_millis(100);
/// Changes without an end are told after this.
const LONGEST: Duration = Duration::from_millis(400);
/// Between looks at the file beside inotify.
const LOOK: Duration = Duration::from_secs(2);
/// Between looks at the file without inotify, or where it does not see everything.
const LOOK_BLIND: Duration = Duration::from_millis(500);
/// A file that was modified less than this ago may be modified again without its metadata showing it: some file
/// systems keep times in whole seconds.
const FRESH: Duration = Duration::from_millis(1500);

/// Watches one path for ever.
pub(in crate::discovery) struct Watch {
    path: PathBuf,
    /// None: the kernel grants no inotify.
    notices: Option<Notices>,
    /// What the file looked like when the last change was told.
    seen: Look,
    next_look: Instant,
    /// What came last.
    state: Notice,
    /// A change that is to be told.
    stir: Option<Stir>,
}

/// A change, and those that follow it closely.
#[derive(Clone, Copy)]
struct Stir {
    since: Instant,
    last: Instant,
}

impl Stir {
    /// When it is over, if nothing more happens.
    fn over(&self, state: Notice) -> Instant {
        let quiet = if state == Notice::Writing { QUIET_OPEN } else { QUIET };
        (self.last + quiet).min(self.since + LONGEST)
    }
}

impl Watch {
    /// Watches `path`, of which nothing needs to exist yet. Whoever reads the file after this misses no change.
    ///
    /// # Errors
    /// `path` is empty, or it is relative and there is no current directory.
    pub(in crate::discovery) fn start(inotify: &Inotify, path: PathBuf) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let notices = Notices::start(inotify, &path).map_err(|error| warn_blind(&path, &error)).ok();
        let seen = Look::at(&path);
        let (next_look, state) = (Instant::now(), Notice::Changed);
        let mut watch = Self { path, notices, seen, next_look, state, stir: None };
        watch.next_look += watch.interval();
        Ok(watch)
    }

    /// Returns once the file's content may have changed since this last returned, a few milliseconds after the last
    /// of a burst of changes. Dropping the future loses nothing.
    pub(in crate::discovery) async fn changed(&mut self) {
        loop {
            self.stirs().await;
            let Some(stir) = self.stir else { continue };
            tokio::select! {
                notice = next(&mut self.notices) => self.take_in(notice),
                () = sleep_until(stir.over(self.state)) => {
                    if stir.last.elapsed() >= QUIET_OPEN {
                        self.state = Notice::Changed;
                    }
                    self.seen = self.look().await;
                    self.stir = None;
                    return;
                }
            }
        }
    }

    /// Returns as soon as there is something that [`Self::changed`] will tell of. Dropping the future loses nothing.
    pub(in crate::discovery) async fn stirs(&mut self) {
        while self.stir.is_none() {
            tokio::select! {
                notice = next(&mut self.notices) => self.take_in(notice),
                () = sleep_until(self.next_look) => {
                    let look = self.look().await;
                    if self.seen.may_differ(&look) {
                        self.take_in(Ok(Notice::Changed));
                    }
                }
            }
        }
    }

    /// Whether there is something that [`Self::changed`] will tell of. Does not wait.
    pub(in crate::discovery) fn is_stirred(&mut self) -> bool {
        match self.notices.as_mut().map(Notices::pending) {
            Some(Ok(Some(notice))) => self.take_in(Ok(notice)),
            Some(Err(error)) => self.take_in(Err(error)),
            Some(Ok(None)) | None => {}
        }
        self.stir.is_some()
    }

    /// Takes what has happened up to now as told.
    pub(in crate::discovery) fn forget(&mut self) {
        self.is_stirred();
        self.stir = None;
    }

    /// What is known of the last change. [`Notice::Writing`] ends when the writer closes the file or pauses.
    pub(in crate::discovery) fn state(&self) -> Notice {
        self.state
    }

    fn take_in(&mut self, notice: io::Result<Notice>) {
        self.state = notice.unwrap_or_else(|error| {
            warn_blind(&self.path, &error);
            self.notices = None;
            Notice::Changed
        });
        let last = Instant::now();
        self.stir = Some(Stir { since: self.stir.map_or(last, |stir| stir.since), last });
    }

    fn interval(&self) -> Duration {
        let sees_all = self.notices.as_ref().is_some_and(Notices::sees_all);
        if sees_all { LOOK } else { LOOK_BLIND }
    }

    /// On another thread: a dead network file system must not stop this one.
    async fn look(&mut self) -> Look {
        let path = self.path.clone();
        let look = tokio::task::spawn_blocking(move || Look::at(&path)).await;
        self.next_look = Instant::now() + self.interval();
        look.unwrap_or(Look { stat: Err(io::ErrorKind::Other), fresh: true })
    }
}

async fn next(notices: &mut Option<Notices>) -> io::Result<Notice> {
    match notices {
        Some(notices) => notices.next().await,
        None => future::pending().await,
    }
}

/// Once in a process: the limit that one file meets, others meet as well.
fn warn_blind(path: &Path, error: &io::Error) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::warn!(
            file = %path.display(),
            %error,
            every = ?LOOK_BLIND,
            "no inotify, so watched files are looked at again and again \
             (limits: fs.inotify.max_user_instances, fs.inotify.max_user_watches)"
        );
    });
}

/// What a file's metadata tells of its content.
struct Look {
    stat: Result<Stat, io::ErrorKind>,
    /// It was modified so shortly before that a further change may look the same.
    fresh: bool,
}

#[derive(PartialEq)]
struct Stat {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Look {
    fn at(path: &Path) -> Self {
        use std::os::unix::fs::MetadataExt;
        let stat = path.metadata().map_err(|error| error.kind());
        let modified = stat.as_ref().ok().and_then(|stat| stat.modified().ok());
        let age = modified.map(|modified| SystemTime::now().duration_since(modified).unwrap_or_default());
        let stat = stat.map(|stat| Stat {
            device: stat.dev(),
            inode: stat.ino(),
            size: stat.size(),
            modified: (stat.mtime(), stat.mtime_nsec()),
            changed: (stat.ctime(), stat.ctime_nsec()),
        });
        Self { stat, fresh: age.is_some_and(|age| age < FRESH) }
    }

    fn may_differ(&self, later: &Self) -> bool {
        self.fresh || self.stat != later.stat
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{
            self, File, OpenOptions, Permissions, create_dir, create_dir_all, remove_dir_all, rename, write,
        },
        io::Write,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use tempfile::TempDir;
    use tokio::time::{sleep, timeout};

    use super::*;

    /// The longest that a notice may take; a look at the metadata would take longer.
    const SOON: Duration = Duration::from_millis(1500);

    /// A watched `file` in a directory of its own.
    struct Place {
        directory: TempDir,
        watch: Watch,
    }

    impl Place {
        /// Watches after `prepare` has made what is to exist in the directory. Looks are too rare to help.
        fn new(file: &str, prepare: impl FnOnce(&Path)) -> Self {
            let directory = tempfile::tempdir().unwrap();
            prepare(directory.path());
            let mut watch = Watch::start(&Inotify::default(), directory.path().join(file)).unwrap();
            assert!(watch.notices.as_ref().is_some_and(Notices::sees_all), "this host has inotify");
            watch.next_look = Instant::now() + Duration::from_secs(3600);
            Self { directory, watch }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        /// Fails if no change is told soon. Waits for the end of it, so that the next one is told on its own.
        async fn told(&mut self, what: &str) {
            timeout(SOON, self.watch.changed()).await.unwrap_or_else(|_| panic!("not told: {what}"));
            self.watch.next_look = Instant::now() + Duration::from_secs(3600);
        }

        async fn not_told(&mut self, what: &str) {
            let told = timeout(Duration::from_millis(150), self.watch.changed()).await;
            assert!(told.is_err(), "told: {what}");
        }

        /// As programs do that replace files whole.
        fn replace(&self, name: &str, text: &str) {
            write(self.path("new"), text).unwrap();
            rename(self.path("new"), self.path(name)).unwrap();
        }
    }

    #[tokio::test]
    async fn replacing_the_file_is_told_again_and_again() {
        let mut place = Place::new("file", |at| write(at.join("file"), "0").unwrap());
        place.not_told("nothing").await;
        for round in 0..5 {
            place.replace("file", "1");
            place.told(&format!("replacement {round}")).await;
        }
        place.not_told("nothing more").await;
    }

    #[tokio::test]
    async fn writing_in_place_is_told_once_the_writer_closes_the_file() {
        let mut place = Place::new("file", |at| write(at.join("file"), "0").unwrap());
        let start = std::time::Instant::now();
        write(place.path("file"), "1").unwrap();
        place.told("truncated and written").await;
        assert!(start.elapsed() < QUIET_OPEN, "not without need of patience: {:?}", start.elapsed());
        let mut writer = OpenOptions::new().append(true).open(place.path("file")).unwrap();
        writer.write_all(b"2").unwrap();
        assert!(timeout(Duration::from_millis(40), place.watch.changed()).await.is_err(), "it is open");
        writer.write_all(b"3").unwrap();
        drop(writer);
        place.told("appended").await;
        place.not_told("nothing more").await;
    }

    #[tokio::test]
    async fn a_writer_that_never_closes_the_file_is_told_of_all_the_same() {
        let mut place = Place::new("file", |at| write(at.join("file"), "0").unwrap());
        let mut writer = OpenOptions::new().append(true).open(place.path("file")).unwrap();
        writer.write_all(b"1").unwrap();
        place.told("one write").await;
        let writing = tokio::spawn(async move {
            loop {
                writer.write_all(b"2").unwrap();
                sleep(Duration::from_millis(3)).await;
            }
        });
        place.told("writes without an end").await;
        writing.abort();
    }

    #[tokio::test]
    async fn a_burst_is_told_few_times_and_its_last_change_never_missed() {
        let mut place = Place::new("file", |at| write(at.join("file"), "0").unwrap());
        let path = place.path("file");
        let last = "999";
        let writing = tokio::task::spawn_blocking(move || {
            for n in 0..1000 {
                write(&path, n.to_string()).unwrap();
            }
        });
        let mut told = 0;
        while fs::read_to_string(place.path("file")).unwrap() != last || !writing.is_finished() {
            place.told("a part of the burst").await;
            told += 1;
        }
        assert!(told < 200, "{told} for 1000 changes");
        let _ = timeout(Duration::from_millis(100), place.watch.changed()).await;
        place.not_told("nothing more").await;
    }

    #[tokio::test]
    async fn deleting_the_file_and_making_it_again_is_told() {
        let mut place = Place::new("file", |at| write(at.join("file"), "0").unwrap());
        fs::remove_file(place.path("file")).unwrap();
        place.told("deleted").await;
        write(place.path("file"), "1").unwrap();
        place.told("made again").await;
        write(place.path("file"), "2").unwrap();
        place.told("the new one is written").await;
    }

    #[tokio::test]
    async fn directories_may_come_and_go() {
        let mut place = Place::new("a/b/file", |_| {});
        for _ in 0..2 {
            create_dir_all(place.path("a/b")).unwrap();
            write(place.path("a/b/file"), "0").unwrap();
            place.told("all made at once").await;
            write(place.path("a/b/file"), "1").unwrap();
            place.told("written").await;
            remove_dir_all(place.path("a")).unwrap();
            place.told("all removed").await;
        }
        create_dir(place.path("elsewhere")).unwrap();
        create_dir(place.path("elsewhere/b")).unwrap();
        write(place.path("elsewhere/b/file"), "2").unwrap();
        place.not_told("what is beside the way").await;
        rename(place.path("elsewhere"), place.path("a")).unwrap();
        place.told("a directory is moved in").await;
        rename(place.path("a"), place.path("elsewhere")).unwrap();
        place.told("a directory is moved away").await;
        write(place.path("elsewhere/b/file"), "3").unwrap();
        place.not_told("what was moved away").await;
    }

    /// `file` -> `..data/file`, `..data` -> `..2026_1`, as a kubelet makes it.
    #[tokio::test]
    async fn a_config_map_is_told_when_its_data_link_is_swapped() {
        let mut place = Place::new("mount/file", |at| {
            create_dir_all(at.join("mount/..2026_1")).unwrap();
            write(at.join("mount/..2026_1/file"), "1").unwrap();
            symlink("..2026_1", at.join("mount/..data")).unwrap();
            symlink("..data/file", at.join("mount/file")).unwrap();
        });
        for round in 2..5 {
            let data = format!("mount/..2026_{round}");
            create_dir(place.path(&data)).unwrap();
            write(place.path(&data).join("file"), "2").unwrap();
            symlink(format!("..2026_{round}"), place.path("mount/..data_tmp")).unwrap();
            rename(place.path("mount/..data_tmp"), place.path("mount/..data")).unwrap();
            remove_dir_all(place.path(&format!("mount/..2026_{}", round - 1))).unwrap();
            place.told(&format!("swap {round}")).await;
        }
        write(place.path("mount/..2026_4/file"), "3").unwrap();
        place.told("the target is written in place").await;
    }

    #[tokio::test]
    async fn links_over_other_directories_are_followed_and_loops_end() {
        let mut place = Place::new("link", |at| {
            create_dir_all(at.join("far/off")).unwrap();
            symlink("far/off/../off/file", at.join("link")).unwrap();
        });
        write(place.path("far/off/file"), "1").unwrap();
        place.told("the target is made").await;
        fs::remove_file(place.path("link")).unwrap();
        place.told("the link is removed").await;
        symlink("link", place.path("link")).unwrap();
        place.told("a link to itself").await;
        fs::remove_file(place.path("link")).unwrap();
        symlink(place.path("far/off/file"), place.path("link")).unwrap();
        place.told("an absolute link").await;
        place.replace("far/off/file", "2");
        place.told("its target is replaced").await;
    }

    /// Renames the file away, writes a new one, deletes the backup.
    #[tokio::test]
    async fn an_editor_that_keeps_a_backup_is_told() {
        let mut place = Place::new("file", |at| write(at.join("file"), "0").unwrap());
        for _ in 0..3 {
            rename(place.path("file"), place.path("file~")).unwrap();
            let mut new = File::create(place.path("file")).unwrap();
            new.write_all(b"1").unwrap();
            drop(new);
            fs::remove_file(place.path("file~")).unwrap();
            place.told("edited").await;
        }
    }

    #[tokio::test]
    async fn writing_through_another_name_and_a_change_of_permissions_are_told() {
        let mut place = Place::new("file", |at| {
            create_dir(at.join("other")).unwrap();
            write(at.join("file"), "0").unwrap();
            fs::hard_link(at.join("file"), at.join("other/name")).unwrap();
        });
        write(place.path("other/name"), "1").unwrap();
        place.told("written through another name").await;
        fs::set_permissions(place.path("file"), Permissions::from_mode(0o600)).unwrap();
        place.told("permissions").await;
    }

    #[tokio::test]
    async fn dropping_the_wait_loses_nothing() {
        let mut place = Place::new("file", |at| write(at.join("file"), "0").unwrap());
        assert!(!place.watch.is_stirred());
        write(place.path("file"), "1").unwrap();
        for _ in 0..20 {
            let _ = timeout(Duration::from_micros(100), place.watch.changed()).await;
            if place.watch.stir.is_none() {
                return;
            }
        }
        assert!(place.watch.is_stirred());
        place.told("it is still told").await;
    }

    #[tokio::test]
    async fn what_inotify_does_not_see_a_look_finds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut watch = Watch::start(&Inotify::default(), path.clone()).unwrap();
        watch.notices = None;
        for text in ["1", "2"] {
            write(&path, text).unwrap();
            let start = Instant::now();
            timeout(LOOK + SOON, watch.changed()).await.unwrap();
            assert!(start.elapsed() < LOOK + SOON);
        }
        assert_eq!(watch.interval(), LOOK_BLIND);
        fs::remove_file(&path).unwrap();
        timeout(LOOK_BLIND + SOON, watch.changed()).await.unwrap();
    }

    #[test]
    fn a_file_that_was_modified_just_now_may_differ_though_it_looks_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        write(&path, "1").unwrap();
        assert!(Look::at(&path).may_differ(&Look::at(&path)));
        let old = SystemTime::now() - Duration::from_secs(60);
        File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        assert!(!Look::at(&path).may_differ(&Look::at(&path)));
    }

    #[test]
    fn an_empty_path_cannot_be_watched() {
        assert!(Watch::start(&Inotify::default(), PathBuf::new()).is_err());
    }
}
