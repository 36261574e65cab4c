//! A small file beside the log engine that remembers what the log held at least: how far it reached, and the vote.
//! It is written after each sync of the log and synced only when it is made or lowered, so after a crash it holds a lower bound. A log that
//! lacks something of it has lost what others rely on: that is corruption, and the node must not vote. In particular the vote is here
//! because a damaged last record of a WAL looks like one that was never finished, and entries alone would not tell that it held a vote.
//! The file is smaller than a sector and is overwritten in place, so bytes that fail their checksum are damage and no torn write.
//! Format, integers u64 BE: index and term of the last entry, term of the hard state, vote; then the CRC-32 of all that as u32 BE.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::LogPosition;

const FIELDS_BYTES: usize = 32;
const RECORD_BYTES: usize = FIELDS_BYTES + 4;

/// What a log holds at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// An entry that is durable; the log does not end before it. Its term is 0 where only the index is known.
    pub last: LogPosition,
    /// Term of the hard state.
    pub term: u64,
    /// Whom the node voted for in that term; 0 for nobody.
    pub vote: u64,
}

/// What is in the file when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// There was no file.
    Nothing,
    /// Bytes that are no mark.
    Damaged,
    /// A mark.
    Mark(Mark),
}

/// The open file.
#[derive(Debug)]
pub struct HighWater {
    file: File,
    /// What the file holds, once it is begun.
    mark: Mark,
}

impl HighWater {
    /// Opens the file, or creates it, and reads what it holds. `begin` must follow before anything else.
    /// # Errors
    /// Those of opening and reading the file.
    pub fn open(path: &Path) -> io::Result<(Self, Found)> {
        let exists = path.try_exists()?;
        if !exists {
            create(path)?;
        }
        let file = File::options().read(true).write(true).open(path)?;
        let mut record = [0; RECORD_BYTES];
        let found = match file.read_exact_at(&mut record, 0) {
            Ok(()) if !exists => Found::Nothing,
            Ok(()) => decode(&record).map_or(Found::Damaged, Found::Mark),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Found::Damaged,
            Err(error) => return Err(error),
        };
        Ok((Self { file, mark: Mark::default() }, found))
    }

    /// The log holds this now, whatever was here before; durable when it returns.
    /// # Errors
    /// Those of writing and syncing the file.
    pub fn begin(&mut self, mark: Mark) -> io::Result<()> {
        self.mark = mark;
        self.write()?;
        self.file.sync_data().map_err(|error| unsynced(&error))
    }

    /// What the file holds, or will once it is written back.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// The log is about to be cut to `position`: a higher bound must not survive that, so this one is durable when it returns.
    /// # Errors
    /// Those of writing and syncing the file.
    pub fn lower(&mut self, position: LogPosition) -> io::Result<()> {
        self.begin(Mark { last: position, ..self.mark })
    }

    /// Remembers that the log is durable up to an entry, and with a term and vote, as far as they are given.
    /// # Errors
    /// Those of writing the file.
    pub fn raise(&mut self, last: Option<LogPosition>, vote: Option<(u64, u64)>) -> io::Result<()> {
        let (term, vote) = vote.unwrap_or((self.mark.term, self.mark.vote));
        let mark = Mark { last: last.unwrap_or(self.mark.last), term, vote };
        if mark == self.mark {
            return Ok(());
        }
        self.mark = mark;
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        self.file.write_all_at(&encode(self.mark), 0)
    }
}

/// A file that is there holds a mark at any time: this one says nothing.
fn create(path: &Path) -> io::Result<()> {
    let new = path.with_extension("new");
    let file = File::create(&new)?;
    file.write_all_at(&encode(Mark::default()), 0)?;
    file.sync_all().map_err(|error| unsynced(&error))?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all().map_err(|error| unsynced(&error)),
        None => Ok(()),
    }
}

fn unsynced(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("fdatasync of the high-water mark: {error}"))
}

fn encode(mark: Mark) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    for (number, place) in [mark.last.index, mark.last.term, mark.term, mark.vote].into_iter().zip(record.chunks_exact_mut(8)) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    let checksum = crc32fast::hash(&record[..FIELDS_BYTES]);
    record[FIELDS_BYTES..].copy_from_slice(&checksum.to_be_bytes());
    record
}

fn decode(record: &[u8; RECORD_BYTES]) -> Option<Mark> {
    let number = |field: usize| u64::from_be_bytes(record[8 * field..8 * field + 8].try_into().expect("eight bytes"));
    let mark = Mark { last: LogPosition { index: number(0), term: number(1) }, term: number(2), vote: number(3) };
    (encode(mark) == *record).then_some(mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark { last: LogPosition { index: 9, term: 2 }, term: 3, vote: 7 };

    #[test]
    fn the_mark_survives_reopening_and_keeps_what_is_not_raised() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("high-water");
        let found = || HighWater::open(&path).expect("open").1;
        let (mut file, nothing) = HighWater::open(&path).expect("open");
        assert_eq!(nothing, Found::Nothing);
        // A crash before the first mark.
        assert_eq!(found(), Found::Mark(Mark::default()));
        file.begin(MARK).expect("write");
        assert_eq!(found(), Found::Mark(MARK));
        file.raise(None, Some((4, 0))).expect("write");
        assert_eq!(found(), Found::Mark(Mark { term: 4, vote: 0, ..MARK }));
        file.raise(Some(LogPosition { index: 11, term: 4 }), None).expect("write");
        file.lower(LogPosition { index: 8, term: 0 }).expect("write");
        assert_eq!(found(), Found::Mark(Mark { last: LogPosition { index: 8, term: 0 }, term: 4, vote: 0 }));
    }

    #[test]
    fn any_damage_is_found() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("high-water");
        let intact = encode(MARK);
        assert_eq!(decode(&intact), Some(MARK));
        let check = |bytes: &[u8]| {
            fs::write(&path, bytes).expect("write");
            assert_eq!(HighWater::open(&path).expect("open").1, Found::Damaged, "{bytes:?}");
        };
        for length in 0..RECORD_BYTES {
            check(&intact[..length]);
        }
        for bit in 0..8 * RECORD_BYTES {
            let mut bytes = intact;
            bytes[bit / 8] ^= 1 << (bit % 8);
            check(&bytes);
        }
        check(&[0; RECORD_BYTES]);
    }

    #[test]
    fn bytes_of_the_mark_do_not_change() {
        let golden = b"\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x07";
        assert_eq!(&encode(MARK)[..FIELDS_BYTES], golden);
    }
}
