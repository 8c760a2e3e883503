//! What a configuration takes from its surroundings instead of the file.

use std::{num::NonZeroUsize, thread};

use super::cgroup;

/// Where defaults of `[node]` and of the memory ceiling come from.
#[derive(Clone, Debug)]
pub struct Environment {
    /// `$NODE_NAME`.
    pub node_name: Option<String>,
    /// `$NODE_ZONE`.
    pub node_zone: Option<String>,
    /// The host's name.
    pub host_name: String,
    /// The CPUs that the cgroup allows.
    pub cpus: NonZeroUsize,
    /// Bytes that the cgroup allows, if it sets a limit.
    pub memory: Option<u64>,
}

impl Environment {
    /// That of this process.
    pub fn of_process() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            node_name: variable("NODE_NAME"),
            node_zone: variable("NODE_ZONE"),
            host_name: host_name(),
            // Knows the affinity mask and the quotas of both cgroup versions.
            cpus: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            memory: cgroup::memory(),
        }
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}
