//! A small file beside the log engine that remembers how far the log was durable at least.
//! It is written after each sync of the log and never synced itself, so after a crash it holds a lower bound. A log that ends below it has
//! lost its tail: that is corruption, and the node must not vote.
//! Format: index u64 BE, term u64 BE, CRC-32 of both u32 BE. A torn write fails the checksum and counts as no bound.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::LogPosition;

/// The open file.
#[derive(Debug)]
pub struct HighWater {
    file: File,
}

impl HighWater {
    /// Opens or creates the file and reads the bound it holds.
    /// # Errors
    /// Those of opening and reading the file.
    pub fn open(path: &Path) -> std::io::Result<(Self, Option<LogPosition>)> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut record = [0; 20];
        let bound = match file.read_exact_at(&mut record, 0) {
            Ok(()) => decode(&record),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(error),
        };
        Ok((Self { file }, bound))
    }

    /// The log is about to be cut to `position`: a higher bound must not survive that, so this one is durable when it returns.
    /// # Errors
    /// Those of writing and syncing the file.
    pub fn lower(&self, position: LogPosition) -> std::io::Result<()> {
        self.raise(position)?;
        self.file.sync_data().map_err(|error| std::io::Error::new(error.kind(), format!("fdatasync of the high-water mark: {error}")))
    }

    /// Remembers that the log is durable up to `position`.
    /// # Errors
    /// Those of writing the file.
    pub fn raise(&self, position: LogPosition) -> std::io::Result<()> {
        self.file.write_all_at(&encode(position), 0)
    }
}

fn encode(position: LogPosition) -> [u8; 20] {
    let mut record = [0; 20];
    record[..8].copy_from_slice(&position.index.to_be_bytes());
    record[8..16].copy_from_slice(&position.term.to_be_bytes());
    let checksum = crc32fast::hash(&record[..16]);
    record[16..].copy_from_slice(&checksum.to_be_bytes());
    record
}

fn decode(record: &[u8; 20]) -> Option<LogPosition> {
    let number = |at: usize| u64::from_be_bytes(record[at..at + 8].try_into().expect("eight bytes"));
    let position = LogPosition { index: number(0), term: number(8) };
    (encode(position) == *record).then_some(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_survives_reopening_and_a_torn_one_is_ignored() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("high-water");
        let position = LogPosition { index: 9, term: 2 };
        let (file, bound) = HighWater::open(&path).expect("open");
        assert_eq!(bound, None);
        file.raise(position).expect("write");
        assert_eq!(HighWater::open(&path).expect("open").1, Some(position));
        file.file.write_all_at(&[1], 3).expect("write");
        assert_eq!(HighWater::open(&path).expect("open").1, None);
    }
}
