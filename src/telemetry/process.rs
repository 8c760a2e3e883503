//! The process as the kernel accounts for it, read from `/proc` when metrics are scraped.

use std::{
    fs,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::thread::{Pid, gettid};

/// Each is none where `/proc` does not say.
#[derive(Default)]
pub(super) struct Process {
    /// User and system time.
    pub(super) cpu_seconds: Option<f64>,
    pub(super) open_fds: Option<f64>,
    pub(super) max_fds: Option<f64>,
    pub(super) resident_bytes: Option<f64>,
    pub(super) virtual_bytes: Option<f64>,
    /// Since 1970.
    pub(super) start_seconds: Option<f64>,
}

/// The kernel's USER_HZ, fixed at 100 for every architecture that towpath runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads them now.
pub(super) fn read() -> Process {
    let text = |path| fs::read_to_string(path).ok();
    let stat = text("/proc/self/stat");
    let status = text("/proc/self/status");
    Process {
        cpu_seconds: stat.as_ref().and_then(|stat| cpu_seconds(stat)),
        // The directory's own descriptor is one of them.
        open_fds: fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count().saturating_sub(1) as f64),
        max_fds: text("/proc/self/limits").and_then(|limits| max_fds(&limits)),
        resident_bytes: status.as_ref().and_then(|status| field(status, "VmRSS:")),
        virtual_bytes: status.as_ref().and_then(|status| field(status, "VmSize:")),
        start_seconds: stat.zip(text("/proc/stat")).and_then(|(stat, system)| start_seconds(&stat, &system)),
    }
}

/// The threads of workers, by number.
#[derive(Default)]
pub(super) struct Threads(Mutex<Vec<(usize, Pid)>>);

impl Threads {
    /// The calling thread is worker `worker`'s.
    pub(super) fn add(&self, worker: usize) {
        self.lock().push((worker, gettid()));
    }

    /// User and system time of each that still runs.
    pub(super) fn cpu_seconds(&self) -> Vec<(usize, f64)> {
        let threads = self.lock().clone();
        let mut times: Vec<_> =
            threads.into_iter().filter_map(|(of, id)| Some((of, thread_cpu(id)?))).collect();
        times.sort_unstable_by_key(|(worker, _)| *worker);
        times
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(usize, Pid)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In nanoseconds where the kernel counts so (`schedstat`), else in ticks.
fn thread_cpu(id: Pid) -> Option<f64> {
    let directory = format!("/proc/self/task/{}", id.as_raw_nonzero());
    let text = |file| fs::read_to_string(format!("{directory}/{file}")).ok();
    let nanos = text("schedstat").and_then(|times| times.split(' ').next()?.parse::<f64>().ok());
    nanos.map(|nanos| nanos / 1e9).or_else(|| cpu_seconds(&text("stat")?))
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
    Some((stat_field(stat, 14)? + stat_field(stat, 15)?) / TICKS_PER_SECOND)
}

fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, from_third) = stat.rsplit_once(") ")?;
    from_third.split(' ').nth(number - 3)?.trim().parse().ok()
}

/// Field 22 of `stat` counts from when the system started, which its own `/proc/stat` tells.
fn start_seconds(stat: &str, system: &str) -> Option<f64> {
    let booted = system.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(booted.trim().parse::<f64>().ok()? + stat_field(stat, 22)? / TICKS_PER_SECOND)
}

/// The soft limit of proc(5) `limits`.
fn max_fds(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
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
        assert_eq!(field("VmPeak:\t 9 kB\nVmRSS:\t   12 kB\n", "VmRSS:"), Some(12288.0));
        assert_eq!(field("VmPeak:\t 9 kB\n", "VmRSS:"), None);
        assert!(own_bytes() > Some(100_000), "the kernel tells what is no file's");
    }

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let process = read();
        assert!(process.cpu_seconds.is_some());
        assert!(process.open_fds >= Some(3.0) && process.resident_bytes > Some(100_000.0));
        assert!(process.max_fds >= process.open_fds && process.virtual_bytes > process.resident_bytes);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - process.start_seconds.unwrap();
        assert!((-2.0..86_400.0).contains(&age), "it started {age} s ago");
    }

    #[test]
    fn a_threads_own_cpu_time_is_told_and_that_of_one_that_has_ended_is_not() {
        let threads = Threads::default();
        threads.add(3);
        std::thread::scope(|scope| {
            scope.spawn(|| threads.add(1));
        });
        let start = std::time::Instant::now();
        while start.elapsed() < std::time::Duration::from_millis(20) {
            std::hint::black_box(0);
        }
        let told = threads.cpu_seconds();
        assert!(matches!(&told[..], [(3, seconds)] if *seconds > 0.0), "{told:?}");
    }

    #[test]
    fn limits_and_the_start_are_read_from_what_the_kernel_writes() {
        let limits =
            "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024   524288   files\n";
        assert_eq!(max_fds(limits), Some(1024.0));
        let stat = "7 (a) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 250 1000 10\n";
        assert_eq!(start_seconds(stat, "cpu 1\nbtime 1000\n"), Some(1002.5));
    }
}
