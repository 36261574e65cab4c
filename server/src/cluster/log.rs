//! Log files of the processes that a supervisor starts: opened for appending, bounded, and read back for their last words.
//! A file beyond `LOG_BYTES_MAX` becomes `<name>.1` when its process starts, so at most one such file is kept. While a process runs its
//! log is not cut.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::ClusterError;

/// Size at which a log makes room at the next start.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// How much of a log's end is read for its last words.
const TAIL_BYTES_MAX: u64 = 16 << 10;

/// Opens a log for a process about to start.
/// # Errors
/// The file cannot be moved, created or opened.
pub(super) fn open(path: &Path) -> Result<File, ClusterError> {
    let failed = |cause| ClusterError::File { path: path.to_owned(), cause };
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
        let mut older = path.as_os_str().to_owned();
        older.push(".1");
        std::fs::rename(path, older).map_err(failed)?;
    }
    OpenOptions::new().create(true).append(true).open(path).map_err(failed)
}

/// The last line of a log with anything on it, at or after byte `from`, without the program's name in front.
pub(super) fn last_words(path: &Path, from: u64) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(from.max(len.saturating_sub(TAIL_BYTES_MAX)))).ok()?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut tail).ok()?;
    let tail = String::from_utf8_lossy(&tail);
    let line = tail.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.strip_prefix("redraft: ").unwrap_or(line).to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn last_words_are_the_last_full_line_after_the_start() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        assert_eq!(last_words(&path, 0), None);
        let mut file = open(&path).expect("writable");
        file.write_all(b"first\nredraft: port taken\n\n").expect("writable");
        assert_eq!(last_words(&path, 0).as_deref(), Some("port taken"));
        assert_eq!(last_words(&path, 25), None);
        file.write_all(&vec![b'x'; 100_000]).expect("writable");
        assert_eq!(last_words(&path, 0).expect("a line").len() as u64, TAIL_BYTES_MAX);
    }

    #[test]
    fn a_long_log_makes_room() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        open(&path).expect("writable").set_len(LOG_BYTES_MAX + 1).expect("room");
        assert_eq!(open(&path).expect("writable").metadata().expect("exists").len(), 0);
        assert_eq!(std::fs::metadata(dir.path().join("log.1")).expect("kept").len(), LOG_BYTES_MAX + 1);
    }
}
