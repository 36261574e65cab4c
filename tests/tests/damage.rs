//! Files that a power failure or a disk has damaged: what can be repaired is, without a word lost; what cannot keeps the node from starting.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use redraft_tests::{Cluster, Load, LoadPlan, Node, Shape, Value};

/// Exit code of a node that must not be started again.
const DO_NOT_RESTART: i32 = 3;

/// RocksDB's write-ahead logs in a directory, oldest first.
fn write_ahead_logs(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut logs: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.extension() == Some("log".as_ref())).collect();
    logs.sort_unstable();
    logs
}

fn length(path: &Path) -> u64 {
    path.metadata().expect("the file is there").len()
}

fn cut(path: &Path, bytes: u64) {
    OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(bytes)).expect("the file can be cut");
}

/// The log that has what was written last.
fn last_log(node: &Node, part: &str) -> PathBuf {
    let logs = write_ahead_logs(&node.dir().join(part));
    logs.into_iter().rev().find(|log| length(log) > 0).expect("something was written")
}

/// Writes until so many batches are acknowledged, and kills the node meanwhile.
fn write_and_kill(node: &mut Node, name: &str) -> redraft_tests::load::Record {
    let plan = LoadPlan { name: name.to_owned(), addresses: vec![node.address()], workers: 3, shape: Shape::Pipelined(5) };
    let load = Load::start(&plan);
    load.wait_for(200);
    node.kill();
    load.stop()
}

#[track_caller]
fn check_refuses_to_start(node: &mut Node, word: &str) {
    node.start();
    let status = node.wait_end();
    assert_eq!(status.code(), Some(DO_NOT_RESTART), "{}", node.log());
    let log = node.log();
    let last = log.lines().rev().find(|line| line.contains("redraft: ")).unwrap_or_default();
    assert!(last.contains(word), "it says {last:?}");
}

#[test]
fn data_that_was_never_synced_is_made_again_from_the_log() {
    let mut node = Node::alone(&[]);
    let mut records = Vec::new();
    // The keyspace's own log is not synced on the write path, so a power failure can leave any part of what was written since the start.
    for (round, (kept, of)) in [(0, 1), (1, 2), (9, 10)].into_iter().enumerate() {
        let logs = |node: &Node| write_ahead_logs(&node.dir().join("data"));
        let synced: BTreeMap<PathBuf, u64> = logs(&node).into_iter().map(|log| (log.clone(), length(&log))).collect();
        records.push(write_and_kill(&mut node, &format!("round{round}")));
        for log in logs(&node) {
            let synced = synced.get(&log).copied().unwrap_or(0);
            cut(&log, synced + (length(&log) - synced) / of * kept);
        }
        node.start();
        node.wait_ready();
        for record in &records {
            record.check(&mut node.client());
        }
    }
}

#[test]
fn a_torn_end_of_the_raft_log_is_cut_off() {
    let mut node = Node::alone(&[]);
    let mut records = Vec::new();
    for round in 0..3_u64 {
        records.push(write_and_kill(&mut node, &format!("round{round}")));
        // What a write looks like that did not end: some bytes of a record, and nothing behind them.
        let mut log = File::options().append(true).open(last_log(&node, "log")).expect("the log can be opened");
        log.write_all(&vec![0x5a; 7 + 100 * round as usize]).expect("the log can be written");
        node.start();
        node.wait_ready();
        for record in &records {
            record.check(&mut node.client());
        }
    }
}

#[test]
fn a_raft_log_that_lacks_what_was_acknowledged_is_refused() {
    let mut node = Node::alone(&[]);
    node.client().set("k", "v");
    write_and_kill(&mut node, "load");
    let log = last_log(&node, "log");
    cut(&log, length(&log) / 2);
    check_refuses_to_start(&mut node, "log");
}

#[test]
fn a_damaged_record_inside_the_raft_log_is_refused() {
    let mut node = Node::alone(&[]);
    write_and_kill(&mut node, "load");
    let log = last_log(&node, "log");
    let (file, at) = (OpenOptions::new().read(true).write(true).open(&log).expect("the log can be opened"), length(&log) / 2);
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("the log can be read");
    file.write_all_at(&[!byte[0]], at).expect("the log can be written");
    check_refuses_to_start(&mut node, "log");
}

#[test]
fn halves_of_two_directories_are_refused() {
    let mut node = Node::alone(&[]);
    node.client().set("k", "v");
    node.stop();
    let (data, kept) = (node.dir().join("data"), node.dir().with_extension("kept"));
    fs::rename(&data, &kept).expect("the data can be moved");
    check_refuses_to_start(&mut node, "do not belong together");
    // With the right half everything is as it was.
    if data.exists() {
        fs::remove_dir_all(&data).expect("the directory can be removed");
    }
    fs::rename(&kept, &data).expect("the data can be moved");
    node.start();
    node.wait_ready();
    assert_eq!(node.client().get("k").as_deref(), Some(b"v".as_slice()));
}

#[test]
fn a_damaged_node_of_three_comes_back_as_a_new_one() {
    let mut cluster = Cluster::start(3);
    let damaged = cluster.followers()[0];
    let before = cluster.node_id(damaged);
    let load = Load::on("load", cluster.addresses_of(&cluster.others(damaged)), 3);
    load.wait_for(100);
    cluster[damaged].kill();
    let log = last_log(&cluster[damaged], "log");
    cut(&log, length(&log) / 2);
    check_refuses_to_start(&mut cluster[damaged], "log");
    cluster[damaged].add_flags(&["--rejoin"]);
    cluster.start_node(damaged);
    redraft_tests::node::wait_status(&cluster[damaged], "it votes again", |status| {
        status.node_id != before && status.voters().contains(&status.node_id) && status.members.len() == 3
    });
    let record = load.stop();
    record.check_no_errors();
    cluster.wait_converged();
    record.check(&mut cluster.client(damaged));
    // The flag is for one start: the next one is that of an ordinary member.
    cluster[damaged].stop();
    cluster[damaged].remove_flag("--rejoin");
    cluster.bring_back(damaged);
    assert_eq!(cluster.client(damaged).must(&["EXISTS", "load:0:0"]), Value::Integer(1));
}
