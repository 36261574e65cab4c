//! One generation of changes in memory, ordered, and readable at any sequence while the next batch is written.
//! A key has versions, each with the sequence of the batch that wrote it. A reader at a sequence sees the newest version that is not
//! later; so it sees a batch whole or not at all, however the batch gets in. Writing holds the lock for a few changes at a time.
//! The layer has one writer, who says which sequences are still read: versions that nobody can see any more go with the next batch, or when
//! their key is written again. Deleted keys stay as versions without a value, since they hide what stands below the layer.
//! Keys are found by hash. Their order is brought up to date when somebody iterates: most keys are written and read by name alone, and in a
//! tree of many keys each comparison on the way down misses the processor's caches.
//! Invariant: the versions of a key have strictly rising sequences, and each but the newest is seen by somebody at its last pruning.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use indexmap::IndexMap;
use indexmap::map::Entry;

use super::{Cf, Change, Direction, KeyRange, WriteBatch};

/// Changes written while the lock is held once: readers wait that long.
const CHANGES_PER_LOCK: usize = 64;
/// Keys that an iteration looks at while the lock is held once, at first and at most: short ones stay cheap.
const PAGE_KEYS: std::ops::RangeInclusive<usize> = 8..=256;
/// What a key costs beside its bytes: its place, with room to grow, and allocations.
const KEY_OVERHEAD_BYTES: usize = 200;
/// What a version costs beside the bytes of its value.
const VERSION_OVERHEAD_BYTES: usize = 64;

/// A value at a sequence; none for a deletion.
#[derive(Debug)]
struct Version {
    sequence: u64,
    value: Option<Bytes>,
}

impl Version {
    fn bytes(&self) -> usize {
        VERSION_OVERHEAD_BYTES + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// The versions of a key.
#[derive(Debug)]
struct Versions {
    newest: Version,
    /// Oldest first.
    older: Vec<Version>,
}

impl Versions {
    /// The value seen at a sequence; `None` if the key was not changed by then.
    fn at(&self, sequence: u64) -> Option<&Option<Bytes>> {
        let older = || self.older.iter().rev().find(|version| version.sequence <= sequence);
        let seen = if self.newest.sequence <= sequence { Some(&self.newest) } else { older() };
        seen.map(|version| &version.value)
    }

    /// Adds a version, or replaces the one of the same batch. Returns the bytes that were replaced.
    fn push(&mut self, version: Version) -> usize {
        let before = std::mem::replace(&mut self.newest, version);
        if before.sequence == self.newest.sequence {
            return before.bytes();
        }
        self.older.push(before);
        0
    }

    /// Drops the versions that none of the `read` sequences sees. Returns their bytes.
    fn prune(&mut self, read: &[u64]) -> usize {
        let mut superseded_at = self.newest.sequence;
        let mut dropped = 0;
        for at in (0..self.older.len()).rev() {
            let begins_at = self.older[at].sequence;
            if read.iter().any(|sequence| (begins_at..superseded_at).contains(sequence)) {
                superseded_at = begins_at;
            } else {
                // What this one superseded is seen no longer than before: `superseded_at` stays.
                dropped += self.older.remove(at).bytes();
            }
        }
        if self.older.is_empty() {
            self.older = Vec::new();
        }
        dropped
    }
}

/// The keys of a column family.
#[derive(Debug, Default)]
struct Family {
    /// In the order of their first change; none is ever removed.
    entries: IndexMap<Bytes, Versions>,
    /// The first entries, by key.
    order: BTreeMap<Bytes, usize>,
}

impl Family {
    /// Adds some of the next entries to the order, which shall hold the first `wanted`. Returns whether it does.
    fn extend_order(&mut self, wanted: usize) -> bool {
        let from = self.order.len();
        for at in (from..wanted).take(CHANGES_PER_LOCK) {
            let (key, _) = self.entries.get_index(at).expect("the entry is there");
            self.order.insert(key.clone(), at);
        }
        self.order.len() >= wanted
    }
}

/// Where a key stands that has a version which may soon be of no use.
#[derive(Debug)]
pub(super) struct Superseded {
    cf: Cf,
    at: usize,
}

/// A generation of changes.
#[derive(Debug)]
pub(super) struct Layer {
    families: RwLock<Vec<Family>>,
    bytes: AtomicUsize,
}

impl Layer {
    pub(super) fn new(cf_count: usize) -> Self {
        Self { families: RwLock::new((0..cf_count).map(|_| Family::default()).collect()), bytes: AtomicUsize::new(0) }
    }

    /// Roughly what it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether nothing was ever written.
    pub(super) fn is_empty(&self) -> bool {
        self.read().iter().all(|family| family.entries.is_empty())
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Family>> {
        self.families.read().expect("no holder of this lock panics")
    }

    fn lock(&self) -> RwLockWriteGuard<'_, Vec<Family>> {
        self.families.write().expect("no holder of this lock panics")
    }

    /// Writes the puts and deletions of a batch at its sequence, which is later than all before. `read` are the sequences that are still
    /// read, or may be from now on. Returns the keys that `prune` should look at when the sequence before is not read any more.
    /// # Panics
    /// Panics at the deletion of a range.
    pub(super) fn write(&self, changes: &[Change], sequence: u64, read: &[u64]) -> Vec<Superseded> {
        let (mut added, mut dropped) = (0, 0);
        let mut superseded = Vec::new();
        for part in changes.chunks(CHANGES_PER_LOCK) {
            let mut families = self.lock();
            for change in part {
                let (cf, key, value) = match change {
                    Change::Put(cf, key, value) => (cf, key, Some(value.clone())),
                    Change::Delete(cf, key) => (cf, key, None),
                    Change::DeleteRange(..) => unreachable!("the engine writes these through"),
                };
                let version = Version { sequence, value };
                added += version.bytes();
                match families[usize::from(cf.0)].entries.entry(key.clone()) {
                    Entry::Occupied(mut entry) => {
                        let versions = entry.get_mut();
                        dropped += versions.push(version) + versions.prune(read);
                        if !versions.older.is_empty() {
                            superseded.push(Superseded { cf: *cf, at: entry.index() });
                        }
                    }
                    Entry::Vacant(place) => {
                        added += KEY_OVERHEAD_BYTES + key.len();
                        place.insert(Versions { newest: version, older: Vec::new() });
                    }
                }
            }
        }
        self.bytes.fetch_add(added, Ordering::Relaxed);
        self.bytes.fetch_sub(dropped, Ordering::Relaxed);
        superseded
    }

    /// Drops versions of these keys that nobody reads any more.
    pub(super) fn prune(&self, superseded: &[Superseded], read: &[u64]) {
        for part in superseded.chunks(CHANGES_PER_LOCK) {
            let mut families = self.lock();
            let dropped: usize = part.iter().map(|place| families[usize::from(place.cf.0)].entries[place.at].prune(read)).sum();
            self.bytes.fetch_sub(dropped, Ordering::Relaxed);
        }
    }

    /// The change of a key as seen at a sequence; `None` if this layer has none.
    pub(super) fn get(&self, cf: Cf, key: &[u8], sequence: u64) -> Option<Option<Bytes>> {
        self.read()[usize::from(cf.0)].entries.get(key).and_then(|versions| versions.at(sequence)).cloned()
    }

    /// The changes of a range as seen at a sequence, which was written completely.
    pub(super) fn items(self: &Arc<Self>, cf: Cf, range: &KeyRange, direction: Direction, sequence: u64) -> LayerItems {
        let family = usize::from(cf.0);
        // What is written from now on is not seen at the sequence.
        let written = self.read()[family].entries.len();
        while !self.lock()[family].extend_order(written) {}
        LayerItems {
            layer: Arc::clone(self),
            cf,
            from: Bound::Included(Bytes::copy_from_slice(&range.from)),
            to: Bound::Excluded(Bytes::copy_from_slice(&range.to)),
            direction,
            sequence,
            page: VecDeque::new(),
            page_keys: *PAGE_KEYS.start(),
            at_end: range.from >= range.to,
        }
    }

    /// The newest version of every key, as one batch.
    pub(super) fn newest(&self) -> WriteBatch {
        let mut batch = WriteBatch::default();
        for (cf, family) in (0u8..).map(Cf).zip(self.read().iter()) {
            let mut entries: Vec<_> = family.entries.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            for (key, versions) in entries {
                match &versions.newest.value {
                    Some(value) => batch.put(cf, key.clone(), value.clone()),
                    None => batch.delete(cf, key.clone()),
                }
            }
        }
        batch
    }
}

/// An iteration over the changes of a layer, which takes the lock once per page.
pub(super) struct LayerItems {
    layer: Arc<Layer>,
    cf: Cf,
    /// What is still to be looked at.
    from: Bound<Bytes>,
    to: Bound<Bytes>,
    direction: Direction,
    sequence: u64,
    page: VecDeque<(Bytes, Option<Bytes>)>,
    page_keys: usize,
    at_end: bool,
}

impl LayerItems {
    fn turn_page(&mut self) {
        let families = self.layer.read();
        let Family { entries, order } = &families[usize::from(self.cf.0)];
        let range = order.range((self.from.clone(), self.to.clone()));
        let (mut seen, mut last) = (0, None);
        let mut look = |(key, at): (&Bytes, &usize)| {
            seen += 1;
            last = Some(key.clone());
            self.page.extend(entries[*at].at(self.sequence).map(|value| (key.clone(), value.clone())));
        };
        match self.direction {
            Direction::Forward => range.take(self.page_keys).for_each(&mut look),
            Direction::Reverse => range.rev().take(self.page_keys).for_each(&mut look),
        }
        self.at_end = seen < self.page_keys;
        self.page_keys = (2 * self.page_keys).min(*PAGE_KEYS.end());
        match (last, self.direction) {
            (Some(last), Direction::Forward) => self.from = Bound::Excluded(last),
            (Some(last), Direction::Reverse) => self.to = Bound::Excluded(last),
            (None, _) => {}
        }
        // An empty range between two excluded bounds would be refused by the tree.
        self.at_end |= matches!((&self.from, &self.to), (Bound::Excluded(from), Bound::Excluded(to)) if from >= to);
    }
}

impl Iterator for LayerItems {
    type Item = (Bytes, Option<Bytes>);

    fn next(&mut self) -> Option<Self::Item> {
        while self.page.is_empty() && !self.at_end {
            self.turn_page();
        }
        self.page.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CF: Cf = Cf(0);

    fn put(key: &'static str, value: u8) -> Change {
        Change::Put(CF, Bytes::from_static(key.as_bytes()), Bytes::from(vec![value]))
    }

    fn value(layer: &Layer, sequence: u64) -> Option<Option<u8>> {
        layer.get(CF, b"k", sequence).map(|value| value.map(|value| value[0]))
    }

    #[test]
    fn a_reader_sees_its_own_sequence() {
        let layer = Layer::new(1);
        layer.write(&[put("k", 1)], 3, &[2]);
        layer.write(&[Change::Delete(CF, Bytes::from_static(b"k"))], 4, &[3]);
        layer.write(&[put("k", 3)], 5, &[3, 4]);
        assert_eq!(
            [2, 3, 4, 5, 9].map(|sequence| value(&layer, sequence)),
            [None, Some(Some(1)), Some(None), Some(Some(3)), Some(Some(3))]
        );
    }

    #[test]
    fn versions_that_nobody_reads_go() {
        let layer = Layer::new(1);
        layer.write(&[put("k", 1)], 1, &[0]);
        let one = layer.bytes();
        for sequence in 2..100 {
            layer.write(&[put("k", 2)], sequence, &[5, sequence - 1]);
            // What is read at 5, what was current, what is new.
            assert!(layer.bytes() <= 3 * one, "{sequence}");
        }
        assert_eq!([5, 98, 99].map(|sequence| value(&layer, sequence)), [Some(Some(2)); 3]);
        let superseded = layer.write(&[put("k", 3), put("k", 4)], 100, &[99]);
        assert_eq!([99, 100].map(|sequence| value(&layer, sequence)), [Some(Some(2)), Some(Some(4))]);
        layer.prune(&superseded, &[100]);
        assert_eq!(layer.bytes(), one, "the next batch makes room for what nobody reads");
        assert_eq!(layer.newest().changes, [put("k", 4)]);
    }

    #[test]
    fn iterations_cross_pages_in_both_directions() {
        let layer = Arc::new(Layer::new(1));
        let keys: Vec<_> = (0..1000u32).map(|number| Bytes::copy_from_slice(&number.to_be_bytes())).collect();
        for (number, key) in keys.iter().enumerate() {
            let sequence = if number % 3 == 0 { 2 } else { 1 };
            layer.write(&[Change::Put(CF, key.clone(), Bytes::new())], sequence, &[1]);
        }
        let range = KeyRange { from: keys[10].to_vec(), to: keys[900].to_vec() };
        let seen = |direction, sequence| -> Vec<Bytes> { layer.items(CF, &range, direction, sequence).map(|(key, _)| key).collect() };
        assert_eq!(seen(Direction::Forward, 2), keys[10..900]);
        let mut reverse = seen(Direction::Reverse, 1);
        reverse.reverse();
        let expected: Vec<_> = (10..900).filter(|number| number % 3 != 0).map(|number| keys[number].clone()).collect();
        assert_eq!(reverse, expected);
        let nothing = KeyRange { from: vec![9], to: vec![9] };
        assert_eq!(layer.items(CF, &nothing, Direction::Forward, 2).count(), 0);
    }
}
