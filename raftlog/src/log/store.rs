//! What raft reads through `Storage`: the log of one group.
//! Terms and sizes of all entries and the newest entries are in memory; older entries are read from the engine. New entries are visible to
//! raft at once, before the log writer has stored them, as `RawNode::advance_append_async` asks for.
//! For a follower raft would read as many messages as may be on their way, and everybody would wait for that: so one message is read from
//! the engine when the group allows it, and any further one is put off.
//! Invariant: `meta` has one record for each index from `truncated.index + 1` to the last; `cache` has the newest of these entries, among
//! them all that are not yet both stored and applied.

use std::cell::{Cell, OnceCell};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use super::record::{self, Durable, decode_entry, decode_numbers, entry_index};
use super::{ENTRIES_CF, GroupId, LOG_CF, LogPosition, Mark};
use crate::engine::{Direction, Engine, EngineError, KeyRange, ViewKind};

/// Entries kept in memory so that followers and apply need not read the disk.
const CACHE_BYTES: usize = 32 << 20;
/// What an entry costs beside its data.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// A log that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Entries are missing that were durable once: the node must not vote with this log.
    #[error("the Raft log is damaged: {0}")]
    Damaged(String),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

#[derive(Clone, Copy, Debug)]
struct EntryMeta {
    term: u64,
    /// Bytes of all entries up to this one, counted from where `LogStore::begin_bytes` was 0.
    end_bytes: u64,
}

/// The log of one group.
pub struct LogStore {
    group: GroupId,
    engine: Arc<dyn Engine>,
    hard_state: HardState,
    conf_state: ConfState,
    truncated: LogPosition,
    meta: VecDeque<EntryMeta>,
    /// Bytes of the entries before the first, since the log was opened or reset: what lies between two entries is a difference.
    begin_bytes: u64,
    cache: VecDeque<Entry>,
    cache_bytes: usize,
    /// Highest index known to be stored and applied: up to here the cache may forget.
    settled: u64,
    /// Generated snapshots waiting to be sent, by peer.
    offered_snapshots: BTreeMap<u64, Snapshot>,
    /// The peer that raft wants a snapshot for, until the group picks the wish up.
    wanted_snapshot: Cell<Option<u64>>,
    /// Whether the entries of a message for a follower may be read from the engine.
    may_read: Cell<bool>,
    /// Whether some wait for that.
    has_put_off: Cell<bool>,
    /// The first failure of a read.
    failure: OnceCell<EngineError>,
}

impl LogStore {
    /// Reads the log of a group and checks it against what the rest of the node knows: the applied index and configuration of `data/`, and
    /// the high-water mark, if there is one.
    /// # Errors
    /// `Damaged` when entries are missing; `Engine` when it cannot be read.
    pub fn open(
        engine: Arc<dyn Engine>,
        group: GroupId,
        applied: LogPosition,
        conf_state: ConfState,
        mark: Option<Mark>,
    ) -> Result<Self, LogError> {
        let Durable { hard_state, truncated, .. } = Self::durable(engine.as_ref(), group)?;
        if truncated.index == u64::MAX {
            return Err(LogError::Damaged("it was truncated where no entry can follow".to_owned()));
        }
        let mut store = Self {
            group,
            engine,
            hard_state,
            conf_state,
            truncated,
            meta: VecDeque::new(),
            begin_bytes: 0,
            cache: VecDeque::new(),
            cache_bytes: 0,
            settled: applied.index,
            offered_snapshots: BTreeMap::new(),
            wanted_snapshot: Cell::new(None),
            may_read: Cell::new(false),
            has_put_off: Cell::new(false),
            failure: OnceCell::new(),
        };
        store.load_entries()?;
        store.check(applied, mark)?;
        // Commit-only hard states are not synced, so `data/` may be ahead of them after a crash; raft requires commit >= applied.
        if store.hard_state.commit < applied.index {
            store.hard_state.commit = applied.index;
        }
        Ok(store)
    }

    /// What is stored of a group; defaults in a blank replica.
    /// # Errors
    /// Those of the engine.
    pub fn durable(engine: &dyn Engine, group: GroupId) -> Result<Durable, EngineError> {
        let view = engine.view(ViewKind::Latest);
        let mut durable = Durable::default();
        if let Some(stored) = view.get(LOG_CF, &record::hard_state_key(group))? {
            let [term, vote, commit] = decode_numbers(&stored)?;
            durable.hard_state = HardState { term, vote, commit, ..HardState::default() };
        }
        if let Some(stored) = view.get(LOG_CF, &record::truncated_key(group))? {
            let [index, term] = decode_numbers(&stored)?;
            durable.truncated = LogPosition { index, term };
        }
        if let Some(item) = view.items(ENTRIES_CF, &entries_after(group, 0), Direction::Reverse).next() {
            durable.last = entry_index(&item?.0)?;
        }
        Ok(durable)
    }

    fn load_entries(&mut self) -> Result<(), LogError> {
        let engine = Arc::clone(&self.engine);
        let view = engine.view(ViewKind::Latest);
        for item in view.items(ENTRIES_CF, &entries_after(self.group, self.truncated.index), Direction::Forward) {
            let (key, value) = item?;
            let index = entry_index(&key)?;
            if index != self.last() + 1 {
                return Err(LogError::Damaged(format!("entry {} is missing, {index} is there", self.last() + 1)));
            }
            let entry = decode_entry(index, value)?;
            if entry.term < self.last_position().term {
                return Err(LogError::Damaged(format!("the term falls at entry {index}")));
            }
            self.push(entry);
            while self.cache_bytes > CACHE_BYTES {
                self.forget_oldest();
            }
        }
        Ok(())
    }

    fn check(&self, applied: LogPosition, mark: Option<Mark>) -> Result<(), LogError> {
        let last = self.last();
        let damaged = |what: &str, index: u64| Err(LogError::Damaged(format!("it ends at {last}, but {what} is {index}")));
        if self.hard_state.commit > last {
            return damaged("the commit index", self.hard_state.commit);
        }
        if applied.index > last {
            return damaged("the applied index of the data", applied.index);
        }
        if let Some(mark) = mark {
            self.check_mark(mark)?;
        }
        if applied.index < self.truncated.index {
            let first = self.first();
            return Err(LogError::Damaged(format!("it begins at {first}, but the data was applied up to {} only", applied.index)));
        }
        if applied.index > 0 && self.term_at(applied.index) != Some(applied.term) {
            return Err(LogError::Damaged(format!("entry {} has another term than the data applied", applied.index)));
        }
        Ok(())
    }

    /// Whether the log still holds what was known to be durable.
    fn check_mark(&self, mark: Mark) -> Result<(), LogError> {
        let LogPosition { index, term } = mark.last;
        let last = self.last();
        if index > last {
            return Err(LogError::Damaged(format!("it ends at {last}, but the index known to be durable is {index}")));
        }
        // Before an entry is replaced the mark is lowered; what was truncated since is applied.
        if let Some(found) = self.term_at(index).filter(|found| *found < term) {
            return Err(LogError::Damaged(format!("entry {index} has term {found}, but one of term {term} was durable")));
        }
        let HardState { term, vote, .. } = self.hard_state;
        if term < mark.term || (term == mark.term && mark.vote != 0 && vote != mark.vote) {
            let Mark { term: known_term, vote: known_vote, .. } = mark;
            let text = format!("it has term {term} and vote {vote}, but term {known_term} and vote {known_vote} were durable");
            return Err(LogError::Damaged(text));
        }
        Ok(())
    }

    /// Index of the last entry.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.truncated.index + self.meta.len() as u64
    }

    /// Why an entry could not be read, once that has happened: the node must stop. raft is told to wait meanwhile, since it would take
    /// any other error for a reason to send a snapshot, or panic.
    #[must_use]
    pub fn failure(&self) -> Option<&EngineError> {
        self.failure.get()
    }

    /// Index of the first entry still there.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.truncated.index + 1
    }

    /// Bytes of all entries, roughly as stored.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes_after(self.truncated.index)
    }

    /// Bytes of all entries up to this index, counted like `begin_bytes`. What is truncated counts as its last.
    fn end_bytes(&self, index: u64) -> u64 {
        let Some(at) = index.checked_sub(self.truncated.index + 1) else { return self.begin_bytes };
        let meta = usize::try_from(at).ok().and_then(|at| self.meta.get(at)).or(self.meta.back());
        meta.map_or(self.begin_bytes, |meta| meta.end_bytes)
    }

    /// The last index and its term.
    #[must_use]
    pub fn last_position(&self) -> LogPosition {
        let index = self.last();
        LogPosition { index, term: self.term_at(index).unwrap_or(0) }
    }

    /// Term of the entry at `index`, if the log knows it.
    #[must_use]
    pub fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.truncated.index {
            return Some(self.truncated.term);
        }
        let at = index.checked_sub(self.truncated.index + 1)?;
        self.meta.get(usize::try_from(at).ok()?).map(|meta| meta.term)
    }

    /// Hard state as raft last gave it out, or as it was found at start.
    #[must_use]
    pub fn hard_state(&self) -> &HardState {
        &self.hard_state
    }

    /// Takes over new entries of a ready; from the first of them on, older ones are replaced. Returns up to which index older entries are
    /// now stale in the engine, or 0.
    pub(crate) fn append(&mut self, entries: &[Entry]) -> u64 {
        let Some(first) = entries.first() else { return 0 };
        assert!(first.index > self.truncated.index, "raft replaces no truncated entry");
        assert!(first.index <= self.last() + 1, "raft leaves no gap");
        let old_last = self.last();
        while self.last() >= first.index {
            self.meta.pop_back().expect("the log has an entry at its last index");
            if let Some(entry) = self.cache.pop_back() {
                self.cache_bytes -= entry_bytes(&entry);
            }
        }
        for entry in entries {
            self.push(entry.clone());
        }
        if old_last > self.last() { old_last } else { 0 }
    }

    pub(crate) fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    pub(crate) fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
    }

    /// The log as it is after a snapshot was installed: empty, truncated at the snapshot's position. Returns up to which index entries are
    /// now stale in the engine.
    pub(crate) fn reset(&mut self, position: LogPosition, conf_state: ConfState) -> u64 {
        let old_last = self.last();
        self.truncated = position;
        self.meta.clear();
        self.cache.clear();
        (self.begin_bytes, self.cache_bytes) = (0, 0);
        self.conf_state = conf_state;
        old_last
    }

    /// Forgets the entries up to `index`, which must be applied. Returns where the log begins now, if that is news.
    pub(crate) fn truncate(&mut self, index: u64) -> Option<LogPosition> {
        let term = self.term_at(index)?;
        if index <= self.truncated.index {
            return None;
        }
        while self.truncated.index < index {
            let meta = self.meta.pop_front().expect("the log has the entries it is truncated by");
            self.begin_bytes = meta.end_bytes;
            self.truncated.index += 1;
        }
        self.truncated.term = term;
        while self.cache.front().is_some_and(|entry| entry.index <= index) {
            self.forget_oldest();
        }
        Some(self.truncated)
    }

    /// Bytes of the entries after an index, as far as they are there.
    #[must_use]
    pub fn bytes_after(&self, index: u64) -> usize {
        usize::try_from(self.end_bytes(self.last()) - self.end_bytes(index)).unwrap_or(usize::MAX)
    }

    /// The highest index such that the entries above it hold at most `bytes`.
    #[must_use]
    pub fn index_leaving(&self, bytes: usize) -> u64 {
        if self.bytes() <= bytes {
            return self.truncated.index;
        }
        let above = self.end_bytes(self.last()) - bytes as u64;
        self.first() + self.meta.partition_point(|meta| meta.end_bytes < above) as u64
    }

    /// Entries up to `index` are stored and applied: the cache may forget them when it is full.
    pub(crate) fn settle(&mut self, index: u64) {
        self.settled = self.settled.max(index);
        while self.cache_bytes > CACHE_BYTES && self.cache.front().is_some_and(|entry| entry.index <= self.settled) {
            self.forget_oldest();
        }
    }

    /// The peer raft wants a snapshot for, once.
    pub(crate) fn take_wanted_snapshot(&self) -> Option<u64> {
        self.wanted_snapshot.take()
    }

    /// Allows the entries of one message for a follower to be read from the engine.
    pub(crate) fn allow_read(&self) {
        self.may_read.set(true);
    }

    /// Entries for a follower wait until the group allows another read.
    pub(crate) fn put_off(&self) {
        self.has_put_off.set(true);
    }

    /// Whether entries for a follower wait.
    pub(crate) fn has_put_off(&self) -> bool {
        self.has_put_off.get()
    }

    /// The same; from now on none do.
    pub(crate) fn take_put_off(&self) -> bool {
        self.has_put_off.take()
    }

    /// The first index from which on all entries are in memory.
    pub(crate) fn cached_from(&self) -> u64 {
        self.last() + 1 - self.cache.len() as u64
    }

    /// Offers a generated snapshot for a peer, or takes the last offer back.
    pub(crate) fn offer_snapshot(&mut self, peer: u64, offer: Option<Snapshot>) {
        match offer {
            Some(snapshot) => self.offered_snapshots.insert(peer, snapshot),
            None => self.offered_snapshots.remove(&peer),
        };
    }

    fn push(&mut self, entry: Entry) {
        let bytes = entry_bytes(&entry);
        let end_bytes = self.end_bytes(self.last()) + bytes as u64;
        self.meta.push_back(EntryMeta { term: entry.term, end_bytes });
        self.cache_bytes += bytes;
        self.cache.push_back(entry);
    }

    fn forget_oldest(&mut self) {
        if let Some(entry) = self.cache.pop_front() {
            self.cache_bytes -= entry_bytes(&entry);
        }
    }
}

fn entries_after(group: GroupId, index: u64) -> KeyRange {
    entries_between(group, index + 1, u64::MAX)
}

/// `high` is not in it.
fn entries_between(group: GroupId, low: u64, high: u64) -> KeyRange {
    KeyRange { from: record::entry_key(group, low), to: record::entry_key(group, high) }
}

fn entry_bytes(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + ENTRY_OVERHEAD_BYTES
}

impl Storage for LogStore {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState { hard_state: self.hard_state.clone(), conf_state: self.conf_state.clone() })
    }

    fn entries(&self, low: u64, high: u64, max_size: impl Into<Option<u64>>, context: GetEntriesContext) -> raft::Result<Vec<Entry>> {
        if low < self.first() {
            return Err(StorageError::Compacted.into());
        }
        assert!(high <= self.last() + 1, "raft asks for entries that exist");
        let cached_from = self.cached_from();
        let is_cached = low >= cached_from;
        if !is_cached && context.can_async() && !self.may_read.take() {
            self.put_off();
            return Err(StorageError::LogTemporarilyUnavailable.into());
        }
        let bytes_max = usize::try_from(max_size.into().unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let view = (!is_cached).then(|| self.engine.view(ViewKind::Latest));
        let stored =
            view.iter().flat_map(|view| view.items(ENTRIES_CF, &entries_between(self.group, low, cached_from), Direction::Forward));
        let stored = stored.map(|item| item.and_then(|(key, value)| decode_entry(entry_index(&key)?, value)));
        let skipped = usize::try_from(low.saturating_sub(cached_from)).expect("a position in memory");
        let mut present = stored.chain(self.cache.range(skipped..).cloned().map(Ok));
        let mut entries = Vec::new();
        let mut bytes = 0usize;
        for index in low..high {
            let gone = || EngineError::Corruption(format!("entry {index} of the Raft log is gone"));
            let entry =
                present.next().unwrap_or_else(|| Err(gone())).and_then(|entry| if entry.index == index { Ok(entry) } else { Err(gone()) });
            let entry = entry.map_err(|error| {
                self.failure.get_or_init(|| error);
                raft::Error::Store(StorageError::LogTemporarilyUnavailable)
            })?;
            bytes = bytes.saturating_add(entry_bytes(&entry));
            if !entries.is_empty() && bytes > bytes_max {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        self.term_at(index).ok_or_else(|| {
            let error = if index < self.truncated.index { StorageError::Compacted } else { StorageError::Unavailable };
            error.into()
        })
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        match self.offered_snapshots.get(&to) {
            // An older one would leave a gap between it and the first entry of the log.
            Some(snapshot) if snapshot.get_metadata().index >= request_index.max(self.truncated.index) => Ok(snapshot.clone()),
            _ => {
                self.wanted_snapshot.set(Some(to));
                Err(StorageError::SnapshotTemporarilyUnavailable.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::engine::{MemoryEngine, WriteBatch};
    use crate::log::{LOG_COLUMN_FAMILIES, Persist, encode_truncation};

    const GROUP: GroupId = GroupId(1);

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index, term, data: Bytes::from(format!("{index}/{term}")), ..Entry::default() }
    }

    fn open(engine: &Arc<MemoryEngine>, applied: LogPosition, mark: Option<Mark>) -> Result<LogStore, LogError> {
        let engine: Arc<dyn Engine> = Arc::<MemoryEngine>::clone(engine);
        LogStore::open(engine, GROUP, applied, ConfState::default(), mark)
    }

    fn persist(engine: &MemoryEngine, store: &mut LogStore, entries: Vec<Entry>, commit: u64) {
        let stale_to = store.append(&entries);
        let hard_state = HardState { term: 9, vote: 1, commit, ..HardState::default() };
        let persist = Persist { entries, stale_to, hard_state: Some(hard_state), ..Persist::default() };
        let mut batch = WriteBatch::default();
        persist.encode(GROUP, &mut batch);
        engine.write(&batch).expect("memory does not fail");
    }

    /// A log whose first entries are in the engine alone.
    fn longer_than_the_cache() -> (Arc<MemoryEngine>, LogStore) {
        let engine = Arc::new(MemoryEngine::new(LOG_COLUMN_FAMILIES.len()));
        let mut store = open(&engine, LogPosition::default(), None).expect("blank log");
        let large = |index| Entry { index, term: 1, data: vec![7; 1 << 20].into(), ..Entry::default() };
        persist(&engine, &mut store, (1..=4 + (CACHE_BYTES >> 20) as u64).map(large).collect(), 9);
        store.settle(9);
        (engine, store)
    }

    #[test]
    fn a_replaced_suffix_does_not_come_back() {
        let engine = Arc::new(MemoryEngine::new(LOG_COLUMN_FAMILIES.len()));
        let mut store = open(&engine, LogPosition::default(), None).expect("blank log");
        persist(&engine, &mut store, (1..=9).map(|index| entry(index, 1)).collect(), 3);
        persist(&engine, &mut store, vec![entry(5, 2)], 3);
        for store in [store, open(&engine, LogPosition::default(), None).expect("intact log")] {
            assert_eq!(store.last_position(), LogPosition { index: 5, term: 2 });
            assert_eq!(store.entries(4, 6, None, GetEntriesContext::empty(false)).expect("entries"), [entry(4, 1), entry(5, 2)]);
        }
    }

    #[test]
    fn truncation_keeps_the_term_below_the_first_entry() {
        let engine = Arc::new(MemoryEngine::new(LOG_COLUMN_FAMILIES.len()));
        let mut store = open(&engine, LogPosition::default(), None).expect("blank log");
        persist(&engine, &mut store, (1..=9).map(|index| entry(index, index)).collect(), 9);
        let to = store.truncate(6).expect("there is something to truncate");
        let mut batch = WriteBatch::default();
        encode_truncation(GROUP, to, &mut batch);
        engine.write(&batch).expect("memory does not fail");
        for store in [store, open(&engine, LogPosition { index: 8, term: 8 }, None).expect("intact log")] {
            assert_eq!((store.first(), store.last(), store.term(6).expect("kept")), (7, 9, 6));
            assert!(matches!(store.term(5), Err(raft::Error::Store(StorageError::Compacted))));
            assert!(matches!(store.entries(6, 8, None, GetEntriesContext::empty(false)), Err(raft::Error::Store(StorageError::Compacted))));
        }
    }

    #[test]
    fn a_log_with_missing_entries_is_refused() {
        let engine = Arc::new(MemoryEngine::new(LOG_COLUMN_FAMILIES.len()));
        let mut store = open(&engine, LogPosition::default(), None).expect("blank log");
        persist(&engine, &mut store, (1..=9).map(|index| entry(index, 1)).collect(), 7);
        let refused = |applied, last: Option<LogPosition>| {
            let mark = last.map(|last| Mark { last, ..Mark::default() });
            matches!(open(&engine, applied, mark), Err(LogError::Damaged(_)))
        };
        assert!(!refused(LogPosition { index: 9, term: 1 }, Some(LogPosition { index: 9, term: 1 })));
        assert!(refused(LogPosition { index: 10, term: 1 }, None), "data ahead of the log");
        assert!(refused(LogPosition { index: 9, term: 2 }, None), "data from another history");
        assert!(refused(LogPosition::default(), Some(LogPosition { index: 10, term: 1 })), "tail lost");
        assert!(refused(LogPosition::default(), Some(LogPosition { index: 9, term: 2 })), "an older history came back");
        assert!(!refused(LogPosition::default(), Some(LogPosition { index: 9, term: 0 })), "the term is not known");
        let mut batch = WriteBatch::default();
        batch.delete(ENTRIES_CF, record::entry_key(GROUP, 4));
        engine.write(&batch).expect("memory does not fail");
        assert!(refused(LogPosition::default(), None), "a hole");
        let end = LogPosition { index: u64::MAX, term: 1 };
        let mut batch = WriteBatch::default();
        encode_truncation(GROUP, end, &mut batch);
        engine.write(&batch).expect("memory does not fail");
        assert!(refused(end, None), "no place for an entry");
    }

    #[test]
    fn a_log_that_has_lost_a_vote_is_refused() {
        let engine = Arc::new(MemoryEngine::new(LOG_COLUMN_FAMILIES.len()));
        let mut store = open(&engine, LogPosition::default(), None).expect("blank log");
        persist(&engine, &mut store, vec![entry(1, 1)], 1);
        // The stored hard state: term 9, a vote for 1.
        let check = |term, vote, is_refused: bool| {
            let mark = Mark { last: LogPosition { index: 1, term: 1 }, term, vote };
            assert_eq!(open(&engine, LogPosition::default(), Some(mark)).is_err(), is_refused, "term {term}, vote {vote}");
        };
        check(9, 1, false);
        check(9, 0, false);
        check(8, 3, false);
        check(9, 3, true);
        check(10, 0, true);
        check(10, 1, true);
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_a_failure_of_the_log() {
        let (engine, store) = longer_than_the_cache();
        assert!(store.entries(1, 3, None, GetEntriesContext::empty(false)).is_ok() && store.failure().is_none());
        let mut batch = WriteBatch::default();
        batch.delete(ENTRIES_CF, record::entry_key(GROUP, 1));
        engine.write(&batch).expect("memory does not fail");
        let refused = store.entries(1, 3, None, GetEntriesContext::empty(false));
        assert!(matches!(refused, Err(raft::Error::Store(StorageError::LogTemporarilyUnavailable))), "{refused:?}");
        assert!(matches!(store.failure(), Some(EngineError::Corruption(_))));
    }

    #[test]
    fn entries_are_read_from_disk_and_memory_alike() {
        let (_, store) = longer_than_the_cache();
        let (first, last) = (store.cached_from(), store.last());
        assert!((3..9).contains(&first), "{first}");
        for (low, high) in
            [(1, first), (1, first + 2), (first - 1, first), (first, first), (first, last + 1), (first + 1, last), (2, last + 1)]
        {
            let entries = store.entries(low, high, None, GetEntriesContext::empty(false)).expect("they are there");
            assert!(entries.iter().map(|entry| entry.index).eq(low..high), "{low} to {high}");
        }
    }

    #[test]
    fn what_followers_need_from_the_disk_waits_for_leave() {
        let (_, store) = longer_than_the_cache();
        let read = |low| store.entries(low, low + 1, None, GetEntriesContext::empty(true)).is_ok();
        assert_eq!((read(1), store.take_put_off(), store.take_put_off()), (false, true, false));
        assert_eq!((read(store.last()), store.take_put_off()), (true, false), "that is in memory");
        store.allow_read();
        assert_eq!((read(1), read(2), store.take_put_off()), (true, false, true), "one, and no more");
        assert!(store.failure().is_none(), "waiting is no failure");
    }

    #[test]
    fn entries_respect_the_size_but_give_at_least_one() {
        let engine = Arc::new(MemoryEngine::new(LOG_COLUMN_FAMILIES.len()));
        let mut store = open(&engine, LogPosition::default(), None).expect("blank log");
        persist(&engine, &mut store, (1..=9).map(|index| entry(index, 1)).collect(), 7);
        let count = |size: u64| store.entries(1, 10, Some(size), GetEntriesContext::empty(false)).expect("entries").len();
        assert_eq!([count(0), count(150), count(u64::MAX)], [1, 2, 9]);
        assert_eq!(store.index_leaving(2 * 67), 7);
        let after = |store: &LogStore| [0, 4, 7, 8, 9, 10].map(|index| store.bytes_after(index) / 67);
        assert_eq!((after(&store), store.bytes() / 67), ([9, 5, 2, 1, 0, 0], 9));
        store.truncate(4);
        assert_eq!((after(&store), store.bytes() / 67), ([5, 5, 2, 1, 0, 0], 5));
        assert_eq!([0, 67, 5 * 67, 6 * 67].map(|bytes| store.index_leaving(bytes)), [9, 8, 4, 4]);
        // Entries 8 and 9 are replaced by one.
        persist(&engine, &mut store, vec![entry(8, 2)], 7);
        assert_eq!((after(&store), store.bytes() / 67), ([4, 4, 1, 0, 0, 0], 4));
        store.reset(LogPosition { index: 20, term: 3 }, ConfState::default());
        assert_eq!((store.bytes_after(0), store.bytes(), store.index_leaving(0)), (0, 0, 20));
    }
}
