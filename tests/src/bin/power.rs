//! Cuts the power of all nodes under load, again and again; see `redraft_tests::campaign::power`.
#![expect(clippy::print_stdout, reason = "a program that reports")]

use clap::Parser;
use redraft_tests::campaign::power::{Plan, run};
use redraft_tests::campaign::{median, percentile};

/// Cut the power of all nodes under load; no acknowledged write may be missing, and every node must start.
#[derive(Parser)]
struct Options {
    /// How many times.
    #[arg(long, default_value_t = 10)]
    cycles: usize,
    /// Clients that write.
    #[arg(long, default_value_t = 6)]
    workers: usize,
    /// Acknowledged batches before each cut.
    #[arg(long, default_value_t = 500)]
    writes_between: usize,
    /// Decides what is left of the disks; any other by default.
    #[arg(long)]
    seed: Option<u64>,
}

fn main() {
    let options = Options::parse();
    let (cycles, workers, writes_between) = (options.cycles, options.workers, options.writes_between);
    let seed = options.seed.unwrap_or_else(rand::random);
    let report = run(&Plan { cycles, workers, writes_between, seed });
    let keys: usize = report.totals.iter().map(|totals| totals.keys).sum();
    let increments: u64 = report.totals.iter().map(|totals| totals.increments).sum();
    println!("seed {seed}: {} files and names lost something in {} cuts", report.changes, report.starts.len());
    println!("acknowledged and there: {keys} keys, {increments} increments");
    let (median, p99, longest) = (median(&report.starts), percentile(&report.starts, 99), percentile(&report.starts, 100));
    println!("all served after: median {median:.2?}, p99 {p99:.2?}, maximum {longest:.2?}");
}
