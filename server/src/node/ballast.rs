//! The ballast: a file that takes up disk space, to be given back when there is none.
//! RocksDB needs room to open, and a node that is down deletes nothing. So the file is made while there is room; when the directory cannot
//! be opened for want of it, the file goes and the directory is opened once more. It is made again when there is room again. A file system
//! that cannot preallocate has no ballast, and works without.
//! Invariant: making the ballast leaves at least `disk-reserve` free.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use super::storage::StorageError;

/// Largest ballast; what RocksDB writes when it opens is mostly less.
const BALLAST_BYTES_MAX: u64 = 32 << 20;
/// The ballast is at most `disk-reserve` divided by this: who keeps little free has a small disk.
const RESERVE_DIVISOR: u64 = 4;

/// The file, there or not.
#[derive(Clone, Debug)]
pub struct Ballast {
    path: PathBuf,
}

impl Ballast {
    /// That of a data directory.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self { path: data_dir.join("ballast") }
    }

    /// Opens what needs room; if there is none, once more with that of the ballast. Blocks on the disk.
    /// # Errors
    /// That of the last attempt.
    pub fn open_with_room<T>(&self, mut open: impl FnMut() -> Result<T, StorageError>) -> Result<T, StorageError> {
        match open() {
            Err(error) if error.is_disk_full() => match fs::remove_file(&self.path) {
                Ok(()) => {
                    tracing::warn!(%error, "the disk is full; trying again without the ballast");
                    open()
                }
                Err(_) => Err(error),
            },
            opened => opened,
        }
    }

    /// Makes the ballast if there is room for it, with `free` and `reserve` being the free bytes and those to be kept free. Blocks on the disk.
    /// # Errors
    /// The file system has no room, or does not preallocate; what was made is gone again.
    pub fn make(&self, free: u64, reserve: u64) -> io::Result<()> {
        let wanted = BALLAST_BYTES_MAX.min(reserve / RESERVE_DIVISOR);
        let present = self.path.metadata().map_or(0, |metadata| metadata.len());
        if present >= wanted || free < reserve.saturating_add(wanted - present) {
            return Ok(());
        }
        let file = File::options().create(true).truncate(false).write(true).open(&self.path)?;
        fallocate(&file, FallocateFlags::empty(), 0, wanted).map_err(|error| {
            // What cannot be removed now is taken for a smaller ballast.
            drop(fs::remove_file(&self.path));
            error.into()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    const MB: u64 = 1 << 20;

    #[test]
    fn the_ballast_is_a_part_of_the_reserve_and_made_where_there_is_room() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let ballast = Ballast::new(dir.path());
        let bytes = || ballast.path.metadata().map_or(0, |metadata| metadata.len());
        // Step by step on one directory: free and reserved megabytes, megabytes of ballast after.
        for (free, reserve, expected) in [
            (1000, 0, 0),
            (7, 8, 0),
            (9, 8, 0),
            (10, 8, 2),
            (8, 8, 2),
            (1000, 0, 2),
            (513, 512, 2),
            (541, 512, 2),
            (542, 512, 32),
            (1 << 20, 1 << 19, 32),
            (512, 512, 32),
            (0, 8, 32),
        ] {
            ballast.make(free * MB, reserve * MB).expect("the disk of the tests has room");
            assert_eq!(bytes(), expected * MB, "{free} MB free, {reserve} MB reserved");
        }
        let blocks = ballast.path.metadata().expect("it is there").blocks();
        assert!(blocks * 512 >= 32 * MB, "it takes up {blocks} blocks");
    }

    #[test]
    fn a_full_disk_is_tried_once_more_without_the_ballast() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let ballast = Ballast::new(dir.path());
        let failing = |kind: io::ErrorKind| {
            let error: io::Error = if kind == io::ErrorKind::StorageFull { rustix::io::Errno::NOSPC.into() } else { kind.into() };
            StorageError::Directory { path: dir.path().to_owned(), source: error }
        };
        let check = |failures: &[io::ErrorKind], attempts_expected: usize, opens: bool, stays: bool| {
            let mut attempts = 0;
            let opened = ballast.open_with_room(|| {
                attempts += 1;
                failures.get(attempts - 1).map_or(Ok(()), |kind| Err(failing(*kind)))
            });
            assert_eq!((attempts, opened.is_ok(), ballast.path.exists()), (attempts_expected, opens, stays), "{failures:?}");
        };
        const FULL: io::ErrorKind = io::ErrorKind::StorageFull;
        check(&[FULL], 1, false, false);
        ballast.make(100 * MB, 8 * MB).expect("the disk of the tests has room");
        check(&[], 1, true, true);
        check(&[io::ErrorKind::PermissionDenied], 1, false, true);
        check(&[FULL], 2, true, false);
        ballast.make(100 * MB, 8 * MB).expect("the disk of the tests has room");
        check(&[FULL, FULL], 2, false, false);
    }
}
