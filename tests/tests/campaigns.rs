//! The campaigns at a small size; `src/bin` has them at full size.

use std::time::Duration;

use redraft_tests::campaign::{crash_all, failover, larger_than_memory};

#[test]
fn leaders_killed_under_load() {
    let report = failover::run(&failover::Plan { kills: 3, workers: 3, writes_between: 100 });
    assert!(report.max() < Duration::from_secs(5), "{report:?}");
}

#[test]
fn everything_killed_under_load() {
    let report = crash_all::run(&crash_all::Plan { crashes: 2, workers: 3, writes_between: 100 });
    assert_eq!(report.totals.len(), 2);
}

#[test]
fn more_data_than_memory() {
    let report = larger_than_memory::run(&larger_than_memory::Plan {
        bytes: 96 << 20,
        value_bytes: 1024,
        block_cache_bytes: 8 << 20,
        memtable_bytes: 8 << 20,
        resident_bytes_max: 256 << 20,
        restart_max: Duration::from_secs(10),
        sample: 2_000,
        dir: None,
    });
    assert!(report.writes_per_second > 0.0, "{report:?}");
}
