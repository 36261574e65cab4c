//! The table of options: the only place for an option's facts.
//! From a row follow its flag (`--data-dir`), its environment variable (`REDRAFT_DATA_DIR`), its key in the file (`data-dir`), its name in
//! `CONFIG GET` and `CONFIG SET`, its lines in `--help`, `docs/configuration.md` and the example file.
//! Names are Redis's where Redis has the option. Defaults are written as an operator would write them and pass the row's own kind.

use super::kind::{Kind, Unit};

/// When an option's value may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Fixed from the start of the process.
    AtStart,
    /// `CONFIG SET` changes it, on this node, until the process ends.
    AtRunTime,
    /// Fixed, and meant for one start: taken from a flag alone, since a file or the environment would repeat it at every start.
    OneStart,
    /// Never: reported for tools that ask for it, and cannot be set anywhere.
    Never,
}

/// The part of `--help` and of the documentation in which an option stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// What the node is and where it keeps its data.
    Node,
    /// Where the node listens and what it tells others.
    Addresses,
    /// How the group agrees.
    Replication,
    /// Memory and disk.
    Storage,
    /// What clients may do.
    Clients,
    /// What is written to the log.
    Logging,
    /// What Redis's tools ask for.
    Compatibility,
}

impl Section {
    /// All sections in the order of the documentation.
    pub const ALL: [Self; 7] =
        [Self::Node, Self::Addresses, Self::Replication, Self::Storage, Self::Clients, Self::Logging, Self::Compatibility];

    /// Heading of the section.
    #[must_use]
    pub const fn heading(self) -> &'static str {
        match self {
            Self::Node => "Node and cluster",
            Self::Addresses => "Addresses",
            Self::Replication => "Replication",
            Self::Storage => "Storage",
            Self::Clients => "Clients",
            Self::Logging => "Logging",
            Self::Compatibility => "Reported for compatibility",
        }
    }
}

/// An option's row.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    /// Lower-case name with hyphens.
    pub name: &'static str,
    /// Where it is documented.
    pub section: Section,
    /// What values it takes, with bounds and unit.
    pub kind: Kind,
    /// The value when no source gives one, as text.
    pub default: &'static str,
    /// When it may change.
    pub change: Change,
    /// One or two sentences for `--help` and the documentation.
    pub text: &'static str,
}

impl OptionSpec {
    /// Name of the environment variable.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("REDRAFT_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }
}

const KB: u64 = 1 << 10;
const MB: u64 = 1 << 20;
const GB: u64 = 1 << 30;

const fn bytes(min: u64, max: u64) -> Kind {
    Kind::Number { min, max, unit: Unit::Bytes }
}

const fn milliseconds(min: u64, max: u64) -> Kind {
    Kind::Number { min, max, unit: Unit::Milliseconds }
}

const fn seconds(min: u64, max: u64) -> Kind {
    Kind::Number { min, max, unit: Unit::Seconds }
}

const fn count(min: u64, max: u64) -> Kind {
    Kind::Number { min, max, unit: Unit::Plain }
}

/// All options, by section.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "data-dir",
        section: Section::Node,
        kind: Kind::Path,
        default: "./redraft-data",
        change: Change::AtStart,
        text: "Directory of everything the node stores. It belongs to one node of one cluster and is locked while the node runs.",
    },
    OptionSpec {
        name: "bootstrap",
        section: Section::Node,
        kind: Kind::Flag,
        default: "no",
        change: Change::AtStart,
        text: "Let an empty directory become a new cluster of one node. Not needed when every listener is a loopback address and neither \
               join nor cluster-id is given. Without effect on a directory that has data.",
    },
    OptionSpec {
        name: "bootstrap-expect",
        section: Section::Node,
        kind: count(0, 99),
        default: "0",
        change: Change::AtStart,
        text: "Form a new cluster as soon as this many empty nodes, all started with the same join list, see each other; an empty node that \
               meets a formed cluster joins it instead. 0 is off.",
    },
    OptionSpec {
        name: "join",
        section: Section::Node,
        kind: Kind::Addresses,
        default: "",
        change: Change::AtStart,
        text: "Peer addresses of nodes to join; may be given several times. A node that is already a member uses them to find the others.",
    },
    OptionSpec {
        name: "cluster-id",
        section: Section::Node,
        kind: Kind::ClusterId,
        default: "",
        change: Change::AtStart,
        text: "The cluster this node must belong to. With it, an empty directory never forms a new cluster.",
    },
    OptionSpec {
        name: "rejoin",
        section: Section::Node,
        kind: Kind::Flag,
        default: "no",
        change: Change::OneStart,
        text: "Set aside the data of a node that was removed from its cluster, or is damaged, and join again as a new node. It is added to \
               the flags that the node always has: bootstrap and bootstrap-expect are ignored then, and if join names nobody else, the node \
               asks the members that its data remember. It does so at every start at which it is given, so it is taken as a flag only: \
               give it for one start.",
    },
    OptionSpec {
        name: "listen",
        section: Section::Addresses,
        kind: Kind::Address,
        default: "127.0.0.1:6379",
        change: Change::AtStart,
        text: "Where clients connect with Redis's protocol.",
    },
    OptionSpec {
        name: "peer-listen",
        section: Section::Addresses,
        kind: Kind::Address,
        default: "127.0.0.1:16379",
        change: Change::AtStart,
        text: "Where the other nodes connect. Anything but a loopback address needs a peer-secret.",
    },
    OptionSpec {
        name: "admin-listen",
        section: Section::Addresses,
        kind: Kind::Address,
        default: "127.0.0.1:8379",
        change: Change::AtStart,
        text: "Where health checks and metrics are served over HTTP.",
    },
    OptionSpec {
        name: "advertise",
        section: Section::Addresses,
        kind: Kind::OptionalAddress,
        default: "",
        change: Change::AtStart,
        text: "The address that clients are told; empty is the address of listen. Must be given when listen names every interface.",
    },
    OptionSpec {
        name: "advertise-peer",
        section: Section::Addresses,
        kind: Kind::OptionalAddress,
        default: "",
        change: Change::AtStart,
        text: "The address that other nodes are told; empty is the address of peer-listen. Must be given when peer-listen names every \
               interface.",
    },
    OptionSpec {
        name: "advertise-admin",
        section: Section::Addresses,
        kind: Kind::OptionalAddress,
        default: "",
        change: Change::AtStart,
        text: "The admin address that others are told; empty is the address of admin-listen. Must be given when admin-listen names every \
               interface.",
    },
    OptionSpec {
        name: "admin-hosts",
        section: Section::Addresses,
        kind: Kind::HostNames,
        default: "",
        change: Change::AtStart,
        text: "Further host names by which requests over HTTP may name this node, as those of a service or of a proxy; may be given several \
               times. Without a requirepass, requests that name another host are refused.",
    },
    OptionSpec {
        name: "peer-secret",
        section: Section::Addresses,
        kind: Kind::Secret,
        default: "",
        change: Change::AtStart,
        text: "Secret shared by all nodes of the cluster; each proves that it knows it before it may speak. Prefer the environment or the \
               file to the flag, which every user of the machine can see.",
    },
    OptionSpec {
        name: "replication-factor",
        section: Section::Replication,
        kind: count(1, 9),
        default: "3",
        change: Change::AtStart,
        text: "How many nodes vote and hold a copy that writes wait for; odd. Further nodes replicate without a vote and stand in for voters \
               that are removed.",
    },
    OptionSpec {
        name: "replace-after",
        section: Section::Replication,
        kind: seconds(0, 31_536_000),
        default: "600",
        change: Change::AtStart,
        text: "Seconds that a voter may be gone before a learner that has caught up takes its place, so that the replication factor is \
               restored without anybody; it is a learner itself then, should it come back. Absences add up until it has stayed for a \
               tenth of that. 0 is never.",
    },
    OptionSpec {
        name: "election-timeout",
        section: Section::Replication,
        kind: milliseconds(100, 60_000),
        default: "1000",
        change: Change::AtStart,
        text: "How long a follower hears nothing from the leader before it asks for votes; each wait is between this and twice this. At \
               least three heartbeat intervals.",
    },
    OptionSpec {
        name: "heartbeat-interval",
        section: Section::Replication,
        kind: milliseconds(10, 10_000),
        default: "100",
        change: Change::AtStart,
        text: "How often an idle leader makes itself heard.",
    },
    OptionSpec {
        name: "clock-skew-max",
        section: Section::Replication,
        kind: milliseconds(10, 600_000),
        default: "500",
        change: Change::AtStart,
        text: "How far a leader's clock may be from the median of its peers, of two at least, before it stamps by theirs and hands leadership over.",
    },
    OptionSpec {
        name: "max-entry-bytes",
        section: Section::Replication,
        kind: bytes(64 * KB, 64 * MB),
        default: "1mb",
        change: Change::AtStart,
        text: "A log entry takes no further command at this size; a larger single command travels alone.",
    },
    OptionSpec {
        name: "max-entry-commands",
        section: Section::Replication,
        kind: count(1, 65_536),
        default: "4096",
        change: Change::AtStart,
        text: "A log entry takes no further command at this number.",
    },
    OptionSpec {
        name: "request-timeout",
        section: Section::Replication,
        kind: milliseconds(100, 600_000),
        default: "5000",
        change: Change::AtRunTime,
        text: "How long a command may wait for a leader or a majority. After that it is answered with an error that says whether it may have \
               been executed.",
    },
    OptionSpec {
        name: "readonly-reads",
        section: Section::Replication,
        kind: Kind::Choice(&["linearizable", "local"]),
        default: "linearizable",
        change: Change::AtRunTime,
        text: "What reads on a connection see after READONLY: every acknowledged write, or what this node has applied, which may be old.",
    },
    OptionSpec {
        name: "raft-log-bytes-max",
        section: Section::Storage,
        kind: bytes(MB, 1024 * GB),
        default: "256mb",
        change: Change::AtStart,
        text: "The Raft log is truncated when it grows beyond this. A node that falls further behind is sent a snapshot.",
    },
    OptionSpec {
        name: "snapshot-chunk-bytes",
        section: Section::Storage,
        kind: bytes(16 * KB, 16 * MB),
        default: "1mb",
        change: Change::AtStart,
        text: "Size of the pieces in which a Raft snapshot is sent.",
    },
    OptionSpec {
        name: "block-cache-bytes",
        section: Section::Storage,
        kind: bytes(MB, 1024 * GB),
        default: "256mb",
        change: Change::AtStart,
        text: "Memory for blocks read from disk. The larger part of the node's memory budget.",
    },
    OptionSpec {
        name: "memtable-bytes",
        section: Section::Storage,
        kind: bytes(4 * MB, 64 * GB),
        default: "256mb",
        change: Change::AtStart,
        text: "Memory for writes that are not yet in files, over all column families.",
    },
    OptionSpec {
        name: "disk-reserve",
        section: Section::Storage,
        kind: bytes(0, 1024 * GB),
        default: "512mb",
        change: Change::AtRunTime,
        text: "Commands that add data are refused while the disk has less free space than this. 0 is off.",
    },
    OptionSpec {
        name: "requirepass",
        section: Section::Clients,
        kind: Kind::Secret,
        default: "",
        change: Change::AtRunTime,
        text: "Password that clients must give with AUTH or HELLO; empty is none. CONFIG GET does not show it.",
    },
    OptionSpec {
        name: "protected-mode",
        section: Section::Clients,
        kind: Kind::Flag,
        default: "yes",
        change: Change::AtRunTime,
        text: "Refuse clients from other machines as long as no password is set.",
    },
    OptionSpec {
        name: "maxclients",
        section: Section::Clients,
        kind: count(1, 1_000_000),
        default: "10000",
        change: Change::AtRunTime,
        text: "How many clients may be connected; the next one gets an error and is disconnected.",
    },
    OptionSpec {
        name: "timeout",
        section: Section::Clients,
        kind: seconds(0, 2_147_483_647),
        default: "0",
        change: Change::AtRunTime,
        text: "A client that is idle for longer is disconnected. 0 is never.",
    },
    OptionSpec {
        name: "tcp-keepalive",
        section: Section::Clients,
        kind: seconds(0, 2_147_483_647),
        default: "300",
        change: Change::AtRunTime,
        text: "How often TCP asks whether an idle client is still there; for connections accepted from then on. 0 is never.",
    },
    OptionSpec {
        name: "proto-max-bulk-len",
        section: Section::Clients,
        kind: bytes(MB, 512 * MB),
        default: "64mb",
        change: Change::AtRunTime,
        text: "Longest single argument. A longer one is a protocol error: the client is disconnected.",
    },
    OptionSpec {
        name: "client-query-buffer-limit",
        section: Section::Clients,
        kind: bytes(MB, 16 * GB),
        default: "128mb",
        change: Change::AtRunTime,
        text: "How much a client may have sent of commands that are not yet complete; beyond it the client is disconnected.",
    },
    OptionSpec {
        name: "client-output-buffer-limit",
        section: Section::Clients,
        kind: bytes(MB, 16 * GB),
        default: "64mb",
        change: Change::AtRunTime,
        text: "How much may wait to be read by a client; beyond it the client is disconnected. One hard limit for every client, unlike \
               Redis's triples.",
    },
    OptionSpec {
        name: "notify-keyspace-events",
        section: Section::Clients,
        kind: Kind::EventClasses,
        default: "",
        change: Change::AtRunTime,
        text: "Accepted and reported as in Redis; events are not published yet.",
    },
    OptionSpec {
        name: "slowlog-log-slower-than",
        section: Section::Logging,
        kind: count(0, 1_000_000_000),
        default: "100000",
        change: Change::AtRunTime,
        text: "Microseconds from reading a command to its reply from which on it enters the slow log. In Redis it is execution alone that \
               counts, here the log and the network are in it.",
    },
    OptionSpec {
        name: "slowlog-max-len",
        section: Section::Logging,
        kind: count(0, 10_000),
        default: "128",
        change: Change::AtRunTime,
        text: "Most entries of the slow log, which lives in memory.",
    },
    OptionSpec {
        name: "log-level",
        section: Section::Logging,
        kind: Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
        default: "info",
        change: Change::AtRunTime,
        text: "Least weighty messages written to standard error.",
    },
    OptionSpec {
        name: "databases",
        section: Section::Compatibility,
        kind: Kind::Reported,
        default: "16",
        change: Change::Never,
        text: "Number of databases that SELECT takes.",
    },
    OptionSpec {
        name: "save",
        section: Section::Compatibility,
        kind: Kind::Reported,
        default: "",
        change: Change::Never,
        text: "There are no RDB files.",
    },
    OptionSpec {
        name: "appendonly",
        section: Section::Compatibility,
        kind: Kind::Reported,
        default: "yes",
        change: Change::Never,
        text: "Every write is logged; the log is Raft's.",
    },
    OptionSpec {
        name: "appendfsync",
        section: Section::Compatibility,
        kind: Kind::Reported,
        default: "always",
        change: Change::Never,
        text: "A write is on the disks of a majority before it is acknowledged.",
    },
    OptionSpec {
        name: "maxmemory",
        section: Section::Compatibility,
        kind: Kind::Reported,
        default: "0",
        change: Change::Never,
        text: "Data is bounded by the disk, memory by block-cache-bytes and memtable-bytes.",
    },
    OptionSpec {
        name: "maxmemory-policy",
        section: Section::Compatibility,
        kind: Kind::Reported,
        default: "noeviction",
        change: Change::Never,
        text: "Nothing is evicted.",
    },
    OptionSpec {
        name: "replica-read-only",
        section: Section::Compatibility,
        kind: Kind::Reported,
        default: "no",
        change: Change::Never,
        text: "Every node takes writes.",
    },
    OptionSpec {
        name: "slave-read-only",
        section: Section::Compatibility,
        kind: Kind::Reported,
        default: "no",
        change: Change::Never,
        text: "The older name of replica-read-only.",
    },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_row_is_well_formed() {
        let mut names = HashSet::new();
        for row in OPTIONS {
            assert!(names.insert(row.name), "{} stands twice", row.name);
            assert!(row.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", row.name);
            assert!(row.text.ends_with('.'), "{}", row.name);
            assert!(row.kind.parse(row.default).is_ok(), "the default of {} is not {}", row.name, row.kind.allowed());
            assert_eq!(row.change == Change::Never, row.section == Section::Compatibility, "{}", row.name);
            assert_eq!(row.change == Change::Never, row.kind == Kind::Reported, "{}", row.name);
            if let Kind::Number { min, max, .. } = row.kind {
                assert!(min < max, "{}", row.name);
            }
        }
    }

    #[test]
    fn rows_of_a_section_stand_together() {
        let mut order: Vec<Section> = OPTIONS.iter().map(|row| row.section).collect();
        order.dedup();
        assert_eq!(order, Section::ALL);
    }
}
