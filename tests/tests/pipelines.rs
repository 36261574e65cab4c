//! Pipelines: every reply in its place, however deep, large or mixed.

use redraft_tests::client::{bulk, ok};
use redraft_tests::{Cluster, Node, Value};

/// Pipelines of one shape on one node: reads see the writes before them and not those behind, errors keep their place.
fn check_mixed_pipeline(node: &Node, prefix: &str, rounds: i64) {
    let mut client = node.client();
    let key = format!("{prefix}:key");
    let count = format!("{prefix}:count");
    for round in 0..rounds {
        let value = round.to_string();
        client.queue(&["SET", &key, &value]);
        client.queue(&["GET", &key]);
        client.queue(&["INCR", &count]);
        client.queue(&["INCR", &key, "too many"]);
        client.queue(&["GET", &count]);
        client.queue(&["ECHO", &value]);
        client.queue(&["NOSUCH"]);
        client.queue(&["APPEND", &key, "x"]);
        client.queue(&["GET", &key]);
    }
    client.flush().expect("the node reads");
    for round in 0..rounds {
        let mut next = |expected: Value| assert_eq!(client.receive().expect("a reply"), expected, "in round {round}");
        next(ok());
        next(bulk(round.to_string()));
        next(Value::Integer(round + 1));
        next(Value::Error("ERR wrong number of arguments for 'incr' command".into()));
        next(bulk((round + 1).to_string()));
        next(bulk(round.to_string()));
        next(Value::Error("ERR unknown command 'NOSUCH', with args beginning with: ".into()));
        next(Value::Integer(round.to_string().len() as i64 + 1));
        next(bulk(format!("{round}x")));
    }
}

#[test]
fn reads_and_writes_of_a_pipeline_keep_their_order() {
    let node = Node::alone(&[]);
    check_mixed_pipeline(&node, "alone", 300);
}

#[test]
fn reads_and_writes_keep_their_order_on_every_node_of_three() {
    let cluster = Cluster::start(3);
    std::thread::scope(|scope| {
        for position in cluster.positions() {
            let node = &cluster[position];
            scope.spawn(move || check_mixed_pipeline(node, &format!("node{position}"), 200));
        }
    });
}

#[test]
fn ten_thousand_commands_in_one_pipeline_are_answered_in_order() {
    let node = Node::alone(&[]);
    let mut client = node.client();
    let replies = client.pipeline(std::iter::repeat_n(["INCR", "n"], 10_000)).expect("the node answers");
    let expected: Vec<Value> = (1..=10_000).map(Value::Integer).collect();
    assert!(replies == expected, "10,000 increments in their order");
    let replies = client.pipeline(std::iter::repeat_n(["GET", "n"], 10_000)).expect("the node answers");
    assert!(replies.iter().all(|reply| *reply == bulk("10000")));
}

#[test]
fn keys_and_values_are_any_bytes() {
    let node = Node::alone(&[]);
    let mut client = node.client();
    let all: Vec<u8> = (0..=255).collect();
    for key in [b"".as_slice(), b"\0", b"\r\n", b"$3\r\nabc\r\n", &all, b"\xff\xff"] {
        let value: Vec<u8> = key.iter().rev().chain(&all).copied().collect();
        assert_eq!(client.must(&[b"SET", key, &value]), ok());
        assert_eq!(client.must(&[b"GET", key]), bulk(&value), "{}", key.escape_ascii());
    }
    assert_eq!(client.must(&["DBSIZE"]), Value::Integer(6));
}

#[test]
fn a_value_of_32_mib_is_stored() {
    let mut node = Node::alone(&[]);
    let value: Vec<u8> = (0..32_u32 << 20).map(|position| (position.wrapping_mul(position) >> 7) as u8).collect();
    node.client().set("large", &value);
    assert!(node.client().get("large").is_some_and(|found| found == value), "all bytes are there");
    node.kill();
    node.start();
    node.wait_ready();
    assert!(node.client().get("large").is_some_and(|found| found == value), "and after a kill");
}

#[test]
fn a_value_of_32_mib_passes_through_a_follower() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let term = cluster[leader].status().term;
    let followers = cluster.followers();
    let value = vec![b'v'; 32 << 20];
    cluster.client(followers[0]).set("large", &value);
    assert!(cluster.client(followers[1]).get("large").is_some_and(|found| found == value), "another node has it");
    cluster.wait_converged();
    assert_eq!(cluster[leader].status().term, term, "a large append delays no heartbeat so long that leadership changes");
}
