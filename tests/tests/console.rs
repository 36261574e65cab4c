//! `redraft cli` as scripts and people use it; what it prints is compared with what redis-cli prints.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use redraft_tests::dir::TestDir;
use redraft_tests::process::{Answered, redraft_binary, run_with_input};
use redraft_tests::terminal::Terminal;
use redraft_tests::{Node, PATIENCE};

/// Commands whose replies are the same whoever asks and when, of every kind that there is.
const LINES: &str = r#"
SET k "a \"quoted\" \x00\xff value\r\n"
GET k
get nope
SET 'single \' quoted' ''
STRLEN k
INCR k
INCR n

MSET range:a 1 range:b 2 range:c 3
MGET range:a nope range:b
RANGE [range: (range; WITHVALUES
KEYS nope*
COMMAND INFO get nope
COMMAND DOCS get
CONFIG GET maxclients
COMMAND LIST FILTERBY PATTERN xgr*
CONFIG HELP
HELLO 4
NOSUCH command
SELECT 3
DBSIZE
TTL k
"unbalanced
SELECT 16
PING
ECHO "last one"
"#;

fn place(node: &Node) -> [String; 4] {
    let address = node.address();
    ["-h".to_owned(), address.ip().to_string(), "-p".to_owned(), address.port().to_string()]
}

/// Runs `redraft cli` against a node.
#[track_caller]
fn cli(node: &Node, args: &[&str], input: &str) -> Answered {
    let place = place(node);
    let line: Vec<&str> = ["cli"].into_iter().chain(place.iter().map(String::as_str)).chain(args.iter().copied()).collect();
    run_with_input(&redraft_binary(), &line, &[], input.as_bytes(), PATIENCE)
}

#[track_caller]
fn check(node: &Node, args: &[&str], code: i32, output: &str) {
    let answered = cli(node, args, "");
    assert_eq!((answered.code, String::from_utf8_lossy(&answered.output).as_ref()), (Some(code), output), "{args:?}: {}", answered.errors);
}

#[test]
fn one_command_is_answered_and_its_exit_code_says_how() {
    let node = Node::alone(&[]);
    check(&node, &["SET", "k", "a b"], 0, "OK\n");
    check(&node, &["GET", "k"], 0, "a b\n");
    check(&node, &["--no-raw", "GET", "k"], 0, "\"a b\"\n");
    check(&node, &["-n", "3", "GET", "k"], 0, "\n");
    check(&node, &["-3", "--no-raw", "CONFIG", "GET", "databases"], 0, "1# \"databases\" => \"16\"\n");
    check(&node, &["SET", "-k", "--raw"], 0, "OK\n");
    check(&node, &["INCR", "k"], 1, "ERR value is not an integer or out of range\n\n");
    check(&node, &["--no-raw", "INCR", "k"], 1, "(error) ERR value is not an integer or out of range\n");
}

#[test]
fn a_server_that_is_not_there_is_named_and_the_next_one_is_asked() {
    let (mut gone, node) = (Node::alone(&[]), Node::alone(&[]));
    node.client().set("k", "v");
    gone.stop();
    let (absent, present) = (gone.address().to_string(), node.address().to_string());
    let ask = |servers: &[&str]| {
        let servers = servers.iter().flat_map(|server| ["--address", *server]);
        let line: Vec<&str> = ["cli"].into_iter().chain(servers).chain(["GET", "k"]).collect();
        run_with_input(&redraft_binary(), &line, &[], b"", PATIENCE)
    };
    let alone = ask(&[&absent]);
    assert_eq!((alone.code, alone.output.as_slice()), (Some(1), b"".as_slice()));
    assert!(alone.errors.contains(&format!("cannot connect to {absent}: ")), "{}", alone.errors);
    let helped = ask(&[&absent, &present]);
    assert_eq!((helped.code, helped.output.as_slice()), (Some(0), b"v\n".as_slice()), "{}", helped.errors);
    assert!(helped.errors.contains(&format!("connected to {present} ({absent}: ")), "{}", helped.errors);
}

#[test]
fn what_is_printed_is_what_redis_cli_prints() {
    // Inside a map, redis-cli 7.0 goes to a new line before an aggregate.
    let simple: String = LINES.lines().filter(|line| !line.starts_with("COMMAND")).map(|line| format!("{line}\n")).collect();
    for (flags, lines) in
        [(&[][..], LINES), (&["--no-raw"], LINES), (&["-3"], LINES), (&["-3", "--no-raw"], simple.as_str()), (&["-n", "5"], LINES)]
    {
        let node = Node::alone(&[]);
        let ours = cli(&node, flags, lines);
        node.client().must(&["FLUSHALL"]);
        let place = place(&node);
        let line: Vec<&str> = place.iter().map(String::as_str).chain(flags.iter().copied()).collect();
        let theirs = run_with_input(Path::new("redis-cli"), &line, &[], lines.as_bytes(), PATIENCE);
        let text = |answered: &Answered| String::from_utf8_lossy(&answered.output).into_owned();
        for (number, (ours, theirs)) in text(&ours).lines().zip(text(&theirs).lines()).enumerate() {
            assert_eq!(ours, theirs, "{flags:?}, line {}", number + 1);
        }
        assert_eq!(ours.output, theirs.output, "{flags:?}");
        assert_eq!(ours.code, Some(1), "some were answered with errors");
    }
}

#[test]
fn a_password_comes_from_the_environment_or_the_terminal() {
    let node = Node::alone(&["--requirepass", "pw"]);
    let place = place(&node);
    let line: Vec<&str> = ["cli"].into_iter().chain(place.iter().map(String::as_str)).chain(["PING"]).collect();
    let with = |password: &str| {
        let variables = [("REDRAFT_REQUIREPASS".to_owned(), password.to_owned())];
        run_with_input(&redraft_binary(), &line, &variables, b"", PATIENCE)
    };
    let right = with("pw");
    assert_eq!((right.code, right.output.as_slice()), (Some(0), b"PONG\n".as_slice()), "{}", right.errors);
    let wrong = with("other");
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.errors.contains("AUTH failed: WRONGPASS") && !wrong.errors.contains("other"), "{}", wrong.errors);

    let args: Vec<&str> = line[..5].iter().copied().chain(["--password-from", "prompt", "--", "PING"]).collect();
    let mut terminal = Terminal::start(&args, &[]);
    terminal.expect("password: ");
    assert!(!terminal.is_ordinary(), "what is typed is not shown");
    terminal.send("pw\r");
    terminal.expect("PONG\r\n");
    assert!(terminal.wait_end().success() && terminal.is_ordinary());
}

#[test]
fn a_person_is_helped_while_typing_and_remembered_but_for_secrets() {
    let (node, home) = (Node::alone(&[]), TestDir::new());
    let (address, home_path) = (node.address().to_string(), home.path().display().to_string());
    let variables = [("HOME", home_path.as_str())];
    let prompt = format!("{address}> ");
    let mut terminal = Terminal::start(&["cli", "--address", &address], &variables);
    // Keys are the editor's from the prompt on.
    let mut say = |prompt: &str, keys: &str, answer: &str| {
        terminal.expect(prompt);
        terminal.send(keys);
        terminal.expect(answer);
    };
    say(&prompt, "SET k v\r", "OK\r\n");
    say(&prompt, "get", "key  Returns the string value");
    say("", "d\t k\r", "\"v\"\r\n");
    say(&prompt, "raft tr\t 99\r", "(error) ERR node 99 is not a voter\r\n");
    say(&prompt, "select 2\r", "OK\r\n");
    let prompt_of_2 = format!("{address}[2]> ");
    say(&prompt_of_2, "auth hidden\r", "(error) ERR AUTH");
    say(&prompt_of_2, " get hidden\r", "(nil)\r\n");
    say(&prompt_of_2, "config set requirepass \"hidden\r", "Invalid argument(s)\r\n");
    say(&prompt_of_2, "exit\r", "");
    assert!(terminal.wait_end().success());

    let file = home.join(".redraft_history");
    let history = fs::read_to_string(&file).expect("there is a history");
    assert!(history.contains("SET k v\n") && history.contains("getdel k\n") && !history.contains("hidden"), "{history}");
    assert_eq!(fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);

    // The next session has it: the key for the line before brings it back.
    let mut terminal = Terminal::start(&["cli", "--address", &address], &variables);
    terminal.expect(&prompt);
    // exit, select, raft and getdel are younger.
    terminal.send(&"\x1b[A".repeat(5));
    terminal.send("x\r");
    terminal.expect("OK\r\n");
    assert_eq!(node.client().get("k").as_deref(), Some(b"vx".as_slice()));
    terminal.expect(&prompt);
    terminal.send("\x04");
    assert!(terminal.wait_end().success());
}

#[test]
fn a_conversation_goes_on_when_a_server_ends() {
    let (mut first, second) = (Node::alone(&[]), Node::alone(&[]));
    let home = TestDir::new();
    first.client().set("k", "of the first");
    second.client().set("k", "of the second");
    let [one, other] = [&first, &second].map(|node| node.address().to_string());
    let home_path = home.path().display().to_string();
    let mut terminal = Terminal::start(&["cli", "--address", &one, "--address", &other], &[("HOME", home_path.as_str())]);
    terminal.expect(&format!("{one}> "));
    terminal.send("GET k\r");
    terminal.expect("\"of the first\"\r\n");
    terminal.expect(&format!("{one}> "));
    first.kill();
    terminal.send("GET k\r");
    terminal.expect(&format!("connected to {other} ({one}: "));
    terminal.expect("\"of the second\"\r\n");
    terminal.expect(&format!("{other}> "));
    terminal.send("\x03");
    assert!(terminal.wait_end().success());
}
