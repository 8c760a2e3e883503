//! The memory that this process's control group allows it: the smallest limit of the group and those above it, of either version.
//!
//! A group that cannot be found sets no limit: in a container without a cgroup namespace `/proc/self/cgroup` names a path of
//! the host, and what is mounted is the container's own group as the root. So every directory up to the root is looked at.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Larger numbers are how version 1 says that there is no limit.
const UNLIMITED: u64 = 1 << 60;

/// Where the files are.
const GROUPS: &str = "/sys/fs/cgroup";

/// Bytes that this process's groups allow it; none when they set no limit.
pub(super) fn memory() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    smallest(&groups, Path::new(GROUPS))
}

/// As [`memory`], for a process whose `/proc/self/cgroup` says `groups`.
fn smallest(groups: &str, root: &Path) -> Option<u64> {
    groups.lines().filter_map(|line| limit(line, root)).min()
}

/// What one hierarchy allows. A line is `NUMBER:CONTROLLERS:PATH` (cgroups(7)).
fn limit(line: &str, root: &Path) -> Option<u64> {
    let (number, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    let (root, file) = match controllers {
        "" if number == "0" => (root.to_owned(), "memory.max"),
        of if of.split(',').any(|controller| controller == "memory") => {
            (root.join("memory"), "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let inner: PathBuf = path.split('/').filter(|part| !matches!(*part, "" | "." | "..")).collect();
    let directory = root.join(inner);
    let up = directory.ancestors().take_while(|ancestor| ancestor.starts_with(&root));
    up.filter_map(|directory| bytes(&fs::read_to_string(directory.join(file)).ok()?)).min()
}

fn bytes(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes < UNLIMITED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let file = root.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    #[test]
    fn the_smallest_limit_of_the_group_and_those_above_it_counts() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "pods/pod/towpath/memory.max", "max\n");
        write(root.path(), "pods/pod/memory.max", "536870912\n");
        write(root.path(), "pods/memory.max", "1073741824\n");
        assert_eq!(smallest("0::/pods/pod/towpath\n", root.path()), Some(512 << 20));
        assert_eq!(smallest("0::/pods\n", root.path()), Some(1 << 30));
        assert_eq!(smallest("0::/other\n", root.path()), None);
    }

    #[test]
    fn version_1_has_a_hierarchy_for_memory_and_a_huge_number_for_no_limit() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "memory/docker/x/memory.limit_in_bytes", "268435456\n");
        write(root.path(), "memory/memory.limit_in_bytes", "9223372036854771712\n");
        let groups = "7:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n0::/docker/x\n";
        assert_eq!(smallest(groups, root.path()), Some(256 << 20));
        assert_eq!(smallest("4:memory:/\n", root.path()), None);
    }

    #[test]
    fn a_container_without_a_namespace_of_its_own_finds_its_group_at_the_root() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "memory.max", "134217728\n");
        assert_eq!(smallest("0::/kubepods/burstable/pod1/abc\n", root.path()), Some(128 << 20));
        assert_eq!(smallest("0::/../../pod1\n", root.path()), Some(128 << 20));
    }
}
