//! Three nodes without faults: one order of everything, whatever node a client talks to.

use std::time::{Duration, Instant};

use redraft_tests::client::{bulk, integer, ok};
use redraft_tests::history::{self, Clients};
use redraft_tests::node::{Role, wait_status};
use redraft_tests::{Client, Cluster, Load, LoadPlan, Shape, Value, eventually};

#[test]
fn three_empty_nodes_form_one_cluster() {
    let cluster = Cluster::start(3);
    let statuses: Vec<_> = cluster.positions().map(|position| cluster[position].status()).collect();
    let mut ids: Vec<u64> = statuses.iter().map(|status| status.node_id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3]);
    assert!(statuses.iter().all(|status| status.cluster_id == statuses[0].cluster_id && status.voters() == [1, 2, 3]));
    let roles = |role: Role| statuses.iter().filter(|status| status.role == role).count();
    assert_eq!((roles(Role::Leader), roles(Role::Follower)), (1, 2));
    for position in cluster.positions() {
        let reply = cluster.client(position).must(&["ROLE"]);
        assert!(matches!(&reply, Value::Array(parts) if parts[0] == bulk("master")), "every node takes writes: {reply:?}");
    }
}

#[test]
fn a_write_on_any_node_is_seen_by_the_next_read_on_any_other() {
    let cluster = Cluster::start(3);
    let mut clients: Vec<Client> = cluster.positions().map(|position| cluster.client(position)).collect();
    for round in 0..150 {
        let value = clients[round % 3].incr("n");
        assert_eq!(value, round as i64 + 1);
        for reader in [(round + 1) % 3, (round + 2) % 3] {
            assert_eq!(clients[reader].must(&["GET", "n"]), bulk(value.to_string()), "node {} in round {round}", reader + 1);
        }
    }
}

#[test]
fn concurrent_counters_are_linearizable() {
    let cluster = Cluster::start(3);
    let clients = Clients::start("counter", &cluster.addresses(), 2);
    let mut observer = cluster.client(0);
    eventually("the counters have risen", || {
        let reply = observer.ask(&["GET", "counter:0"]);
        (reply != Value::Null && integer(&reply) >= 300).then_some(())
    });
    let events = clients.stop();
    history::check(&events).unwrap_or_else(|problem| panic!("{} operations are not linearizable: {problem}", events.len()));
}

#[test]
fn increments_through_followers_come_back_in_order() {
    let cluster = Cluster::start(3);
    let followers = cluster.followers();
    std::thread::scope(|scope| {
        for (number, follower) in [followers[0], followers[0], followers[1]].into_iter().enumerate() {
            let mut client = cluster.client(follower);
            scope.spawn(move || {
                let counter = format!("counter:{number}");
                let replies = client.pipeline((0..3_000).flat_map(|_| [["INCR", &counter], ["INCR", "shared"]])).expect("the node answers");
                let values: Vec<i64> = replies.iter().map(integer).collect();
                assert!(values.iter().step_by(2).copied().eq(1..=3_000), "exactly 1 to 3000, in order");
                assert!(values.iter().skip(1).step_by(2).is_sorted(), "and the shared one only rises");
            });
        }
    });
    assert_eq!(cluster.client(followers[0]).get("shared").as_deref(), Some(b"9000".as_slice()));
}

#[test]
fn all_nodes_hold_what_a_load_has_written() {
    let cluster = Cluster::start(3);
    let plan = |name: &str, shape: Shape| LoadPlan { name: name.to_owned(), addresses: cluster.addresses(), workers: 3, shape };
    let loads = [Load::start(&plan("single", Shape::Single)), Load::start(&plan("deep", Shape::Pipelined(30)))];
    loads.iter().for_each(|load| load.wait_for(100));
    let records = loads.map(Load::stop);
    for record in &records {
        record.check_no_errors();
        for position in cluster.positions() {
            let totals = record.check(&mut cluster.client(position));
            assert_eq!((totals.counter, totals.increments_unknown), (totals.increments, 0));
        }
    }
}

#[test]
fn wait_counts_the_nodes_that_have_a_write() {
    let cluster = Cluster::start(3);
    for position in cluster.positions() {
        let mut client = cluster.client(position);
        client.set("k", "v");
        assert_eq!(client.must(&["WAIT", "2", "30000"]), Value::Integer(2), "node {}", position + 1);
    }
}

#[test]
fn a_minority_says_so_in_time_and_executes_nothing() {
    let mut cluster = Cluster::start_with(3, &["--request-timeout", "1000", "--readonly-reads", "local"]);
    let survivor = 0;
    cluster.client(survivor).set("k", "before");
    cluster.wait_converged();
    for position in cluster.others(survivor) {
        cluster[position].kill();
    }
    wait_status(&cluster[survivor], "the node knows no leader", |status| status.leader_id == 0);
    let mut client = cluster.client(survivor);
    for command in [vec!["SET", "k", "after"], vec!["INCR", "n"], vec!["GET", "k"]] {
        let began = Instant::now();
        let refusal = client.refused(&command);
        let took = began.elapsed();
        assert!(refusal.starts_with("CLUSTERDOWN "), "{command:?}: {refusal}");
        assert!((Duration::from_millis(900)..Duration::from_secs(4)).contains(&took), "{command:?} took {took:?}");
    }
    // A pipeline as a whole: a client that sends it again executes nothing twice.
    let began = Instant::now();
    let replies = client.pipeline([["INCR", "n"], ["GET", "k"], ["INCR", "n"]]).expect("the node answers");
    assert!(replies.iter().all(|reply| matches!(reply, Value::Error(text) if text.starts_with("CLUSTERDOWN "))), "{replies:?}");
    assert!(began.elapsed() < Duration::from_secs(4), "the timeout is one for all of them");
    // What needs no leader is answered, and stale reads are for those who ask for them.
    assert_eq!(client.must(&["PING"]), Value::Simple("PONG".into()));
    client.must(&["READONLY"]);
    assert_eq!(client.must(&["GET", "k"]), bulk("before"));
    client.must(&["READWRITE"]);
    assert!(client.refused(&["GET", "k"]).starts_with("CLUSTERDOWN "));

    for position in cluster.others(survivor) {
        cluster.start_node(position);
    }
    eventually("writes are taken again", || matches!(client.ask(&["SET", "later", "v"]), Value::Simple(_)).then_some(()));
    assert_eq!(client.must(&["MGET", "k", "n"]), Value::Array(vec![bulk("before"), Value::Null]), "nothing refused was executed");
}

#[test]
fn readonly_is_linearizable_unless_the_node_says_otherwise() {
    let cluster = Cluster::start(3);
    let followers = cluster.followers();
    let mut writer = cluster.client(cluster.leader());
    let mut reader = cluster.client(followers[0]);
    reader.must(&["READONLY"]);
    for round in 0..100 {
        let value = round.to_string();
        writer.set("k", &value);
        assert_eq!(reader.must(&["GET", "k"]), bulk(&value));
    }
    // Local reads see this connection's own writes, and sooner or later those of others.
    reader.must(&["CONFIG", "SET", "readonly-reads", "local"]);
    for round in 0..100 {
        let value = format!("own {round}");
        assert_eq!(reader.must(&["SET", "own", &value]), ok());
        assert_eq!(reader.must(&["GET", "own"]), bulk(&value));
    }
    writer.set("k", "last");
    eventually("the node has applied it", || (reader.must(&["GET", "k"]) == bulk("last")).then_some(()));
}
