//! Snapshots for other members: all data of one moment, as files.

use std::path::Path;

use bytes::Bytes;
use raft::eraftpb::Snapshot;
use raftlog::engine::{Cf, Direction, Engine, EngineError, EngineResult, Items, KeyRange, NO_ROOM, View, ViewKind};

use super::core::{GROUP, SnapshotContents, read_snapshot_contents};
use super::storage::SnapshotFiles;
use crate::keyspace::group_range;

/// A view whose iterations end when there is no room for what is made of them: a snapshot for another node must not fill this one's disk.
struct WhileRoom<'a> {
    view: &'a dyn View,
    has_room: &'a dyn Fn() -> bool,
}

impl View for WhileRoom<'_> {
    fn get(&self, cf: Cf, key: &[u8]) -> EngineResult<Option<Bytes>> {
        self.view.get(cf, key)
    }

    fn items(&self, cf: Cf, range: &KeyRange, direction: Direction) -> Items<'_> {
        let items = self.view.items(cf, range, direction);
        Box::new(
            items.map(|item| if (self.has_room)() { item } else { Err(EngineError::Io(format!("{NO_ROOM}: less than disk-reserve"))) }),
        )
    }
}

/// Exports the data of one view into a directory, as long as there is room, and describes it for raft.
/// # Errors
/// The engine's, and those of the directory, which the caller deletes then.
pub fn generate_snapshot(data: &dyn Engine, dir: &Path, has_room: &dyn Fn() -> bool) -> Result<(Snapshot, SnapshotFiles), EngineError> {
    let io = |error: std::io::Error| EngineError::Io(format!("{}: {error}", dir.display()));
    if dir.exists() {
        std::fs::remove_dir_all(dir).map_err(io)?;
    }
    std::fs::create_dir_all(dir).map_err(io)?;
    let view = data.view(ViewKind::Bulk);
    let SnapshotContents { position, configuration } = read_snapshot_contents(view.as_ref())?;
    let files = data.export(&WhileRoom { view: view.as_ref(), has_room }, &group_range(GROUP), dir)?;
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

    #[test]
    fn a_snapshot_ends_when_the_disk_is_full() {
        let engine = MemoryEngine::new(COLUMN_FAMILIES.len());
        let mut batch = WriteBatch::default();
        for name in ["a", "b", "c"] {
            batch.put(STATE, state_key(GROUP, name), name);
        }
        engine.write(&batch).expect("memory does not fail");
        let dir = tempfile::tempdir().expect("temporary directory");
        let items = std::cell::Cell::new(0);
        let has_room = |count| {
            items.set(items.get() + 1);
            items.get() <= count
        };
        let generate = |count| {
            items.set(0);
            generate_snapshot(&engine, &dir.path().join("out"), &|| has_room(count))
        };
        let refusal = generate(2).expect_err("there is no room");
        assert!(refusal.is_disk_full() && may_pass(&refusal), "{refusal}");
        generate(3).expect("there is room");
    }
}
