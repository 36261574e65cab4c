//! Compares the speed of redraft with that of redis-server; see `redraft_tests::bench`.
#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use redraft_tests::bench::measure::Pace;
use redraft_tests::bench::{Plan, run};

/// Compare redraft with redis-server; about a quarter of an hour.
#[derive(Parser)]
struct Options {
    /// One short round of some rows, in less than two minutes: figures for a look, not for a comparison.
    #[arg(long)]
    quick: bool,
    /// Rounds.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Length of a run, in seconds.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Where the figures are written, as JSON; the plots go beside it.
    #[arg(long, default_value = "target/bench.json")]
    json: PathBuf,
    /// Where the servers keep their data [default: where temporary files go].
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Show the figures in docs/benchmarks.md, too; to be run in the root of a checkout.
    #[arg(long)]
    write_docs: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let pace = if options.quick {
        Pace { rounds: 1, seconds: 1.0, quick: true }
    } else {
        Pace { rounds: usize::from(options.rounds), seconds: options.seconds, quick: false }
    };
    let plan = Plan {
        pace,
        json: options.json,
        dir: options.dir,
        docs_of: options.write_docs.then(|| PathBuf::from(".")),
        command: command_line(),
    };
    match run(&plan) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("bench: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// As it was typed, without the directory of the program.
fn command_line() -> String {
    let args: Vec<String> = std::env::args().skip(1).collect();
    format!("bench {}", args.join(" ")).trim_end().to_owned()
}
