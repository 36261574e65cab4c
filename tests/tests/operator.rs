//! What an operator types while a cluster runs: nodes come, go, and lead in turn, and clients of the others notice nothing.

use std::time::Duration;

use redraft_tests::client::bulk;
use redraft_tests::process::send_signal;
use redraft_tests::supervised::{NodeRow, Supervised};
use redraft_tests::terminal::Terminal;
use redraft_tests::{Load, eventually};
use rustix::process::Signal;

/// After so long a silent node is missed by the leader.
const MISSED: Duration = Duration::from_secs(3);

#[track_caller]
fn must(cluster: &Supervised, args: &[&str]) -> String {
    let finished = cluster.command(args);
    assert_eq!(finished.code, Some(0), "{args:?}: {}", finished.output);
    finished.output
}

fn position_of(rows: &[NodeRow], role: &str) -> usize {
    rows.iter().position(|row| row.role == role).unwrap_or_else(|| panic!("no {role}: {rows:?}"))
}

#[test]
fn nodes_are_added_and_removed_under_load() {
    let cluster = Supervised::start();
    let rows = cluster.wait_whole();
    let leaving = position_of(&rows, "follower");
    let staying: Vec<usize> = (0..3).filter(|position| *position != leaving).collect();
    let load = Load::on("load", staying.iter().map(|position| cluster.address(*position)).collect(), 3);
    load.wait_for(50);

    let added = must(&cluster, &["add"]);
    assert!(added.contains("node 4: runs as pid "), "{added}");
    let rows = cluster.status();
    assert_eq!((rows.len(), rows[3].listen, rows[3].role.as_str()), (4, cluster.address(3), "learner"), "{rows:?}");
    cluster.client(3).set("through the fourth", "v");
    load.wait_for(50);

    let node = (leaving + 1).to_string();
    let removed = must(&cluster, &["remove", "--node", &node]);
    let aside = cluster.dir().join(format!("node-{node}-set-aside-1"));
    assert!(removed.contains(&aside.display().to_string()) && aside.join("data").exists(), "{removed}");
    assert!(!cluster.node_dir(leaving).exists());
    eventually("the fourth votes in its place", || {
        let status = cluster.raft_status(3)?;
        (status.members.len() == 3 && status.voters().len() == 3).then_some(())
    });
    load.wait_for(50);
    let record = load.stop();
    record.check_no_errors();
    record.check(&mut cluster.client(3));

    // The cluster is of these three from now on, and the free number is given out again.
    must(&cluster, &["rolling-restart"]);
    must(&cluster, &["stop"]);
    cluster.start_again();
    assert_eq!(cluster.wait_whole().len(), 3);
    let again = must(&cluster, &["add"]);
    assert!(again.contains(&format!("node {node}: runs as pid ")), "{again}");
    assert_eq!(cluster.client(leaving).must(&["GET", "through the fourth"]), bulk("v"));
    assert_eq!(cluster.status().len(), 4);
}

#[test]
fn a_leader_that_is_removed_hands_over_first() {
    let cluster = Supervised::start();
    let rows = cluster.wait_whole();
    let leader = position_of(&rows, "leader");
    let others: Vec<_> = (0..3).filter(|position| *position != leader).map(|position| cluster.address(position)).collect();
    let load = Load::on("load", others, 3);
    load.wait_for(50);
    must(&cluster, &["remove", "--node", &(leader + 1).to_string()]);
    load.wait_for(50);
    let record = load.stop();
    record.check_no_errors();
    let rows = cluster.status();
    assert_eq!((rows.len(), rows.iter().filter(|row| row.role == "leader").count()), (2, 1), "{rows:?}");
}

#[test]
fn changes_that_make_no_sense_are_refused() {
    let cluster = Supervised::start();
    let rows = cluster.wait_whole();
    let refused = |args: &[&str], words: &str| {
        let finished = cluster.command(args);
        assert!(finished.code == Some(1) && finished.output.contains(words), "{args:?}: {}", finished.output);
    };
    refused(&["remove", "--node", "4"], "--node: '4' does not fit");
    refused(&["transfer", "--to", "4"], "--to: '4' does not fit");
    let taken = std::net::TcpListener::bind(cluster.address(3)).expect("the port is free");
    refused(&["add"], &format!("node 4 cannot listen on {}", cluster.address(3)));
    drop(taken);
    // Of the two others one is silent: without the third, the rest could not go on.
    let follower = position_of(&rows, "follower");
    let third = (0..3).find(|position| *position != follower && rows[*position].role == "follower").expect("two follow");
    let pid = rows[follower].pid.expect("it runs");
    send_signal(pid, Signal::STOP);
    std::thread::sleep(MISSED);
    refused(&["remove", "--node", &(third + 1).to_string()], "too few of the other voters answer");
    assert_eq!(cluster.status().len(), 3);
    send_signal(pid, Signal::CONT);
    cluster.wait_whole();
}

#[test]
fn leadership_is_transferred_to_whom_it_shall_or_to_any() {
    let cluster = Supervised::start();
    let rows = cluster.wait_whole();
    let load = Load::on("load", cluster.addresses(), 3);
    load.wait_for(30);
    let follower = position_of(&rows, "follower");
    let node = (follower + 1).to_string();
    let said = must(&cluster, &["transfer", "--to", &node]);
    assert!(said.contains(&format!("node {node} leads; ")), "{said}");
    assert_eq!(position_of(&cluster.wait_whole(), "leader"), follower);
    assert!(must(&cluster, &["transfer", "--to", &node]).contains("leads already"));
    must(&cluster, &["transfer"]);
    assert_ne!(position_of(&cluster.wait_whole(), "leader"), follower);
    let record = load.stop();
    record.check_no_errors();
    record.check(&mut cluster.client(0));
}

#[test]
fn replicas_are_verified() {
    let cluster = Supervised::start();
    let rows = cluster.wait_whole();
    cluster.client(0).set("k", "v");
    let whole = must(&cluster, &["verify"]);
    assert!(whole.matches("  equal  ").count() == 3 && whole.trim_end().ends_with(": equal"), "{whole}");
    // Who says nothing is not equal to anybody.
    let silent = position_of(&rows, "follower");
    let pid = rows[silent].pid.expect("it runs");
    send_signal(pid, Signal::STOP);
    let partial = cluster.command(&["verify"]);
    assert!(partial.code == Some(1) && partial.output.contains("missing"), "{}", partial.output);
    assert!(partial.output.contains("not all members could be compared"), "{}", partial.output);
    send_signal(pid, Signal::CONT);
}

#[test]
fn the_state_of_all_nodes_is_shown_once_and_again() {
    let cluster = Supervised::start();
    cluster.wait_whole();
    let dir = cluster.dir().display().to_string();
    let once = redraft_tests::process::run_redraft(&["status", "--dir", &dir], redraft_tests::PATIENCE);
    let lines: Vec<&str> = once.output.lines().collect();
    assert_eq!((once.code, lines.len()), (Some(0), 4), "{}", once.output);
    assert!(lines[0].starts_with("NODE  ADDRESS") && lines[0].contains("COMMANDS/S"), "{}", once.output);
    assert!(lines[1..].iter().all(|line| line.contains("127.0.0.1:") && line.ends_with("yes")), "{}", once.output);

    let mut terminal = Terminal::start(&["status", "--watch", "--dir", &dir], &[]);
    // The first view, and one that is a second younger.
    for _ in 0..2 {
        terminal.expect("COMMANDS/S");
        terminal.expect("leader");
    }
    assert!(!terminal.is_ordinary());
    must(&cluster, &["stop"]);
    terminal.expect("is not running");
    terminal.send("q");
    assert!(terminal.wait_end().success() && terminal.is_ordinary());
    let nobody = redraft_tests::process::run_redraft(&["status", "--watch", "--dir", &dir], redraft_tests::PATIENCE);
    assert!(nobody.code == Some(1) && nobody.output.contains("needs a terminal"), "{}", nobody.output);
}
