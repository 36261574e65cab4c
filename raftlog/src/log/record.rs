//! Records of the log engine, and the batch that makes the output of a group durable.
//! Entry: version byte 1, type byte, term u64 BE, data. Hard state: version byte 1, term, vote, commit. Truncation: version byte 1, index,
//! term. All integers u64 BE. Checksums are RocksDB's.

use bytes::{Buf, BufMut, Bytes};
use raft::eraftpb::{Entry, EntryType, HardState, Message};

use super::{ENTRIES_CF, GroupId, INITIAL_POSITION, LOG_CF, LogPosition};
use crate::engine::{EngineError, EngineResult, KeyRange, WriteBatch};

const VERSION: u8 = 1;

/// What the log writer has to store before it releases `messages` and reports `number` as persisted. Persists are stored in order.
#[derive(Debug, Default)]
pub struct Persist {
    /// The ready this belongs to.
    pub number: u64,
    /// New entries; stored entries from the first of these on are replaced.
    pub entries: Vec<Entry>,
    /// Stored entries above the last new one, or above the reset, that are stale, up to this index; 0 for none.
    pub stale_to: u64,
    /// New hard state.
    pub hard_state: Option<HardState>,
    /// A snapshot was installed: the log is replaced by this truncation.
    pub reset: Option<LogPosition>,
    /// Whether it must be durable before the messages leave. Without it, it may be stored with a later one.
    pub must_sync: bool,
    /// Messages that rely on this and everything before being durable.
    pub messages: Vec<Message>,
}

/// What a stored log says about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Durable {
    /// Hard state; default in a blank replica.
    pub hard_state: HardState,
    /// Where the log begins.
    pub truncated: LogPosition,
    /// Index of the last entry stored, also where it is behind the truncation; 0 for none.
    pub last: u64,
}

impl Persist {
    /// Adds the changes to the batch of the log writer.
    pub fn encode(&self, group: GroupId, batch: &mut WriteBatch) {
        if let Some(position) = self.reset {
            encode_truncation(group, position, batch);
        }
        for entry in &self.entries {
            batch.put(ENTRIES_CF, entry_key(group, entry.index), encode_entry(entry));
        }
        if let Some(last) = self.entries.last().map(|entry| entry.index).or(self.reset.map(|position| position.index)) {
            for index in last + 1..=self.stale_to {
                batch.delete(ENTRIES_CF, entry_key(group, index));
            }
        }
        if let Some(hard_state) = &self.hard_state {
            batch.put(LOG_CF, hard_state_key(group), encode_numbers(&[hard_state.term, hard_state.vote, hard_state.commit]));
        }
    }

    /// Whether there is anything to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.hard_state.is_none() && self.reset.is_none()
    }
}

/// Adds to a batch what lets the log begin after a position.
pub fn encode_truncation(group: GroupId, to: LogPosition, batch: &mut WriteBatch) {
    batch.put(LOG_CF, truncated_key(group), encode_numbers(&[to.index, to.term]));
}

/// The stored entries that nobody wants any more once a truncation is durable.
#[must_use]
pub fn truncated_range(group: GroupId, to: LogPosition) -> KeyRange {
    KeyRange { from: entry_key(group, 0), to: entry_key(group, to.index.saturating_add(1)) }
}

/// Adds to a batch what a new group starts with: a log truncated at `INITIAL_POSITION`, everything before it committed.
pub fn encode_bootstrap(group: GroupId, batch: &mut WriteBatch) {
    let LogPosition { index, term } = INITIAL_POSITION;
    encode_truncation(group, INITIAL_POSITION, batch);
    batch.put(LOG_CF, hard_state_key(group), encode_numbers(&[term, 0, index]));
}

fn key(group: GroupId, letter: u8) -> Vec<u8> {
    [&group.0.to_be_bytes()[..], &[letter]].concat()
}

pub(super) fn entry_key(group: GroupId, index: u64) -> Vec<u8> {
    [&group.0.to_be_bytes()[..], &index.to_be_bytes()].concat()
}

pub(super) fn hard_state_key(group: GroupId) -> Vec<u8> {
    key(group, b'h')
}

pub(super) fn truncated_key(group: GroupId) -> Vec<u8> {
    key(group, b't')
}

/// The index in an entry's key.
pub(super) fn entry_index(key: &[u8]) -> EngineResult<u64> {
    key.last_chunk::<8>().map(|index| u64::from_be_bytes(*index)).ok_or_else(|| corrupt("an entry key"))
}

fn encode_entry(entry: &Entry) -> Bytes {
    let mut record = Vec::with_capacity(10 + entry.data.len());
    record.put_u8(VERSION);
    record.put_u8(match entry.get_entry_type() {
        EntryType::EntryNormal => 0,
        EntryType::EntryConfChange => 1,
        EntryType::EntryConfChangeV2 => 2,
    });
    record.put_u64(entry.term);
    record.put_u32(u32::try_from(entry.context.len()).expect("contexts are small"));
    record.put_slice(&entry.context);
    record.put_slice(&entry.data);
    record.into()
}

pub(super) fn decode_entry(index: u64, mut record: Bytes) -> EngineResult<Entry> {
    let mut entry = Entry { index, ..Entry::default() };
    if record.try_get_u8().ok() != Some(VERSION) {
        return Err(corrupt("an entry's version"));
    }
    entry.set_entry_type(match record.try_get_u8() {
        Ok(0) => EntryType::EntryNormal,
        Ok(1) => EntryType::EntryConfChange,
        Ok(2) => EntryType::EntryConfChangeV2,
        _ => return Err(corrupt("an entry's type")),
    });
    entry.term = record.try_get_u64().map_err(|_| corrupt("an entry's term"))?;
    let context = record.try_get_u32().map_err(|_| corrupt("an entry's context"))? as usize;
    if record.len() < context {
        return Err(corrupt("an entry's context"));
    }
    entry.context = record.split_to(context);
    entry.data = record;
    Ok(entry)
}

pub(super) fn encode_numbers(numbers: &[u64]) -> Vec<u8> {
    let mut record = vec![VERSION];
    for number in numbers {
        record.put_u64(*number);
    }
    record
}

pub(super) fn decode_numbers<const N: usize>(record: &[u8]) -> EngineResult<[u64; N]> {
    if record.len() != 1 + 8 * N || record[0] != VERSION {
        return Err(corrupt("a state record"));
    }
    let mut rest = &record[1..];
    Ok(std::array::from_fn(|_| rest.get_u64()))
}

fn corrupt(what: &str) -> EngineError {
    EngineError::Corruption(format!("the Raft log holds {what} that cannot be read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_records_do_not_change() {
        let mut entry = Entry { index: 7, term: 3, data: Bytes::from_static(b"xy"), context: Bytes::from_static(b"c"), ..Entry::default() };
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        let record = encode_entry(&entry);
        assert_eq!(&record[..], b"\x01\x02\0\0\0\0\0\0\0\x03\0\0\0\x01cxy");
        assert_eq!(decode_entry(7, record).expect("round trip"), entry);
        assert_eq!(entry_key(GroupId(1), 258), b"\0\0\0\x01\0\0\0\0\0\0\x01\x02");
        assert_eq!(truncated_key(GroupId(1)), b"\0\0\0\x01t");
        assert_eq!(encode_numbers(&[1, 2]), b"\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02");
        assert_eq!(decode_numbers::<2>(&encode_numbers(&[1, 2])).expect("round trip"), [1, 2]);
    }

    #[test]
    fn broken_records_are_errors() {
        for record in [&b""[..], b"\x02\0", b"\x01\x09", b"\x01\0\0\0", b"\x01\0\0\0\0\0\0\0\0\x01\xff\xff\xff\xff"] {
            assert!(decode_entry(1, Bytes::copy_from_slice(record)).is_err());
            assert!(decode_numbers::<3>(record).is_err());
        }
    }
}
