//! A majority that is lost for ever: what is left becomes a cluster of its own, by hand, and says so before.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redraft_tests::client::integer;
use redraft_tests::dir::copy_dir;
use redraft_tests::node::wait_status;
use redraft_tests::process::{Finished, run_redraft};
use redraft_tests::supervised::Supervised;
use redraft_tests::terminal::Terminal;
use redraft_tests::{Client, Cluster, Node, Role, Value, eventually};

/// How long a recovery of little data may take.
const COMMAND_PATIENCE: Duration = Duration::from_secs(60);
/// Exit code of a node that must not be started again.
const DO_NOT_RESTART: i32 = 3;
/// Keys that are written before the loss.
const KEYS: usize = 300;

fn write(client: &mut Client) {
    for key in 0..KEYS {
        client.set(&format!("k{key}"), format!("v{key}"));
    }
    assert_eq!(client.incr("n"), 1);
}

#[track_caller]
fn check(client: &mut Client) {
    for key in 0..KEYS {
        assert_eq!(client.get(&format!("k{key}")).as_deref(), Some(format!("v{key}").as_bytes()));
    }
    assert_eq!(client.get("n").as_deref(), Some(b"1".as_slice()));
}

/// `redraft cluster recover` on data directories.
fn recover(dirs: &[&Path], flags: &[&str]) -> Finished {
    let dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    let mut line = vec!["cluster", "recover"];
    dirs.iter().for_each(|dir| line.extend(["--data-dir", dir]));
    line.extend(flags);
    run_redraft(&line, COMMAND_PATIENCE)
}

#[track_caller]
fn check_refused(finished: &Finished, words: &str) {
    assert!(finished.code == Some(1) && finished.output.contains(words), "{words}: {finished:?}");
}

/// The reports of a recovery that went well: what was found, and what was done.
#[track_caller]
fn outcome(finished: &Finished) -> [serde_json::Value; 2] {
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let objects = finished.output.lines().filter_map(|line| serde_json::from_str(line).ok());
    objects.collect::<Vec<_>>().try_into().unwrap_or_else(|_| panic!("two objects: {finished:?}"))
}

#[test]
fn a_survivor_becomes_a_cluster_that_empty_nodes_join() {
    let mut cluster = Cluster::start(3);
    let before = cluster[0].status();
    write(&mut cluster.client(0));
    // What it has is on its disk, and nothing else was acknowledged.
    cluster.wait_converged();
    let survivor = cluster.followers()[0];
    let lost = cluster.others(survivor);
    let (survivor_id, survivor_dir) = (cluster.node_id(survivor), cluster[survivor].dir().to_path_buf());
    let lost_ids: Vec<u64> = lost.iter().map(|position| cluster.node_id(*position)).collect();
    lost.iter().for_each(|position| cluster[*position].kill());
    check_refused(&recover(&[&survivor_dir], &["--yes"]), "a node runs in");
    cluster[survivor].kill();

    let kept = cluster[lost[0]].dir().to_path_buf();
    check_refused(&recover(&[&survivor_dir, &kept], &["--yes"]), "a majority of the voters");
    check_refused(&recover(&[&survivor_dir], &[]), "add --yes");
    let [copy, stray] = [&kept, &survivor_dir].map(|dir| dir.with_extension("copy"));
    copy_dir(&kept, &copy);
    copy_dir(&survivor_dir, &stray);
    lost.iter().for_each(|position| cluster[*position].wipe());

    let absent = cluster[lost[1]].dir().to_path_buf();
    let refused = recover(&[&absent, &survivor_dir], &["--yes", "--json"]);
    check_refused(&refused, "leave it out of the command");
    let report: serde_json::Value = refused.output.lines().find_map(|line| serde_json::from_str(line).ok()).expect("a report");
    assert!(report["directories"][0]["error"].is_string(), "{report}");
    assert!(report["refusal"].as_str().is_some_and(|text| text.contains("leave it out of the command")), "{report}");
    // Somebody is where one of them was.
    let listener = TcpListener::bind(cluster[lost[0]].peer_address()).expect("the node is gone");
    check_refused(&recover(&[&survivor_dir], &["--yes"]), "--despite-answers");
    let [report, done] = outcome(&recover(&[&survivor_dir], &["--yes", "--despite-answers", "--json"]));
    drop(listener);
    assert_eq!(report["refusal"], serde_json::Value::Null);
    assert_eq!(report["survivor"]["node_id"].as_u64(), Some(survivor_id));
    let cluster_id = done["cluster_id"].as_str().expect("text").to_owned();
    assert_ne!(cluster_id, before.cluster_id);
    check_refused(&recover(&[&survivor_dir], &["--yes"]), "a majority of the voters");

    // With the flags that it always had.
    cluster.start_node(survivor);
    let alone = wait_status(&cluster[survivor], "it leads alone", |status| status.role == Role::Leader && status.members.len() == 1);
    assert_eq!((alone.node_id, &alone.cluster_id, alone.term > before.term), (survivor_id, &cluster_id, true));
    check(&mut cluster.client(survivor));
    for position in &lost {
        cluster[*position].add_flags(&["--cluster-id", &cluster_id]);
        cluster.start_node(*position);
    }
    let whole = wait_status(&cluster[survivor], "three vote", |status| status.voters().len() == 3 && status.members.len() == 3);
    assert!(lost_ids.iter().all(|id| whole.voters().iter().all(|voter| voter != id)), "ids never come back: {whole:?}");
    for position in cluster.positions() {
        cluster[position].wait_ready();
        cluster.wait_caught_up(position);
        check(&mut cluster.client(position));
    }
    // Any one of them can be lost.
    cluster[survivor].kill();
    assert_eq!(cluster.client(lost[0]).incr("n"), 2);
    cluster.bring_back(survivor);

    // A node of before knows where the others were. It serves nobody, and changes nothing.
    let mut old = Node::new(copy, &["--join", &cluster[survivor].peer_address().to_string()]);
    old.start();
    eventually("it is kept out", || old.log().contains(&format!("belongs to cluster {cluster_id}")).then_some(()));
    let status = eventually("it answers", || old.try_status());
    assert_eq!((status.leader_id, &status.cluster_id), (0, &before.cluster_id));
    assert!(matches!(old.client().ask(&["GET", "n"]), Value::Error(text) if text.starts_with("CLUSTERDOWN")));
    let after = wait_status(&cluster[survivor], "there is a leader", |status| status.leader_id != 0);
    assert_eq!(after.members, whole.members);
    assert_eq!(cluster.client(survivor).incr("n"), 3);
    // Nor does the survivor as it was, though it has the id and the data directory of a member.
    let mut stray = Node::new(stray, &[]);
    stray.start();
    eventually("its addresses are not taken", || stray.log().contains("does not take this node's addresses").then_some(()));
    assert_eq!(cluster[survivor].status().members, whole.members);
    assert_eq!(cluster.client(lost[1]).incr("n"), 4);
}

#[test]
fn what_a_survivor_that_is_behind_never_had_is_lost_and_its_revisions_do_not_come_again() {
    let mut cluster = Cluster::start(3);
    write(&mut cluster.client(0));
    let before = cluster.wait_converged();
    let survivor = cluster.followers()[0];
    let (others, dir) = (cluster.others(survivor), cluster[survivor].dir().to_path_buf());
    cluster[survivor].kill();
    let mut client = cluster.client(others[0]);
    assert_eq!(client.incr("n"), 2);
    let lost_revision = integer(&client.must(&["REVISION", "n"]));
    let has_more = wait_status(&cluster[others[0]], "it has applied more", |status| status.applied_index > before.last_index);
    for position in others {
        cluster[position].kill();
        cluster[position].wipe();
    }
    let report = recover(&[&dir], &[]);
    check_refused(&report, "may be lost: what other nodes acknowledged after that entry");
    let [report, _] = outcome(&recover(&[&dir], &["--yes", "--json"]));
    let plan = &report["survivor"];
    assert!(plan["last_index"].as_u64().is_some_and(|last| last < has_more.applied_index), "{report}");
    assert_eq!(plan["missing"].as_array().map(|missing| missing.iter().all(|voter| voter["answers"] == false)), Some(true), "{report}");

    cluster.start_node(survivor);
    cluster[survivor].wait_ready();
    let mut client = cluster.client(survivor);
    check(&mut client);
    assert_eq!(client.incr("n"), 2);
    let revision = integer(&client.must(&["REVISION", "n"]));
    assert!(revision > lost_revision, "{revision} is not given out a second time");
}

#[test]
fn of_two_survivors_the_one_that_has_more_is_taken() {
    let mut cluster = Cluster::start_with(5, &["--replication-factor", "5"]);
    write(&mut cluster.client(0));
    cluster.wait_converged();
    let [shorter, longer] = cluster.followers()[..2] else { panic!("four follow") };
    cluster[shorter].kill();
    cluster.client(longer).set("late", "kept");
    cluster.wait_converged();
    let longer_id = cluster.node_id(longer);
    cluster[longer].kill();
    let rest: Vec<usize> = cluster.positions().filter(|position| ![shorter, longer].contains(position)).collect();
    cluster.client(rest[0]).set("later", "lost");
    for position in &rest {
        cluster[*position].kill();
        cluster[*position].wipe();
    }
    let dirs = [longer, shorter].map(|position| cluster[position].dir().to_path_buf());
    for dirs in [[&dirs[0], &dirs[1]], [&dirs[1], &dirs[0]]] {
        let refused = recover(&dirs.map(PathBuf::as_path), &["--json"]);
        check_refused(&refused, &format!("\"survivor\":{{\"dir\":\"{}\",\"node_id\":{longer_id}", cluster[longer].dir().display()));
    }
    let [report, done] = outcome(&recover(&[&dirs[1], &dirs[0]], &["--yes", "--json"]));
    let last = |row: usize| report["directories"][row]["last_index"].as_u64().expect("a number");
    assert!(last(0) < last(1), "{report}");
    assert_eq!(report["survivor"]["missing_voters"].as_array().map(Vec::len), Some(3), "{report}");
    assert_eq!(done["node_id"].as_u64(), Some(longer_id));
    cluster.start_node(longer);
    cluster[longer].wait_ready();
    let mut client = cluster.client(longer);
    check(&mut client);
    assert_eq!(client.get("late").as_deref(), Some(b"kept".as_slice()));
    assert_eq!(client.get("later"), None);
    // The other one is of the former cluster.
    cluster[shorter].add_flags(&["--cluster-id", done["cluster_id"].as_str().expect("text")]);
    cluster.start_node(shorter);
    assert_eq!(cluster[shorter].wait_end().code(), Some(1), "it belongs to another cluster");
}

#[test]
fn a_learner_can_be_what_is_left_and_somebody_has_to_agree() {
    let mut cluster = Cluster::start(3);
    let learner = cluster.add_node();
    write(&mut cluster.client(learner));
    cluster.wait_converged();
    let before = cluster[learner].status();
    assert_eq!(before.role, Role::Learner);
    cluster.positions().for_each(|position| cluster[position].kill());
    let dir = cluster[learner].dir().display().to_string();
    let answered = |answer: &str| {
        let mut terminal = Terminal::start(&["cluster", "recover", "--data-dir", &dir], &[]);
        terminal.expect("learner");
        terminal.expect("may be lost:");
        terminal.expect("type `recover` to go on: ");
        terminal.send(answer);
        terminal.send("\n");
        terminal.wait_end().code()
    };
    assert_eq!(answered("yes"), Some(1));
    assert_eq!(answered("recover"), Some(0));
    cluster.start_node(learner);
    let alone = wait_status(&cluster[learner], "it leads alone", |status| status.role == Role::Leader && status.members.len() == 1);
    assert_eq!(alone.node_id, before.node_id);
    assert_ne!(alone.cluster_id, before.cluster_id);
    check(&mut cluster.client(learner));
}

#[test]
fn a_cluster_under_a_supervisor_is_recovered_in_its_place() {
    let cluster = Supervised::start();
    cluster.wait_whole();
    write(&mut cluster.client(0));
    let before = cluster.raft_status(0).expect("it answers");
    let has_it = |position| cluster.raft_status(position).is_some_and(|status| status.applied_index >= before.applied_index);
    eventually("all have applied it", || (0..3).all(has_it).then_some(()));
    check_refused(&cluster.command(&["recover", "--yes"]), "a cluster already runs in");
    cluster.kill_everything();
    check_refused(&cluster.command(&["recover", "--yes"]), "a majority of the voters");
    check_refused(&recover(&[&cluster.node_dir(0)], &["--yes"]), "is part of a cluster");

    fs::remove_dir_all(cluster.node_dir(1)).expect("it is there");
    fs::write(cluster.node_dir(2).join("damaged"), "a checksum does not fit").expect("it is there");
    // Something is in the way of the state file, which is written behind the decision.
    let obstacle = cluster.dir().join("cluster.json.part");
    fs::create_dir(&obstacle).expect("it can be created");
    let stopped = cluster.command(&["recover", "--yes"]);
    assert!(stopped.code == Some(1) && stopped.output.contains("a checksum does not fit"), "{stopped:?}");
    assert!(stopped.output.contains("was begun and is not finished: mend this and run the same command again"), "{stopped:?}");
    let mut node = Node::new(cluster.node_dir(0), &["--join", "127.0.0.1:1"]);
    node.start();
    assert_eq!(node.wait_end().code(), Some(DO_NOT_RESTART), "it is neither what it was nor what it will be");
    fs::remove_dir(&obstacle).expect("it is there");
    let said = cluster.command(&["recover", "--yes"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.output.contains("was begun before") && said.output.contains("cluster start"), "{said:?}");
    assert!(cluster.dir().join("node-3-set-aside-1/damaged").exists(), "nothing is deleted");

    cluster.start_again();
    cluster.wait_whole();
    for position in 0..3 {
        check(&mut cluster.client(position));
    }
    let after = cluster.raft_status(0).expect("it answers");
    assert_ne!(after.cluster_id, before.cluster_id);
    assert_eq!((after.node_id, after.members.len()), (before.node_id, 3));
}
