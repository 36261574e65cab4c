//! Every stored format of the keyspace: keys and values of the column families, bytes to types and back.
//! Keys begin with `group u32` so that a group is one contiguous range per column family; integers in keys are big-endian so that byte
//! order is their order:
//!   META, VALUE   group u32 | namespace u32 | key
//!   EXPIRY        group u32 | deadline u64 | namespace u32 | key                       (no value)
//!   SCAN          group u32 | namespace u32 | position, 7 bytes | key                  -> type u8
//!   STATE         group u32 | ASCII name
//! A metadata record is `format u8 | type u8 | has u8 | [deadline u64] | revision u64 | value or [length u64]`. Its format byte stands for
//! the record in VALUE too, which is the bare value, so that a long value is stored without a copy.
//! Invariant: what is written here stays readable by every later version; golden bytes in the tests.

use bytes::{Buf, BufMut, Bytes};
use raftlog::engine::{EngineError, EngineResult, KeyRange};

use super::position::Position;
use super::state::{Database, KeyspaceState};
use super::{DATABASES, GroupId, INLINE_BYTES_MAX, Namespace, STRING_BYTES_MAX, UnixMillis};

const METADATA_FORMAT: u8 = 1;
const STATE_FORMAT: u8 = 1;
const DEAD_NAMESPACE_FORMAT: u8 = 1;

const HAS_DEADLINE: u8 = 1;
const HAS_VALUE_APART: u8 = 2;

/// Bytes of a record's key before the user's key.
const RECORD_PREFIX: usize = 8;
const EXPIRY_PREFIX: usize = 16;
const SCAN_PREFIX: usize = 15;

/// The type of a key's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// A string.
    String,
}

impl KeyType {
    /// The name that TYPE reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            KeyType::String => "string",
        }
    }

    fn byte(self) -> u8 {
        match self {
            KeyType::String => 1,
        }
    }

    fn from_byte(byte: u8) -> EngineResult<Self> {
        match byte {
            1 => Ok(KeyType::String),
            unknown => Err(corruption(format!("unknown type {unknown} of a key"))),
        }
    }
}

/// A string's value as its metadata has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredValue {
    /// The value, at most `INLINE_BYTES_MAX` long.
    Inline(Bytes),
    /// The value stands in `VALUE` and has this many bytes, more than `INLINE_BYTES_MAX`.
    Apart(usize),
}

impl StoredValue {
    /// Bytes of the value.
    #[must_use]
    pub fn length(&self) -> usize {
        match self {
            StoredValue::Inline(value) => value.len(),
            StoredValue::Apart(length) => *length,
        }
    }
}

/// What is stored about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Type of the value.
    pub key_type: KeyType,
    /// When the key ends; none for a key that stays.
    pub deadline: Option<UnixMillis>,
    /// The group's revision at the key's last change.
    pub revision: u64,
    /// The value.
    pub value: StoredValue,
}

/// The range of all keys of a group, in every column family.
/// # Panics
/// Panics for the group `u32::MAX`, which is reserved.
#[must_use]
pub fn group_range(group: GroupId) -> KeyRange {
    KeyRange::prefix(&group.0.to_be_bytes())
}

/// The key of a record in `STATE`. Names that start with `keyspace/` are the keyspace's, those with `raft/` the node's.
#[must_use]
pub fn state_key(group: GroupId, name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + name.len());
    bytes.put_u32(group.0);
    bytes.put_slice(name.as_bytes());
    bytes
}

/// The key in `STATE` of the log's time: milliseconds since the Unix epoch as a big-endian u64. The node writes it.
#[must_use]
pub fn log_time_key(group: GroupId) -> Vec<u8> {
    state_key(group, "raft/log_time")
}

pub(super) fn decode_log_time(mut bytes: Bytes) -> EngineResult<UnixMillis> {
    if bytes.len() != 8 {
        return Err(corruption("log time is not eight bytes".to_owned()));
    }
    Ok(UnixMillis(bytes.get_u64()))
}

/// The range of a namespace in `META`, `VALUE` and `SCAN`.
pub(super) fn namespace_range(group: GroupId, namespace: Namespace) -> KeyRange {
    KeyRange::prefix(&record_key(group, namespace, b""))
}

/// The key of a record in `META` and `VALUE`.
pub(super) fn record_key(group: GroupId, namespace: Namespace, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(RECORD_PREFIX + key.len());
    bytes.put_u32(group.0);
    bytes.put_u32(namespace.0);
    bytes.put_slice(key);
    bytes
}

/// The user's key in the key of a record.
pub(super) fn key_of_record(record: &Bytes) -> Bytes {
    record.slice(RECORD_PREFIX..)
}

pub(super) fn expiry_key(group: GroupId, deadline: UnixMillis, namespace: Namespace, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(EXPIRY_PREFIX + key.len());
    bytes.put_u32(group.0);
    bytes.put_u64(deadline.0);
    bytes.put_u32(namespace.0);
    bytes.put_slice(key);
    bytes
}

/// Deadline, namespace and user's key of an expiry record.
pub(super) fn decode_expiry_key(record: &Bytes) -> EngineResult<(UnixMillis, Namespace, Bytes)> {
    let mut bytes = record.clone();
    if bytes.len() < EXPIRY_PREFIX {
        return Err(corruption("an expiry record's key is cut off".to_owned()));
    }
    bytes.advance(4);
    Ok((UnixMillis(bytes.get_u64()), Namespace(bytes.get_u32()), bytes))
}

/// The expiry records of deadlines from `from` up to `through`.
pub(super) fn expiry_range(group: GroupId, from: UnixMillis, through: UnixMillis) -> KeyRange {
    let start = expiry_key(group, from, Namespace(0), b"");
    match through.0.checked_add(1) {
        Some(after) => KeyRange { from: start, to: expiry_key(group, UnixMillis(after), Namespace(0), b"") },
        None => KeyRange { from: start, to: group_range(group).to },
    }
}

pub(super) fn scan_key(group: GroupId, namespace: Namespace, position: Position, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SCAN_PREFIX + key.len());
    bytes.put_u32(group.0);
    bytes.put_u32(namespace.0);
    bytes.put_uint(position.cursor(), 7);
    bytes.put_slice(key);
    bytes
}

/// Position and user's key of a scan index record.
pub(super) fn decode_scan_key(record: &Bytes) -> EngineResult<(Position, Bytes)> {
    let mut bytes = record.clone();
    if bytes.len() < SCAN_PREFIX {
        return Err(corruption("a scan index record's key is cut off".to_owned()));
    }
    bytes.advance(RECORD_PREFIX);
    Ok((Position::from_bits(bytes.get_uint(7)), bytes))
}

pub(super) fn encode_scan_value(key_type: KeyType) -> Vec<u8> {
    vec![key_type.byte()]
}

pub(super) fn decode_scan_value(bytes: &Bytes) -> EngineResult<KeyType> {
    match bytes[..] {
        [byte] => KeyType::from_byte(byte),
        _ => Err(corruption("a scan index record is not one byte".to_owned())),
    }
}

pub(super) fn encode_metadata(metadata: &Metadata) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(27 + INLINE_BYTES_MAX.min(metadata.value.length()));
    let deadline = metadata.deadline.map_or(0, |_| HAS_DEADLINE);
    let apart = match metadata.value {
        StoredValue::Inline(_) => 0,
        StoredValue::Apart(_) => HAS_VALUE_APART,
    };
    bytes.put_slice(&[METADATA_FORMAT, metadata.key_type.byte(), deadline | apart]);
    if let Some(deadline) = metadata.deadline {
        bytes.put_u64(deadline.0);
    }
    bytes.put_u64(metadata.revision);
    match &metadata.value {
        StoredValue::Inline(value) => bytes.put_slice(value),
        StoredValue::Apart(length) => bytes.put_u64(*length as u64),
    }
    bytes
}

/// The inline value shares the memory of `bytes`.
pub(super) fn decode_metadata(mut bytes: Bytes) -> EngineResult<Metadata> {
    let cut_off = || corruption("a metadata record is cut off".to_owned());
    if bytes.len() < 3 {
        return Err(cut_off());
    }
    let format = bytes.get_u8();
    if format != METADATA_FORMAT {
        return Err(corruption(format!("unknown format {format} of a metadata record")));
    }
    let key_type = KeyType::from_byte(bytes.get_u8())?;
    let has = bytes.get_u8();
    if has & !(HAS_DEADLINE | HAS_VALUE_APART) != 0 {
        return Err(corruption(format!("unknown parts {has:#x} of a metadata record")));
    }
    let deadline = match has & HAS_DEADLINE {
        0 => None,
        _ => Some(UnixMillis(bytes.try_get_u64().map_err(|_| cut_off())?)),
    };
    let revision = bytes.try_get_u64().map_err(|_| cut_off())?;
    let value = match has & HAS_VALUE_APART {
        0 if bytes.len() <= INLINE_BYTES_MAX => StoredValue::Inline(bytes),
        0 => return Err(corruption("the value in a metadata record is too long".to_owned())),
        _ => {
            let length = usize::try_from(bytes.try_get_u64().map_err(|_| cut_off())?).ok();
            let length = length.filter(|length| (INLINE_BYTES_MAX + 1..=STRING_BYTES_MAX).contains(length));
            StoredValue::Apart(length.ok_or_else(|| corruption("a value's length is out of range".to_owned()))?)
        }
    };
    Ok(Metadata { key_type, deadline, revision, value })
}

pub(super) fn keyspace_state_key(group: GroupId) -> Vec<u8> {
    state_key(group, "keyspace/state")
}

/// `format u8 | revision u64 | next namespace u32 | dead namespaces u32 | expiry floor u64 | 16 times (namespace u32, keys u64, expires u64)`.
pub(super) fn encode_keyspace_state(state: &KeyspaceState) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(25 + 20 * usize::from(DATABASES));
    bytes.put_u8(STATE_FORMAT);
    bytes.put_u64(state.revision);
    bytes.put_u32(state.next_namespace.0);
    bytes.put_u32(state.dead_namespaces);
    bytes.put_u64(state.expiry_floor.0);
    for database in &state.databases {
        bytes.put_u32(database.namespace.0);
        bytes.put_u64(database.keys);
        bytes.put_u64(database.expires);
    }
    bytes
}

pub(super) fn decode_keyspace_state(group: GroupId, mut bytes: Bytes) -> EngineResult<KeyspaceState> {
    let length = 25 + 20 * usize::from(DATABASES);
    if bytes.first() != Some(&STATE_FORMAT) || bytes.len() != length {
        return Err(corruption("the keyspace's state has an unknown format".to_owned()));
    }
    bytes.advance(1);
    let mut state = KeyspaceState::initial(group);
    state.revision = bytes.get_u64();
    state.next_namespace = Namespace(bytes.get_u32());
    state.dead_namespaces = bytes.get_u32();
    state.expiry_floor = UnixMillis(bytes.get_u64());
    state.expiry_from = state.expiry_floor;
    for database in &mut state.databases {
        *database = Database { namespace: Namespace(bytes.get_u32()), keys: bytes.get_u64(), expires: bytes.get_u64() };
    }
    Ok(state)
}

const DEAD_NAMESPACE_NAME: &str = "keyspace/dead/";

/// The key in `STATE` of a namespace that waits for its removal.
pub(super) fn dead_namespace_key(group: GroupId, namespace: Namespace) -> Vec<u8> {
    let mut bytes = state_key(group, DEAD_NAMESPACE_NAME);
    bytes.put_u32(namespace.0);
    bytes
}

/// All dead namespaces from an id on.
pub(super) fn dead_namespace_range(group: GroupId, from: Namespace) -> KeyRange {
    KeyRange { from: dead_namespace_key(group, from), to: KeyRange::prefix(&state_key(group, DEAD_NAMESPACE_NAME)).to }
}

pub(super) fn decode_dead_namespace_key(record: &Bytes) -> EngineResult<Namespace> {
    match record.last_chunk::<4>() {
        Some(id) => Ok(Namespace(u32::from_be_bytes(*id))),
        None => Err(corruption("a dead namespace's key is cut off".to_owned())),
    }
}

/// `format u8 | key`: the user's key up to which the namespace is already empty.
pub(super) fn encode_dead_namespace(swept_through: &[u8]) -> Vec<u8> {
    [&[DEAD_NAMESPACE_FORMAT], swept_through].concat()
}

pub(super) fn decode_dead_namespace(bytes: &Bytes) -> EngineResult<Bytes> {
    match bytes.first() {
        Some(&DEAD_NAMESPACE_FORMAT) => Ok(bytes.slice(1..)),
        _ => Err(corruption("a dead namespace's record has an unknown format".to_owned())),
    }
}

pub(super) fn corruption(text: String) -> EngineError {
    EngineError::Corruption(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId(1);
    const NAMESPACE: Namespace = Namespace(0x0203);
    const DEADLINE: UnixMillis = UnixMillis(0x0102_0304_0506_0708);

    #[test]
    fn keys_keep_their_bytes() {
        let position = Position::from_bits(0x000a_0b0c_0d0e_0f10);
        for (bytes, expected) in [
            (record_key(GROUP, NAMESPACE, b"key"), &b"\0\0\0\x01\0\0\x02\x03key"[..]),
            (expiry_key(GROUP, DEADLINE, NAMESPACE, b"key"), b"\0\0\0\x01\x01\x02\x03\x04\x05\x06\x07\x08\0\0\x02\x03key"),
            (scan_key(GROUP, NAMESPACE, position, b"key"), b"\0\0\0\x01\0\0\x02\x03\x0a\x0b\x0c\x0d\x0e\x0f\x10key"),
            (keyspace_state_key(GROUP), b"\0\0\0\x01keyspace/state"),
            (dead_namespace_key(GROUP, NAMESPACE), b"\0\0\0\x01keyspace/dead/\0\0\x02\x03"),
            (log_time_key(GROUP), b"\0\0\0\x01raft/log_time"),
        ] {
            assert_eq!(bytes, expected);
        }
    }

    #[test]
    fn keys_decode_to_what_was_encoded() {
        let position = Position::from_bits(77);
        assert_eq!(key_of_record(&record_key(GROUP, NAMESPACE, b"a").into()), "a");
        let expiry = Bytes::from(expiry_key(GROUP, DEADLINE, NAMESPACE, b"a"));
        assert_eq!(decode_expiry_key(&expiry).expect("decodes"), (DEADLINE, NAMESPACE, Bytes::from("a")));
        let scan = Bytes::from(scan_key(GROUP, NAMESPACE, position, b""));
        assert_eq!(decode_scan_key(&scan).expect("decodes"), (position, Bytes::new()));
        let dead = Bytes::from(dead_namespace_key(GROUP, NAMESPACE));
        assert_eq!(decode_dead_namespace_key(&dead).expect("decodes"), NAMESPACE);
        assert_eq!(decode_scan_value(&encode_scan_value(KeyType::String).into()).expect("decodes"), KeyType::String);
        assert_eq!(decode_dead_namespace(&encode_dead_namespace(b"key").into()).expect("decodes"), "key");
    }

    #[test]
    fn metadata_keeps_its_bytes() {
        let inline = StoredValue::Inline(Bytes::from("value"));
        let string = |deadline, value| Metadata { key_type: KeyType::String, deadline, revision: 9, value };
        for (metadata, expected) in [
            (string(None, inline.clone()), &b"\x01\x01\x00\0\0\0\0\0\0\0\x09value"[..]),
            (string(Some(DEADLINE), inline), b"\x01\x01\x01\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\0\0\0\0\x09value"),
            (string(None, StoredValue::Inline(Bytes::new())), b"\x01\x01\x00\0\0\0\0\0\0\0\x09"),
            (string(None, StoredValue::Apart(0x1234)), b"\x01\x01\x02\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\x12\x34"),
        ] {
            assert_eq!(encode_metadata(&metadata), expected);
            assert_eq!(decode_metadata(Bytes::from_static(expected)).expect("decodes"), metadata);
        }
    }

    #[test]
    fn keyspace_state_keeps_its_bytes() {
        let mut state = KeyspaceState::initial(GROUP);
        state.revision = 7;
        state.next_namespace = Namespace(18);
        state.dead_namespaces = 2;
        state.expiry_floor = DEADLINE;
        state.databases[0] = Database { namespace: NAMESPACE, keys: 5, expires: 3 };
        let mut expected = b"\x01\0\0\0\0\0\0\0\x07\0\0\0\x12\0\0\0\x02\x01\x02\x03\x04\x05\x06\x07\x08".to_vec();
        expected.extend_from_slice(b"\0\0\x02\x03\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x03");
        for namespace in 1..16 {
            expected.extend_from_slice(&[&[0, 0, 0, namespace][..], &[0; 16]].concat());
        }
        assert_eq!(encode_keyspace_state(&state), expected);
        let decoded = decode_keyspace_state(GROUP, expected.into()).expect("decodes");
        assert_eq!(encode_keyspace_state(&decoded), encode_keyspace_state(&state));
    }

    #[test]
    fn damaged_records_are_corruption() {
        let long = [&b"\x01\x01\x00\0\0\0\0\0\0\0\x09"[..], &[b'x'; INLINE_BYTES_MAX + 1]].concat();
        for bytes in [
            &b""[..],
            b"\x01\x01",
            b"\x02\x01\x00\0\0\0\0\0\0\0\x09",
            b"\x01\x07\x00\0\0\0\0\0\0\0\x09",
            b"\x01\x01\x04\0\0\0\0\0\0\0\x09",
            b"\x01\x01\x00\0\0\0\0\0\0\x09",
            b"\x01\x01\x01\0\0\0\0\0\0\0\x09",
            b"\x01\x01\x02\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x05",
            b"\x01\x01\x02\0\0\0\0\0\0\0\x09\xff\0\0\0\0\0\0\0",
            &long,
        ] {
            assert!(matches!(decode_metadata(Bytes::copy_from_slice(bytes)), Err(EngineError::Corruption(_))), "{bytes:?}");
        }
        assert!(decode_keyspace_state(GROUP, Bytes::from_static(b"\x01\0")).is_err());
        assert!(decode_scan_value(&Bytes::from_static(b"")).is_err());
        assert!(decode_scan_key(&Bytes::from_static(b"\0\0\0\x01")).is_err());
        assert!(decode_expiry_key(&Bytes::from_static(b"\0\0\0\x01")).is_err());
        assert!(decode_dead_namespace(&Bytes::from_static(b"\x02a")).is_err());
        assert!(decode_log_time(Bytes::from_static(b"1")).is_err());
    }
}
