//! What the network layer sees of the node: runs of commands in, replies out, and the node's state for INFO and RAFT.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use raftlog::engine::{Engine, EngineError, Figure, ViewKind};
use raftlog::message::VerifyResult;
use resp::Reply;
use tokio::sync::oneshot;

use super::core::{AdminRequest, GROUP, JoinAnswer, Member};
use super::exit::stop_for;
use super::request::{Consistency, Request, RunResult, reply_bytes};
use super::shell::{Event, Events, Network, wall_ms};
use super::status::{NodeStatus, Role};
use crate::command::{Handler, codec, flags};
use crate::config::Config;
use crate::error::RequestError;
use crate::keyspace::{KeyspaceState, ReadContext, ReadError, Reader, UnixMillis};
use crate::metrics::Metrics;

/// A parsed RAFT subcommand that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RaftCommand {
    /// Removes a member for ever.
    Remove(u64),
    /// Hands leadership to a member.
    Transfer(u64),
}

/// What the handles share with the node's threads.
pub(super) struct Shared {
    pub(super) data: Arc<dyn Engine>,
    /// The engine of the log, which has one reader and writer: others ask it for its figures alone.
    pub(super) log: Arc<dyn Engine>,
    pub(super) status: RwLock<Arc<NodeStatus>>,
    /// Local reads wait for this applied index after a restart.
    pub(super) serve_from: u64,
    /// Held for reading by everybody who looks at the data, for writing while a snapshot replaces them.
    pub(super) whole: RwLock<()>,
    /// Peers that a connection for appends leads to.
    pub(super) reachable: RwLock<BTreeSet<u64>>,
    /// A snapshot waits to replace the data, or does.
    pub(super) installs: AtomicBool,
    /// What lets a sole voter read without a round.
    pub(super) alone: Alone,
    /// Free space on the data directory's file system is below `disk-reserve`.
    pub(super) disk_is_full: AtomicBool,
    pub(super) network: Arc<dyn Network>,
    pub(super) config: Arc<Config>,
    pub(super) metrics: Arc<Metrics>,
}

/// Published by a leader that is the only voter and has no configuration change under way: nobody else can lead, so its commit index is
/// the group's, and a read needs no round. Whatever another node may learn from this one is published here before it is sent.
#[derive(Default)]
pub(super) struct Alone {
    /// Whether the rest holds.
    pub(super) leads: AtomicBool,
    /// The commit index.
    pub(super) commit: AtomicU64,
    /// Up to where the data is written.
    pub(super) applied: AtomicU64,
}

impl Alone {
    /// Whether the data holds everything that was acknowledged to anybody by now.
    fn may_read(&self) -> bool {
        self.leads.load(Ordering::Acquire) && self.applied.load(Ordering::Acquire) >= self.commit.load(Ordering::Acquire)
    }
}

impl Shared {
    pub(super) fn status(&self) -> Arc<NodeStatus> {
        Arc::clone(&self.status.read().expect("no holder of this lock panics"))
    }
}

/// The replies to a run of reads.
pub struct Replies {
    /// One per request, as far as the evaluation came: at least one.
    pub replies: Vec<Reply>,
    /// The requests that follow, to be asked again when these replies are on their way.
    pub rest: Vec<Request>,
}

/// A handle on the running node; cheap to clone.
#[derive(Clone)]
pub struct NodeHandle {
    events: Events,
    shared: Arc<Shared>,
}

/// How long RAFT REMOVE and RAFT TRANSFER try.
const RAFT_COMMAND_TIMEOUT: Duration = Duration::from_secs(15);
/// How often they try.
const RAFT_COMMAND_POLL: Duration = Duration::from_millis(100);
/// Bytes of replies at which the evaluation of a run pauses, so that a pipeline of reads of large values is never in memory as a whole.
const REPLY_BYTES_MAX: usize = 1 << 20;
/// How often WAIT looks again.
const WAIT_POLL: Duration = Duration::from_millis(10);

impl NodeHandle {
    pub(super) fn new(events: Events, shared: Arc<Shared>) -> Self {
        Self { events, shared }
    }

    /// Executes a run that contains at least one write: its writes go through the log, its reads are evaluated at their position between
    /// them. One reply per command. A run that could not be sent to a leader within `request-timeout` was not executed.
    /// # Errors
    /// See `RequestError`: whether the whole run was not executed, or its outcome is unknown.
    pub async fn write(&self, run: Vec<Request>) -> RunResult {
        let deadline = self.deadline();
        let mut payload = Vec::new();
        let mut commands = 0;
        for request in &run {
            if let Handler::Write { id, .. } = request.spec.handler {
                codec::encode(id, request.db, &request.args, &mut payload);
                commands += 1;
            }
        }
        let (client, answer) = oneshot::channel();
        let event = Event::Run { requests: run, payload: payload.into(), commands, deadline, client };
        if self.events.try_send(event).is_err() {
            return Err(RequestError::TryAgain("the node is overloaded".into()));
        }
        // The node drops a client only when it stops, with the run on its way.
        answer.await.unwrap_or(Err(RequestError::Unknown))
    }

    /// Evaluates a run of reads, as far as its replies are of a bounded size.
    /// # Errors
    /// Not executed, always.
    pub async fn read(&self, run: Vec<Request>, consistency: Consistency) -> Result<Replies, RequestError> {
        let deadline = self.deadline();
        let mut now_ms = match consistency {
            Consistency::Linearizable => Some(self.read_permission(deadline, 0).await?),
            Consistency::Local if self.status().applied_index < self.shared.serve_from.max(1) => return Err(RequestError::Loading),
            Consistency::Local => None,
        };
        let mut progress = Evaluation { replies: Vec::with_capacity(run.len()), bytes: 0, run };
        loop {
            let kind = if progress.run.iter().any(|request| request.spec.flags.contains(flags::ITERATES)) {
                ViewKind::Snapshot
            } else {
                ViewKind::CachedSnapshot
            };
            let mut outcome =
                if kind == ViewKind::CachedSnapshot { progress.advance(&self.shared, kind, now_ms) } else { Outcome::NeedsDisk };
            if matches!(outcome, Outcome::NeedsDisk) {
                let shared = Arc::clone(&self.shared);
                let work = tokio::task::spawn_blocking(move || {
                    let outcome = progress.advance(&shared, ViewKind::Snapshot, now_ms);
                    (progress, outcome)
                });
                (progress, outcome) = work.await.map_err(|_| RequestError::TryAgain("the node is stopping".into()))?;
            }
            match outcome {
                Outcome::Complete => {
                    let rest = progress.run.split_off(progress.replies.len());
                    return Ok(Replies { replies: progress.replies, rest });
                }
                Outcome::NeedsTime(log_time_ms) => now_ms = Some(self.read_permission(deadline, log_time_ms).await?),
                Outcome::NeedsDisk => unreachable!("a snapshot view reads the disk"),
                Outcome::Replaced => return Err(RequestError::Loading),
                Outcome::Failed(error) => stop_for(&error, &format!("the data cannot be read: {error}")),
            }
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.shared.config.runtime.values().request_timeout
    }

    /// Waits until this node may answer linearizable reads from its own data; gives the leader's time.
    async fn read_permission(&self, deadline: Instant, log_time_ms: u64) -> Result<u64, RequestError> {
        if log_time_ms == 0 && self.shared.alone.may_read() {
            return Ok(wall_ms());
        }
        let (client, answer) = oneshot::channel();
        if self.events.try_send(Event::Read { deadline, log_time_ms, client }).is_err() {
            return Err(RequestError::TryAgain("the node is overloaded".into()));
        }
        answer.await.unwrap_or(Err(RequestError::TryAgain("the node is stopping".into())))
    }

    /// How many other nodes have everything on their disks that this node has applied by now; waits until there are `replicas` or
    /// `timeout` is over (`None`: for ever).
    pub async fn wait_replicas(&self, replicas: u64, timeout: Option<Duration>) -> u64 {
        let index = self.shared.alone.applied.load(Ordering::Acquire);
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let round_deadline = deadline.unwrap_or_else(|| self.deadline()).min(self.deadline());
            if self.status().role != Role::Leader {
                // A round brings the leader's knowledge; without one, what is known stays as it is.
                drop(self.read_permission(round_deadline, 0).await);
            }
            let status = self.status();
            let others = status.members.iter().filter(|member| member.node_id != status.node_id);
            let reached = others.filter(|member| member.match_index >= index).count() as u64;
            if reached >= replicas || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return reached;
            }
            tokio::time::sleep(WAIT_POLL).await;
        }
    }

    /// Carries out a membership command, wherever the leader is. Removing the leader transfers leadership first, so it takes two steps.
    /// # Errors
    /// Why the change was not made in time.
    pub async fn raft(&self, command: RaftCommand) -> Result<Reply, RequestError> {
        let request = match command {
            RaftCommand::Remove(node) => AdminRequest::Remove(node),
            RaftCommand::Transfer(node) => AdminRequest::Transfer(node),
        };
        let deadline = Instant::now() + RAFT_COMMAND_TIMEOUT;
        let mut may_have_happened = false;
        loop {
            let status = self.status();
            let result = match status.leader_id {
                Some(leader) if leader == status.node_id => self.administer(request).await,
                Some(leader) => {
                    let (client, answer) = oneshot::channel();
                    self.shared.network.administer(leader, request, client);
                    answer.await.unwrap_or(Err(RequestError::NoLeader))
                }
                None => Err(RequestError::NoLeader),
            };
            match result {
                Ok(()) => return Ok(Reply::OK),
                // It was a member when the first leader took the request.
                Err(RequestError::Refused(_)) if may_have_happened && matches!(request, AdminRequest::Remove(_)) => return Ok(Reply::OK),
                Err(error) if !matches!(error, RequestError::NoLeader | RequestError::TryAgain(_) | RequestError::Unknown) => {
                    return Err(error);
                }
                Err(error) => {
                    may_have_happened |= error == RequestError::Unknown;
                    if Instant::now() >= deadline {
                        return Err(if may_have_happened { RequestError::Unknown } else { error });
                    }
                    tokio::time::sleep(RAFT_COMMAND_POLL).await;
                }
            }
        }
    }

    /// Carries out a membership command on this node, if it leads.
    /// # Errors
    /// `NoLeader` when this node does not lead, otherwise why the change was not made.
    pub async fn administer(&self, request: AdminRequest) -> Result<(), RequestError> {
        let (client, answer) = oneshot::channel();
        self.events.send(Event::Admin(request, client)).await;
        answer.await.unwrap_or(Err(RequestError::Unknown))
    }

    /// Has the replicas compared, wherever the leader is. Takes as long as the slowest replica needs to read all of its data.
    /// # Errors
    /// `NoLeader` when nobody led for long, `TryAgain` when too many wait.
    pub async fn verify(&self) -> Result<VerifyResult, RequestError> {
        let (client, answer) = oneshot::channel();
        self.events.send(Event::Verify(client)).await;
        answer.await.unwrap_or(Err(RequestError::TryAgain("the node is stopping".into())))
    }

    /// A node asks to become a member, or tells its new addresses.
    pub async fn join(&self, cluster_id: Option<String>, member: Member) -> JoinAnswer {
        let (client, answer) = oneshot::channel();
        self.events.send(Event::Join(cluster_id, Box::new(member), client)).await;
        answer.await.unwrap_or(JoinAnswer::Wait)
    }

    /// Hands leadership over, if this node leads and there is anybody to take it.
    pub async fn resign(&self) {
        self.events.send(Event::Resign).await;
    }

    /// The node's state now.
    #[must_use]
    pub fn status(&self) -> Arc<NodeStatus> {
        self.shared.status()
    }

    /// Whether commands that may add data are to be refused. They are not refused here, since a run has others beside them.
    #[must_use]
    pub fn disk_is_full(&self) -> bool {
        self.shared.disk_is_full.load(Ordering::Relaxed)
    }

    /// While the disk is full, commands that add data are refused; deletions and everything the group needs itself go on.
    pub fn set_disk_full(&self, is_full: bool) {
        if self.shared.disk_is_full.swap(is_full, Ordering::Relaxed) != is_full {
            tracing::warn!(is_full, "free disk space passed disk-reserve");
        }
    }

    /// Takes note of whether appends can be sent to a peer.
    pub fn set_reachable(&self, peer: u64, is_reachable: bool) {
        let mut reachable = self.shared.reachable.write().expect("no holder of this lock panics");
        if is_reachable {
            reachable.insert(peer)
        } else {
            reachable.remove(&peer)
        };
    }

    /// Whether a member can be reached from here.
    #[must_use]
    pub fn is_reachable(&self, node_id: u64) -> bool {
        self.status().node_id == node_id || self.shared.reachable.read().expect("no holder of this lock panics").contains(&node_id)
    }

    /// What `data/` and `log/` tell of themselves, each with its name. May wait for a lock of the engine's.
    #[must_use]
    pub fn figures(&self) -> Vec<(&'static str, Figure)> {
        let engines = [("data", &self.shared.data), ("log", &self.shared.log)];
        engines.into_iter().flat_map(|(db, engine)| engine.figures().into_iter().map(move |figure| (db, figure))).collect()
    }

    /// The engine of the data, to be flushed when the process ends.
    #[must_use]
    pub fn data(&self) -> &Arc<dyn Engine> {
        &self.shared.data
    }
}

/// A run of reads, as far as it is evaluated.
struct Evaluation {
    run: Vec<Request>,
    replies: Vec<Reply>,
    /// Bytes of the replies.
    bytes: usize,
}

/// How an evaluation went on.
enum Outcome {
    Complete,
    NeedsDisk,
    NeedsTime(u64),
    /// A snapshot is replacing the data.
    Replaced,
    Failed(EngineError),
}

impl Evaluation {
    /// Evaluates the commands that have no reply yet, each on one view.
    fn advance(&mut self, shared: &Shared, kind: ViewKind, now_ms: Option<u64>) -> Outcome {
        let Ok(_whole) = shared.whole.try_read() else { return Outcome::Replaced };
        let view = shared.data.view(kind);
        let state = match KeyspaceState::load(view.as_ref(), GROUP) {
            Ok(state) => state,
            Err(EngineError::WouldBlock) => return Outcome::NeedsDisk,
            Err(error) => return Outcome::Failed(error),
        };
        for request in &self.run[self.replies.len()..] {
            let now = now_ms.map(UnixMillis);
            let context = ReadContext { group: GROUP, db: request.db, now, log_time: None, state: Some(&state), seed: rand::random() };
            match request.spec.read(&request.args, &Reader::new(view.as_ref(), context)) {
                Ok(reply) => {
                    self.bytes += reply_bytes(&reply);
                    self.replies.push(reply);
                    if self.bytes >= REPLY_BYTES_MAX {
                        break;
                    }
                }
                Err(ReadError::TimeNeeded(deadline)) => return Outcome::NeedsTime(deadline.0),
                Err(ReadError::Engine(EngineError::WouldBlock)) => return Outcome::NeedsDisk,
                Err(ReadError::Engine(error)) => return Outcome::Failed(error),
            }
        }
        Outcome::Complete
    }
}
