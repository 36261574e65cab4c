//! A disk without any room left: a node that ended on it can be started again, and what makes room is done through it.

use redraft_tests::client::ok;
use redraft_tests::dir::TestDir;
use redraft_tests::disk::SmallDisk;
use redraft_tests::{Node, Value, eventually};

#[test]
fn a_node_on_a_full_disk_starts_without_its_ballast_and_makes_a_new_one() {
    // The data directory of a node, so that its log is elsewhere. `server/src/node/ballast.rs` tests what is decided without a disk.
    let dir = TestDir::new();
    let Some(disk) = SmallDisk::mount(&dir.join("node-1"), 256 << 20) else { return };
    let mut node = Node::new(disk.path().to_owned(), &["--bootstrap", "--disk-reserve", "64mb", "--memtable-bytes", "8mb"]);
    node.start();
    node.wait_ready();
    node.client().set("k", "v");
    let ballast = disk.path().join("ballast");
    let wait_for_ballast =
        || eventually("there is a ballast", || ballast.metadata().is_ok_and(|file| file.len() == 16 << 20).then_some(()));
    wait_for_ballast();
    node.kill();
    disk.fill(0);

    node.start();
    node.wait_ready();
    assert!(!ballast.exists(), "its space was needed");
    let mut client = node.client();
    assert_eq!(client.get("k").as_deref(), Some(b"v".as_slice()), "nothing was lost");
    eventually("writes are refused", || matches!(client.ask(&["SET", "other", "v"]), Value::Error(_)).then_some(()));
    assert_eq!(client.must(&["DEL", "k"]), Value::Integer(1));

    disk.give_back();
    eventually("writes are taken again", || (client.ask(&["SET", "k", "v"]) == ok()).then_some(()));
    wait_for_ballast();
}
