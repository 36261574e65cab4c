//! Leaders that are killed or paused, and all nodes at once: nothing acknowledged is lost, nothing happens twice, nobody reads the past.

use std::time::{Duration, Instant};

use redraft_tests::client::bulk;
use redraft_tests::history::{self, Clients};
use redraft_tests::load::Record;
use redraft_tests::{Cluster, Load, LoadPlan, Shape, Value, eventually};

/// The promise of the project for a leader that ends.
const FAILOVER_MAX: Duration = Duration::from_secs(5);

fn load(cluster: &Cluster, name: &str, workers: usize, shape: Shape) -> Load {
    Load::start(&LoadPlan { name: name.to_owned(), addresses: cluster.addresses(), workers, shape })
}

#[track_caller]
fn check_all(records: &[Record], cluster: &Cluster, position: usize) {
    for record in records {
        record.check(&mut cluster.client(position));
    }
}

#[test]
fn a_killed_leader_takes_nothing_acknowledged_with_it() {
    let mut cluster = Cluster::start(3);
    let loads = [load(&cluster, "single", 3, Shape::Single), load(&cluster, "deep", 2, Shape::Pipelined(20))];
    for _ in 0..2 {
        loads.iter().for_each(|load| load.wait_for(50));
        let leader = cluster.leader();
        let killed_at = Instant::now();
        cluster[leader].kill();
        let gap = loads[0].wait_acknowledged_after(killed_at);
        assert!(gap < FAILOVER_MAX, "nobody could write for {gap:?}");
        cluster.bring_back(leader);
    }
    let records = loads.map(Load::stop);
    cluster.wait_converged();
    for position in cluster.positions() {
        check_all(&records, &cluster, position);
    }
}

#[test]
fn clients_of_followers_see_a_pause_and_no_error_when_the_leader_dies() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let addresses = cluster.addresses_of(&cluster.others(leader));
    let start = |name: &str, shape| Load::start(&LoadPlan { name: name.to_owned(), addresses: addresses.clone(), workers: 4, shape });
    let loads = [start("single", Shape::Single), start("deep", Shape::Pipelined(20))];
    loads.iter().for_each(|load| load.wait_for(100));
    let killed_at = Instant::now();
    cluster[leader].kill();
    for load in &loads {
        load.wait_acknowledged_after(killed_at);
        load.wait_for(100);
    }
    for record in loads.map(Load::stop) {
        record.check_no_errors();
        let totals = record.check(&mut cluster.client(cluster.leader()));
        assert_eq!(totals.counter, totals.increments, "forwarded runs that were sent again took effect once");
    }
}

#[test]
fn all_nodes_killed_at_once_come_back_with_everything() {
    let mut cluster = Cluster::start(3);
    let mut records = Vec::new();
    for crash in 0..3 {
        let shape = if crash == 1 { Shape::Pipelined(20) } else { Shape::Single };
        let load = load(&cluster, &format!("crash{crash}"), 4, shape);
        load.wait_for(100);
        for position in cluster.positions() {
            cluster[position].kill();
        }
        records.push(load.stop());
        for position in cluster.positions() {
            cluster.start_node(position);
        }
        let leader = cluster.leader();
        check_all(&records, &cluster, leader);
    }
    cluster.wait_converged();
    for position in cluster.positions() {
        check_all(&records, &cluster, position);
    }
}

#[test]
fn a_paused_leader_is_replaced_and_serves_nothing_stale_afterwards() {
    let mut cluster = Cluster::start(3);
    for round in 0..2 {
        let leader = cluster.leader();
        let others = cluster.others(leader);
        let mut old = cluster.client(leader);
        old.set("k", format!("before {round}"));
        let counter = old.incr("counter");
        let load = Load::on(&format!("pause{round}"), cluster.addresses_of(&others), 2);
        load.wait_for(20);
        let paused_at = Instant::now();
        cluster[leader].pause();
        let gap = load.wait_acknowledged_after(paused_at);
        assert!(gap < FAILOVER_MAX, "nobody could write for {gap:?}");
        let after = format!("after {round}");
        cluster.client(others[0]).set("k", &after);
        // These reach the old leader while it sleeps, and are the first that it sees: sent after the write was acknowledged.
        let mut reader = cluster[leader].try_client().expect("the kernel takes the connection");
        for client in [&mut old, &mut reader] {
            client.queue(&["GET", "k"]);
            client.queue(&["INCR", "counter"]);
            client.queue(&["GET", "k"]);
            client.flush().expect("the kernel takes the bytes");
        }
        cluster[leader].resume();
        let mut expected = counter;
        let mut values = Vec::new();
        for client in [&mut old, &mut reader] {
            assert_eq!(client.receive().expect("a reply"), bulk(&after), "the first read is not stale");
            values.push(client.receive().expect("a reply"));
            assert_eq!(client.receive().expect("a reply"), bulk(&after), "nor is the second");
        }
        values.sort_by_key(|value| format!("{value:?}"));
        for value in values {
            expected += 1;
            assert_eq!(value, Value::Integer(expected), "increments happen once");
        }
        let record = load.stop();
        record.check_no_errors();
        cluster.wait_converged();
        record.check(&mut cluster.client(leader));
    }
}

#[test]
fn histories_over_kills_and_pauses_are_linearizable() {
    let mut cluster = Cluster::start(3);
    let clients = Clients::start("counter", &cluster.addresses(), 2);
    let mut records = Vec::new();
    for fault in 0..4 {
        let leader = cluster.leader();
        let others = cluster.others(leader);
        // On the nodes that stay: a client of a paused node waits for as long as its patience lasts.
        let progress = Load::on(&format!("progress{fault}"), cluster.addresses_of(&others), 2);
        progress.wait_for(30);
        let began = Instant::now();
        if fault % 2 == 0 {
            cluster[leader].kill();
        } else {
            cluster[leader].pause();
        }
        // The old leader comes back while another one holds its place.
        eventually("another node leads", || cluster.leader_now().filter(|position| others.contains(position)));
        progress.wait_acknowledged_after(began);
        if fault % 2 == 0 {
            cluster.bring_back(leader);
        } else {
            cluster[leader].resume();
            cluster.wait_caught_up(leader);
        }
        records.push(progress.stop());
    }
    let events = clients.stop();
    cluster.wait_converged();
    check_all(&records, &cluster, 0);
    history::check(&events).unwrap_or_else(|problem| panic!("{} operations are not linearizable: {problem}", events.len()));
}
