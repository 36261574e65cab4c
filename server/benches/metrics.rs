//! What a command pays for the metrics: all that is counted on its way, by one thread and by as many as serve the network.
//! `cargo bench --locked --workspace --bench metrics`; the processor time of a whole command stands in docs/benchmarks.md.
#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use redraft::command::table;
use redraft::metrics::{Distribution, Metric, Metrics};

/// Runs that a thread counts.
const RUNS: u32 = 1_000_000;

fn main() {
    for threads in [1, 2] {
        for commands in [1, 16] {
            let nanoseconds = measure(threads, commands);
            println!("{threads} threads, {commands:2} commands at a time: {nanoseconds:5.1} ns per command");
        }
    }
}

/// Nanoseconds of a thread per command, in runs of so many.
fn measure(threads: u32, commands: u64) -> f64 {
    let metrics = Metrics::new();
    let count = || {
        let began = Instant::now();
        for run in 0..RUNS {
            count_run(&metrics, commands, Duration::from_micros(u64::from(run % 5000)));
        }
        began.elapsed()
    };
    let took: Duration = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(count)).collect();
        threads.into_iter().map(|thread| thread.join().expect("counting does not panic")).sum()
    });
    took.as_nanos() as f64 / f64::from(threads) / f64::from(RUNS) / commands as f64
}

/// What a connection counts for a run of writes, and the log and apply for an entry of its own: never more.
fn count_run(metrics: &Metrics, commands: u64, elapsed: Duration) {
    let set = black_box(table::lookup(b"set").expect("SET is in the table"));
    metrics.executed(set, commands, elapsed, Some(elapsed));
    for metric in [Metric::TotalCommandsProcessed, Metric::TotalNetInputBytes, Metric::TotalNetOutputBytes, Metric::KeyspaceHits] {
        metrics.add(metric, commands);
    }
    for distribution in [Distribution::WriteTime, Distribution::ProposalCommands, Distribution::LogSyncTime, Distribution::ApplyTime] {
        metrics.took(distribution, elapsed, commands);
    }
}
