//! `redraft load` against a node: what it says it did is what the node has.

use std::fs;

use redraft_tests::client::{integer, text};
use redraft_tests::dir::TestDir;
use redraft_tests::process::run_redraft;
use redraft_tests::{Node, PATIENCE, Value};
use serde_json::Value as Json;

/// Runs a load on a node; its report.
fn load(node: &Node, dir: &TestDir, line: &str) -> Json {
    let (address, json) = (node.address().to_string(), dir.join("load.json"));
    let path = json.display().to_string();
    let args: Vec<&str> = ["load", "--address", &address, "--json", &path].into_iter().chain(line.split(' ')).collect();
    let finished = run_redraft(&args, PATIENCE);
    assert_eq!(finished.code, Some(0), "{line}: {}", finished.output);
    serde_json::from_str(&fs::read_to_string(json).expect("a report")).expect("the report is JSON")
}

#[test]
fn the_numbers_add_up() {
    let (node, dir) = (Node::alone(&[]), TestDir::new());
    let mut client = node.client();
    let acknowledged = |report: &Json| {
        let number = |name: &str| report[name].as_i64().expect("a number");
        assert_eq!((number("sent"), number("unanswered")), (number("commands"), 0), "{report}");
        number("commands")
    };

    // One hot key, by number and by time: the counter has what was acknowledged and nothing else.
    let mut counter = 0;
    for line in [
        "--test incr --keys 1 --requests 5000 --connections 8 --pipeline 16 --threads 2",
        "--test incr --keys 1 --seconds 1 --connections 50",
        "--test incr --keys 1 --seconds 1 --rate 2000 --connections 50 --quiet",
    ] {
        counter += acknowledged(&load(&node, &dir, line));
        assert_eq!(integer(&client.must(&["GET", "counter:000000000000"])), counter, "{line}");
    }

    // Every key once, with values of the length asked for; then all reads find something.
    assert_eq!(acknowledged(&load(&node, &dir, "--test fill --keys 3000 --pipeline 100 --value-bytes 33")), 3000);
    assert_eq!(client.must(&["DBSIZE"]), Value::Integer(3001));
    assert_eq!(text(&client.must(&["GET", "key:000000002999"])).len(), 33);
    let report = load(&node, &dir, "--test get --keys 3000 --requests 3000 --distribution zipfian --pipeline 16");
    assert_eq!((acknowledged(&report), &report["nulls"]), (3000, &Json::from(0)));
}

#[test]
fn thousands_of_connections_take_part() {
    let (node, dir) = (Node::alone(&["--maxclients", "6000"]), TestDir::new());
    let report = load(&node, &dir, "--test incr --keys 1 --connections 5000 --requests 20000");
    assert_eq!((&report["commands"], &report["unanswered"]), (&Json::from(20_000), &Json::from(0)));
    assert_eq!(integer(&node.client().must(&["GET", "counter:000000000000"])), 20_000);
}
