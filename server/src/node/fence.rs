//! The fence around a node that has met damage, or could not make durable what it wrote: a file in its directory, with the reason, that keeps
//! a later start from serving and voting. What a read, a compaction or a sync meets, a start need not meet again. Without the fence such a node would come and go, and would vote in
//! between on a disk that has lost something.
//! The process has one data directory, and any thread may meet damage at any time; hence the one global.
//! Invariant: the file goes only with the data (`--rejoin` sets it aside), or by an operator's hand.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The file in the data directory.
pub const FILE_NAME: &str = "damaged";

static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();

/// Says which directory this process has. The first one stays.
pub(super) fn watch(dir: &Path) {
    DIRECTORY.get_or_init(|| dir.to_owned());
}

/// Puts the fence up, before the process ends. A disk that does not take it is left without: the reason is in the log as well.
pub(super) fn put_up(reason: &str) {
    if let Some(dir) = DIRECTORY.get() {
        put_up_in(dir, reason);
    }
}

/// As `put_up`, around a node whose directory is not this process's own.
pub(super) fn put_up_in(dir: &Path, reason: &str) {
    if let Err(error) = write(dir, reason) {
        tracing::error!(%error, "cannot note in the data directory that this node must not be started again: see to it that it is not");
    }
}

fn write(dir: &Path, reason: &str) -> io::Result<()> {
    let mut file = File::create(dir.join(FILE_NAME))?;
    writeln!(file, "{reason}")?;
    file.sync_all()?;
    File::open(dir)?.sync_all()
}

/// Why the directory is fenced; `None` if it is not.
/// # Errors
/// Those of reading the file.
pub(super) fn reason(dir: &Path) -> io::Result<Option<String>> {
    match fs::read(dir.join(FILE_NAME)) {
        Ok(text) => Ok(Some(String::from_utf8_lossy(&text).trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_tells_its_reason_whatever_is_left_of_it() {
        let dir = tempfile::tempdir().expect("temporary directory");
        assert_eq!(reason(dir.path()).expect("read"), None);
        write(dir.path(), "block checksum mismatch").expect("write");
        assert_eq!(reason(dir.path()).expect("read").as_deref(), Some("block checksum mismatch"));
        fs::write(dir.path().join(FILE_NAME), [0xff]).expect("write");
        assert!(reason(dir.path()).expect("read").is_some(), "a damaged one is one");
    }
}
