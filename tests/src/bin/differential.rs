//! Random commands, compared with the real redis-server; see `redraft_tests::differential`.
#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use redraft_tests::differential::{DIFFERENCES, Plan, run};

/// Send random commands to redis-server and to redraft; both must answer the same. A seed that failed is replayed with `--commands 1`.
#[derive(Parser)]
struct Options {
    /// How many commands at least.
    #[arg(long, default_value_t = 1_000_000)]
    commands: u64,
    /// Seed of the first sequence.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Go on until so many sequences have failed.
    #[arg(long, default_value_t = 1)]
    mismatches: usize,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let began = Instant::now();
    let report = run(&Plan { commands: options.commands, seed: options.seed, mismatches_max: options.mismatches });
    for (entry, uses) in DIFFERENCES.iter().zip(&report.uses) {
        println!("{:>8} x {}: {}", uses, entry.command, entry.documented);
    }
    let problems = report.problems();
    println!(
        "{} commands in {} sequences from seed {}, {:.0?}: {} problems",
        report.commands,
        report.sequences,
        options.seed,
        began.elapsed(),
        problems.len()
    );
    problems.iter().for_each(|problem| println!("\n{problem}"));
    if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
