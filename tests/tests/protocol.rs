//! The protocol on the wire: what is malformed is answered in Redis's words and ends the connection; the rest comes in any form and size.

use std::time::{Duration, Instant};

use redraft_tests::client::{bulk, ok, text};
use redraft_tests::{Node, Value};

/// Sends bytes and compares all that comes back until the server closes.
#[track_caller]
fn check_closed(node: &Node, input: &[u8], expected: &str) {
    let mut client = node.client();
    client.send_bytes(input).expect("the node reads");
    let found = client.read_to_close().unwrap_or_else(|error| panic!("{}: {error}", input[..input.len().min(80)].escape_ascii()));
    assert_eq!(String::from_utf8_lossy(&found), expected, "{}", input[..input.len().min(80)].escape_ascii());
}

#[test]
fn malformed_requests_are_answered_and_closed() {
    let node = Node::alone(&[]);
    let error = |text: &str| format!("-ERR Protocol error: {text}\r\n");
    check_closed(&node, b"*abc\r\n", &error("invalid multibulk length"));
    check_closed(&node, b"*2147483648\r\n", &error("invalid multibulk length"));
    check_closed(&node, b"*1\r\nPING\r\n", &error("expected '$', got 'P'"));
    check_closed(&node, b"*1\r\n$abc\r\n", &error("invalid bulk length"));
    check_closed(&node, b"*1\r\n$-1\r\n", &error("invalid bulk length"));
    check_closed(&node, b"*2\r\n$3\r\nGET\r\n$99999999999\r\n", &error("invalid bulk length"));
    check_closed(&node, b"SET key \"unbalanced\r\n", &error("unbalanced quotes in request"));
    let long = [b'a'; 70_000];
    check_closed(&node, &long, &error("too big inline request"));
    check_closed(&node, &[b"*".as_slice(), &[b'1'; 70_000]].concat(), &error("too big mbulk count string"));
    check_closed(&node, &[b"*1\r\n$".as_slice(), &[b'1'; 70_000]].concat(), &error("too big bulk count string"));
    assert_eq!(node.client().must(&["PING"]), Value::Simple("PONG".into()), "other clients see nothing of it");
}

#[test]
fn what_stands_before_a_protocol_error_is_answered() {
    let node = Node::alone(&[]);
    let input = b"*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nINCR\r\n$1\r\nn\r\nGET n\r\n*x\r\nINCR n\r\n";
    check_closed(&node, input, "+PONG\r\n:1\r\n$1\r\n1\r\n-ERR Protocol error: invalid multibulk length\r\n");
    assert_eq!(node.client().get("n").as_deref(), Some(b"1".as_slice()), "what stands behind it is not executed");
}

#[test]
fn http_is_closed() {
    let node = Node::alone(&[]);
    for line in ["POST / HTTP/1.1", "GET / HTTP/1.1", "PUT /k HTTP/1.1", "OPTIONS * HTTP/1.1", "HEAD / HTTP/1.0", "Host: localhost:6379"] {
        let request = format!("{line}\r\nHost: localhost\r\nContent-Length: 20\r\n\r\nSET attacked yes\r\n");
        check_closed(&node, request.as_bytes(), "");
    }
    assert_eq!(node.client().get("attacked"), None);
}

#[test]
fn inline_commands_are_split_like_a_shell_would() {
    let node = Node::alone(&[]);
    let mut client = node.client();
    client.send_bytes(b"\r\n  SET  'a key' \"line\\r\\n\\x41\"  \r\nGET \"a key\"\nPING\r\n").expect("the node reads");
    assert_eq!(client.receive().expect("a reply"), ok());
    assert_eq!(client.receive().expect("a reply"), bulk("line\r\nA"));
    assert_eq!(client.receive().expect("a reply"), Value::Simple("PONG".into()));
}

#[test]
fn a_request_in_many_small_pieces_costs_linear_time() {
    let node = Node::alone(&[]);
    let keys = 20_000;
    let mut request = format!("*{}\r\n$4\r\nMSET\r\n", keys * 2 + 1).into_bytes();
    for number in 0..keys {
        request.extend_from_slice(format!("$9\r\nkey:{number:05}\r\n$1\r\nv\r\n").as_bytes());
    }
    let mut client = node.client();
    let began = Instant::now();
    for piece in request.chunks(40) {
        client.send_bytes(piece).expect("the node reads");
    }
    assert_eq!(client.receive().expect("a reply"), ok());
    // A reader that begins again with every piece would look at some 8 GiB here.
    assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    assert_eq!(client.must(&["DBSIZE"]), Value::Integer(keys));
}

#[test]
fn hello_switches_protocols() {
    let node = Node::alone(&[]);
    let mut client = node.client();
    assert_eq!(client.refused(&["HELLO", "4"]), "NOPROTO unsupported protocol version");
    assert_eq!(client.ask(&["GET", "missing"]), Value::Null);
    let Value::Map(fields) = client.hello3() else { panic!("HELLO 3 answers with a map") };
    let names: Vec<String> = fields.iter().map(|(name, _)| text(name)).collect();
    assert_eq!(names, ["server", "version", "proto", "id", "mode", "role", "modules"]);
    assert!(fields.contains(&(bulk("proto"), Value::Integer(3))));
    assert_eq!(client.ask(&["GET", "missing"]), Value::Null);
    assert!(matches!(client.must(&["CONFIG", "GET", "maxclients"]), Value::Map(_)), "maps are maps");
    assert!(matches!(client.must(&["INFO"]), Value::Text(_)), "text for people is text");
}

#[test]
fn unknown_commands_are_answered_in_their_place() {
    let node = Node::alone(&[]);
    let mut client = node.client();
    let replies = client
        .pipeline([vec!["FOO", "a", "b"], vec!["PING"], vec!["CLIENT", "NOSUCH"], vec!["CLUSTER", "INFO"], vec!["GET"], vec!["PING"]])
        .expect("the node answers");
    let pong = || Value::Simple("PONG".into());
    let error = |text: &str| Value::Error(text.into());
    assert_eq!(
        replies,
        [
            error("ERR unknown command 'FOO', with args beginning with: 'a' 'b' "),
            pong(),
            error("ERR unknown subcommand 'NOSUCH'. Try CLIENT HELP."),
            error("ERR This instance has cluster support disabled"),
            error("ERR wrong number of arguments for 'get' command"),
            pong(),
        ]
    );
}
