//! Snapshots for other members: all data of one moment, as files.
//! A node that has other work writes and sends them slowly: what waits for a sync of the log waits for the disk, and that goes on with what it
//! was given.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft::eraftpb::Snapshot;
use raftlog::engine::{Cf, Direction, Engine, EngineError, EngineResult, Items, KeyRange, NO_ROOM, View, ViewKind};

use super::core::{GROUP, SnapshotContents, read_snapshot_contents};
use super::handle::Shared;
use super::storage::SnapshotFiles;
use crate::keyspace::group_range;

/// Bytes after which is asked how the node is.
const PIECE_BYTES: usize = 1 << 20;
/// How long a piece takes at least while the node has other work: 64 MiB/s.
const PIECE_TIME_MIN: Duration = Duration::from_micros(15_625);

/// How long a node counts as busy after it has applied something.
const BUSY: Duration = Duration::from_secs(1);

/// How the node is while a snapshot is made.
pub trait Surroundings {
    /// Whether the snapshot may grow: one for another node must not fill this one's disk.
    /// # Errors
    /// Why not: no room, or `WouldBlock` when the data is about to be replaced.
    fn may_go_on(&self) -> EngineResult<()>;
    /// Whether the node had other work since this was last asked.
    fn is_busy(&self) -> bool;
}

/// The node that makes the snapshot.
pub(super) struct Node {
    shared: Arc<Shared>,
    /// The index that was applied when it was last asked for, and when that last had changed.
    applied: Cell<(u64, Option<Instant>)>,
}

impl Node {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, applied: Cell::new((0, None)) }
    }
}

impl Surroundings for Node {
    fn may_go_on(&self) -> EngineResult<()> {
        if self.shared.disk_is_full.load(Ordering::Relaxed) {
            return Err(EngineError::Io(format!("{NO_ROOM}: less than disk-reserve")));
        }
        // Whoever installs waits for the end of this, and clients wait for that.
        if self.shared.installs.load(Ordering::Relaxed) { Err(EngineError::WouldBlock) } else { Ok(()) }
    }

    fn is_busy(&self) -> bool {
        let applied = self.shared.alone.applied.load(Ordering::Relaxed);
        let (before, mut at) = self.applied.get();
        if applied != before {
            // The first look has nothing to compare with.
            at = (before != 0).then(Instant::now);
        }
        self.applied.set((applied, at));
        at.is_some_and(|at| at.elapsed() < BUSY)
    }
}

/// Takes its time for bytes while the node has other work.
#[derive(Debug)]
pub struct Pace {
    /// Bytes of the present piece, and when it began.
    piece_bytes: usize,
    began: Instant,
}

impl Default for Pace {
    fn default() -> Self {
        Self { piece_bytes: 0, began: Instant::now() }
    }
}

impl Pace {
    /// So many bytes more. Blocks while `is_busy`, which is asked once for each piece.
    pub fn advance(&mut self, bytes: usize, is_busy: impl FnOnce() -> bool) {
        self.piece_bytes += bytes;
        if self.piece_bytes >= PIECE_BYTES {
            if is_busy() {
                // A long value is several pieces.
                let pieces = u32::try_from(self.piece_bytes / PIECE_BYTES).unwrap_or(u32::MAX);
                std::thread::sleep((PIECE_TIME_MIN * pieces).saturating_sub(self.began.elapsed()));
            }
            *self = Self::default();
        }
    }
}

/// A view whose iterations take their time, and end when the snapshot may not grow.
struct Considerate<'a> {
    view: &'a dyn View,
    surroundings: &'a dyn Surroundings,
    pace: RefCell<Pace>,
}

impl Considerate<'_> {
    /// Before an item goes on.
    fn consider(&self, bytes: usize) -> EngineResult<()> {
        self.surroundings.may_go_on()?;
        self.pace.borrow_mut().advance(bytes, || self.surroundings.is_busy());
        Ok(())
    }
}

impl View for Considerate<'_> {
    fn get(&self, cf: Cf, key: &[u8]) -> EngineResult<Option<Bytes>> {
        self.view.get(cf, key)
    }

    fn items(&self, cf: Cf, range: &KeyRange, direction: Direction) -> Items<'_> {
        let items = self.view.items(cf, range, direction);
        Box::new(items.map(|item| {
            let (key, value) = item?;
            self.consider(key.len() + value.len())?;
            Ok((key, value))
        }))
    }
}

/// Exports the data of one view into a directory, as the node allows, and describes it for raft.
/// # Errors
/// The engine's, and those of the directory, which the caller deletes then.
pub fn generate_snapshot(data: &dyn Engine, dir: &Path, surroundings: &dyn Surroundings) -> Result<(Snapshot, SnapshotFiles), EngineError> {
    let io = |error: std::io::Error| EngineError::Io(format!("{}: {error}", dir.display()));
    if dir.exists() {
        std::fs::remove_dir_all(dir).map_err(io)?;
    }
    std::fs::create_dir_all(dir).map_err(io)?;
    let view = data.view(ViewKind::Bulk);
    let SnapshotContents { position, configuration } = read_snapshot_contents(view.as_ref())?;
    let considerate = Considerate { view: view.as_ref(), surroundings, pace: RefCell::default() };
    let files = data.export(&considerate, &group_range(GROUP), dir)?;
    let mut snapshot = Snapshot::default();
    let metadata = snapshot.mut_metadata();
    metadata.index = position.index;
    metadata.term = position.term;
    metadata.set_conf_state(configuration);
    Ok((snapshot, SnapshotFiles { dir: dir.to_owned(), files }))
}

#[cfg(test)]
mod tests {
    use raftlog::engine::{MemoryEngine, WriteBatch};

    use super::*;
    use crate::keyspace::{STATE, state_key};
    use crate::node::core::COLUMN_FAMILIES;
    use crate::node::exit::may_pass;

    /// Room for so many items, and always work.
    struct Narrow {
        items: Cell<usize>,
        asked: Cell<usize>,
    }

    impl Surroundings for Narrow {
        fn may_go_on(&self) -> EngineResult<()> {
            let left = self.items.get().checked_sub(1).ok_or_else(|| EngineError::Io(NO_ROOM.to_owned()))?;
            self.items.set(left);
            Ok(())
        }

        fn is_busy(&self) -> bool {
            self.asked.set(self.asked.get() + 1);
            true
        }
    }

    /// An engine with three values of a length.
    fn engine(value_bytes: usize) -> MemoryEngine {
        let engine = MemoryEngine::new(COLUMN_FAMILIES.len());
        let mut batch = WriteBatch::default();
        for name in ["a", "b", "c"] {
            batch.put(STATE, state_key(GROUP, name), vec![b'v'; value_bytes]);
        }
        engine.write(&batch).expect("memory does not fail");
        engine
    }

    fn generate(engine: &MemoryEngine, surroundings: &Narrow) -> Result<(Snapshot, SnapshotFiles), EngineError> {
        let dir = tempfile::tempdir().expect("temporary directory");
        generate_snapshot(engine, &dir.path().join("out"), surroundings)
    }

    #[test]
    fn a_snapshot_ends_when_the_disk_is_full() {
        let engine = engine(1);
        let room = |items| Narrow { items: Cell::new(items), asked: Cell::new(0) };
        let refusal = generate(&engine, &room(2)).expect_err("there is no room");
        assert!(refusal.is_disk_full() && may_pass(&refusal), "{refusal}");
        generate(&engine, &room(3)).expect("there is room");
    }

    #[test]
    fn a_busy_node_takes_its_time() {
        let surroundings = Narrow { items: Cell::new(3), asked: Cell::new(0) };
        let began = Instant::now();
        generate(&engine(PIECE_BYTES), &surroundings).expect("there is room");
        assert_eq!(surroundings.asked.get(), 3, "each piece");
        assert!(began.elapsed() >= 3 * PIECE_TIME_MIN, "{:?}", began.elapsed());
    }
}
