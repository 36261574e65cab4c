//! Changing keys: the one place that writes the keyspace's records, and so keeps them in agreement.
//! A change starts with a `lookup`, which removes the key if it is due, and ends with one call that consumes what was looked up. Nothing
//! here reads a clock: `now` is the time of the log entry.
//! Also here: the removal of due keys and of the leftovers of flushed databases, in rounds that the caller bounds and the log orders.

use std::collections::VecDeque;

use bytes::Bytes;
use raftlog::engine::{Direction, EngineError, EngineResult, KeyRange, Overlay, View};

use super::encoding::{
    KeyType, Metadata, StoredValue, corruption, dead_namespace_key, dead_namespace_range, decode_dead_namespace, decode_dead_namespace_key,
    decode_expiry_key, decode_metadata, encode_dead_namespace, encode_metadata, encode_scan_value, expiry_key, expiry_range, key_of_record,
    namespace_range, record_key, scan_key,
};
use super::position::Position;
use super::reader::{get_metadata, get_value_apart};
use super::state::{Database, KeyspaceState};
use super::{
    DATABASES, EXPIRY, GroupId, INLINE_BYTES_MAX, KEY_BYTES_MAX, META, Namespace, SCAN, STATE, STRING_BYTES_MAX, UnixMillis, VALUE,
};

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The key is longer than `KEY_BYTES_MAX`.
    #[error("the key is too long")]
    KeyTooLong,
    /// The string would be longer than `STRING_BYTES_MAX`.
    #[error("the string is too long")]
    StringTooLong,
    /// The engine's.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A key and what is stored about it, due keys excluded. Holds until the key is changed.
pub struct Lookup<'k> {
    key: &'k [u8],
    namespace: Namespace,
    /// The key of its record; empty if the user's key is too long to have one.
    record: Vec<u8>,
    metadata: Option<Metadata>,
}

impl Lookup<'_> {
    /// Whether the key exists.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.metadata.is_some()
    }

    /// What is stored about the key; none if it does not exist.
    #[must_use]
    pub fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_ref()
    }

    /// The key's deadline; none if it has none or does not exist.
    #[must_use]
    pub fn deadline(&self) -> Option<UnixMillis> {
        self.metadata.as_ref().and_then(|metadata| metadata.deadline)
    }
}

/// What a round of expiry did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purged {
    /// How many keys it removed.
    pub keys: usize,
    /// Whether more keys are due.
    pub more: bool,
}

/// What a round of removing leftovers did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    /// How many keys of dead namespaces it removed.
    pub keys: usize,
    /// Whether leftovers remain.
    pub more: bool,
}

/// Changes one database at one place in the log.
pub struct Writer<'a, 'v> {
    overlay: &'a mut Overlay<'v>,
    state: &'a mut KeyspaceState,
    db: u8,
    now: UnixMillis,
}

impl<'a, 'v> Writer<'a, 'v> {
    /// A writer at log time `now`, which must not be earlier than that of any writer before. The overlay holds the changes of all column
    /// families but those of `state`, which the caller stores at the end of the batch.
    /// # Panics
    /// Panics if there is no database `db`.
    #[must_use]
    pub fn new(overlay: &'a mut Overlay<'v>, state: &'a mut KeyspaceState, db: u8, now: UnixMillis) -> Self {
        assert!(db < DATABASES);
        Self { overlay, state, db, now }
    }

    /// The log's time.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        self.now
    }

    /// The selected database.
    #[must_use]
    pub fn db(&self) -> u8 {
        self.db
    }

    /// Makes all changes of `change` or, if it fails, none of them. Not to be nested.
    /// # Errors
    /// Those of `change`.
    pub fn atomically<T, E>(&mut self, change: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<T, E> {
        let savepoint = self.overlay.savepoint();
        let state = *self.state;
        let result = change(self);
        if result.is_err() {
            self.overlay.rollback(savepoint);
            *self.state = state;
        }
        result
    }

    /// Looks a key of the selected database up.
    /// # Errors
    /// The engine's.
    pub fn lookup<'k>(&mut self, key: &'k [u8]) -> EngineResult<Lookup<'k>> {
        self.lookup_in(self.db, key)
    }

    /// Looks a key of any database up.
    /// # Errors
    /// The engine's.
    pub fn lookup_in<'k>(&mut self, db: u8, key: &'k [u8]) -> EngineResult<Lookup<'k>> {
        let namespace = self.state.database(db).namespace;
        if key.len() > KEY_BYTES_MAX {
            return Ok(Lookup { key, namespace, record: Vec::new(), metadata: None });
        }
        let record = record_key(self.group(), namespace, key);
        let mut lookup = Lookup { key, namespace, metadata: get_metadata(self.overlay, &record)?, record };
        if lookup.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.remove(&lookup);
            lookup.metadata = None;
        }
        Ok(lookup)
    }

    /// The value of a key; none if it does not exist.
    /// # Errors
    /// The engine's.
    pub fn value(&self, lookup: &Lookup<'_>) -> EngineResult<Option<Bytes>> {
        let Some(metadata) = &lookup.metadata else { return Ok(None) };
        match &metadata.value {
            StoredValue::Inline(value) => Ok(Some(value.clone())),
            StoredValue::Apart(length) => get_value_apart(self.overlay, &lookup.record, *length).map(Some),
        }
    }

    /// Gives a key this value and this deadline, in place of whatever it was. If the deadline has passed, the key does not exist after.
    /// # Errors
    /// `KeyTooLong`, `StringTooLong`, and the engine's.
    pub fn set_string(&mut self, lookup: Lookup<'_>, value: Bytes, deadline: Option<UnixMillis>) -> Result<(), WriteError> {
        if lookup.key.len() > KEY_BYTES_MAX {
            return Err(WriteError::KeyTooLong);
        }
        if value.len() > STRING_BYTES_MAX {
            return Err(WriteError::StringTooLong);
        }
        if deadline.is_some_and(|deadline| deadline <= self.now) {
            self.delete(lookup);
            return Ok(());
        }
        let was_apart = matches!(lookup.metadata, Some(Metadata { value: StoredValue::Apart(_), .. }));
        let value = if value.len() > INLINE_BYTES_MAX {
            let length = value.len();
            // As a part of its log entry it would keep the whole entry in memory.
            self.overlay.put(VALUE, lookup.record.clone(), Bytes::copy_from_slice(&value));
            StoredValue::Apart(length)
        } else {
            if was_apart {
                self.overlay.delete(VALUE, lookup.record.clone());
            }
            StoredValue::Inline(value)
        };
        self.put_metadata(lookup, KeyType::String, value, deadline);
        Ok(())
    }

    /// Gives an existing key another deadline, or none. If the deadline has passed, the key does not exist after.
    /// # Panics
    /// Panics if the key does not exist.
    pub fn set_deadline(&mut self, mut lookup: Lookup<'_>, deadline: Option<UnixMillis>) {
        if deadline.is_some_and(|deadline| deadline <= self.now) {
            assert!(self.delete(lookup));
            return;
        }
        let metadata = lookup.metadata.as_mut().expect("the caller has seen the key exist");
        let (key_type, value) = (metadata.key_type, metadata.value.clone());
        self.put_metadata(lookup, key_type, value, deadline);
    }

    /// Removes a key. Returns whether it existed.
    pub fn delete(&mut self, lookup: Lookup<'_>) -> bool {
        if lookup.exists() {
            self.state.next_revision();
            self.remove(&lookup);
        }
        lookup.exists()
    }

    /// Gives `destination` the value and the deadline of `source`, in place of whatever it was. They must be different keys, or stand in
    /// different databases. Costs as much as the value is long.
    /// # Errors
    /// `KeyTooLong`, and the engine's.
    /// # Panics
    /// Panics if `source` does not exist.
    pub fn copy(&mut self, source: &Lookup<'_>, destination: Lookup<'_>) -> Result<(), WriteError> {
        let value = self.value(source)?.expect("the caller has seen the key exist");
        self.set_string(destination, value, source.deadline())
    }

    /// Empties a database in constant time; its keys are left to `sweep`.
    /// # Errors
    /// The engine's.
    pub fn flush(&mut self, db: u8) -> EngineResult<()> {
        let Database { namespace, keys, .. } = self.state.database(db);
        if keys == 0 {
            return Ok(());
        }
        self.overlay.put(STATE, dead_namespace_key(self.group(), namespace), encode_dead_namespace(b""));
        let fresh = self.unused_namespace()?;
        self.state.next_revision();
        self.state.dead_namespaces += 1;
        self.state.dead_from = self.state.dead_from.min(namespace);
        self.state.databases[usize::from(db)] = Database { namespace: fresh, keys: 0, expires: 0 };
        Ok(())
    }

    /// Exchanges the contents of two databases.
    pub fn swap(&mut self, first: u8, second: u8) {
        self.state.next_revision();
        self.state.databases.swap(usize::from(first), usize::from(second));
    }

    /// Removes keys that are due, of all databases, earliest first, at most `keys_max`.
    /// # Errors
    /// The engine's, and `Corruption` if an expiry record has no key.
    pub fn purge_expired(&mut self, keys_max: usize) -> EngineResult<Purged> {
        let range = expiry_range(self.group(), self.state.expiry_from, self.now);
        let mut due = VecDeque::new();
        if range.from < range.to {
            for item in self.overlay.items(EXPIRY, &range, Direction::Forward).take(keys_max.saturating_add(1)) {
                due.push_back(decode_expiry_key(&item?.0)?);
            }
        }
        let mut keys = 0;
        while keys < keys_max
            && let Some((deadline, namespace, key)) = due.pop_front()
        {
            let record = record_key(self.group(), namespace, &key);
            let metadata = get_metadata(self.overlay, &record)?.filter(|metadata| metadata.deadline == Some(deadline));
            let metadata = metadata.ok_or_else(|| corruption("an expiry record has no key".to_owned()))?;
            self.remove(&Lookup { key: &key, namespace, record, metadata: Some(metadata) });
            keys += 1;
        }
        // What is left, if anything, is the one record beyond the bound.
        let floor = due.front().map_or(UnixMillis(self.now.0.saturating_add(1)), |(deadline, _, _)| *deadline);
        self.state.changed |= floor > self.state.expiry_floor;
        self.state.expiry_floor = floor.max(self.state.expiry_floor);
        self.state.expiry_from = floor.max(self.state.expiry_from);
        self.state.expiry_searched = false;
        Ok(Purged { keys, more: !due.is_empty() })
    }

    /// Removes keys of dead namespaces, at most `keys_max`.
    /// # Errors
    /// The engine's.
    /// # Panics
    /// Panics if `keys_max` is 0.
    pub fn sweep(&mut self, keys_max: usize) -> EngineResult<Swept> {
        assert!(keys_max > 0);
        let mut keys = 0;
        while keys < keys_max
            && let Some((namespace, swept_through)) = self.first_dead_namespace()?
        {
            // Begins where the last round ended, so that no round steps over the tombstones of those before.
            let from = record_key(self.group(), namespace, &swept_through);
            let range = KeyRange { from, to: namespace_range(self.group(), namespace).to };
            let mut records = Vec::new();
            for item in self.overlay.items(META, &range, Direction::Forward).take(keys_max - keys) {
                let (record, metadata) = item?;
                records.push((record, decode_metadata(metadata)?));
            }
            let is_last_round = records.len() < keys_max - keys;
            keys += records.len();
            let mut last_key = swept_through;
            for (record, metadata) in records {
                last_key = key_of_record(&record);
                self.remove(&Lookup { key: &last_key, namespace, record: record.to_vec(), metadata: Some(metadata) });
            }
            let dead = dead_namespace_key(self.group(), namespace);
            if is_last_round {
                self.overlay.delete(STATE, dead);
                self.state.dead_from = namespace;
                self.state.dead_namespaces -= 1;
                self.state.changed = true;
            } else {
                self.overlay.put(STATE, dead, encode_dead_namespace(&last_key));
            }
        }
        Ok(Swept { keys, more: self.state.dead_namespaces > 0 })
    }

    fn group(&self) -> GroupId {
        self.state.group()
    }

    /// Writes a key's metadata, and everything that must agree with it but the value apart.
    fn put_metadata(&mut self, lookup: Lookup<'_>, key_type: KeyType, value: StoredValue, deadline: Option<UnixMillis>) {
        let before = lookup.deadline();
        if before != deadline {
            if let Some(before) = before {
                self.overlay.delete(EXPIRY, expiry_key(self.group(), before, lookup.namespace, lookup.key));
            }
            if let Some(deadline) = deadline {
                self.overlay.put(EXPIRY, expiry_key(self.group(), deadline, lookup.namespace, lookup.key), Bytes::new());
                self.state.expiry_floor = self.state.expiry_floor.min(deadline);
                self.state.expiry_from = self.state.expiry_from.min(deadline);
            }
        }
        if lookup.metadata().is_none_or(|metadata| metadata.key_type != key_type) {
            let scan = scan_key(self.group(), lookup.namespace, Position::of(lookup.key), lookup.key);
            self.overlay.put(SCAN, scan, encode_scan_value(key_type));
        }
        if let Some(counters) = self.state.counters(lookup.namespace) {
            counters.keys += u64::from(!lookup.exists());
            counters.expires = counters.expires + u64::from(deadline.is_some()) - u64::from(before.is_some());
        }
        let metadata = Metadata { key_type, deadline, revision: self.state.next_revision(), value };
        self.overlay.put(META, lookup.record, encode_metadata(&metadata));
    }

    /// Removes every record of an existing key, in a dead namespace too.
    fn remove(&mut self, lookup: &Lookup<'_>) {
        let metadata = lookup.metadata().expect("only an existing key is removed");
        if let Some(deadline) = metadata.deadline {
            self.overlay.delete(EXPIRY, expiry_key(self.group(), deadline, lookup.namespace, lookup.key));
        }
        if let StoredValue::Apart(_) = metadata.value {
            self.overlay.delete(VALUE, lookup.record.clone());
        }
        self.overlay.delete(SCAN, scan_key(self.group(), lookup.namespace, Position::of(lookup.key), lookup.key));
        self.overlay.delete(META, lookup.record.clone());
        if let Some(counters) = self.state.counters(lookup.namespace) {
            counters.keys -= 1;
            counters.expires -= u64::from(metadata.deadline.is_some());
        }
    }

    /// The first dead namespace, and the key up to which it is already empty.
    fn first_dead_namespace(&self) -> EngineResult<Option<(Namespace, Bytes)>> {
        if self.state.dead_namespaces == 0 {
            return Ok(None);
        }
        let range = dead_namespace_range(self.group(), self.state.dead_from);
        let first = self.overlay.items(STATE, &range, Direction::Forward).next();
        let (key, value) = first.ok_or_else(|| corruption("a dead namespace is missing".to_owned()))??;
        Ok(Some((decode_dead_namespace_key(&key)?, decode_dead_namespace(&value)?)))
    }

    /// A namespace that no database has and no sweep waits for. Ids come round after 2^32 flushes.
    fn unused_namespace(&mut self) -> EngineResult<Namespace> {
        loop {
            let namespace = self.state.next_namespace;
            self.state.next_namespace = Namespace(namespace.0.wrapping_add(1));
            let dead = self.overlay.get(STATE, &dead_namespace_key(self.group(), namespace))?.is_some();
            if !dead && self.state.counters(namespace).is_none() {
                return Ok(namespace);
            }
        }
    }
}
