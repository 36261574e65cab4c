//! Reading keys: one view, one database, one moment.
//! Owns what a read may see of expiry. A key whose deadline is not after the log's time does not exist. A key whose deadline is after the
//! log's time but not after the leader's time `now` must not be judged yet: the read fails with `TimeNeeded`, and is repeated once the
//! log's time has passed the deadline. So nobody sees a key again that somebody saw gone.
//! A reader costs nothing to make; what it needs from `STATE` and was not given, it reads when it is first needed.

use std::cell::OnceCell;
use std::ops::Bound;

use bytes::Bytes;
use raftlog::engine::{Direction, EngineError, EngineResult, KeyRange, View};

use super::encoding::{
    Metadata, StoredValue, corruption, decode_log_time, decode_metadata, key_of_record, log_time_key, namespace_range, record_key,
};
use super::state::{Database, KeyspaceState};
use super::{GroupId, KEY_BYTES_MAX, META, Namespace, STATE, UnixMillis, VALUE};

/// Why a read has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log's time must reach this deadline first.
    #[error("a read needs log time {}", .0.0)]
    TimeNeeded(UnixMillis),
    /// The engine's.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// What a reader reads, and what its caller knows already.
#[derive(Clone, Copy)]
pub struct ReadContext<'a> {
    /// The group.
    pub group: GroupId,
    /// The selected database.
    pub db: u8,
    /// The leader's time when the read was confirmed; none if the log's time alone counts: inside apply, and for local reads.
    pub now: Option<UnixMillis>,
    /// The log's time in this view, if known.
    pub log_time: Option<UnixMillis>,
    /// The state of the keyspace in this view, if known. Inside apply it must be given, since the batch does not hold it yet.
    pub state: Option<&'a KeyspaceState>,
    /// A random number, for RANDOMKEY.
    pub seed: u64,
}

/// Reads one database of a view.
pub struct Reader<'a> {
    pub(super) view: &'a dyn View,
    pub(super) context: ReadContext<'a>,
    log_time: OnceCell<UnixMillis>,
    state: OnceCell<KeyspaceState>,
}

/// A range of keys in byte order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyBounds {
    /// Where it begins.
    pub from: Bound<Vec<u8>>,
    /// Where it ends.
    pub to: Bound<Vec<u8>>,
}

impl KeyBounds {
    /// The keys that start with `prefix`; all keys, if it is empty.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Self {
        let mut after = prefix.to_vec();
        while after.last() == Some(&0xff) {
            after.pop();
        }
        let to = match after.last_mut() {
            Some(last) => {
                *last += 1;
                Bound::Excluded(after)
            }
            None => Bound::Unbounded,
        };
        Self { from: Bound::Included(prefix.to_vec()), to }
    }

    /// The records of these keys.
    fn range(&self, group: GroupId, namespace: Namespace) -> KeyRange {
        // The least key after `key` is `key` and a zero byte.
        let record = |key: &[u8]| record_key(group, namespace, key);
        let after = |key: &[u8]| [&record(key)[..], &[0]].concat();
        let all = namespace_range(group, namespace);
        let from = match &self.from {
            Bound::Included(key) => record(key),
            Bound::Excluded(key) => after(key),
            Bound::Unbounded => all.from,
        };
        let to = match &self.to {
            Bound::Included(key) => after(key),
            Bound::Excluded(key) => record(key),
            Bound::Unbounded => all.to,
        };
        KeyRange { from, to }
    }
}

impl<'a> Reader<'a> {
    /// A reader of `view`.
    #[must_use]
    pub fn new(view: &'a dyn View, context: ReadContext<'a>) -> Self {
        let log_time = context.log_time.map_or_else(OnceCell::new, OnceCell::from);
        Self { view, context, log_time, state: OnceCell::new() }
    }

    /// The random number the caller gave.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.context.seed
    }

    /// The selected database with its counters.
    /// # Errors
    /// The engine's.
    pub fn database(&self) -> EngineResult<Database> {
        let db = self.context.db;
        if let Some(state) = self.context.state {
            return Ok(state.database(db));
        }
        if self.state.get().is_none() {
            let state = KeyspaceState::load(self.view, self.context.group)?;
            return Ok(self.state.get_or_init(|| state).database(db));
        }
        Ok(self.state.get_or_init(|| KeyspaceState::initial(self.context.group)).database(db))
    }

    /// What is stored about a key; none if the key does not exist.
    /// # Errors
    /// `TimeNeeded`, and the engine's.
    pub fn metadata(&self, key: &[u8]) -> Result<Option<Metadata>, ReadError> {
        if key.len() > KEY_BYTES_MAX {
            return Ok(None);
        }
        let metadata = get_metadata(self.view, &record_key(self.context.group, self.database()?.namespace, key))?;
        match metadata {
            Some(metadata) if self.is_alive(&metadata)? => Ok(Some(metadata)),
            Some(_) | None => Ok(None),
        }
    }

    /// The value of a key whose metadata was read here.
    /// # Errors
    /// The engine's.
    pub fn value(&self, key: &[u8], metadata: &Metadata) -> EngineResult<Bytes> {
        match &metadata.value {
            StoredValue::Inline(value) => Ok(value.clone()),
            StoredValue::Apart(length) => {
                get_value_apart(self.view, &record_key(self.context.group, self.database()?.namespace, key), *length)
            }
        }
    }

    /// The stored keys of a range with their metadata, due ones included: ask `is_alive` about those that matter.
    /// # Errors
    /// The engine's, also as items.
    pub fn items(&self, bounds: &KeyBounds, direction: Direction) -> EngineResult<impl Iterator<Item = EngineResult<(Bytes, Metadata)>>> {
        let range = bounds.range(self.context.group, self.database()?.namespace);
        // An engine may refuse a range that ends before it begins.
        let items = (range.from < range.to).then(|| self.view.items(META, &range, direction));
        let decode = |item: EngineResult<(Bytes, Bytes)>| {
            let (record, value) = item?;
            Ok((key_of_record(&record), decode_metadata(value)?))
        };
        Ok(items.into_iter().flatten().map(decode))
    }

    /// Whether a stored key exists, as its deadline has it.
    /// # Errors
    /// `TimeNeeded`, and the engine's.
    pub fn is_alive(&self, metadata: &Metadata) -> Result<bool, ReadError> {
        let Some(deadline) = metadata.deadline else { return Ok(true) };
        if deadline <= self.log_time()? {
            return Ok(false);
        }
        match self.context.now {
            Some(now) if deadline <= now => Err(ReadError::TimeNeeded(deadline)),
            Some(_) | None => Ok(true),
        }
    }

    /// The time of the read: the leader's or the log's, whichever is later.
    /// # Errors
    /// The engine's.
    pub fn time(&self) -> EngineResult<UnixMillis> {
        let log_time = self.log_time()?;
        Ok(self.context.now.map_or(log_time, |now| now.max(log_time)))
    }

    fn log_time(&self) -> EngineResult<UnixMillis> {
        if let Some(log_time) = self.log_time.get() {
            return Ok(*log_time);
        }
        let log_time = match self.view.get(STATE, &log_time_key(self.context.group))? {
            Some(bytes) => decode_log_time(bytes)?,
            None => UnixMillis(0),
        };
        Ok(*self.log_time.get_or_init(|| log_time))
    }
}

/// The metadata of a record, due or not.
pub(super) fn get_metadata(view: &dyn View, record: &[u8]) -> EngineResult<Option<Metadata>> {
    view.get(META, record)?.map(decode_metadata).transpose()
}

/// A value that stands in a record of its own.
pub(super) fn get_value_apart(view: &dyn View, record: &[u8], length: usize) -> EngineResult<Bytes> {
    match view.get(VALUE, record)? {
        Some(value) if value.len() == length => Ok(value),
        Some(_) => Err(corruption("a value does not have the length its metadata says".to_owned())),
        None => Err(corruption("a value is missing".to_owned())),
    }
}
