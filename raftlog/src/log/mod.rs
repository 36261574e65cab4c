//! The Raft log and hard state of a group, stored on an engine.
//! `LogStore` is what raft reads through `Storage`: recent entries from memory, older ones from the engine. It belongs to the owner of the
//! group and writes nothing. What has to be stored leaves the group as `Persist` and is encoded by `record` for the one log writer.
//! Invariant: for every index from `truncated.index` to the last one the term is known; entries above have no gap.
//! Entries have a column family of their own, in which keys only come at the end and go at the beginning: RocksDB moves its files down
//! without merging them, and a truncation drops whole files. What lies at or below the truncation is nobody's any more, there or not.
//! Keys: group id as u32 BE, then the index as u64 BE for entries, a letter for records: a group is one contiguous range.

mod high_water;
mod record;
mod store;

pub use high_water::{Found, HighWater, Mark};
pub use record::{Durable, Persist, encode_bootstrap, encode_truncation, truncated_range};
pub use store::{LogError, LogStore};

use crate::engine::Cf;

/// Column families of a log engine.
pub const LOG_COLUMN_FAMILIES: &[&str] = &["raft", ENTRIES_NAME];
/// The name of the column family of the entries.
pub const ENTRIES_NAME: &str = "entries";
/// The column family of the hard state, the truncation, and what the node keeps beside them.
pub const LOG_CF: Cf = Cf(0);
/// The column family of the entries.
pub const ENTRIES_CF: Cf = Cf(1);

/// A Raft group of the cluster; 1 is the first. 0 stands for the node itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

/// A place in the log: an index and the term of the entry there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogPosition {
    /// Index of the entry.
    pub index: u64,
    /// Term of the entry.
    pub term: u64,
}

/// Where the log of a new group begins: as if it had been truncated here, so that a blank replica can never be fed the log from the start
/// and always gets a snapshot, with the configuration in it (as TiKV's RAFT_INIT_LOG_INDEX).
pub const INITIAL_POSITION: LogPosition = LogPosition { index: 5, term: 5 };
