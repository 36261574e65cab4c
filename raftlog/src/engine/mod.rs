//! Ordered key-value engines: what the Raft log and the keyspace are stored in.
//! An engine owns column families of byte-ordered keys, applies batches atomically and in order, and gives consistent views. It knows
//! neither Raft nor Redis. Three implementations: `RocksEngine` for nodes; `LayeredEngine`, which keeps recent changes in memory over
//! another engine; `MemoryEngine` for tests and the simulator, whose unsynced batches a simulated crash loses.
//! Invariant: after a crash an engine holds a prefix of the batches written, and that prefix contains every batch written before the
//! last `sync` that returned.
//! An engine that has failed once stays failed: nothing here retries a sync (RocksDB background errors; fsync semantics of Linux).

mod files;
mod layer;
mod layered;
mod memory;
mod merge;
mod overlay;
mod rocks;
mod wal;

use std::path::{Path, PathBuf};

use bytes::Bytes;

pub use layered::LayeredEngine;
pub use memory::MemoryEngine;
pub use overlay::{Overlay, Savepoint};
pub use rocks::{Durability, RocksEngine, RocksOptions};
pub use wal::cut_torn_tail;

/// A column family, by its position in the list of names the engine was opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cf(pub u8);

/// A half-open range of keys: `from` included, `to` excluded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// First key of the range.
    pub from: Vec<u8>,
    /// The key after the last of the range.
    pub to: Vec<u8>,
}

impl KeyRange {
    /// The range of all keys that start with `prefix`.
    /// # Panics
    /// Panics if `prefix` is empty or consists of 0xff only: such a range has no upper bound.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Self {
        let to = after_prefix(prefix).expect("a prefix has a byte below 0xff");
        Self { from: prefix.to_vec(), to }
    }
}

/// The first key after all that start with `prefix`; none if it is empty or consists of 0xff only.
#[must_use]
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut after = prefix.to_vec();
    while after.pop_if(|last| *last == u8::MAX).is_some() {}
    *after.last_mut()? += 1;
    Some(after)
}

/// The order of an iteration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Ascending byte order.
    Forward,
    /// Descending byte order.
    Reverse,
}

/// What a view sees and what it may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewKind {
    /// Every read sees the newest batch; consistent only while the reader is also the one writer.
    Latest,
    /// As `Latest`, but a read that would have to touch the disk fails with `EngineError::WouldBlock`.
    CachedLatest,
    /// All reads see the state of the moment the view was taken.
    Snapshot,
    /// As `Snapshot`, but a read that would have to touch the disk fails with `EngineError::WouldBlock`.
    CachedSnapshot,
    /// As `Snapshot`, for reading everything once: what is read takes no room in a cache from what is read often.
    Bulk,
}

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets a key.
    Put(Cf, Bytes, Bytes),
    /// Removes a key, present or not.
    Delete(Cf, Bytes),
    /// Removes all keys of a range.
    DeleteRange(Cf, KeyRange),
}

/// Changes that take effect together or not at all, in the order of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBatch {
    /// The changes; a later one wins over an earlier one of the same key.
    pub changes: Vec<Change>,
}

impl WriteBatch {
    /// Appends a put.
    pub fn put(&mut self, cf: Cf, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.changes.push(Change::Put(cf, key.into(), value.into()));
    }

    /// Appends a deletion.
    pub fn delete(&mut self, cf: Cf, key: impl Into<Bytes>) {
        self.changes.push(Change::Delete(cf, key.into()));
    }

    /// Appends the deletion of a range.
    pub fn delete_range(&mut self, cf: Cf, range: KeyRange) {
        self.changes.push(Change::DeleteRange(cf, range));
    }
}

/// Why an engine could not answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A read of a cached view needs the disk, or the view is too old: run the whole operation again on a `Snapshot`, off the network
    /// threads.
    #[error("the read needs the disk")]
    WouldBlock,
    /// Another process holds the directory.
    #[error("{path} is in use by another process")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Stored bytes fail their checksum or do not make sense: this replica cannot be trusted.
    #[error("corrupt data: {0}")]
    Corruption(String),
    /// The disk or RocksDB failed; the engine must not be used further.
    #[error("storage failed: {0}")]
    Io(String),
}

/// What the system says when the disk has no room.
pub const NO_ROOM: &str = "No space left on device";

impl EngineError {
    /// Whether the disk had no room, which may change.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io(text) if text.contains(NO_ROOM))
    }
}

/// The result of an engine call.
pub type EngineResult<T> = Result<T, EngineError>;

/// The items of an iteration: key and value.
pub type Items<'a> = Box<dyn Iterator<Item = EngineResult<(Bytes, Bytes)>> + 'a>;

/// One consistent state of the engine, for reading.
pub trait View {
    /// The value of a key.
    /// # Errors
    /// `WouldBlock` in a cached view only; `Corruption` and `Io` mean the replica must stop.
    fn get(&self, cf: Cf, key: &[u8]) -> EngineResult<Option<Bytes>>;

    /// The keys of a range with their values, in byte order or against it. Lazy: costs what is consumed, plus one seek.
    /// A cached view answers `WouldBlock` as its first item: iterations go to the blocking pool.
    fn items(&self, cf: Cf, range: &KeyRange, direction: Direction) -> Items<'_>;
}

/// One file of an exported range: sorted keys of one column family, in the engine's own format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedFile {
    /// The column family whose keys the file holds.
    pub cf: Cf,
    /// Where the file lies.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// A figure that an engine tells of itself, for an operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What it is, in Prometheus's way of naming, without a prefix.
    pub name: &'static str,
    /// One sentence.
    pub text: &'static str,
    /// What tells it from others of the same name: label and value.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
    /// Whether it only rises.
    pub rises: bool,
}

/// An ordered key-value engine. All methods may block on the disk, but for cached views.
pub trait Engine: Send + Sync {
    /// A view of the current state. Cheap; holding it long keeps obsolete data alive.
    fn view(&self, kind: ViewKind) -> Box<dyn View + '_>;

    /// Applies a batch atomically. It is visible to later views when this returns, durable after the next `sync`.
    /// # Errors
    /// `Io` or `Corruption`: the engine must not be used further.
    fn write(&self, batch: &WriteBatch) -> EngineResult<()>;

    /// Makes every batch written before this call durable.
    /// # Errors
    /// `Io`: what is durable is now unknown; the process must stop, and never sync again.
    fn sync(&self) -> EngineResult<()>;

    /// Applies a batch and makes it durable, with all before it.
    /// # Errors
    /// Those of `write` and of `sync`.
    fn write_synced(&self, batch: &WriteBatch) -> EngineResult<()> {
        self.write(batch)?;
        self.sync()
    }

    /// Lets go of keys of a range that nobody reads any more, as far as that costs nothing: any of them may be gone afterwards, durably or
    /// not, and any may still be there.
    /// # Errors
    /// `Io` or `Corruption`: the engine must not be used further.
    fn forget(&self, _cf: Cf, _range: &KeyRange) -> EngineResult<()> {
        Ok(())
    }

    /// Tells of a failure in the background of which no call was told yet. May write, but nothing that can be read.
    /// # Errors
    /// `Io` or `Corruption`: the engine must not be used further.
    fn check(&self) -> EngineResult<()> {
        Ok(())
    }

    /// What the engine tells of itself; figures of one name stand together. Takes a lock of its own for a moment.
    fn figures(&self) -> Vec<Figure> {
        Vec::new()
    }

    /// Writes the keys of `range`, of every column family, as of `view`, into new files below `dir`. A column family without keys there
    /// has no file. `view` must be one of this engine's.
    /// # Errors
    /// `Io` when a file cannot be written; what was written so far is the caller's to delete.
    fn export(&self, view: &dyn View, range: &KeyRange, dir: &Path) -> EngineResult<Vec<ExportedFile>>;

    /// Replaces all keys of `range` by the contents of exported files, and makes that durable. Not atomic: a crash in the middle leaves a
    /// mixture, so the caller keeps a durable marker around the call and repeats the call while the marker stands. The files stay.
    /// # Errors
    /// `Io` or `Corruption`; the range is then undefined.
    fn import(&self, range: &KeyRange, files: &[ExportedFile]) -> EngineResult<()>;
}
