//! The campaigns at a small size; `src/bin` has them at full size.

use std::time::Duration;

use redraft_tests::campaign::chaos::{self, Mode};
use redraft_tests::campaign::{crash_all, failover, power};

#[test]
fn leaders_killed_under_load() {
    let report = failover::run(&failover::Plan { kills: 3, workers: 3, writes_between: 100 });
    assert!(report.max() < Duration::from_secs(5), "{report:?}");
}

#[test]
fn everything_killed_under_load() {
    let report = crash_all::run(&crash_all::Plan { cycles: 2, workers: 3, writes_between: 100 });
    assert_eq!(report.totals.len(), 2);
}

#[test]
fn power_cut_under_load() {
    let report = power::run(&power::Plan { cycles: 4, workers: 3, writes_between: 100, seed: rand::random() });
    assert!(report.changes > 0, "something was not synced: {report:?}");
}

/// The test of the test above.
#[test]
fn disks_that_lie_are_found() {
    let how = power::run_on_lying_disks(&power::Plan { cycles: 4, workers: 3, writes_between: 100, seed: rand::random() });
    eprintln!("{}", how.expect("lying disks are noticed"));
}

#[test]
fn faults_of_many_kinds_under_load() {
    let report = chaos::run(&chaos::Plan {
        nodes: 3,
        seed: rand::random(),
        duration: Duration::ZERO,
        modes: vec![
            Mode::KillLeader,
            Mode::KillMajority,
            Mode::PowerCutOne,
            Mode::PowerCut,
            Mode::PauseLeader,
            Mode::IsolateLeader,
            Mode::CutOneWay,
            Mode::Delay,
            Mode::Reset,
            Mode::ClockForward,
            Mode::WipeDirectory,
            Mode::TransferLeadership,
        ],
        recovery_max: Duration::from_secs(30),
    });
    eprintln!("{report}");
}
