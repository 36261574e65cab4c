//! The keyspace: typed keys of 16 databases over an ordered engine.
//! Owns what is stored about a key and the structures that must agree with it: expiry records, the scan index, the counters. Leaves to
//! others: what commands mean, when the log's time advances, when a purge or a sweep is proposed.
//! Invariants between calls, for each key of a live namespace: metadata exists exactly when a scan index record does; an expiry record
//! exists exactly when the metadata carries a deadline; a record in `VALUE` exists exactly when the metadata says so; the counters of
//! the database count the keys, and the keys with a deadline.
//! Every change is made by a `Writer` at one place in the log and depends on nothing but the log. Deadlines are absolute, in
//! milliseconds since the Unix epoch; a key whose deadline is not after the log's time does not exist.

pub mod digest;
mod encoding;
mod position;
mod reader;
mod scan;
mod state;
mod writer;

use raftlog::engine::Cf;
pub use raftlog::log::GroupId;

pub use encoding::{KeyType, Metadata, StoredValue, group_range, log_time_key, state_key};
pub use position::{Position, Slot};
pub use reader::{KeyBounds, ReadContext, ReadError, Reader};
pub use scan::ScanPage;
pub use state::{Database, KeyspaceState, REVISION_GAP};
pub use writer::{Lookup, Purged, Swept, WriteError, Writer};

/// Replicated state that belongs to no key: counters, tables; the node's own records start with `raft/`.
pub const STATE: Cf = Cf(0);
/// One record per key: type, deadline, revision, and a short value.
pub const META: Cf = Cf(1);
/// The values of strings that are too long for `META`.
pub const VALUE: Cf = Cf(2);
/// Keys with a deadline, in the order of their deadlines.
pub const EXPIRY: Cf = Cf(3);
/// Keys in the order of SCAN, with their types.
pub const SCAN: Cf = Cf(4);

/// The column families by name, in the order of their `Cf` numbers.
pub const COLUMN_FAMILIES: &[&str] = &["state", "meta", "value", "expiry", "scan"];

/// How many databases SELECT can choose from.
pub const DATABASES: u8 = 16;

/// Longest key, in bytes. A longer one is refused when it would be written, and does not exist when it is read: RocksDB keeps whole keys
/// in its index blocks and copies them when it iterates.
pub const KEY_BYTES_MAX: usize = 64 * 1024;

/// Longest string, in bytes: what a command may produce. A constant and no option, since every replica must decide alike.
pub const STRING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Longest value that stands in the metadata record, in bytes; longer ones have a record of their own, so that TTL and TYPE do not read
/// them.
pub const INLINE_BYTES_MAX: usize = 512;

/// The id under which the keys of a database are stored. Flushing gives the database another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(pub u32);

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use tests::check_invariants;
