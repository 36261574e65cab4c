//! Room on the disk: whether a part has enough of it, and how much a node takes.
//! A node counts what its directory holds by `log/` and `data/`, in bytes of files, not of blocks; files vanish while they are counted.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::bench::accounting::Usage;
use crate::wait::wait_until;

/// Room that a node wants to see free besides what it takes (`disk-reserve`), and what the programs themselves need.
const RESERVE_BYTES: u64 = 1 << 30;
/// A process that writes no more than this while it is watched is at rest: what is left are its logs.
const REST_BYTES: u64 = 1 << 20;
/// How long compactions may go on after the last write.
const REST_PATIENCE: Duration = Duration::from_secs(1800);

/// Bytes of a node's directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodeBytes {
    /// The Raft log.
    pub log: u64,
    /// The data.
    pub data: u64,
}

impl NodeBytes {
    /// Counts what a node's directory holds now.
    #[must_use]
    pub fn count(node_dir: &Path) -> NodeBytes {
        NodeBytes { log: directory_bytes(&node_dir.join("log")), data: directory_bytes(&node_dir.join("data")) }
    }
}

/// Bytes of all files of a directory, and of those below it.
#[must_use]
pub fn directory_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes = entries.filter_map(|entry| {
        // What has vanished meanwhile takes no room.
        let metadata = entry.metadata().ok()?;
        Some(if metadata.is_dir() { directory_bytes(&entry.path()) } else { metadata.len() })
    });
    bytes.sum()
}

/// Whether there is room for so many bytes where a directory is.
/// # Errors
/// There is not, or the system does not tell: one line.
pub fn check(dir: &Path, needed: u64) -> Result<(), String> {
    let space = rustix::fs::statvfs(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let (free, needed) = (space.f_bavail.saturating_mul(space.f_frsize), needed.saturating_add(RESERVE_BYTES));
    if free < needed {
        let [needed, free] = [needed, free].map(|bytes| bytes as f64 / f64::from(1 << 30));
        return Err(format!("this needs {needed:.1} GiB of room and {} has {free:.1}; ask for less, or name another --dir", dir.display()));
    }
    Ok(())
}

/// Waits until a process has stopped writing for some time: its compactions are done.
/// # Errors
/// It goes on and on, or the system does not tell: one line.
pub fn wait_for_rest(pid: u32, quiet: Duration) -> Result<(), String> {
    let (mut since, mut usage) = (Instant::now(), Usage::read(pid)?);
    let mut failure = None;
    let rests = wait_until(Instant::now() + REST_PATIENCE, || {
        match Usage::read(pid) {
            Ok(now) if now.written_bytes_since(&usage) > REST_BYTES => (since, usage) = (Instant::now(), now),
            Ok(_) => {}
            Err(error) => failure = Some(error),
        }
        failure.is_some() || since.elapsed() >= quiet
    });
    match failure {
        Some(error) => Err(error),
        None if rests => Ok(()),
        None => Err(format!("process {pid} still writes {REST_PATIENCE:?} after the load has ended")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_by_their_part() {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, bytes) in [("log/a", 10), ("data/b", 200), ("data/deep/c", 3000), ("snapshots/d", 40_000)] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("below")).expect("a directory");
            fs::write(path, vec![0; bytes]).expect("a file");
        }
        assert_eq!(NodeBytes::count(dir.path()), NodeBytes { log: 10, data: 3200 });
        assert_eq!(directory_bytes(&dir.path().join("nothing")), 0);
    }

    #[test]
    fn too_little_room_is_told() {
        let dir = std::env::temp_dir();
        let refusal = check(&dir, u64::MAX / 2).expect_err("no disk is so large");
        assert!(refusal.contains("ask for less"), "{refusal}");
    }
}
