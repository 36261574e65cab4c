//! `redraft demo` as somebody runs it who has never seen redraft: it ends by itself, and whatever ends it, nothing is left.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use redraft_tests::dir::TestDir;
use redraft_tests::eventually;
use redraft_tests::process::{Process, redraft_binary};
use rustix::process::Signal;

/// The promise.
const DEMO_MAX: Duration = Duration::from_secs(60);

/// A demonstration whose temporary files go into a directory of the test's.
fn start(dir: &TestDir) -> Process {
    let temporary = dir.join("temporary");
    fs::create_dir(&temporary).expect("a directory can be created");
    let variables = [("TMPDIR".to_owned(), temporary.display().to_string())];
    let output = File::create(dir.join("demo.log")).expect("a log can be created");
    Process::start_with(&redraft_binary(), &["demo".to_owned()], &variables, output)
}

fn output(dir: &TestDir) -> String {
    fs::read_to_string(dir.join("demo.log")).expect("a log can be read")
}

#[track_caller]
fn check_nothing_is_left(dir: &TestDir) {
    let temporary = dir.join("temporary");
    let left: Vec<_> = fs::read_dir(&temporary).expect("a directory can be read").collect();
    assert!(left.is_empty(), "{left:?}");
    let place = temporary.display().to_string();
    let processes = fs::read_dir("/proc").expect("there are processes").flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let nodes = lines.filter(|line| String::from_utf8_lossy(line).contains(&place)).count();
    assert_eq!(nodes, 0, "nodes that still run");
}

#[test]
fn the_demonstration_is_told_to_its_end_and_leaves_nothing() {
    let dir = TestDir::new();
    let began = Instant::now();
    let status = start(&dir).wait(2 * DEMO_MAX);
    let (took, text) = (began.elapsed(), output(&dir));
    assert!(status.success(), "{status}\n{text}");
    assert!(took < DEMO_MAX, "it took {took:?}");
    for words in [
        "1. Three nodes start",
        "> SET greeting hello",
        "> MSET fruit:apple 3",
        "> RANGE [fruit:",
        "> PTTL session",
        "(kill -9)",
        "(error) CLUSTERDOWN no leader was reached in time; not executed",
        "node 3 has all ",
        "11. That was it",
    ] {
        assert!(text.contains(words), "{words:?} is missing:\n{text}");
    }
    check_nothing_is_left(&dir);
}

#[test]
fn a_demonstration_that_is_interrupted_leaves_nothing() {
    for (signal, moment) in [(Signal::INT, "1. Three nodes"), (Signal::TERM, "leads in term")] {
        let dir = TestDir::new();
        let mut demo = start(&dir);
        eventually("the story has come so far", || output(&dir).contains(moment).then_some(()));
        demo.signal(signal);
        let status = demo.wait(DEMO_MAX);
        let text = output(&dir);
        assert_eq!(status.code(), Some(1), "{text}");
        assert!(text.contains("stopped by a signal"), "{text}");
        check_nothing_is_left(&dir);
    }
}
