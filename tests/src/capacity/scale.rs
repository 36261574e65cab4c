//! Part `scale`: the same commands over connections, sizes of values, and numbers of keys, on one node.
//! A command at a time per connection. Reported are throughput and processor time of the server per command; processor time says more where
//! generator and server share the processors. What an idle connection costs is the growth of resident memory over thousands of them, each of
//! which has asked for something before.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use serde_json::{Value, json};

use super::findings::{Findings, Mark, Table};
use super::{GIB, KIB, MIB, Place, room};
use crate::bench::accounting::Usage;
use crate::client::Client;
use crate::load_program::{self, LoadFigures};
use crate::node::Node;

/// Numbers of connections.
const CONNECTIONS: [u32; 6] = [1, 10, 50, 200, 1000, 5000];
/// From this number on throughput must stay near its peak.
const CONNECTIONS_ENOUGH: u32 = 50;
/// The part of the peak that must remain.
const THROUGHPUT_MIN: f64 = 0.8;
/// What an idle connection may cost, in KiB.
const IDLE_KIB_MAX: f64 = 20.0;
/// Files that this process needs beside its connections.
const OTHER_FILES: u64 = 100;
/// Sizes of values, in bytes.
const VALUE_BYTES: [u64; 7] = [10, 100, KIB, 10 * KIB, 100 * KIB, MIB, 8 * MIB];
/// Bytes of values that are there while their size is measured, at most, and keys.
const VALUES_BYTES: u64 = 256 * MIB;
const VALUES_KEYS: u64 = 10_000;
/// Bytes of values that are on their way at a time, at most; and connections at least, so that a sync is shared.
const FLYING_BYTES: u64 = 64 * MIB;
const FLYING_CONNECTIONS: u64 = 4;
/// Keys of the part about connections.
const CONNECTIONS_KEYS: u64 = 100_000;
/// The smallest number of keys; the next ones are ten times the one before.
const KEYS_MIN: u64 = 10_000;
/// Bytes of a value where the size is not what is measured.
const USUAL_BYTES: u64 = 100;
/// Bytes of a key's records in the cache, with some to spare, and on the disk at worst.
const CACHED_BYTES: u64 = 400;
const RECORD_BYTES: u64 = 600;
/// How many times the processor time of the smallest number of keys a command may take with the largest.
const GROWTH_MAX: f64 = 2.0;

/// Sizes.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Largest number of connections.
    pub connections_max: u32,
    /// Largest value, in bytes.
    pub value_bytes_max: u64,
    /// Largest number of keys.
    pub keys_max: u64,
    /// Length of each load, in seconds.
    pub seconds: u64,
}

impl Plan {
    /// Room that it needs on the disk.
    #[must_use]
    pub fn room_bytes(&self) -> u64 {
        let values = VALUE_BYTES.iter().filter(|bytes| **bytes <= self.value_bytes_max).map(|bytes| bytes * keys_of(*bytes)).sum::<u64>();
        GIB + (3 * values).max(self.keys_max * RECORD_BYTES)
    }

    fn quiet(&self) -> Duration {
        Duration::from_secs(self.seconds.min(3))
    }
}

/// One load.
#[derive(Clone, Debug, Serialize)]
struct Measured {
    test: &'static str,
    /// Connections, bytes of a value, or keys: what is varied.
    size: u64,
    connections: u64,
    figures: LoadFigures,
    /// Processor time of the server per command.
    cpu_us_per_command: f64,
}

/// What idle connections cost.
#[derive(Clone, Copy, Debug, Serialize)]
struct Idle {
    connections: u64,
    resident_bytes_before: u64,
    resident_bytes: u64,
}

impl Idle {
    fn kib_per_connection(&self) -> f64 {
        self.resident_bytes.saturating_sub(self.resident_bytes_before) as f64 / self.connections as f64 / KIB as f64
    }
}

/// What was measured.
#[derive(Debug)]
struct Found {
    connections: Vec<Measured>,
    idle: Idle,
    values: Vec<Measured>,
    keys: Vec<Measured>,
}

/// Measures it.
/// # Errors
/// A generator failed, or the system does not tell: one line.
/// # Panics
/// A node does not do what it must.
pub fn run(plan: &Plan, place: &Place) -> Result<Findings, String> {
    let node = Node::alone_in(place.dir(), &[]);
    let idle = idle(&node, plan)?;
    let connections = connections(&node, plan)?;
    drop(node);
    let values = values(&Node::alone_in(place.dir(), &[]), plan)?;
    let cache = (plan.keys_max * CACHED_BYTES).max(256 * MIB).to_string();
    let keys = keys(&Node::alone_in(place.dir(), &["--block-cache-bytes", &cache]), plan)?;
    Ok(Found { connections, idle, values, keys }.findings(plan))
}

fn measure(node: &Node, plan: &Plan, test: &'static str, size: u64, connections: u64, args: &str) -> Result<Measured, String> {
    let pid = node.process().pid();
    let before = Usage::read(pid)?;
    let args = format!("--test {test} --connections {connections} --seconds {} {args}", plan.seconds);
    let figures = load_program::run(&[node.address()], &args)?;
    let cpu_us_per_command = Usage::read(pid)?.cpu_us_since(&before) / figures.commands as f64;
    Ok(Measured { test, size, connections, figures, cpu_us_per_command })
}

/// Opens connections that ask for something, and stay.
fn idle(node: &Node, plan: &Plan) -> Result<Idle, String> {
    let count = u64::from(plan.connections_max);
    eprintln!("  {count} idle connections");
    allow_open_files(count + OTHER_FILES)?;
    let busy = |mut client: Client| {
        client.must(&["PING"]);
        client.set("idle", "a value");
        client.get("idle").expect("it was just written");
        client
    };
    // What the first ones cost is not the price of one more.
    drop((0..count.min(20)).map(|_| busy(node.client())).collect::<Vec<_>>());
    let resident_bytes_before = node.process().resident_bytes();
    let clients: Vec<Client> = (0..count).map(|_| busy(node.client())).collect();
    let resident_bytes = node.process().resident_bytes();
    drop(clients);
    Ok(Idle { connections: count, resident_bytes_before, resident_bytes })
}

/// Raises this process's limit of open files as far as it is needed and allowed.
fn allow_open_files(needed: u64) -> Result<(), String> {
    let limit = getrlimit(Resource::Nofile);
    // Nothing stands for no limit.
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit { current: Some(needed), maximum: limit.maximum.map(|maximum| maximum.max(needed)) };
    setrlimit(Resource::Nofile, raised).map_err(|error| format!("{needed} open files are needed: {error}; see `ulimit -Hn`"))
}

fn connections(node: &Node, plan: &Plan) -> Result<Vec<Measured>, String> {
    let args = format!("--keys {CONNECTIONS_KEYS} --value-bytes {USUAL_BYTES}");
    load_program::run(&[node.address()], &format!("--test fill --pipeline 100 {args}"))?;
    let mut found = Vec::new();
    for test in ["set", "get"] {
        for connections in CONNECTIONS.into_iter().filter(|connections| *connections <= plan.connections_max).map(u64::from) {
            eprintln!("  {test}, {connections} connections");
            found.push(measure(node, plan, test, connections, connections, &args)?);
        }
    }
    Ok(found)
}

/// As many keys as have values of that size together.
fn keys_of(value_bytes: u64) -> u64 {
    (VALUES_BYTES / value_bytes).min(VALUES_KEYS)
}

fn values(node: &Node, plan: &Plan) -> Result<Vec<Measured>, String> {
    let mut found = Vec::new();
    for bytes in VALUE_BYTES.into_iter().filter(|bytes| *bytes <= plan.value_bytes_max) {
        eprintln!("  values of {bytes} bytes");
        let connections = (FLYING_BYTES / bytes).clamp(FLYING_CONNECTIONS, u64::from(CONNECTIONS_ENOUGH));
        let args = format!("--keys {} --value-bytes {bytes}", keys_of(bytes));
        load_program::run(&[node.address()], &format!("--test fill --connections {connections} {args}"))?;
        for test in ["set", "get"] {
            found.push(measure(node, plan, test, bytes, connections, &args)?);
        }
    }
    Ok(found)
}

fn keys(node: &Node, plan: &Plan) -> Result<Vec<Measured>, String> {
    let mut found = Vec::new();
    for keys in std::iter::successors(Some(KEYS_MIN), |keys| Some(keys * 10)).take_while(|keys| *keys <= plan.keys_max) {
        eprintln!("  {keys} keys");
        let args = format!("--keys {keys} --value-bytes {USUAL_BYTES}");
        load_program::run(&[node.address()], &format!("--test fill --pipeline 100 {args}"))?;
        room::wait_for_rest(node.process().pid(), plan.quiet())?;
        // Enough reads for nearly every block to come into the cache: a block has dozens of keys.
        load_program::run(&[node.address()], &format!("--test get --pipeline 16 --requests {} {args}", keys / 5))?;
        for test in ["get", "set"] {
            found.push(measure(node, plan, test, keys, u64::from(CONNECTIONS_ENOUGH), &args)?);
        }
    }
    Ok(found)
}

impl Found {
    fn findings(&self, plan: &Plan) -> Findings {
        let all = || self.connections.iter().chain(&self.values).chain(&self.keys);
        let failures: u64 = all().flat_map(|measured| measured.figures.failures.values()).sum();
        let mut marks = vec![
            Mark::at_most("an idle connection", self.idle.kib_per_connection(), IDLE_KIB_MAX, "KiB"),
            Mark::at_most("commands that failed", failures as f64, 0.0, ""),
        ];
        for test in ["set", "get"] {
            if let Some(least) = least_of_peak(&self.connections, test) {
                let name = format!("{test}: least throughput from {CONNECTIONS_ENOUGH} connections on, to its peak");
                marks.push(Mark::at_least(name, least, THROUGHPUT_MIN, "times"));
            }
            if let Some(growth) = growth_of_cpu(&self.keys, test) {
                let name = format!("{test}: processor time with the most keys, to that with the fewest");
                marks.push(Mark::at_most(name, growth, GROWTH_MAX, "times"));
            }
        }
        Findings {
            notes: vec![
                format!("one node, a command at a time per connection, {} s each; processor time is the server's", plan.seconds),
                format!(
                    "{} idle connections: resident memory grew from {} to {} KiB, {:.1} KiB each",
                    self.idle.connections,
                    self.idle.resident_bytes_before / KIB,
                    self.idle.resident_bytes / KIB,
                    self.idle.kib_per_connection()
                ),
            ],
            tables: vec![
                table(&format!("connections ({CONNECTIONS_KEYS} keys, values of {USUAL_BYTES} bytes)"), "connections", &self.connections),
                table("values", "bytes", &self.values),
                table(&format!("keys (values of {USUAL_BYTES} bytes, all in the block cache)"), "keys", &self.keys),
            ],
            marks,
            figures: self.json(plan),
        }
    }

    fn json(&self, plan: &Plan) -> Value {
        json!({
            "plan": plan,
            "connections": self.connections,
            "idle": self.idle,
            "idle_kib_per_connection": self.idle.kib_per_connection(),
            "values": self.values,
            "keys": self.keys,
        })
    }
}

/// The lowest throughput with enough connections, as a part of the highest with any number.
fn least_of_peak(measured: &[Measured], test: &str) -> Option<f64> {
    let of_test = || measured.iter().filter(|measured| measured.test == test);
    let peak = of_test().map(|measured| measured.figures.per_second).fold(0.0, f64::max);
    let enough = of_test().filter(|measured| measured.connections >= u64::from(CONNECTIONS_ENOUGH));
    enough.map(|measured| measured.figures.per_second / peak).reduce(f64::min)
}

/// Processor time at the largest size, as a multiple of that at the smallest.
fn growth_of_cpu(measured: &[Measured], test: &str) -> Option<f64> {
    let mut of_test = measured.iter().filter(|measured| measured.test == test).map(|measured| measured.cpu_us_per_command);
    let first = of_test.next()?;
    Some(of_test.next_back()? / first)
}

fn table(title: &str, size: &'static str, measured: &[Measured]) -> Table {
    let headings = ["test", size, "per s", "MB/s", "p50 ms", "p99 ms", "p99.9", "max ms", "CPU us", "failed", "conn."];
    let mut table = Table::new(title, &headings);
    for Measured { test, size: varied, connections, figures, cpu_us_per_command } in measured {
        let value_bytes = if size == "bytes" { *varied } else { USUAL_BYTES };
        table.add(
            [
                vec![
                    (*test).to_owned(),
                    varied.to_string(),
                    format!("{:.0}", figures.per_second),
                    format!("{:.1}", figures.per_second * value_bytes as f64 / 1e6),
                ],
                figures.latencies().to_vec(),
                vec![format!("{cpu_us_per_command:.1}"), figures.failures.values().sum::<u64>().to_string(), connections.to_string()],
            ]
            .concat(),
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(test: &'static str, size: u64, per_second: f64, cpu_us_per_command: f64) -> Measured {
        let figures = LoadFigures { per_second, ..LoadFigures::default() };
        Measured { test, size, connections: size, figures, cpu_us_per_command }
    }

    #[test]
    fn marks_compare_what_they_name() {
        let found = [
            measured("set", 1, 10.0, 1.0),
            measured("set", 50, 100.0, 2.0),
            measured("get", 50, 1.0, 7.0),
            measured("set", 200, 80.0, 3.0),
            measured("set", 1000, 90.0, 1.5),
        ];
        assert_eq!((least_of_peak(&found, "set"), growth_of_cpu(&found, "set")), (Some(0.8), Some(1.5)));
        assert_eq!((least_of_peak(&found, "get"), growth_of_cpu(&found, "get")), (Some(1.0), None));
        assert_eq!(least_of_peak(&found[..1], "set"), None);
    }

    #[test]
    fn few_large_values_are_there_at_a_time() {
        assert_eq!([10, KIB, 100 * KIB, 8 * MIB].map(keys_of), [10_000, 10_000, 2621, 32]);
    }
}
