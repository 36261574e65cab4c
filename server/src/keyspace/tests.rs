//! The keyspace's invariants over random histories, and the rounds of expiry and removal.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raftlog::engine::{Cf, Direction, Engine, Overlay, View, ViewKind, WriteBatch};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::encoding::{
    StoredValue, dead_namespace_range, decode_expiry_key, decode_metadata, decode_scan_key, decode_scan_value, group_range, key_of_record,
};
use super::*;
use crate::command::harness::{GROUP, Session};

fn records(view: &dyn View, cf: Cf) -> Vec<(Bytes, Bytes)> {
    view.items(cf, &group_range(GROUP), Direction::Forward).map(|item| item.expect("memory does not fail")).collect()
}

fn namespace_of(record: &[u8]) -> Namespace {
    Namespace(u32::from_be_bytes(record[4..8].try_into().expect("four bytes")))
}

/// Checks that all records agree with each other and with `state`, which must be stored in `view`.
pub(crate) fn check_invariants(view: &dyn View, state: &KeyspaceState) {
    let stored = KeyspaceState::load(view, GROUP).expect("loads");
    assert_eq!(encoding::encode_keyspace_state(&stored), encoding::encode_keyspace_state(state));
    let mut counts: BTreeMap<Namespace, (u64, u64)> = BTreeMap::new();
    let (mut in_scan, mut in_expiry, mut in_value) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (record, bytes) in records(view, META) {
        let (namespace, key) = (namespace_of(&record), key_of_record(&record));
        let metadata = decode_metadata(bytes).expect("decodes");
        assert!(metadata.revision > 0 && metadata.revision <= state.revision());
        let count = counts.entry(namespace).or_default();
        count.0 += 1;
        count.1 += u64::from(metadata.deadline.is_some());
        in_scan.insert((namespace, Position::of(&key), key.clone(), metadata.key_type.name()));
        if let Some(deadline) = metadata.deadline {
            in_expiry.insert((deadline, namespace, key));
            assert!(state.expiry_floor <= state.expiry_from && state.expiry_from <= deadline);
        }
        if let StoredValue::Apart(length) = metadata.value {
            in_value.insert((record, length));
        }
    }
    let scan = records(view, SCAN).into_iter().map(|(record, value)| {
        let (position, key) = decode_scan_key(&record).expect("decodes");
        (namespace_of(&record), position, key, decode_scan_value(&value).expect("decodes").name())
    });
    assert_eq!(scan.collect::<BTreeSet<_>>(), in_scan);
    let expiry = records(view, EXPIRY).into_iter().map(|(record, _)| decode_expiry_key(&record).expect("decodes"));
    assert_eq!(expiry.collect::<BTreeSet<_>>(), in_expiry);
    let value = records(view, VALUE).into_iter().map(|(record, value)| (record, value.len()));
    assert_eq!(value.collect::<BTreeSet<_>>(), in_value);
    let dead = view.items(STATE, &dead_namespace_range(GROUP, Namespace(0)), Direction::Forward);
    let dead: BTreeSet<Namespace> =
        dead.map(|item| encoding::decode_dead_namespace_key(&item.expect("memory does not fail").0).expect("decodes")).collect();
    assert_eq!(dead.len(), state.dead_namespaces() as usize);
    assert!(dead.first().is_none_or(|first| state.dead_from <= *first));
    for database in state.databases() {
        assert!(!dead.contains(&database.namespace));
        let count = counts.remove(&database.namespace).unwrap_or_default();
        assert_eq!(count, (database.keys, database.expires), "{database:?}");
    }
    assert!(counts.keys().all(|namespace| dead.contains(namespace)), "what belongs to no database waits for a sweep");
    let mut state = *state;
    let earliest = state.earliest_deadline(view).expect("memory does not fail");
    assert!(in_expiry.first().is_none_or(|(deadline, _, _)| earliest.is_some_and(|earliest| earliest <= *deadline)));
}

fn set(session: &mut Session, key: &str, lifetime: Option<u64>) {
    let deadline = lifetime.map(|lifetime| UnixMillis(session.now.0 + lifetime));
    session.write(|writer| {
        let lookup = writer.lookup(key.as_bytes()).expect("memory does not fail");
        writer.set_string(lookup, Bytes::from("value"), deadline).expect("a short key");
    });
}

/// The earliest deadline, as a replica looks for it after each batch.
fn earliest(session: &mut Session) -> Option<UnixMillis> {
    let mut state = session.state;
    let earliest = state.earliest_deadline(session.view().as_ref()).expect("memory does not fail");
    session.state = state;
    earliest
}

fn metadata(session: &Session, key: &str) -> Option<Metadata> {
    session.read(|reader| reader.metadata(key.as_bytes())).expect("memory does not fail")
}

#[test]
fn revisions_rise_with_every_modified_key() {
    let mut session = Session::new();
    let mut last = 0;
    for line in ["set a 1", "set a 1", "append a x", "expire a 100", "persist a", "rename a b", "copy b a", "getex a ex 10"] {
        session.line(line);
        let key = if line.starts_with("rename") { "b" } else { "a" };
        let revision = metadata(&session, key).map_or(0, |metadata| metadata.revision);
        assert!(revision > last, "{line}");
        last = revision;
    }
    let before = session.state.revision();
    for line in ["get a", "set a 1 nx", "del x", "expire x 1", "incrby a x", "getex a", "setrange a 0 ''", "persist b"] {
        session.line(line);
        assert_eq!(session.state.revision(), before, "{line} modifies nothing");
    }
    session.line("mset a 1 b 2 c 3");
    assert_eq!(session.state.revision(), before + 3);
    session.line("del a b c");
    assert_eq!(session.state.revision(), before + 6);
}

#[test]
fn purge_goes_in_bounded_rounds_by_deadline() {
    let mut session = Session::new();
    for (key, lifetime) in [("c", 30), ("a", 10), ("b", 20), ("d", 40)] {
        set(&mut session, key, Some(lifetime));
    }
    set(&mut session, "stays", None);
    let start = session.now.0;
    let purge = |session: &mut Session, limit| session.write(|writer| writer.purge_expired(limit)).expect("memory does not fail");
    assert_eq!(purge(&mut session, 10), Purged { keys: 0, more: false });
    session.now.0 = start + 30;
    assert_eq!(purge(&mut session, 2), Purged { keys: 2, more: true });
    assert_eq!(earliest(&mut session), Some(UnixMillis(start + 30)));
    assert_eq!(purge(&mut session, 2), Purged { keys: 1, more: false });
    assert_eq!(purge(&mut session, 2), Purged { keys: 0, more: false });
    assert_eq!(session.state.database(0), Database { keys: 2, expires: 1, ..session.state.database(0) });
    session.now.0 = start + 40;
    set(&mut session, "e", Some(1));
    assert_eq!(purge(&mut session, 2), Purged { keys: 1, more: false });
    assert_eq!(earliest(&mut session), Some(UnixMillis(start + 41)));
}

#[test]
fn sweep_removes_flushed_databases_in_bounded_rounds() {
    let mut session = Session::new();
    for round in 0..3 {
        for number in 0..10 {
            set(&mut session, &format!("{round}:{number}"), (number % 2 == 0).then_some(50));
        }
        assert_eq!(session.line("flushdb"), "OK");
    }
    set(&mut session, "alive", None);
    assert_eq!(session.state.dead_namespaces(), 3);
    assert_eq!(session.line("flushall"), "OK");
    set(&mut session, "alive", None);
    let sweep = |session: &mut Session, limit| session.write(|writer| writer.sweep(limit)).expect("memory does not fail");
    assert_eq!(sweep(&mut session, 4), Swept { keys: 4, more: true });
    session.now.0 += 50;
    let purged = session.write(|writer| writer.purge_expired(5)).expect("memory does not fail");
    assert_eq!(purged, Purged { keys: 5, more: true }, "deadlines in flushed databases come due as well");
    let mut swept = 4;
    loop {
        let round = sweep(&mut session, 7);
        assert!(round.keys <= 7);
        swept += round.keys;
        if !round.more {
            break;
        }
    }
    assert_eq!(swept, 31 - 5);
    assert_eq!(records(session.view().as_ref(), META).len(), 1);
    assert_eq!(sweep(&mut session, 1), Swept { keys: 0, more: false });
    assert_eq!(session.line("get alive"), "'value'");
}

#[test]
fn a_search_does_not_begin_before_what_was_found_last() {
    let mut session = Session::new();
    let now = session.now.0;
    for lifetime in [100, 300, 500] {
        set(&mut session, "a", Some(lifetime));
    }
    assert_eq!(earliest(&mut session), Some(UnixMillis(now + 500)));
    assert_eq!(session.state.expiry_from, UnixMillis(now + 500), "not over the tombstones of the first two deadlines");
    set(&mut session, "b", Some(200));
    assert_eq!(earliest(&mut session), Some(UnixMillis(now + 200)));
    session.line("del a b");
    assert_eq!(earliest(&mut session), Some(UnixMillis(now + 200)), "nobody has looked since");
    set(&mut session, "c", Some(150));
    session.now.0 += 200;
    let purged = session.write(|writer| writer.purge_expired(5)).expect("memory does not fail");
    assert_eq!(purged, Purged { keys: 1, more: false });
    assert_eq!(earliest(&mut session), None);

    for line in ["select 1", "set k v", "flushdb", "select 0", "set k v", "flushdb"] {
        match line.strip_prefix("select ") {
            Some(db) => session.db = db.parse().expect("a database"),
            None => assert_eq!(session.line(line), "OK"),
        }
        session.write(|writer| writer.sweep(5)).expect("memory does not fail");
        assert_eq!(session.state.dead_namespaces(), 0, "{line}: a smaller id after a larger one is found, too");
    }
    assert_eq!(session.state.dead_from, Namespace(0));
}

#[test]
fn a_flushed_databases_namespace_is_not_given_out_while_it_is_swept() {
    let mut session = Session::new();
    set(&mut session, "a", None);
    session.write(|writer| writer.flush(0)).expect("memory does not fail");
    set(&mut session, "b", None);
    // As after 2^32 flushes.
    session.state.next_namespace = Namespace(0);
    session.write(|writer| writer.flush(0)).expect("memory does not fail");
    assert_eq!(session.state.database(0).namespace, Namespace(17), "0 waits for a sweep, 1 to 15 are other databases, 16 is the old one");
    assert_eq!(session.line("dbsize"), "0");
}

#[test]
fn a_failed_change_leaves_nothing() {
    let mut session = Session::new();
    set(&mut session, "a", None);
    let before = session.state;
    let result: Result<(), &str> = session.write(|writer| {
        writer.atomically(|writer| {
            let lookup = writer.lookup(b"b").expect("memory does not fail");
            writer.set_string(lookup, Bytes::from("x"), Some(UnixMillis(u64::MAX))).expect("a short key");
            writer.flush(0).expect("memory does not fail");
            Err("a reason")
        })
    });
    assert_eq!(result, Err("a reason"));
    assert_eq!(session.state, before);
    assert_eq!(session.line("keys *"), "['a']");
}

#[test]
fn keys_that_share_a_position_stand_in_one_page() {
    // Positions are 52 bits of a sound hash, so a collision is made by writing the index alone.
    let session = Session::new();
    let mut batch = WriteBatch::default();
    for (bits, key) in [(0, "zero"), (5, "a"), (5, "b"), (5, "c"), (6, "d"), ((1 << 52) - 1, "last")] {
        let scan = encoding::scan_key(GROUP, Namespace(0), Position::from_bits(bits), key.as_bytes());
        batch.put(SCAN, scan, encoding::encode_scan_value(KeyType::String));
    }
    session.engine.write(&batch).expect("memory does not fail");
    let scan = |from: u64, count| {
        let from = Position::from_cursor(from).expect("a position");
        let page = session.read(|reader| reader.scan(from, count, |_, _| true)).expect("memory does not fail");
        let keys: Vec<String> = page.keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect();
        (page.next.map_or(0, Position::cursor), keys.join(" "))
    };
    assert_eq!(scan(0, 1), (5, "zero".to_owned()), "position 0 is not lost");
    assert_eq!(scan(5, 1), (6, "a b c".to_owned()));
    assert_eq!(scan(0, 2), (6, "zero a b c".to_owned()));
    assert_eq!(scan(6, 1), ((1 << 52) - 1, "d".to_owned()));
    assert_eq!(scan((1 << 52) - 1, 1), (0, "last".to_owned()));
}

#[test]
fn a_reader_inside_a_batch_sees_what_the_batch_did() {
    let mut session = Session::new();
    set(&mut session, "a", None);
    let view = session.engine.view(ViewKind::Latest);
    let mut overlay = Overlay::new(view.as_ref(), COLUMN_FAMILIES.len());
    let mut state = session.state;
    Writer::new(&mut overlay, &mut state, 0, session.now).flush(0).expect("memory does not fail");
    let context = ReadContext { group: GROUP, db: 0, now: None, log_time: Some(session.now), state: Some(&state), seed: 0 };
    let reader = Reader::new(&overlay, context);
    assert_eq!(reader.metadata(b"a").expect("memory does not fail"), None);
    assert_eq!(reader.database().expect("memory does not fail").keys, 0);
}

#[test]
fn replicas_that_apply_the_same_log_hold_the_same_bytes() {
    let run = |seed| {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut session = Session::new();
        for _ in 0..300 {
            let key = random.random_range(0..20);
            let line = match random.random_range(0..7) {
                0 => format!("set {key} {}", "v".repeat(random.random_range(0..1000))),
                1 => format!("set {key} 1 px {}", random.random_range(1..100)),
                2 => format!("del {key}"),
                3 => format!("rename {key} {}", random.random_range(0..20)),
                4 => format!("append {key} xyz"),
                5 => "flushdb".to_owned(),
                _ => format!("pexpire {key} {}", random.random_range(-5..50)),
            };
            session.now.0 += random.random_range(0..5);
            session.line(&line);
        }
        (0..5).map(|cf| records(session.view().as_ref(), Cf(cf))).collect::<Vec<_>>()
    };
    for seed in 0..5 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
