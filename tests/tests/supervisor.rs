//! `redraft cluster`: what a user of one machine types, and what the supervisor does by itself.

use std::time::Duration;

use redraft_tests::client::bulk;
use redraft_tests::process::send_signal;
use redraft_tests::supervised::{Supervised, wait_back};
use redraft_tests::{Load, eventually};
use rustix::process::Signal;

/// The promise of the project.
const BACK_WITHIN: Duration = Duration::from_secs(2);

#[test]
fn a_cluster_starts_serves_stops_and_starts_again() {
    let cluster = Supervised::start();
    cluster.wait_whole();
    cluster.client(0).set("k", "v");
    assert_eq!(cluster.client(1).must(&["GET", "k"]), bulk("v"));
    assert_eq!(cluster.client(2).incr("n"), 1);
    let status = cluster.command(&["status"]);
    assert_eq!((status.code, status.output.matches("follower").count(), status.output.matches("leader").count()), (Some(0), 2, 1));
    assert_eq!(cluster.command(&["health"]).code, Some(0));
    // Starting what runs is no error and changes nothing.
    let pids = |cluster: &Supervised| cluster.status().iter().map(|row| row.pid).collect::<Vec<_>>();
    let before = pids(&cluster);
    cluster.start_again();
    assert_eq!(pids(&cluster), before);

    let stopped = cluster.command(&["stop"]);
    assert_eq!(stopped.code, Some(0), "{}", stopped.output);
    let status = cluster.command(&["status"]);
    assert_eq!(status.code, Some(1), "{}", status.output);
    assert!(status.output.contains("not running"), "{}", status.output);
    assert_eq!(cluster.command(&["health"]).code, Some(1));
    cluster.start_again();
    cluster.wait_whole();
    assert_eq!(cluster.client(1).must(&["GET", "k"]), bulk("v"));
}

#[test]
fn a_killed_node_is_back_within_two_seconds() {
    let cluster = Supervised::start();
    let load = Load::on("load", cluster.addresses(), 3);
    for _ in 0..3 {
        load.wait_for(30);
        let rows = cluster.wait_whole();
        let (position, row) = rows.iter().enumerate().find(|(_, row)| row.role == "leader").expect("a leader");
        let pid = row.pid.expect("it runs");
        send_signal(pid, Signal::KILL);
        let back = wait_back(&cluster, position, pid);
        assert!(back <= BACK_WITHIN, "it was back after {back:?}");
    }
    let record = load.stop();
    cluster.wait_whole();
    record.check(&mut cluster.client(0));
}

#[test]
fn a_wiped_node_joins_again_by_itself() {
    let cluster = Supervised::start();
    let rows = cluster.wait_whole();
    let (position, row) = rows.iter().enumerate().find(|(_, row)| row.role == "follower").expect("a follower");
    let (pid, node_id) = (row.pid.expect("it runs"), row.node_id.expect("it is a member"));
    cluster.client(position).set("k", "v");
    // The directory goes while the process still runs: whatever it writes on its way out must not matter.
    send_signal(pid, Signal::STOP);
    std::fs::remove_dir_all(cluster.node_dir(position)).expect("the directory can be removed");
    send_signal(pid, Signal::KILL);
    eventually("it is a member with another id", || {
        let rows = cluster.status();
        (rows[position].role == "follower" && rows[position].node_id.is_some_and(|id| id != node_id)).then_some(())
    });
    cluster.wait_whole();
    assert_eq!(cluster.client(position).must(&["GET", "k"]), bulk("v"));
}

#[test]
fn a_node_that_stays_down_is_brought_back_by_one_command() {
    let cluster = Supervised::start();
    let rows = cluster.wait_whole();
    let (position, row) = rows.iter().enumerate().find(|(_, row)| row.role == "follower").expect("a follower");
    let (pid, former) = (row.pid.expect("it runs"), row.node_id.expect("it is a member"));
    let (node, other) = ((position + 1).to_string(), (position + 1) % 3);
    cluster.client(position).set("k", "v");
    let early = cluster.command(&["rejoin", "--node", &node]);
    assert_eq!(early.code, Some(1), "{}", early.output);
    assert!(early.output.contains("is alive") && early.output.contains(&format!("RAFT REMOVE {former}")), "{}", early.output);

    std::fs::write(cluster.node_dir(position).join("damaged"), "a bad checksum\n").expect("the directory can be written");
    send_signal(pid, Signal::KILL);
    eventually("the node stays down", || (cluster.status()[position].role == "stopped").then_some(()));
    let status = cluster.command(&["status"]).output;
    let advice = status.lines().last().unwrap_or_default();
    assert!(advice.contains(&format!("cluster rejoin --node {node} --dir {}", cluster.dir().display())), "{status}");
    cluster.client(other).set("meanwhile", "v");

    let rejoin = cluster.command(&["rejoin", "--node", &node]);
    assert_eq!(rejoin.code, Some(0), "{}", rejoin.output);
    let back = eventually("the new node votes, and the former one is gone", || {
        let back = cluster.status()[position].node_id.filter(|id| *id != former)?;
        let status = cluster.raft_status(other)?;
        (status.members.len() == 3 && status.voters().len() == 3 && status.voters().contains(&back)).then_some(back)
    });
    for key in ["k", "meanwhile"] {
        assert_eq!(cluster.client(position).must(&["GET", key]), bulk("v"));
    }
    // It is supervised as ever, and stays who it is.
    let pid = cluster.wait_whole()[position].pid.expect("it runs");
    send_signal(pid, Signal::KILL);
    wait_back(&cluster, position, pid);
    assert_eq!(cluster.wait_whole()[position].node_id, Some(back));
}

#[test]
fn a_restart_node_by_node_is_seen_by_nobody() {
    let cluster = Supervised::start();
    let before: Vec<_> = cluster.wait_whole().iter().map(|row| row.pid).collect();
    let load = Load::on("load", cluster.addresses(), 3);
    load.wait_for(30);
    let restart = cluster.command(&["restart"]);
    assert_eq!(restart.code, Some(0), "{}", restart.output);
    load.wait_for(30);
    let record = load.stop();
    assert!(record.errors().is_empty(), "no error replies: {:?}", record.errors());
    let totals = record.check(&mut cluster.client(0));
    assert_eq!(totals.counter, totals.increments, "what has no answer was not executed: {totals:?}");
    let after: Vec<_> = cluster.wait_whole().iter().map(|row| row.pid).collect();
    assert!(before.iter().zip(&after).all(|(before, after)| before != after), "all are other processes: {before:?} {after:?}");
}

#[test]
fn a_taken_port_is_named_and_nothing_is_left_running() {
    let cluster = Supervised::start();
    cluster.command(&["stop"]);
    let address = cluster.addresses()[1];
    let _taken = std::net::TcpListener::bind(address).expect("the port is free now");
    let start = cluster.command(&["start"]);
    assert_eq!(start.code, Some(1), "{}", start.output);
    assert!(start.output.contains(&address.to_string()) && start.output.contains("in use"), "{}", start.output);
    assert_eq!(cluster.command(&["status"]).code, Some(1));
    assert!(redraft_tests::Client::connect(cluster.addresses()[0]).is_err());
}

#[test]
fn commands_without_a_cluster_say_so() {
    let cluster = Supervised::start();
    cluster.command(&["stop"]);
    let empty = redraft_tests::dir::TestDir::new();
    let dir = empty.join("none").display().to_string();
    let commands = [
        &["status"][..],
        &["stop"],
        &["rolling-restart"],
        &["rejoin", "--node", "1"],
        &["add"],
        &["remove", "--node", "1"],
        &["transfer"],
        &["verify"],
        &["health"],
    ];
    for command in commands {
        let line: Vec<&str> = ["cluster"].into_iter().chain(command.iter().copied()).chain(["--dir", &dir]).collect();
        let finished = redraft_tests::process::run_redraft(&line, Duration::from_secs(30));
        assert_eq!(finished.code, Some(1), "{command:?}: {}", finished.output);
        assert!(finished.output.contains("there is no cluster in"), "{command:?}: {}", finished.output);
    }
    let rejoin = cluster.command(&["rejoin", "--node", "1"]);
    assert_eq!(rejoin.code, Some(1), "{}", rejoin.output);
    assert!(rejoin.output.contains("is not running"), "{}", rejoin.output);
    let add = cluster.command(&["add"]);
    assert!(add.code == Some(1) && add.output.contains("is not running"), "{}", add.output);
    let other = cluster.command(&["start", "--nodes", "5"]);
    assert_eq!(other.code, Some(1), "{}", other.output);
    assert!(other.output.contains("--nodes"), "{}", other.output);
}
