//! An engine in memory, for tests and the simulator.
//! Batches written since the last sync are kept apart, so that a simulated crash can lose any suffix of them, as a power cut does.
//! Views share the state by reference count; a write while a view lives copies the maps, which is fine for the sizes of tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Buf, BufMut, Bytes};

use super::{Cf, Change, Direction, Engine, EngineError, EngineResult, ExportedFile, Items, KeyRange, View, ViewKind, WriteBatch};

type Families = Vec<BTreeMap<Bytes, Bytes>>;

/// An in-memory engine.
pub struct MemoryEngine {
    state: Mutex<State>,
}

struct State {
    /// All batches applied.
    current: Arc<Families>,
    /// All batches up to the last sync applied.
    durable: Arc<Families>,
    /// The batches in between, oldest first.
    unsynced: Vec<WriteBatch>,
}

impl MemoryEngine {
    /// An empty engine with that many column families.
    #[must_use]
    pub fn new(cf_count: usize) -> Self {
        let families = vec![BTreeMap::new(); cf_count];
        let families = Arc::new(families);
        Self { state: Mutex::new(State { current: Arc::clone(&families), durable: families, unsynced: Vec::new() }) }
    }

    /// How many batches a crash could lose.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.lock().unsynced.len()
    }

    /// Loses all unsynced batches but the first `kept`.
    pub fn crash(&self, kept: usize) {
        self.sync_first(kept);
        let mut state = self.lock();
        state.unsynced.clear();
        state.current = Arc::clone(&state.durable);
    }

    /// Makes the oldest `count` unsynced batches durable.
    pub fn sync_first(&self, count: usize) {
        let mut state = self.lock();
        let State { durable, unsynced, .. } = &mut *state;
        let durable = Arc::make_mut(durable);
        for batch in unsynced.drain(..count.min(unsynced.len())) {
            apply(durable, &batch);
        }
    }

    /// What a crash that loses all unsynced batches would leave.
    #[must_use]
    pub fn durable_view(&self) -> Box<dyn View + '_> {
        Box::new(MemoryView { families: Arc::clone(&self.lock().durable) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

fn apply(families: &mut Families, batch: &WriteBatch) {
    for change in &batch.changes {
        match change {
            Change::Put(cf, key, value) => {
                families[usize::from(cf.0)].insert(key.clone(), value.clone());
            }
            Change::Delete(cf, key) => {
                families[usize::from(cf.0)].remove(key);
            }
            Change::DeleteRange(cf, range) => {
                families[usize::from(cf.0)].retain(|key, _| !(range.from[..] <= key[..] && key[..] < range.to[..]));
            }
        }
    }
}

impl Engine for MemoryEngine {
    fn view(&self, kind: ViewKind) -> Box<dyn View + '_> {
        match kind {
            ViewKind::Latest | ViewKind::CachedLatest => Box::new(LatestView { engine: self }),
            ViewKind::Snapshot | ViewKind::CachedSnapshot | ViewKind::Bulk => {
                Box::new(MemoryView { families: Arc::clone(&self.lock().current) })
            }
        }
    }

    fn write(&self, batch: &WriteBatch) -> EngineResult<()> {
        let mut state = self.lock();
        apply(Arc::make_mut(&mut state.current), batch);
        state.unsynced.push(batch.clone());
        Ok(())
    }

    fn sync(&self) -> EngineResult<()> {
        self.sync_first(usize::MAX);
        Ok(())
    }

    fn forget(&self, cf: Cf, range: &KeyRange) -> EngineResult<()> {
        let mut batch = WriteBatch::default();
        batch.delete_range(cf, range.clone());
        let mut state = self.lock();
        apply(Arc::make_mut(&mut state.current), &batch);
        apply(Arc::make_mut(&mut state.durable), &batch);
        Ok(())
    }

    fn export(&self, view: &dyn View, range: &KeyRange, dir: &Path) -> EngineResult<Vec<ExportedFile>> {
        let mut files = Vec::new();
        let cf_count = u8::try_from(self.lock().current.len()).expect("an engine has fewer than 256 column families");
        for cf in (0..cf_count).map(Cf) {
            let mut contents = Vec::new();
            for item in view.items(cf, range, Direction::Forward) {
                let (key, value) = item?;
                for part in [key, value] {
                    contents.put_u32(u32::try_from(part.len()).expect("keys and values are below 4 GiB"));
                    contents.put_slice(&part);
                }
            }
            if contents.is_empty() {
                continue;
            }
            let path = dir.join(format!("{}.kv", cf.0));
            fs::write(&path, &contents).map_err(|error| EngineError::Io(format!("cannot write {}: {error}", path.display())))?;
            files.push(ExportedFile { cf, path, bytes: contents.len() as u64 });
        }
        Ok(files)
    }

    fn import(&self, range: &KeyRange, files: &[ExportedFile]) -> EngineResult<()> {
        let mut batch = WriteBatch::default();
        let cf_count = u8::try_from(self.lock().current.len()).expect("an engine has fewer than 256 column families");
        for cf in (0..cf_count).map(Cf) {
            batch.delete_range(cf, range.clone());
        }
        for file in files {
            let contents =
                fs::read(&file.path).map_err(|error| EngineError::Io(format!("cannot read {}: {error}", file.path.display())))?;
            let mut rest = Bytes::from(contents);
            while !rest.is_empty() {
                let key = part(&mut rest)?;
                let value = part(&mut rest)?;
                batch.put(file.cf, key, value);
            }
        }
        self.write(&batch)?;
        self.sync()
    }
}

fn part(rest: &mut Bytes) -> EngineResult<Bytes> {
    let cut = || EngineError::Corruption("an exported file is cut short".into());
    let length = rest.try_get_u32().map_err(|_| cut())? as usize;
    if rest.len() < length {
        return Err(cut());
    }
    Ok(rest.split_to(length))
}

/// The state at one moment.
struct MemoryView {
    families: Arc<Families>,
}

impl View for MemoryView {
    fn get(&self, cf: Cf, key: &[u8]) -> EngineResult<Option<Bytes>> {
        Ok(self.families[usize::from(cf.0)].get(key).cloned())
    }

    fn items(&self, cf: Cf, range: &KeyRange, direction: Direction) -> Items<'_> {
        if range.from >= range.to {
            return Box::new(std::iter::empty());
        }
        let bounds = Bytes::copy_from_slice(&range.from)..Bytes::copy_from_slice(&range.to);
        let items = self.families[usize::from(cf.0)].range(bounds).map(|(key, value)| Ok((key.clone(), value.clone())));
        match direction {
            Direction::Forward => Box::new(items),
            Direction::Reverse => Box::new(items.rev()),
        }
    }
}

/// Sees the newest state at every call.
struct LatestView<'a> {
    engine: &'a MemoryEngine,
}

impl View for LatestView<'_> {
    fn get(&self, cf: Cf, key: &[u8]) -> EngineResult<Option<Bytes>> {
        Ok(self.engine.lock().current[usize::from(cf.0)].get(key).cloned())
    }

    fn items(&self, cf: Cf, range: &KeyRange, direction: Direction) -> Items<'_> {
        let view = MemoryView { families: Arc::clone(&self.engine.lock().current) };
        let items: Vec<_> = view.items(cf, range, direction).collect();
        Box::new(items.into_iter())
    }
}
