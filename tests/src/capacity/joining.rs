//! Part `recovery`, a node that has nothing: it joins one that holds the data, and gets a Raft snapshot; once while nobody writes, once
//! beside paced writes, whose latencies are compared with those of the time before.
//! Phases are told apart by the directories below `snapshots/`, as an operator could see them: the leader makes `out-*`, the joiner
//! `in-*.part`, which loses its suffix when it is whole. They are looked at every ten milliseconds. The time counts from when the leader
//! begins to make files, to when the joiner has applied what was committed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use super::arrival::{Arrival, Phases};
use super::filling::{Filling, Values};
use super::findings::{Findings, Mark, Table};
use super::{GIB, MIB, Place, room};
use crate::client::integer;
use crate::cluster::Cluster;
use crate::load_program::{self, LoadFigures, LoadProgram};
use crate::wait::wait_until;

/// Bytes of a value.
const VALUE_BYTES: usize = 1024;
/// Position of the node that has the data.
const HOLDER: usize = 0;
/// Keys that are compared with what was written, on the joiner.
const SAMPLE: u64 = 10_000;
/// How long a joiner may take.
const PATIENCE: Duration = Duration::from_secs(1800);
/// Writes per second beside which a node joins.
const RATE: u64 = 2_000;
/// What is promised: bytes of user data per second while nobody writes, and how much longer the slowest of a hundred writes may take.
const MB_PER_SECOND_MIN: f64 = 150.0;
const LATENCY_GROWTH_MAX: f64 = 3.0;
/// Copies of the data that the disk holds at worst: the holder's with what is being compacted, the files of the snapshot on both sides, and
/// what is ingested from them and compacted.
const COPIES: u64 = 6;

/// Sizes.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Bytes of all values.
    pub bytes: u64,
    /// How well they compress.
    pub values: Values,
    /// Length of the load before the second joining, in seconds.
    pub seconds: u64,
}

impl Plan {
    fn filling(&self) -> Filling {
        Filling::of_bytes(self.bytes, VALUE_BYTES, self.values)
    }

    /// Room that it needs on the disk.
    #[must_use]
    pub fn room_bytes(&self) -> u64 {
        self.filling().user_bytes() * COPIES + 2 * GIB
    }
}

/// What was measured.
#[derive(Debug)]
struct Found {
    /// Bytes of the holder's directory before.
    data_bytes: u64,
    /// Keys that the joiner had in the end.
    keys_joined: i64,
    idle: Phases,
    before: LoadFigures,
    busy: Phases,
    during: LoadFigures,
}

/// Measures it.
/// # Errors
/// A generator failed, or a node does not arrive: one line.
/// # Panics
/// A node does not do what it must, or a value is wrong.
pub fn run(plan: &Plan, place: &Place) -> Result<Findings, String> {
    let filling = plan.filling();
    let mut cluster = Cluster::start_in(place.dir(), 1, &[]);
    eprintln!("  joining: {} keys are written", filling.keys);
    let holder: [SocketAddr; 1] = [cluster[HOLDER].address()];
    filling.write(holder[0], |_| {});
    room::wait_for_rest(cluster[HOLDER].process().pid(), Duration::from_secs(plan.seconds.min(3)))?;
    let data_bytes = room::NodeBytes::count(cluster[HOLDER].dir()).data;

    eprintln!("  joining while nobody writes");
    let joiner = cluster.add_spare();
    let idle = join(&mut cluster, joiner)?;
    filling.check(cluster[joiner].address(), SAMPLE.min(filling.keys));
    let keys_joined = integer(&cluster.client(joiner).must(&["DBSIZE"]));

    eprintln!("  joining beside {RATE} writes/s");
    // At the same address it takes the dead member's place, so that the group has one voter all the time.
    cluster[joiner].kill();
    cluster[joiner].wipe();
    let args = |seconds| {
        format!("--test set --rate {RATE} --keys {} --value-bytes {VALUE_BYTES} --connections 20 --seconds {seconds}", filling.keys)
    };
    let before = load_program::run(&holder, &args(plan.seconds))?;
    let load = LoadProgram::start(&holder, &args(PATIENCE.as_secs()));
    let busy = join(&mut cluster, joiner)?;
    let during = load.end()?;
    Ok(Found { data_bytes, keys_joined, idle, before, busy, during }.findings(plan))
}

/// Starts a node without anything, and follows it until it has caught up.
fn join(cluster: &mut Cluster, joiner: usize) -> Result<Phases, String> {
    let mut arrival = Arrival::begin(cluster, joiner);
    if !wait_until(Instant::now() + PATIENCE, || arrival.look(cluster)) {
        return Err(format!("the joiner has not caught up within {PATIENCE:?}: {:?}", arrival.phases()));
    }
    Ok(arrival.phases())
}

impl Found {
    fn findings(&self, plan: &Plan) -> Findings {
        let filling = plan.filling();
        let growth = self.during.p99_ms / self.before.p99_ms;
        let failures: u64 = self.before.failures.values().chain(self.during.failures.values()).sum();
        Findings {
            notes: vec![format!(
                "joining: one node holds {} keys, {} MiB of user data, {} MiB on disk; another one gets them",
                filling.keys,
                filling.user_bytes() / MIB,
                self.data_bytes / MIB
            )],
            tables: vec![self.arrivals(&filling), self.latencies()],
            marks: vec![
                Mark::at_least("a snapshot while nobody writes", per_second(&filling, &self.idle), MB_PER_SECOND_MIN, "MB/s"),
                Mark::at_most("p99 of writes beside it, to that before", growth, LATENCY_GROWTH_MAX, "times"),
                Mark::at_most("writes that failed beside it", failures as f64, 0.0, ""),
            ],
            figures: self.json(plan),
        }
    }

    fn arrivals(&self, filling: &Filling) -> Table {
        let headings = ["a snapshot", "MB/s", "s", "generation", "transfer", "installation", "until it began", "MB of files"];
        let mut table = Table::new("joining (user data per second, from the generation's begin until caught up)", &headings);
        for (name, phases) in [("while nobody writes", &self.idle), ("beside writes", &self.busy)] {
            let [generation, transfer, installation] = phases.lengths().map(seconds);
            table.add(vec![
                name.to_owned(),
                format!("{:.1}", per_second(filling, phases)),
                seconds(phases.seconds()),
                generation,
                transfer,
                installation,
                seconds(phases.generation),
                format!("{:.0}", phases.snapshot_bytes as f64 / 1e6),
            ]);
        }
        table
    }

    fn latencies(&self) -> Table {
        let mut table = Table::new("writes, open loop", &["", "s", "per s", "p50 ms", "p99 ms", "p99.9", "max ms", "failed"]);
        for (name, figures) in [("before", &self.before), ("during", &self.during)] {
            table.add(
                [
                    vec![name.to_owned(), format!("{:.1}", figures.seconds), format!("{:.0}", figures.per_second)],
                    figures.latencies().to_vec(),
                    vec![figures.failures.values().sum::<u64>().to_string()],
                ]
                .concat(),
            );
        }
        table
    }

    fn json(&self, plan: &Plan) -> Value {
        let filling = plan.filling();
        let arrival = |phases: &Phases| json!({ "phases": phases, "mb_per_second": per_second(&filling, phases) });
        json!({ "joining": {
            "plan": plan,
            "keys": filling.keys,
            "keys_joined": self.keys_joined,
            "user_bytes": filling.user_bytes(),
            "data_bytes": self.data_bytes,
            "idle": arrival(&self.idle),
            "busy": arrival(&self.busy),
            "writes_before": self.before,
            "writes_during": self.during,
        }})
    }
}

/// MB of user data per second.
fn per_second(filling: &Filling, phases: &Phases) -> f64 {
    phases.seconds().map_or(0.0, |seconds| filling.user_bytes() as f64 / 1e6 / seconds)
}

fn seconds(length: Option<f64>) -> String {
    length.map_or("-".to_owned(), |length| format!("{length:.2}"))
}
