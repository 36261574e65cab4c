//! Every part of the program that measures capacity, tiny: all figures are there, and they are possible. How fast anything is, is not looked at.

use std::process::Command;

use redraft_tests::dir::TestDir;
use serde_json::Value as Json;

/// Runs a part; its figures.
fn figures(part: &str, line: &str) -> Json {
    let dir = TestDir::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_capacity"));
    command.arg(part).args(line.split(' ')).args(["--no-marks", "--out"]).arg(dir.path());
    let output = command.output().expect("the program can be started");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{part} {line} ended with {}: {said}", output.status);
    let text = std::fs::read_to_string(dir.join(format!("{part}.json"))).expect("a file of figures");
    let report: Json = serde_json::from_str(&text).expect("it is JSON");
    assert!(report["findings"]["marks"].as_array().is_some_and(|marks| marks.len() >= 2), "{report:#}");
    report["findings"]["figures"].clone()
}

/// A number that must be there, and be above another.
#[track_caller]
fn above(value: &Json, bound: f64) -> f64 {
    let number = value.as_f64().unwrap_or_else(|| panic!("no number: {value}"));
    assert!(number > bound, "{number} is not above {bound}");
    number
}

/// The figures of a load in which nothing failed.
#[track_caller]
fn check_load(figures: &Json) {
    let [p50, p99, p999, max] = ["p50_ms", "p99_ms", "p999_ms", "max_ms"].map(|name| above(&figures[name], 0.0));
    assert!(p50 <= p99 && p99 <= p999 && p999 <= max, "{figures:#}");
    let (commands, seconds) = (above(&figures["commands"], 0.0), above(&figures["seconds"], 0.0));
    assert!((above(&figures["per_second"], 0.0) * seconds / commands - 1.0).abs() < 0.01, "{figures:#}");
    assert_eq!(figures["failures"], serde_json::json!({}), "{figures:#}");
}

#[test]
fn dataset() {
    let found = figures("dataset", "--gib 0.02 --budget-mib 64 --seconds 1");
    let keys = above(&found["keys"], 20_000.0);
    assert_eq!(found["keys_written"], found["keys"]);
    assert_eq!(above(&found["user_bytes"], 0.0), keys * 1040.0);
    let costs = &found["costs"];
    above(&costs["write_amplification_rested"], 1.0);
    above(&costs["space_amplification"], 0.3);
    above(&costs["bytes"]["log"], 0.0);
    assert!(above(&found["resident_bytes_peak"], 1e6) >= above(&costs["resident_bytes_peak"], 1e6), "{found:#}");
    above(&found["start_seconds"], 0.0);
    let asked = found["asking"].as_array().expect("loads");
    assert_eq!(asked.len(), 4);
    asked.iter().for_each(|asked| check_load(&asked["figures"]));
    asked.iter().for_each(|asked| assert_eq!(asked["figures"]["nulls"], 0, "{asked:#}"));
}

#[test]
fn stalls() {
    let found = figures("stalls", "--keys 10000 --minutes 2 --minute-seconds 2 --seconds 1");
    check_load(&found["capacity"]);
    above(&found["rate"], 0.0);
    above(&found["written_bytes"], 0.0);
    above(&found["snapshot"]["caught_up"], 0.0);
    let minutes = found["minutes"].as_array().expect("minutes");
    assert_eq!(minutes.len(), 2);
    minutes.iter().for_each(|minute| check_load(&minute["figures"]));
    above(&minutes[1]["joiner_started"], 0.0);
}

#[test]
fn scale() {
    let found = figures("scale", "--keys 10000 --connections-max 10 --value-bytes-max 100 --seconds 1");
    let check = |name: &str, count: usize| {
        let measured = found[name].as_array().expect("loads");
        assert_eq!(measured.len(), count, "{name}");
        for measured in measured {
            check_load(&measured["figures"]);
            above(&measured["cpu_us_per_command"], 0.0);
        }
    };
    check("connections", 4);
    check("values", 4);
    check("keys", 2);
    assert_eq!(found["idle"]["connections"], 10);
    above(&found["idle_kib_per_connection"], -1.0);
}

#[test]
fn recovery() {
    let found = figures("recovery", "--keys 10000 --log-mib 1 --gib 0.01 --seconds 1");
    let restarts = found["restart"]["restarts"].as_array().expect("restarts");
    assert_eq!(restarts.len(), 2);
    for restart in restarts {
        assert_eq!(restart["keys"], 10_000);
        for name in ["start_seconds", "stop_seconds", "log_entries"] {
            above(&restart[name], 0.0);
        }
    }
    let joining = &found["joining"];
    assert_eq!(joining["keys_joined"], joining["keys"]);
    for arrival in [&joining["idle"], &joining["busy"]] {
        above(&arrival["mb_per_second"], 0.0);
        above(&arrival["phases"]["caught_up"], 0.0);
    }
    check_load(&joining["writes_before"]);
    check_load(&joining["writes_during"]);
}
