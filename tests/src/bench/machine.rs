//! The machine and the versions that figures belong to. What cannot be found out is empty: figures are worth something without it.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::system::uname;
use serde::Serialize;

use crate::process::redraft_binary;

/// A kernel's release without what its builder added: that says where it was built, and not how it behaves.
fn version(release: &str) -> &str {
    release.split_once('-').map_or(release, |(version, _)| version)
}

/// Where and with what something was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Model of the processor.
    pub processor: String,
    /// Processors.
    pub processors: usize,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Name and release of the system.
    pub kernel: String,
    /// File system that the data is on.
    pub file_system: String,
    /// Version of redis-server.
    pub redis: String,
    /// Version of redraft.
    pub redraft: String,
    /// The commit of the checkout, with a `+` if files differ from it.
    pub commit: String,
    /// The day, as in 2024-12-31, in UTC.
    pub date: String,
    /// Processes that wanted to run in the minute before, on average.
    pub load_before: String,
}

impl Machine {
    /// Looks at this machine, for data below a directory or where temporary files go.
    #[must_use]
    pub fn look(dir: Option<&Path>) -> Machine {
        let system = uname();
        let dir = dir.map_or_else(std::env::temp_dir, Path::to_owned);
        Machine {
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            processors: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            memory_mib: field(&read("/proc/meminfo"), "MemTotal").and_then(|text| kib(&text)).unwrap_or(0) / 1024,
            kernel: format!("{} {}", system.sysname().to_string_lossy(), version(&system.release().to_string_lossy())),
            file_system: fs::canonicalize(&dir).map(|dir| file_system(&read("/proc/mounts"), &dir)).unwrap_or_default(),
            redis: said("redis-server", &["--version"]),
            redraft: said(&redraft_binary().display().to_string(), &["--version"]),
            commit: commit(),
            date: said("date", &["-u", "+%F"]),
            load_before: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }

    /// Whether more than half a processor had work before.
    #[must_use]
    pub fn was_busy(&self) -> bool {
        self.load_before.parse().is_ok_and(|load: f64| load > 0.5)
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// What a program says in its first line.
fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

fn commit() -> String {
    let changed = if said("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty() { "" } else { "+" };
    said("git", &["rev-parse", "--short=12", "HEAD"]) + changed
}

/// The value of the first line `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(found, _)| found.trim() == name).map(|(_, value)| value.trim().to_owned())
}

/// The number in `123 kB`.
fn kib(text: &str) -> Option<u64> {
    text.split(' ').next()?.parse().ok()
}

/// The type of the file system that a path is on: that of the longest mount point above it.
fn file_system(mounts: &str, path: &Path) -> String {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((Path::new(fields.next()?), fields.next()?))
    });
    let above = mounts.filter(|(point, _)| path.starts_with(point));
    // Of equals the last one is mounted over the others.
    above.max_by_key(|(point, _)| point.components().count()).map(|(_, kind)| kind.to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_on_the_nearest_mount() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/data xfs rw 0 0\n/dev/c /tmp/data btrfs rw 0 0\n";
        let check = |path: &str, expected: &str| assert_eq!(file_system(mounts, Path::new(path)), expected, "{path}");
        check("/home/x", "ext4");
        check("/tmp", "tmpfs");
        check("/tmpfoo", "ext4");
        check("/tmp/data/y", "btrfs");
    }

    #[test]
    fn fields_are_found_by_their_names() {
        assert_eq!(field("a: 1\nMemTotal:  24152 kB\n", "MemTotal").and_then(|text| kib(&text)), Some(24152));
        assert_eq!(field("model name\t: A processor: fast\n", "model name").as_deref(), Some("A processor: fast"));
        assert_eq!(field("", "a"), None);
    }
}
