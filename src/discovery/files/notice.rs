//! The kernel's notices (inotify) about one file and every directory on the way to it.
//!
//! A path is walked as the kernel does, symlink by symlink. Each directory on the way is watched for the one entry that
//! the way goes through, so that a swapped link or a directory that is made later is noticed; the file itself is
//! watched as well, because it may be written through another name (a hard link, a bind mount). When a notice says that
//! the way may have changed, it is walked anew.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io,
    path::{Component, Path, PathBuf},
};

use super::inotify::{Heard, Inotify, Listener, Notice};

/// The kernel's bound on symlinks in one path.
const MAX_LINKS: usize = 40;
/// Walks until two in a row are alike. Should somebody swap links faster than that, a notice of it is on its way.
const MAX_WALKS: usize = 8;

/// The notices about one path.
pub(super) struct Notices {
    listener: Listener,
    path: PathBuf,
    /// Whether everything on the way is watched.
    sees_all: bool,
}

impl Notices {
    /// Watches `path`, which is absolute.
    ///
    /// # Errors
    /// A limit of the kernel's is reached, or it has no inotify.
    pub(super) fn start(inotify: &Inotify, path: &Path) -> io::Result<Self> {
        let mut notices = Self { listener: inotify.listen()?, path: path.to_owned(), sees_all: true };
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
            let heard = self.listener.next().await?;
            if let Some(notice) = self.take_in(&heard)? {
                return Ok(notice);
            }
        }
    }

    /// What has happened up to now, taken together.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(super) fn pending(&mut self) -> io::Result<Option<Notice>> {
        let heard = self.listener.pending()?;
        self.take_in(&heard)
    }

    fn take_in(&mut self, heard: &Heard) -> io::Result<Option<Notice>> {
        if heard.way_changed {
            self.follow_way()?;
        }
        Ok(heard.last)
    }

    /// Watches everything on the way as it is now, and nothing else.
    ///
    /// A directory is watched before what is in it, so a change on the way is either seen by the walk or noticed.
    fn follow_way(&mut self) -> io::Result<()> {
        let mut way = Way::walk(&self.path);
        for _ in 0..MAX_WALKS {
            self.sees_all = self.listener.watch_only(way.spots())?;
            let again = Way::walk(&self.path);
            if again == way {
                break;
            }
            way = again;
        }
        Ok(())
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

    /// What is to be watched.
    fn spots(&self) -> impl Iterator<Item = (&Path, Option<&OsString>)> {
        let directories = self.entries.iter().map(|(directory, entry)| (directory.as_path(), Some(entry)));
        directories.chain(self.file.iter().map(|file| (file.as_path(), None)))
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
