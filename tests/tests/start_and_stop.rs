//! Starting and stopping: clear refusals, and a stop that leaves no question open.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use redraft_tests::address::reserve;
use redraft_tests::client::integer;
use redraft_tests::dir::TestDir;
use redraft_tests::process::{Finished, run_redraft};
use redraft_tests::{Node, Value, eventually};

/// How long a refusal may take.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(30);

/// Runs a command that must be refused with one line that contains all of these words.
#[track_caller]
fn check_refused(args: &[&str], code: i32, words: &[&str]) {
    let Finished { code: found, output } = run_redraft(args, REFUSAL_PATIENCE);
    let complaint: Vec<&str> = output.lines().filter(|line| line.starts_with("redraft: ")).collect();
    assert_eq!((found, complaint.len()), (Some(code), 1), "{args:?}: {output}");
    assert!(words.iter().all(|word| complaint[0].contains(word)), "{args:?} says {:?}, not {words:?}", complaint[0]);
}

/// The command line of a node with one value replaced.
fn line_with(node: &Node, replaced: &[(&str, String)]) -> Vec<String> {
    let mut line = node.command_line();
    for (flag, value) in replaced {
        let at = line.iter().position(|arg| arg == flag).unwrap_or_else(|| panic!("the node has no {flag}"));
        line[at + 1].clone_from(value);
    }
    line
}

#[test]
fn bad_options_are_refused_in_one_line() {
    check_refused(&["server", "--no-such-option", "1"], 2, &["--no-such-option"]);
    check_refused(&["serve"], 2, &["serve", "server"]);
    check_refused(&["server", "--maxclients", "0"], 1, &["maxclients", "0"]);
    check_refused(&["server", "--election-timeout", "100", "--heartbeat-interval", "100"], 1, &["election-timeout"]);
    check_refused(&["server", "--listen", "nonsense"], 1, &["listen", "nonsense"]);
    check_refused(&["server", "--peer-listen", "0.0.0.0:16379"], 1, &["peer-listen"]);
    check_refused(&["server", "--config", "/no/such/file.toml"], 1, &["/no/such/file.toml"]);
    check_refused(&["server", "--bootstrap", "--join", "127.0.0.1:1"], 1, &["bootstrap", "join"]);
}

#[test]
fn bad_configuration_files_are_refused_with_their_place() {
    let dir = TestDir::new();
    let file = dir.join("redraft.toml");
    let path = file.display().to_string();
    for (text, word) in [("maxclients = \"many\"", "maxclients"), ("no-such-option = 1", "no-such-option"), ("listen = [", "redraft.toml")]
    {
        std::fs::write(&file, text).expect("a file can be written");
        check_refused(&["server", "--config", &path], 1, &[word]);
    }
}

#[test]
fn a_second_process_on_a_directory_is_refused() {
    let node = Node::alone(&[]);
    let addresses = ["--listen", "--peer-listen", "--admin-listen"].map(|flag| (flag, reserve().to_string()));
    let line = line_with(&node, &addresses);
    let dir = node.dir().display().to_string();
    let join = reserve().to_string();
    for more in [&[][..], &["--rejoin"], &["--rejoin", "--join", &join]] {
        let line: Vec<&str> = line.iter().map(String::as_str).chain(more.iter().copied()).collect();
        check_refused(&line, 1, &[&dir, "another process"]);
        node.client().set("k", "the first one goes on");
    }
}

#[test]
fn a_node_that_knows_nobody_to_join_keeps_its_data() {
    let mut node = Node::alone(&[]);
    node.client().set("k", "v");
    node.stop();
    let mut line = node.command_line();
    line.push("--rejoin".to_owned());
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    check_refused(&line, 1, &["--rejoin", "add --join HOST:PEERPORT"]);
    node.start();
    node.wait_ready();
    assert_eq!(node.client().get("k").as_deref(), Some(b"v".as_slice()));
}

#[test]
fn taken_ports_are_named() {
    let node = Node::alone(&[]);
    for taken in ["--listen", "--peer-listen", "--admin-listen"] {
        let listener = TcpListener::bind(reserve()).expect("a reserved port is free");
        let address = listener.local_addr().expect("it is bound").to_string();
        let dir = TestDir::new();
        let mut replaced = vec![("--data-dir", dir.join("node").display().to_string()), (taken, address.clone())];
        let rest = ["--listen", "--peer-listen", "--admin-listen"].into_iter().filter(|flag| *flag != taken);
        replaced.extend(rest.map(|flag| (flag, reserve().to_string())));
        let line = line_with(&node, &replaced);
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        check_refused(&line, 1, &[&address, "in use"]);
        assert!(!dir.join("node").join("data").exists(), "nothing was founded");
    }
}

#[test]
fn a_directory_of_another_cluster_is_refused() {
    let mut node = Node::alone(&[]);
    let own = node.status().cluster_id;
    node.client().set("k", "v");
    node.stop();
    let other: String = own.chars().map(|digit| if digit == '0' { '1' } else { '0' }).collect();
    let mut line = node.command_line();
    line.retain(|arg| arg != "--bootstrap");
    line.extend(["--cluster-id".to_owned(), other.clone()]);
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    check_refused(&line, 1, &[&own, &other]);
    node.start();
    node.wait_ready();
    assert_eq!(node.client().get("k").as_deref(), Some(b"v".as_slice()), "nothing was lost");
}

#[test]
fn an_empty_directory_with_a_cluster_id_founds_nothing() {
    let dir = TestDir::new();
    let node = Node::new(dir.join("node-1"), &[]);
    let mut line = node.command_line();
    line.extend(["--cluster-id".to_owned(), "0123456789".repeat(4)]);
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    check_refused(&line, 1, &["cluster-id", "join"]);
}

#[test]
fn an_unreachable_node_to_join_is_named_and_waited_for() {
    let dir = TestDir::new();
    let nobody = reserve().to_string();
    let mut node = Node::new(dir.join("node-1"), &["--join", &nobody]);
    node.start();
    eventually("the log names the address", || node.log().contains(&nobody).then_some(()));
    assert!(node.try_client().is_none(), "it takes no clients before it is a member");
    node.stop();
}

#[test]
fn a_stop_answers_what_was_read_and_executes_nothing_else() {
    let mut node = Node::alone(&[]);
    for round in 0..3 {
        let counter = format!("counter:{round}");
        let mut clients: Vec<_> = (0..3).map(|_| node.client()).collect();
        let mut single = node.client();
        for client in &mut clients {
            for _ in 0..20_000 {
                client.queue(&["INCR", &counter]);
            }
        }
        // Sent from threads of their own: the node stops reading at some time, and a sender then waits for ever.
        let answered: i64 = std::thread::scope(|scope| {
            let began = node.client().get(&counter);
            assert_eq!(began, None);
            let senders: Vec<_> = clients
                .into_iter()
                .map(|mut client| {
                    scope.spawn(move || {
                        // The node may close the connection before it has all.
                        drop(client.flush());
                        let mut last = 0;
                        let mut answered = 0;
                        while let Ok(reply) = client.receive() {
                            let value = integer(&reply);
                            assert!(value > last, "replies come in their order");
                            (last, answered) = (value, answered + 1);
                        }
                        answered
                    })
                })
                .collect();
            eventually("some are executed", || single.get(&counter));
            node.terminate();
            senders.into_iter().map(|sender| sender.join().expect("a sender does not panic")).sum()
        });
        assert!(node.wait_end().success());
        node.start();
        node.wait_ready();
        let executed = node.client().get(&counter).map_or(0, |value| integer(&Value::Bulk(value)));
        assert_eq!(executed, answered, "every executed command was answered");
    }
}

#[test]
fn a_stop_closes_idle_clients_at_once() {
    let mut node = Node::alone(&[]);
    let mut clients: Vec<_> = (0..20).map(|_| node.client()).collect();
    for client in &mut clients {
        client.must(&["PING"]);
    }
    let began = Instant::now();
    node.stop();
    assert!(began.elapsed() < Duration::from_secs(5), "the stop took {:?}", began.elapsed());
    for mut client in clients {
        assert_eq!(client.read_to_close().expect("it is closed"), b"");
    }
}
