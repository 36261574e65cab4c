//! A replica whose data were changed behind its back: RAFT VERIFY finds the key, the replica stops for good, and the others go on.
//! Here and not among the tests of whole nodes, which know nothing of the formats on the disk.

use std::path::Path;

use raftlog::engine::{Cf, Direction, Durability, Engine, RocksEngine, RocksOptions, ViewKind, WriteBatch};
use redraft::keyspace::{COLUMN_FAMILIES, META, VALUE, group_range};
use redraft::node::core::GROUP;
use redraft_tests::client::text;
use redraft_tests::node::wait_status;
use redraft_tests::verify::compare;
use redraft_tests::{Cluster, eventually};

/// Exit code of a node that must not be started again.
const DO_NOT_RESTART: i32 = 3;

/// Changes the last byte of the record that is stored for a user's key. Returns the stored key.
fn change_record(data_dir: &Path, cf: Cf, key: &str) -> Vec<u8> {
    let options = RocksOptions {
        column_families: COLUMN_FAMILIES.to_vec(),
        queues: Vec::new(),
        memtable_bytes: 1 << 20,
        block_cache_bytes: 1 << 20,
        durability: Durability::Flush,
    };
    let engine = RocksEngine::open(&data_dir.join("data"), &options).expect("the node is stopped");
    let view = engine.view(ViewKind::Snapshot);
    let mut items = view.items(cf, &group_range(GROUP), Direction::Forward).map(|item| item.expect("sound data"));
    let (stored, value) = items.find(|(stored, _)| stored.ends_with(key.as_bytes())).expect("the key is there");
    drop(items);
    drop(view);
    let mut changed = value.to_vec();
    *changed.last_mut().expect("a record is not empty") ^= 1;
    let mut batch = WriteBatch::default();
    batch.put(cf, stored.clone(), changed);
    engine.write(&batch).and_then(|()| engine.sync()).expect("the record can be written");
    stored.to_vec()
}

#[track_caller]
fn check(cf: Cf, user_key: &str) {
    let mut cluster = Cluster::start(3);
    let mut client = cluster.client(0);
    for key in 0..600 {
        client.set(&format!("short:{key:03}"), format!("value {key}"));
        client.set(&format!("long:{key:03}"), "x".repeat(600));
    }
    let damaged = cluster.followers()[0];
    let damaged_id = cluster.node_id(damaged);
    cluster[damaged].stop();
    let stored = change_record(cluster[damaged].dir(), cf, user_key);
    cluster.bring_back(damaged);

    let healthy = cluster.others(damaged);
    let name = COLUMN_FAMILIES[usize::from(cf.0)];
    let comparison = compare(&mut cluster.client(healthy[1]));
    assert_eq!(comparison.result, "differs");
    for member in &comparison.members {
        let (state, place) =
            if member.node_id == damaged_id { ("differs", Some((name.to_owned(), Some(stored.clone().into())))) } else { ("equal", None) };
        assert_eq!((member.state.as_str(), &member.place), (state, &place), "{comparison:?}");
    }

    let status = cluster[damaged].wait_end();
    assert_eq!(status.code(), Some(DO_NOT_RESTART));
    let log = cluster[damaged].log();
    let last = log.lines().rev().find(|line| line.starts_with("redraft: ")).unwrap_or_default();
    let place = format!("in column family {name}, first at key \"{}\"", stored.escape_ascii());
    assert!(last.contains(&place) && last.contains("--rejoin"), "{last}");
    // Nor may it serve after a restart, even though nothing of that is checked at a start.
    cluster[damaged].start();
    assert_eq!(cluster[damaged].wait_end().code(), Some(DO_NOT_RESTART));

    let mut client = cluster.client(healthy[0]);
    client.set("after", "that");
    assert_eq!(cluster.client(healthy[1]).get("after").as_deref(), Some(b"that".as_slice()));
    let tells = |position: usize, line: &str| text(&cluster.client(position).must(&["INFO", "raft"])).contains(&format!("{line}\r\n"));
    let told = |line: &str| healthy.iter().any(|position| tells(*position, line)).then_some(());
    eventually("whoever compared the replicas counts the mismatch", || told("verify_mismatches:1"));
    eventually("whoever compared the replicas knows that one differs", || told("verify_differing:1"));

    cluster[damaged].add_flags(&["--rejoin"]);
    cluster.start_node(damaged);
    wait_status(&cluster[damaged], "it is back as a new member", |status| {
        status.node_id != damaged_id && status.voters().contains(&status.node_id) && status.members.len() == 3
    });
    cluster.wait_converged();
    let comparison = compare(&mut cluster.client(damaged));
    assert!(comparison.is_equal(), "{comparison:?}");
}

#[test]
fn a_changed_short_value_is_found() {
    check(META, "short:417");
}

#[test]
fn a_changed_long_value_is_found() {
    check(VALUE, "long:033");
}
