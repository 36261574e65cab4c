//! What the commands about the connection or the node do. Their arguments are checked; each yields a reply, or none where CLIENT REPLY
//! says so. The replies of COMMAND and INFO are computed elsewhere.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use resp::{Protocol, Reply};

use super::answers::{help, integer, pairs, role, time};
use super::connection::{Close, Connection};
use crate::command::catalogue;
use crate::command::node_command::{ClientCommand, ClientFilter, ClientSelection, Hello, NodeCommand, RaftQuery, ReplyMode, Switch};
use crate::error::{CommandError, RequestError};
use crate::info::REDIS_VERSION;

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
            NodeCommand::Config(command) => {
                let reply = self.services.configure(&command);
                // The commands behind this one in the pipeline see what has changed.
                self.adopt_runtime();
                reply
            }
            NodeCommand::Info(names) => {
                let services = Arc::clone(&self.services);
                self.attend(pin!(services.info(&names))).await?
            }
            NodeCommand::Role => role(&self.services.node.status()),
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
            NodeCommand::SlowLog(command) => self.services.slow_log_command(command),
            NodeCommand::Raft(RaftQuery::Verify) => self.verify().await?,
            NodeCommand::Raft(query) => {
                let services = Arc::clone(&self.services);
                self.attend(pin!(services.raft(query))).await?
            }
            NodeCommand::Help(lines) => help(lines),
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

    async fn verify(&mut self) -> Result<Reply, Close> {
        let services = Arc::clone(&self.services);
        let verified = self.attend_while_here(pin!(services.verify())).await?;
        Ok(verified.unwrap_or_else(|| RequestError::TryAgain("the node is stopping".into()).into()))
    }
}

/// A copy of bytes that outlive their request: an argument is a view of the buffer it was read into and would keep that alive.
fn detached(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
