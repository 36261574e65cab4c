//! Part `recovery`, a node alone: many keys and a Raft log just below the size at which it is truncated, then SIGKILL, or a stop in order,
//! and a start. What counts is the time until the first linearizable read is answered.
//! How large the log is in bytes nobody outside can see, but the first index moves when it is truncated: so the span of indices at that
//! moment is a full log, and the log is filled until its span is nearly that again.

use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};

use super::findings::{Findings, Mark, Table};
use super::room::NodeBytes;
use super::{GIB, MIB, Place};
use crate::client::integer;
use crate::load_program;
use crate::node::{Node, wait_readable};

/// Bytes of a value.
const VALUE_BYTES: u64 = 100;
/// What is promised: the longest time until a read is answered, in seconds.
const START_SECONDS_MAX: f64 = 5.0;
/// Bytes of a key's records on the disk at worst, while they are compacted.
const RECORD_BYTES: u64 = 600;
/// A log that has so much of the span of a full one counts as full.
const FULL: f64 = 0.9;
/// Parts of a full log that are written between two looks at it.
const LOOKS: u64 = 40;
/// Looks at most, until the log is full again: it was truncated to half.
const LOOKS_MAX: u64 = 40 * LOOKS;
/// Bytes that the log has for a command beside its value, roughly.
const COMMAND_BYTES: u64 = 40;

/// Sizes.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Keys.
    pub keys: u64,
    /// Option `raft-log-bytes-max`.
    pub log_bytes_max: u64,
}

impl Plan {
    /// Room that it needs on the disk.
    #[must_use]
    pub fn room_bytes(&self) -> u64 {
        self.keys * RECORD_BYTES + 3 * self.log_bytes_max + GIB
    }

    /// Writes that fill a small part of the log.
    fn step(&self) -> u64 {
        (self.log_bytes_max / LOOKS / (VALUE_BYTES + COMMAND_BYTES)).max(1)
    }
}

/// Ends a node's process.
type End = fn(&mut Node);

/// One end and one start.
#[derive(Clone, Debug, Serialize)]
struct Restart {
    how: &'static str,
    /// Indices that the log had.
    log_entries: u64,
    bytes: NodeBytes,
    /// Until the process had ended, in seconds.
    stop_seconds: f64,
    /// From its start until the first linearizable read was answered, in seconds.
    start_seconds: f64,
    /// Keys that were there then.
    keys: i64,
    resident_bytes: u64,
}

/// Measures it.
/// # Errors
/// A generator failed, or the log is never full: one line.
/// # Panics
/// A node does not do what it must.
pub fn run(plan: &Plan, place: &Place) -> Result<Findings, String> {
    let mut node = Node::alone_in(place.dir(), &["--raft-log-bytes-max", &plan.log_bytes_max.to_string()]);
    eprintln!("  restart: {} keys are written", plan.keys);
    let fill = format!("--test fill --keys {} --value-bytes {VALUE_BYTES} --pipeline 100", plan.keys);
    load_program::run(&[node.address()], &fill)?;
    let ways: [(&'static str, End); 2] = [("SIGKILL", Node::kill), ("a stop in order", Node::stop)];
    let mut restarts = Vec::new();
    for (how, end) in ways {
        let log_entries = fill_log(&node, plan)?;
        eprintln!("  restart after {how}, with {log_entries} entries in the log");
        let began = Instant::now();
        end(&mut node);
        let stop_seconds = began.elapsed().as_secs_f64();
        let bytes = NodeBytes::count(node.dir());
        node.start();
        let start_seconds = wait_readable(&node).as_secs_f64();
        let keys = integer(&node.client().must(&["DBSIZE"]));
        assert_eq!(u64::try_from(keys), Ok(plan.keys), "all keys are there again");
        let resident_bytes = node.process().resident_bytes();
        restarts.push(Restart { how, log_entries, bytes, stop_seconds, start_seconds, keys, resident_bytes });
    }
    Ok(findings(plan, &restarts))
}

/// Overwrites keys until the log has nearly as many entries as one that is about to be truncated; that number.
fn fill_log(node: &Node, plan: &Plan) -> Result<u64, String> {
    let args = format!("--test set --keys {} --value-bytes {VALUE_BYTES} --pipeline 100 --requests {}", plan.keys, plan.step());
    let mut spans = Spans::default();
    for _ in 0..LOOKS_MAX {
        let status = node.status();
        if let Some(entries) = spans.look(status.first_index, status.last_index) {
            return Ok(entries);
        }
        load_program::run(&[node.address()], &args)?;
    }
    Err(format!("the log was not filled by {} writes", LOOKS_MAX * plan.step()))
}

/// How many entries a log had, look by look.
#[derive(Debug, Default)]
struct Spans {
    first_index: Option<u64>,
    /// The most since it was truncated last.
    longest: u64,
    /// A full log: the least that it had before it was truncated. One whose data are not durable yet is truncated late, and is longer.
    full: Option<u64>,
}

impl Spans {
    /// The span, if it is nearly that of a full log.
    fn look(&mut self, first_index: u64, last_index: u64) -> Option<u64> {
        let span = last_index + 1 - first_index;
        if self.first_index.replace(first_index).is_some_and(|before| before != first_index) {
            self.full = Some(self.full.map_or(self.longest, |full| full.min(self.longest)));
            self.longest = 0;
        }
        self.longest = self.longest.max(span);
        self.full.filter(|full| span as f64 >= FULL * *full as f64).map(|_| span)
    }
}

fn findings(plan: &Plan, restarts: &[Restart]) -> Findings {
    let headings = ["after", "start s", "stop s", "entries", "log/ MiB", "data/ MiB", "RSS MiB"];
    let mut table = Table::new("restart, until the first linearizable read is answered", &headings);
    for restart in restarts {
        table.add(vec![
            restart.how.to_owned(),
            format!("{:.2}", restart.start_seconds),
            format!("{:.2}", restart.stop_seconds),
            restart.log_entries.to_string(),
            (restart.bytes.log / MIB).to_string(),
            (restart.bytes.data / MIB).to_string(),
            (restart.resident_bytes / MIB).to_string(),
        ]);
    }
    let mark = |restart: &Restart| {
        Mark::at_most(format!("start after {}, until the first read", restart.how), restart.start_seconds, START_SECONDS_MAX, "s")
    };
    Findings {
        notes: vec![format!(
            "restart: one node, {} keys with values of {VALUE_BYTES} bytes, raft-log-bytes-max {} MiB; files are in the page cache",
            plan.keys,
            plan.log_bytes_max / MIB
        )],
        tables: vec![table],
        marks: restarts.iter().map(mark).collect(),
        figures: json(plan, restarts),
    }
}

fn json(plan: &Plan, restarts: &[Restart]) -> Value {
    json!({ "restart": { "plan": plan, "restarts": restarts } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_full_when_it_is_as_long_as_one_that_was_truncated() {
        let mut spans = Spans::default();
        let mut check = |first, last, expected| assert_eq!(spans.look(first, last), expected, "{first} to {last}");
        check(1, 100, None);
        check(1, 300, None);
        check(151, 310, None);
        check(151, 350, None);
        // Truncated sooner than the first time: that was late.
        check(251, 360, None);
        check(251, 429, None);
        check(251, 430, Some(180));
    }
}
