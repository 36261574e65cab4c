//! Whole runs against a server that answers as the test wants.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use resp::{Authentication, Limits, RequestReader};

use super::collector::Ending;
use super::options::tests::options;
use super::report::Report;
use super::{LoadError, measure};
use crate::config::Config;

const OK: Answer = Answer::Reply(b"+OK\r\n");

/// What a server does with a command.
#[derive(Clone, Copy)]
enum Answer {
    Reply(&'static [u8]),
    /// Close the connection.
    Close,
}

/// A server that has one thread for deciding its answers, as it were: while it decides, all its clients wait.
fn server(answer: impl FnMut(&[Bytes]) -> Answer + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let answer = Arc::new(Mutex::new(answer));
    // Its threads end with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            thread::spawn(move || serve(stream, |command| answer.lock().expect("no test panics here")(command)));
        }
    });
    address
}

fn serve(mut stream: TcpStream, mut answer: impl FnMut(&[Bytes]) -> Answer) {
    let limits = Limits { bulk_bytes_max: 9999, arguments_max: 99, request_bytes_max: 99_999, authentication: Authentication::Done };
    let mut reader = RequestReader::new();
    loop {
        let mut piece = [0; 4096];
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(length) => reader.buffer_mut().extend_from_slice(&piece[..length]),
        }
        let mut replies = Vec::new();
        while let Some(command) = reader.next(&limits).expect("a load sends requests") {
            match answer(&command) {
                Answer::Reply(bytes) => replies.extend_from_slice(bytes),
                Answer::Close => return,
            }
        }
        if stream.write_all(&replies).is_err() {
            return;
        }
    }
}

fn measured(address: SocketAddr, line: &str) -> Report {
    measure(&options(&format!("--address {address} --quiet {line}")), None).expect("a run")
}

/// Commands that took half a second or longer.
fn slow(report: &Report) -> u64 {
    report.outcome.tally.latency.count_between(500_000, u64::MAX / 2)
}

#[test]
fn every_command_is_counted_once() {
    let seen = Arc::new(Mutex::new(0));
    let count = Arc::clone(&seen);
    let address = server(move |_| {
        *count.lock().expect("a number") += 1;
        OK
    });
    for line in ["--pipeline 1", "--pipeline 16", "--pipeline 7 --threads 3 --connections 20", "--rate 100000 --pipeline 3"] {
        *seen.lock().expect("a number") = 0;
        let report = measured(address, &format!("--requests 1000 {line}"));
        let tally = &report.outcome.tally;
        assert_eq!((tally.sent, tally.succeeded, tally.latency.len(), report.outcome.unsent), (1000, 1000, 1000, 0), "{line}");
        assert_eq!((*seen.lock().expect("a number"), report.outcome.ending), (1000, Ending::Complete), "{line}");
        report.verdict().expect("a good run");
    }
}

#[test]
fn a_fill_writes_every_key_once() {
    let keys = Arc::new(Mutex::new(BTreeSet::new()));
    let written = Arc::clone(&keys);
    let address = server(move |command| {
        assert!(written.lock().expect("a set").insert(command[1].clone()), "a key is written once");
        OK
    });
    measured(address, "--test fill --keys 1003 --pipeline 10 --connections 7 --threads 2").verdict().expect("all are written");
    assert_eq!(keys.lock().expect("a set").len(), 1003);
}

#[test]
fn error_replies_are_counted_apart() {
    let mut number = 0;
    let address = server(move |_| {
        number += 1;
        if number % 4 == 0 { Answer::Reply(b"-ERR not today\r\n") } else { Answer::Reply(b"$-1\r\n") }
    });
    let report = measured(address, "--test get --requests 400 --pipeline 10");
    let tally = &report.outcome.tally;
    assert_eq!((tally.succeeded, tally.nulls, tally.latency.len(), tally.unanswered()), (300, 300, 300, 0));
    assert_eq!(tally.errors.iter().collect::<Vec<_>>(), [("ERR not today", 100)]);
    assert_eq!((report.json()["errors"]["ERR not today"].as_u64(), report.json()["commands"].as_u64()), (Some(100), Some(300)));
}

#[test]
fn a_run_without_a_success_fails() {
    let address = server(|_| Answer::Reply(b"-NOAUTH Authentication required.\r\n"));
    let error = measured(address, "--requests 10").verdict().expect_err("nothing succeeded");
    assert_eq!(error.to_string(), "no command succeeded: NOAUTH Authentication required.");
    let error = measured(address, "--test fill --keys 10").verdict().expect_err("nothing succeeded");
    assert!(matches!(error, LoadError::NothingSucceeded(_)));
}

#[test]
fn a_broken_connection_is_opened_again() {
    let mut number = 0;
    let address = server(move |_| {
        number += 1;
        if number % 100 == 0 { Answer::Close } else { OK }
    });
    let report = measured(address, "--requests 1000 --connections 3");
    let tally = &report.outcome.tally;
    assert_eq!((tally.sent, tally.succeeded, tally.unanswered(), tally.broken.total()), (1000, 990, 10, 10));
    assert_eq!(tally.refused.total(), 0);
}

#[test]
fn a_password_goes_first() {
    let address = server(|command| if command[0] == "AUTH" && command[1] != "pw" { Answer::Reply(b"-WRONGPASS no\r\n") } else { OK });
    let run = |password| {
        let config = Config::from_options(&[("requirepass", password)]).expect("allowed");
        let line = format!("--address {address} --quiet --requests 10 --connections 2");
        measure(&options(&line), config.runtime.values().requirepass.clone())
    };
    assert_eq!(run("pw").expect("let in").outcome.tally.succeeded, 10);
    assert_eq!(run("other").expect_err("kept out").to_string(), format!("cannot connect to {address}: WRONGPASS no"));
}

#[test]
fn nobody_who_listens_is_told_at_once() {
    let address = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let error = measure(&options(&format!("--address {address}")), None).expect_err("nobody listens");
    assert!(matches!(error, LoadError::Connect { .. }), "{error}");
}

#[test]
fn connections_are_spread_over_the_addresses() {
    let counts = Arc::new(Mutex::new([0, 0]));
    let addresses = [0, 1].map(|place| {
        let counts = Arc::clone(&counts);
        server(move |_| {
            counts.lock().expect("numbers")[place] += 1;
            OK
        })
    });
    let line = format!("--address {} --rate 10000 --requests 1000 --connections 4", addresses[0]);
    measured(addresses[1], &line);
    let counts = *counts.lock().expect("numbers");
    // Half each, but for the last few, which go to whoever comes first.
    assert!(counts.iter().all(|count| (490..=510).contains(count)), "{counts:?}");
}

#[test]
fn the_warm_up_does_not_count() {
    let report = measured(server(|_| OK), "--rate 1000 --warmup 1 --seconds 1");
    let tally = &report.outcome.tally;
    assert_eq!((tally.warmup, tally.succeeded, report.outcome.unsent), (1000, 1000, 0));
    assert!(report.outcome.length >= Duration::from_secs(1), "{:?}", report.outcome.length);
}

/// A server that stands still for a second once, a good while after its beginning.
fn standing_still() -> SocketAddr {
    let mut number = 0;
    server(move |_| {
        number += 1;
        if number == 600 {
            thread::sleep(Duration::from_secs(1));
        }
        OK
    })
}

#[test]
fn in_the_open_loop_all_that_was_due_in_a_pause_shows_it() {
    let report = measured(standing_still(), "--rate 2000 --seconds 2 --connections 4");
    assert_eq!((report.outcome.tally.succeeded, report.outcome.unsent), (4000, 0));
    // What was due in the first half of the pause waited for more than the second half; some may wait behind it.
    assert!(slow(&report) >= 950, "{}", slow(&report));
}

#[test]
fn in_the_open_loop_what_is_late_goes_out_together() {
    // As long for many commands as for one: a server whose every answer takes a round over a network.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut piece = vec![0; 1 << 20];
                while let Ok(length @ 1..) = stream.read(&mut piece) {
                    let commands = piece[..length].windows(3).filter(|window| *window == b"SET").count();
                    thread::sleep(Duration::from_millis(20));
                    if stream.write_all(&b"+OK\r\n".repeat(commands)).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let report = measured(address, "--rate 4000 --seconds 1 --connections 4");
    assert_eq!((report.outcome.tally.succeeded, report.outcome.unsent), (4000, 0));
    // One after the other they would take twenty seconds.
    assert!(report.outcome.length < Duration::from_secs(10), "{:?}", report.outcome.length);
}

#[test]
fn in_the_closed_loop_a_pause_is_seen_once_by_a_connection() {
    let report = measured(standing_still(), "--requests 2000 --connections 4");
    assert_eq!(report.outcome.tally.succeeded, 2000);
    // Four at most by the server; a busy machine may add some of its own.
    assert!((1..100).contains(&slow(&report)), "{}", slow(&report));
}

#[test]
fn a_timeline_shows_when_it_was() {
    let directory = tempfile::tempdir().expect("a directory");
    let json = directory.path().join("load.json");
    let line = format!("--rate 2000 --seconds 2 --connections 4 --timeline=100 --json {}", json.display());
    let report = measured(standing_still(), &line).json();
    let windows = report["timeline"].as_array().expect("windows");
    let number = |window: &serde_json::Value, name: &str| window[name].as_f64().expect("a number");
    assert!(windows.len() >= 10, "{windows:?}");
    assert!(windows.windows(2).all(|pair| number(&pair[0], "to") == number(&pair[1], "from")), "windows leave nothing out");
    assert_eq!(windows.iter().map(|window| number(window, "commands")).sum::<f64>(), 4000.0);
    let empty: f64 =
        windows.iter().filter(|window| number(window, "commands") == 0.0).map(|it| number(it, "to") - number(it, "from")).sum();
    assert!(empty > 0.5, "{empty}");
    assert!(windows.iter().any(|window| number(window, "max_ms") > 900.0));
}

#[test]
fn a_table_names_what_went_wrong() {
    let mut number = 0;
    let address = server(move |_| {
        number += 1;
        if number == 5 { Answer::Reply(b"-ERR not today\r\n") } else { OK }
    });
    let table = measured(address, "--requests 10 --connections 1").table();
    let check = |line: &str| assert!(table.lines().any(|found| found == line), "no {line:?} in\n{table}");
    check("set, 1 connections, pipelines of 1, 100000 keys (uniform), values of 100 bytes");
    check("commands                          9");
    check("error replies                     1");
    check("           1 times: ERR not today");
    check("latency, ms       mean       p50       p90       p99     p99.9       max");
}
