//! The command line of `redraft load`.
//! Invariant: options that `checked` has let through lead to a run that is bounded in time and memory, with keys that fit their length.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::distribution::Distribution;
use super::keys::KeyForm;
use super::workload::MSET_KEYS;
use crate::config::Address;

/// Bytes that the pipelines of all connections may have together.
const PIPELINES_BYTES_MAX: u64 = 4 << 30;
/// Bytes of a command beside its keys and values, at most.
const FRAME_BYTES: u64 = 64;
/// A run's length unless told otherwise, in seconds.
const SECONDS_DEFAULT: u64 = 10;
/// How many of a hundred commands of the mixed test are reads unless told otherwise.
const READS_DEFAULT: u8 = 50;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Test {
    /// SET of keys that are drawn
    Set,
    /// GET
    Get,
    /// INCR, with --keys 1 of one hot key
    Incr,
    /// MSET of ten keys
    Mset,
    /// SET and GET in one pipeline, in turn or as --reads says
    Mixed,
    /// SET of every key once, in order
    Fill,
}

impl Test {
    /// What the names of its keys begin with: as in redis-benchmark, counters do not get in the way of other values.
    pub(super) fn key_prefix(self) -> &'static str {
        match self {
            Test::Incr => "counter:",
            Test::Set | Test::Get | Test::Mset | Test::Mixed | Test::Fill => "key:",
        }
    }

    /// Its name on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Test::Set => "set",
            Test::Get => "get",
            Test::Incr => "incr",
            Test::Mset => "mset",
            Test::Mixed => "mixed",
            Test::Fill => "fill",
        }
    }
}

/// When a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// After this time.
    Time(Duration),
    /// When so many commands were sent and answered.
    Commands(u64),
}

/// What `redraft load` was told. The text of each field is what --help says.
#[derive(Args, Clone, Debug)]
pub struct LoadOptions {
    /// A server; given several times, the connections are spread over them
    #[arg(long = "address", value_name = "HOST:PORT", default_value = "127.0.0.1:6379", value_parser = address)]
    pub addresses: Vec<Address>,
    /// What is sent
    #[arg(long, value_enum, default_value_t = Test::Set)]
    pub test: Test,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub connections: u32,
    /// Commands that a connection sends before it waits for their replies
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub pipeline: u32,
    /// Distinct keys
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    pub keys: u64,
    /// Length of a key [default: 16 as in redis-benchmark, 20 for incr, more for more keys]
    #[arg(long, value_name = "BYTES", value_parser = bytes(65_536))]
    pub key_bytes: Option<usize>,
    /// Length of a value. Values are printable, and compress to about half: half of each is random, the other half repeats it
    #[arg(long, value_name = "BYTES", default_value = "100", value_parser = bytes(512 << 20))]
    pub value_bytes: usize,
    /// How often which key is asked for
    #[arg(long, value_enum, default_value_t = Distribution::Uniform)]
    pub distribution: Distribution,
    /// How many of a hundred commands of the mixed test are reads [default: 50]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub reads: Option<u8>,
    /// Length of the run [default: 10]
    #[arg(long, value_name = "N", conflicts_with = "requests", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub seconds: Option<u64>,
    /// Commands in all, in place of a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub requests: Option<u64>,
    /// Commands per second in all. Latencies then count from when a command was due, also while the connection waited for earlier replies.
    /// Without it a connection sends when it was answered
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub rate: Option<u64>,
    /// Threads of the generator
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
    /// Where chance begins: keys and values
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How long the load goes on before it counts
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub warmup: u64,
    /// Write the figures to a file, too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Add to the file what every window of so many milliseconds had, and how much too late a sleeping thread woke in it: then the machine
    /// stood still, not the server
    #[arg(long, value_name = "MILLISECONDS", requires = "json", num_args = 0..=1, require_equals = true, default_missing_value = "1000",
          value_parser = PossibleValuesParser::new(["100", "1000"]).map(|text| text.parse::<u64>().expect("one of two numbers")))]
    pub timeline: Option<u64>,
    /// No progress on standard error
    #[arg(long)]
    pub quiet: bool,
}

impl LoadOptions {
    /// The options, if they go together.
    /// # Errors
    /// They do not: one line.
    pub fn checked(self) -> Result<LoadOptions, String> {
        if let Err(needed) = KeyForm::new(self.test.key_prefix(), self.keys, self.key_bytes) {
            return Err(format!("--keys {} need --key-bytes {needed} at least", self.keys));
        }
        if self.reads.is_some() && self.test != Test::Mixed {
            return Err("--reads goes with --test mixed".to_owned());
        }
        if self.test == Test::Fill && (self.seconds.is_some() || self.requests.is_some() || self.warmup > 0) {
            return Err("--test fill writes every key once, and takes neither --seconds, --requests nor --warmup".to_owned());
        }
        let bytes = self.pipelines_bytes();
        if bytes > PIPELINES_BYTES_MAX {
            return Err(format!(
                "the pipelines of all connections would need {} MiB, more than {}",
                bytes >> 20,
                PIPELINES_BYTES_MAX >> 20
            ));
        }
        Ok(self)
    }

    /// When the run is over.
    pub(super) fn extent(&self) -> Extent {
        match (self.test, self.requests) {
            (Test::Fill, _) => Extent::Commands(self.keys),
            (_, Some(commands)) => Extent::Commands(commands),
            (_, None) => Extent::Time(Duration::from_secs(self.seconds.unwrap_or(SECONDS_DEFAULT))),
        }
    }

    /// How many of a hundred commands of the mixed test are reads.
    pub(super) fn reads_percent(&self) -> u8 {
        self.reads.unwrap_or(READS_DEFAULT)
    }

    /// An upper bound of what all connections send before they wait.
    fn pipelines_bytes(&self) -> u64 {
        let pair = self.key_bytes.unwrap_or(0) as u64 + self.value_bytes as u64 + FRAME_BYTES;
        let pairs = if self.test == Test::Mset { MSET_KEYS } else { 1 };
        pair.saturating_mul(pairs).saturating_mul(u64::from(self.pipeline)).saturating_mul(u64::from(self.connections))
    }
}

fn address(text: &str) -> Result<Address, String> {
    Address::parse(text).ok_or_else(|| "not HOST:PORT".to_owned())
}

/// A length.
fn bytes(max: u64) -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u64).range(0..=max).map(|bytes| usize::try_from(bytes).expect("below the most, which fits"))
}

#[cfg(test)]
pub(super) mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;

    fn parsed(line: &str) -> Result<LoadOptions, String> {
        let command = LoadOptions::augment_args(Command::new("load"));
        let matches = command.try_get_matches_from(std::iter::once("load").chain(line.split_whitespace()));
        let matches = matches.map_err(|error| error.to_string())?;
        LoadOptions::from_arg_matches(&matches).map_err(|error| error.to_string())?.checked()
    }

    /// The options of a command line that is right.
    pub(in crate::load) fn options(line: &str) -> LoadOptions {
        parsed(line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    #[test]
    fn what_is_not_given_has_a_default() {
        let options = options("");
        assert_eq!(options.addresses, [Address::parse("127.0.0.1:6379").expect("an address")]);
        assert_eq!((options.test, options.connections, options.pipeline, options.keys), (Test::Set, 50, 1, 100_000));
        assert_eq!((options.key_bytes, options.value_bytes, options.distribution), (None, 100, Distribution::Uniform));
        assert_eq!((options.extent(), options.rate, options.warmup), (Extent::Time(Duration::from_secs(10)), None, 0));
        assert_eq!((options.threads, options.json, options.timeline, options.quiet), (1, None, None, false));
    }

    #[test]
    fn addresses_add_up() {
        assert_eq!(options("--address a:1 --address [::1]:2").addresses.len(), 2);
    }

    #[test]
    fn a_run_has_one_extent() {
        assert_eq!(options("--requests 7").extent(), Extent::Commands(7));
        assert_eq!(options("--seconds 7").extent(), Extent::Time(Duration::from_secs(7)));
        assert_eq!(options("--test fill --keys 9").extent(), Extent::Commands(9));
    }

    #[test]
    fn windows_have_one_of_two_lengths() {
        assert_eq!(options("--json f --timeline").timeline, Some(1000));
        assert_eq!(options("--json f --timeline=100 --quiet").timeline, Some(100));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let check = |line: &str, expected: &str| {
            let error = parsed(line).expect_err(line);
            assert!(error.contains(expected), "{line}: {error}");
        };
        check("--key-bytes 8", "--keys 100000 need --key-bytes 9 at least");
        check("--reads 10", "--reads goes with --test mixed");
        check("--test mixed --reads 101", "101 is not in 0..=100");
        check("--test fill --seconds 1", "writes every key once");
        check("--test fill --warmup 1", "writes every key once");
        check("--seconds 1 --requests 1", "cannot be used with");
        check("--timeline", "--json");
        check("--json f --timeline=50", "invalid value '50'");
        check("--connections 0", "0 is not in 1..=20000");
        check("--keys 0", "0 is not in");
        check("--rate 0", "0 is not in");
        check("--address nowhere", "not HOST:PORT");
        check("--value-bytes 100000000 --pipeline 10", "would need 47683 MiB, more than 4096");
        check("--test list", "invalid value 'list'");
    }
}
