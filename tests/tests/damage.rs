//! Files that a power failure or a disk has damaged: what can be repaired is, without a word lost; what cannot keeps the node from starting.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use redraft_tests::{Cluster, Load, LoadPlan, Node, Shape, Value};

/// Exit code of a node that must not be started again.
const DO_NOT_RESTART: i32 = 3;

/// RocksDB's files of a kind in a directory, oldest first: `log` are write-ahead logs, `sst` sorted data.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.extension() == Some(extension.as_ref())).collect();
    files.sort_unstable();
    files
}

fn length(path: &Path) -> u64 {
    path.metadata().expect("the file is there").len()
}

fn cut(path: &Path, bytes: u64) {
    OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(bytes)).expect("the file can be cut");
}

/// The part of the Raft log that was written last.
fn last_log(node: &Node) -> PathBuf {
    files(&node.dir().join("log"), "log").into_iter().rev().find(|log| length(log) > 0).expect("something was written")
}

/// Writes until so many batches are acknowledged, and kills the node meanwhile.
fn write_and_kill(node: &mut Node, name: &str, batches: usize) -> redraft_tests::load::Record {
    let plan = LoadPlan { name: name.to_owned(), addresses: vec![node.address()], workers: 3, shape: Shape::Pipelined(5) };
    let load = Load::start(&plan);
    load.wait_for(batches);
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
fn data_that_was_only_in_memory_is_made_again_from_the_log() {
    // So little memory that a part of what is written goes to files while the load runs, and the rest is lost with the process.
    let mut node = Node::alone(&["--memtable-bytes", "4mb"]);
    let mut records = Vec::new();
    for round in 0..3 {
        records.push(write_and_kill(&mut node, &format!("round{round}"), 1500));
        let data = node.dir().join("data");
        assert!(!files(&data, "sst").is_empty(), "a part was written to files");
        assert!(files(&data, "log").iter().all(|log| length(log) == 0), "data/ needs no log of its own");
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
        records.push(write_and_kill(&mut node, &format!("round{round}"), 200));
        // What a write looks like that did not end: some bytes of a record, and nothing behind them.
        let mut log = File::options().append(true).open(last_log(&node)).expect("the log can be opened");
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
    write_and_kill(&mut node, "load", 200);
    let log = last_log(&node);
    cut(&log, length(&log) / 2);
    check_refuses_to_start(&mut node, "log");
}

#[test]
fn a_damaged_record_inside_the_raft_log_is_refused() {
    let mut node = Node::alone(&[]);
    write_and_kill(&mut node, "load", 200);
    let log = last_log(&node);
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
    let log = last_log(&cluster[damaged]);
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
