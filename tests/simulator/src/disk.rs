//! A disk that loses power: the in-memory engine, and what happens between two of its operations.
//! An engine's promise is that a crash leaves a prefix of the batches written, with at least those before the last sync; a torn record at
//! the end of a write-ahead log is the last batch missing from that prefix. So a crash keeps a random prefix, of the log and of the data
//! independently.
//! A fuse cuts the power in the middle of a longer piece of work: after so many operations every further one fails, and the machine is
//! taken down. An import is many operations, since it is not atomic.
//! Work that takes long in truth, the installation of a snapshot, is recorded first and carried out one operation after the other, so that
//! anything can happen in between.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use raftlog::engine::{
    Cf, Change, Direction, Engine, EngineError, EngineResult, ExportedFile, KeyRange, MemoryEngine, View, ViewKind, WriteBatch,
};

use crate::planted::{Bug, DataFault};

/// Keys written by one operation of an import.
const IMPORT_KEYS_PER_WRITE: usize = 3;

/// One of the two engines of a machine.
pub struct Disk {
    memory: MemoryEngine,
    families: usize,
    /// Operations until the power fails; negative: it does not.
    fuse: AtomicI64,
    fault: Option<DataFault>,
    /// What is recorded instead of being done, while that is so. A mutex since an engine is shared.
    recorded: Mutex<Option<VecDeque<Operation>>>,
}

/// A part of a longer piece of work; a crash comes between two, or loses some.
pub enum Operation {
    /// A write of the node's.
    Write(WriteBatch),
    /// Some keys of an import.
    Import(WriteBatch),
    /// A sync.
    Sync,
}

impl Disk {
    /// An empty disk with that many column families. A planted bug may live in what is written to it.
    pub fn new(families: usize, bug: Option<Bug>, slot: usize) -> Self {
        let fault = bug.and_then(|bug| DataFault::of(bug, slot));
        Self { memory: MemoryEngine::new(families), families, fuse: AtomicI64::new(-1), fault, recorded: Mutex::default() }
    }

    /// The power fails after so many more operations.
    pub fn light_fuse(&self, operations: u32) {
        self.fuse.store(operations.into(), Ordering::Relaxed);
    }

    /// Whether the power has failed.
    pub fn is_dark(&self) -> bool {
        self.fuse.load(Ordering::Relaxed) == 0
    }

    /// The power stays.
    pub fn put_out_fuse(&self) {
        self.fuse.store(-1, Ordering::Relaxed);
    }

    /// The operations of a piece of work that writes and does not read what it wrote; none of them is carried out.
    pub fn record(&self, work: impl FnOnce(&dyn Engine) -> EngineResult<()>) -> EngineResult<VecDeque<Operation>> {
        *self.lock() = Some(VecDeque::new());
        let done = work(self);
        let recorded = self.lock().take().expect("nobody else records");
        done.map(|()| recorded)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<VecDeque<Operation>>> {
        self.recorded.lock().expect("no holder of this lock panics")
    }

    /// Carries out an operation, or records it.
    pub fn carry_out(&self, operation: Operation) -> EngineResult<()> {
        if let Some(recorded) = &mut *self.lock() {
            recorded.push_back(operation);
            return Ok(());
        }
        let batches = match operation {
            Operation::Sync => {
                self.burn()?;
                return self.memory.sync();
            }
            Operation::Write(batch) => match &self.fault {
                Some(fault) => fault.distort(&batch),
                None => vec![batch],
            },
            Operation::Import(batch) => vec![batch],
        };
        batches.iter().try_for_each(|batch| {
            self.burn()?;
            self.memory.write(batch)
        })
    }

    /// Loses what was not synced but for the oldest `kept` batches; the power is back.
    pub fn crash(&self, kept: usize) {
        self.memory.crash(kept);
        self.put_out_fuse();
    }

    /// Batches that a crash could lose.
    pub fn unsynced(&self) -> usize {
        self.memory.unsynced()
    }

    /// Makes the oldest batches durable: a sync that began when there were `count` of them is done.
    pub fn sync_first(&self, count: usize) {
        self.memory.sync_first(count);
    }

    /// What would survive a crash for certain.
    pub fn durable_view(&self) -> Box<dyn View + '_> {
        self.memory.durable_view()
    }

    fn burn(&self) -> EngineResult<()> {
        match self.fuse.load(Ordering::Relaxed) {
            0 => Err(EngineError::Io("the power is gone".into())),
            left if left > 0 => {
                self.fuse.store(left - 1, Ordering::Relaxed);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Engine for Disk {
    fn view(&self, kind: ViewKind) -> Box<dyn View + '_> {
        self.memory.view(kind)
    }

    fn write(&self, batch: &WriteBatch) -> EngineResult<()> {
        self.carry_out(Operation::Write(batch.clone()))
    }

    fn sync(&self) -> EngineResult<()> {
        self.carry_out(Operation::Sync)
    }

    fn forget(&self, cf: Cf, range: &KeyRange) -> EngineResult<()> {
        self.burn()?;
        self.memory.forget(cf, range)
    }

    fn export(&self, view: &dyn View, range: &KeyRange, dir: &Path) -> EngineResult<Vec<ExportedFile>> {
        self.memory.export(view, range, dir)
    }

    fn import(&self, range: &KeyRange, files: &[ExportedFile]) -> EngineResult<()> {
        let staged = MemoryEngine::new(self.families);
        staged.import(range, files)?;
        let view = staged.view(ViewKind::Snapshot);
        for cf in (0..self.families).map(|cf| Cf(u8::try_from(cf).expect("few column families"))) {
            let mut batch = WriteBatch::default();
            batch.delete_range(cf, range.clone());
            for item in view.items(cf, range, Direction::Forward) {
                let (key, value) = item?;
                batch.changes.push(Change::Put(cf, key, value));
                if batch.changes.len() >= IMPORT_KEYS_PER_WRITE {
                    self.carry_out(Operation::Import(std::mem::take(&mut batch)))?;
                }
            }
            self.carry_out(Operation::Import(batch))?;
        }
        self.sync()
    }
}
