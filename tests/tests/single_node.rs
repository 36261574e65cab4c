//! One node: what it stores survives every way in which it can end.

use redraft_tests::client::{bulk, ok};
use redraft_tests::{Load, LoadPlan, Node, Shape, Value};

#[test]
fn strings_counters_and_keys_answer() {
    let node = Node::alone(&[]);
    let mut client = node.client();
    let mut check = |command: &str, expected: Value| {
        let args: Vec<&str> = command.split(' ').collect();
        assert_eq!(client.ask(&args), expected, "{command}");
    };
    check("PING", Value::Simple("PONG".into()));
    check("SET k v", ok());
    check("GET k", bulk("v"));
    check("SET k w NX", Value::Null);
    check("SET k w XX GET", bulk("v"));
    check("APPEND k x", Value::Integer(2));
    check("GETRANGE k 0 0", bulk("w"));
    check("INCRBY n 41", Value::Integer(41));
    check("INCR n", Value::Integer(42));
    check("INCR k", Value::Error("ERR value is not an integer or out of range".into()));
    check("MSET a 1 b 2", ok());
    check("MGET a missing b", Value::Array(vec![bulk("1"), Value::Null, bulk("2")]));
    check("DEL a b missing", Value::Integer(2));
    check("RENAME k l", ok());
    check("EXISTS k l", Value::Integer(1));
    check("TYPE l", Value::Simple("string".into()));
    check("DBSIZE", Value::Integer(2));
    check("SELECT 1", ok());
    check("GET n", Value::Null);
    check("DBSIZE", Value::Integer(0));
    check("SELECT 0", ok());
    check("FLUSHDB", ok());
    check("DBSIZE", Value::Integer(0));
}

#[test]
fn a_stop_in_order_keeps_everything() {
    let mut node = Node::alone(&[]);
    let mut client = node.client();
    let write = |number: usize| vec!["SET".to_owned(), format!("key:{number}"), format!("value {number}")];
    client.pipeline((0..5_000).map(write)).expect("the node answers");
    let before = node.status();
    for _ in 0..2 {
        node.stop();
        node.start();
        node.wait_ready();
        let mut client = node.client();
        assert_eq!(client.must(&["DBSIZE"]), Value::Integer(5_000));
        let replies = client.pipeline((0..5_000).map(|number| ["GET".to_owned(), format!("key:{number}")])).expect("the node answers");
        assert!(replies.iter().enumerate().all(|(number, reply)| *reply == bulk(format!("value {number}"))));
    }
    let after = node.status();
    assert_eq!((after.cluster_id, after.node_id), (before.cluster_id, before.node_id), "it is the same node");
    assert!(after.term > before.term, "and began a term of its own");
}

#[test]
fn kill_under_load_loses_nothing_acknowledged() {
    let mut node = Node::alone(&[]);
    let mut records = Vec::new();
    for (life, shape) in [Shape::Single, Shape::Pipelined(20), Shape::Single].into_iter().enumerate() {
        let plan = LoadPlan { name: format!("life{life}"), addresses: vec![node.address()], workers: 4, shape };
        let load = Load::start(&plan);
        load.wait_for(200);
        node.kill();
        records.push(load.stop());
        node.start();
        node.wait_ready();
        let mut client = node.client();
        for record in &records {
            let totals = record.check(&mut client);
            assert!(totals.increments > 0, "the load has written: {totals:?}");
        }
    }
}

#[test]
fn a_flushed_keyspace_stays_empty_after_a_kill() {
    let mut node = Node::alone(&[]);
    let mut client = node.client();
    client.pipeline((0..1_000).map(|number| ["SET".to_owned(), format!("key:{number}"), "v".to_owned()])).expect("the node answers");
    client.must(&["FLUSHALL"]);
    client.set("later", "v");
    node.kill();
    node.start();
    node.wait_ready();
    let mut client = node.client();
    assert_eq!(client.must(&["DBSIZE"]), Value::Integer(1));
    assert_eq!(client.get("key:7"), None);
    assert_eq!(client.get("later").as_deref(), Some(b"v".as_slice()));
}
