//! Compares the speed of redraft with that of `redis-server --appendonly yes --appendfsync always`, by redis-benchmark, side by side.
//! All servers run all the time, with their data below the same directory, and take their turns: A B C, A B C. An idle server costs
//! next to nothing, and what the machine does besides hits all of them alike. Every cell is the median of its rounds. How many commands a
//! run has follows from a short run before, so that every run takes about the same time.
#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use redraft_tests::client::Client;
use redraft_tests::cluster::Cluster;
use redraft_tests::dir::TestDir;
use redraft_tests::node::Node;
use redraft_tests::redis::{
    BENCHMARK_CLIENTS, BENCHMARK_KEYS, BENCHMARK_VALUE_BYTES, BenchmarkResult, BenchmarkRun, RedisServer, benchmark,
};
use resp::Value;
use serde_json::json;

/// Commands per pipeline when all keys are written before the first round.
const FILL_PIPELINE: usize = 500;

/// Compare redraft with redis-server; about four minutes.
#[derive(Parser)]
struct Options {
    /// One short round: figures for a look, not for a comparison.
    #[arg(long)]
    quick: bool,
    /// Rounds.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Length of a run, in seconds.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Where the figures are written, as JSON.
    #[arg(long, default_value = "target/bench.json")]
    json: PathBuf,
    /// Where the servers keep their data [default: where temporary files go].
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// One of the servers that are compared.
struct Subject {
    name: &'static str,
    address: SocketAddr,
    tests: &'static [&'static str],
    /// Part of redis-server's throughput that the project promises, at 1 and at 16 commands per pipeline.
    goals: Option<[f64; 2]>,
}

/// What is compared: one command at one pipeline depth on one subject.
struct Cell {
    subject: usize,
    test: &'static str,
    pipeline: u32,
    goal: Option<f64>,
    requests: u64,
    results: Vec<BenchmarkResult>,
}

impl Cell {
    fn sorted(&self, figure: impl Fn(&BenchmarkResult) -> f64) -> Vec<f64> {
        let mut figures: Vec<f64> = self.results.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures
    }

    fn median(&self, figure: impl Fn(&BenchmarkResult) -> f64) -> f64 {
        let figures = self.sorted(figure);
        figures[figures.len() / 2]
    }

    fn throughput(&self) -> f64 {
        self.median(|result| result.per_second)
    }

    /// Distance of the fastest and the slowest round, as a part of the median.
    fn spread(&self) -> f64 {
        let figures = self.sorted(|result| result.per_second);
        (figures[figures.len() - 1] - figures[0]) / self.throughput()
    }
}

fn main() -> ExitCode {
    match compare(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("bench: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn compare(options: &Options) -> Result<(), String> {
    let (rounds, seconds) = if options.quick { (1, 1.0) } else { (options.rounds.max(1), options.seconds) };
    if cfg!(debug_assertions) {
        eprintln!("bench: this is a debug build; its figures mean nothing");
    }
    let load_before = load_average();
    let dir = || options.dir.as_deref().map_or_else(TestDir::new, TestDir::below);
    let redis = RedisServer::start(dir());
    let one = Node::alone_in(dir(), &[]);
    let three = Cluster::start_in(dir(), 3, &[]);
    let (leader, followers) = (three.leader(), three.followers());
    let both: &[&str] = &["set", "get"];
    let subjects = [
        Subject { name: "redis-server", address: redis.address(), tests: both, goals: None },
        Subject { name: "redraft, one node", address: one.address(), tests: both, goals: Some([2.0 / 3.0, 0.35]) },
        Subject { name: "redraft, three nodes", address: three[leader].address(), tests: both, goals: Some([1.0 / 3.0, 0.15]) },
        Subject { name: "redraft, a follower", address: three[followers[0]].address(), tests: &["get"], goals: None },
    ];
    for subject in &subjects[..3] {
        fill(subject.address)?;
    }
    let mut cells = cells(&subjects);
    measure(&subjects, &mut cells, rounds, seconds)?;
    if three.leader_now() != Some(leader) {
        eprintln!("bench: the leader of the three nodes has changed meanwhile; their figures are not those of a leader");
    }
    print_table(&subjects, &cells, &load_before);
    write_json(options, &subjects, &cells)
}

/// Processes that wanted to run in the last minute, on average; empty if the system does not say.
fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg").ok().and_then(|text| Some(text.split_whitespace().next()?.to_owned())).unwrap_or_default()
}

/// Subjects of the same test stand together, so that they take turns.
fn cells(subjects: &[Subject]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (place, pipeline) in [1, 16].into_iter().enumerate() {
        for test in ["set", "get"] {
            for (subject, facts) in subjects.iter().enumerate().filter(|(_, facts)| facts.tests.contains(&test)) {
                let goal = facts.goals.map(|goals| goals[place]);
                cells.push(Cell { subject, test, pipeline, goal, requests: 0, results: Vec::new() });
            }
        }
    }
    cells
}

/// Writes all keys that redis-benchmark will ask for.
fn fill(address: SocketAddr) -> Result<(), String> {
    let failed = |error: redraft_tests::ClientError| format!("{address}: {error}");
    let mut client = Client::connect(address).map_err(failed)?;
    let value = "x".repeat(BENCHMARK_VALUE_BYTES as usize);
    let keys: Vec<String> = (0..BENCHMARK_KEYS).map(|number| format!("key:{number:012}")).collect();
    for batch in keys.chunks(FILL_PIPELINE) {
        let replies = client.pipeline(batch.iter().map(|key| ["SET", key, &value])).map_err(failed)?;
        if let Some(Value::Error(text)) = replies.iter().find(|reply| matches!(reply, Value::Error(_))) {
            return Err(format!("{address}: {text}"));
        }
    }
    Ok(())
}

fn measure(subjects: &[Subject], cells: &mut [Cell], rounds: usize, seconds: f64) -> Result<(), String> {
    for cell in &mut *cells {
        let mut run = BenchmarkRun { address: subjects[cell.subject].address, test: cell.test, pipeline: cell.pipeline, requests: 0 };
        run.requests = 4_000 * u64::from(cell.pipeline);
        let first = benchmark(&run)?;
        cell.requests = ((first.per_second * seconds) as u64).max(run.requests);
    }
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        for cell in &mut *cells {
            let address = subjects[cell.subject].address;
            let run = BenchmarkRun { address, test: cell.test, pipeline: cell.pipeline, requests: cell.requests };
            cell.results.push(benchmark(&run)?);
        }
    }
    Ok(())
}

/// Throughput as a part of redis-server's in the same test: the median of the rounds' ratios, since what disturbs the machine in a round
/// disturbs both.
fn ratio(cells: &[Cell], cell: &Cell) -> f64 {
    let same = |other: &&Cell| other.subject == 0 && (other.test, other.pipeline) == (cell.test, cell.pipeline);
    let reference = cells.iter().find(same).expect("redis-server runs every test");
    let pairs = cell.results.iter().zip(&reference.results);
    let mut ratios: Vec<f64> = pairs.map(|(own, other)| own.per_second / other.per_second).collect();
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

fn print_table(subjects: &[Subject], cells: &[Cell], load_before: &str) {
    println!("redis-benchmark -c {BENCHMARK_CLIENTS} -d {BENCHMARK_VALUE_BYTES} -r {BENCHMARK_KEYS}; medians of the rounds");
    println!("redis-server: --appendonly yes --appendfsync always");
    println!("load average before: {load_before}; above half a processor, something else took part");
    println!();
    println!("test  -P  {:22} {:>9} {:>7} {:>8} {:>8} {:>7} {:>6}", "server", "per s", "spread", "p50 ms", "p99 ms", "ratio", "goal");
    for cell in cells {
        let ratio = ratio(cells, cell);
        let goal = match cell.goal {
            Some(goal) if ratio >= goal => format!("{goal:>6.2} met"),
            Some(goal) => format!("{goal:>6.2} MISSED"),
            None => String::new(),
        };
        println!(
            "{:4} {:>3}  {:22} {:>9.0} {:>6.0}% {:>8.2} {:>8.2} {ratio:>7.2} {goal}",
            cell.test,
            cell.pipeline,
            subjects[cell.subject].name,
            cell.throughput(),
            cell.spread() * 100.0,
            cell.median(|result| result.p50_ms),
            cell.median(|result| result.p99_ms),
        );
    }
}

fn write_json(options: &Options, subjects: &[Subject], cells: &[Cell]) -> Result<(), String> {
    let row = |cell: &Cell| {
        json!({
            "server": subjects[cell.subject].name,
            "test": cell.test,
            "pipeline": cell.pipeline,
            "requests": cell.requests,
            "per_second": cell.results.iter().map(|result| result.per_second).collect::<Vec<_>>(),
            "per_second_median": cell.throughput(),
            "p50_ms": cell.median(|result| result.p50_ms),
            "p99_ms": cell.median(|result| result.p99_ms),
            "ratio": ratio(cells, cell),
            "goal": cell.goal,
        })
    };
    let rows: Vec<_> = cells.iter().map(row).collect();
    let text = serde_json::to_string_pretty(&rows).expect("numbers and texts always become JSON");
    let path = &options.json;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let written = parent.map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(path, text + "\n"));
    written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    println!("\nwritten: {}", path.display());
    Ok(())
}
