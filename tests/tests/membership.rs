//! Members that join, leave, come back empty, or come back as something they are not.

use std::fs;
use std::thread;
use std::time::Duration;

use redraft_tests::client::{integer, ok};
use redraft_tests::dir::copy_dir;
use redraft_tests::node::wait_status;
use redraft_tests::{Client, Cluster, Load, Node, Role, Value, eventually};

/// Exit code of a node that must not be started again.
const DO_NOT_RESTART: i32 = 3;
/// Length of a fault: a leader looks once per election timeout whom it has heard of, so after two it misses who is gone.
const MISSED: Duration = Duration::from_secs(3);
/// As many starts as bring the boot counter of an old copy beyond the one that the others know.
const STARTS_OF_A_COPY: usize = 3;
/// The file that keeps a node from starting again.
const FENCE: &str = "damaged";

/// RAFT commands answer `TRYAGAIN` while the group is at something else.
#[track_caller]
fn raft(client: &mut Client, args: &[&str]) {
    eventually("the change is accepted", || match client.ask(args) {
        Value::Error(text) if text.starts_with("TRYAGAIN") || text.starts_with("CLUSTERDOWN") => None,
        Value::Error(text) => panic!("{args:?}: {text}"),
        reply => Some(reply),
    });
}

/// Waits until the members are as many voters and learners as given, as all nodes that run see it.
#[track_caller]
fn wait_members(cluster: &Cluster, voters: usize, learners: usize) {
    eventually("the members are as they should be", || {
        let right = |status: &redraft_tests::RaftStatus| {
            let found = status.voters().len();
            (found, status.members.len() - found) == (voters, learners)
        };
        cluster.statuses().iter().all(|(_, status)| right(status)).then_some(())
    });
}

#[test]
fn a_wiped_follower_comes_back_as_a_new_node() {
    let mut cluster = Cluster::start(3);
    let (leader, wiped) = (cluster.leader(), cluster.followers()[0]);
    let before = cluster[wiped].status();
    let load = Load::on("load", cluster.addresses_of(&cluster.others(wiped)), 3);
    load.wait_for(50);
    cluster[wiped].kill();
    cluster[wiped].wipe();
    cluster.start_node(wiped);
    let after = wait_status(&cluster[wiped], "it votes again", |status| {
        status.voters().len() == 3 && status.voters().contains(&status.node_id) && status.members.len() == 3
    });
    assert_eq!(after.cluster_id, before.cluster_id, "it founds no cluster of its own");
    assert_ne!(after.node_id, before.node_id, "it is another node");
    assert!(!after.voters().contains(&before.node_id), "its predecessor is gone");
    load.wait_for(50);
    let record = load.stop();
    record.check_no_errors();
    cluster.wait_converged();
    record.check(&mut cluster.client(wiped));
    // Its vote counts: with it, the old leader can be lost.
    cluster[leader].kill();
    record.check(&mut cluster.client(wiped));
}

#[test]
fn wiped_leaders_one_after_the_other_lose_nothing() {
    let mut cluster = Cluster::start(3);
    let load = Load::on("load", cluster.addresses(), 3);
    for _ in 0..3 {
        load.wait_for(50);
        let leader = cluster.leader();
        cluster[leader].kill();
        cluster[leader].wipe();
        cluster.start_node(leader);
        wait_status(&cluster[leader], "it votes again", |status| {
            status.voters().contains(&status.node_id) && status.voters().len() == 3 && status.members.len() == 3
        });
        cluster.wait_caught_up(leader);
    }
    let record = load.stop();
    cluster.wait_converged();
    for position in cluster.positions() {
        record.check(&mut cluster.client(position));
    }
}

#[test]
fn a_fourth_node_learns_and_serves() {
    let mut cluster = Cluster::start(3);
    let load = Load::on("load", cluster.addresses(), 3);
    load.wait_for(100);
    let fourth = cluster.add_node();
    wait_members(&cluster, 3, 1);
    cluster.wait_caught_up(fourth);
    assert_eq!(cluster[fourth].status().role, Role::Learner);
    let (mut writer, mut reader) = (cluster.client(0), cluster.client(fourth));
    for _ in 0..100 {
        let value = writer.incr("n");
        assert_eq!(reader.must(&["GET", "n"]), redraft_tests::client::bulk(value.to_string()), "its reads are linearizable");
    }
    assert_eq!(reader.incr("n"), 101, "and it takes writes");
    let record = load.stop();
    record.check_no_errors();
    record.check(&mut reader);
}

#[test]
fn a_node_alone_grows_to_three_under_load() {
    let mut cluster = Cluster::start(1);
    let load = Load::on("load", cluster.addresses(), 3);
    load.wait_for(100);
    cluster.add_node();
    wait_members(&cluster, 1, 1);
    cluster.add_node();
    wait_members(&cluster, 3, 0);
    load.wait_for(100);
    let record = load.stop();
    record.check_no_errors();
    cluster.wait_converged();
    cluster[0].kill();
    record.check(&mut cluster.client(2));
}

#[test]
fn a_removed_follower_leaves_and_a_learner_takes_its_place() {
    let mut cluster = Cluster::start(3);
    let spare = cluster.add_node();
    let (leader, removed) = (cluster.leader(), *cluster.followers().iter().find(|follower| **follower != spare).expect("a voter"));
    let removed_id = cluster.node_id(removed);
    let load = Load::on("load", cluster.addresses_of(&cluster.others(removed)), 3);
    load.wait_for(50);
    // Asked at a node that does not lead.
    raft(&mut cluster.client(spare), &["RAFT", "REMOVE", &removed_id.to_string()]);
    let status = cluster[removed].wait_end();
    assert_eq!(status.code(), Some(DO_NOT_RESTART), "a removed node ends");
    assert!(cluster[removed].log().contains("removed"), "and says why");
    wait_members(&cluster, 3, 0);
    let status = cluster[leader].status();
    assert!(status.voters().contains(&cluster.node_id(spare)) && !status.voters().contains(&removed_id));
    load.wait_for(50);
    let record = load.stop();
    record.check_no_errors();

    // It is told so again, and with --rejoin it is a new node.
    cluster.start_node(removed);
    assert_eq!(cluster[removed].wait_end().code(), Some(DO_NOT_RESTART));
    cluster[removed].add_flags(&["--rejoin"]);
    cluster.start_node(removed);
    wait_members(&cluster, 3, 1);
    assert_ne!(cluster.node_id(removed), removed_id);
    cluster.wait_caught_up(removed);
    record.check(&mut cluster.client(removed));
}

#[test]
fn voters_that_stay_away_are_replaced_by_learners() {
    let mut cluster = Cluster::start_with(3, &["--replace-after", "2"]);
    let spares = [cluster.add_node(), cluster.add_node()];
    wait_members(&cluster, 3, 2);
    let leader = cluster.leader();
    let gone: Vec<usize> = (0..3).filter(|position| *position != leader).collect();
    let load = Load::on("load", cluster.addresses_of(&[leader, spares[0], spares[1]]), 3);
    for position in gone {
        let node_id = cluster.node_id(position);
        load.wait_for(50);
        cluster[position].kill();
        // So many voters as before, though only two of them had been there.
        let voters = |status: &redraft_tests::RaftStatus| status.voters().len() == 3 && !status.voters().contains(&node_id);
        wait_status(&cluster[leader], "a learner votes in its place", voters);
        cluster.start_node(position);
        wait_status(&cluster[position], "who comes back is the next spare", |status| status.role == Role::Learner);
    }
    load.wait_for(50);
    let record = load.stop();
    record.check_no_errors();
    record.check(&mut cluster.client(spares[1]));
}

#[test]
fn a_leader_that_is_lost_for_good_is_replaced() {
    let mut cluster = Cluster::start_with(3, &["--replace-after", "2"]);
    let spares = [cluster.add_node(), cluster.add_node()];
    wait_members(&cluster, 3, 2);
    let lost = cluster.leader();
    let lost_id = cluster.node_id(lost);
    let load = Load::on("load", cluster.addresses_of(&cluster.others(lost)), 3);
    load.wait_for(50);
    cluster[lost].kill();
    cluster[lost].wipe();
    let replaced = |status: &redraft_tests::RaftStatus| status.voters().len() == 3 && !status.voters().contains(&lost_id);
    wait_status(&cluster[spares[0]], "a learner votes in its place", replaced);
    load.wait_for(50);
    load.stop().check(&mut cluster.client(spares[1]));
}

#[test]
fn a_removed_leader_hands_over_first() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let leader_id = cluster.node_id(leader);
    let others = cluster.others(leader);
    let load = Load::on("load", cluster.addresses_of(&others), 3);
    load.wait_for(50);
    raft(&mut cluster.client(others[0]), &["RAFT", "REMOVE", &leader_id.to_string()]);
    assert_eq!(cluster[leader].wait_end().code(), Some(DO_NOT_RESTART), "the removed leader ends");
    load.wait_for(100);
    let record = load.stop();
    record.check_no_errors();
    assert!(others.contains(&cluster.leader()));
    wait_members(&cluster, 2, 0);
    record.check(&mut cluster.client(others[1]));
}

#[test]
fn removals_that_make_no_sense_are_refused() {
    let mut cluster = Cluster::start(3);
    let mut client = cluster.client(cluster.leader());
    assert!(client.refused(&["RAFT", "REMOVE", "99"]).contains("99"));
    assert_eq!(client.refused(&["RAFT", "REMOVE", "nobody"]), "ERR node id must be a positive integer");
    assert!(client.refused(&["RAFT", "TRANSFER", "99"]).contains("99"));
    // One of the two others is down: without the third, the rest could not go on.
    let followers = cluster.followers();
    let third = cluster.node_id(followers[1]).to_string();
    cluster[followers[0]].kill();
    thread::sleep(MISSED);
    let refusal = client.refused(&["RAFT", "REMOVE", &third]);
    assert!(refusal.starts_with("TRYAGAIN "), "{refusal}");
    client.set("k", "the group goes on");
}

#[test]
fn leadership_is_transferred_without_an_error() {
    let cluster = Cluster::start(3);
    let load = Load::on("load", cluster.addresses(), 4);
    for round in 0..6 {
        load.wait_for(30);
        let followers = cluster.followers();
        let target = followers[0];
        let target_id = cluster.node_id(target).to_string();
        // Every node takes the command; a follower hands it on to the leader.
        let asked = [cluster.leader(), followers[1], target][round % 3];
        raft(&mut cluster.client(asked), &["RAFT", "TRANSFER", &target_id]);
        assert_eq!(cluster.leader(), target);
    }
    let record = load.stop();
    record.check_no_errors();
    let totals = record.check(&mut cluster.client(0));
    assert_eq!(totals.counter, totals.increments);
}

/// Its own table does not have that leader, which could alone bring it a newer one.
#[test]
fn a_member_that_was_cut_off_follows_a_leader_that_has_joined_since() {
    let mut cluster = Cluster::start_with_network(3, &["--replication-factor", "5"]);
    let behind = cluster.followers()[0];
    let joiners = [(); 2].map(|()| cluster.add_spare());
    cluster.network().isolate(behind);
    joiners.iter().for_each(|joiner| cluster.start_node(*joiner));
    let joined = wait_status(&cluster[joiners[0]], "both vote", |status| status.voters().len() == 5);
    raft(&mut cluster.client(joiners[0]), &["RAFT", "TRANSFER", &joined.node_id.to_string()]);
    cluster.client(joiners[0]).set("k", "v");
    assert_eq!(cluster[behind].status().members.len(), 3, "it has heard of none of it");
    // What was sent to it before is lost, or the former leader would tell it after all.
    cluster.network().reset(behind);
    cluster.network().heal();
    wait_status(&cluster[behind], "it follows the new leader", |status| status.leader_id == joined.node_id && status.members.len() == 5);
    cluster.wait_caught_up(behind);
    assert_eq!(cluster.client(behind).get("k").as_deref(), Some(b"v".as_slice()));
}

#[test]
fn an_old_copy_of_a_directory_is_not_let_in() {
    let mut cluster = Cluster::start(3);
    let node = cluster.followers()[0];
    put_back(&mut cluster, node);
    for _ in 0..STARTS_OF_A_COPY {
        cluster.start_node(node);
        check_kept_out(&mut cluster, node);
    }
}

#[test]
fn an_old_copy_of_a_directory_is_not_let_in_after_the_others_were_restarted() {
    let mut cluster = Cluster::start(3);
    let node = cluster.followers()[0];
    put_back(&mut cluster, node);
    // What they know of the node is now what they have on their disks.
    for other in cluster.others(node) {
        cluster[other].kill();
    }
    for position in cluster.positions() {
        cluster.start_node(position);
    }
    check_kept_out(&mut cluster, node);
    // The others know it without its fence, too: its later starts are of the past like its first.
    for _ in 1..STARTS_OF_A_COPY {
        fs::remove_file(cluster[node].dir().join(FENCE)).expect("the refusal has put up a fence");
        cluster.start_node(node);
        check_kept_out(&mut cluster, node);
    }
}

/// Kills a node and puts its directory back to what it was before its last start.
fn put_back(cluster: &mut Cluster, node: usize) {
    cluster.client(node).set("k", "1");
    cluster[node].stop();
    let copy = cluster[node].dir().with_extension("copy");
    copy_dir(cluster[node].dir(), &copy);
    cluster.bring_back(node);
    cluster.client(node).set("k", "2");
    cluster[node].kill();
    fs::remove_dir_all(cluster[node].dir()).expect("the directory can be removed");
    fs::rename(&copy, cluster[node].dir()).expect("the copy can take its place");
}

/// Its log and its vote are of the past: as a voter, it could undo what it once agreed to.
fn check_kept_out(cluster: &mut Cluster, node: usize) {
    assert_eq!(cluster[node].wait_end().code(), Some(DO_NOT_RESTART), "the copy ends");
    for other in cluster.others(node) {
        assert_ne!(cluster[other].status().node_id, 0, "the others must not be misled by it");
    }
    let mut client = cluster.client(cluster.leader());
    assert_eq!(client.must(&["SET", "k", "3"]), ok());
    assert_eq!(integer(&client.must(&["GET", "k"])), 3);
}

#[test]
fn nodes_share_a_secret_and_a_stranger_is_kept_out() {
    let mut cluster = Cluster::start_with(3, &["--peer-secret", "of the cluster"]);
    assert_eq!(cluster.client(0).incr("n"), 1);
    let join = cluster[0].peer_address().to_string();
    let dir = redraft_tests::dir::TestDir::new();
    for flags in [&["--join", &join] as &[&str], &["--join", &join, "--peer-secret", "another"]] {
        let mut stranger = Node::new(dir.join(format!("stranger-{}", flags.len())), flags);
        stranger.start();
        eventually("it says why it is kept out", || stranger.log().contains("peer-secret").then_some(()));
        assert!(stranger.try_client().is_none());
        stranger.stop();
    }
    wait_members(&cluster, 3, 0);
    let fourth = cluster.add_node();
    wait_members(&cluster, 3, 1);
    assert_eq!(cluster.client(fourth).incr("n"), 2);
}

#[test]
fn two_of_three_return_with_new_addresses_at_once() {
    let mut cluster = Cluster::start(3);
    cluster.client(0).set("k", "v");
    let moved = cluster.followers();
    for node in &moved {
        cluster[*node].stop();
        cluster[*node].move_away();
    }
    // They know where the third is. It learns from them where they are, since the table cannot change without them.
    for node in &moved {
        cluster.start_node(*node);
    }
    cluster.wait_converged();
    for position in cluster.positions() {
        assert_eq!(cluster.client(position).get("k").as_deref(), Some(b"v".as_slice()));
    }
    let addresses: Vec<String> = cluster.addresses_of(&moved).iter().map(ToString::to_string).collect();
    wait_status(&cluster[0], "the table has their addresses", |status| {
        addresses.iter().all(|address| status.members.iter().any(|member| member.listen == *address))
    });
}

#[test]
fn a_node_returns_with_new_addresses() {
    let mut cluster = Cluster::start(3);
    let moved = cluster.followers()[0];
    let before = cluster[moved].status();
    cluster[moved].stop();
    cluster[moved].move_away();
    cluster.bring_back(moved);
    let address = cluster[moved].address().to_string();
    wait_status(&cluster[cluster.leader()], "the table has its new address", |status| {
        status.members.iter().any(|member| member.node_id == before.node_id && member.listen == address)
    });
    // The others find it there: with another node gone, it is needed.
    let gone = cluster.others(moved)[0];
    cluster[gone].kill();
    let mut client = cluster.client(moved);
    eventually("two of three are enough", || matches!(client.ask(&["SET", "k", "v"]), Value::Simple(_)).then_some(()));
    assert_eq!(cluster[moved].status().node_id, before.node_id, "it is the same node");
}
