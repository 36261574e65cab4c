//! Puts the load of a row on a server: redis-benchmark where it can, since everybody knows what its figures mean; `redraft load` for
//! reads and writes in one pipeline, and for latency at a given rate.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::NamedTempFile;

use super::cells::{KEYS, Row, Test};
use crate::process::redraft_binary;
use crate::redis::{BENCHMARK_VALUE_BYTES, BenchmarkRun, benchmark};

/// Commands per pipeline when all keys are written.
const FILL_PIPELINE: u32 = 100;
/// Pipelines of the short run that says how many commands a run of some length has.
const CALIBRATION_PIPELINES: u64 = 4_000;

/// What a generator found in one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Commands that were answered.
    pub commands: u64,
    /// The same per second.
    pub per_second: f64,
    /// Latencies in milliseconds.
    pub p50_ms: f64,
    /// The slowest of a hundred.
    pub p99_ms: f64,
    /// The slowest of a thousand, which redis-benchmark does not tell.
    pub p999_ms: Option<f64>,
    /// The slowest of all.
    pub max_ms: f64,
}

/// How long a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// So many commands; all that redis-benchmark knows.
    Commands(u64),
    /// So many seconds.
    Seconds(u64),
}

/// How to run a row on a server for about so many seconds.
/// # Errors
/// A generator fails.
pub fn calibrate(row: &Row, address: SocketAddr, seconds: f64) -> Result<Extent, String> {
    if is_for_load(row) {
        return Ok(Extent::Seconds(seconds.ceil() as u64));
    }
    let commands = CALIBRATION_PIPELINES * u64::from(row.pipeline);
    let first = run(row, address, Extent::Commands(commands))?;
    Ok(Extent::Commands(((first.per_second * seconds) as u64).max(commands)))
}

/// Runs a row on a server.
/// # Errors
/// A generator fails, or met an error reply.
pub fn run(row: &Row, address: SocketAddr, extent: Extent) -> Result<Figures, String> {
    match extent {
        Extent::Commands(requests) => {
            let keys = if row.test == Test::Incr { 1 } else { KEYS };
            let Row { pipeline, connections, .. } = *row;
            let found = benchmark(&BenchmarkRun { address, test: row.test.name(), pipeline, connections, keys, requests })?;
            let (per_second, p50_ms, p99_ms, max_ms) = (found.per_second, found.p50_ms, found.p99_ms, found.max_ms);
            Ok(Figures { commands: requests, per_second, p50_ms, p99_ms, p999_ms: None, max_ms })
        }
        Extent::Seconds(seconds) => {
            let mut args = format!(
                "--test {} --keys {KEYS} --pipeline {} --connections {} --seconds {seconds}",
                row.test.name(),
                row.pipeline,
                row.connections
            );
            if let Some(rate) = row.rate {
                args += &format!(" --rate {rate}");
            }
            load(address, &args)
        }
    }
}

/// Writes every key once.
/// # Errors
/// The server does not take them.
pub fn fill(address: SocketAddr) -> Result<(), String> {
    load(address, &format!("--test fill --keys {KEYS} --pipeline {FILL_PIPELINE}")).map(drop)
}

fn is_for_load(row: &Row) -> bool {
    row.test == Test::Mixed || row.rate.is_some()
}

/// Runs `redraft load`.
fn load(address: SocketAddr, args: &str) -> Result<Figures, String> {
    let report = NamedTempFile::new().map_err(|error| format!("cannot make a file: {error}"))?;
    let mut command = Command::new(redraft_binary());
    command.args(["load", "--quiet", "--address", &address.to_string(), "--value-bytes", &BENCHMARK_VALUE_BYTES.to_string()]);
    command.args(args.split(' ')).arg("--json").arg(report.path());
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("cannot run redraft load: {error}"))?;
    if !output.status.success() {
        return Err(format!("redraft load {args} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()));
    }
    let text = std::fs::read_to_string(report.path()).map_err(|error| format!("cannot read the report of redraft load: {error}"))?;
    let report: Value = serde_json::from_str(&text).map_err(|error| format!("the report of redraft load: {error}"))?;
    figures(&report)
}

/// The figures in a report, if no command failed. A rate that the server did not keep up with shows in them.
fn figures(report: &Value) -> Result<Figures, String> {
    let number = |value: &Value, name: &str| value[name].as_f64().ok_or_else(|| format!("the report of redraft load has no {name}"));
    for failures in ["errors", "broken_connections", "refused_connections"] {
        if report[failures] != Value::Object(serde_json::Map::new()) {
            return Err(format!("redraft load met {failures}: {}", report[failures]));
        }
    }
    let latency = &report["latency_ms"];
    Ok(Figures {
        commands: number(report, "commands")? as u64,
        per_second: number(report, "per_second")?,
        p50_ms: number(latency, "p50")?,
        p99_ms: number(latency, "p99")?,
        p999_ms: Some(number(latency, "p99.9")?),
        max_ms: number(latency, "max")?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reports_of_the_load_are_read() {
        let latency = json!({ "p50": 0.5, "p99": 1.5, "p99.9": 2.5, "max": 9.0 });
        let mut report = json!({
            "commands": 10, "per_second": 5.0, "latency_ms": latency,
            "errors": {}, "broken_connections": {}, "refused_connections": {},
        });
        let expected = Figures { commands: 10, per_second: 5.0, p50_ms: 0.5, p99_ms: 1.5, p999_ms: Some(2.5), max_ms: 9.0 };
        assert_eq!(figures(&report), Ok(expected));
        report["errors"] = json!({ "ERR no": 1 });
        figures(&report).expect_err("errors are no figures");
    }
}
