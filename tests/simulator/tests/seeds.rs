//! The simulator within `make test`: some seeds, the same story twice, and every planted bug. `make sim` does more.

use redraft_simulator::planted::Bug;
use redraft_simulator::{Finished, Oracle, Trace, run};

/// Seeds that every test run goes through.
const SEEDS: std::ops::Range<u64> = 0..60;
/// Seeds within which every planted bug has to be found.
const BUDGET: u64 = 300;

fn simulate(seed: u64, bug: Option<Bug>) -> Finished {
    run(seed, bug, Oracle::All, Trace::default())
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

/// The bug is found within the budget, by what it has to be found by, at a seed that is sound without it.
fn is_found(bug: Bug) {
    let found = (0..BUDGET).find(|seed| simulate(*seed, Some(bug)).has_found(bug, Oracle::All));
    let seed = found.unwrap_or_else(|| panic!("{bug:?} was not found in {BUDGET} seeds"));
    assert_eq!(simulate(seed, None).verdict, Ok(()), "seed {seed} without {bug:?}");
}

macro_rules! planted {
    ($($name:ident: $bug:ident,)*) => {
        /// One test for each, so that none takes long.
        mod planted {
            use super::*;
            $(#[test] fn $name() { is_found(Bug::$bug); })*

            #[test]
            fn every_bug_has_its_test() {
                assert_eq!([$(Bug::$bug),*], Bug::ALL);
            }
        }
    };
}

planted! {
    ack_before_sync: AckBeforeSync,
    applied_apart: AppliedApart,
    read_without_round: ReadWithoutRound,
    reused_read_context: ReusedReadContext,
    truncate_before_sync: TruncateBeforeSync,
    forward_twice: ForwardTwice,
    local_clock: LocalClock,
    vote_in_memory: VoteInMemory,
    half_snapshot: HalfSnapshot,
    reused_node_id: ReusedNodeId,
    lost_configuration: LostConfiguration,
    nondeterministic_apply: NondeterministicApply,
    early_votes: EarlyVotes,
    short_log_accepted: ShortLogAccepted,
    old_members: OldMembers,
}
