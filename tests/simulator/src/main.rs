//! Runs seeds of the simulator: many of them side by side, or one with its story.
#![expect(clippy::print_stdout, reason = "the results are for the standard output")]

use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use clap::Parser;
use redraft_simulator::planted::Bug;
use redraft_simulator::{Counts, Finished, Oracle, Trace, run};

/// So many seeds are told once more in a process of their own.
const SEEDS_TOLD_AGAIN: u64 = 4;
/// In so many seeds every kind of fault has to happen.
const SEEDS_FOR_ALL_FAULTS: u64 = 300;
/// So many findings are shown of a planted bug that was not found by the right one.
const OTHERS_SHOWN: usize = 5;

/// Simulates clusters with faults and checks what they do.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    seed_from: u64,
    /// Run this one alone and tell its story on standard error.
    #[arg(long)]
    seed: Option<u64>,
    /// Of `seed`, print nothing but the number of its story.
    #[arg(long, requires = "seed")]
    hash: bool,
    /// Plant every known bug in turn and see that it is found within `seeds`.
    #[arg(long)]
    selftest: bool,
    /// Plant this bug.
    #[arg(long, value_parser = bug)]
    bug: Option<Bug>,
    /// Threads; by default one for each processor.
    #[arg(long)]
    threads: Option<usize>,
}

fn bug(name: &str) -> Result<Bug, String> {
    let known = Bug::ALL.into_iter().find(|bug| format!("{bug:?}").eq_ignore_ascii_case(name));
    known.ok_or_else(|| format!("known are {:?}", Bug::ALL))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.seed.filter(|_| arguments.hash) {
        println!("{:016x}", run(seed, arguments.bug, Oracle::All, Trace::default()).hash);
        return ExitCode::SUCCESS;
    }
    if let Some(seed) = arguments.seed {
        let finished = run(seed, arguments.bug, Oracle::All, Trace::told());
        eprintln!("seed {seed}: {:?}, story {:016x}: {:?}", finished.counts, finished.hash, finished.verdict.is_ok());
        return report(seed, &finished);
    }
    if arguments.selftest {
        return selftest(&arguments);
    }
    let outcome = run_many(&arguments, arguments.bug, Oracle::All);
    println!("{}", outcome.summary());
    for (seed, finished) in &outcome.failed {
        report(*seed, finished);
    }
    let gaps = outcome.gaps();
    if !gaps.is_empty() {
        println!("the seeds prove less than they should: {}", gaps.join(", "));
        return ExitCode::FAILURE;
    }
    if let Some(seed) = seed_with_two_stories(&arguments) {
        println!("seed {seed} tells another story in another process");
        return ExitCode::FAILURE;
    }
    if outcome.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A seed tells one story in every process: addresses, the order in hash maps and names of directories differ between two.
fn seed_with_two_stories(arguments: &Arguments) -> Option<u64> {
    let step = arguments.seeds.div_ceil(SEEDS_TOLD_AGAIN).max(1);
    let seeds = (arguments.seed_from..arguments.seed_from + arguments.seeds).step_by(usize::try_from(step).unwrap_or(usize::MAX));
    let told_again = |seed: u64| {
        let program = std::env::current_exe().expect("a program has a path");
        let mut command = Command::new(program);
        command.args(["--seed", &seed.to_string(), "--hash"]).args(arguments.bug.map(|bug| format!("--bug={bug:?}")));
        let output = command.output().expect("this program can be started again");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let told = |seed: u64| format!("{:016x}", run(seed, arguments.bug, Oracle::All, Trace::default()).hash);
    seeds.into_iter().find(|seed| told(*seed) != told_again(*seed))
}

fn report(seed: u64, finished: &Finished) -> ExitCode {
    match &finished.verdict {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            println!("seed {seed} failed: {problem}");
            match problem.draw() {
                Ok(files) if files.is_empty() => {}
                Ok(files) => println!("the history of seed {seed}: {files:?}"),
                Err(error) => println!("the history of seed {seed} cannot be written: {error}"),
            }
            ExitCode::FAILURE
        }
    }
}

/// What many seeds came to.
#[derive(Default)]
struct Outcome {
    seeds: u64,
    seconds: f64,
    counts: Counts,
    failed: Vec<(u64, Finished)>,
}

impl Outcome {
    fn summary(&self) -> String {
        let Counts { events, elections, answered, refused, unknown, expiry, expiry_judged, .. } = self.counts;
        let kinds: Vec<String> = self.counts.kinds().iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        format!(
            "{} seeds in {:.0} s, {} failed: {events} events, {elections} terms with a leader; requests: {answered} answered, {refused} \
             refused, {unknown} of unknown outcome; keys expire in {expiry} seeds, in {expiry_judged} with a tolerance below every time \
             to live\n{}",
            self.seeds,
            self.seconds,
            self.failed.len(),
            kinds.join(", ")
        )
    }

    /// The first seed that found a planted bug.
    fn found_by(&self, bug: Bug, oracle: Oracle) -> Option<&(u64, Finished)> {
        self.failed.iter().find(|(_, finished)| finished.has_found(bug, oracle))
    }

    /// What did not happen, or not often enough, although enough seeds went by.
    fn gaps(&self) -> Vec<String> {
        if self.seeds < SEEDS_FOR_ALL_FAULTS {
            return Vec::new();
        }
        let missing = self.counts.kinds().into_iter().filter(|(_, count)| *count == 0).map(|(kind, _)| format!("no {kind}"));
        let is_vacuous = self.counts.expiry_judged * 2 < self.seeds;
        let vacuous = is_vacuous.then(|| "the tolerance of expiry is below every time to live in too few seeds".to_owned());
        missing.chain(vacuous).collect()
    }
}

/// Runs seeds on all threads; with a planted bug only until one finds it.
fn run_many(arguments: &Arguments, bug: Option<Bug>, oracle: Oracle) -> Outcome {
    let threads = arguments.threads.or_else(|| thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
    let (next, stop) = (AtomicU64::new(arguments.seed_from), AtomicBool::new(false));
    let end = arguments.seed_from + arguments.seeds;
    let outcome = Mutex::new(Outcome::default());
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let finished = run(seed, bug, oracle, Trace::default());
                    let mut outcome = outcome.lock().expect("no holder of this lock panics");
                    outcome.seeds += 1;
                    outcome.counts += finished.counts;
                    if finished.verdict.is_err() {
                        stop.fetch_or(bug.is_some_and(|bug| finished.has_found(bug, oracle)), Ordering::Relaxed);
                        outcome.failed.push((seed, finished));
                    }
                }
            });
        }
    });
    let mut outcome = outcome.into_inner().expect("no holder of this lock panics");
    outcome.seconds = began.elapsed().as_secs_f64();
    outcome.failed.sort_by_key(|(seed, _)| *seed);
    outcome
}

/// Every planted bug must be found by what it has to be found by, and the sound version must pass its seeds.
fn selftest(arguments: &Arguments) -> ExitCode {
    println!("| planted bug | found after | by | by the clients alone |");
    println!("|---|---|---|---|");
    let mut missed = 0;
    for bug in Bug::ALL {
        let outcome = run_many(arguments, Some(bug), Oracle::All);
        let in_time = format!("{} seeds, {:.1} s", outcome.seeds, outcome.seconds);
        match outcome.found_by(bug, Oracle::All) {
            Some((seed, _)) if run(*seed, None, Oracle::All, Trace::default()).verdict.is_err() => {
                missed += 1;
                println!("| {bug:?} | seed {seed} fails **without it**, too | | |");
            }
            Some((seed, finished)) => {
                let alone = run_many(arguments, Some(bug), Oracle::Clients);
                let found = alone.found_by(bug, Oracle::Clients);
                let alone = found.map_or_else(|| "no".to_owned(), |(seed, _)| format!("{} seeds (seed {seed})", alone.seeds));
                println!("| {bug:?} | {in_time} (seed {seed}) | {} | {alone} |", beginning(finished));
            }
            None => {
                missed += 1;
                let others = outcome.failed.iter().map(|(seed, finished)| format!("seed {seed}: {}", beginning(finished)));
                let others = others.take(OTHERS_SHOWN).collect::<Vec<_>>().join("; ");
                println!("| {bug:?} | **not found** by \"{}\" in {in_time} | {others} | |", bug.finding());
            }
        }
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What was found, in a line.
fn beginning(finished: &Finished) -> String {
    let line = finished.verdict.as_ref().err().and_then(|finding| finding.text().lines().next()).unwrap_or_default();
    line.chars().take(100).collect()
}
