//! An engine with recent changes in memory over another engine.
//! A batch goes into the active layer. A full layer is frozen, and a thread hands its newest versions down to the base as one batch, which
//! it syncs; so keys that are written often cost the base one write, and the base needs no WAL. What was handed down last stays readable
//! in memory until the next layer is frozen.
//! Whoever writes has another redo log: after a crash this engine is at the end of some batch that was handed down, and everything that
//! was written before the last `sync` is there.
//! A view takes the layers and the sequence of one moment together. The base may run ahead of a view when a layer is handed down that was
//! frozen after the view was taken: a snapshot of the base, taken while nothing can be frozen, keeps that out; a cached view has none,
//! notices it, and answers `WouldBlock`.
//! Invariant: layers and base together hold all batches up to the published sequence, and each layer's content is newer than that of the
//! layers and the base below it.

use std::cell::{OnceCell, RefCell};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock, Weak};
use std::thread::JoinHandle;

use bytes::Bytes;

use super::layer::{Layer, Superseded};
use super::merge::Merged;
use super::{Cf, Change, Direction, Engine, EngineError, EngineResult, ExportedFile, Figure, Items, KeyRange, View, ViewKind, WriteBatch};

/// The engine.
pub struct LayeredEngine {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    base: Box<dyn Engine>,
    cf_count: usize,
    /// At this size a layer is frozen, if the one before is handed down. At twice this size the writer waits for that.
    layer_bytes_max: usize,
    current: RwLock<Current>,
    /// Who holds this may write and freeze.
    writer: Mutex<Writer>,
    progress: Mutex<Progress>,
    /// Notified at every change of `progress`.
    changed: Condvar,
    /// The last sequence of the layer whose handing down began last: the base may hold everything up to here.
    base_reaches: AtomicU64,
    /// Rises with every new state.
    generation: AtomicU64,
}

/// What views take.
#[derive(Clone)]
struct State {
    /// Of the newest batch that is visible.
    sequence: u64,
    active: Arc<Layer>,
    /// The layer being handed down.
    frozen: Option<Arc<Layer>>,
    /// The layer handed down last: no newer than the base, and faster.
    clean: Option<Arc<Layer>>,
}

impl State {
    /// Newest first.
    fn layers(&self) -> impl DoubleEndedIterator<Item = &Arc<Layer>> {
        [Some(&self.active), self.frozen.as_ref(), self.clean.as_ref()].into_iter().flatten()
    }
}

struct Current {
    state: Arc<State>,
    /// Earlier states by their sequence, as long as views hold them.
    past: Vec<(u64, Weak<State>)>,
}

struct Writer {
    sequence: u64,
    /// The sequences at which somebody may read, the present one included.
    read: Vec<u64>,
    /// What the last batch superseded in the active layer.
    superseded: Vec<Superseded>,
}

#[derive(Default)]
struct Progress {
    /// The layer to hand down, and the sequence it ends with.
    frozen: Option<(Arc<Layer>, u64)>,
    /// Everything up to this sequence is durable in the base.
    handed_down: u64,
    /// Layers that no state has any more. Their memory is freed by the thread that hands down: it takes long, and nobody waits for that one.
    retired: Vec<Arc<Layer>>,
    /// The base failed: nothing more is written.
    failed: Option<EngineError>,
    closing: bool,
}

impl LayeredEngine {
    /// An engine over `base`, which has `cf_count` column families. Layers are handed down at `layer_bytes_max`; memory holds up to two
    /// layers of twice this size, beside what the base needs to take one over. A view keeps the layers of its moment.
    /// # Panics
    /// Panics if the system has no thread to spare.
    #[must_use]
    pub fn new(base: Box<dyn Engine>, cf_count: usize, layer_bytes_max: usize) -> Self {
        let state = State { sequence: 0, active: Arc::new(Layer::new(cf_count)), frozen: None, clean: None };
        let shared = Arc::new(Shared {
            base,
            cf_count,
            layer_bytes_max,
            current: RwLock::new(Current { state: Arc::new(state), past: Vec::new() }),
            writer: Mutex::new(Writer { sequence: 0, read: vec![0], superseded: Vec::new() }),
            progress: Mutex::default(),
            changed: Condvar::new(),
            base_reaches: AtomicU64::new(0),
            generation: AtomicU64::new(0),
        });
        let thread = std::thread::Builder::new().name("hand-down".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.hand_down()
        });
        Self { shared, thread: Some(thread.expect("the system has a thread to spare")) }
    }
}

impl Drop for LayeredEngine {
    /// What was not handed down is lost, as in a crash: whoever wants it kept has called `sync`.
    fn drop(&mut self) {
        self.shared.progress().closing = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().expect("no holder of this lock panics")
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().expect("no holder of this lock panics")
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&self.current.read().expect("no holder of this lock panics").state)
    }

    /// Makes a new state the current one. Returns the sequences at which somebody may read from now on.
    fn publish(&self, change: impl FnOnce(&mut State)) -> Vec<u64> {
        let mut current = self.current.write().expect("no holder of this lock panics");
        let mut state = State::clone(&current.state);
        change(&mut state);
        let before = std::mem::replace(&mut current.state, Arc::new(state));
        self.generation.fetch_add(1, Ordering::Release);
        let sequence = before.sequence;
        current.past.push((sequence, Arc::downgrade(&before)));
        drop(before);
        // Nobody can take a past state any more, so one without holders is gone for good.
        current.past.retain(|(_, state)| state.strong_count() > 0);
        current.past.iter().map(|(sequence, _)| *sequence).chain([current.state.sequence]).collect()
    }

    /// Waits until the layer being handed down is in the base.
    fn await_base(&self) -> EngineResult<MutexGuard<'_, Progress>> {
        let mut progress = self.progress();
        loop {
            if let Some(error) = &progress.failed {
                return Err(again(error));
            }
            if progress.frozen.is_none() {
                return Ok(progress);
            }
            progress = self.changed.wait(progress).expect("no holder of this lock panics");
        }
    }

    /// Freezes the active layer when none is being handed down.
    fn freeze(&self, writer: &mut Writer, mut progress: MutexGuard<'_, Progress>) {
        assert!(progress.frozen.is_none(), "one layer is handed down at a time");
        let fresh = Arc::new(Layer::new(self.cf_count));
        writer.superseded.clear();
        writer.read = self.publish(|state| {
            let full = std::mem::replace(&mut state.active, fresh);
            progress.frozen = Some((Arc::clone(&full), writer.sequence));
            state.frozen = Some(full);
            progress.retired.extend(state.clean.take());
        });
        drop(progress);
        self.changed.notify_all();
    }

    /// The thread that hands layers down, until the engine is dropped or the base fails.
    fn hand_down(&self) {
        // Those that a reader still had.
        let mut retired: Vec<Arc<Layer>> = Vec::new();
        loop {
            let (layer, sequence) = {
                let mut progress = self.progress();
                loop {
                    if progress.closing {
                        return;
                    }
                    if let Some((layer, sequence)) = &progress.frozen {
                        let next = (Arc::clone(layer), *sequence);
                        retired.append(&mut progress.retired);
                        break next;
                    }
                    progress = self.changed.wait(progress).expect("no holder of this lock panics");
                }
            };
            retired.retain(|layer| Arc::strong_count(layer) > 1);
            self.base_reaches.store(sequence, Ordering::SeqCst);
            let result = self.base.write_synced(&layer.newest());
            drop(layer);
            let mut progress = self.progress();
            match result {
                Ok(()) => {
                    self.publish(|state| state.clean = state.frozen.take());
                    progress.frozen = None;
                    progress.handed_down = sequence;
                }
                Err(error) => progress.failed = Some(error),
            }
            let has_failed = progress.failed.is_some();
            drop(progress);
            self.changed.notify_all();
            if has_failed {
                return;
            }
        }
    }

    /// Everything into the base, with the writer held.
    fn hand_all_down(&self, writer: &mut Writer) -> EngineResult<()> {
        let progress = self.await_base()?;
        if !self.state().active.is_empty() {
            self.freeze(writer, progress);
            drop(self.await_base()?);
        }
        Ok(())
    }

    /// Changes the base itself, durably, when everything before is in it. Older views that have no snapshot of the base are told to come
    /// again.
    fn write_through(&self, change: impl FnOnce(&dyn Engine) -> EngineResult<()>) -> EngineResult<()> {
        let mut writer = self.writer();
        self.hand_all_down(&mut writer)?;
        writer.sequence += 1;
        let sequence = writer.sequence;
        self.base_reaches.store(sequence, Ordering::SeqCst);
        change(self.base.as_ref())?;
        let mut progress = self.progress();
        writer.read = self.publish(|state| {
            state.sequence = sequence;
            progress.retired.extend(state.clean.take());
        });
        progress.handed_down = sequence;
        Ok(())
    }
}

/// The error that ended the engine, for whoever comes next.
fn again(error: &EngineError) -> EngineError {
    match error {
        EngineError::Corruption(text) => EngineError::Corruption(text.clone()),
        EngineError::Io(text) => EngineError::Io(text.clone()),
        EngineError::WouldBlock | EngineError::Locked { .. } => EngineError::Io(error.to_string()),
    }
}

impl Engine for LayeredEngine {
    fn view(&self, kind: ViewKind) -> Box<dyn View + '_> {
        let shared = self.shared.as_ref();
        let base = OnceCell::new();
        // Before the state: what is newer than it looks is taken again, not the other way round.
        let generation = shared.generation.load(Ordering::Acquire);
        let state = if matches!(kind, ViewKind::Snapshot | ViewKind::Bulk) {
            // While this lock is held nothing is frozen, so the base has nothing that the state has not.
            let current = shared.current.read().expect("no holder of this lock panics");
            base.get_or_init(|| shared.base.view(kind));
            Arc::clone(&current.state)
        } else {
            shared.state()
        };
        Box::new(LayeredView { shared, kind, state: RefCell::new((generation, state)), base })
    }

    fn write(&self, batch: &WriteBatch) -> EngineResult<()> {
        let shared = &self.shared;
        if batch.changes.iter().any(|change| matches!(change, Change::DeleteRange(..))) {
            return shared.write_through(|base| base.write_synced(batch));
        }
        let mut writer = shared.writer();
        let mut active = shared.state().active.clone();
        if active.bytes() >= shared.layer_bytes_max {
            let progress = shared.progress();
            if let Some(error) = &progress.failed {
                return Err(again(error));
            }
            let must_wait = active.bytes() >= 2 * shared.layer_bytes_max;
            if progress.frozen.is_none() {
                shared.freeze(&mut writer, progress);
            } else if must_wait {
                drop(progress);
                shared.freeze(&mut writer, shared.await_base()?);
            }
            active = shared.state().active.clone();
        }
        writer.sequence += 1;
        let sequence = writer.sequence;
        active.prune(&writer.superseded, &writer.read);
        writer.superseded = active.write(&batch.changes, sequence, &writer.read);
        writer.read = shared.publish(|state| state.sequence = sequence);
        Ok(())
    }

    fn sync(&self) -> EngineResult<()> {
        let shared = &self.shared;
        let wanted = shared.state().sequence;
        loop {
            {
                let mut progress = shared.progress();
                while progress.failed.is_none() && progress.handed_down < wanted && progress.frozen.is_some() {
                    progress = shared.changed.wait(progress).expect("no holder of this lock panics");
                }
                if let Some(error) = &progress.failed {
                    return Err(again(error));
                }
                if progress.handed_down >= wanted {
                    return Ok(());
                }
            }
            // The writer may freeze the layer itself meanwhile; then that is what is waited for.
            let mut writer = shared.writer();
            let progress = shared.progress();
            if progress.frozen.is_none() && progress.handed_down < wanted {
                shared.freeze(&mut writer, progress);
            }
        }
    }

    fn check(&self) -> EngineResult<()> {
        if let Some(error) = &self.shared.progress().failed {
            return Err(again(error));
        }
        self.shared.base.check()
    }

    fn figures(&self) -> Vec<Figure> {
        let state = self.shared.state();
        let mut figures = self.shared.base.figures();
        figures.push(Figure {
            name: "layer_bytes",
            text: "Memory of recent changes that stand over RocksDB.",
            labels: Vec::new(),
            value: state.layers().map(|layer| layer.bytes()).sum::<usize>() as f64,
            rises: false,
        });
        figures
    }

    fn export(&self, view: &dyn View, range: &KeyRange, dir: &Path) -> EngineResult<Vec<ExportedFile>> {
        self.shared.base.export(view, range, dir)
    }

    fn import(&self, range: &KeyRange, files: &[ExportedFile]) -> EngineResult<()> {
        self.shared.write_through(|base| base.import(range, files))
    }
}

/// Layers and base of one moment, or always the newest.
struct LayeredView<'a> {
    shared: &'a Shared,
    kind: ViewKind,
    /// With its generation.
    state: RefCell<(u64, Arc<State>)>,
    /// Taken when it is first needed; for a snapshot at once.
    base: OnceCell<Box<dyn View + 'a>>,
}

impl LayeredView<'_> {
    /// Makes a view of the newest look at it.
    fn follow(&self) {
        if matches!(self.kind, ViewKind::Latest | ViewKind::CachedLatest) {
            let newest = self.shared.generation.load(Ordering::Acquire);
            if newest != self.state.borrow().0 {
                self.state.replace((newest, self.shared.state()));
            }
        }
    }

    fn base(&self) -> &dyn View {
        let kind = match self.kind {
            ViewKind::Latest | ViewKind::Snapshot | ViewKind::Bulk => self.kind,
            ViewKind::CachedLatest | ViewKind::CachedSnapshot => ViewKind::CachedLatest,
        };
        self.base.get_or_init(|| self.shared.base.view(kind)).as_ref()
    }
}

impl View for LayeredView<'_> {
    fn get(&self, cf: Cf, key: &[u8]) -> EngineResult<Option<Bytes>> {
        self.follow();
        let (_, state) = &*self.state.borrow();
        if let Some(change) = state.layers().find_map(|layer| layer.get(cf, key, state.sequence)) {
            return Ok(change);
        }
        let found = self.base().get(cf, key)?;
        if self.kind == ViewKind::CachedSnapshot && self.shared.base_reaches.load(Ordering::SeqCst) > state.sequence {
            return Err(EngineError::WouldBlock);
        }
        Ok(found)
    }

    fn items(&self, cf: Cf, range: &KeyRange, direction: Direction) -> Items<'_> {
        if matches!(self.kind, ViewKind::CachedLatest | ViewKind::CachedSnapshot) {
            return Box::new(std::iter::once(Err(EngineError::WouldBlock)));
        }
        if range.from >= range.to {
            return Box::new(std::iter::empty());
        }
        self.follow();
        let state = Arc::clone(&self.state.borrow().1);
        // The clean layer holds nothing that the base has not.
        let layers = [state.frozen.as_ref(), Some(&state.active)].into_iter().flatten();
        let mut items = layers.fold(self.base().items(cf, range, direction), |below, layer| {
            Box::new(Merged::new(layer.items(cf, range, direction, state.sequence), below, direction))
        });
        // As long as the iteration holds the state, the layers keep its versions.
        Box::new(std::iter::from_fn(move || {
            let _held = &state;
            items.next()
        }))
    }
}

#[cfg(test)]
mod tests;
