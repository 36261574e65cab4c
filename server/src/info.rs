//! What INFO says: Redis's sections and field names, and a section `raft` of our own.
//! Pure: facts in, text out. Fields are those that tools read (see `redis_version`, `role`, `loading`, `maxmemory_policy`, `dbN`); a field
//! for something redraft does not have is there with Redis's value for "none" where a tool asks for it, and absent otherwise.
//! Source: `genRedisInfoString` in Redis 7.2's `server.c` for order and spelling. Sizes are bytes; lines end in CR LF.

use std::fmt::{self, Write};
use std::fs;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use crate::metrics::{Metric, Metrics};
use crate::node::{NodeStatus, Role};

/// The version of Redis whose behaviour is offered.
pub const REDIS_VERSION: &str = "7.2.5";

/// The version of redraft.
pub const REDRAFT_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Clock ticks per second in `/proc/self/stat`: a constant of Linux's interface.
const TICKS_PER_SECOND: f64 = 100.0;

/// A section of INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// The process.
    Server,
    /// Clients.
    Clients,
    /// Memory.
    Memory,
    /// Persistence.
    Persistence,
    /// Counters.
    Stats,
    /// Replication, as Redis tells it.
    Replication,
    /// Processor time.
    Cpu,
    /// Modules.
    Modules,
    /// Counters of commands.
    CommandStats,
    /// Counters of error replies.
    ErrorStats,
    /// Latencies by percentile.
    LatencyStats,
    /// Redis Cluster.
    Cluster,
    /// Keys per database.
    Keyspace,
    /// The Raft group: redraft's own.
    Raft,
}

/// The sections in the order in which they are written: name as asked for, heading, and whether INFO alone shows it.
const SECTIONS: &[(Section, &str, &str, bool)] = &[
    (Section::Server, "server", "Server", true),
    (Section::Clients, "clients", "Clients", true),
    (Section::Memory, "memory", "Memory", true),
    (Section::Persistence, "persistence", "Persistence", true),
    (Section::Stats, "stats", "Stats", true),
    (Section::Replication, "replication", "Replication", true),
    (Section::Cpu, "cpu", "CPU", true),
    (Section::Modules, "modules", "Modules", true),
    (Section::CommandStats, "commandstats", "Commandstats", false),
    (Section::ErrorStats, "errorstats", "Errorstats", true),
    (Section::LatencyStats, "latencystats", "Latencystats", false),
    (Section::Cluster, "cluster", "Cluster", true),
    (Section::Keyspace, "keyspace", "Keyspace", true),
    (Section::Raft, "raft", "Raft", true),
];

/// The sections that INFO's arguments ask for, in the order in which they are written. Unknown names ask for nothing, as in Redis.
#[must_use]
pub fn sections(names: &[Bytes]) -> Vec<Section> {
    let named = |word: &str| names.iter().any(|name| name.eq_ignore_ascii_case(word.as_bytes()));
    let all = named("all") || named("everything");
    let default = names.is_empty() || named("default");
    let wanted = |(_, name, _, by_default): &&(Section, &str, &str, bool)| all || (default && *by_default) || named(name);
    SECTIONS.iter().filter(wanted).map(|(section, ..)| *section).collect()
}

/// What is fixed for the life of the process.
#[derive(Clone, Debug)]
pub struct ServerFacts {
    /// 40 hex digits, other ones at every start.
    pub run_id: String,
    /// Port for clients.
    pub port: u16,
    /// When the process began to serve.
    pub started: Instant,
    /// The same by the wall clock as it was then: a start keeps its time, whatever that clock does later.
    pub started_at: SystemTime,
}

/// What the kernel tells of the process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessFacts {
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
    /// The most resident memory so far, in bytes.
    pub resident_bytes_peak: u64,
    /// Memory of the machine, in bytes.
    pub machine_bytes: u64,
    /// Seconds in the kernel.
    pub system_seconds: f64,
    /// Seconds in the process.
    pub user_seconds: f64,
    /// Open file descriptors.
    pub open_files: u64,
}

/// What changes from call to call, besides counters.
#[derive(Clone, Debug)]
pub struct MomentFacts {
    /// The time of day.
    pub now: SystemTime,
    /// Clients waiting in WAIT or CLIENT PAUSE.
    pub blocked_clients: usize,
    /// Largest query buffer of a client, in bytes.
    pub query_bytes_largest: usize,
    /// Largest output buffer of a client, in bytes.
    pub output_bytes_largest: usize,
    /// Option `maxclients`.
    pub maxclients: usize,
    /// Keys, and keys with a deadline, of each database; empty if the keyspace could not be read.
    pub databases: Vec<(u64, u64)>,
    /// What the kernel tells.
    pub process: ProcessFacts,
}

impl ProcessFacts {
    /// Asks the kernel, off the network threads: it lists a file for each connection. What it does not tell is 0.
    pub async fn now() -> Self {
        // The pool takes no more work only while the process stops.
        tokio::task::spawn_blocking(Self::read).await.unwrap_or_default()
    }

    fn read() -> Self {
        let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (system_seconds, user_seconds) = cpu_seconds(&file("/proc/self/stat"));
        let status = file("/proc/self/status");
        Self {
            resident_bytes: kibibytes(&status, "VmRSS:"),
            resident_bytes_peak: kibibytes(&status, "VmHWM:"),
            machine_bytes: kibibytes(&file("/proc/meminfo"), "MemTotal:"),
            system_seconds,
            user_seconds,
            open_files: fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64),
        }
    }
}

/// The value of a line `name:  123 kB`, in bytes.
fn kibibytes(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)).and_then(|rest| rest.split_whitespace().next());
    value.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// System and user time from `/proc/self/stat`; its second field is the program's name in parentheses and may hold anything.
fn cpu_seconds(stat: &str) -> (f64, f64) {
    let fields: Vec<_> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    // The first of these fields is the third of the line.
    let ticks = |position: usize| fields.get(position - 3).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(15) / TICKS_PER_SECOND, ticks(14) / TICKS_PER_SECOND)
}

/// The text of INFO.
#[must_use]
pub fn render(sections: &[Section], server: &ServerFacts, moment: &MomentFacts, metrics: &Metrics, status: &NodeStatus) -> String {
    let mut out = Text(String::new());
    for (section, _, heading, _) in SECTIONS.iter().filter(|(section, ..)| sections.contains(section)) {
        if !out.0.is_empty() {
            out.0.push_str("\r\n");
        }
        out.0.push_str("# ");
        out.0.push_str(heading);
        out.0.push_str("\r\n");
        match section {
            Section::Server => write_server(&mut out, server, moment),
            Section::Clients => write_clients(&mut out, moment, metrics),
            Section::Memory => write_memory(&mut out, &moment.process),
            Section::Persistence => write_persistence(&mut out),
            Section::Stats => write_stats(&mut out, metrics),
            Section::Replication => write_replication(&mut out, status),
            Section::Cpu => write_cpu(&mut out, &moment.process),
            // No modules, and no latency histograms.
            Section::Modules | Section::LatencyStats => {}
            Section::CommandStats => write_command_stats(&mut out, metrics),
            Section::ErrorStats => metrics.errors().iter().for_each(|(prefix, count)| {
                out.field(&format!("errorstat_{prefix}"), format_args!("count={count}"));
            }),
            Section::Cluster => out.field("cluster_enabled", 0),
            Section::Keyspace => write_keyspace(&mut out, moment),
            Section::Raft => write_raft(&mut out, metrics, status),
        }
    }
    out.0
}

/// INFO's text while it is written.
struct Text(String);

impl Text {
    fn field(&mut self, name: &str, value: impl fmt::Display) {
        write!(self.0, "{name}:{value}\r\n").expect("a String takes all that is written");
    }

    /// A number of bytes, and the same for people.
    fn size(&mut self, name: &str, bytes: u64) {
        self.field(name, bytes);
        self.field(&format!("{name}_human"), human(bytes));
    }
}

/// Bytes as Redis writes them for people: `1.50M`.
#[must_use]
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["K", "M", "G", "T", "P"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.2}{}", UNITS[unit])
}

fn write_server(out: &mut Text, server: &ServerFacts, moment: &MomentFacts) {
    let uptime = server.started.elapsed().as_secs();
    let since_epoch = moment.now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let file = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let executable = std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default();
    out.field("redis_version", REDIS_VERSION);
    out.field("redraft_version", REDRAFT_VERSION);
    out.field("redis_git_sha1", "00000000");
    out.field("redis_git_dirty", 0);
    out.field("redis_build_id", 0);
    out.field("redis_mode", "standalone");
    out.field("os", format_args!("Linux {} {}", file("/proc/sys/kernel/osrelease"), std::env::consts::ARCH));
    out.field("arch_bits", usize::BITS);
    out.field("multiplexing_api", "epoll");
    out.field("process_id", std::process::id());
    out.field("process_supervised", "no");
    out.field("run_id", &server.run_id);
    out.field("tcp_port", server.port);
    out.field("server_time_usec", since_epoch.as_micros());
    out.field("uptime_in_seconds", uptime);
    out.field("uptime_in_days", uptime / 86_400);
    out.field("hz", 10);
    out.field("configured_hz", 10);
    out.field("executable", executable);
    out.field("config_file", "");
}

fn write_clients(out: &mut Text, moment: &MomentFacts, metrics: &Metrics) {
    out.field("connected_clients", metrics.get(Metric::ConnectedClients));
    out.field("cluster_connections", 0);
    out.field("maxclients", moment.maxclients);
    out.field("client_recent_max_input_buffer", moment.query_bytes_largest);
    out.field("client_recent_max_output_buffer", moment.output_bytes_largest);
    out.field("blocked_clients", moment.blocked_clients);
    out.field("tracking_clients", 0);
    out.field("clients_in_timeout_table", 0);
}

/// Memory in use is what is resident: caches and memtables are RocksDB's, so no counter of ours knows more.
fn write_memory(out: &mut Text, process: &ProcessFacts) {
    let percent = process.resident_bytes as f64 * 100.0 / process.resident_bytes_peak.max(1) as f64;
    out.size("used_memory", process.resident_bytes);
    out.size("used_memory_rss", process.resident_bytes);
    out.size("used_memory_peak", process.resident_bytes_peak);
    out.field("used_memory_peak_perc", format_args!("{percent:.2}%"));
    out.size("total_system_memory", process.machine_bytes);
    out.field("used_memory_lua", 0);
    out.field("used_memory_lua_human", "0B");
    out.size("maxmemory", 0);
    out.field("maxmemory_policy", "noeviction");
    out.field("mem_fragmentation_ratio", "1.00");
    out.field("mem_allocator", "mimalloc");
}

/// Every acknowledged write is on disk, which is what `aof_enabled` asks.
fn write_persistence(out: &mut Text) {
    for (name, value) in [
        ("loading", "0"),
        ("async_loading", "0"),
        ("rdb_changes_since_last_save", "0"),
        ("rdb_bgsave_in_progress", "0"),
        ("rdb_last_bgsave_status", "ok"),
        ("aof_enabled", "1"),
        ("aof_rewrite_in_progress", "0"),
        ("aof_rewrite_scheduled", "0"),
        ("aof_last_bgrewrite_status", "ok"),
        ("aof_last_write_status", "ok"),
    ] {
        out.field(name, value);
    }
}

fn write_stats(out: &mut Text, metrics: &Metrics) {
    for metric in [
        ("total_connections_received", Metric::TotalConnectionsReceived),
        ("total_commands_processed", Metric::TotalCommandsProcessed),
        ("total_net_input_bytes", Metric::TotalNetInputBytes),
        ("total_net_output_bytes", Metric::TotalNetOutputBytes),
        ("rejected_connections", Metric::RejectedConnections),
        ("expired_keys", Metric::ExpiredKeys),
    ] {
        out.field(metric.0, metrics.get(metric.1));
    }
    out.field("evicted_keys", 0);
    out.field("keyspace_hits", metrics.get(Metric::KeyspaceHits));
    out.field("keyspace_misses", metrics.get(Metric::KeyspaceMisses));
    out.field("pubsub_channels", 0);
    out.field("pubsub_patterns", 0);
    out.field("total_error_replies", metrics.get(Metric::TotalErrorReplies));
    out.field("total_reads_processed", metrics.get(Metric::TotalReadsProcessed));
    out.field("total_writes_processed", metrics.get(Metric::TotalWritesProcessed));
    out.field("client_output_buffer_limit_disconnections", metrics.get(Metric::ClientOutputBufferLimitDisconnections));
}

/// Every node takes writes, so every node is a master without replicas; the raft section tells the rest.
fn write_replication(out: &mut Text, status: &NodeStatus) {
    out.field("role", "master");
    out.field("connected_slaves", 0);
    out.field("master_failover_state", "no-failover");
    out.field("master_replid", if status.cluster_id.is_empty() { "0".repeat(40) } else { status.cluster_id.clone() });
    out.field("master_replid2", "0".repeat(40));
    out.field("master_repl_offset", status.applied_index);
    out.field("second_repl_offset", -1);
    out.field("repl_backlog_active", 0);
    out.field("repl_backlog_size", 0);
    out.field("repl_backlog_first_byte_offset", 0);
    out.field("repl_backlog_histlen", 0);
}

fn write_cpu(out: &mut Text, process: &ProcessFacts) {
    out.field("used_cpu_sys", format_args!("{:.6}", process.system_seconds));
    out.field("used_cpu_user", format_args!("{:.6}", process.user_seconds));
    out.field("used_cpu_sys_children", "0.000000");
    out.field("used_cpu_user_children", "0.000000");
}

fn write_command_stats(out: &mut Text, metrics: &Metrics) {
    for counts in metrics.commands() {
        let average = if counts.calls == 0 { 0.0 } else { counts.usec as f64 / counts.calls as f64 };
        let value = format!(
            "calls={},usec={},usec_per_call={average:.2},rejected_calls={},failed_calls={}",
            counts.calls, counts.usec, counts.rejected, counts.failed
        );
        out.field(&format!("cmdstat_{}", counts.name), value);
    }
}

fn write_keyspace(out: &mut Text, moment: &MomentFacts) {
    for (db, (keys, expires)) in moment.databases.iter().enumerate().filter(|(_, (keys, _))| *keys > 0) {
        out.field(&format!("db{db}"), format_args!("keys={keys},expires={expires},avg_ttl=0"));
    }
}

fn write_raft(out: &mut Text, metrics: &Metrics, status: &NodeStatus) {
    for (name, value) in raft_fields(status) {
        // Clients make one map of INFO, and take `role` for Redis's.
        out.field(if name == "role" { "raft_role" } else { name }, value);
    }
    out.field("verify_last_index", metrics.get(Metric::VerifyLastIndex));
    out.field("verify_mismatches", metrics.get(Metric::VerifyMismatches));
    out.field("verify_differing", metrics.get(Metric::VerifyDiffering));
    for member in &status.members {
        let value = format!(
            "listen={},peer={},admin={},voter={},match_index={}",
            member.listen,
            member.peer,
            member.admin,
            u8::from(member.voter),
            member.match_index
        );
        out.field(&format!("node{}", member.node_id), value);
    }
}

/// What INFO's section `raft` and RAFT STATUS say about the group.
#[must_use]
pub fn raft_fields(status: &NodeStatus) -> Vec<(&'static str, String)> {
    vec![
        ("cluster_id", status.cluster_id.clone()),
        ("node_id", status.node_id.to_string()),
        ("role", role_name(status.role).to_owned()),
        ("term", status.term.to_string()),
        ("leader_id", status.leader_id.unwrap_or(0).to_string()),
        ("commit_index", status.commit_index.to_string()),
        ("applied_index", status.applied_index.to_string()),
        ("last_index", status.last_index.to_string()),
        ("first_index", status.first_index.to_string()),
        ("log_time_ms", status.log_time_ms.to_string()),
        ("members", status.members.len().to_string()),
    ]
}

/// A role in lower case.
#[must_use]
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Learner => "learner",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{MemberStatus, PeerState};

    fn words(line: &'static str) -> Vec<Bytes> {
        line.split_whitespace().map(|word| Bytes::from_static(word.as_bytes())).collect()
    }

    fn rendered(line: &'static str) -> String {
        let server = ServerFacts { run_id: "ab".repeat(20), port: 7001, started: Instant::now(), started_at: SystemTime::UNIX_EPOCH };
        let process = ProcessFacts { resident_bytes: 3 << 20, resident_bytes_peak: 6 << 20, ..ProcessFacts::default() };
        let moment = MomentFacts {
            now: SystemTime::UNIX_EPOCH,
            blocked_clients: 1,
            query_bytes_largest: 2,
            output_bytes_largest: 3,
            maxclients: 100,
            databases: vec![(2, 1), (0, 0), (5, 0)],
            process,
        };
        let member = MemberStatus {
            node_id: 4,
            listen: "a:1".into(),
            peer: "a:2".into(),
            admin: "a:3".into(),
            voter: true,
            match_index: 9,
            next_index: 0,
            state: PeerState::Unknown,
            active: false,
            lag_bytes: 0,
            snapshot: None,
        };
        let status = NodeStatus {
            cluster_id: "cd".repeat(20),
            node_id: 4,
            role: Role::Leader,
            term: 2,
            leader_id: Some(4),
            commit_index: 8,
            applied_index: 7,
            last_index: 9,
            first_index: 6,
            log_time_ms: 11,
            members: vec![member],
        };
        let metrics = Metrics::new();
        metrics.error_reply("ERR x");
        metrics.executed(crate::command::table::lookup(b"get").expect("GET is in the table"), 2, Duration::from_micros(5), None);
        render(&sections(&words(line)), &server, &moment, &metrics, &status)
    }

    fn headings(line: &'static str) -> Vec<String> {
        rendered(line).lines().filter_map(|line| line.strip_prefix("# ").map(str::to_owned)).collect()
    }

    #[test]
    fn sections_are_chosen_as_in_redis() {
        let default = [
            "Server",
            "Clients",
            "Memory",
            "Persistence",
            "Stats",
            "Replication",
            "CPU",
            "Modules",
            "Errorstats",
            "Cluster",
            "Keyspace",
            "Raft",
        ];
        assert_eq!(headings(""), default);
        assert_eq!(headings("default"), default);
        assert_eq!(headings("all").len(), SECTIONS.len());
        assert_eq!(headings("Everything").len(), SECTIONS.len());
        assert_eq!(headings("KEYSPACE server"), ["Server", "Keyspace"]);
        assert_eq!(headings("commandstats nope"), ["Commandstats"]);
        assert_eq!(rendered("nope"), "");
    }

    #[test]
    fn every_line_is_a_heading_a_field_or_empty() {
        for line in rendered("all").split_terminator("\r\n") {
            assert!(line.is_empty() || line.starts_with("# ") || line.contains(':'), "{line}");
            assert!(!line.contains(['\r', '\n']), "{line}");
        }
    }

    #[test]
    fn fields_that_tools_read_are_there() {
        let text = rendered("all");
        for line in [
            "redis_version:7.2.5",
            "redis_mode:standalone",
            "tcp_port:7001",
            "role:master",
            "connected_slaves:0",
            "master_repl_offset:7",
            "loading:0",
            "cluster_enabled:0",
            "maxmemory_policy:noeviction",
            "used_memory:3145728",
            "used_memory_human:3.00M",
            "used_memory_peak_perc:50.00%",
            "connected_clients:0",
            "blocked_clients:1",
            "maxclients:100",
            "db0:keys=2,expires=1,avg_ttl=0",
            "db2:keys=5,expires=0,avg_ttl=0",
            "errorstat_ERR:count=1",
            "cmdstat_get:calls=2,usec=5,usec_per_call=2.50,rejected_calls=0,failed_calls=0",
            "term:2",
            "raft_role:leader",
            "applied_index:7",
            "verify_mismatches:0",
            "verify_differing:0",
            "node4:listen=a:1,peer=a:2,admin=a:3,voter=1,match_index=9",
        ] {
            assert!(text.contains(&format!("\r\n{line}\r\n")), "{line} is missing");
        }
        assert!(!text.contains("db1:"));
    }

    #[test]
    fn no_field_stands_twice() {
        let text = rendered("all");
        let mut names: Vec<_> = text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn sections_are_set_apart_by_an_empty_line() {
        assert_eq!(
            rendered("cluster keyspace"),
            "# Cluster\r\ncluster_enabled:0\r\n\r\n# Keyspace\r\ndb0:keys=2,expires=1,avg_ttl=0\r\ndb2:keys=5,expires=0,avg_ttl=0\r\n"
        );
    }

    #[test]
    fn sizes_for_people_have_two_digits() {
        for (bytes, expected) in
            [(0, "0B"), (1023, "1023B"), (1024, "1.00K"), (1536 * 1024, "1.50M"), (5 << 30, "5.00G"), (1 << 40, "1.00T")]
        {
            assert_eq!(human(bytes), expected);
        }
    }

    #[test]
    fn kernel_files_are_read() {
        assert_eq!(kibibytes("VmPeak:\t 5 kB\nVmRSS:\t  12 kB\n", "VmRSS:"), 12 * 1024);
        assert_eq!(kibibytes("", "VmRSS:"), 0);
        assert_eq!(cpu_seconds("1 (a ) b) S 0 0 0 0 0 0 0 0 0 0 150 25 0 0"), (0.25, 1.5));
        assert_eq!(cpu_seconds(""), (0.0, 0.0));
        assert!(ProcessFacts::read().resident_bytes > 0);
    }
}
