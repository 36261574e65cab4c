//! The power of all nodes is cut at once under load, again and again, and each disk keeps a random part of what was not synced. There is so
//! little room that flushes, new WALs, compactions and truncations of the log go on all the time, and now and then a node that was away is
//! on its way back by a snapshot. A power cut is no damage: every node must start by itself, and everything acknowledged must be there.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::client::Client;
use crate::cluster::Cluster;
use crate::load::{Load, LoadPlan, Record, Shape, Totals};
use crate::power::Honesty;
use crate::verify;
use crate::wait::{eventually, wait_until};

/// The nodes.
const NODES: usize = 3;
/// Options of the nodes: the least room there can be.
const FLAGS: [&str; 10] = [
    "--raft-log-bytes-max",
    "1mb",
    "--memtable-bytes",
    "4mb",
    "--block-cache-bytes",
    "4mb",
    "--snapshot-chunk-bytes",
    "16kb",
    "--disk-reserve",
    "0",
];
/// Every so many cycles a node is away at first, and comes back behind the log.
const AWAY_EVERY: usize = 3;
/// Longest time from the last write that is waited for to the cut.
const UNTIL_CUT_MAX: Duration = Duration::from_millis(300);
/// Longest time from the beginning of an installation to the cut, so that most come in the middle.
const INSTALLATION: Duration = Duration::from_millis(80);
/// How long a node that comes back may take to begin one.
const BEGINS_MAX: Duration = Duration::from_secs(5);
/// What fills memtables: large values, over and over the same keys.
const LARGE_VALUE_BYTES: usize = 8 * 1024;
const LARGE_KEYS: usize = 500;
/// Large values in a pipeline.
const LARGE_AT_ONCE: usize = 20;
/// As many as the Raft log does not keep for a node that is away.
const BEHIND_VALUES: usize = 400;
/// Every so many cycles as many are written as make RocksDB begin another WAL of the Raft log: 32 MiB.
const LONG_EVERY: usize = 5;
const WAL_VALUES: usize = 6_000;
/// Pause of the filler before it tries the next node.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);

/// Size of the campaign.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Times that the power is cut.
    pub cycles: usize,
    /// Clients that write.
    pub workers: usize,
    /// Acknowledged batches before each cut.
    pub writes_between: usize,
    /// Decides what is left of the disks.
    pub seed: u64,
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// From the start of all nodes until they have converged, cycle by cycle.
    pub starts: Vec<Duration>,
    /// What was told and was true, cycle by cycle.
    pub totals: Vec<Totals>,
    /// Files and names that were not as they had been before a cut.
    pub changes: usize,
}

/// Runs the campaign.
/// # Panics
/// A promise is broken.
#[must_use]
pub fn run(plan: &Plan) -> Report {
    play(&mut Cluster::start_with_disks(NODES, &FLAGS, Honesty::Honest), plan)
}

/// Runs the campaign on disks that lie, with which promises cannot be kept. How that was noticed; `None` if it was not.
#[must_use]
pub fn run_on_lying_disks(plan: &Plan) -> Option<String> {
    let mut cluster = Cluster::start_with_disks(NODES, &FLAGS, Honesty::LiesAboutWals);
    let panic = catch_unwind(AssertUnwindSafe(|| play(&mut cluster, plan))).err()?;
    Some(panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic without words".to_owned()))
}

fn play(cluster: &mut Cluster, plan: &Plan) -> Report {
    eprintln!("seed {}, files in {}", plan.seed, cluster.dir().display());
    let mut random = StdRng::seed_from_u64(plan.seed);
    let mut report = Report::default();
    let mut records: Vec<Record> = Vec::new();
    for cycle in 1..=plan.cycles {
        let record = load_until_cut(cluster, plan, cycle, &mut random);
        let changes: usize = cluster.positions().map(|position| cluster.disk(position).cut(&mut random).len()).sum();
        report.changes += changes;

        let began = Instant::now();
        cluster.positions().for_each(|position| cluster.start_node(position));
        cluster.positions().for_each(|position| cluster[position].wait_ready());
        cluster.wait_converged();
        report.starts.push(began.elapsed());
        let mut client = cluster.client(cycle % NODES);
        let totals = record.check(&mut client);
        let comparison = verify::compare(&mut client);
        assert!(comparison.is_equal(), "replicas after a cut: {comparison:?}");
        eprintln!("cycle {cycle} of {}: {changes} changes, all well after {:.2?}, {totals:?}", plan.cycles, report.starts[cycle - 1]);
        records.push(record);
        report.totals.push(totals);
    }
    // What was there after its own cut must be there after all later ones.
    let mut client = cluster.client(0);
    let again: Vec<Totals> = records.iter().map(|record| record.check(&mut client)).collect();
    assert_eq!(again, report.totals, "later cuts change nothing");
    report
}

/// Writes, and kills all nodes at some moment. What the clients were told.
fn load_until_cut(cluster: &mut Cluster, plan: &Plan, cycle: usize, random: &mut StdRng) -> Record {
    let shape = if cycle.is_multiple_of(2) { Shape::Pipelined(10) } else { Shape::Single };
    let filler = Filler::start(cluster.addresses(), cycle);
    let load = Load::start(&LoadPlan { name: format!("cycle{cycle}"), addresses: cluster.addresses(), workers: plan.workers, shape });
    load.wait_for(plan.writes_between);
    if cycle.is_multiple_of(LONG_EVERY) {
        filler.wait_for(WAL_VALUES);
    }
    // The moment of the cut; nothing is waited for.
    let moment = if cycle.is_multiple_of(AWAY_EVERY) {
        let away = random.random_range(0..NODES);
        cluster[away].kill();
        filler.wait_for(BEHIND_VALUES);
        let installations = |cluster: &Cluster| cluster[away].log().matches("installing a snapshot").count();
        let before = installations(cluster);
        cluster.start_node(away);
        wait_until(Instant::now() + BEGINS_MAX, || installations(cluster) > before);
        INSTALLATION
    } else {
        UNTIL_CUT_MAX
    };
    thread::sleep(random.random_range(Duration::ZERO..moment));
    cluster.positions().for_each(|position| cluster[position].kill());
    load.stop()
}

/// A client that writes large values, whatever becomes of them, until it is dropped.
struct Filler {
    written: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Filler {
    fn start(addresses: Vec<SocketAddr>, cycle: usize) -> Self {
        let filler = Self { written: Arc::default(), stop: Arc::default() };
        let (written, stop) = (Arc::clone(&filler.written), Arc::clone(&filler.stop));
        thread::spawn(move || {
            let command = |number: usize| ["SET".to_owned(), format!("large:{}", number % LARGE_KEYS), large_value(cycle + number)];
            for address in addresses.iter().cycle() {
                let mut client = Client::connect(*address);
                while let Ok(connected) = &mut client
                    && !stop.load(Ordering::Relaxed)
                {
                    let first = written.load(Ordering::Relaxed);
                    match connected.pipeline((first..first + LARGE_AT_ONCE).map(command)) {
                        Ok(_) => written.fetch_add(LARGE_AT_ONCE, Ordering::Relaxed),
                        Err(_) => break,
                    };
                }
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                thread::sleep(RECONNECT_PAUSE);
            }
        });
        filler
    }

    fn wait_for(&self, more: usize) {
        let target = self.written.load(Ordering::Relaxed) + more;
        eventually("large values are written", || (self.written.load(Ordering::Relaxed) >= target).then_some(()));
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn large_value(number: usize) -> String {
    let mut value = format!("{number}:").repeat(LARGE_VALUE_BYTES);
    value.truncate(LARGE_VALUE_BYTES);
    value
}
