//! Control groups (version 2): from the numbers that the kernel gives for sockets to the paths that people know.
//!
//! A group's number is the inode of its directory, and the kernel has no way from one to the other but to look at them all. So the
//! tree is walked when a number is asked for that was not there the last time, on a thread that may wait; never twice at once.
//! Numbers are not given again while the node runs, and groups cannot be renamed: what was found stays right.
//!
//! Version 1 has a tree for each kind of resource and no number for a socket; there, a group stays unknown.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::{DirEntryExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A number that no group has is not looked for again before this: else each connection from a container whose groups cannot be
/// seen from here would cost a walk.
const NOT_AGAIN: Duration = Duration::from_secs(5);
/// Groups nest no deeper in practice; the limit is against a tree that grows while it is walked.
const DEEPEST: usize = 32;

/// The groups of this host, as far as they were looked at.
#[derive(Debug, Default)]
pub struct Cgroups {
    known: Mutex<Known>,
    /// Held while the tree is walked.
    walking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    paths: HashMap<u64, Arc<str>>,
    /// Numbers that were looked for and not found, and when.
    missing: HashMap<u64, Instant>,
}

impl Cgroups {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path of group `id`, if it is known already.
    pub fn known_path(&self, id: u64) -> Option<Arc<str>> {
        self.known().paths.get(&id).cloned()
    }

    /// The path of group `id`; none where no such group can be seen.
    pub async fn path(self: &Arc<Self>, id: u64) -> Option<Arc<str>> {
        if let Some(done) = self.answered(id) {
            return done;
        }
        let _walking = self.walking.lock().await;
        // Somebody else may have walked meanwhile.
        if let Some(done) = self.answered(id) {
            return done;
        }
        let this = self.clone();
        // A walk that panicked has found nothing.
        let _ = tokio::task::spawn_blocking(move || this.look()).await;
        let mut known = self.known();
        let found = known.paths.get(&id).cloned();
        if found.is_none() {
            known.missing.insert(id, Instant::now());
        }
        found
    }

    fn answered(&self, id: u64) -> Option<Option<Arc<str>>> {
        let known = self.known();
        if let Some(path) = known.paths.get(&id) {
            return Some(Some(path.clone()));
        }
        known.missing.get(&id).is_some_and(|since| since.elapsed() < NOT_AGAIN).then_some(None)
    }

    /// Looks at every group there is. For threads that may wait.
    pub fn look(&self) {
        let mut paths = HashMap::new();
        if let Some((root, prefix)) = mounted() {
            walk(&root, &prefix, DEEPEST, &mut paths);
        }
        let mut known = self.known();
        known.paths = paths;
        known.missing.retain(|_, since| since.elapsed() < NOT_AGAIN);
    }
}

/// Where version 2 is mounted, and which group that shows.
fn mounted() -> Option<(PathBuf, String)> {
    mount_in(&fs::read_to_string("/proc/self/mountinfo").ok()?)
}

/// `proc_pid_mountinfo(5)`: the fourth field is the root, the fifth the mount point; the type stands behind a lone dash.
fn mount_in(table: &str) -> Option<(PathBuf, String)> {
    table.lines().find_map(|line| {
        let (mount, rest) = line.split_once(" - ")?;
        let mut fields = mount.split(' ');
        let (root, point) = (fields.nth(3)?, fields.next()?);
        let root = root.trim_end_matches('/').to_owned();
        (rest.split(' ').next() == Some("cgroup2")).then(|| (PathBuf::from(point), root))
    })
}

fn walk(directory: &Path, path: &str, deeper: usize, paths: &mut HashMap<u64, Arc<str>>) {
    if paths.is_empty()
        && let Ok(root) = fs::metadata(directory)
    {
        paths.insert(root.ino(), if path.is_empty() { "/".into() } else { path.into() });
    }
    if deeper == 0 {
        return;
    }
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let name = entry.file_name();
        let path = format!("{path}/{}", name.to_string_lossy());
        paths.insert(entry.ino(), path.as_str().into());
        walk(&entry.path(), &path, deeper - 1, paths);
    }
}

/// The group (version 2) of the process `pid`, if that runs as `uid`: a process that has ended may have left its number to another.
pub fn cgroup_of_process(pid: i32, uid: u32) -> Option<Arc<str>> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    let text = read("cgroup")?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    (effective_uid(&read("status")?) == Some(uid)).then(|| path.into())
}

/// Of a process's `status`: real, effective, saved, and that of the file system.
fn effective_uid(status: &str) -> Option<u32> {
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    uids.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_of_version_2_is_found_among_others() {
        let table = "24 30 0:22 / /proc rw - proc proc rw\n\
                     35 24 0:30 /a/b /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n\
                     36 24 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        assert_eq!(mount_in(table), Some(("/sys/fs/cgroup/unified".into(), "/a/b".into())));
        assert_eq!(mount_in(&table.replace("cgroup2 cgroup2", "cgroup cgroup")), None);
    }

    #[test]
    fn every_directory_has_its_path_by_its_inode() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("shop.slice/checkout.service");
        fs::create_dir_all(&deep).unwrap();
        let mut paths = HashMap::new();
        walk(root.path(), "", DEEPEST, &mut paths);
        let of = |path: &Path| paths[&fs::metadata(path).unwrap().ino()].to_string();
        assert_eq!(of(root.path()), "/");
        assert_eq!(of(&deep), "/shop.slice/checkout.service");
        assert_eq!(paths.len(), 3);
    }

    #[tokio::test]
    async fn a_number_that_no_group_has_is_looked_for_once() {
        let groups = Arc::new(Cgroups::default());
        assert_eq!(groups.path(u64::MAX).await, None);
        assert_eq!(groups.answered(u64::MAX), Some(None));
        assert_eq!(groups.known_path(u64::MAX), None);
    }

    #[test]
    fn a_process_of_another_user_has_left_its_number() {
        let own = effective_uid(&fs::read_to_string("/proc/self/status").unwrap()).unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        assert_eq!(cgroup_of_process(pid, own + 1), None);
    }
}
