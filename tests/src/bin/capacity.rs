//! How much redraft holds, how evenly it answers, how far it scales, how soon it is back; see `redraft_tests::capacity`.
#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use redraft_tests::capacity::filling::Values;
use redraft_tests::capacity::{Part, Place, Plan, dataset, joining, restart, run, scale, stalls};

/// Measure how much redraft holds, how evenly it answers, how far it scales, and how soon it is back; about an hour.
#[derive(Parser)]
struct Options {
    /// The part to measure [default: all]
    #[arg(value_enum)]
    part: Option<Part>,
    /// Bytes of all values, in GiB [default: 8 for dataset, 4 for recovery]
    #[arg(long)]
    gib: Option<f64>,
    /// Bytes of a value of dataset
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=8 << 20))]
    value_bytes: u32,
    /// Memory that the node of dataset is meant to need, in MiB
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(32..))]
    budget_mib: u64,
    /// How well the values of dataset and recovery compress
    #[arg(long, value_enum, default_value_t = Values::Half)]
    values: Values,
    /// Length of a load [default: 60 for dataset and recovery, 180 for the capacity of stalls, 10 for scale]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,
    /// Minutes of stalls
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=240))]
    minutes: u64,
    /// Length of such a minute, in seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    minute_seconds: u64,
    /// Keys [default: 1000000 for stalls, up to 10000000 for scale and recovery]
    #[arg(long, value_parser = clap::value_parser!(u64).range(10_000..=1_000_000_000))]
    keys: Option<u64>,
    /// Most connections of scale
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=9000))]
    connections_max: u32,
    /// Largest value of scale, in bytes
    #[arg(long, default_value_t = 8 << 20)]
    value_bytes_max: u64,
    /// Size at which the log of recovery is truncated, in MiB
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..))]
    log_mib: u64,
    /// Where the files of figures go, one for each part.
    #[arg(long, default_value = "target/capacity")]
    out: PathBuf,
    /// Where the nodes keep their data [default: where temporary files go]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Succeed also if a mark does not hold.
    #[arg(long)]
    no_marks: bool,
}

impl Options {
    fn plan(&self) -> Plan {
        let bytes = |gib_default: f64| (self.gib.unwrap_or(gib_default).max(0.0) * f64::from(1 << 30)) as u64;
        let seconds = |default: u64| self.seconds.unwrap_or(default);
        let keys = |default: u64| self.keys.unwrap_or(default);
        Plan {
            parts: self.part.map_or_else(|| Part::ALL.to_vec(), |part| vec![part]),
            dataset: dataset::Plan {
                bytes: bytes(8.0),
                value_bytes: self.value_bytes as usize,
                values: self.values,
                budget_bytes: self.budget_mib << 20,
                seconds: seconds(60),
            },
            stalls: stalls::Plan {
                keys: keys(1_000_000),
                minutes: self.minutes,
                minute_seconds: self.minute_seconds,
                seconds: seconds(180),
            },
            scale: scale::Plan {
                connections_max: self.connections_max,
                value_bytes_max: self.value_bytes_max,
                keys_max: keys(10_000_000),
                seconds: seconds(10),
            },
            restart: restart::Plan { keys: keys(10_000_000), log_bytes_max: self.log_mib << 20 },
            joining: joining::Plan { bytes: bytes(4.0), values: self.values, seconds: seconds(60) },
            place: Place::new(self.dir.clone()),
            out: self.out.clone(),
            command: command_line(),
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options.plan(), |text| print!("{text}")) {
        Ok(all_hold) if all_hold || options.no_marks => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("capacity: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// As it was typed, without the directory of the program.
fn command_line() -> String {
    let args: Vec<String> = std::env::args().skip(1).collect();
    format!("capacity {}", args.join(" ")).trim_end().to_owned()
}
