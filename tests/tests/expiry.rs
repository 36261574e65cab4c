//! Expiry: not before the time, soon after it, everywhere at once, and over restarts.

use std::time::{Duration, Instant};

use redraft_tests::client::integer;
use redraft_tests::{Client, Cluster, Node, Value, eventually};

fn wait_gone(client: &mut Client, key: &str) {
    eventually("the key expires", || client.get(key).is_none().then_some(()));
}

#[test]
fn a_key_goes_when_its_time_has_come() {
    let node = Node::alone(&[]);
    let mut client = node.client();
    let began = Instant::now();
    client.must(&["SET", "short", "v", "PX", "400"]);
    client.must(&["SET", "long", "v", "EX", "1000"]);
    client.must(&["SET", "kept", "v", "PX", "400"]);
    assert_eq!(client.must(&["PERSIST", "kept"]), Value::Integer(1));
    let left = integer(&client.must(&["PTTL", "short"]));
    assert!((0..=400).contains(&left), "{left}");
    wait_gone(&mut client, "short");
    let lived = began.elapsed();
    assert!(lived >= Duration::from_millis(390), "it went after {lived:?}");
    assert_eq!(client.must(&["PTTL", "short"]), Value::Integer(-2));
    assert_eq!(client.must(&["EXISTS", "short", "long", "kept"]), Value::Integer(2));
    eventually("it is not counted either", || (client.must(&["DBSIZE"]) == Value::Integer(2)).then_some(()));
}

#[test]
fn deadlines_survive_restarts() {
    let mut node = Node::alone(&[]);
    let mut client = node.client();
    client.must(&["SET", "short", "v", "PX", "1500"]);
    client.must(&["SET", "long", "v", "EX", "1000"]);
    let deadline = integer(&client.must(&["PEXPIRETIME", "long"]));
    node.kill();
    node.start();
    node.wait_ready();
    let mut client = node.client();
    wait_gone(&mut client, "short");
    node.stop();
    node.start();
    node.wait_ready();
    let mut client = node.client();
    assert_eq!(client.get("short"), None, "what is gone stays gone");
    assert_eq!(integer(&client.must(&["PEXPIRETIME", "long"])), deadline);
    assert!((900..=1000).contains(&integer(&client.must(&["TTL", "long"]))));
}

#[test]
fn a_key_seen_gone_on_one_node_is_gone_on_all() {
    let cluster = Cluster::start(3);
    let mut clients: Vec<Client> = cluster.positions().map(|position| cluster.client(position)).collect();
    for round in 0..12 {
        let key = format!("key:{round}");
        clients[round % 3].must(&["SET", &key, "v", "PX", "150"]);
        let (watcher, others) = ((round + 1) % 3, [(round + 2) % 3, round % 3]);
        wait_gone(&mut clients[watcher], &key);
        for other in others {
            assert_eq!(clients[other].get(&key), None, "node {} has it back in round {round}", other + 1);
        }
    }
    // The leader's end changes nothing either.
    clients[0].must(&["SET", "last", "v", "PX", "150"]);
    wait_gone(&mut clients[1], "last");
    drop(clients);
    let mut cluster = cluster;
    let leader = cluster.leader();
    cluster[leader].kill();
    for follower in cluster.others(leader) {
        assert_eq!(cluster.client(follower).get("last"), None);
    }
}
