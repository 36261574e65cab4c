//! Counters and gauges of this node, and the table that names them.
//! Whoever does the counted thing adds to an atomic; INFO and the metrics endpoint read. Nothing here decides anything.
//! Invariant: a row's position in `METRICS` is its variant's value, so that a metric is an index into an array.
//! Counters never fall but for CONFIG RESETSTAT; they begin at 0 with the process. Times are microseconds.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use crate::command::CommandSpec;
use crate::command::catalogue::{address, all_named};
use histogram::{Counts, Histogram, Unit};

pub mod histogram;

/// What a metric does over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
}

/// What a metric is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The node.
    Node,
    /// A Raft group on it.
    Group,
}

/// A metric's row.
#[derive(Clone, Copy, Debug)]
pub struct MetricSpec {
    /// Which one.
    pub metric: Metric,
    /// Its name, as in INFO where Redis has it.
    pub name: &'static str,
    /// Its name for Prometheus, without `redraft_` and `_total`.
    pub exported: &'static str,
    /// What tells it from others of that name: label and value.
    pub label: Option<(&'static str, &'static str)>,
    /// What it is about.
    pub scope: Scope,
    /// Its kind.
    pub kind: MetricKind,
    /// What is counted.
    pub unit: &'static str,
    /// One sentence.
    pub text: &'static str,
}

/// The metrics without labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Connections accepted.
    TotalConnectionsReceived,
    /// Commands executed.
    TotalCommandsProcessed,
    /// Bytes read from clients.
    TotalNetInputBytes,
    /// Bytes written to clients.
    TotalNetOutputBytes,
    /// Reads from clients' sockets.
    TotalReadsProcessed,
    /// Writes to clients' sockets.
    TotalWritesProcessed,
    /// Connections refused.
    RejectedConnections,
    /// Connections refused by the admin listener.
    AdminRejectedConnections,
    /// Clients disconnected for not reading their replies.
    ClientOutputBufferLimitDisconnections,
    /// Clients disconnected for what they sent.
    ProtocolErrors,
    /// Clients connected now.
    ConnectedClients,
    /// Clients waiting in WAIT or CLIENT PAUSE now.
    BlockedClients,
    /// Keys removed because their time was up.
    ExpiredKeys,
    /// Reads that found their key.
    KeyspaceHits,
    /// Reads that did not.
    KeyspaceMisses,
    /// Error replies.
    TotalErrorReplies,
    /// Runs given to the node's write path.
    WriteRuns,
    /// Runs given to the node's read path.
    ReadRuns,
    /// Commands answered with `not executed` by the node.
    NotExecutedReplies,
    /// Commands answered with `outcome unknown`.
    UnknownOutcomeReplies,
    /// Index as of which this replica's data were digested last.
    VerifyLastIndex,
    /// Replicas that this node knows to have other data than they should.
    VerifyMismatches,
    /// Replicas that differed when this node compared them last.
    VerifyDiffering,
    /// Terms in which this node stood for election.
    Elections,
    /// Terms whose leader this node has learnt of.
    LeaderChanges,
    /// Rounds that confirmed reads.
    ReadRounds,
    /// Raft snapshots that another node has taken.
    SnapshotsSent,
    /// Raft snapshots that were installed here.
    SnapshotsReceived,
    /// Raft snapshots that could not be made or sent.
    SnapshotsFailed,
    /// Syncs of the log.
    LogSyncs,
    /// Bytes of entries written to the log.
    LogBytes,
    /// Free space where the data is.
    DiskFreeBytes,
}

/// The distributions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Times of runs of reads alone, for each command in them.
    ReadTime,
    /// Times of runs with writes, for each command in them.
    WriteTime,
    /// Commands in an entry that this node proposed.
    ProposalCommands,
    /// Times of a synced batch of the log.
    LogSyncTime,
    /// Times of applying what was committed, from one look to the next.
    ApplyTime,
}

/// A distribution's row.
#[derive(Clone, Copy, Debug)]
pub struct DistributionSpec {
    /// Which one.
    pub distribution: Distribution,
    /// Its name for Prometheus, without `redraft_`.
    pub exported: &'static str,
    /// What tells it from others of the same name.
    pub class: Option<&'static str>,
    /// What is counted.
    pub unit: Unit,
    /// One sentence.
    pub text: &'static str,
}

const fn times(distribution: Distribution, exported: &'static str, class: Option<&'static str>, text: &'static str) -> DistributionSpec {
    DistributionSpec { distribution, exported, class, unit: Unit::Microseconds, text }
}

/// How long commands take.
const COMMAND_DURATION: &str = "Times from when a command was read to its reply, of all commands of a run alike.";

/// All distributions, in the order of `Distribution`.
pub const DISTRIBUTIONS: &[DistributionSpec] = &[
    times(Distribution::ReadTime, "command_duration_seconds", Some("read"), COMMAND_DURATION),
    times(Distribution::WriteTime, "command_duration_seconds", Some("write"), COMMAND_DURATION),
    DistributionSpec {
        distribution: Distribution::ProposalCommands,
        exported: "proposal_commands",
        class: None,
        unit: Unit::Things,
        text: "Commands in an entry that this node proposed.",
    },
    times(Distribution::LogSyncTime, "log_sync_duration_seconds", None, "Times of writing a batch to the log and syncing it."),
    times(Distribution::ApplyTime, "apply_duration_seconds", None, "Times of applying a batch of committed entries."),
];

const _: () = {
    let mut index = 0;
    while index < DISTRIBUTIONS.len() {
        assert!(DISTRIBUTIONS[index].distribution as usize == index, "DISTRIBUTIONS is in the order of Distribution");
        index += 1;
    }
};

const fn counter(metric: Metric, name: &'static str, exported: &'static str, unit: &'static str, text: &'static str) -> MetricSpec {
    MetricSpec { metric, name, exported, label: None, scope: Scope::Node, kind: MetricKind::Counter, unit, text }
}

const fn gauge(metric: Metric, name: &'static str, exported: &'static str, unit: &'static str, text: &'static str) -> MetricSpec {
    MetricSpec { metric, name, exported, label: None, scope: Scope::Node, kind: MetricKind::Gauge, unit, text }
}

const fn snapshots(metric: Metric, name: &'static str, direction: &'static str) -> MetricSpec {
    let spec = counter(metric, name, "snapshots", "snapshots", "Raft snapshots: sent, received and installed, or failed.");
    MetricSpec { label: Some(("direction", direction)), ..of_group(spec) }
}

const fn of_group(spec: MetricSpec) -> MetricSpec {
    MetricSpec { scope: Scope::Group, ..spec }
}

/// All metrics, in the order of `Metric`.
pub const METRICS: &[MetricSpec] = &[
    counter(
        Metric::TotalConnectionsReceived,
        "total_connections_received",
        "connections_accepted",
        "connections",
        "Connections accepted from clients.",
    ),
    counter(Metric::TotalCommandsProcessed, "total_commands_processed", "commands_processed", "commands", "Commands executed for clients."),
    counter(Metric::TotalNetInputBytes, "total_net_input_bytes", "net_input_bytes", "bytes", "Bytes read from clients."),
    counter(Metric::TotalNetOutputBytes, "total_net_output_bytes", "net_output_bytes", "bytes", "Bytes written to clients."),
    counter(Metric::TotalReadsProcessed, "total_reads_processed", "socket_reads", "calls", "Reads from the sockets of clients."),
    counter(Metric::TotalWritesProcessed, "total_writes_processed", "socket_writes", "calls", "Writes to the sockets of clients."),
    counter(
        Metric::RejectedConnections,
        "rejected_connections",
        "connections_rejected",
        "connections",
        "Connections refused because of maxclients.",
    ),
    counter(
        Metric::AdminRejectedConnections,
        "admin_rejected_connections",
        "admin_connections_rejected",
        "connections",
        "Connections that the admin listener refused because it had as many as it takes.",
    ),
    counter(
        Metric::ClientOutputBufferLimitDisconnections,
        "client_output_buffer_limit_disconnections",
        "output_limit_disconnections",
        "connections",
        "Clients disconnected because they did not read their replies.",
    ),
    counter(
        Metric::ProtocolErrors,
        "protocol_errors",
        "protocol_errors",
        "connections",
        "Clients disconnected because they did not speak RESP.",
    ),
    gauge(Metric::ConnectedClients, "connected_clients", "connected_clients", "clients", "Clients connected now."),
    gauge(Metric::BlockedClients, "blocked_clients", "blocked_clients", "clients", "Clients that wait in WAIT or CLIENT PAUSE now."),
    counter(Metric::ExpiredKeys, "expired_keys", "expired_keys", "keys", "Keys removed because their time was up."),
    counter(Metric::KeyspaceHits, "keyspace_hits", "keyspace_hits", "keys", "Reads that found their key."),
    counter(Metric::KeyspaceMisses, "keyspace_misses", "keyspace_misses", "keys", "Reads that did not find their key."),
    counter(Metric::TotalErrorReplies, "total_error_replies", "error_replies_all", "replies", "Error replies."),
    counter(Metric::WriteRuns, "write_runs", "write_runs", "runs", "Runs of commands with at least one write."),
    counter(Metric::ReadRuns, "read_runs", "read_runs", "runs", "Runs of reads alone."),
    counter(
        Metric::NotExecutedReplies,
        "not_executed_replies",
        "not_executed_replies",
        "commands",
        "Commands that the group did not execute, for want of a leader or of room.",
    ),
    counter(
        Metric::UnknownOutcomeReplies,
        "unknown_outcome_replies",
        "unknown_outcome_replies",
        "commands",
        "Commands answered with outcome unknown.",
    ),
    of_group(gauge(
        Metric::VerifyLastIndex,
        "verify_last_index",
        "verify_last_index",
        "index",
        "Log index as of which RAFT VERIFY digested this node's data last.",
    )),
    of_group(counter(
        Metric::VerifyMismatches,
        "verify_mismatches",
        "verify_mismatches",
        "replicas",
        "Replicas that RAFT VERIFY found to differ, as this node knows by comparing them or by being one.",
    )),
    of_group(gauge(
        Metric::VerifyDiffering,
        "verify_differing",
        "verify_differing",
        "replicas",
        "Replicas that differed when this node compared them last for RAFT VERIFY.",
    )),
    of_group(counter(Metric::Elections, "elections", "elections", "elections", "Terms in which this node stood for election.")),
    of_group(counter(
        Metric::LeaderChanges,
        "leader_changes",
        "leader_changes",
        "changes",
        "Terms whose leader this node has learnt of, itself included.",
    )),
    of_group(counter(Metric::ReadRounds, "read_rounds", "read_rounds", "rounds", "Rounds that confirmed reads, as this node began them.")),
    snapshots(Metric::SnapshotsSent, "snapshots_sent", "sent"),
    snapshots(Metric::SnapshotsReceived, "snapshots_received", "received"),
    snapshots(Metric::SnapshotsFailed, "snapshots_failed", "failed"),
    counter(Metric::LogSyncs, "log_syncs", "log_syncs", "syncs", "Syncs of the log."),
    counter(Metric::LogBytes, "log_bytes", "log_bytes", "bytes", "Bytes of entries written to the log."),
    gauge(Metric::DiskFreeBytes, "disk_free_bytes", "disk_free_bytes", "bytes", "Free space where the data is."),
];

const _: () = {
    let mut index = 0;
    while index < METRICS.len() {
        assert!(METRICS[index].metric as usize == index, "METRICS is in the order of Metric");
        index += 1;
    }
};

/// How often a prefix of an error must be new before prefixes are no longer told apart: they come from our own texts, of which there are
/// few, so this is only a bound.
const ERROR_PREFIXES_MAX: usize = 128;

/// What is counted for each command.
#[derive(Debug)]
pub struct CommandMetrics {
    /// The command's name as Redis writes it, `client|list`.
    pub name: String,
    calls: AtomicU64,
    usec: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
    /// Eight counters, whatever the number of threads: to add to them once for a run costs next to nothing.
    times: Histogram,
}

/// A command's numbers at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandCounts {
    /// The command's name as Redis writes it.
    pub name: String,
    /// How often it was executed.
    pub calls: u64,
    /// For how long, in microseconds. A command in a run counts its share of the time the run took, waiting included.
    pub usec: u64,
    /// How often it was refused before it was executed.
    pub rejected: u64,
    /// How often it answered an error.
    pub failed: u64,
    /// Times from when a command was read to its reply, in microseconds.
    pub times: Counts,
}

/// The metrics of a node. Shared by all threads.
#[derive(Debug)]
pub struct Metrics {
    values: Vec<AtomicU64>,
    distributions: Vec<Histogram>,
    commands: Vec<CommandMetrics>,
    /// Commands that are none. Their names are what somebody sent, so they are not told apart.
    unknown: AtomicU64,
    /// Position in `commands` by the address of the row.
    positions: HashMap<usize, usize>,
    /// Error replies by prefix; written when a prefix is new, else read.
    errors: RwLock<BTreeMap<String, AtomicU64>>,
}

impl Metrics {
    /// All zero.
    #[must_use]
    pub fn new() -> Self {
        let commands: Vec<_> = all_named()
            .map(|row| {
                let zero = || AtomicU64::new(0);
                let times = Histogram::new(Unit::CoarseMicroseconds);
                (address(row.spec), CommandMetrics { name: row.name, calls: zero(), usec: zero(), rejected: zero(), failed: zero(), times })
            })
            .collect();
        Self {
            values: METRICS.iter().map(|_| AtomicU64::new(0)).collect(),
            distributions: DISTRIBUTIONS.iter().map(|spec| Histogram::new(spec.unit)).collect(),
            positions: commands.iter().enumerate().map(|(position, (address, _))| (*address, position)).collect(),
            commands: commands.into_iter().map(|(_, metrics)| metrics).collect(),
            unknown: AtomicU64::new(0),
            errors: RwLock::default(),
        }
    }

    /// Adds to a counter or gauge.
    pub fn add(&self, metric: Metric, count: u64) {
        self.values[metric as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// Takes from a gauge.
    pub fn subtract(&self, metric: Metric, count: u64) {
        self.values[metric as usize].fetch_sub(count, Ordering::Relaxed);
    }

    /// Sets a gauge.
    pub fn set(&self, metric: Metric, value: u64) {
        self.values[metric as usize].store(value, Ordering::Relaxed);
    }

    /// A distribution.
    #[must_use]
    pub fn distribution(&self, distribution: Distribution) -> &Histogram {
        &self.distributions[distribution as usize]
    }

    /// Adds a time that was seen so many times.
    pub fn took(&self, distribution: Distribution, elapsed: Duration, times: u64) {
        self.distribution(distribution).add(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX), times);
    }

    /// The value now.
    #[must_use]
    pub fn get(&self, metric: Metric) -> u64 {
        self.values[metric as usize].load(Ordering::Relaxed)
    }

    /// Counts executions of one command: their share of the time that was spent, and how long each waited for its reply, the run that it was
    /// in included; `None` if it was refused before that.
    pub fn executed(&self, spec: &'static CommandSpec, calls: u64, share: Duration, took: Option<Duration>) {
        let Some(command) = self.command(spec) else { return };
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        command.calls.fetch_add(calls, Ordering::Relaxed);
        command.usec.fetch_add(micros(share), Ordering::Relaxed);
        if let Some(took) = took {
            command.times.add(micros(took), calls);
        }
    }

    /// Counts an error reply of a command that was executed.
    pub fn failed(&self, spec: &'static CommandSpec) {
        if let Some(command) = self.command(spec) {
            command.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a command that was refused before it was executed.
    pub fn rejected(&self, spec: &'static CommandSpec) {
        if let Some(command) = self.command(spec) {
            command.rejected.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a command that is in no table.
    pub fn unknown(&self) {
        self.unknown.fetch_add(1, Ordering::Relaxed);
    }

    /// How many commands were in no table.
    #[must_use]
    pub fn unknown_commands(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }

    /// Counts an error reply by its first word.
    pub fn error_reply(&self, text: &str) {
        self.add(Metric::TotalErrorReplies, 1);
        let prefix = text.split(' ').next().unwrap_or(text);
        {
            let errors = self.errors.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = errors.get(prefix) {
                count.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        let mut errors = self.errors.write().unwrap_or_else(PoisonError::into_inner);
        if errors.len() < ERROR_PREFIXES_MAX {
            errors.entry(prefix.to_owned()).or_default().fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The commands that were called, refused or failed, in the order of the table.
    #[must_use]
    pub fn commands(&self) -> Vec<CommandCounts> {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = self.commands.iter().map(|command| CommandCounts {
            name: command.name.clone(),
            calls: value(&command.calls),
            usec: value(&command.usec),
            rejected: value(&command.rejected),
            failed: value(&command.failed),
            times: command.times.counts(),
        });
        counts.filter(|counts| counts.calls + counts.rejected + counts.failed > 0).collect()
    }

    /// Error replies by prefix.
    #[must_use]
    pub fn errors(&self) -> Vec<(String, u64)> {
        let errors = self.errors.read().unwrap_or_else(PoisonError::into_inner);
        errors.iter().map(|(prefix, count)| (prefix.clone(), count.load(Ordering::Relaxed))).collect()
    }

    /// CONFIG RESETSTAT: all counters back to 0. Gauges stay.
    pub fn reset(&self) {
        for spec in METRICS.iter().filter(|spec| spec.kind == MetricKind::Counter) {
            self.values[spec.metric as usize].store(0, Ordering::Relaxed);
        }
        self.distributions.iter().for_each(Histogram::reset);
        for command in &self.commands {
            for counter in [&command.calls, &command.usec, &command.rejected, &command.failed] {
                counter.store(0, Ordering::Relaxed);
            }
            command.times.reset();
        }
        self.unknown.store(0, Ordering::Relaxed);
        self.errors.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn command(&self, spec: &'static CommandSpec) -> Option<&CommandMetrics> {
        self.positions.get(&address(spec)).map(|position| &self.commands[*position])
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::table;

    #[test]
    fn rows_have_distinct_names() {
        let mut names: Vec<_> = METRICS.iter().map(|spec| spec.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
        assert!(METRICS.iter().all(|spec| spec.text.ends_with('.') && !spec.unit.is_empty()));
    }

    #[test]
    fn reset_keeps_gauges() {
        let metrics = Metrics::new();
        metrics.add(Metric::ConnectedClients, 2);
        metrics.subtract(Metric::ConnectedClients, 1);
        metrics.add(Metric::TotalCommandsProcessed, 5);
        metrics.error_reply("ERR no");
        metrics.unknown();
        assert_eq!(metrics.unknown_commands(), 1);
        metrics.reset();
        assert_eq!((metrics.get(Metric::ConnectedClients), metrics.get(Metric::TotalCommandsProcessed)), (1, 0));
        assert_eq!((metrics.errors(), metrics.commands(), metrics.unknown_commands()), (vec![], vec![], 0));
    }

    #[test]
    fn commands_are_counted_apart() {
        let metrics = Metrics::new();
        let get = table::lookup(b"get").expect("GET is in the table");
        metrics.executed(get, 3, Duration::from_micros(30), Some(Duration::from_millis(2)));
        metrics.failed(get);
        metrics.rejected(get);
        let times = Histogram::new(Unit::CoarseMicroseconds);
        times.add(2_000, 3);
        let expected = CommandCounts { name: "get".to_owned(), calls: 3, usec: 30, rejected: 1, failed: 1, times: times.counts() };
        assert_eq!(metrics.commands(), [expected]);
        metrics.reset();
        assert_eq!(metrics.commands(), []);
    }

    #[test]
    fn errors_are_counted_by_prefix() {
        let metrics = Metrics::new();
        for text in ["ERR a", "WRONGTYPE b", "ERR c", "BARE"] {
            metrics.error_reply(text);
        }
        let count = |prefix: &str, count| (prefix.to_owned(), count);
        assert_eq!(metrics.errors(), [count("BARE", 1), count("ERR", 2), count("WRONGTYPE", 1)]);
        assert_eq!(metrics.get(Metric::TotalErrorReplies), 4);
    }
}
