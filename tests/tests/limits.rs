//! Limits: every one is reached, and what happens there hurts nobody else.

use redraft_tests::client::{bulk, integer, ok, text};
use redraft_tests::{Client, Node, Value, eventually};

/// Exit code of a node that may be started again.
const MAY_PASS: i32 = 4;

#[test]
fn one_client_too_many_is_told_and_closed() {
    let node = Node::alone(&["--maxclients", "3"]);
    let mut clients: Vec<Client> = Vec::new();
    // Connections of the harness's own may still be on their way out.
    eventually("three clients are taken", || {
        while clients.len() < 3 {
            let mut client = node.try_client()?;
            client.call(&["PING"]).ok()?;
            clients.push(client);
        }
        Some(())
    });
    let mut fourth = node.client();
    let said = fourth.read_to_close().expect("it is closed");
    assert_eq!(String::from_utf8_lossy(&said), "-ERR max number of clients reached\r\n");
    for client in &mut clients {
        assert_eq!(client.must(&["PING"]), Value::Simple("PONG".into()), "those that were there stay");
    }
    clients.pop();
    eventually("there is room again", || node.try_client()?.call(&["PING"]).ok().filter(|reply| !matches!(reply, Value::Error(_))));
}

#[test]
fn an_argument_or_request_beyond_its_limit_closes_the_connection() {
    let node = Node::alone(&["--proto-max-bulk-len", "1mb", "--client-query-buffer-limit", "1500kb"]);
    let mut client = node.client();
    client.send_bytes(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048577\r\n").expect("the node reads");
    assert_eq!(client.read_to_close().expect("it is closed"), b"-ERR Protocol error: invalid bulk length\r\n");
    // Each argument is allowed, all of them together are not.
    let mut client = node.client();
    client.send_bytes(b"*3\r\n$4\r\nMGET\r\n$1000000\r\n").expect("the node reads");
    client.send_bytes(&vec![b'k'; 1_000_000]).expect("the node reads");
    client.send_bytes(b"\r\n$1000000\r\n").expect("the node reads");
    let said = client.read_to_close().expect("it is closed");
    assert_eq!(String::from_utf8_lossy(&said), "-ERR Protocol error: request exceeds client-query-buffer-limit\r\n");
    let mut client = node.client();
    let value = vec![b'v'; 1 << 20];
    client.set("k", &value);
    assert_eq!(client.get("k").map(|found| found.len()), Some(1 << 20), "the limit itself is allowed");
}

#[test]
fn announced_lengths_cost_no_memory() {
    let node = Node::alone(&[]);
    let before = node.process().resident_bytes();
    let mut clients: Vec<Client> = (0..60).map(|_| node.client()).collect();
    for client in &mut clients {
        // An array of a million arguments, the second of which will have 64 MiB.
        client.send_bytes(b"*1048576\r\n$4\r\nMGET\r\n$67108864\r\nx").expect("the node reads");
    }
    let mut observer = node.client();
    eventually("the node has read all of it", || {
        let list = text(&observer.must(&["CLIENT", "LIST"]));
        (list.lines().count() > clients.len()).then_some(())
    });
    let grown = node.process().resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "60 announcements of 64 MiB took {} KiB", grown >> 10);
}

#[test]
fn a_client_that_does_not_read_is_disconnected() {
    let node = Node::alone(&["--client-output-buffer-limit", "2mb"]);
    let mut observer = node.client();
    observer.set("large", vec![b'v'; 1 << 20]);
    let mut lazy = node.client();
    let id = integer(&lazy.must(&["CLIENT", "ID"]));
    for _ in 0..25 {
        lazy.queue(&["MGET", "large", "large", "large", "large", "large", "large", "large", "large"]);
    }
    lazy.flush().expect("the node reads");
    eventually("the client is gone", || {
        let list = text(&observer.must(&["CLIENT", "LIST"]));
        (!list.lines().any(|line| line.starts_with(&format!("id={id} ")))).then_some(())
    });
    let peak = node.process().resident_bytes_peak();
    assert!(peak < 150 << 20, "its 200 MiB of replies were kept: {} MiB", peak >> 20);
    assert_eq!(observer.must(&["PING"]), Value::Simple("PONG".into()));
}

#[test]
fn before_the_password_only_small_requests_are_read() {
    let node = Node::alone(&["--requirepass", "open sesame"]);
    let mut client = node.client();
    assert_eq!(client.refused(&["GET", "k"]), "NOAUTH Authentication required.");
    assert_eq!(client.refused(&["AUTH", "wrong"]), "WRONGPASS invalid username-password pair or user is disabled.");
    let mut greedy = node.client();
    greedy.send_bytes(b"*11\r\n").expect("the node reads");
    let said = greedy.read_to_close().expect("it is closed");
    assert_eq!(String::from_utf8_lossy(&said), "-ERR Protocol error: unauthenticated multibulk length\r\n");
    let mut greedy = node.client();
    greedy.send_bytes(b"*2\r\n$4\r\nAUTH\r\n$16385\r\n").expect("the node reads");
    let said = greedy.read_to_close().expect("it is closed");
    assert_eq!(String::from_utf8_lossy(&said), "-ERR Protocol error: unauthenticated bulk length\r\n");
    client.must(&["AUTH", "open sesame"]);
    client.set("k", "v");
    assert_eq!(client.must(&["MGET", "k", "k", "k", "k", "k", "k", "k", "k", "k", "k"]), Value::Array(vec![bulk("v"); 10]));
}

#[test]
fn a_node_without_file_descriptors_ends_and_may_be_started_again() {
    let mut node = Node::alone(&["--memtable-bytes", "8mb"]);
    let mut client = node.client();
    // Its connection is one of the files that the node has.
    client.must(&["PING"]);
    node.process().forbid_new_files();
    // RocksDB goes on until it needs the next file.
    let value = vec![b'v'; 1 << 20];
    let written = (0..).find(|number| {
        let key = format!("large:{number}");
        assert!(*number < 1000, "it needs no file");
        client.call(&[b"SET", key.as_bytes(), &value]).is_err()
    });
    assert_eq!(node.wait_end().code(), Some(MAY_PASS), "{}", node.log());
    node.start();
    node.wait_ready();
    let mut client = node.client();
    for number in 0..written.expect("some write fails") {
        assert_eq!(client.get(&format!("large:{number}")).map(|found| found.len()), Some(1 << 20));
    }
}

#[test]
fn a_disk_below_its_reserve_takes_deletions_only() {
    let node = Node::alone(&[]);
    let mut client = node.client();
    client.set("k", "v");
    client.must(&["CONFIG", "SET", "disk-reserve", "1024gb"]);
    let refusal = eventually("writes are refused", || match client.ask(&["SET", "other", "v"]) {
        Value::Error(text) => Some(text),
        _ => None,
    });
    assert!(refusal.starts_with("OOM "), "{refusal}");
    assert_eq!(client.get("k").as_deref(), Some(b"v".as_slice()), "reads pass");
    // Each command is judged by itself, at its place in the order; the error of a command's form comes first.
    let pipeline: [&[&str]; 8] = [
        &["SET", "another", "v"],
        &["GET", "k"],
        &["SET", "k"],
        &["DEL", "k"],
        &["INCR", "n"],
        &["EXISTS", "k", "n", "another"],
        &["SET", "k", "v", "BADLY"],
        &["FLUSHDB"],
    ];
    pipeline.iter().for_each(|command| client.queue(command));
    client.flush().expect("the node reads");
    let replies: Vec<Value> = pipeline.iter().map(|_| client.receive().expect("a reply")).collect();
    let refused = Value::Error(refusal);
    let expected = [
        refused.clone(),
        bulk("v"),
        Value::Error("ERR wrong number of arguments for 'set' command".into()),
        Value::Integer(1),
        refused.clone(),
        Value::Integer(0),
        refused,
        ok(),
    ];
    assert_eq!(replies, expected);
    client.must(&["CONFIG", "SET", "disk-reserve", "0"]);
    eventually("writes are taken again", || (!matches!(client.ask(&["SET", "k", "v"]), Value::Error(_))).then_some(()));
}

#[test]
fn a_command_larger_than_a_log_entry_may_be_is_refused_alone() {
    let node = Node::alone(&[]);
    let mut client = node.client();
    let half = "x".repeat(34 << 20);
    let commands: [&[&str]; 3] = [&["SET", "before", "1"], &["MSET", "a", &half, "b", &half], &["EXISTS", "a", "b", "before"]];
    commands.iter().for_each(|command| client.queue(command));
    client.flush().expect("the node reads");
    let replies: Vec<Value> = commands.iter().map(|_| client.receive().expect("a reply")).collect();
    let refused = Value::Error("ERR the arguments of a command that writes exceed 65mb; not executed".into());
    assert_eq!(replies, [ok(), refused, Value::Integer(1)]);
}
