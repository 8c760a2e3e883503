//! One inotify instance for all watched files: the kernel grants few of them to a user (128), and many watches on each.
//!
//! What the kernel tells is handed out to listeners, by the watch and the entry of a directory that it is about. Listeners
//! whose ways to their files share a directory share its watch. What is to be watched is for `notice.rs` to say.

use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    io,
    mem::{MaybeUninit, take},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    io::Errno,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::Notify,
    task::AbortHandle,
};

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
/// On the file itself. Should a directory be there by now, its watch must not lose what others want of it.
const FILE: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::DONT_FOLLOW)
    .union(WatchFlags::MASK_ADD);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::discovery) enum Notice {
    /// Somebody writes the file and has not closed it.
    Writing,
    /// Something was renamed to be on the way: what is there now was made elsewhere, and is whole.
    Replaced,
    /// The file was written and closed, or another file may be there.
    Changed,
}

/// What a listener was told since it last asked, taken together.
#[derive(Debug, Default)]
pub(in crate::discovery) struct Heard {
    pub(in crate::discovery) last: Option<Notice>,
    /// Another file may be at the end of the way.
    pub(in crate::discovery) way_changed: bool,
    /// There will be no further notices.
    failed: Option<Errno>,
}

/// Where listeners come from. The instance is made for the first one, and again for one that comes after a failure.
#[derive(Clone, Default)]
pub(in crate::discovery) struct Inotify(Arc<Mutex<Option<Arc<Instance>>>>);

/// An instance that is read while somebody holds this.
struct Instance {
    queue: Arc<Queue>,
    reading: AbortHandle,
}

struct Queue {
    inotify: AsyncFd<OwnedFd>,
    watches: Mutex<Watches>,
}

/// By watch: who wants to know, by the entry of a directory; of the file itself, without one.
#[derive(Default)]
struct Watches {
    by_number: HashMap<i32, Told>,
    /// Mailboxes that were ever made.
    mailboxes: u64,
    failed: Option<Errno>,
}

/// Who is told of a watch: by the entry, and by their numbers.
type Told = HashMap<Option<OsString>, HashMap<u64, Arc<Mailbox>>>;

struct Mailbox {
    number: u64,
    heard: Mutex<Heard>,
    filled: Notify,
}

/// One who is told of what it watches, until it is dropped.
pub(in crate::discovery) struct Listener {
    instance: Arc<Instance>,
    mailbox: Arc<Mailbox>,
    watched: HashSet<Spot>,
}

/// A watch and the entry of the directory; none for the file itself.
type Spot = (i32, Option<OsString>);

impl Inotify {
    /// One that watches nothing yet.
    ///
    /// # Errors
    /// A limit of the kernel's is reached, or it has no inotify.
    pub(in crate::discovery) fn listen(&self) -> io::Result<Listener> {
        let instance = self.usable()?;
        // What is there already happened before this one listens.
        instance.queue.hand_out();
        let number = {
            let mut watches = lock(&instance.queue.watches);
            watches.mailboxes += 1;
            watches.mailboxes
        };
        let mailbox = Arc::new(Mailbox { number, heard: Mutex::default(), filled: Notify::new() });
        Ok(Listener { instance, mailbox, watched: HashSet::new() })
    }

    fn usable(&self) -> io::Result<Arc<Instance>> {
        let mut instance = lock(&self.0);
        if let Some(usable) = instance.as_ref().filter(|instance| !instance.has_failed()) {
            return Ok(usable.clone());
        }
        Ok(instance.insert(Arc::new(Instance::start()?)).clone())
    }
}

impl Instance {
    #[expect(deprecated, reason = "its replacement is unsafe to call; an OwnedFd keeps what that asks for")]
    fn start() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let inotify = AsyncFd::with_interest(inotify, Interest::READABLE)?;
        let queue = Arc::new(Queue { inotify, watches: Mutex::default() });
        let reading = tokio::spawn(read(queue.clone())).abort_handle();
        Ok(Self { queue, reading })
    }

    fn has_failed(&self) -> bool {
        lock(&self.queue.watches).failed.is_some()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// Hands out what comes, for ever.
async fn read(queue: Arc<Queue>) {
    while let Ok(mut ready) = queue.inotify.readable().await {
        queue.hand_out();
        ready.clear_ready();
    }
    lock(&queue.watches).fail(Errno::IO);
}

impl Queue {
    /// Hands out all that is there.
    fn hand_out(&self) {
        let mut watches = lock(&self.watches);
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(self.inotify.get_ref(), &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let entry = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    watches.tell(event.wd(), entry, event.events());
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(error) => return watches.fail(error),
            }
        }
    }

    /// Tells `mailbox` of `entry` in the directory at `path`, or of the file there.
    fn watch(&self, path: &Path, entry: Option<&OsString>, mailbox: &Arc<Mailbox>) -> Result<i32, Errno> {
        // Nothing is read between the watch's beginning and the mailbox's.
        let mut watches = lock(&self.watches);
        if let Some(error) = watches.failed {
            return Err(error);
        }
        let flags = if entry.is_some() { DIRECTORY } else { FILE };
        let watch = inotify::add_watch(&self.inotify, path, flags)?;
        let entries = watches.by_number.entry(watch).or_default();
        entries.entry(entry.cloned()).or_default().insert(mailbox.number, mailbox.clone());
        Ok(watch)
    }

    /// The opposite of [`Self::watch`].
    fn leave(&self, (watch, entry): &Spot, mailbox: &Mailbox) {
        let mut watches = lock(&self.watches);
        // The kernel has removed it already if what it watched is gone.
        let Some(entries) = watches.by_number.get_mut(watch) else { return };
        if let Some(told) = entries.get_mut(entry) {
            told.remove(&mailbox.number);
            if told.is_empty() {
                entries.remove(entry);
            }
        }
        if entries.is_empty() {
            watches.by_number.remove(watch);
            let _ = inotify::remove_watch(&self.inotify, *watch);
        }
    }
}

impl Watches {
    /// What concerns a directory as such concerns all entries; the loss of events, everybody.
    fn tell(&mut self, watch: i32, entry: Option<&OsStr>, events: ReadFlags) {
        let tell = |mailbox: &Arc<Mailbox>| mailbox.put(|heard| heard.take_in(events, entry.is_some()));
        if events.contains(ReadFlags::QUEUE_OVERFLOW) {
            return self.all().for_each(tell);
        }
        let Some(entries) = self.by_number.get(&watch) else { return };
        match entry {
            Some(entry) => {
                entries.get(&Some(entry.to_owned())).iter().flat_map(|told| told.values()).for_each(tell)
            }
            None => entries.values().flat_map(HashMap::values).for_each(tell),
        }
        if events.contains(ReadFlags::IGNORED) {
            self.by_number.remove(&watch);
        }
    }

    fn fail(&mut self, error: Errno) {
        self.failed = Some(error);
        self.all().for_each(|mailbox| mailbox.put(|heard| heard.failed = Some(error)));
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Mailbox>> {
        self.by_number.values().flat_map(HashMap::values).flat_map(HashMap::values)
    }
}

impl Mailbox {
    fn put(&self, what: impl FnOnce(&mut Heard)) {
        what(&mut lock(&self.heard));
        self.filled.notify_one();
    }
}

impl Listener {
    /// Watches these, in their order, and nothing else: entries of directories, and the file itself, without one. Whether
    /// all that exists is watched.
    ///
    /// # Errors
    /// A limit of the kernel's is reached.
    pub(in crate::discovery) fn watch_only<'a>(
        &mut self,
        spots: impl Iterator<Item = (&'a Path, Option<&'a OsString>)>,
    ) -> io::Result<bool> {
        let (mut watched, mut all) = (HashSet::new(), true);
        for (path, entry) in spots {
            match self.instance.queue.watch(path, entry, &self.mailbox) {
                Ok(watch) => {
                    self.watched.insert((watch, entry.cloned()));
                    watched.insert((watch, entry.cloned()));
                }
                // It is gone.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(limit @ (Errno::NOSPC | Errno::NOMEM)) => return Err(limit.into()),
                // It may not be read, or its file system cannot do it.
                Err(_) => all = false,
            }
        }
        self.watched.difference(&watched).for_each(|spot| self.instance.queue.leave(spot, &self.mailbox));
        self.watched = watched;
        Ok(all)
    }

    /// Waits until there is something to hear. Dropping the future loses nothing.
    ///
    /// # Errors
    /// There will be no further notices.
    pub(in crate::discovery) async fn next(&mut self) -> io::Result<Heard> {
        loop {
            let heard = self.take()?;
            if heard.last.is_some() {
                return Ok(heard);
            }
            self.mailbox.filled.notified().await;
        }
    }

    /// What has happened up to now.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub(in crate::discovery) fn pending(&mut self) -> io::Result<Heard> {
        self.instance.queue.hand_out();
        self.take()
    }

    fn take(&self) -> io::Result<Heard> {
        let heard = take(&mut *lock(&self.mailbox.heard));
        heard.failed.map_or(Ok(heard), |error| Err(error.into()))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.watched.iter().for_each(|spot| self.instance.queue.leave(spot, &self.mailbox));
    }
}

impl Heard {
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{create_dir, read_to_string, rename, write},
        os::fd::AsRawFd,
        time::Duration,
    };

    use tokio::time::timeout;

    use super::*;

    /// How many watches the kernel keeps for a queue.
    fn watches(queue: &Queue) -> usize {
        let told = read_to_string(format!("/proc/self/fdinfo/{}", queue.inotify.as_raw_fd())).unwrap();
        told.lines().filter(|line| line.starts_with("inotify wd")).count()
    }

    fn watch(listener: &mut Listener, directory: &Path, entry: &str) {
        let entry = OsString::from(entry);
        assert!(listener.watch_only([(directory, Some(&entry))].into_iter()).unwrap());
    }

    async fn heard(listener: &mut Listener) -> Notice {
        timeout(Duration::from_secs(5), listener.next()).await.unwrap().unwrap().last.unwrap()
    }

    #[tokio::test]
    async fn listeners_share_an_instance_and_a_watch_and_each_hears_of_its_own_entry() {
        let (directory, inotify) = (tempfile::tempdir().unwrap(), Inotify::default());
        let (mut a, mut b) = (inotify.listen().unwrap(), inotify.listen().unwrap());
        watch(&mut a, directory.path(), "a");
        watch(&mut b, directory.path(), "b");
        assert!(Arc::ptr_eq(&a.instance, &b.instance));
        assert_eq!(watches(&a.instance.queue), 1);
        for (name, at) in [("a", &mut a), ("b", &mut b)] {
            write(directory.path().join("new"), "").unwrap();
            rename(directory.path().join("new"), directory.path().join(name)).unwrap();
            assert_eq!(heard(at).await, Notice::Replaced);
        }
        assert!(a.pending().unwrap().last.is_none() && b.pending().unwrap().last.is_none());
    }

    #[tokio::test]
    async fn a_watch_lasts_until_its_last_listener_leaves() {
        let (directory, inotify) = (tempfile::tempdir().unwrap(), Inotify::default());
        let (mut a, mut b) = (inotify.listen().unwrap(), inotify.listen().unwrap());
        watch(&mut a, directory.path(), "file");
        watch(&mut b, directory.path(), "file");
        drop(a);
        create_dir(directory.path().join("file")).unwrap();
        assert_eq!(heard(&mut b).await, Notice::Changed);
        let queue = b.instance.queue.clone();
        assert_eq!(watches(&queue), 1);
        drop(b);
        assert_eq!(watches(&queue), 0);
        assert!(lock(&queue.watches).by_number.is_empty());
    }

    #[tokio::test]
    async fn what_happened_before_it_listens_is_not_told() {
        let (directory, inotify) = (tempfile::tempdir().unwrap(), Inotify::default());
        let mut first = inotify.listen().unwrap();
        watch(&mut first, directory.path(), "file");
        write(directory.path().join("file"), "").unwrap();
        let mut second = inotify.listen().unwrap();
        watch(&mut second, directory.path(), "file");
        assert!(second.pending().unwrap().last.is_none());
        assert!(first.pending().unwrap().last.is_some());
    }

    #[tokio::test]
    async fn lost_events_concern_everybody_and_a_failure_ends_the_instance_alone() {
        let (directory, inotify) = (tempfile::tempdir().unwrap(), Inotify::default());
        let mut listener = inotify.listen().unwrap();
        watch(&mut listener, directory.path(), "file");
        lock(&listener.instance.queue.watches).tell(-1, None, ReadFlags::QUEUE_OVERFLOW);
        assert!(listener.next().await.unwrap().way_changed);
        lock(&listener.instance.queue.watches).fail(Errno::IO);
        assert!(listener.next().await.is_err());
        let mut later = inotify.listen().unwrap();
        watch(&mut later, directory.path(), "file");
        write(directory.path().join("file"), "").unwrap();
        heard(&mut later).await;
    }
}
