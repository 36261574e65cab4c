//! Puts the load of a row on a server: redis-benchmark where it can, since everybody knows what its figures mean; `redraft load` for
//! reads and writes in one pipeline, and for latency at a given rate.

use std::net::SocketAddr;

use super::cells::{KEYS, Row, Test};
use crate::load_program::{self, LoadFigures};
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

/// Runs `redraft load`. A rate that the server did not keep up with shows in the figures.
fn load(address: SocketAddr, args: &str) -> Result<Figures, String> {
    let args = format!("{args} --value-bytes {BENCHMARK_VALUE_BYTES}");
    let found = load_program::run(&[address], &args)?;
    if !found.failures.is_empty() {
        return Err(format!("redraft load {args} met failures: {:?}", found.failures));
    }
    let LoadFigures { commands, per_second, p50_ms, p99_ms, p999_ms, max_ms, .. } = found;
    Ok(Figures { commands, per_second, p50_ms, p99_ms, p999_ms: Some(p999_ms), max_ms })
}
