//! The simulator: whole clusters in one thread, from one seed.
//! Everything that decides is the product's: the driver of the group, the node's core, the state machine, the commands, the storage with its
//! installation of snapshots, the log writer's batches, over the in-memory engine. What waits is simulated: clocks, disks, the network, the
//! threads (`machine`). `plan` says which faults a seed has, `world` lets them happen, `checks` watches Raft's properties at every step,
//! `clients` remembers what clients saw, for the linearizability checker, `counts` what happened; `finding` is what was wrong. `planted` has
//! the bugs that show that all this finds bugs.
//! A seed tells the same story every time: nothing here may depend on the machine, a hash map's order or a clock.

mod checks;
mod clients;
mod counts;
mod disk;
mod finding;
mod machine;
pub mod plan;
pub mod planted;
mod trace;
mod world;

pub use counts::Counts;
pub use finding::Finding;
use plan::Plan;
use planted::Bug;
pub use trace::Trace;
pub use world::Fault;
use world::World;

/// Who judges a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oracle {
    /// Everything that is checked.
    All,
    /// The clients alone, by what they were answered: no property of Raft, no comparison of data, no refusal of a node to start or to go on.
    Clients,
}

/// A run that is over.
pub struct Finished {
    /// What happened.
    pub counts: Counts,
    /// A number for the whole story.
    pub hash: u64,
    /// What went wrong.
    pub verdict: Result<(), Finding>,
}

impl Finished {
    /// Whether the run found what a planted bug has to be found by. Clients may see what they will of it.
    pub fn has_found(&self, bug: Bug, oracle: Oracle) -> bool {
        let is_expected = |text: &str| match oracle {
            Oracle::All => text.starts_with(bug.finding()),
            Oracle::Clients => clients::FINDINGS.iter().any(|beginning| text.starts_with(beginning)),
        };
        self.verdict.as_ref().is_err_and(|finding| is_expected(finding.text()))
    }
}

/// Runs a seed to its end and judges it.
/// # Panics
/// There is no directory for the files.
pub fn run(seed: u64, bug: Option<Bug>, oracle: Oracle, trace: Trace) -> Finished {
    let mut world = World::new(Plan::new(seed), bug, oracle, trace).expect("there is room for files");
    let ran = finding::catch(|| world.run()).map_err(Finding::from);
    let verdict = match oracle {
        Oracle::All => ran.and_then(|()| world.clients().judge()),
        // Where the run has ended, the history does; it holds for that.
        Oracle::Clients => world.clients().judge(),
    };
    Finished { counts: world.counts(), hash: world.trace.hash(), verdict }
}
