//! The simulator within `make test`: some seeds, the same story twice, and every planted bug. `make sim` does more.

use redraft_simulator::planted::Bug;
use redraft_simulator::{Finished, Trace, run};

/// Seeds that every test run goes through.
const SEEDS: std::ops::Range<u64> = 0..60;
/// Seeds within which every planted bug has to be found.
const BUDGET: u64 = 300;

fn simulate(seed: u64, bug: Option<Bug>) -> Finished {
    run(seed, bug, Trace::default())
}

#[test]
fn all_seeds_keep_their_promises() {
    for seed in SEEDS {
        let finished = simulate(seed, None);
        assert_eq!(finished.verdict, Ok(()), "seed {seed}; `make sim SEED={seed}` tells its story");
    }
}

#[test]
fn a_seed_tells_the_same_story_every_time() {
    for seed in (SEEDS.start..SEEDS.end).step_by(6) {
        assert_eq!(simulate(seed, None).hash, simulate(seed, None).hash, "seed {seed}");
    }
}

#[test]
fn planted_bugs_are_found() {
    for bug in Bug::ALL {
        assert!((0..BUDGET).any(|seed| simulate(seed, Some(bug)).verdict.is_err()), "{bug:?} was not found in {BUDGET} seeds");
    }
}
