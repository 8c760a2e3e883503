//! The kernel's notices (inotify) about one file and every directory on the way to it.
//!
//! A path is walked as the kernel does, symlink by symlink. Each directory on the way is watched for the one entry that
//! the way goes through, so that a swapped link or a directory that is made later is noticed; the file itself is
//! watched as well, because it may be written through another name (a hard link, a bind mount). When a notice says that
//! the way may have changed, it is walked anew.

use std::{
    collections::{HashMap, VecDeque},
    ffi::{OsStr, OsString},
    io,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    io::Errno,
};
use tokio::io::{Interest, unix::AsyncFd};

/// The kernel's bound on symlinks in one path.
const MAX_LINKS: usize = 40;
/// Walks until two in a row are alike. Should somebody swap links faster than that, a notice of it is on its way.
const MAX_WALKS: usize = 8;

/// In a directory on the way: whatever changes which file an entry is.
const DIRECTORY: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::DONT_FOLLOW);
/// On the file itself.
const FILE: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::DONT_FOLLOW);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// Somebody writes the file and has not closed it.
    Writing,
    /// Something was renamed to be on the way: what is there now was made elsewhere, and is whole.
    Replaced,
    /// The file was written and closed, or another file may be there.
    Changed,
}

/// The notices about one path.
pub(super) struct Notices {
    inotify: AsyncFd<OwnedFd>,
    path: PathBuf,
    /// What is watched: the entries of a directory that are on the way; none for the file itself.
    watched: HashMap<i32, Vec<OsString>>,
    /// Whether everything on the way is watched.
    sees_all: bool,
}

impl Notices {
    /// Watches `path`, which is absolute.
    ///
    /// # Errors
    /// A limit of the kernel's is reached, or it has no inotify.
    #[expect(deprecated, reason = "its replacement is unsafe to call; an OwnedFd keeps what that asks for")]
    pub(super) fn start(path: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let inotify = AsyncFd::with_interest(inotify, Interest::READABLE)?;
        let mut notices = Self { inotify, path: path.to_owned(), watched: HashMap::new(), sees_all: true };
        notices.follow_way()?;
        Ok(notices)
    }

    /// Whether everything on the way is watched.
    pub(super) fn sees_all(&self) -> bool {
        self.sees_all
    }

    /// Waits for the next one. Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`Self::start`]: there will be no further notices.
    pub(super) async fn next(&mut self) -> io::Result<Notice> {
        loop {
            let mut ready = self.inotify.readable().await?;
            let read = read(self.inotify.get_ref(), &self.watched);
            ready.clear_ready();
            if let Some(notice) = self.take_in(read?)? {
                return Ok(notice);
            }
        }
    }

    /// What has happened up to now, taken together.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(super) fn pending(&mut self) -> io::Result<Option<Notice>> {
        let read = read(self.inotify.get_ref(), &self.watched)?;
        self.take_in(read)
    }

    fn take_in(&mut self, read: Read) -> io::Result<Option<Notice>> {
        if read.way_changed {
            self.follow_way()?;
        }
        Ok(read.last)
    }

    /// Watches everything on the way as it is now, and nothing else.
    ///
    /// A directory is watched before what is in it, so a change on the way is either seen by the walk or noticed.
    fn follow_way(&mut self) -> io::Result<()> {
        let mut way = Way::walk(&self.path);
        for _ in 0..MAX_WALKS {
            self.watch(&way)?;
            let again = Way::walk(&self.path);
            if again == way {
                break;
            }
            way = again;
        }
        Ok(())
    }

    fn watch(&mut self, way: &Way) -> io::Result<()> {
        let mut watched: HashMap<i32, Vec<OsString>> = HashMap::new();
        self.sees_all = true;
        for (directory, entry) in &way.entries {
            if let Some(watch) = self.add(directory, DIRECTORY)? {
                watched.entry(watch).or_default().push(entry.clone());
            }
        }
        if let Some(watch) = way.file.as_ref().map(|file| self.add(file, FILE)).transpose()?.flatten() {
            watched.insert(watch, Vec::new());
        }
        for old in self.watched.keys().filter(|old| !watched.contains_key(old)) {
            // The kernel has removed it already if what it watched is gone.
            let _ = inotify::remove_watch(&self.inotify, *old);
        }
        self.watched = watched;
        Ok(())
    }

    /// None when it is gone, or may not be read.
    fn add(&mut self, path: &Path, what: WatchFlags) -> io::Result<Option<i32>> {
        match inotify::add_watch(&self.inotify, path, what) {
            Ok(watch) => Ok(Some(watch)),
            Err(limit @ (Errno::NOSPC | Errno::NOMEM)) => Err(limit.into()),
            Err(error) => {
                self.sees_all &= matches!(error, Errno::NOENT | Errno::NOTDIR);
                Ok(None)
            }
        }
    }
}

/// What was read of a queue, taken together.
#[derive(Default)]
struct Read {
    last: Option<Notice>,
    way_changed: bool,
}

/// Reads all that is there.
fn read(inotify: &OwnedFd, watched: &HashMap<i32, Vec<OsString>>) -> io::Result<Read> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(inotify, &mut buffer);
    let mut read = Read::default();
    loop {
        match reader.next() {
            Ok(event) => {
                let entry = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                if concerns(watched, event.wd(), entry, event.events()) {
                    read.take_in(event.events(), entry.is_some());
                }
            }
            Err(Errno::AGAIN) => return Ok(read),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether an event is about something on the way. One about a directory as such is; so is the loss of events.
fn concerns(
    watched: &HashMap<i32, Vec<OsString>>,
    watch: i32,
    entry: Option<&OsStr>,
    events: ReadFlags,
) -> bool {
    events.contains(ReadFlags::QUEUE_OVERFLOW)
        || watched
            .get(&watch)
            .is_some_and(|entries| entry.is_none_or(|entry| entries.iter().any(|known| known == entry)))
}

impl Read {
    fn take_in(&mut self, events: ReadFlags, in_directory: bool) {
        let written = events.intersects(ReadFlags::MODIFY | ReadFlags::CLOSE_WRITE);
        self.way_changed |= !written;
        // A file that was just made is about to be written.
        let open = events.contains(ReadFlags::MODIFY)
            || (in_directory && events.contains(ReadFlags::CREATE) && !events.contains(ReadFlags::ISDIR));
        self.last = Some(match () {
            () if open => Notice::Writing,
            () if events.contains(ReadFlags::MOVED_TO) => Notice::Replaced,
            // What becomes of the file that was there before says nothing of the new one.
            () if !written && !in_directory && self.last == Some(Notice::Replaced) => Notice::Replaced,
            () => Notice::Changed,
        });
    }
}

/// The way that the kernel takes to a file.
#[derive(PartialEq)]
struct Way {
    /// Directories without symlinks in their paths, and the entry of each through which the way goes, in its order. Ends
    /// where something is missing.
    entries: Vec<(PathBuf, OsString)>,
    /// What is at the end, unless it is missing or a directory.
    file: Option<PathBuf>,
}

impl Way {
    fn walk(path: &Path) -> Self {
        let mut way = Self { entries: Vec::new(), file: None };
        let mut at = PathBuf::from("/");
        let mut ahead: VecDeque<OsString> = steps(path);
        let mut links = 0;
        while let Some(step) = ahead.pop_front() {
            if step == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&step);
            way.entries.push((at.clone(), step));
            let Ok(metadata) = next.symlink_metadata() else { return way };
            if metadata.is_symlink() {
                links += 1;
                let Some(target) = next.read_link().ok().filter(|_| links <= MAX_LINKS) else { return way };
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                steps(&target).into_iter().rev().for_each(|step| ahead.push_front(step));
            } else if ahead.is_empty() && !metadata.is_dir() {
                way.file = Some(next);
            } else {
                at = next;
            }
        }
        way
    }
}

/// The components of a path, without what stands for "here".
fn steps(path: &Path) -> VecDeque<OsString> {
    let step = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(step).collect()
}
