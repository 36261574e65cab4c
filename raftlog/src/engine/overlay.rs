//! Changes that stand over a view until they are written as one batch.
//! A reader of the overlay sees its changes merged with the view below, so that a command sees what earlier commands of the same log
//! entries did. A savepoint undoes the changes of a command that failed.
//! Invariant: for each key the overlay holds at most one change, the newest; the undo list has what it replaced, oldest first.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::merge::Merged;
use super::{Cf, Direction, EngineResult, Items, KeyRange, View, WriteBatch};

type Changes = BTreeMap<Bytes, Option<Bytes>>;

/// What a change costs in memory beside the bytes of its key and value: its place in the tree, and allocations.
const CHANGE_OVERHEAD_BYTES: usize = 200;

/// Pending changes over a view.
pub struct Overlay<'v> {
    base: &'v dyn View,
    changes: Vec<Changes>,
    undo: Vec<(Cf, Bytes, Option<Option<Bytes>>)>,
    /// What the changes and those in the undo list cost.
    bytes: usize,
}

/// A point in the life of an overlay to which it can return.
#[derive(Clone, Copy, Debug)]
pub struct Savepoint(usize);

impl<'v> Overlay<'v> {
    /// An overlay without changes over `base`, with `cf_count` column families.
    #[must_use]
    pub fn new(base: &'v dyn View, cf_count: usize) -> Self {
        Self { base, changes: vec![Changes::new(); cf_count], undo: Vec::new(), bytes: 0 }
    }

    /// Sets a key.
    pub fn put(&mut self, cf: Cf, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.change(cf, key.into(), Some(value.into()));
    }

    /// Removes a key, present or not.
    pub fn delete(&mut self, cf: Cf, key: impl Into<Bytes>) {
        self.change(cf, key.into(), None);
    }

    /// Marks the present state. Savepoints taken before are no longer valid: commands do not nest.
    pub fn savepoint(&mut self) -> Savepoint {
        for (_, key, before) in self.undo.drain(..) {
            self.bytes -= before.map_or(0, |change| cost(&key, &change));
        }
        Savepoint(0)
    }

    /// Undoes every change since the savepoint.
    pub fn rollback(&mut self, Savepoint(length): Savepoint) {
        while self.undo.len() > length {
            let Some((cf, key, before)) = self.undo.pop() else { break };
            let changes = &mut self.changes[usize::from(cf.0)];
            let undone = match before {
                Some(change) => changes.insert(key.clone(), change),
                None => changes.remove(&key),
            };
            self.bytes -= undone.map_or(0, |change| cost(&key, &change));
        }
    }

    /// Roughly what the changes take in memory. Those that were replaced count until the next savepoint: they are kept as long.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The changes as one batch, sorted by column family and key.
    #[must_use]
    pub fn into_batch(mut self) -> WriteBatch {
        self.take_batch()
    }

    /// Takes the changes as one batch and goes on without any; a reader then sees what the view below shows. Savepoints taken before are no
    /// longer valid.
    pub fn take_batch(&mut self) -> WriteBatch {
        self.undo.clear();
        self.bytes = 0;
        let mut batch = WriteBatch::default();
        for (cf, changes) in (0u8..).map(Cf).zip(&mut self.changes) {
            for (key, value) in std::mem::take(changes) {
                match value {
                    Some(value) => batch.put(cf, key, value),
                    None => batch.delete(cf, key),
                }
            }
        }
        batch
    }

    fn change(&mut self, cf: Cf, key: Bytes, value: Option<Bytes>) {
        self.bytes += cost(&key, &value);
        let before = self.changes[usize::from(cf.0)].insert(key.clone(), value);
        self.undo.push((cf, key, before));
    }
}

fn cost(key: &Bytes, value: &Option<Bytes>) -> usize {
    CHANGE_OVERHEAD_BYTES + key.len() + value.as_ref().map_or(0, Bytes::len)
}

impl View for Overlay<'_> {
    fn get(&self, cf: Cf, key: &[u8]) -> EngineResult<Option<Bytes>> {
        match self.changes[usize::from(cf.0)].get(key) {
            Some(change) => Ok(change.clone()),
            None => self.base.get(cf, key),
        }
    }

    fn items(&self, cf: Cf, range: &KeyRange, direction: Direction) -> Items<'_> {
        if range.from >= range.to {
            return Box::new(std::iter::empty());
        }
        let from = Bytes::copy_from_slice(&range.from);
        let to = Bytes::copy_from_slice(&range.to);
        let changes = self.changes[usize::from(cf.0)].range(from..to).map(|(key, value)| (key.clone(), value.clone()));
        let base = self.base.items(cf, range, direction);
        match direction {
            Direction::Forward => Box::new(Merged::new(changes, base, direction)),
            Direction::Reverse => Box::new(Merged::new(changes.rev(), base, direction)),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::engine::{Engine, MemoryEngine, ViewKind};

    const CF: Cf = Cf(0);

    fn all() -> KeyRange {
        KeyRange { from: vec![0], to: vec![0xff] }
    }

    fn collect(view: &dyn View, direction: Direction) -> Vec<(Bytes, Bytes)> {
        view.items(CF, &all(), direction).map(|item| item.expect("memory does not fail")).collect()
    }

    #[test]
    fn overlay_reads_like_the_engine_after_its_batch() {
        let mut random = SmallRng::seed_from_u64(7);
        for _ in 0..200 {
            let engine = MemoryEngine::new(1);
            let mut below = WriteBatch::default();
            for _ in 0..random.random_range(0..20) {
                below.put(CF, vec![random.random_range(1..30)], vec![1]);
            }
            engine.write(&below).expect("memory does not fail");
            let view = engine.view(ViewKind::Snapshot);
            let below_alone = collect(view.as_ref(), Direction::Forward);
            let mut overlay = Overlay::new(view.as_ref(), 1);
            for round in 0..20u8 {
                let savepoint = overlay.savepoint();
                let before = collect(&overlay, Direction::Forward);
                let key = vec![random.random_range(1..30)];
                if random.random_range(0..2) == 0 {
                    overlay.put(CF, key, vec![round])
                } else {
                    overlay.delete(CF, key)
                }
                if random.random_range(0..3) == 0 {
                    overlay.rollback(savepoint);
                    assert_eq!(collect(&overlay, Direction::Forward), before);
                }
            }
            overlay.savepoint();
            assert_eq!(overlay.bytes(), overlay.changes[0].iter().map(|(key, value)| cost(key, value)).sum::<usize>());
            let forward = collect(&overlay, Direction::Forward);
            let mut reverse = collect(&overlay, Direction::Reverse);
            reverse.reverse();
            assert_eq!(forward, reverse);
            let batch = overlay.take_batch();
            assert_eq!((collect(&overlay, Direction::Forward), overlay.bytes()), (below_alone, 0));
            drop(view);
            engine.write(&batch).expect("memory does not fail");
            assert_eq!(collect(engine.view(ViewKind::Latest).as_ref(), Direction::Forward), forward);
        }
    }
}
