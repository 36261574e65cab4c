//! The torn tail of a RocksDB WAL: finds it before RocksDB reads the file, and cuts it off.
//! After a power cut the file may have the length of a record that was never synced without all of its pages. RocksDB tolerates only a
//! last record that the end of the file cuts short; on other remains it refuses to open, skips records without a word (a zeroed header; a
//! bad length in the last block) or never returns (a plain record whose type reads as a recyclable one, facebook/rocksdb#11968). So the
//! file is judged here first, and RocksDB is given none with a bad record in it.
//! Invariant: only the newest WAL that holds anything is cut, at the start of its first bad record, and only when no intact record
//! follows. A bad record before an intact one, also of a newer WAL, is corruption, and no byte changes. Whether a record that was cut had
//! been acknowledged is not decided here: callers compare what is left with their high-water mark and commit index.
//! A user's value may contain what looks like an intact record, in the middle of a bad one. It counts as one only if its sequence number
//! continues those before, which no user knows.
//! Format: `db/log_format.h` and `db/log_reader.cc` of RocksDB. Its checksum is CRC-32C; `crc32fast`, which we use elsewhere, computes
//! CRC-32 only, hence the crate `crc32c`, which uses the processor's instruction where there is one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{EngineError, EngineResult};

/// A file is a sequence of blocks of this size, the last one shorter.
const BLOCK_BYTES: usize = 32 * 1024;
/// Masked checksum (4), length of the payload (2), type (1), little-endian. A block's last bytes, too few for this, are unused.
const HEADER_BYTES: usize = 7;
/// As above, then the low half of the file's number (4).
const RECYCLABLE_HEADER_BYTES: usize = 11;
/// Where the bytes under the checksum begin: at the type.
const CHECKED_FROM: usize = 6;
/// RocksDB stores a checksum rotated and with this added.
const CHECKSUM_MASK_DELTA: u32 = 0xa282_ead8;
/// Types with this bit are skipped by readers that do not know them.
const IGNORABLE_TYPE: u8 = 0x80;

/// Removes a torn tail from the newest WAL of the directory `path`, which must be this process's own. To be called before RocksDB opens the
/// directory. Reads every WAL once, a block at a time.
/// # Errors
/// `Corruption` when intact records follow a bad one, `Io` otherwise.
pub fn cut_torn_tail(path: &Path) -> EngineResult<()> {
    let failed = |error: io::Error| EngineError::Io(format!("{}: {error}", path.display()));
    // RocksDB creates a WAL before it writes to it, so newer empty files may stand behind the torn one. A file in which nothing is intact
    // becomes empty here, and then the one before it is the newest.
    let mut is_newest = true;
    for wal in filled_wals(path).map_err(failed)? {
        let offset = match File::open(&wal.path).and_then(|file| judge(file, wal.number, Contents::Batches)).map_err(failed)? {
            Verdict::Intact => {
                is_newest = false;
                continue;
            }
            Verdict::Torn { offset } if is_newest => offset,
            Verdict::Torn { offset } | Verdict::Damaged { offset } => return Err(damaged(&wal.path, offset)),
        };
        cut(&wal.path, offset)?;
        is_newest = offset == 0;
    }
    Ok(())
}

/// Removes what stands behind `offset` in a file, durably.
pub(super) fn cut(path: &Path, offset: u64) -> EngineResult<()> {
    let failed = |error: io::Error| EngineError::Io(format!("{}: {error}", path.display()));
    let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len().saturating_sub(offset);
    tracing::warn!(file = %path.display(), offset, bytes, "cutting off what was never completely written");
    file.set_len(offset).map_err(failed)?;
    let unsynced = |error: io::Error| failed(io::Error::new(error.kind(), format!("fsync of a file that was cut: {error}")));
    file.sync_all().map_err(unsynced)
}

/// A file of RocksDB's log format whose bad record at `offset` is not its torn end.
pub(super) fn damaged(file: &Path, offset: u64) -> EngineError {
    EngineError::Corruption(format!("{}: intact records follow the bad one at offset {offset}", file.display()))
}

/// A WAL file that is not empty.
pub(super) struct Wal {
    pub(super) path: PathBuf,
    number: u64,
    pub(super) bytes: u64,
}

/// Newest first.
pub(super) fn filled_wals(directory: &Path) -> io::Result<Vec<Wal>> {
    let mut wals = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Some(number) = entry.file_name().to_str().and_then(wal_number) else { continue };
        let bytes = entry.metadata()?.len();
        if bytes > 0 {
            wals.push(Wal { path: entry.path(), number, bytes });
        }
    }
    wals.sort_unstable_by_key(|wal| std::cmp::Reverse(wal.number));
    Ok(wals)
}

fn wal_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    // `parse` alone would take a sign too.
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// What a WAL file is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Every record is complete.
    Intact,
    /// The record at `offset` is bad, and none after it is intact.
    Torn { offset: u64 },
    /// The record at `offset` is bad, and an intact one follows.
    Damaged { offset: u64 },
}

/// What the records of a file in RocksDB's log format are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contents {
    /// Batches, of a WAL: each says the sequence number of its first change, and how many there are.
    Batches,
    /// Changes of the set of files, of a MANIFEST.
    Edits,
}

/// Reads such a file up to its end, or up to the first intact record after a bad one.
///
/// A record is one whole fragment, or a first, any number of middle ones and a last. As long as nothing is bad, one fragment begins where
/// the one before it ends. A bad one's length is not to be trusted, so from there each offset of the block may be the beginning of the
/// next; each further block begins with a fragment again. Middle and last fragments after a bad one are the rest of a record that has lost
/// its beginning: they are no sign of an intact record.
pub(super) fn judge(mut file: impl Read, number: u64, contents: Contents) -> io::Result<Verdict> {
    let mut records = Records { contents, begun: None, bad: None, damaged: None, plain: false, next_sequence: None };
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    let mut block_offset = 0;
    loop {
        block.clear();
        file.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
        let mut at = 0;
        while at < block.len() && at + HEADER_BYTES <= BLOCK_BYTES {
            let offset = block_offset + at as u64;
            match Fragment::read(&block[at..], number).filter(|fragment| records.admit(fragment, offset)) {
                Some(fragment) => {
                    records.add(fragment, offset);
                    at += fragment.bytes;
                }
                None => {
                    records.break_off(offset);
                    at += 1;
                }
            }
            if let Some(offset) = records.damaged {
                return Ok(Verdict::Damaged { offset });
            }
        }
        if block.len() < BLOCK_BYTES {
            break;
        }
        block_offset += BLOCK_BYTES as u64;
    }
    Ok(match records.first_bad() {
        Some(offset) => Verdict::Torn { offset },
        None => Verdict::Intact,
    })
}

/// How far the records of a file have been followed. All offsets are those where a record begins.
struct Records {
    contents: Contents,
    /// The record whose last fragment is still to come, and the number that comes after it.
    begun: Option<(u64, Option<u64>)>,
    /// The first bad record.
    bad: Option<u64>,
    /// The first bad record, once an intact one has followed.
    damaged: Option<u64>,
    /// Data came with plain headers: such a file was never recycled, and a recyclable header in it is none.
    plain: bool,
    /// The sequence number that comes after the last intact record.
    next_sequence: Option<u64>,
}

impl Records {
    /// The first record that is bad, or will be if nothing continues it.
    fn first_bad(&self) -> Option<u64> {
        self.bad.or(self.begun.map(|(offset, _)| offset))
    }

    /// Whether a fragment is what it looks like.
    fn admit(&self, fragment: &Fragment, offset: u64) -> bool {
        if fragment.recyclable && self.plain {
            return false;
        }
        let begins = matches!(fragment.part, Part::Whole | Part::First);
        let Some(bad) = self.first_bad().filter(|_| begins && self.contents == Contents::Batches) else { return true };
        if !fragment.holds_data {
            // A note inside a record is skipped by RocksDB, and no sign of anything.
            return self.bad.is_none();
        }
        let Some(Numbers { sequence, .. }) = fragment.numbers else { return false };
        // What was lost in between had a number for each change, and a byte at least.
        self.next_sequence.is_none_or(|next| next < sequence && sequence - next <= offset - bad)
    }

    fn add(&mut self, fragment: Fragment, offset: u64) {
        self.plain |= !fragment.recyclable && fragment.holds_data;
        let next = fragment.numbers.map(|Numbers { sequence, count }| sequence.saturating_add(count.into()));
        match fragment.part {
            Part::Whole => {
                self.drop_begun();
                self.end_record(next);
            }
            Part::First => {
                self.drop_begun();
                self.begun = Some((offset, next));
            }
            Part::Middle => {
                if self.begun.is_none() {
                    self.break_off(offset);
                }
            }
            Part::Last => match self.begun.take() {
                Some((_, next)) => self.end_record(next),
                None => self.break_off(offset),
            },
        }
    }

    fn end_record(&mut self, next_sequence: Option<u64>) {
        self.damaged = self.bad;
        self.next_sequence = next_sequence.or(self.next_sequence);
    }

    /// Nothing at `offset` continues the record that was begun, or begins one.
    fn break_off(&mut self, offset: u64) {
        self.drop_begun();
        self.bad.get_or_insert(offset);
    }

    /// The record that was begun, if any, is not complete.
    fn drop_begun(&mut self) {
        self.bad = self.first_bad();
        self.begun = None;
    }
}

/// What a fragment holds of a record.
#[derive(Clone, Copy)]
enum Part {
    Whole,
    First,
    Middle,
    Last,
}

/// A fragment with the right checksum.
#[derive(Clone, Copy)]
struct Fragment {
    part: Part,
    recyclable: bool,
    /// Part of a batch, not a note about the file.
    holds_data: bool,
    /// Of the batch that begins here, if one does.
    numbers: Option<Numbers>,
    /// Header and payload.
    bytes: usize,
}

/// What a batch begins with, little-endian.
#[derive(Clone, Copy)]
struct Numbers {
    /// Of its first change.
    sequence: u64,
    /// How many changes it has; each has a number.
    count: u32,
}

impl Numbers {
    fn read(batch: &[u8]) -> Option<Self> {
        let (sequence, rest) = batch.split_first_chunk()?;
        Some(Self { sequence: u64::from_le_bytes(*sequence), count: u32::from_le_bytes(*rest.first_chunk()?) })
    }
}

impl Fragment {
    /// The fragment at the beginning of `bytes`, which end with the block. A recyclable one of another file is none: a new file may stand on
    /// the remains of an old one.
    fn read(bytes: &[u8], number: u64) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER_BYTES>()?;
        let [c0, c1, c2, c3, l0, l1, kind] = *header;
        let (part, recyclable, holds_data) = match kind {
            1 => (Part::Whole, false, true),
            2 => (Part::First, false, true),
            3 => (Part::Middle, false, true),
            4 => (Part::Last, false, true),
            5 => (Part::Whole, true, true),
            6 => (Part::First, true, true),
            7 => (Part::Middle, true, true),
            8 => (Part::Last, true, true),
            // Notes: compression, sizes of user-defined timestamps (11: recyclable), the WAL before this one (130, 131: recyclable).
            9 | 10 | 130 => (Part::Whole, false, false),
            11 | 131 => (Part::Whole, true, false),
            unknown if unknown & IGNORABLE_TYPE != 0 => (Part::Whole, false, false),
            _ => return None,
        };
        let header_bytes = if recyclable { RECYCLABLE_HEADER_BYTES } else { HEADER_BYTES };
        let fragment = bytes.get(..header_bytes + usize::from(u16::from_le_bytes([l0, l1])))?;
        if recyclable && fragment[HEADER_BYTES..RECYCLABLE_HEADER_BYTES] != number.to_le_bytes()[..4] {
            return None;
        }
        let checksum = masked(crc32c::crc32c(&fragment[CHECKED_FROM..]));
        let begins = holds_data && matches!(part, Part::Whole | Part::First);
        let numbers = if begins { Numbers::read(&fragment[header_bytes..]) } else { None };
        (checksum == u32::from_le_bytes([c0, c1, c2, c3])).then_some(Self { part, recyclable, holds_data, numbers, bytes: fragment.len() })
    }
}

fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(CHECKSUM_MASK_DELTA)
}

/// A record of one fragment, as RocksDB would write it.
#[cfg(test)]
pub(super) fn record(payload: &[u8]) -> Vec<u8> {
    let checked = [&[1], payload].concat();
    let length = u16::try_from(payload.len()).expect("a short payload");
    [&masked(crc32c::crc32c(&checked)).to_le_bytes()[..], &length.to_le_bytes(), &checked].concat()
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, RngExt, SeedableRng};
    use tempfile::TempDir;

    use super::*;
    use crate::engine::{Cf, Direction, Durability, Engine, KeyRange, RocksEngine, RocksOptions, ViewKind, WriteBatch};

    const STATE: Cf = Cf(0);

    fn options() -> RocksOptions {
        RocksOptions {
            column_families: vec!["state"],
            queues: Vec::new(),
            memtable_bytes: 8 << 20,
            block_cache_bytes: 1 << 20,
            durability: Durability::Wal,
        }
    }

    fn newest_wal(directory: &Path) -> Wal {
        filled_wals(directory).expect("readable").into_iter().next().expect("there is a WAL")
    }

    fn random_bytes(seed: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
        bytes
    }

    /// A database with one record in its WAL for each batch, synced. It stays open, so that its files are as a crash would find them.
    struct Live {
        dir: TempDir,
        _engine: RocksEngine,
        wal: Wal,
        /// Where each record ends in the WAL.
        ends: Vec<usize>,
    }

    impl Live {
        fn with_records(value_bytes: &[usize]) -> Self {
            let dir = TempDir::new().expect("temporary directory");
            let engine = RocksEngine::open(dir.path(), &options()).expect("open");
            let mut ends = Vec::new();
            for (number, bytes) in (0u8..).zip(value_bytes) {
                write_synced(&engine, number, random_bytes(u64::from(number), *bytes));
                ends.push(usize::try_from(newest_wal(dir.path()).bytes).expect("fits"));
            }
            let wal = newest_wal(dir.path());
            Self { dir, _engine: engine, wal, ends }
        }

        /// A copy of the files, the WAL changed by `damage`.
        fn crash(&self, damage: impl FnOnce(&mut Vec<u8>)) -> TempDir {
            let copy = TempDir::new().expect("temporary directory");
            for entry in fs::read_dir(self.dir.path()).expect("read") {
                let entry = entry.expect("read");
                fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("copy");
            }
            let mut bytes = self.bytes();
            damage(&mut bytes);
            fs::write(self.wal_in(&copy), bytes).expect("write");
            copy
        }

        fn wal_in(&self, copy: &TempDir) -> PathBuf {
            copy.path().join(self.wal.path.file_name().expect("a file has a name"))
        }

        fn bytes(&self) -> Vec<u8> {
            fs::read(&self.wal.path).expect("read")
        }

        /// Where the last record begins and ends.
        fn last(&self) -> std::ops::Range<usize> {
            self.ends[self.ends.len() - 2]..self.ends[self.ends.len() - 1]
        }

        #[track_caller]
        fn check_opens_with(&self, records: usize, damage: impl FnOnce(&mut Vec<u8>)) {
            let copy = self.crash(damage);
            let engine = RocksEngine::open(copy.path(), &options()).expect("open");
            assert_eq!(numbers(&engine), (0..u8::try_from(records).expect("few records")).collect::<Vec<_>>());
        }

        #[track_caller]
        fn check_loses_only_the_last(&self, damage: impl FnOnce(&mut Vec<u8>)) {
            self.check_opens_with(self.ends.len() - 1, damage);
        }

        #[track_caller]
        fn check_refused(&self, damage: impl FnOnce(&mut Vec<u8>)) {
            let copy = self.crash(damage);
            let before = fs::read(self.wal_in(&copy)).expect("read");
            let refusal = RocksEngine::open(copy.path(), &options()).err();
            assert!(matches!(refusal, Some(EngineError::Corruption(_))), "{refusal:?}");
            assert_eq!(fs::read(self.wal_in(&copy)).expect("read"), before);
        }
    }

    fn write_synced(engine: &RocksEngine, number: u8, value: Vec<u8>) {
        let mut batch = WriteBatch::default();
        batch.put(STATE, vec![number], value);
        engine.write(&batch).expect("write");
        engine.sync().expect("sync");
    }

    /// The numbers of the batches an engine holds.
    fn numbers(engine: &RocksEngine) -> Vec<u8> {
        let all = KeyRange { from: vec![0], to: vec![0xff] };
        let view = engine.view(ViewKind::Snapshot);
        let items = view.items(STATE, &all, Direction::Forward).collect::<Result<Vec<_>, _>>().expect("read");
        for (key, value) in &items {
            assert_eq!(value[..], random_bytes(u64::from(key[0]), value.len()));
        }
        items.into_iter().map(|(key, _)| key[0]).collect()
    }

    #[test]
    fn what_was_synced_is_kept() {
        let live = Live::with_records(&[100, 300, 80_000, 0, 200]);
        live.check_opens_with(5, |_| {});
    }

    #[test]
    fn a_record_cut_short_anywhere_is_dropped() {
        let live = Live::with_records(&[100, 300, 20]);
        for end in live.last() {
            live.check_loses_only_the_last(|bytes| bytes.truncate(end));
        }
    }

    #[test]
    fn a_long_record_cut_short_is_dropped() {
        let live = Live::with_records(&[100, 300, 80_000]);
        let borders = [BLOCK_BYTES, 2 * BLOCK_BYTES].into_iter().flat_map(|border| border - 1..border + HEADER_BYTES + 2);
        for end in borders.chain([live.last().end - 1]) {
            live.check_loses_only_the_last(|bytes| bytes.truncate(end));
        }
    }

    #[test]
    fn a_record_whose_end_is_zero_is_dropped() {
        for value_bytes in [20, 80_000] {
            let live = Live::with_records(&[100, 300, value_bytes]);
            let last = live.last();
            // The random bytes that end the record happen not to be zero, so that one zero is damage.
            let counts =
                [1, 7, 20, 4096, BLOCK_BYTES, 2 * BLOCK_BYTES, last.len() - 8, last.len() - 7, last.len() - 6, last.len() - 1, last.len()];
            for count in counts.into_iter().filter(|count| *count <= last.len()) {
                live.check_loses_only_the_last(|bytes| bytes[last.end - count..].fill(0));
            }
        }
    }

    #[test]
    fn a_record_that_lacks_a_page_is_dropped() {
        const PAGE: usize = 4096;
        let live = Live::with_records(&[100, 300, 80_000]);
        let last = live.last();
        for page in (0..last.end).step_by(PAGE) {
            live.check_loses_only_the_last(|bytes| bytes[page.max(last.start)..(page + PAGE).min(last.end)].fill(0));
        }
        live.check_loses_only_the_last(|bytes| bytes[last.start..last.start + HEADER_BYTES].fill(0));
    }

    #[test]
    fn a_last_record_with_a_flipped_bit_is_dropped() {
        for value_bytes in [20, 80_000] {
            let live = Live::with_records(&[100, 300, value_bytes]);
            let last = live.last();
            let header_bits = (last.start..last.start + HEADER_BYTES).flat_map(|at| (0..8).map(move |bit| (at, bit)));
            for (at, bit) in header_bits.chain([(last.start + HEADER_BYTES, 0), (last.end - 1, 7)]) {
                live.check_loses_only_the_last(|bytes| bytes[at] ^= 1 << bit);
            }
        }
    }

    #[test]
    fn a_value_that_looks_like_a_record_is_none() {
        let batch = |sequence: u64| [&sequence.to_le_bytes()[..], &1u32.to_le_bytes(), b"a change"].concat();
        let imposters = [fragment(1, b""), fragment(1, &batch(1)), fragment(1, &batch(1 << 40)), fragment(200, b"x"), fragment(9, b"x")];
        for imposter in imposters {
            let live = Live::with_records(&[100, 300, 20_000]);
            let middle = live.last().start + 10_000;
            live.check_loses_only_the_last(|bytes| {
                bytes[middle..middle + imposter.len()].copy_from_slice(&imposter);
                bytes[live.last().start + 4096..middle].fill(0);
            });
        }
        // Right behind the intact records, such a record is none either.
        let live = Live::with_records(&[100, 300]);
        let sequence = Numbers::read(&live.bytes()[live.last().start + HEADER_BYTES..]).expect("a batch").sequence;
        let record = fragment(1, &batch(sequence + 2));
        live.check_refused(|bytes| {
            bytes.extend([0; 40]);
            bytes.extend(record);
        });
    }

    #[test]
    fn garbage_after_the_last_record_is_dropped() {
        let live = Live::with_records(&[100, 300, 200]);
        for (seed, count) in (0..).zip([1, 6, 7, 11, 12, 500, BLOCK_BYTES, 3 * BLOCK_BYTES]) {
            live.check_opens_with(3, |bytes| bytes.extend(random_bytes(seed, count)));
            live.check_opens_with(3, |bytes| bytes.resize(bytes.len() + count, 0));
        }
        for kind in (0..14).chain([0x7f, 0x80, 130, 131, 0xff]) {
            live.check_opens_with(3, |bytes| bytes.extend([1, 2, 3, 4, 5, 0, kind].into_iter().chain([0xff; 40])));
        }
    }

    #[test]
    fn a_flipped_bit_before_an_intact_record_is_corruption() {
        for value_bytes in [20, 80_000] {
            let live = Live::with_records(&[100, value_bytes, 300]);
            let (start, end) = (live.ends[0], live.ends[1]);
            let header_bits = (start..start + HEADER_BYTES).flat_map(|at| (0..8).map(move |bit| (at, bit)));
            for (at, bit) in header_bits.chain([(0, 0), (6, 2), (start + HEADER_BYTES, 0), (end - 1, 7)]) {
                live.check_refused(|bytes| bytes[at] ^= 1 << bit);
            }
        }
    }

    #[test]
    fn zeros_before_an_intact_record_are_corruption() {
        let live = Live::with_records(&[100, 40_000, 40_000, 40_000, 300]);
        for block in 0..3 {
            live.check_refused(|bytes| bytes[block * BLOCK_BYTES..][..BLOCK_BYTES].fill(0));
        }
        // RocksDB would skip the whole block without a word: nothing was begun before it, and the next block begins with a record.
        let batch_header_bytes = 19;
        let fitting = BLOCK_BYTES - HEADER_BYTES - batch_header_bytes;
        let live = Live::with_records(&[fitting, fitting, fitting]);
        assert_eq!(live.ends, [BLOCK_BYTES, 2 * BLOCK_BYTES, 3 * BLOCK_BYTES]);
        live.check_refused(|bytes| bytes[BLOCK_BYTES..2 * BLOCK_BYTES].fill(0));
    }

    #[test]
    fn newer_files_without_an_intact_record_do_not_hide_the_torn_one() {
        let live = Live::with_records(&[100, 300, 200]);
        for newer in [vec![], vec![0; 5000], random_bytes(1, 5000)] {
            let copy = live.crash(|bytes| bytes.truncate(live.last().end - 1));
            fs::write(copy.path().join(format!("{:06}.log", live.wal.number + 1)), &newer).expect("write");
            assert_eq!(numbers(&RocksEngine::open(copy.path(), &options()).expect("open")), [0, 1]);
        }
    }

    #[test]
    fn a_torn_file_before_one_with_an_intact_record_is_corruption() {
        let live = Live::with_records(&[100, 300, 200]);
        let copy = live.crash(|bytes| bytes.truncate(live.last().end - 1));
        fs::write(copy.path().join(format!("{:06}.log", live.wal.number + 1)), &live.bytes()[..live.ends[0]]).expect("write");
        let refusal = RocksEngine::open(copy.path(), &options()).err();
        assert!(matches!(refusal, Some(EngineError::Corruption(_))), "{refusal:?}");
    }

    #[test]
    fn the_log_goes_on_after_a_cut() {
        let live = Live::with_records(&[100, 300, 200]);
        let copy = live.crash(|bytes| bytes[live.last()].fill(0));
        for held in 2..5 {
            let engine = RocksEngine::open(copy.path(), &options()).expect("open");
            assert_eq!(numbers(&engine), (0..held).collect::<Vec<_>>());
            write_synced(&engine, held, random_bytes(u64::from(held), 50));
        }
    }

    #[test]
    fn an_open_database_is_left_alone() {
        let live = Live::with_records(&[100, 300]);
        // As a reader may find a file that is being written.
        let unfinished = &live.bytes()[..live.last().end - 1];
        fs::write(&live.wal.path, unfinished).expect("write");
        let refusal = RocksEngine::open(live.dir.path(), &options()).err();
        assert!(matches!(refusal, Some(EngineError::Locked { .. })), "{refusal:?}");
        assert_eq!(live.bytes(), unfinished);
    }

    const NUMBER: u64 = 0x1_0203_0405;

    fn fragment(kind: u8, payload: &[u8]) -> Vec<u8> {
        let recyclable = matches!(kind, 5..=8 | 11 | 131);
        let mut checked = vec![kind];
        if recyclable {
            checked.extend([0x05, 0x04, 0x03, 0x02]);
        }
        checked.extend(payload);
        let mut bytes = masked(crc32c::crc32c(&checked)).to_le_bytes().to_vec();
        bytes.extend(u16::try_from(payload.len()).expect("a short payload").to_le_bytes());
        bytes.extend(checked);
        bytes
    }

    /// Judges a file of fragments of these types, 9 to 13 bytes each; a zero stands for nine zero bytes.
    #[track_caller]
    fn check_kinds(kinds: &[u8], expected: Verdict) {
        let bytes = kinds.iter().flat_map(|kind| if *kind == 0 { vec![0; 9] } else { fragment(*kind, b"xy") }).collect::<Vec<_>>();
        assert_eq!(judge(&bytes[..], NUMBER, Contents::Edits).expect("memory does not fail"), expected);
    }

    #[test]
    fn records_are_followed_over_their_fragments() {
        use Verdict::{Damaged, Intact, Torn};
        check_kinds(&[], Intact);
        check_kinds(&[1, 2, 3, 3, 4, 1, 2, 4], Intact);
        check_kinds(&[5, 6, 7, 8, 5], Intact);
        check_kinds(&[9, 10, 130, 200, 1], Intact);
        check_kinds(&[9, 11, 131, 5], Intact);
        check_kinds(&[1, 2, 3], Torn { offset: 9 });
        check_kinds(&[1, 4], Torn { offset: 9 });
        check_kinds(&[1, 12], Torn { offset: 9 });
        check_kinds(&[1, 2, 0, 3, 4], Torn { offset: 9 });
        check_kinds(&[1, 0, 3, 4, 2, 3], Torn { offset: 9 });
        check_kinds(&[1, 2, 2], Torn { offset: 9 });
        check_kinds(&[1, 2, 1], Damaged { offset: 9 });
        check_kinds(&[1, 2, 2, 4], Damaged { offset: 9 });
        check_kinds(&[1, 0, 2, 3, 4], Damaged { offset: 9 });
        check_kinds(&[1, 0, 4, 1], Damaged { offset: 9 });
        check_kinds(&[1, 2, 10, 4], Damaged { offset: 9 });
        // A plain file has no recyclable records: RocksDB would never return from such a file.
        check_kinds(&[1, 5], Torn { offset: 9 });
        check_kinds(&[1, 5, 1], Damaged { offset: 9 });
    }

    #[test]
    fn recyclable_fragments_of_another_file_do_not_count() {
        let bytes = [fragment(5, b"x"), fragment(5, b"x")].concat();
        assert_eq!(judge(&bytes[..], NUMBER, Contents::Edits).expect("memory does not fail"), Verdict::Intact);
        assert_eq!(judge(&bytes[..], NUMBER + 1, Contents::Edits).expect("memory does not fail"), Verdict::Torn { offset: 0 });
    }

    /// Every single damaged byte is found, and taken for what it is.
    #[test]
    fn each_damaged_byte_is_found() {
        let live = Live::with_records(&[100, 40_000, 10, 80_000]);
        let intact = live.bytes();
        let mut bytes = intact.clone();
        let near_a_header = |at: usize| {
            let since_record = live.ends.iter().rev().find(|end| **end <= at).map_or(at, |end| at - end);
            since_record < 40 || at % BLOCK_BYTES < 40
        };
        for at in (0..intact.len()).filter(|at| near_a_header(*at) || at % 211 == 0) {
            bytes[at] ^= 0x41;
            let start = live.ends.iter().rev().find(|end| **end <= at).map_or(0, |end| *end as u64);
            let expected = if at < live.last().start { Verdict::Damaged { offset: start } } else { Verdict::Torn { offset: start } };
            assert_eq!(judge(&bytes[..], live.wal.number, Contents::Batches).expect("memory does not fail"), expected, "byte {at}");
            bytes[at] = intact[at];
        }
    }

    #[test]
    fn any_bytes_are_judged() {
        for seed in 0..200 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut bytes = vec![0; random.random_range(0..3 * BLOCK_BYTES)];
            for byte in &mut bytes {
                // Few values, so that lengths and types are often plausible.
                *byte = random.random_range(0..14);
            }
            let expected = if bytes.is_empty() { Verdict::Intact } else { Verdict::Torn { offset: 0 } };
            assert_eq!(judge(&bytes[..], 1, Contents::Edits).expect("memory does not fail"), expected, "seed {seed}");
        }
    }

    #[test]
    fn wal_names_are_numbers() {
        assert_eq!(wal_number("000012.log"), Some(12));
        for other in ["+12.log", "12.LOG", "12.sst", "LOG", ".log", "99999999999999999999.log"] {
            assert_eq!(wal_number(other), None, "{other}");
        }
    }
}
