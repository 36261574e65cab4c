//! Redis's own server and benchmark, to compare with. Both come from Debian's packages redis-server and redis-tools.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::address;
use crate::client::Client;
use crate::dir::TestDir;
use crate::process::Process;
use crate::wait::eventually;

/// A Redis server.
#[derive(Debug)]
pub struct RedisServer {
    address: SocketAddr,
    process: Process,
    _dir: TestDir,
}

impl RedisServer {
    /// Starts one that keeps its data in the given directory and syncs every write to disk before it answers.
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start(dir: TestDir) -> Self {
        Self::start_with(dir, &["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Starts one that keeps its data in memory alone, with options as redis-server's flags.
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start_without_persistence(dir: TestDir, options: &[&str]) -> Self {
        Self::start_with(dir, options)
    }

    fn start_with(dir: TestDir, options: &[&str]) -> Self {
        let address = address::reserve();
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let path = dir.path().display().to_string();
        let settings = ["--bind", &ip, "--port", &port, "--dir", &path, "--save", ""];
        let args: Vec<String> = settings.iter().chain(options).map(|arg| (*arg).to_owned()).collect();
        let log = File::create(dir.join("redis.log")).expect("a log can be created");
        let process = Process::start(Path::new("redis-server"), &args, log);
        eventually("redis-server answers", || Client::connect(address).ok()?.call(&["PING"]).ok());
        Self { address, process, _dir: dir }
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}

/// One run of redis-benchmark.
#[derive(Clone, Copy, Debug)]
pub struct BenchmarkRun<'a> {
    /// The server.
    pub address: SocketAddr,
    /// What is sent, as redis-benchmark calls it: `set`.
    pub test: &'a str,
    /// Commands per pipeline.
    pub pipeline: u32,
    /// Connections.
    pub connections: u32,
    /// Distinct keys.
    pub keys: u32,
    /// Number of commands.
    pub requests: u64,
}

/// What a run of redis-benchmark found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BenchmarkResult {
    /// Commands per second.
    pub per_second: f64,
    /// Latencies in milliseconds.
    pub p50_ms: f64,
    /// The slowest of a hundred.
    pub p99_ms: f64,
    /// The slowest of all.
    pub max_ms: f64,
}

/// Bytes of a value.
pub const BENCHMARK_VALUE_BYTES: u32 = 100;

/// Runs redis-benchmark.
/// # Errors
/// It cannot be run, it fails, or it reports an error of the server: one line.
pub fn benchmark(run: &BenchmarkRun<'_>) -> Result<BenchmarkResult, String> {
    let numbers = [run.connections, BENCHMARK_VALUE_BYTES, run.keys].map(|number| number.to_string());
    let (ip, port) = (run.address.ip().to_string(), run.address.port().to_string());
    let (requests, pipeline) = (run.requests.to_string(), run.pipeline.to_string());
    let mut command = Command::new("redis-benchmark");
    command.args(["-h", &ip, "-p", &port, "-t", run.test, "-n", &requests, "-P", &pipeline]);
    command.args(["-c", &numbers[0], "-d", &numbers[1], "-r", &numbers[2], "--csv"]);
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("cannot run redis-benchmark: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if !output.status.success() {
        return Err(format!("redis-benchmark ended with {}: {complaint} {said}", output.status));
    }
    // It goes on after an error reply, and says so on a line among the others.
    if let Some(error) = said.lines().chain(complaint.lines()).find(|line| line.contains("Error") || line.contains("ERR")) {
        return Err(format!("redis-benchmark: {error}"));
    }
    parse_csv(&said).ok_or_else(|| format!("redis-benchmark says {said:?}"))
}

/// The line behind the headings: `"SET","1234.5",...`, latencies in milliseconds.
fn parse_csv(text: &str) -> Option<BenchmarkResult> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with("\"test\""));
    let fields = |line: &str| line.split(',').map(|field| field.trim_matches('"').to_owned()).collect::<Vec<_>>();
    let (names, values) = (fields(lines.next()?), fields(lines.next()?));
    let number = |wanted: &str| values.get(names.iter().position(|name| name == wanted)?)?.parse().ok();
    Some(BenchmarkResult {
        per_second: number("rps")?,
        p50_ms: number("p50_latency_ms")?,
        p99_ms: number("p99_latency_ms")?,
        max_ms: number("max_latency_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_by_their_headings() {
        let text = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\"p99_latency_ms\",\
                    \"max_latency_ms\"\n\"SET\",\"12345.67\",\"0.50\",\"0.10\",\"0.40\",\"0.90\",\"1.25\",\"3.00\"\n";
        assert_eq!(parse_csv(text), Some(BenchmarkResult { per_second: 12345.67, p50_ms: 0.4, p99_ms: 1.25, max_ms: 3.0 }));
        assert_eq!(parse_csv("nonsense"), None);
    }
}
