//! One node takes in far more than its caches hold, in bounded memory, and finds it again, also after a restart.
//! Keys are numbers written with leading zeros, in random order; a value is random bytes that follow from its number, so that nothing
//! compresses and any key can be checked without a list.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use resp::Value;

use crate::client::Client;
use crate::dir::TestDir;
use crate::node::{Node, wait_readable};
use crate::wait::wait_until;

/// Connections that write.
const WRITERS: u64 = 4;
/// Commands in a pipeline.
const PIPELINE: u64 = 64;
/// How often the state of affairs is told.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);
/// How long everything may take to be written.
const INGESTION_PATIENCE: Duration = Duration::from_secs(3600);
/// Makes the order of the keys look random; odd, so that it runs through all of a power of two.
const STRIDE: u64 = 0x9E37_79B9_7F4A_7C15;

/// Size of the campaign.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Bytes of all values.
    pub bytes: u64,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Option `block-cache-bytes`.
    pub block_cache_bytes: u64,
    /// Option `memtable-bytes`.
    pub memtable_bytes: u64,
    /// Most resident memory that is allowed.
    pub resident_bytes_max: u64,
    /// Longest restart that is allowed, until the first read is answered.
    pub restart_max: Duration,
    /// Keys that are read back, before and after the restart.
    pub sample: u64,
    /// Where the data goes; `None` is where temporary files go.
    pub dir: Option<PathBuf>,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Report {
    /// Time to take everything in.
    pub ingestion: Duration,
    /// Commands per second meanwhile.
    pub writes_per_second: f64,
    /// The most resident memory of the first life, in bytes.
    pub resident_bytes_peak: u64,
    /// Time from the start to the first answered read.
    pub restart: Duration,
    /// The most resident memory of the second life, in bytes.
    pub resident_bytes_peak_restarted: u64,
}

/// Runs the campaign.
/// # Panics
/// A promise is broken.
#[must_use]
pub fn run(plan: &Plan) -> Report {
    let dir = plan.dir.as_deref().map_or_else(TestDir::new, TestDir::below);
    let [cache, memtables] = [plan.block_cache_bytes, plan.memtable_bytes].map(|bytes| bytes.to_string());
    let mut node = Node::alone_in(dir, &["--block-cache-bytes", &cache, "--memtable-bytes", &memtables]);
    let keys = plan.bytes / plan.value_bytes as u64;

    let began = Instant::now();
    let written = AtomicU64::new(0);
    thread::scope(|scope| {
        let start = |writer| {
            let (address, written) = (node.address(), &written);
            scope.spawn(move || write(address, plan, keys, writer, written))
        };
        let writers: Vec<_> = (0..WRITERS).map(start).collect();
        let mut told_at = Instant::now();
        let done = wait_until(began + INGESTION_PATIENCE, || {
            if told_at.elapsed() >= PROGRESS_INTERVAL {
                told_at = Instant::now();
                let (now, resident) = (written.load(Ordering::Relaxed), node.process().resident_bytes());
                eprintln!("{now} of {keys} keys, resident memory {} MiB", resident >> 20);
            }
            writers.iter().all(|writer| writer.is_finished())
        });
        assert!(done, "not all keys were written within {INGESTION_PATIENCE:?}");
    });
    let ingestion = began.elapsed();
    let writes_per_second = keys as f64 / ingestion.as_secs_f64();
    eprintln!("{keys} keys in {ingestion:.1?}, {writes_per_second:.0} per second");
    check_sample(&node, plan, keys, 1);
    let resident_bytes_peak = check_resident(&node, plan);

    node.stop();
    node.start();
    let restart = wait_readable(&node);
    assert!(restart <= plan.restart_max, "the restart took {restart:.1?}");
    check_sample(&node, plan, keys, 2);
    let resident_bytes_peak_restarted = check_resident(&node, plan);
    Report { ingestion, writes_per_second, resident_bytes_peak, restart, resident_bytes_peak_restarted }
}

fn check_resident(node: &Node, plan: &Plan) -> u64 {
    let peak = node.process().resident_bytes_peak();
    eprintln!("resident memory: {} MiB now, {} MiB at most", node.process().resident_bytes() >> 20, peak >> 20);
    assert!(peak <= plan.resident_bytes_max, "resident memory reached {} MiB", peak >> 20);
    peak
}

/// Writes every `WRITERS`-th key.
fn write(address: SocketAddr, plan: &Plan, keys: u64, writer: u64, written: &AtomicU64) {
    let mut client = Client::connect(address).expect("the node listens");
    let mut numbers = (writer..keys).step_by(WRITERS as usize).map(|position| scattered(position, keys)).peekable();
    while numbers.peek().is_some() {
        let commands =
            numbers.by_ref().take(PIPELINE as usize).map(|number| [b"SET".to_vec(), key(number), value(number, plan.value_bytes)]);
        for reply in client.pipeline(commands).expect("the node answers") {
            assert!(!matches!(reply, Value::Error(_)), "a write is refused: {reply:?}");
            written.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A number below `keys` for each position below `keys`, all different, in an order that looks random.
fn scattered(position: u64, keys: u64) -> u64 {
    let mask = keys.next_power_of_two() - 1;
    let mut number = position;
    // A permutation of the numbers below the power of two; walked on until it is below `keys`, it is one of those.
    loop {
        number = number.wrapping_mul(STRIDE) & mask;
        if number < keys {
            return number;
        }
    }
}

fn key(number: u64) -> Vec<u8> {
    format!("key:{number:012}").into_bytes()
}

fn value(number: u64, bytes: usize) -> Vec<u8> {
    let mut value = vec![0; bytes];
    StdRng::seed_from_u64(number).fill_bytes(&mut value);
    value
}

fn check_sample(node: &Node, plan: &Plan, keys: u64, seed: u64) {
    let mut client = node.client();
    let mut random = StdRng::seed_from_u64(seed);
    let numbers: Vec<u64> = (0..plan.sample).map(|_| random.random_range(0..keys)).collect();
    for batch in numbers.chunks(PIPELINE as usize) {
        let replies = client.pipeline(batch.iter().map(|number| [b"GET".to_vec(), key(*number)])).expect("the node answers");
        for (number, reply) in batch.iter().zip(replies) {
            assert!(reply == Value::Bulk(value(*number, plan.value_bytes).into()), "key {number} has another value");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_key_is_written_once() {
        for keys in [1, 7, 8, 1000] {
            let numbers: BTreeSet<u64> = (0..keys).map(|position| scattered(position, keys)).collect();
            assert_eq!(numbers, (0..keys).collect::<BTreeSet<u64>>());
        }
    }
}
