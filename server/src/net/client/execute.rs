//! What the commands about the connection or the node do. Their arguments are checked; each yields a reply, or none where CLIENT REPLY
//! says so. The replies of COMMAND and INFO are computed elsewhere.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use raftlog::message::{VerifiedMember, VerifyResult};
use resp::{Protocol, Reply};

use super::connection::{Close, Connection};
use crate::command::node_command::{
    ClientCommand, ClientFilter, ClientSelection, ConfigCommand, Hello, NodeCommand, RaftQuery, ReplyMode, Switch,
};
use crate::command::{KEYSPACE_COUNTS, catalogue};
use crate::error::{CommandError, RequestError};
use crate::info::{self, MomentFacts, ProcessFacts, REDIS_VERSION, Section};
use crate::keyspace::{COLUMN_FAMILIES, DATABASES};
use crate::node::{Consistency, MemberStatus, NodeStatus, RaftCommand, Request};

impl Connection {
    /// Carries a command out. `None`: nothing is replied.
    pub(super) async fn carry_out(&mut self, command: NodeCommand) -> Result<Option<Reply>, Close> {
        let reply = match command {
            NodeCommand::Ping(None) => Reply::Simple("PONG"),
            NodeCommand::Ping(Some(message)) | NodeCommand::Echo(message) => Reply::Bulk(message),
            NodeCommand::Hello(hello) => self.hello(hello).unwrap_or_else(Reply::from),
            NodeCommand::Auth(credentials) => {
                // The password may have changed within this turn, by a command of this very pipeline.
                let password = self.values.requirepass.clone();
                let result = self.session.authenticate(&credentials, password.as_ref().map(|password| password.expose()));
                self.adopt_limits();
                result.map_or_else(Reply::from, |()| Reply::OK)
            }
            NodeCommand::Select(db) => {
                self.session.db = db;
                Reply::OK
            }
            NodeCommand::Quit => {
                self.session.closing = true;
                Reply::OK
            }
            NodeCommand::Reset => self.reset(),
            NodeCommand::Client(command) => return Ok(self.client_command(command)),
            NodeCommand::Command(query) => catalogue::reply(&query),
            NodeCommand::Config(command) => self.config(&command),
            NodeCommand::Info(names) => self.info(&names).await?,
            NodeCommand::Role => {
                let offset = integer(self.services.node.status().applied_index);
                Reply::Array(vec![Reply::text("master"), offset, Reply::Array(vec![])])
            }
            NodeCommand::Time => time(SystemTime::now()),
            NodeCommand::Wait { replicas, timeout } => self.wait(replicas, timeout).await?,
            NodeCommand::ReadOnly => {
                self.session.readonly = true;
                Reply::OK
            }
            NodeCommand::ReadWrite => {
                self.session.readonly = false;
                Reply::OK
            }
            NodeCommand::Raft(query) => self.raft(query).await?,
            NodeCommand::Help(lines) => Reply::Array(lines.iter().copied().map(Reply::Simple).collect()),
        };
        Ok(Some(reply))
    }

    fn hello(&mut self, hello: Hello) -> Result<Reply, CommandError> {
        let password = self.values.requirepass.clone();
        let password = password.as_ref().map(|password| password.expose());
        if let Some(credentials) = &hello.auth {
            self.session.authenticate(credentials, password)?;
            self.adopt_limits();
        }
        if self.session.must_authenticate(password) {
            return Err(CommandError::HelloNotAuthenticated);
        }
        if let Some(name) = hello.name {
            self.client.view().name = detached(&name);
        }
        if let Some(protocol) = hello.protocol {
            self.session.protocol = protocol;
        }
        let version = if self.session.protocol == Protocol::Resp3 { 3 } else { 2 };
        Ok(pairs(vec![
            ("server", Reply::text("redis")),
            ("version", Reply::text(REDIS_VERSION)),
            ("proto", Reply::Integer(version)),
            ("id", integer(self.client.id)),
            ("mode", Reply::text("standalone")),
            ("role", Reply::text("master")),
            ("modules", Reply::Array(vec![])),
        ]))
    }

    fn reset(&mut self) -> Reply {
        let password = self.values.requirepass.clone();
        self.session.reset(password.as_ref().map(|password| password.expose()));
        self.adopt_limits();
        let mut view = self.client.view();
        view.name = Bytes::new();
        view.no_evict = false;
        view.no_touch = false;
        Reply::Simple("RESET")
    }

    fn client_command(&mut self, command: ClientCommand) -> Option<Reply> {
        let registry = &self.services.registry;
        Some(match command {
            ClientCommand::Id => integer(self.client.id),
            ClientCommand::GetName => {
                let name = self.client.view().name.clone();
                if name.is_empty() { Reply::Null } else { Reply::Bulk(name) }
            }
            ClientCommand::SetName(name) => {
                self.client.view().name = detached(&name);
                Reply::OK
            }
            ClientCommand::SetLibName(name) => {
                self.client.view().lib_name = detached(&name);
                Reply::OK
            }
            ClientCommand::SetLibVersion(version) => {
                self.client.view().lib_version = detached(&version);
                Reply::OK
            }
            ClientCommand::Info => {
                self.show();
                Reply::Text(registry.list(&ClientSelection::Ids(vec![self.client.id])))
            }
            ClientCommand::List(selection) => {
                self.show();
                Reply::Text(registry.list(&selection))
            }
            ClientCommand::Kill(filter) => Reply::Integer(self.kill(&filter)),
            ClientCommand::KillAddress(address) => {
                let filter = ClientFilter {
                    id: None,
                    address: Some(address),
                    local_address: None,
                    client_type: None,
                    user: None,
                    skip_me: Switch::Off,
                };
                if self.kill(&filter) > 0 { Reply::OK } else { CommandError::NoSuchClient.into() }
            }
            ClientCommand::Pause { duration, mode } => {
                registry.pause(duration, mode);
                Reply::OK
            }
            ClientCommand::Unpause => {
                registry.unpause();
                Reply::OK
            }
            ClientCommand::Reply(mode) => return self.reply_mode(mode),
            ClientCommand::NoEvict(switch) => {
                self.client.view().no_evict = switch == Switch::On;
                Reply::OK
            }
            ClientCommand::NoTouch(switch) => {
                self.client.view().no_touch = switch == Switch::On;
                Reply::OK
            }
        })
    }

    /// Kills the clients that pass the filter; this one when it has its reply.
    fn kill(&mut self, filter: &ClientFilter) -> i64 {
        let mut hit = self.services.registry.select(filter, self.client.id);
        // One that was killed before and is still saying goodbye counts as gone.
        hit.retain(|client| !client.is_killed());
        for client in &hit {
            if client.id == self.client.id {
                self.session.closing = true;
            } else {
                client.kill();
            }
        }
        i64::try_from(hit.len()).unwrap_or(i64::MAX)
    }

    /// SKIP while replies are off changes nothing, as in Redis.
    fn reply_mode(&mut self, mode: ReplyMode) -> Option<Reply> {
        match (mode, self.session.replies) {
            (ReplyMode::On, _) => {
                self.session.replies = ReplyMode::On;
                Some(Reply::OK)
            }
            (ReplyMode::Skip, ReplyMode::Off) => None,
            (mode @ (ReplyMode::Off | ReplyMode::Skip), _) => {
                self.session.replies = mode;
                None
            }
        }
    }

    fn config(&mut self, command: &ConfigCommand) -> Reply {
        let runtime = &self.services.config.runtime;
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
            ConfigCommand::Set(options) => match runtime.set(options) {
                Ok(()) => {
                    // The commands behind this one in the pipeline see it.
                    self.adopt_runtime();
                    Reply::OK
                }
                Err(text) => Reply::Error(text.into()),
            },
            ConfigCommand::ResetStat => {
                self.services.metrics.reset();
                Reply::OK
            }
        }
    }

    async fn info(&mut self, names: &[Bytes]) -> Result<Reply, Close> {
        let sections = info::sections(names);
        let services = Arc::clone(&self.services);
        let databases = if sections.contains(&Section::Keyspace) {
            let request = |db| Request { spec: &KEYSPACE_COUNTS, args: vec![Bytes::from_static(b"keyspace-counts")], db };
            // Counts as this node has them: INFO answers without a leader, too.
            let counts = pin!(services.node.read((0..DATABASES).map(request).collect(), Consistency::Local));
            self.attend(counts).await?.map_or(vec![], |counts| counts.replies.iter().map(counts_of).collect())
        } else {
            vec![]
        };
        let (query_bytes_largest, output_bytes_largest) = services.registry.largest_buffers();
        let moment = MomentFacts {
            now: SystemTime::now(),
            blocked_clients: services.registry.blocked(),
            query_bytes_largest,
            output_bytes_largest,
            maxclients: self.values.maxclients,
            databases,
            process: ProcessFacts::read(),
        };
        Ok(Reply::Text(info::render(&sections, &services.server, &moment, &services.metrics, &services.node.status())))
    }

    async fn wait(&mut self, replicas: u64, timeout: Option<Duration>) -> Result<Reply, Close> {
        let services = Arc::clone(&self.services);
        // A client that has sent all it will may be gone for good, and nothing would ever tell us.
        let timeout = if self.has_ended() { timeout.or(Some(Duration::ZERO)) } else { timeout };
        let waited = self.attend_while_here(pin!(services.node.wait_replicas(replicas, timeout))).await?;
        Ok(match waited {
            Some(count) => integer(count),
            // The node shuts down: the number as it is now.
            None => integer(self.attend(pin!(services.node.wait_replicas(0, Some(Duration::ZERO)))).await?),
        })
    }

    async fn raft(&mut self, query: RaftQuery) -> Result<Reply, Close> {
        let services = Arc::clone(&self.services);
        let command = match query {
            RaftQuery::Status => return Ok(status_reply(&services.node.status())),
            RaftQuery::Nodes => return Ok(nodes_reply(&services.node.status())),
            RaftQuery::Verify => return self.verify().await,
            RaftQuery::Remove(node_id) => RaftCommand::Remove(node_id),
            RaftQuery::Transfer(node_id) => RaftCommand::Transfer(node_id),
        };
        let result = self.attend(pin!(services.node.raft(command))).await?;
        Ok(result.unwrap_or_else(|error| Reply::Error(error.to_string().into())))
    }

    async fn verify(&mut self) -> Result<Reply, Close> {
        let services = Arc::clone(&self.services);
        let result = match self.attend_while_here(pin!(services.node.verify())).await? {
            Some(result) => result,
            None => Err(RequestError::TryAgain("the node is stopping".into())),
        };
        Ok(result.map_or_else(|error| Reply::Error(error.to_string().into()), |result| verify_reply(&result)))
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

/// A copy of bytes that outlive their request: an argument is a view of the buffer it was read into and would keep that alive.
fn detached(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn integer(value: u64) -> Reply {
    Reply::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

fn pairs(entries: Vec<(&str, Reply)>) -> Reply {
    Reply::Map(entries.into_iter().map(|(name, value)| (Reply::text(name), value)).collect())
}

/// Seconds, and microseconds within the second.
fn time(now: SystemTime) -> Reply {
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Reply::Array(vec![Reply::text(since_epoch.as_secs().to_string()), Reply::text(since_epoch.subsec_micros().to_string())])
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

fn status_reply(status: &NodeStatus) -> Reply {
    pairs(info::raft_fields(status).into_iter().map(|(name, value)| (name, Reply::text(value))).collect())
}

fn nodes_reply(status: &NodeStatus) -> Reply {
    Reply::Array(status.members.iter().map(|member| node_reply(member, status)).collect())
}

fn node_reply(member: &MemberStatus, status: &NodeStatus) -> Reply {
    // Of the others, only the leader is known for what it is.
    let role = if Some(member.node_id) == status.leader_id {
        "leader"
    } else if member.node_id == status.node_id {
        info::role_name(status.role)
    } else if member.voter {
        "follower"
    } else {
        "learner"
    };
    pairs(vec![
        ("node_id", integer(member.node_id)),
        ("listen", Reply::text(member.listen.as_str())),
        ("peer", Reply::text(member.peer.as_str())),
        ("admin", Reply::text(member.admin.as_str())),
        ("role", Reply::text(role)),
        ("voter", Reply::Integer(i64::from(member.voter))),
        ("match_index", integer(member.match_index)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Role;

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
        let member =
            |node_id, voter| MemberStatus { node_id, listen: "a:1".into(), peer: "a:2".into(), admin: "a:3".into(), voter, match_index: 0 };
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
