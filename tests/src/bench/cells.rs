//! What is measured: one command in one shape on some of the servers. Not every combination, but those that say something of their own.
//! The goals are parts of redis-server's throughput in the same row and round, of a run on two cores.

use serde::Serialize;

use crate::redis::BENCHMARK_VALUE_BYTES;

/// Distinct keys of all tests but that of the counter.
pub const KEYS: u32 = 100_000;
/// Bytes of a key.
const KEY_BYTES: u32 = 16;
/// Keys of an MSET, as redis-benchmark has it.
const MSET_KEYS: u32 = 10;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Test {
    /// SET of random keys.
    Set,
    /// GET of random keys, all of which are there.
    Get,
    /// INCR of one key.
    Incr,
    /// MSET of ten random keys.
    Mset,
    /// SET and GET in turn, in one pipeline.
    Mixed,
}

impl Test {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Test::Set => "set",
            Test::Get => "get",
            Test::Incr => "incr",
            Test::Mset => "mset",
            Test::Mixed => "mixed",
        }
    }

    /// Bytes of keys and values that a command writes, on average; `None` where that is no measure of anything.
    #[must_use]
    pub fn user_bytes(self) -> Option<f64> {
        let pair = f64::from(KEY_BYTES + BENCHMARK_VALUE_BYTES);
        match self {
            Test::Set => Some(pair),
            Test::Mset => Some(pair * f64::from(MSET_KEYS)),
            Test::Mixed => Some(pair / 2.0),
            Test::Get | Test::Incr => None,
        }
    }
}

/// Where clients enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Entrance {
    /// redis-server.
    Redis,
    /// redraft on one node.
    One,
    /// The leader of redraft on three nodes.
    Leader,
    /// A follower of the same.
    Follower,
}

impl Entrance {
    /// All of them, the one to compare with first.
    pub const ALL: [Entrance; 4] = [Entrance::Redis, Entrance::One, Entrance::Leader, Entrance::Follower];

    /// What people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Entrance::Redis => "redis-server",
            Entrance::One => "redraft, one node",
            Entrance::Leader => "redraft, three nodes",
            Entrance::Follower => "redraft, a follower",
        }
    }
}

/// What is wanted of a server in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wanted {
    /// Nothing: it is left out.
    Omitted,
    /// Figures.
    Measured,
    /// This part of redis-server's throughput, at least.
    Goal(f64),
}

/// A command in a shape. redis-server is measured in every row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What is sent.
    pub test: Test,
    /// Commands per pipeline.
    pub pipeline: u32,
    /// Connections.
    pub connections: u32,
    /// Commands per second in all, where latency is measured; `None` where throughput is.
    pub rate: Option<u32>,
    /// Of one node, the leader, a follower.
    wanted: [Wanted; 3],
}

impl Row {
    /// What is wanted of a server.
    #[must_use]
    pub fn wanted(&self, entrance: Entrance) -> Wanted {
        match entrance {
            Entrance::Redis => Wanted::Measured,
            Entrance::One => self.wanted[0],
            Entrance::Leader => self.wanted[1],
            Entrance::Follower => self.wanted[2],
        }
    }

    /// Whether a quick run has it: rows with goals, and those that redis-benchmark cannot do.
    #[must_use]
    pub fn is_quick(&self) -> bool {
        let has_goal = self.wanted.iter().any(|wanted| matches!(wanted, Wanted::Goal(_)));
        has_goal || self.test == Test::Mixed || self.rate.is_some()
    }

    /// The row in words.
    #[must_use]
    pub fn name(&self) -> String {
        let (test, connections) = (self.test.name(), self.connections);
        match self.rate {
            Some(rate) => format!("{test} at {rate}/s, -c {connections}"),
            None => format!("{test} -P {} -c {connections}", self.pipeline),
        }
    }
}

const fn row(test: Test, pipeline: u32, connections: u32, wanted: [Wanted; 3]) -> Row {
    Row { test, pipeline, connections, rate: None, wanted }
}

const fn paced(test: Test, rate: u32, wanted: [Wanted; 3]) -> Row {
    Row { test, pipeline: 1, connections: 50, rate: Some(rate), wanted }
}

use Test::{Get, Incr, Mixed, Mset, Set};
use Wanted::{Goal, Measured, Omitted};

/// All rows.
pub const ROWS: &[Row] = &[
    row(Set, 1, 50, [Goal(0.9), Goal(0.5), Measured]),
    row(Set, 16, 50, [Goal(0.7), Goal(0.4), Measured]),
    row(Set, 128, 50, [Measured, Measured, Omitted]),
    row(Set, 1, 1, [Measured, Measured, Measured]),
    row(Set, 1, 500, [Measured, Measured, Omitted]),
    row(Get, 1, 50, [Goal(0.95), Goal(0.8), Goal(0.5)]),
    row(Get, 16, 50, [Goal(0.7), Goal(0.5), Measured]),
    row(Get, 128, 50, [Measured, Measured, Omitted]),
    row(Get, 1, 1, [Measured, Measured, Measured]),
    row(Get, 16, 500, [Measured, Measured, Omitted]),
    row(Incr, 1, 50, [Measured, Measured, Omitted]),
    row(Incr, 16, 50, [Goal(0.6), Goal(0.35), Omitted]),
    row(Mset, 1, 50, [Measured, Measured, Omitted]),
    row(Mset, 16, 50, [Measured, Measured, Omitted]),
    row(Mixed, 1, 50, [Measured, Measured, Omitted]),
    row(Mixed, 16, 50, [Measured, Measured, Measured]),
    paced(Set, 5_000, [Measured, Measured, Measured]),
    paced(Get, 5_000, [Measured, Measured, Measured]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_run_has_every_goal() {
        let goals = |row: &&Row| Entrance::ALL.iter().any(|entrance| matches!(row.wanted(*entrance), Goal(_)));
        assert_eq!(ROWS.iter().filter(goals).count(), 5);
        assert!(ROWS.iter().filter(goals).all(Row::is_quick));
    }

    #[test]
    fn rows_are_told_apart_by_their_names() {
        let mut names: Vec<String> = ROWS.iter().map(Row::name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ROWS.len());
    }
}
