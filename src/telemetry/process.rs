//! The process as the kernel accounts for it, read from `/proc` when metrics are scraped.

use std::fs;

/// Each is none where `/proc` does not say.
#[derive(Default)]
pub(super) struct Process {
    /// User and system time.
    pub(super) cpu_seconds: Option<f64>,
    pub(super) open_fds: Option<f64>,
    pub(super) resident_bytes: Option<f64>,
}

/// The kernel's USER_HZ, fixed at 100 for every architecture that towpath runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads them now.
pub(super) fn read() -> Process {
    let text = |path| fs::read_to_string(path).ok();
    Process {
        cpu_seconds: text("/proc/self/stat").and_then(|stat| cpu_seconds(&stat)),
        // The directory's own descriptor is one of them.
        open_fds: fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count().saturating_sub(1) as f64),
        resident_bytes: text("/proc/self/status").and_then(|status| resident(&status)),
    }
}

/// Resident memory that is no file's, in bytes, where `/proc` tells it: what a request can make grow. The program itself is mapped
/// from its file, and the kernel takes those pages back when it needs them.
pub fn own_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let sum = field(&status, "RssAnon:")? + field(&status, "RssShmem:")?;
    Some(sum as u64)
}

/// Fields 14 and 15 of proc(5) `stat`; the command in field 2 may hold spaces and parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11).map(|ticks| ticks.parse::<f64>().ok());
    Some((times.next()?? + times.next()??) / TICKS_PER_SECOND)
}

fn resident(status: &str) -> Option<f64> {
    field(status, "VmRSS:")
}

/// A number of KiB, in bytes.
fn field(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_a_command_with_spaces_and_parentheses() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 100 1000 10\n";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("7 (a"), None);
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        assert_eq!(resident("VmPeak:\t 9 kB\nVmRSS:\t   12 kB\n"), Some(12288.0));
        assert_eq!(resident("VmPeak:\t 9 kB\n"), None);
        assert!(own_bytes() > Some(100_000), "the kernel tells what is no file's");
    }

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let process = read();
        assert!(process.cpu_seconds.is_some());
        assert!(process.open_fds >= Some(3.0) && process.resident_bytes > Some(100_000.0));
    }
}
