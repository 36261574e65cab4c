//! Damages every kind of file in every way; see `redraft_tests::campaign::damage`.
#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use clap::Parser;
use redraft_tests::campaign::damage::{Case, Harm, Outcome, Plan, run};
use redraft_tests::damage::Kind;

/// Damage the files of a stopped node; it must answer right, refuse to start, or stop.
#[derive(Parser)]
struct Options {
    /// What chooses the files and places.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How often each case is tried, at other places.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Tell what the node said in every case.
    #[arg(long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let plan = Plan { seed: options.seed, cases: None, rounds: options.rounds, look_again: true };
    let cases = run(&plan, |case| {
        if options.verbose || case.outcome.is_err() {
            println!("{:<14} {:<12} {:?} {}", case.kind, case.harm, case.outcome, case.said);
        }
    });
    print_table(&cases);
    let wrong = cases.iter().filter(|case| case.outcome.is_err()).count();
    println!("{} cases, seed {}: {wrong} went wrong", cases.len(), options.seed);
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A row for every kind of file, a column for every harm; in a field, what came of it in all rounds.
fn print_table(cases: &[Case]) {
    let mut fields: BTreeMap<(Kind, Harm), BTreeSet<String>> = BTreeMap::new();
    for case in cases {
        let outcome = case.outcome.as_ref().map_or_else(|_| "WRONG".to_owned(), Outcome::to_string);
        fields.entry((case.kind, case.harm)).or_default().insert(outcome);
    }
    let row = |first: &str, rest: Vec<String>| println!("| {first} | {} |", rest.join(" | "));
    row("file", Harm::all().map(|harm| harm.to_string()).collect());
    row("---", Harm::all().map(|_| "---".to_owned()).collect());
    for kind in fields.keys().map(|(kind, _)| *kind).collect::<BTreeSet<_>>() {
        let field = |harm| fields.get(&(kind, harm)).map_or_else(String::new, |set| set.iter().cloned().collect::<Vec<_>>().join(", "));
        row(&format!("`{kind}`"), Harm::all().map(field).collect());
    }
}
