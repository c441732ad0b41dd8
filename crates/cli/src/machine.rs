//! What does this machine have? Cores, and memory for this process in bytes.
//!
//! Sources: `/proc/meminfo` (MemAvailable), `/proc/self/status` (VmRSS, VmHWM, VmSize), `/proc/self/limits`, cgroup v2 (`memory.max`, `memory.current`)
//! and v1 (`memory.limit_in_bytes`, `memory.usage_in_bytes`), `/proc/cpuinfo` for physical cores. Elsewhere than on Linux
//! these answer `None` and nothing is refused on their account.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Threads worth starting: physical cores, but no more than this process may run on.
pub(crate) fn default_threads() -> usize {
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let physical = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| physical_cores(&text));
    physical.map_or(available, |cores| cores.clamp(1, available))
}

/// Distinct (package, core) pairs in `/proc/cpuinfo`; `None` where it does not name them.
fn physical_cores(cpuinfo: &str) -> Option<usize> {
    let value = |line: &str, key: &str| -> Option<u32> {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().parse().ok())?
    };
    let mut cores = HashSet::new();
    let mut package = None;
    for line in cpuinfo.lines() {
        if let Some(id) = value(line, "physical id") {
            package = Some(id);
        }
        if let Some(core) = value(line, "core id") {
            cores.insert((package, core));
        }
    }
    (!cores.is_empty()).then_some(cores.len())
}

/// Bytes this process can still take without swapping or meeting its cgroup's limit or its own; the smallest of these.
pub(crate) fn memory_free() -> Option<u64> {
    match (memory_of_system(), address_space_free()) {
        (Some(system), Some(own)) => Some(system.min(own)),
        (one, other) => one.or(other),
    }
}

/// What `ulimit -v` leaves of the address space. Source: proc(5), `/proc/self/limits`.
fn address_space_free() -> Option<u64> {
    let limit = limit_of(&fs::read_to_string("/proc/self/limits").ok()?, "Max address space")?;
    let used = kib_field(&fs::read_to_string("/proc/self/status").ok()?, "VmSize:")?;
    Some(limit.saturating_sub(used))
}

/// A soft limit; `None` for none.
fn limit_of(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn memory_of_system() -> Option<u64> {
    let system = fs::read_to_string("/proc/meminfo").ok().and_then(|text| kib_field(&text, "MemAvailable:"));
    let group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| cgroup_free(&text));
    match (system, group) {
        (Some(system), Some(group)) => Some(system.min(group)),
        (one, other) => one.or(other),
    }
}

/// This process's resident memory in bytes: now, and at its highest.
pub(crate) fn memory_resident() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    Some((kib_field(&text, "VmRSS:")?, kib_field(&text, "VmHWM:")?))
}

/// Lets the highest resident memory count from now on. Source: proc(5), `/proc/self/clear_refs`, value 5; where it cannot be written, the
/// peak stays what it was.
pub(crate) fn forget_peak() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Lets this process have as many files open as it may allow itself: many systems start programs with 1,024, a connection each, and let them raise that.
/// Nothing here passes file descriptors to select(2), for which that low number is meant.
pub(crate) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => {
            tracing::debug!(from = limit.current, to = limit.maximum, "the limit on open files is raised");
        }
        Err(error) => {
            tracing::warn!(%error, current = limit.current, "the limit on open files cannot be raised");
        }
    }
}

/// A line `NAME   123 kB`, in bytes.
fn kib_field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// What the tightest limit on the way to the root of the hierarchy leaves free.
fn cgroup_free(membership: &str) -> Option<u64> {
    let (root, limit, used, path) = membership.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        if controllers.is_empty() {
            Some(("/sys/fs/cgroup", "memory.max", "memory.current", path))
        } else if controllers.split(',').any(|c| c == "memory") {
            Some(("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", path))
        } else {
            None
        }
    })?;
    let mut folder = PathBuf::from(root).join(path.trim_start_matches('/'));
    let mut free = None;
    while folder.starts_with(root) {
        if let Some(here) = group_free(&folder, limit, used) {
            free = Some(free.map_or(here, |f: u64| f.min(here)));
        }
        if !folder.pop() {
            break;
        }
    }
    free
}

/// A group's limit less its use; the page cache that the kernel would give back counts as free.
fn group_free(folder: &Path, limit: &str, used: &str) -> Option<u64> {
    let number = |file: &str| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
    // `max`, and v1's page-rounded i64::MAX, mean no limit.
    let limit = number(limit).filter(|limit| *limit < i64::MAX as u64 / 2)?;
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let field = |name: &str| -> Option<u64> {
        stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    };
    let reclaimable = field("total_inactive_file").or_else(|| field("inactive_file")).unwrap_or(0);
    Some(limit.saturating_sub(number(used)?.saturating_sub(reclaimable)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hyperthreads_count_once_and_packages_apart() {
        let text = "physical id\t: 0\ncore id\t\t: 0\n\nphysical id\t: 0\ncore id\t\t: 0\n\n\
                    physical id\t: 0\ncore id\t\t: 1\n\nphysical id\t: 1\ncore id\t\t: 0\n";
        assert_eq!(physical_cores(text), Some(3));
        assert_eq!(physical_cores("processor\t: 0\nmodel name\t: x\n"), None);
    }

    #[test]
    fn kernel_fields_are_kib() {
        assert_eq!(
            kib_field("MemTotal:  9 kB\nMemAvailable:   16384 kB\n", "MemAvailable:"),
            Some(16_777_216)
        );
        assert_eq!(kib_field("MemTotal:  9 kB\n", "MemAvailable:"), None);
    }

    #[test]
    fn a_limit_is_its_soft_value_or_none() {
        let limits = |soft: &str| {
            format!("Max cpu time  unlimited  unlimited  s\nMax address space  {soft}  unlimited  bytes\n")
        };
        assert_eq!(limit_of(&limits("8589934592"), "Max address space"), Some(8 << 30));
        assert_eq!(limit_of(&limits("unlimited"), "Max address space"), None);
    }
}
