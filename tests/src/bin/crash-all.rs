//! Kills all nodes at once under load, again and again; see `redraft_tests::campaign::crash_all`.
#![expect(clippy::print_stdout, reason = "a program that reports")]

use clap::Parser;
use redraft_tests::campaign::crash_all::{Plan, run};
use redraft_tests::campaign::median;

/// Kill all nodes under load; no acknowledged write may be missing.
#[derive(Parser)]
struct Options {
    /// How many times.
    #[arg(long, default_value_t = 10)]
    crashes: usize,
    /// Clients that write.
    #[arg(long, default_value_t = 6)]
    workers: usize,
    /// Acknowledged batches before each crash.
    #[arg(long, default_value_t = 2000)]
    writes_between: usize,
}

fn main() {
    let options = Options::parse();
    let report = run(&Plan { crashes: options.crashes, workers: options.workers, writes_between: options.writes_between });
    let keys: usize = report.totals.iter().map(|totals| totals.keys).sum();
    let increments: u64 = report.totals.iter().map(|totals| totals.increments).sum();
    println!("acknowledged and there after {} crashes: {keys} keys, {increments} increments", report.starts.len());
    let longest = report.starts.iter().max().copied().unwrap_or_default();
    println!("`cluster start` took: median {:.2?}, maximum {longest:.2?}", median(&report.starts));
}
