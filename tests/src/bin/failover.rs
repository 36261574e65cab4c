//! Kills the leader of three nodes again and again under a steady write load; see `redraft_tests::campaign::failover`.
#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::time::Duration;

use clap::Parser;
use redraft_tests::campaign::failover::{Plan, run};

/// Median that the project promises.
const MEDIAN_MAX: Duration = Duration::from_millis(1500);
/// What the project promises for ninety-nine of a hundred.
const P99_MAX: Duration = Duration::from_secs(3);
/// Longest time that the project promises.
const GAP_MAX: Duration = Duration::from_secs(5);

/// Kill the leader under load; no acknowledged write may be missing.
#[derive(Parser)]
struct Options {
    /// How many leaders are killed.
    #[arg(long, default_value_t = 30)]
    kills: usize,
    /// Clients that write.
    #[arg(long, default_value_t = 6)]
    workers: usize,
    /// Acknowledged writes between two kills.
    #[arg(long, default_value_t = 2000)]
    writes_between: usize,
}

fn main() {
    let options = Options::parse();
    let report = run(&Plan { kills: options.kills, workers: options.workers, writes_between: options.writes_between });
    let (median, p99, max) = (report.median(), report.p99(), report.max());
    println!("acknowledged and there: {} keys, {} increments", report.totals.keys, report.totals.increments);
    println!("counter {}, unknown increments {}", report.totals.counter, report.totals.increments_unknown);
    let kills = report.gaps.len();
    println!("time to the next acknowledged write over {kills} kills: median {median:.2?}, p99 {p99:.2?}, maximum {max:.2?}");
    assert!(median <= MEDIAN_MAX, "the median is above {MEDIAN_MAX:?}");
    assert!(p99 <= P99_MAX, "the 99th percentile is above {P99_MAX:?}");
    assert!(max <= GAP_MAX, "the maximum is above {GAP_MAX:?}");
}
