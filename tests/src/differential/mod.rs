//! The differential test: random commands go to redis-server and to redraft, and both must say the same, byte for byte.
//! A run is sequences of some hundred commands from consecutive seeds, each on empty databases, over connections of both protocols and in
//! pipelines of every length. Which commands there are the server itself says. After each sequence the contents are compared.
//! A sequence on which the servers disagree is made small and shown with its seed. `differences` has what may differ.

mod arguments;
mod compare;
mod differences;
mod generators;
mod sequence;
mod servers;
mod shrink;
mod wire;

use std::fmt::{self, Display};
use std::net::SocketAddr;

use bytes::Bytes;

pub use differences::{DIFFERENCES, Difference};
pub use servers::Disagreement;
use servers::Servers;

use crate::client::{Client, elements, text};
use crate::dir::TestDir;
use crate::node::Node;
use crate::redis::RedisServer;

/// Commands after which an entry of `DIFFERENCES` that was not needed is not needed at all.
pub const STALE_AFTER_COMMANDS: u64 = 100_000;
/// How often a failing sequence is tried again in order to make it small.
const SHRINK_TRIES: usize = 1_000;
/// The longest value that redraft takes. Redis would take eight times that.
const STRING_BYTES_MAX: &str = "64mb";

/// A run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Commands at least; the last sequence is played to its end.
    pub commands: u64,
    /// Seed of the first sequence; the next has the next number.
    pub seed: u64,
    /// The run ends after so many sequences on which the servers disagree.
    pub mismatches_max: usize,
}

/// A sequence on which the servers disagree.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// Its seed.
    pub seed: u64,
    /// Where they first disagreed.
    pub first: Disagreement,
    /// What is left of the sequence, and where they disagree on that; none if they did not disagree a second time.
    pub small: Option<(String, Disagreement)>,
}

/// What a run found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Commands that were sent to both.
    pub commands: u64,
    /// Sequences.
    pub sequences: u64,
    /// How often each entry of `DIFFERENCES` was needed.
    pub uses: Vec<u64>,
    /// Sequences on which the servers disagree.
    pub mismatches: Vec<Mismatch>,
    /// Commands without a generator, and generators without a command.
    pub uncovered: Vec<String>,
}

impl Report {
    /// All that is wrong, one text each.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.mismatches.iter().map(Mismatch::to_string).collect();
        problems.extend(self.uncovered.iter().cloned());
        if self.commands >= STALE_AFTER_COMMANDS {
            let unused = DIFFERENCES.iter().zip(&self.uses).filter(|(_, uses)| **uses == 0);
            problems.extend(unused.map(|(entry, _)| format!("{}: no difference any more: {}", entry.command, entry.documented)));
        }
        problems
    }
}

/// Starts both servers and compares them.
/// # Panics
/// A server does not start.
#[must_use]
pub fn run(plan: &Plan) -> Report {
    let redis = reference(&[]);
    let node = Node::alone(&[]);
    let uncovered = generators::missing(&commands_of(&mut node.client()));
    Report { uncovered, ..compare(plan, redis.address(), node.address()) }
}

/// Redis with redraft's limit on the length of values, and with more options as flags.
/// # Panics
/// It does not start.
#[must_use]
pub fn reference(options: &[&str]) -> RedisServer {
    RedisServer::start_without_persistence(TestDir::new(), &[&["--proto-max-bulk-len", STRING_BYTES_MAX], options].concat())
}

/// Plays sequences to a server that is right and to one that is to be judged.
#[must_use]
pub fn compare(plan: &Plan, redis: SocketAddr, redraft: SocketAddr) -> Report {
    let mut servers = Servers::new(redis, redraft);
    let mut report = Report::default();
    while report.commands < plan.commands && report.mismatches.len() < plan.mismatches_max {
        let seed = plan.seed + report.sequences;
        let steps = sequence::generate(seed);
        report.sequences += 1;
        match servers.play(&steps) {
            Ok(commands) => report.commands += commands,
            Err(first) => {
                let small = shrink::shrink(steps, SHRINK_TRIES, |rest| servers.play(rest).is_err());
                let again = servers.play(&small).err();
                let small = again.map(|disagreement| (small.iter().map(ToString::to_string).collect(), disagreement));
                report.mismatches.push(Mismatch { seed, first, small });
            }
        }
    }
    report.uses = servers.uses;
    report
}

/// All commands of a server, subcommands included.
fn commands_of(client: &mut Client) -> Vec<String> {
    elements(client.must(&[Bytes::from_static(b"COMMAND"), Bytes::from_static(b"LIST")])).iter().map(text).collect()
}

impl Display for Disagreement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "asked    {}\n  redis    {}\n  redraft  {}", self.asked, self.redis, self.redraft)
    }
}

impl Display for Mismatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "seed {}", self.seed)?;
        match &self.small {
            Some((steps, disagreement)) => {
                writeln!(formatter, "{disagreement}")?;
                writeln!(formatter, "after (connection, `|` for what goes with the line above):\n{steps}")
            }
            None => writeln!(formatter, "{}\nonce only: the sequence did not fail again", self.first),
        }
    }
}
