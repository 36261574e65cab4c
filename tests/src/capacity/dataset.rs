//! Part `dataset`: one node whose data is several times its memory budget.
//! Data is written once in random order, and then asked for: uniformly, zipfian, and half reads half writes. Besides speed this tells what
//! the data costs: memory; bytes written to the disk per byte of user data (keys and values), with all that compactions write until they
//! come to rest; bytes on the disk per byte of user data.
//! The budget is given to the node as block cache and memtables. It does not bound the kernel's page cache, which makes reads of data that
//! is larger than the budget and smaller than the machine's memory cheap: the table says how large both are.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use super::filling::{Filling, Values};
use super::findings::{Findings, Mark, Table};
use super::room::{self, NodeBytes};
use super::{GIB, MIB, Place};
use crate::bench::accounting::Usage;
use crate::load_program::{self, LoadFigures};
use crate::node::{Node, wait_readable};

/// Parts of the loading that are told apart.
const STEPS: u64 = 10;
/// Keys that are compared with what was written, before and after the restart.
const SAMPLE: u64 = 10_000;
/// The longest start that is promised, in seconds.
const START_SECONDS_MAX: f64 = 5.0;
/// Bytes on the disk per byte of user data while compactions are under way, at most.
const SPACE_AMPLIFICATION_MAX: u64 = 3;

/// Sizes.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Bytes of all values.
    pub bytes: u64,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// How well they compress.
    pub values: Values,
    /// Memory that the node is meant to need.
    pub budget_bytes: u64,
    /// Length of each load, in seconds.
    pub seconds: u64,
}

impl Plan {
    fn filling(&self) -> Filling {
        Filling::of_bytes(self.bytes, self.value_bytes, self.values)
    }

    /// Room that it needs on the disk.
    #[must_use]
    pub fn room_bytes(&self) -> u64 {
        self.filling().user_bytes() * SPACE_AMPLIFICATION_MAX + GIB
    }

    /// Three eighths of the budget. Beside it and the memtables stand the layers of recent changes, which grow with the memtables, the caches
    /// of the log, and what connections need.
    fn block_cache_bytes(&self) -> u64 {
        self.budget_bytes * 3 / 8
    }

    /// An eighth: with the layers it is up to three times as much.
    fn memtable_bytes(&self) -> u64 {
        self.budget_bytes / 8
    }
}

/// One load.
#[derive(Clone, Debug, Serialize)]
struct Asked {
    name: &'static str,
    figures: LoadFigures,
    cpu_us_per_command: f64,
    /// What the process wrote meanwhile, until it rested, in bytes.
    written_bytes: u64,
}

/// One part of the loading.
#[derive(Clone, Debug, Serialize)]
struct Step {
    /// Keys that were written by its end.
    keys: u64,
    /// When it ended, in seconds.
    at: f64,
    keys_per_second: f64,
    mb_per_second: f64,
    resident_bytes: u64,
    written_bytes: u64,
}

/// What the data costs after the loading.
#[derive(Clone, Copy, Debug, Serialize)]
struct Costs {
    load_seconds: f64,
    /// Until nothing was compacted any more, after the loading.
    rest_seconds: f64,
    write_amplification_loaded: f64,
    write_amplification_rested: f64,
    bytes: NodeBytes,
    /// Bytes of `data/` per byte of user data.
    space_amplification: f64,
    resident_bytes_peak: u64,
}

/// Measures it.
/// # Errors
/// A generator failed, or the system does not tell what something cost: one line.
/// # Panics
/// A node does not do what it must, or a value is wrong.
pub fn run(plan: &Plan, place: &Place) -> Result<Findings, String> {
    let filling = plan.filling();
    let sizes = [plan.block_cache_bytes(), plan.memtable_bytes()].map(|bytes| bytes.to_string());
    let mut node = Node::alone_in(place.dir(), &["--block-cache-bytes", &sizes[0], "--memtable-bytes", &sizes[1]]);
    let (steps, costs) = load(&node, &filling, plan)?;
    let sample = SAMPLE.min(filling.keys);
    filling.check(node.address(), sample);
    let mut asked = Vec::new();
    for (name, args) in [("GET, uniform", "--test get"), ("GET, zipfian", "--test get --distribution zipfian")] {
        asked.push(ask(&node, plan, name, args)?);
    }
    let resident_bytes_first = node.process().resident_bytes_peak();
    node.stop();
    node.start();
    let start_seconds = wait_readable(&node).as_secs_f64();
    filling.check(node.address(), sample);
    for (name, args) in
        [("GET and SET, uniform", "--test mixed --reads 50"), ("GET and SET, zipfian", "--test mixed --reads 50 --distribution zipfian")]
    {
        asked.push(ask(&node, plan, name, args)?);
    }
    let resident_bytes_peak = resident_bytes_first.max(node.process().resident_bytes_peak());
    let found = Found { steps, costs, asked, start_seconds, resident_bytes_peak, bytes_in_the_end: NodeBytes::count(node.dir()) };
    Ok(found.findings(plan))
}

fn load(node: &Node, filling: &Filling, plan: &Plan) -> Result<(Vec<Step>, Costs), String> {
    let pid = node.process().pid();
    let (began, before) = (Instant::now(), Usage::read(pid)?);
    let mut steps: Vec<Step> = Vec::new();
    let mut failure = None;
    filling.write(node.address(), |keys| {
        let (last_keys, last_at) = steps.last().map_or((0, 0.0), |step| (step.keys, step.at));
        if keys < filling.keys * (steps.len() as u64 + 1) / STEPS || keys == last_keys {
            return;
        }
        let at = began.elapsed().as_secs_f64();
        let keys_per_second = (keys - last_keys) as f64 / (at - last_at);
        let mb_per_second = keys_per_second * filling.user_bytes() as f64 / filling.keys as f64 / 1e6;
        let written_bytes = Usage::read(pid).map(|now| now.written_bytes_since(&before)).unwrap_or_else(|error| {
            failure = Some(error);
            0
        });
        steps.push(Step { keys, at, keys_per_second, mb_per_second, resident_bytes: node.process().resident_bytes(), written_bytes });
        eprintln!("  {keys} of {} keys, {keys_per_second:.0} per second", filling.keys);
    });
    if let Some(error) = failure {
        return Err(error);
    }
    let load_seconds = began.elapsed().as_secs_f64();
    let amplification = || Ok::<_, String>(Usage::read(pid)?.written_bytes_since(&before) as f64 / filling.user_bytes() as f64);
    let write_amplification_loaded = amplification()?;
    let quiet = plan.quiet();
    room::wait_for_rest(pid, quiet)?;
    let bytes = NodeBytes::count(node.dir());
    let costs = Costs {
        load_seconds,
        rest_seconds: (began.elapsed() - quiet).as_secs_f64() - load_seconds,
        write_amplification_loaded,
        write_amplification_rested: amplification()?,
        bytes,
        space_amplification: bytes.data as f64 / filling.user_bytes() as f64,
        resident_bytes_peak: node.process().resident_bytes_peak(),
    };
    Ok((steps, costs))
}

impl Plan {
    /// How long a process must not write to be at rest: RocksDB begins the next compaction at once.
    fn quiet(&self) -> Duration {
        Duration::from_secs(self.seconds.min(3))
    }
}

fn ask(node: &Node, plan: &Plan, name: &'static str, args: &str) -> Result<Asked, String> {
    eprintln!("  {name}");
    let pid = node.process().pid();
    let before = Usage::read(pid)?;
    let args = format!("{args} --keys {} --value-bytes {} --seconds {}", plan.filling().keys, plan.value_bytes, plan.seconds);
    let figures = load_program::run(&[node.address()], &args)?;
    let cpu_us_per_command = Usage::read(pid)?.cpu_us_since(&before) / figures.commands as f64;
    room::wait_for_rest(pid, plan.quiet())?;
    let written_bytes = Usage::read(pid)?.written_bytes_since(&before);
    Ok(Asked { name, figures, cpu_us_per_command, written_bytes })
}

/// All figures.
#[derive(Debug)]
struct Found {
    steps: Vec<Step>,
    costs: Costs,
    asked: Vec<Asked>,
    start_seconds: f64,
    resident_bytes_peak: u64,
    bytes_in_the_end: NodeBytes,
}

impl Found {
    fn findings(&self, plan: &Plan) -> Findings {
        let failures: u64 = self.asked.iter().flat_map(|asked| asked.figures.failures.values()).sum();
        // Keys are there, so a read finds something.
        let nulls: u64 = self.asked.iter().map(|asked| asked.figures.nulls).sum();
        let resident_mib = self.resident_bytes_peak as f64 / MIB as f64;
        Findings {
            notes: notes(plan),
            tables: vec![self.loading(), self.asking(plan), self.costing()],
            marks: vec![
                Mark::at_most("resident memory at most", resident_mib, plan.budget_bytes as f64 / MIB as f64, "MiB"),
                Mark::at_most("start after a stop, until the first read", self.start_seconds, START_SECONDS_MAX, "s"),
                Mark::at_most("commands that failed, or found nothing", (failures + nulls) as f64, 0.0, ""),
            ],
            figures: self.json(plan),
        }
    }

    fn loading(&self) -> Table {
        let mut table = Table::new("loading, in random order", &["keys", "s", "keys/s", "MB/s", "RSS MiB", "written GB"]);
        for step in &self.steps {
            table.add(vec![
                step.keys.to_string(),
                format!("{:.1}", step.at),
                format!("{:.0}", step.keys_per_second),
                format!("{:.1}", step.mb_per_second),
                (step.resident_bytes / MIB).to_string(),
                format!("{:.2}", step.written_bytes as f64 / 1e9),
            ]);
        }
        table
    }

    fn asking(&self, plan: &Plan) -> Table {
        let headings = ["50 connections, closed loop", "per s", "p50 ms", "p99 ms", "p99.9", "max ms", "CPU us", "written GB", "B/byte"];
        let mut table = Table::new("asking", &headings);
        for Asked { name, figures, cpu_us_per_command, written_bytes } in &self.asked {
            let user_bytes = figures.commands as f64 / 2.0 * (plan.value_bytes as f64 + super::filling::KEY_BYTES as f64);
            let per_byte = if name.contains("SET") { format!("{:.1}", *written_bytes as f64 / user_bytes) } else { "-".to_owned() };
            table.add(
                [
                    vec![(*name).to_owned(), format!("{:.0}", figures.per_second)],
                    figures.latencies().to_vec(),
                    vec![format!("{cpu_us_per_command:.1}"), format!("{:.2}", *written_bytes as f64 / 1e9), per_byte],
                ]
                .concat(),
            );
        }
        table
    }

    fn costing(&self) -> Table {
        let costs = &self.costs;
        let mut table = Table::new("costs", &["", ""]);
        let mut row = |name: &str, value: String| table.add(vec![name.to_owned(), value]);
        let mib = |bytes: u64| format!("{} MiB", bytes / MIB);
        row("time to load", format!("{:.1} s", costs.load_seconds));
        row("time to rest after that", format!("{:.1} s", costs.rest_seconds));
        row("bytes written per user byte, when loaded", format!("{:.2}", costs.write_amplification_loaded));
        row("bytes written per user byte, at rest", format!("{:.2}", costs.write_amplification_rested));
        row("log/", mib(costs.bytes.log));
        row("data/", mib(costs.bytes.data));
        row("bytes of data/ per user byte", format!("{:.2}", costs.space_amplification));
        row("data/ after the mixed loads", mib(self.bytes_in_the_end.data));
        row("resident memory at most, loading", mib(costs.resident_bytes_peak));
        row("resident memory at most", mib(self.resident_bytes_peak));
        row("start until the first read", format!("{:.2} s", self.start_seconds));
        table
    }

    fn json(&self, plan: &Plan) -> Value {
        let filling = plan.filling();
        json!({
            "plan": plan,
            "keys": filling.keys,
            "keys_written": self.steps.last().map_or(0, |step| step.keys),
            "user_bytes": filling.user_bytes(),
            "block_cache_bytes": plan.block_cache_bytes(),
            "memtable_bytes": plan.memtable_bytes(),
            "loading": self.steps,
            "costs": self.costs,
            "asking": self.asked,
            "start_seconds": self.start_seconds,
            "resident_bytes_peak": self.resident_bytes_peak,
            "bytes_in_the_end": self.bytes_in_the_end,
        })
    }
}

fn notes(plan: &Plan) -> Vec<String> {
    let filling = plan.filling();
    let compress = match plan.values {
        Values::Half => "compress to about half",
        Values::Random => "do not compress",
    };
    vec![
        format!("one node; {} keys of 16 bytes with values of {} bytes, which {compress}", filling.keys, plan.value_bytes),
        format!(
            "budget {} MiB: block-cache-bytes {} MiB, memtable-bytes {} MiB; user data {} MiB",
            plan.budget_bytes / MIB,
            plan.block_cache_bytes() / MIB,
            plan.memtable_bytes() / MIB,
            filling.user_bytes() / MIB
        ),
        "the kernel's page cache was not limited: what fits into the machine's memory is read from it, not from the disk".to_owned(),
    ]
}
