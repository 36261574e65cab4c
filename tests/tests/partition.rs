//! Nodes that cannot reach each other: the majority goes on, the rest says so, and nobody reads the past.

use std::thread;
use std::time::{Duration, Instant};

use redraft_tests::client::bulk;
use redraft_tests::history::{self, Clients};
use redraft_tests::node::wait_status;
use redraft_tests::{Cluster, Load, Role, Value, eventually};

/// The promise of the project for a leader that is gone.
const FAILOVER_MAX: Duration = Duration::from_secs(5);
/// Length of a fault: several attempts of a follower to be elected.
const ATTEMPTS: Duration = Duration::from_secs(4);

#[test]
fn a_leader_that_is_cut_off_steps_down_and_serves_nothing() {
    let mut cluster = Cluster::start_with_network(3, &["--request-timeout", "1500"]);
    let leader = cluster.leader();
    let others = cluster.others(leader);
    let mut old = cluster.client(leader);
    old.set("k", "before");
    let load = Load::on("load", cluster.addresses_of(&others), 3);
    load.wait_for(20);
    let cut_at = Instant::now();
    cluster.network().isolate(leader);
    // Sent while it still believes that it leads: nobody can confirm that, so it must not answer from what it has.
    assert!(old.refused(&["GET", "k"]).starts_with("CLUSTERDOWN "), "a read without a majority");
    let gap = load.wait_acknowledged_after(cut_at);
    assert!(gap < FAILOVER_MAX, "nobody could write for {gap:?}");
    cluster.client(others[0]).set("k", "after");
    assert!(old.refused(&["GET", "k"]).starts_with("CLUSTERDOWN "), "a read behind the times");
    let refusal = old.refused(&["SET", "k", "lost"]);
    assert!(refusal.starts_with("CLUSTERDOWN ") || refusal.starts_with("TIMEOUT "), "{refusal}");
    wait_status(&cluster[leader], "the old leader has stepped down", |status| status.role != Role::Leader);

    cluster.network().heal();
    eventually("it follows again", || cluster[leader].try_status().filter(|status| status.leader_id != 0));
    assert_eq!(old.must(&["GET", "k"]), bulk("after"), "and knows what was written without it");
    let record = load.stop();
    cluster.wait_converged();
    record.check(&mut cluster.client(leader));
    // It takes part again: without another one, it is needed.
    let third = *others.iter().find(|other| Some(**other) != cluster.leader_now()).expect("one of two does not lead");
    cluster[third].kill();
    eventually("two of three are enough", || matches!(old.ask(&["SET", "k", "again"]), Value::Simple(_)).then_some(()));
}

#[test]
fn a_leader_that_hears_nobody_is_replaced() {
    let cluster = Cluster::start_with_network(3, &[]);
    let leader = cluster.leader();
    let others = cluster.others(leader);
    let load = Load::on("load", cluster.addresses_of(&others), 3);
    load.wait_for(20);
    // It still sends heartbeats, so nobody misses it; only it can notice.
    for other in &others {
        cluster.network().cut(*other, leader);
    }
    let cut_at = Instant::now();
    let gap = load.wait_acknowledged_after(cut_at);
    assert!(gap < FAILOVER_MAX * 2, "nobody could write for {gap:?}");
    cluster.network().heal();
    let record = load.stop();
    cluster.wait_converged();
    record.check(&mut cluster.client(leader));
}

#[test]
fn a_follower_that_was_cut_off_does_not_disturb_the_leader_when_it_returns() {
    let cluster = Cluster::start_with_network(3, &[]);
    let leader = cluster.leader();
    let followers = cluster.others(leader);
    let term = cluster[leader].status().term;
    let load = Load::on("load", cluster.addresses_of(&[leader, followers[1]]), 3);
    cluster.network().isolate(followers[0]);
    wait_status(&cluster[followers[0]], "it misses the leader", |status| status.leader_id == 0);
    thread::sleep(ATTEMPTS);
    cluster.network().heal();
    wait_status(&cluster[followers[0]], "it follows again", |status| status.leader_id != 0);
    let record = load.stop();
    record.check_no_errors();
    let status = cluster.wait_converged();
    assert_eq!((status.term, cluster.leader()), (term, leader), "the leader and its term are the same");
    record.check(&mut cluster.client(followers[0]));
}

#[test]
fn histories_over_partitions_are_linearizable() {
    let cluster = Cluster::start_with_network(3, &["--request-timeout", "1500"]);
    let clients = Clients::start("counter", &cluster.addresses(), 2);
    let progress = Load::on("progress", cluster.addresses(), 3);
    for fault in 0..4 {
        progress.wait_for(30);
        let leader = cluster.leader();
        let others = cluster.others(leader);
        let began = Instant::now();
        match fault {
            0 | 3 => cluster.network().isolate(leader),
            1 => cluster.network().isolate(others[0]),
            _ => others.iter().for_each(|other| cluster.network().cut(*other, leader)),
        }
        progress.wait_acknowledged_after(began);
        if fault != 1 {
            eventually("another node leads", || cluster.leader_now().filter(|position| others.contains(position)));
        }
        progress.wait_for(30);
        cluster.network().heal();
    }
    let record = progress.stop();
    let events = clients.stop();
    cluster.wait_converged();
    record.check(&mut cluster.client(0));
    history::check(&events).unwrap_or_else(|problem| panic!("{} operations are not linearizable: {problem}", events.len()));
}
