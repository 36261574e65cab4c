//! Kills all nodes at once under load, again and again; see `redraft_tests::campaign::crash_all`.
#![expect(clippy::print_stdout, reason = "a program that reports")]

use clap::Parser;
use redraft_tests::campaign::crash_all::{Plan, run};
use redraft_tests::campaign::{median, percentile};

/// Kill all nodes under load; no acknowledged write may be missing.
#[derive(Parser)]
struct Options {
    /// How many times.
    #[arg(long, default_value_t = 10)]
    cycles: usize,
    /// Clients that write.
    #[arg(long, default_value_t = 6)]
    workers: usize,
    /// Acknowledged batches before each crash.
    #[arg(long, default_value_t = 2000)]
    writes_between: usize,
}

fn main() {
    let options = Options::parse();
    let report = run(&Plan { cycles: options.cycles, workers: options.workers, writes_between: options.writes_between });
    let keys: usize = report.totals.iter().map(|totals| totals.keys).sum();
    let increments: u64 = report.totals.iter().map(|totals| totals.increments).sum();
    println!("acknowledged and there after {} cycles: {keys} keys, {increments} increments", report.starts.len());
    let (median, p99, longest) = (median(&report.starts), percentile(&report.starts, 99), percentile(&report.starts, 100));
    println!("`cluster start` took: median {median:.2?}, p99 {p99:.2?}, maximum {longest:.2?}");
}
