//! What is the same for whoever asks, a client's connection or the admin listener: what can be wrong with a command, and what those about
//! the node answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use raftlog::message::{VerifiedMember, VerifyResult};
use resp::Reply;

use super::Services;
use super::run::{Path, Pending, Run};
use crate::command::node_command::{ConfigCommand, NodeCommand, RaftQuery, SlowLogCommand, Switch};
use crate::command::{CommandSpec, Handler, KEYSPACE_COUNTS, catalogue, flags, table};
use crate::config::{Config, RuntimeValues};
use crate::error::{CommandError, RequestError};
use crate::info::{self, MomentFacts, ProcessFacts, Section, ServerFacts};
use crate::keyspace::{COLUMN_FAMILIES, DATABASES, STRING_BYTES_MAX};
use crate::metrics::{Metric, Metrics};
use crate::node::{Consistency, MemberStatus, NodeHandle, NodeStatus, RaftCommand, Request, RunResult};
use crate::slow_log::{SlowCommand, SlowLog};

/// Most arguments of a command. Redis takes 2^31; each costs memory beyond its bytes.
pub(crate) const ARGUMENTS_MAX: usize = 1 << 20;

/// Bytes of the arguments of a command that writes, which is one log entry: the largest value, its key, and more of less size.
const WRITE_BYTES_MAX: usize = STRING_BYTES_MAX + (1 << 20);

/// A command whose arguments are right, and who carries it out.
pub(super) enum Step {
    /// The group.
    Group(&'static CommandSpec),
    /// The connection or the node.
    Node(&'static CommandSpec, NodeCommand),
}

/// Who sent a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// Somebody who knows the password, or there is none.
    Known,
    /// Somebody who has not shown it yet.
    Unknown,
}

impl Services {
    /// All that can be wrong with a request before it is executed, in Redis's order; the error is the reply.
    pub(super) fn check(&self, args: &[Bytes], sender: Sender) -> Result<Step, Reply> {
        let metrics = &self.metrics;
        // Of a connection's commands, the reader has seen to it.
        if args.len() > ARGUMENTS_MAX {
            return Err(CommandError::TooManyArguments(ARGUMENTS_MAX).into());
        }
        let spec = table::resolve(args).inspect_err(|_| match table::lookup(&args[0]) {
            Some(spec) => metrics.rejected(spec),
            None => metrics.unknown(),
        })?;
        if sender == Sender::Unknown && !spec.flags.contains(flags::NO_AUTH) {
            metrics.rejected(spec);
            return Err(CommandError::NotAuthenticated.into());
        }
        // Each command by itself: behind the ones that need room may come the deletions that make it.
        if spec.flags.contains(flags::DENYOOM) && self.node.disk_is_full() {
            metrics.rejected(spec);
            metrics.add(Metric::NotExecutedReplies, 1);
            return Err(RequestError::DiskFull.into());
        }
        if spec.is_write() && args.iter().map(Bytes::len).sum::<usize>() > WRITE_BYTES_MAX {
            metrics.rejected(spec);
            metrics.add(Metric::NotExecutedReplies, 1);
            return Err(CommandError::WriteTooLarge.into());
        }
        let checked = match spec.handler {
            Handler::Read { check, .. } | Handler::Write { check, .. } => check(args).map(|()| Step::Group(spec)),
            Handler::Node(parse) => parse(args).map(|command| Step::Node(spec, command)),
            Handler::Container => unreachable!("resolve yields the row of a subcommand"),
        };
        checked.map_err(|error| {
            metrics.executed(spec, 1, Duration::ZERO, None);
            metrics.failed(spec);
            metrics.add(Metric::TotalCommandsProcessed, 1);
            error.into()
        })
    }

    /// Carries out one command of somebody who has no connection: no state lasts from one to the next, and what is about a connection is
    /// refused. `Err` is a request that the group has no reply to.
    pub(crate) async fn execute(&self, args: Vec<Bytes>, db: u8) -> Result<Reply, RequestError> {
        let result = self.carry_out(args, db).await;
        match &result {
            Ok(reply) => self.note_error(reply),
            Err(error) => self.note_error(&error.clone().into()),
        }
        result
    }

    /// Counts an error reply to somebody who has no connection, as a connection counts its own.
    pub(crate) fn note_error(&self, reply: &Reply) {
        if let Reply::Error(text) = reply {
            self.metrics.error_reply(text);
        }
    }

    async fn carry_out(&self, args: Vec<Bytes>, db: u8) -> Result<Reply, RequestError> {
        let (spec, command) = match self.check(&args, Sender::Known) {
            Ok(Step::Group(spec)) => return Ok(self.run(vec![Request { spec, args, db }]).await?.remove(0)),
            Ok(Step::Node(spec, command)) => (spec, command),
            Err(refusal) => return Ok(refusal),
        };
        let began = Instant::now();
        let reply = match command {
            NodeCommand::Ping(None) => Reply::Simple("PONG"),
            NodeCommand::Ping(Some(message)) | NodeCommand::Echo(message) => Reply::Bulk(message),
            NodeCommand::Command(query) => catalogue::reply(&query),
            NodeCommand::Config(command) => self.configure(&command),
            NodeCommand::Info(names) => self.info(&names).await,
            NodeCommand::Role => role(&self.node.status()),
            NodeCommand::Time => time(SystemTime::now()),
            NodeCommand::Raft(query) => self.raft(query).await,
            NodeCommand::SlowLog(command) => self.slow_log_command(command),
            NodeCommand::Help(lines) => help(lines),
            NodeCommand::Hello(_)
            | NodeCommand::Auth(_)
            | NodeCommand::Select(_)
            | NodeCommand::Quit
            | NodeCommand::Reset
            | NodeCommand::Client(_)
            | NodeCommand::Wait { .. }
            | NodeCommand::ReadOnly
            | NodeCommand::ReadWrite => CommandError::NeedsConnection(spec.name.to_uppercase()).into(),
        };
        let took = began.elapsed();
        self.metrics.executed(spec, 1, took, Some(took));
        self.metrics.add(Metric::TotalCommandsProcessed, 1);
        if matches!(reply, Reply::Error(_)) {
            self.metrics.failed(spec);
        }
        Ok(reply)
    }

    /// Has the node execute checked commands together, and counts them as a client's.
    pub(crate) async fn run(&self, requests: Vec<Request>) -> RunResult {
        let mut run = Run::default();
        requests.into_iter().for_each(|request| run.push(request));
        let (requests, path, waiting) = run.take();
        let writes = if path == Path::Write { Switch::On } else { Switch::Off };
        if self.registry.is_paused(writes) {
            let patience = self.config.runtime.values().request_timeout;
            let over = tokio::time::timeout(patience, self.registry.pause_over(writes)).await;
            over.map_err(|_| RequestError::TryAgain("the clients of the node are paused".into()))?;
        }
        self.metrics.add(if path == Path::Write { Metric::WriteRuns } else { Metric::ReadRuns }, 1);
        let began = Instant::now();
        let result = match path {
            Path::Write => self.node.write(requests).await,
            Path::Read => self.read_all(requests).await,
        };
        self.note_slow(&waiting, began.elapsed(), &self.config.runtime.values(), || ("http".to_owned(), Bytes::new()));
        let failure = result.as_ref().err().cloned();
        let mut replies = Vec::new();
        waiting.resolve(result, began.elapsed(), &self.metrics, |reply| replies.push(reply.clone()));
        failure.map_or(Ok(replies), Err)
    }

    async fn read_all(&self, mut requests: Vec<Request>) -> RunResult {
        let mut replies = Vec::new();
        while !requests.is_empty() {
            let part = self.node.read(requests, Consistency::Linearizable).await?;
            replies.extend(part.replies);
            requests = part.rest;
        }
        Ok(replies)
    }

    /// CONFIG.
    pub(crate) fn configure(&self, command: &ConfigCommand) -> Reply {
        let runtime = &self.config.runtime;
        match command {
            ConfigCommand::Get(patterns) => {
                let mut found: Vec<(&'static str, String)> = vec![];
                for (name, value) in patterns.iter().flat_map(|pattern| runtime.get(pattern)) {
                    if !found.iter().any(|(known, _)| *known == name) {
                        found.push((name, value));
                    }
                }
                Reply::Map(found.into_iter().map(|(name, value)| (Reply::text(name), Reply::text(value))).collect())
            }
            ConfigCommand::Set(options) => runtime.set(options).map_or_else(|text| Reply::Error(text.into()), |()| Reply::OK),
            ConfigCommand::ResetStat => {
                self.metrics.reset();
                Reply::OK
            }
        }
    }

    /// INFO, with the sections asked for.
    pub(crate) async fn info(&self, names: &[Bytes]) -> Reply {
        let sections = info::sections(names);
        let databases = if sections.contains(&Section::Keyspace) { self.keyspace_counts().await } else { vec![] };
        let asks_kernel = sections.iter().any(|section| matches!(section, Section::Memory | Section::Cpu));
        let process = if asks_kernel { ProcessFacts::now().await } else { ProcessFacts::default() };
        let (query_bytes_largest, output_bytes_largest) = self.registry.largest_buffers();
        let moment = MomentFacts {
            now: SystemTime::now(),
            blocked_clients: self.registry.blocked(),
            query_bytes_largest,
            output_bytes_largest,
            maxclients: self.config.runtime.values().maxclients,
            databases,
            process,
        };
        Reply::Text(info::render(&sections, &self.server, &moment, &self.metrics, &self.node.status()))
    }

    /// Keys, and keys with a deadline, of each database, as this node has them: it answers without a leader, too. Empty while it loads.
    pub(crate) async fn keyspace_counts(&self) -> Vec<(u64, u64)> {
        let request = |db| Request { spec: &KEYSPACE_COUNTS, args: vec![Bytes::from_static(b"keyspace-counts")], db };
        let counts = self.node.read((0..DATABASES).map(request).collect(), Consistency::Local).await;
        counts.map_or(vec![], |counts| counts.replies.iter().map(counts_of).collect())
    }

    /// Whether somebody at this address may come in (`protected-mode`).
    pub(crate) fn admits(&self, address: SocketAddr) -> bool {
        let values = self.config.runtime.values();
        !values.protected_mode || values.requirepass.is_some() || address.ip().to_canonical().is_loopback()
    }

    /// The node.
    pub(crate) fn node(&self) -> &NodeHandle {
        &self.node
    }

    /// The configuration.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// The counters.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// What is fixed for the life of the process.
    pub(crate) fn server(&self) -> &ServerFacts {
        &self.server
    }

    /// The row of a command about data whose arguments are right; the error is the reply.
    pub(crate) fn checked(&self, args: &[Bytes]) -> Result<&'static CommandSpec, Reply> {
        match self.check(args, Sender::Known)? {
            Step::Group(spec) => Ok(spec),
            Step::Node(spec, _) => Err(CommandError::NeedsConnection(spec.name.to_uppercase()).into()),
        }
    }

    /// RAFT.
    pub(crate) async fn raft(&self, query: RaftQuery) -> Reply {
        let command = match query {
            RaftQuery::Status => return status_reply(&self.node.status()),
            RaftQuery::Nodes => return nodes_reply(&self.node.status()),
            RaftQuery::Verify => return self.verify().await,
            RaftQuery::Remove(node_id) => RaftCommand::Remove(node_id),
            RaftQuery::Transfer(node_id) => RaftCommand::Transfer(node_id),
        };
        self.node.raft(command).await.unwrap_or_else(Reply::from)
    }

    /// SLOWLOG.
    pub(crate) fn slow_log_command(&self, command: SlowLogCommand) -> Reply {
        match command {
            SlowLogCommand::Get(count) => Reply::Array(self.slow_log.newest(count).iter().map(SlowCommand::reply).collect()),
            SlowLogCommand::Len => integer(self.slow_log.len() as u64),
            SlowLogCommand::Reset => {
                self.slow_log.reset();
                Reply::OK
            }
        }
    }

    /// Takes note of a run that took long.
    pub(super) fn note_slow(&self, waiting: &Pending, took: Duration, values: &RuntimeValues, client: impl FnOnce() -> (String, Bytes)) {
        if took >= values.slowlog_log_slower_than && !waiting.first().is_empty() {
            self.slow_log.add(waiting.first(), took, client(), values.slowlog_max_len);
        }
    }

    /// The slow log.
    pub(crate) fn slow_log(&self) -> &SlowLog {
        &self.slow_log
    }

    /// RAFT VERIFY.
    pub(crate) async fn verify(&self) -> Reply {
        self.node.verify().await.map_or_else(Reply::from, |result| verify_reply(&result))
    }
}

/// What RAFT VERIFY answers. `COLUMN_FAMILIES` are named, since only tools of RocksDB number them.
fn verify_reply(result: &VerifyResult) -> Reply {
    let is_missing = |member: &VerifiedMember| member.hash.is_empty();
    let verdict = if result.members.iter().any(|member| member.difference.is_some()) {
        if result.has_majority { "differs" } else { "undecided" }
    } else if result.members.iter().any(is_missing) {
        "incomplete"
    } else {
        "equal"
    };
    let members = result.members.iter().map(|member| {
        let state = match &member.difference {
            Some(_) => "differs",
            None if is_missing(member) => "missing",
            None => "equal",
        };
        let hash: String = member.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let family = member.difference.as_ref().and_then(|difference| COLUMN_FAMILIES.get(usize::try_from(difference.family).ok()?));
        let key = member.difference.as_ref().and_then(|difference| difference.key.clone());
        pairs(vec![
            ("node_id", integer(member.node_id)),
            ("state", Reply::text(state)),
            ("hash", if is_missing(member) { Reply::Null } else { Reply::text(hash) }),
            ("cf", family.map_or(Reply::Null, |family| Reply::text(*family))),
            ("key", key.map_or(Reply::Null, Reply::Bulk)),
        ])
    });
    pairs(vec![("index", integer(result.index)), ("result", Reply::text(verdict)), ("members", Reply::Array(members.collect()))])
}

pub(super) fn integer(value: u64) -> Reply {
    Reply::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

pub(super) fn pairs(entries: Vec<(&str, Reply)>) -> Reply {
    Reply::Map(entries.into_iter().map(|(name, value)| (Reply::text(name), value)).collect())
}

/// Keys, and keys with a deadline, of a database.
fn counts_of(reply: &Reply) -> (u64, u64) {
    match reply {
        Reply::Array(counts) => match counts[..] {
            [Reply::Integer(keys), Reply::Integer(expires)] => (keys.unsigned_abs(), expires.unsigned_abs()),
            _ => (0, 0),
        },
        _ => (0, 0),
    }
}

/// ROLE: every node takes writes.
pub(super) fn role(status: &NodeStatus) -> Reply {
    Reply::Array(vec![Reply::text("master"), integer(status.applied_index), Reply::Array(vec![])])
}

/// HELP of a container.
pub(super) fn help(lines: &'static [&'static str]) -> Reply {
    Reply::Array(lines.iter().copied().map(Reply::Simple).collect())
}

fn status_reply(status: &NodeStatus) -> Reply {
    pairs(info::raft_fields(status).into_iter().map(|(name, value)| (name, Reply::text(value))).collect())
}

fn nodes_reply(status: &NodeStatus) -> Reply {
    Reply::Array(status.members.iter().map(|member| node_reply(member, status)).collect())
}

fn node_reply(member: &MemberStatus, status: &NodeStatus) -> Reply {
    pairs(vec![
        ("node_id", integer(member.node_id)),
        ("listen", Reply::text(member.listen.as_str())),
        ("peer", Reply::text(member.peer.as_str())),
        ("admin", Reply::text(member.admin.as_str())),
        ("role", Reply::text(status.role_of(member))),
        ("voter", Reply::Integer(i64::from(member.voter))),
        ("match_index", integer(member.match_index)),
    ])
}

/// Seconds, and microseconds within the second.
pub(super) fn time(now: SystemTime) -> Reply {
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Reply::Array(vec![Reply::text(since_epoch.as_secs().to_string()), Reply::text(since_epoch.subsec_micros().to_string())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{PeerState, Role};

    #[test]
    fn time_is_seconds_and_microseconds() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_042);
        assert_eq!(time(now), Reply::Array(vec![Reply::text("1700000000"), Reply::text("42")]));
    }

    #[test]
    fn counts_are_read_from_their_reply() {
        assert_eq!(counts_of(&Reply::Array(vec![Reply::Integer(3), Reply::Integer(1)])), (3, 1));
        assert_eq!(counts_of(&Reply::Null), (0, 0));
    }

    #[test]
    fn roles_of_members_follow_from_the_leader() {
        let member = |node_id, voter| MemberStatus {
            node_id,
            listen: "a:1".into(),
            peer: "a:2".into(),
            admin: "a:3".into(),
            voter,
            match_index: 0,
            next_index: 0,
            state: PeerState::Unknown,
            active: false,
            lag_bytes: 0,
            snapshot: None,
        };
        let status = NodeStatus {
            cluster_id: String::new(),
            node_id: 2,
            role: Role::Candidate,
            term: 1,
            leader_id: Some(1),
            commit_index: 0,
            applied_index: 0,
            last_index: 0,
            first_index: 0,
            log_time_ms: 0,
            members: vec![member(1, true), member(2, true), member(3, true), member(4, false)],
        };
        let Reply::Array(nodes) = nodes_reply(&status) else { panic!("nodes are an array") };
        let role = |node: &Reply| match node {
            Reply::Map(fields) => fields[4].1.clone(),
            _ => panic!("a node is a map"),
        };
        let roles: Vec<_> = nodes.iter().map(role).collect();
        assert_eq!(roles, ["leader", "candidate", "follower", "learner"].map(Reply::text));
    }
}
