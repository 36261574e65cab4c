//! Nodes that are too far behind for the log: they catch up from a Raft snapshot while the load goes on.

use redraft_tests::client::{bulk, text};
use redraft_tests::node::wait_status;
use redraft_tests::power::Honesty;
use redraft_tests::{Client, Cluster, Load, Value};

/// A log that is truncated soon.
const SMALL_LOG: [&str; 2] = ["--raft-log-bytes-max", "1mb"];
/// Keys that are far more than the log holds: 16 MiB.
const KEYS: usize = 4_000;
const VALUE_BYTES: usize = 4096;
/// First index of a log that was never truncated: groups start at truncated (5,5).
const FIRST_INDEX: u64 = 6;

fn value(number: usize) -> String {
    let mut value = format!("{number}:").repeat(VALUE_BYTES / 2);
    value.truncate(VALUE_BYTES);
    value
}

fn fill(client: &mut Client) {
    for first in (0..KEYS).step_by(100) {
        let write = |number: usize| ["SET".to_owned(), format!("filler:{number}"), value(number)];
        for reply in client.pipeline((first..first + 100).map(write)).expect("the node answers") {
            assert!(!matches!(reply, Value::Error(_)), "{reply:?}");
        }
    }
}

fn check_filled(client: &mut Client) {
    for number in (0..KEYS).step_by(37) {
        assert!(client.must(&["GET", &format!("filler:{number}")]) == bulk(value(number)), "key {number}");
    }
    assert_eq!(client.must(&["PTTL", "expiring"]), client.must(&["PTTL", "expired"]), "what was removed stays removed");
}

#[test]
fn a_follower_far_behind_catches_up_under_load() {
    let mut cluster = Cluster::start_with(3, &SMALL_LOG);
    let leader = cluster.leader();
    let behind = cluster.followers()[0];
    cluster.client(leader).must(&["MSET", "expiring", "v", "expired", "v"]);
    cluster.wait_converged();
    let last = cluster[behind].status().last_index;
    cluster[behind].kill();
    let load = Load::on("load", cluster.addresses_of(&cluster.others(behind)), 2);
    fill(&mut cluster.client(leader));
    cluster.client(leader).must(&["DEL", "expiring", "expired"]);
    wait_status(&cluster[leader], "the log is truncated", |status| status.first_index > last + 1);
    cluster.bring_back(behind);
    load.wait_for(50);
    let record = load.stop();
    record.check_no_errors();
    cluster.wait_converged();
    assert!(cluster[behind].status().first_index > last + 1, "it came by snapshot");
    // What it holds itself, without asking the leader.
    let mut client = cluster.client(behind);
    client.must(&["CONFIG", "SET", "readonly-reads", "local"]);
    client.must(&["READONLY"]);
    check_filled(&mut client);
    record.check(&mut client);
    let count = |client: &mut Client| client.must(&["DBSIZE"]);
    assert_eq!(count(&mut client), count(&mut cluster.client(leader)));
    // And keeps it.
    drop(client);
    cluster[behind].kill();
    cluster.bring_back(behind);
    cluster[leader].kill();
    let mut client = cluster.client(behind);
    check_filled(&mut client);
    record.check(&mut client);
}

#[test]
fn a_node_killed_while_it_installs_a_snapshot_tries_again() {
    let mut cluster = Cluster::start_with(3, &[SMALL_LOG[0], SMALL_LOG[1], "--snapshot-chunk-bytes", "64kb"]);
    let leader = cluster.leader();
    let behind = cluster.followers()[0];
    let last = cluster[behind].status().last_index;
    cluster[behind].kill();
    fill(&mut cluster.client(leader));
    wait_status(&cluster[leader], "the log is truncated", |status| status.first_index > last + 1);
    // Each life ends at another stage: when its directory has so many bytes of what is received, or when it has come that far in its log.
    for bytes in [1, 1 << 20, 4 << 20, 8 << 20] {
        cluster.start_node(behind);
        let dir = cluster[behind].dir().join("snapshots");
        redraft_tests::eventually("a snapshot arrives, or has arrived", || {
            let arrived = cluster[behind].try_status().is_some_and(|status| status.first_index > last + 1);
            (arrived || dir_bytes(&dir) >= bytes).then_some(())
        });
        cluster[behind].kill();
    }
    cluster.bring_back(behind);
    cluster.wait_converged();
    assert!(cluster[behind].status().first_index > last + 1, "it came by snapshot");
    cluster[leader].kill();
    check_filled(&mut cluster.client(behind));
    assert!(dir_bytes(&cluster[behind].dir().join("snapshots")) < 1 << 20, "what was received is cleared away");
}

#[test]
fn new_nodes_come_by_snapshot_under_load() {
    let mut cluster = Cluster::start_with(1, &SMALL_LOG);
    fill(&mut cluster.client(0));
    wait_status(&cluster[0], "the log is truncated", |status| status.first_index > FIRST_INDEX);
    let load = Load::on("load", cluster.addresses(), 2);
    cluster.add_node();
    cluster.add_node();
    wait_status(&cluster[2], "all vote", |status| status.voters().len() == 3);
    load.wait_for(50);
    let record = load.stop();
    record.check_no_errors();
    cluster.wait_converged();
    cluster[0].kill();
    for position in [1, 2] {
        check_filled(&mut cluster.client(position));
        record.check(&mut cluster.client(position));
    }
    let info = text(&cluster.client(1).must(&["INFO", "keyspace"]));
    assert_eq!(info, text(&cluster.client(2).must(&["INFO", "keyspace"])), "counters are part of a snapshot");
}

/// It is made anew at each start. A marker in the data tells of an installation before anything else does, and relies on it.
#[test]
fn the_directory_of_snapshots_has_a_durable_name_before_any_arrives() {
    let mut cluster = Cluster::start_with_disks(1, &[], Honesty::Honest);
    cluster[0].kill();
    cluster.bring_back(0);
    assert!(cluster.disk(0).has_durable_name("snapshots"), "a power cut in an installation would take the files and leave the marker");
}

/// Bytes of all files below a directory, which may change meanwhile.
fn dir_bytes(dir: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => dir_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(bytes).sum()
}
