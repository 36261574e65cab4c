//! `redraft load` as a process of its own: its command line, its end, and the figures of its report.
//! Whether failures in them are the end of a measurement is for whoever asked; here they are counted and kept.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use serde::Serialize;
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::process::{Process, redraft_binary};

/// How long a run may take in all: twice as long as any measurement is meant to be.
const RUN_PATIENCE: Duration = Duration::from_secs(4 * 3600);
/// How long a run may take to end when it is told to.
const END_PATIENCE: Duration = Duration::from_secs(30);

/// What a run found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LoadFigures {
    /// Commands that were answered without an error.
    pub commands: u64,
    /// The same per second.
    pub per_second: f64,
    /// How long it went on.
    pub seconds: f64,
    /// Commands that found nothing.
    pub nulls: u64,
    /// Commands that were due and never sent.
    pub unsent: u64,
    /// The latency in the middle, in milliseconds.
    pub p50_ms: f64,
    /// The slowest of a hundred.
    pub p99_ms: f64,
    /// The slowest of a thousand.
    pub p999_ms: f64,
    /// The slowest of all.
    pub max_ms: f64,
    /// Error replies, and why connections broke or did not come about, with their numbers.
    pub failures: BTreeMap<String, u64>,
    /// Windows of time, if the command line asks for a timeline.
    #[serde(skip)]
    pub windows: Vec<Window>,
}

impl LoadFigures {
    /// Cells of a table: p50, p99, p99.9 and the slowest, in ms.
    #[must_use]
    pub fn latencies(&self) -> [String; 4] {
        let [p50, p99, p999] = [self.p50_ms, self.p99_ms, self.p999_ms].map(|ms| format!("{ms:.2}"));
        [p50, p99, p999, format!("{:.1}", self.max_ms)]
    }
}

/// What a window of time had. Seconds count from when the run began to count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Where it begins, in seconds.
    pub from: f64,
    /// Where it ends.
    pub to: f64,
    /// The longest latency of a command that was answered in it, in milliseconds.
    pub max_ms: f64,
    /// How much too late a sleeping thread of the generator woke in it.
    pub probe_late_ms: f64,
}

/// The program while it runs. It ends with this value.
#[derive(Debug)]
pub struct LoadProgram {
    process: Process,
    args: String,
    report: NamedTempFile,
    said: NamedTempFile,
}

impl LoadProgram {
    /// Starts it on some servers, with arguments that are separated by blanks.
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start(addresses: &[SocketAddr], args: &str) -> LoadProgram {
        let [report, said] = [(); 2].map(|()| NamedTempFile::new().expect("a file can be created"));
        let mut line = vec!["load".to_owned(), "--quiet".to_owned(), "--json".to_owned(), report.path().display().to_string()];
        line.extend(addresses.iter().map(|address| format!("--address={address}")));
        line.extend(args.split_whitespace().map(str::to_owned));
        let process = Process::start(&redraft_binary(), &line, said.reopen().expect("it was just created"));
        LoadProgram { process, args: args.to_owned(), report, said }
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&mut self) -> bool {
        self.process.try_wait().is_some()
    }

    /// Waits for its end.
    /// # Errors
    /// It failed, or its report is not understood: one line.
    /// # Panics
    /// It does not end in time.
    pub fn finish(self) -> Result<LoadFigures, String> {
        self.figures(RUN_PATIENCE)
    }

    /// Ends it now; what it found until then.
    /// # Errors
    /// As `finish`.
    /// # Panics
    /// As `finish`.
    pub fn end(self) -> Result<LoadFigures, String> {
        self.process.signal(Signal::INT);
        self.figures(END_PATIENCE)
    }

    fn figures(mut self, patience: Duration) -> Result<LoadFigures, String> {
        let status = self.process.wait(patience);
        let read = |file: &NamedTempFile| std::fs::read_to_string(file.path()).map_err(|error| format!("redraft load: {error}"));
        if !status.success() {
            return Err(format!("redraft load {} ended with {status}: {}", self.args, read(&self.said)?.trim()));
        }
        let report = serde_json::from_str(&read(&self.report)?).map_err(|error| format!("the report of redraft load: {error}"))?;
        figures(&report)
    }
}

/// Runs it from start to end.
/// # Errors
/// As `LoadProgram::finish`.
/// # Panics
/// As `LoadProgram::finish`.
pub fn run(addresses: &[SocketAddr], args: &str) -> Result<LoadFigures, String> {
    LoadProgram::start(addresses, args).finish()
}

fn figures(report: &Value) -> Result<LoadFigures, String> {
    let mut failures = BTreeMap::new();
    for kind in ["errors", "broken_connections", "refused_connections"] {
        let counts = report[kind].as_object().ok_or_else(|| format!("the report of redraft load has no {kind}"))?;
        failures.extend(counts.iter().map(|(text, count)| (text.clone(), count.as_u64().unwrap_or(0))));
    }
    let latency = &report["latency_ms"];
    let windows = report["timeline"].as_array().ok_or("the report of redraft load has no timeline")?;
    Ok(LoadFigures {
        commands: number(report, "commands")? as u64,
        per_second: number(report, "per_second")?,
        seconds: number(report, "seconds")?,
        nulls: number(report, "nulls")? as u64,
        unsent: number(report, "unsent")? as u64,
        p50_ms: number(latency, "p50")?,
        p99_ms: number(latency, "p99")?,
        p999_ms: number(latency, "p99.9")?,
        max_ms: number(latency, "max")?,
        failures,
        windows: windows.iter().map(window).collect::<Result<_, String>>()?,
    })
}

fn window(window: &Value) -> Result<Window, String> {
    let [from, to, max_ms, probe_late_ms] = ["from", "to", "max_ms", "probe_late_ms"].map(|name| number(window, name));
    Ok(Window { from: from?, to: to?, max_ms: max_ms?, probe_late_ms: probe_late_ms? })
}

fn number(value: &Value, name: &str) -> Result<f64, String> {
    value[name].as_f64().ok_or_else(|| format!("the report of redraft load has no {name}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reports_are_read() {
        let latency = json!({ "p50": 0.5, "p99": 1.5, "p99.9": 2.5, "max": 9.0 });
        let window = json!({ "from": 0.0, "to": 0.1, "commands": 7, "max_ms": 9.0, "probe_late_ms": 3.0 });
        let mut report = json!({
            "commands": 10, "per_second": 5.0, "seconds": 2.0, "nulls": 1, "unsent": 0, "latency_ms": latency,
            "errors": {}, "broken_connections": {}, "refused_connections": {}, "timeline": [window],
        });
        let expected = LoadFigures {
            commands: 10,
            per_second: 5.0,
            seconds: 2.0,
            nulls: 1,
            unsent: 0,
            p50_ms: 0.5,
            p99_ms: 1.5,
            p999_ms: 2.5,
            max_ms: 9.0,
            failures: BTreeMap::new(),
            windows: vec![Window { from: 0.0, to: 0.1, max_ms: 9.0, probe_late_ms: 3.0 }],
        };
        assert_eq!(figures(&report), Ok(expected));
        report["errors"] = json!({ "ERR no": 1 });
        assert_eq!(figures(&report).map(|found| found.failures), Ok(BTreeMap::from([("ERR no".to_owned(), 1)])));
        report["commands"] = Value::Null;
        assert_eq!(figures(&report), Err("the report of redraft load has no commands".to_owned()));
    }
}
