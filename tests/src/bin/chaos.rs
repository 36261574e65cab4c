//! Deals all faults to a cluster under load for some minutes, and checks all promises; see `redraft_tests::campaign::chaos`.
#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::time::Duration;

use clap::Parser;
use redraft_tests::campaign::chaos::{Mode, Plan, run};

/// What the project promises: so long after the last fault every node serves.
const RECOVERY_MAX: Duration = Duration::from_secs(10);

/// Disturb a cluster in every way; nothing acknowledged may be lost, no reply wrong.
#[derive(Parser)]
struct Options {
    /// How long; the first deck is dealt to its end in any case.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Decides what is dealt; drawn if it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Members, three to five.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(3..=5))]
    nodes: u64,
    /// Words of the modes to deal, such as `clock` or `damage`; all modes if there are none.
    #[arg(long)]
    only: Vec<String>,
}

fn main() {
    let options = Options::parse();
    let is_wanted = |mode: &Mode| options.only.is_empty() || options.only.iter().any(|word| mode.name().contains(word.as_str()));
    let plan = Plan {
        nodes: usize::try_from(options.nodes).expect("three to five"),
        seed: options.seed.unwrap_or_else(|| u64::from(rand::random::<u32>())),
        duration: Duration::from_secs_f64(options.minutes * 60.0),
        modes: Mode::ALL.into_iter().filter(is_wanted).collect(),
        recovery_max: RECOVERY_MAX,
    };
    assert!(!plan.modes.is_empty(), "no mode has any of these words: {:?}", options.only);
    let report = run(&plan);
    println!("{report}");
    println!("all promises were kept: seed {}, {} nodes", plan.seed, plan.nodes);
}
