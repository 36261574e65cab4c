//! Files that a power failure or a disk has damaged: what can be repaired is, without a word lost; what cannot keeps the node from starting.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redraft_tests::campaign::damage::{Plan, copy, run};
use redraft_tests::client::bulk;
use redraft_tests::damage::{Damage, Database, Kind, Part, apply, kinds};
use redraft_tests::dir::TestDir;
use redraft_tests::node::{RaftStatus, wait_readable, wait_status};
use redraft_tests::power::Honesty;
use redraft_tests::{Client, Cluster, Load, LoadPlan, Node, Shape, Value, eventually};

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

/// Waits until a node's data are flushed once more than the files `before`: that is so soon after the table of members has changed.
fn wait_flushed(node: &Node, before: &[PathBuf]) {
    let is_new = |file: &PathBuf| !before.contains(file);
    eventually("the table is in the files", || files(&node.dir().join("data"), "sst").iter().any(is_new).then_some(()));
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
fn a_node_whose_sync_has_failed_does_not_start_again_but_as_a_new_one() {
    let mut cluster = Cluster::start_with_disks(3, &[], Honesty::Honest);
    let node = cluster.followers()[0];
    let id = cluster[node].status().node_id;
    cluster.disk(node).fail_syncs();
    cluster.client(cluster.leader()).set("k", "v");
    assert_eq!(cluster[node].wait_end().code(), Some(DO_NOT_RESTART), "{}", cluster[node].log());
    // The next sync might succeed, without what the first one has lost; whatever starts nodes again knows nothing of exit codes.
    cluster.disk(node).mend_syncs();
    check_refuses_to_start(&mut cluster[node], "must not be started any more");
    cluster[node].add_flags(&["--rejoin"]);
    cluster.start_node(node);
    cluster[node].wait_ready();
    cluster.wait_caught_up(node);
    assert_ne!(cluster[node].status().node_id, id);
    assert_eq!(cluster.client(node).get("k").as_deref(), Some(b"v".as_slice()));
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
    wait_status(&cluster[damaged], "it votes again", |status| {
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

#[test]
fn the_founder_of_a_cluster_comes_back_with_one_flag_more() {
    let dir = TestDir::new();
    let mut founder = Node::alone(&[]);
    let founded = files(&founder.dir().join("data"), "sst");
    let join = founder.peer_address().to_string();
    let mut others = ["node-2", "node-3"].map(|name| Node::new(dir.join(name), &["--join", &join]));
    for other in &mut others {
        other.start();
        other.wait_ready();
    }
    let three_vote = |status: &RaftStatus| status.members.len() == 3 && status.voters().len() == 3;
    let before = wait_status(&founder, "all vote", three_vote).node_id;
    others[0].client().set("k", "v");
    wait_flushed(&founder, &founded);
    founder.kill();
    let log = last_log(&founder);
    cut(&log, length(&log) / 2);
    check_refuses_to_start(&mut founder, "--rejoin");
    // It is still told to found a cluster, and nobody says where the others are; its data do.
    founder.add_flags(&["--rejoin"]);
    founder.start();
    founder.wait_ready();
    wait_status(&founder, "it votes again", |status| status.node_id != before && three_vote(status) && !status.voters().contains(&before));
    assert_eq!(founder.client().get("k").as_deref(), Some(b"v".as_slice()));
    founder.stop();
    founder.remove_flag("--rejoin");
    founder.start();
    founder.wait_ready();
    wait_status(&founder, "it is a member as any other", three_vote);
    assert_eq!(founder.client().get("k").as_deref(), Some(b"v".as_slice()));
}

#[test]
fn who_is_stopped_while_it_comes_back_founds_nothing() {
    let dir = TestDir::new();
    let mut founder = Node::alone(&[]);
    let founded = files(&founder.dir().join("data"), "sst");
    let join = founder.peer_address().to_string();
    let mut other = Node::new(dir.join("node-2"), &["--join", &join]);
    other.start();
    other.wait_ready();
    wait_status(&founder, "both are members", |status| status.members.len() == 2);
    wait_flushed(&founder, &founded);
    other.kill();
    founder.kill();
    // Nobody is there to take it in.
    founder.add_flags(&["--rejoin"]);
    founder.start();
    let looks_for_others = format!("no answer from join address {}", other.peer_address());
    eventually("it looks for the others", || founder.log().contains(&looks_for_others).then_some(()));
    founder.kill();
    founder.remove_flag("--rejoin");
    let said_before = founder.log().len();
    founder.start();
    eventually("it does so again", || founder.log()[said_before..].contains(&looks_for_others).then_some(()));
    assert!(!founder.log()[said_before..].contains("founding a cluster"), "it is told to found one, and has no data");
    let aside = founder.dir().join("set-aside-1").join("data");
    assert!(aside.exists(), "{} is gone", aside.display());
}

/// So little memory that most of the data is in files, and a log that is truncated.
const SMALL: [&str; 6] = ["--memtable-bytes", "4mb", "--block-cache-bytes", "1mb", "--raft-log-bytes-max", "1mb"];
/// Keys that are more than memory holds: 8 MB.
const KEYS: usize = 8000;
/// Names the seed of the samples below; without it they are always the same.
const SEED_VARIABLE: &str = "REDRAFT_DAMAGE_SEED";

fn seed() -> u64 {
    let seed = std::env::var(SEED_VARIABLE).ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    eprintln!("{SEED_VARIABLE}={seed}");
    seed
}

fn value(number: usize) -> String {
    format!("{number:06};").repeat(1000 / 7)
}

fn fill(client: &mut Client) {
    for first in (0..KEYS).step_by(100) {
        let write = |number: usize| ["SET".to_owned(), format!("filler:{number}"), value(number)];
        for reply in client.pipeline((first..first + 100).map(write)).expect("the node answers") {
            assert!(!matches!(reply, Value::Error(_)), "{reply:?}");
        }
    }
}

/// Reads all that `fill` wrote: whether the node answered everything. What it answers is right.
#[track_caller]
fn read_filled(client: &mut Client) -> bool {
    (0..KEYS).all(|number| match client.call(&["GET", &format!("filler:{number}")]) {
        Ok(reply) => {
            assert!(reply == bulk(value(number)), "key {number} is {reply:?}");
            true
        }
        Err(_) => false,
    })
}

/// Brings a node back as a new one, with one command.
#[track_caller]
fn rejoin(cluster: &mut Cluster, position: usize, id_before: u64) {
    cluster[position].add_flags(&["--rejoin"]);
    cluster.start_node(position);
    wait_status(&cluster[position], "it votes again", |status| {
        status.node_id != id_before && status.voters().contains(&status.node_id) && status.members.len() == 3
    });
    cluster[position].remove_flag("--rejoin");
    cluster.wait_caught_up(position);
}

#[test]
fn no_damage_to_any_file_gives_a_wrong_reply() {
    let seed = seed();
    let cases = run(&Plan { seed, cases: Some(50), rounds: 1, look_again: false }, |_| {});
    let wrong: Vec<_> = cases.iter().filter(|case| case.outcome.is_err()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn damaged_nodes_of_three_lose_no_promise_and_come_back() {
    let mut random = StdRng::seed_from_u64(seed());
    let mut cluster = Cluster::start_with(3, &SMALL);
    fill(&mut cluster.client(0));
    let cases = [
        (Kind::Of(Database::Log, Part::Wal), Damage::Halve),
        (Kind::Of(Database::Log, Part::Wal), Damage::CutEnd),
        (Kind::Of(Database::Log, Part::Current), Damage::Remove),
        (Kind::Of(Database::Data, Part::Manifest), Damage::Halve),
        (Kind::HighWater, Damage::FlipFirst),
    ];
    for (round, (kind, damage)) in cases.into_iter().enumerate() {
        let victim = cluster.followers()[round % 2];
        let load = Load::on(&format!("load{round}"), cluster.addresses_of(&cluster.others(victim)), 2);
        load.wait_for(50);
        let before = cluster[victim].status();
        cluster[victim].kill();
        let files = kinds(cluster[victim].dir()).remove(&kind).expect("the node has files of this kind");
        let file = files.iter().max_by_key(|file| length(file)).expect("there is one");
        assert!(apply(file, damage, &mut random), "{} cannot be damaged", file.display());
        cluster.start_node(victim);
        match cluster[victim].wait_ready_or_end() {
            // It may have been a write that nobody was told of.
            None => {
                let status = cluster[victim].status();
                assert!(status.node_id == before.node_id && status.term >= before.term, "{kind}, {damage}: {status:?}");
            }
            Some(status) => {
                assert_eq!(status.code(), Some(DO_NOT_RESTART), "{kind}, {damage}: {}", cluster[victim].log());
                rejoin(&mut cluster, victim, before.node_id);
            }
        }
        let record = load.stop();
        record.check_no_errors();
        cluster.wait_converged();
        record.check(&mut cluster.client(victim));
    }
    for position in cluster.positions() {
        assert!(read_filled(&mut cluster.client(position)));
    }
}

#[test]
fn a_node_that_meets_damage_while_it_serves_stops_until_it_rejoins() {
    let mut random = StdRng::seed_from_u64(seed());
    let mut cluster = Cluster::start_with(3, &SMALL);
    fill(&mut cluster.client(0));
    let victim = cluster.followers()[0];
    let id = cluster.node_id(victim);
    // Afterwards nothing is in memory.
    cluster[victim].stop();
    cluster.bring_back(victim);
    for table in kinds(cluster[victim].dir()).remove(&Kind::Of(Database::Data, Part::Table)).expect("the data is in files") {
        apply(&table, Damage::FlipMiddle, &mut random);
    }
    let load = Load::on("load", cluster.addresses_of(&cluster.others(victim)), 2);
    assert!(!read_filled(&mut cluster.client(victim)), "the damage is met");
    assert_eq!(cluster[victim].wait_end().code(), Some(DO_NOT_RESTART), "{}", cluster[victim].log());
    let log = cluster[victim].log();
    let said = log.lines().rev().find(|line| line.starts_with("redraft: ")).unwrap_or_default();
    assert!(["checksum", "/data/", ".sst", "--rejoin"].iter().all(|part| said.contains(part)), "it says {said:?}");
    // Until it is a new one it neither serves nor votes, also when a start would not meet the damage.
    check_refuses_to_start(&mut cluster[victim], "must not be started any more");
    load.wait_for(50);
    rejoin(&mut cluster, victim, id);
    let record = load.stop();
    record.check_no_errors();
    cluster.wait_converged();
    record.check(&mut cluster.client(victim));
    assert!(read_filled(&mut cluster.client(victim)));
}

/// Starts a node that is far behind and kills it while it installs a snapshot.
#[track_caller]
fn kill_while_installing(cluster: &mut Cluster, behind: usize) {
    let said_before = cluster[behind].log().len();
    cluster.start_node(behind);
    let says_so = || cluster[behind].log()[said_before..].contains("installing a snapshot").then_some(());
    eventually("a snapshot is installed", says_so);
    cluster[behind].kill();
}

/// Whether a start of the node takes up an installation again. Leaves the directory as it was.
#[track_caller]
fn is_installing(node: &mut Node, pristine: &Path) -> bool {
    let said_before = node.log().len();
    node.start();
    node.wait_ready();
    node.kill();
    restore(pristine, node.dir());
    node.log()[said_before..].contains("finishing the installation")
}

fn restore(pristine: &Path, dir: &Path) {
    if dir.exists() {
        fs::remove_dir_all(dir).expect("the directory can be removed");
    }
    copy(pristine, dir);
}

#[test]
fn damage_to_a_snapshot_that_is_being_installed_gives_no_wrong_reply() {
    let mut random = StdRng::seed_from_u64(seed());
    let mut cluster = Cluster::start_with(3, &SMALL);
    let behind = cluster.followers()[0];
    let last = cluster[behind].status().last_index;
    cluster[behind].kill();
    cluster[behind].add_flags(&["--readonly-reads", "local"]);
    let others = cluster.others(behind);
    fill(&mut cluster.client(others[0]));
    wait_status(&cluster[cluster.leader()], "the log is truncated", |status| status.first_index > last + 1);
    let pristine = cluster[behind].dir().with_extension("pristine");
    loop {
        kill_while_installing(&mut cluster, behind);
        restore(cluster[behind].dir(), &pristine);
        // Alone, so that nobody tells a copy from the original. What is missing for a vote, local reads do without.
        others.iter().for_each(|other| cluster[*other].kill());
        if is_installing(&mut cluster[behind], &pristine) {
            break;
        }
        // It was killed before it began, or after it had finished: then it has to fall behind again.
        for other in &others {
            cluster.start_node(*other);
        }
        wait_readable(&cluster[others[0]]);
        fill(&mut cluster.client(others[0]));
    }
    for damage in Damage::ALL {
        restore(&pristine, cluster[behind].dir());
        let files = kinds(cluster[behind].dir()).remove(&Kind::Snapshot).expect("the files of the snapshot are there");
        assert!(apply(&files[random.random_range(0..files.len())], damage, &mut random), "{damage}");
        cluster[behind].start();
        if let Some(status) = cluster[behind].wait_ready_or_end() {
            assert_eq!(status.code(), Some(DO_NOT_RESTART), "{damage}: {}", cluster[behind].log());
            continue;
        }
        let mut client = cluster.client(behind);
        client.must(&["READONLY"]);
        if read_filled(&mut client) {
            cluster[behind].kill();
        } else {
            assert_eq!(cluster[behind].wait_end().code(), Some(DO_NOT_RESTART), "{damage}: {}", cluster[behind].log());
        }
    }
}
