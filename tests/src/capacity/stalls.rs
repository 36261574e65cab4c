//! Part `stalls`: minutes of writes at a part of the capacity that was found just before, with a Raft snapshot sent in the middle.
//! Open loop: latencies count from when a command was due, so a pause shows in every command that was due in it. A tenth of a second in which
//! the generator's own sleeping thread woke too late says nothing about the server and does not count; nor does one that paid for such a
//! tenth shortly before. Each minute is a run of its own, since a report has quantiles of a whole run; the next one begins at once, when
//! what was due in the last one is answered.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use super::arrival::{Arrival, Phases};
use super::findings::{Findings, Mark, Table};
use super::{GIB, KIB, MIB, Place};
use crate::bench::accounting::Usage;
use crate::cluster::Cluster;
use crate::load_program::{self, LoadFigures, LoadProgram, Window};
use crate::wait::wait_until;

/// Bytes of a value.
const VALUE_BYTES: u64 = KIB;
/// Nodes of the group.
const NODES: usize = 3;
/// Connections, spread over all of them.
const CONNECTIONS: u32 = 50;
/// The part of the capacity that is asked for.
const SHARE: f64 = 0.7;
/// How long a pause may be, in milliseconds.
const PAUSE_MS_MAX: f64 = 100.0;
/// How late the generator's sleeping thread may wake; later, and the machine itself stood still.
const PROBE_LATE_MS_MAX: f64 = 20.0;
/// How many times as long as in the first minute the slowest of a hundred may take.
const GROWTH_MAX: f64 = 3.0;
/// How long the snapshot may take to arrive after the last minute.
const ARRIVAL_PATIENCE: Duration = Duration::from_secs(120);
/// Copies of the data that a node holds at worst: with what is being compacted, and a snapshot.
const COPIES: u64 = 3;

/// Sizes.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Keys; all of them are there before.
    pub keys: u64,
    /// Minutes.
    pub minutes: u64,
    /// Length of a minute, in seconds: for tests that have no time.
    pub minute_seconds: u64,
    /// How long the capacity is measured, in seconds.
    pub seconds: u64,
}

impl Plan {
    /// Room that it needs on the disk.
    #[must_use]
    pub fn room_bytes(&self) -> u64 {
        // The log may grow to four times its size beside a snapshot.
        (NODES as u64 + 1) * (self.keys * VALUE_BYTES * COPIES + 2 * GIB)
    }

    fn args(&self, rest: &str) -> String {
        format!("--keys {} --value-bytes {VALUE_BYTES} --connections {CONNECTIONS} {rest}", self.keys)
    }
}

/// A minute.
#[derive(Clone, Debug, Serialize)]
struct Minute {
    figures: LoadFigures,
    pauses: Vec<Pause>,
    /// Tenths of a second that do not count, since the machine itself stood still.
    excused: u64,
    /// When the node that gets the snapshot was started in this minute, in seconds.
    joiner_started: Option<f64>,
    /// When it had caught up.
    joiner_arrived: Option<f64>,
}

/// Commands that waited too long.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Pause {
    /// When the first of them was due, in seconds after the minute began.
    from: f64,
    /// When the last of them was answered.
    to: f64,
    /// How long the slowest took, in milliseconds.
    longest_ms: f64,
}

/// What was measured.
#[derive(Debug)]
struct Found {
    capacity: LoadFigures,
    rate: u64,
    minutes: Vec<Minute>,
    snapshot: Phases,
    /// By how many entries the leader's log was truncated meanwhile.
    truncated: u64,
    /// What the three nodes wrote meanwhile, in bytes.
    written_bytes: u64,
    leader_stayed: bool,
}

/// Measures it.
/// # Errors
/// A generator failed, or the system does not tell: one line.
/// # Panics
/// A node does not do what it must.
pub fn run(plan: &Plan, place: &Place) -> Result<Findings, String> {
    let mut cluster = Cluster::start_in(place.dir(), NODES, &[]);
    let addresses = cluster.addresses();
    eprintln!("  {} keys are written", plan.keys);
    load_program::run(&addresses, &plan.args("--test fill --pipeline 10"))?;
    eprintln!("  the capacity is measured");
    let capacity = load_program::run(&addresses, &plan.args(&format!("--test set --warmup 2 --seconds {}", plan.seconds)))?;
    let rate = ((capacity.per_second * SHARE) as u64).max(1);
    let leader = cluster.leader();
    let first_index = cluster[leader].status().first_index;
    let pids: Vec<u32> = (0..NODES).map(|position| cluster[position].process().pid()).collect();
    let usages = || pids.iter().map(|pid| Usage::read(*pid)).collect::<Result<Vec<Usage>, String>>();
    let before = usages()?;
    let joiner = cluster.add_spare();
    let (minutes, snapshot) = minutes(plan, &mut cluster, joiner, rate)?;
    let written_bytes = usages()?.iter().zip(&before).map(|(now, before)| now.written_bytes_since(before)).sum();
    let truncated = cluster[leader].status().first_index.saturating_sub(first_index);
    let leader_stayed = cluster.leader_now() == Some(leader);
    Ok(Found { capacity, rate, minutes, snapshot, truncated, written_bytes, leader_stayed }.findings(plan))
}

/// All minutes; in the middle a node joins that has nothing.
fn minutes(plan: &Plan, cluster: &mut Cluster, joiner: usize, rate: u64) -> Result<(Vec<Minute>, Phases), String> {
    let addresses: Vec<_> = cluster.addresses().into_iter().take(NODES).collect();
    let args = plan.args(&format!("--test set --rate {rate} --timeline=100 --seconds {}", plan.minute_seconds));
    let length = Duration::from_secs(plan.minute_seconds);
    let mut arrival: Option<Arrival> = None;
    let mut minutes = Vec::new();
    for number in 0..plan.minutes {
        let (mut joiner_started, mut joiner_arrived) = (None, None);
        let (mut load, began) = (LoadProgram::start(&addresses, &args), Instant::now());
        // Bounded by the load, which ends by itself.
        wait_until(began + 2 * length + ARRIVAL_PATIENCE, || {
            let passed = began.elapsed();
            if let Some(arrival) = &mut arrival {
                let had_arrived = arrival.phases().caught_up.is_some();
                if !had_arrived && arrival.look(cluster) {
                    joiner_arrived = Some(passed.as_secs_f64());
                }
            } else if number == plan.minutes / 2 && passed >= length / 4 {
                arrival = Some(Arrival::begin(cluster, joiner));
                joiner_started = Some(passed.as_secs_f64());
            }
            load.has_ended()
        });
        let figures = load.finish()?;
        let (pauses, excused) = pauses(&figures.windows);
        eprintln!("  minute {}: p99 {:.2} ms, max {:.1} ms, {} pauses", number + 1, figures.p99_ms, figures.max_ms, pauses.len());
        minutes.push(Minute { figures, pauses, excused, joiner_started, joiner_arrived });
    }
    let mut arrival = arrival.ok_or("the minutes were too short for a snapshot")?;
    if arrival.phases().caught_up.is_none() {
        wait_until(Instant::now() + ARRIVAL_PATIENCE, || arrival.look(cluster));
    }
    Ok((minutes, arrival.phases()))
}

/// The windows in which something waited too long, those side by side as one, and how many do not count.
fn pauses(windows: &[Window]) -> (Vec<Pause>, u64) {
    let (mut pauses, mut excused): (Vec<Pause>, u64) = (Vec::new(), 0);
    for window in windows.iter().filter(|window| window.max_ms > PAUSE_MS_MAX) {
        // The slowest command may have been due before the window.
        let from = window.from - window.max_ms / 1e3;
        let touches = |other: &&Window| other.to > from && other.from < window.to;
        if windows.iter().filter(touches).any(|other| other.probe_late_ms > PROBE_LATE_MS_MAX) {
            excused += 1;
            continue;
        }
        match pauses.last_mut() {
            Some(last) if last.to >= window.from => {
                (last.to, last.longest_ms) = (window.to, last.longest_ms.max(window.max_ms));
            }
            _ => pauses.push(Pause { from, to: window.to, longest_ms: window.max_ms }),
        }
    }
    (pauses, excused)
}

impl Found {
    fn findings(&self, plan: &Plan) -> Findings {
        let longest = self.minutes.iter().flat_map(|minute| &minute.pauses).map(|pause| pause.longest_ms).fold(0.0, f64::max);
        let pauses: usize = self.minutes.iter().map(|minute| minute.pauses.len()).sum();
        let p99s = || self.minutes.iter().map(|minute| minute.figures.p99_ms);
        let growth = p99s().fold(0.0, f64::max) / p99s().next().unwrap_or(1.0);
        let failures: u64 = self.minutes.iter().flat_map(|minute| minute.figures.failures.values()).sum();
        let no_pause = Mark {
            name: "pauses at the client".to_owned(),
            wanted: format!("none over {PAUSE_MS_MAX} ms"),
            found: if pauses == 0 { "none".to_owned() } else { format!("{pauses}, the longest of {longest:.0} ms") },
            holds: pauses == 0,
        };
        let arrived = Mark {
            name: "the snapshot in the middle".to_owned(),
            wanted: "arrives".to_owned(),
            found: self.snapshot.seconds().map_or("missing".to_owned(), |seconds| format!("{seconds:.1} s")),
            holds: self.snapshot.caught_up.is_some(),
        };
        Findings {
            notes: self.notes(plan),
            tables: vec![self.timeline(), self.all_pauses()],
            marks: vec![
                no_pause,
                Mark::at_most("the slowest minute's p99, to that of the first", growth, GROWTH_MAX, "times"),
                Mark::at_most("commands that failed", failures as f64, 0.0, ""),
                arrived,
            ],
            figures: self.json(plan),
        }
    }

    fn notes(&self, plan: &Plan) -> Vec<String> {
        let commands: u64 = self.minutes.iter().map(|minute| minute.figures.commands).sum();
        let mut notes = vec![
            format!("three nodes; SET of {} keys with values of {VALUE_BYTES} bytes; {CONNECTIONS} connections, spread", plan.keys),
            format!(
                "capacity: {:.0}/s in {:.0} s (p99 {:.2} ms); asked for: {}/s, open loop",
                self.capacity.per_second, self.capacity.seconds, self.capacity.p99_ms, self.rate
            ),
            format!(
                "meanwhile the leader's log was truncated by {} entries; the three nodes wrote {} MiB for {} MiB of values on each",
                self.truncated,
                self.written_bytes / MIB,
                commands * VALUE_BYTES / MIB
            ),
        ];
        let [generation, transfer, installation] =
            self.snapshot.lengths().map(|length| length.map_or("-".to_owned(), |length| format!("{length:.1} s")));
        notes.push(format!(
            "the snapshot: {} MB of files; generation {generation}, transfer {transfer}, installation {installation}",
            self.snapshot.snapshot_bytes / 1_000_000
        ));
        if !self.leader_stayed {
            notes.push("the leader changed meanwhile".to_owned());
        }
        notes
    }

    fn timeline(&self) -> Table {
        let headings = ["minute", "per s", "p50 ms", "p99 ms", "p99.9", "max ms", "pauses", "excused", "failed", "joiner"];
        let mut table = Table::new("minutes", &headings);
        for (number, minute) in (1..).zip(&self.minutes) {
            let figures = &minute.figures;
            let event = |name: &str, at: Option<f64>| at.map(|at| format!("{name} at {at:.0} s"));
            let events = [event("started", minute.joiner_started), event("arrived", minute.joiner_arrived)];
            table.add(
                [
                    vec![number.to_string(), format!("{:.0}", figures.per_second)],
                    figures.latencies().to_vec(),
                    vec![
                        minute.pauses.len().to_string(),
                        minute.excused.to_string(),
                        figures.failures.values().sum::<u64>().to_string(),
                        events.into_iter().flatten().collect::<Vec<_>>().join(", "),
                    ],
                ]
                .concat(),
            );
        }
        table
    }

    fn all_pauses(&self) -> Table {
        let mut table = Table::new(format!("pauses over {PAUSE_MS_MAX} ms"), &["minute", "from s", "to s", "longest ms"]);
        for (number, minute) in (1..).zip(&self.minutes) {
            for pause in &minute.pauses {
                let [from, to] = [pause.from, pause.to].map(|at| format!("{at:.1}"));
                table.add(vec![number.to_string(), from, to, format!("{:.0}", pause.longest_ms)]);
            }
        }
        table
    }

    fn json(&self, plan: &Plan) -> Value {
        json!({
            "plan": plan,
            "capacity": self.capacity,
            "rate": self.rate,
            "minutes": self.minutes,
            "snapshot": self.snapshot,
            "log_entries_truncated": self.truncated,
            "written_bytes": self.written_bytes,
            "leader_stayed": self.leader_stayed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_of_the_machine_do_not_count() {
        let window = |tenth: u32, max_ms, probe_late_ms| {
            let from = f64::from(tenth) / 10.0;
            Window { from, to: from + 0.1, max_ms, probe_late_ms }
        };
        let check = |windows: &[Window], pauses_expected: &[(f64, f64)], excused_expected| {
            let (found, excused) = pauses(windows);
            let found: Vec<_> = found.iter().map(|pause| (pause.to, pause.longest_ms)).collect();
            assert_eq!((found.as_slice(), excused), (pauses_expected, excused_expected));
        };
        check(&[window(0, 5.0, 0.0), window(1, 100.0, 0.0)], &[], 0);
        check(&[window(0, 5.0, 0.0), window(10, 150.0, 20.0), window(11, 120.0, 0.0)], &[(1.2000000000000002, 150.0)], 0);
        check(&[window(10, 150.0, 0.0), window(20, 120.0, 0.0)], &[(1.1, 150.0), (2.1, 120.0)], 0);
        check(&[window(10, 150.0, 21.0)], &[], 1);
        // The machine stood still when the command was due.
        check(&[window(10, 5.0, 300.0), window(11, 5.0, 0.0), window(12, 150.0, 0.0)], &[], 1);
        check(&[window(10, 5.0, 300.0), window(13, 150.0, 0.0)], &[(1.4000000000000001, 150.0)], 0);
    }
}
