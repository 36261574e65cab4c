//! Clients seen by other clients: CLIENT LIST, KILL, PAUSE and REPLY.

use std::time::{Duration, Instant};

use redraft_tests::client::{bulk, integer, ok, text};
use redraft_tests::{Node, Value, eventually};

#[test]
fn clients_are_listed_with_their_names_and_killed() {
    let node = Node::alone(&[]);
    let mut observer = node.client();
    let mut victim = node.client();
    victim.must(&["CLIENT", "SETNAME", "victim"]);
    let id = integer(&victim.must(&["CLIENT", "ID"]));
    let list = text(&observer.must(&["CLIENT", "LIST"]));
    let line = list.lines().find(|line| line.starts_with(&format!("id={id} "))).expect("the victim is listed");
    assert!(line.contains(" name=victim ") && line.contains(&format!(" addr={} ", victim.local_address())), "{line}");

    assert_eq!(observer.must(&["CLIENT", "KILL", "ID", &id.to_string()]), Value::Integer(1));
    assert_eq!(victim.read_to_close().expect("it is closed"), b"");
    eventually("the victim is gone", || (!text(&observer.must(&["CLIENT", "LIST"])).contains("name=victim")).then_some(()));
    assert_eq!(observer.must(&["CLIENT", "KILL", "ID", &id.to_string()]), Value::Integer(0));

    let mut other = node.client();
    other.must(&["PING"]);
    assert_eq!(observer.must(&["CLIENT", "KILL", &other.local_address().to_string()]), ok());
    assert_eq!(other.read_to_close().expect("it is closed"), b"");
    assert_eq!(observer.refused(&["CLIENT", "KILL", "127.0.0.1:1"]), "ERR No such client");
}

#[test]
fn a_kill_of_oneself_is_answered_first() {
    let node = Node::alone(&[]);
    let mut client = node.client();
    let id = integer(&client.must(&["CLIENT", "ID"])).to_string();
    assert_eq!(client.must(&["CLIENT", "KILL", "ID", &id, "SKIPME", "no"]), Value::Integer(1));
    assert_eq!(client.read_to_close().expect("it is closed"), b"");
}

#[test]
fn a_pause_holds_writes_and_lets_reads_pass() {
    let node = Node::alone(&[]);
    let mut observer = node.client();
    observer.set("k", "before");
    observer.must(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    let mut writer = node.client();
    writer.queue(&["SET", "k", "after"]);
    writer.flush().expect("the node reads");
    eventually("the writer waits", || text(&observer.must(&["INFO", "clients"])).contains("blocked_clients:1\r\n").then_some(()));
    assert_eq!(observer.get("k").as_deref(), Some(b"before".as_slice()), "reads pass");
    let began = Instant::now();
    observer.must(&["CLIENT", "UNPAUSE"]);
    assert_eq!(writer.receive().expect("a reply"), ok());
    assert!(began.elapsed() < Duration::from_secs(30), "the pause ended with UNPAUSE");
    assert_eq!(observer.must(&["GET", "k"]), bulk("after"));
}

#[test]
fn replies_can_be_turned_off() {
    let node = Node::alone(&[]);
    let mut client = node.client();
    client.queue(&["CLIENT", "REPLY", "OFF"]);
    client.queue(&["INCR", "n"]);
    client.queue(&["NOSUCH"]);
    client.queue(&["CLIENT", "REPLY", "ON"]);
    client.queue(&["CLIENT", "REPLY", "SKIP"]);
    client.queue(&["INCR", "n"]);
    client.queue(&["GET", "n"]);
    client.flush().expect("the node reads");
    assert_eq!(client.receive().expect("a reply"), ok(), "of REPLY ON");
    assert_eq!(client.receive().expect("a reply"), bulk("2"), "of GET");
}

#[test]
fn quit_is_answered_and_closes() {
    let node = Node::alone(&[]);
    let mut client = node.client();
    client.send_bytes(b"INCR n\r\nQUIT\r\nINCR n\r\n").expect("the node reads");
    assert_eq!(client.read_to_close().expect("it is closed"), b":1\r\n+OK\r\n");
    assert_eq!(node.client().get("n").as_deref(), Some(b"1".as_slice()), "what stands behind QUIT is not executed");
}
