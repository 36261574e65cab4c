//! One node takes in more than its memory; see `redraft_tests::campaign::larger_than_memory`.
#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use redraft_tests::campaign::larger_than_memory::{Plan, run};

/// Write far more than the caches hold, and read it back.
#[derive(Parser)]
struct Options {
    /// Bytes of all values, in MiB.
    #[arg(long, default_value_t = 4096)]
    mib: u64,
    /// Block cache, in MiB.
    #[arg(long, default_value_t = 64)]
    block_cache_mib: u64,
    /// Memtables, in MiB.
    #[arg(long, default_value_t = 64)]
    memtable_mib: u64,
    /// Most resident memory that is allowed, in MiB.
    #[arg(long, default_value_t = 600)]
    resident_mib_max: u64,
    /// Keys that are read back.
    #[arg(long, default_value_t = 10_000)]
    sample: u64,
    /// Longest restart that is allowed, in seconds.
    #[arg(long, default_value_t = 10)]
    restart_seconds_max: u64,
    /// Where the data goes [default: where temporary files go].
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn main() {
    let options = Options::parse();
    let report = run(&Plan {
        bytes: options.mib << 20,
        value_bytes: 1024,
        block_cache_bytes: options.block_cache_mib << 20,
        memtable_bytes: options.memtable_mib << 20,
        resident_bytes_max: options.resident_mib_max << 20,
        restart_max: Duration::from_secs(options.restart_seconds_max),
        sample: options.sample,
        dir: options.dir,
    });
    println!("{} MiB in {:.1?}: {:.0} writes per second", options.mib, report.ingestion, report.writes_per_second);
    println!(
        "resident memory at most {} MiB, after the restart {} MiB",
        report.resident_bytes_peak >> 20,
        report.resident_bytes_peak_restarted >> 20
    );
    println!("restart until the first read: {:.2?}", report.restart);
    println!("{} random keys are right, before and after the restart", options.sample);
}
