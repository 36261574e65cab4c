//! The shell around the core: threads, channels and clocks that bring events in and carry effects out.
//! One thread owns the core, one writes the log, one applies. Work flows forward through bounded channels; completions flow back through
//! `Completions`, which never blocks, so that no two threads can wait for each other. The core's thread sleeps until an event or the next
//! tick; a stall costs at most one tick, so that a node that was paused does not rush into an election.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{Entry, HardState, Message, MessageType, Snapshot};
use raftlog::engine::{Engine, EngineError, ViewKind};
use raftlog::group::{Group, GroupConfig};
use raftlog::log::{HighWater, LogError, LogPosition, LogStore, Mark, Persist};
use raftlog::message::{Body, Difference, Frame, ReadRequest, VerifyResult};
use tokio::sync::oneshot;

use super::apply_worker::{ApplyTask, ApplyWorker, ClientRun};
use super::completions::Completions;
use super::core::{
    AdminRequest, COLUMN_FAMILIES, Core, CoreConfig, Divergence, Effect, GROUP, JoinAnswer, Lane, Member, Members, NewRun, Now, ReadId,
    RequestId, RunId, SnapshotContents, SnapshotId, StateMachine, TrackedRun, read_snapshot_contents,
};
use super::exit::{REJOIN, is_failed_sync, may_pass, stop_for, stop_for_good, stop_process};
use super::handle::{Alone, NodeHandle, Shared};
use super::log_writer::{LogTask, LogThread, LogWriter};
use super::mailbox::{Appetite, Mailbox, Need};
use super::persist_gate::PersistGate;
use super::priority::step_back;
use super::replies::{Answer, Replies};
use super::request::{Request, RunResult};
use super::snapshot::{self, generate_snapshot};
use super::status::{NodeStatus, SnapshotCount};
use super::storage::{Identity, SnapshotFiles, Storage};
use super::verifier::Verifier;
use crate::config::Config;
use crate::error::RequestError;
use crate::metrics::{Distribution, Metric, Metrics};

/// How long a sender waits before it tries a full mailbox again.
const FULL_MAILBOX_PAUSE: Duration = Duration::from_millis(1);
/// Bytes of a key in the log.
const LOGGED_KEY_BYTES_MAX: usize = 256;
/// Tasks waiting for a worker; the core waits beyond that.
const TASKS_MAX: usize = 1 << 14;
/// Election timeouts after which a member that says nothing counts as dead.
const SILENT_ELECTIONS: u64 = 2;
/// Ticks in an election timeout: enough to spread candidates.
const ELECTION_TICKS: u32 = 20;
/// Bytes of entries in one append message.
const APPEND_BYTES_MAX: u64 = 1 << 20;
/// Bytes of entries proposed and not committed.
const UNCOMMITTED_BYTES_MAX: u64 = 256 << 20;
/// Bytes of committed entries handed to apply at once.
const COMMITTED_BYTES_MAX: u64 = 16 << 20;

/// How the node reaches its peers. Nothing here blocks.
pub trait Network: Send + Sync {
    /// Sends a frame, or drops it when the lane is full or not connected. Returns whether it was taken.
    fn send(&self, to: u64, lane: Lane, frame: Frame) -> bool;
    /// The members changed.
    fn set_members(&self, members: &Members);
    /// Asks the node that leads to carry out an administrator's request.
    fn administer(&self, leader: u64, request: AdminRequest, answer: oneshot::Sender<Result<(), RequestError>>);
    /// Streams a snapshot, counting what was sent, until it is not wanted any more: when the other end of `wanted` is gone. `done` is called once, whatever happens.
    fn send_snapshot(
        &self,
        to: u64,
        message: Bytes,
        files: SnapshotFiles,
        count: Arc<SnapshotCount>,
        wanted: oneshot::Receiver<()>,
        done: Box<dyn FnOnce(bool) + Send>,
    );
}

/// What happens to a node.
pub enum Event {
    /// A client's run with writes.
    Run {
        /// All of its requests.
        requests: Vec<Request>,
        /// The encoded writes.
        payload: Bytes,
        /// How many writes.
        commands: u32,
        /// When to give up.
        deadline: Instant,
        /// Where the replies go.
        client: oneshot::Sender<RunResult>,
    },
    /// A client wants to read; answered with the leader's time when the node may read its own data.
    Read {
        /// When to give up.
        deadline: Instant,
        /// Log time that has to be reached, in ms since the Unix epoch; 0 for none.
        log_time_ms: u64,
        /// Where the answer goes.
        client: oneshot::Sender<Result<u64, RequestError>>,
    },
    /// A frame from a peer.
    Frame(u64, Frame),
    /// A lane to a peer was connected.
    LaneUp(u64, Lane),
    /// A peer cannot be reached.
    Unreachable(u64),
    /// A snapshot was received: the message and its files.
    SnapshotReceived(Box<(Message, SnapshotFiles)>),
    /// A snapshot was generated.
    SnapshotGenerated(SnapshotId, Box<Result<(Snapshot, SnapshotFiles), EngineError>>),
    /// The sending of a snapshot ended.
    SnapshotSent(SnapshotId, bool),
    /// A node wants to join, or tells its new addresses.
    Join(Option<String>, Box<Member>, oneshot::Sender<JoinAnswer>),
    /// An administrator's request.
    Admin(AdminRequest, oneshot::Sender<Result<(), RequestError>>),
    /// A client wants the replicas to be compared.
    Verify(oneshot::Sender<Result<VerifyResult, RequestError>>),
    /// Hand leadership over, if there is anybody to take it.
    Resign,
}

/// Sends events to the core.
#[derive(Clone)]
pub struct Events {
    mailbox: Arc<Mailbox>,
}

impl Events {
    /// A mailbox for events, made before the node so that the network can be started first.
    #[must_use]
    pub fn new() -> Self {
        Self { mailbox: Arc::new(Mailbox::new()) }
    }

    /// Sends an event if there is room. Runs and reads, also those of peers, wait until the core has use for them.
    /// # Errors
    /// The event, when there is no room.
    pub fn try_send(&self, event: Event) -> Result<(), Event> {
        let need = match &event {
            Event::Run { .. } => Need::Proposal,
            // What waits for log time has to ask for it first.
            Event::Read { log_time_ms: 0, .. } => Need::ReadRound,
            Event::Frame(_, frame) => match frame.body {
                Some(Body::Forward(_)) => Need::Proposal,
                Some(Body::ReadRequest(ReadRequest { log_time_ms: 0, .. })) => Need::ReadRound,
                _ => Need::Attention,
            },
            _ => Need::Attention,
        };
        self.mailbox.push(event, need)
    }

    /// Sends an event, waiting for room without blocking a thread.
    pub async fn send(&self, event: Event) {
        let mut event = event;
        while let Err(refused) = self.try_send(event) {
            event = refused;
            tokio::time::sleep(FULL_MAILBOX_PAUSE).await;
        }
    }

    /// Sends an event from a thread of the node's own that may wait.
    fn send_blocking(&self, event: Event) {
        let mut event = event;
        while let Err(refused) = self.try_send(event) {
            event = refused;
            thread::sleep(FULL_MAILBOX_PAUSE);
        }
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a node could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The data cannot be used.
    #[error(transparent)]
    Data(#[from] EngineError),
    /// raft refuses the state it is given.
    #[error("the Raft state cannot be used: {0}")]
    Raft(#[from] raft::Error),
}

impl StartError {
    /// Whether the cause may be gone at the next start.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Log(LogError::Engine(error)) | Self::Data(error) => may_pass(error),
            Self::Log(LogError::Damaged(_)) | Self::Raft(_) => false,
        }
    }

    /// Whether something could not be made durable. A later start would not find that out.
    #[must_use]
    pub fn is_failed_sync(&self) -> bool {
        match self {
            Self::Log(LogError::Engine(error)) | Self::Data(error) => is_failed_sync(error),
            Self::Log(LogError::Damaged(_)) | Self::Raft(_) => false,
        }
    }
}

/// Starts the threads of a node that has an identity. From within a tokio runtime.
/// # Errors
/// See `StartError`.
pub fn start(
    storage: Storage,
    config: Arc<Config>,
    events: Events,
    network: Arc<dyn Network>,
    metrics: Arc<Metrics>,
    random: u64,
) -> Result<NodeHandle, StartError> {
    let identity = storage.identity().clone();
    let boot = storage.boot();
    let mark = storage.high_water_mark();
    let hints = storage.hints().unwrap_or_default();
    let snapshots_dir = storage.snapshots_dir();
    let (log, data, mut high_water) = storage.into_parts();

    let SnapshotContents { position, configuration } = read_snapshot_contents(data.view(ViewKind::Latest).as_ref())?;
    let store = LogStore::open(Arc::clone(&log), GROUP, position, configuration, mark)?;
    begin_mark(&mut high_water, &store)?;
    // Local reads are answered when everything is applied that was known to be committed before the restart.
    let serve_from = store.hard_state().commit;
    let tick = config.election_timeout / ELECTION_TICKS;
    let heartbeat_ticks = config.heartbeat_interval.as_millis().div_ceil(tick.as_millis().max(1)).max(1);
    let group_config = GroupConfig {
        node_id: identity.node_id,
        election_ticks: ELECTION_TICKS as usize,
        heartbeat_ticks: usize::try_from(heartbeat_ticks).unwrap_or(1).min(ELECTION_TICKS as usize / 2),
        append_bytes_max: APPEND_BYTES_MAX,
        uncommitted_bytes_max: UNCOMMITTED_BYTES_MAX,
        committed_bytes_max: COMMITTED_BYTES_MAX,
        seed: random,
    };
    let group = Group::open(group_config, store, position.index)?;
    let mut machine = StateMachine::open(Arc::clone(&data), identity.node_id, boot)?;
    let applied = machine.take_applied();
    let members = if applied.members.members.is_empty() { Arc::new(hints) } else { Arc::clone(&applied.members) };
    network.set_members(&members);

    let core_config = CoreConfig {
        node_id: identity.node_id,
        boot,
        entry_bytes_max: config.max_entry_bytes,
        entry_commands_max: u32::try_from(config.max_entry_commands).unwrap_or(u32::MAX),
        log_bytes_max: usize::try_from(config.raft_log_bytes_max).unwrap_or(usize::MAX),
        replication_factor: config.replication_factor,
        replace_after_ms: config.replace_after.map(milliseconds),
        silence_max_ms: SILENT_ELECTIONS * milliseconds(config.election_timeout),
        clock_skew_max_ms: milliseconds(config.clock_skew_max),
        seed: random,
    };
    let started = Instant::now();
    let core = Core::new(core_config, group, applied, now(started));
    let completions = Arc::new(Completions::new(Arc::clone(&events.mailbox)));
    let (log_sender, log_tasks) = sync_channel(TASKS_MAX);
    let (apply_sender, apply_tasks) = sync_channel(TASKS_MAX);
    let writer = LogThread {
        writer: LogWriter::new(Arc::clone(&log), high_water),
        tasks: log_tasks,
        network: Arc::clone(&network),
        completions: Arc::clone(&completions),
        metrics: Arc::clone(&metrics),
    };
    let status = NodeStatus::of(&core, &identity, &members, |_| None);
    let replies = Replies::start();
    let shared = Arc::new(Shared {
        data: Arc::clone(&data),
        log,
        status: RwLock::new(Arc::new(status)),
        serve_from,
        alone: Alone::default(),
        whole: RwLock::default(),
        reachable: RwLock::default(),
        installs: AtomicBool::new(false),
        disk_is_full: AtomicBool::new(false),
        network: Arc::clone(&network),
        config,
        metrics,
    });
    let verifier = Arc::new(Verifier::new(Arc::clone(&shared), Arc::clone(&completions)));
    let worker = ApplyWorker::new(
        machine,
        Arc::clone(&data),
        apply_tasks,
        Arc::clone(&completions),
        Arc::clone(&shared),
        Arc::clone(&verifier),
        replies.clone(),
    );
    let shell = Shell {
        core,
        identity,
        members,
        started,
        tick,
        next_tick: Instant::now() + tick,
        events: events.clone(),
        replies,
        answers: Vec::new(),
        tracked: Vec::new(),
        persists: PersistGate::default(),
        completions,
        seen_persisted: 0,
        log: log_sender,
        apply: apply_sender,
        network,
        data,
        snapshots_dir,
        shared: Arc::clone(&shared),
        verifier,
        runs: HashMap::new(),
        reads: HashMap::new(),
        joins: HashMap::new(),
        admin: HashMap::new(),
        verifications: HashMap::new(),
        last_id: 0,
        outgoing: HashMap::new(),
        sending: HashMap::new(),
        incoming: Vec::new(),
    };
    spawn("log", move || writer.run());
    spawn("apply", move || worker.run());
    spawn("core", move || shell.run());
    Ok(NodeHandle::new(events, shared))
}

/// What is found in the log at a start counts from then on, also where there was no mark.
/// # Errors
/// `Io`, as the engine's.
pub fn begin_mark(high_water: &mut HighWater, store: &LogStore) -> Result<(), EngineError> {
    let (last, HardState { term, vote, .. }) = (store.last_position(), store.hard_state());
    let begun = high_water.begin(Mark { last, term: *term, vote: *vote });
    begun.map_err(|error| EngineError::Io(format!("high-water: {error}")))
}

pub(super) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) {
    thread::Builder::new().name(name.to_owned()).spawn(body).expect("the system has a thread to spare");
}

/// The core can go on, or this node cannot.
fn go_on(step: raft::Result<()>) {
    if let Err(error) = step {
        stop_process(&format!("a committed configuration change cannot be applied: {error}"));
    }
}

/// The wall clock, in ms since the Unix epoch.
pub(super) fn wall_ms() -> u64 {
    milliseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn now(started: Instant) -> Now {
    Now { mono_ms: milliseconds(started.elapsed()), wall_ms: wall_ms() }
}

/// The core's thread.
struct Shell {
    core: Core,
    identity: Identity,
    members: Arc<Members>,
    started: Instant,
    tick: Duration,
    next_tick: Instant,
    events: Events,
    replies: Replies,
    /// Answers of this turn.
    answers: Vec<Answer>,
    /// Runs to be tracked, handed over with the next entries.
    tracked: Vec<ClientRun>,
    persists: PersistGate,
    completions: Arc<Completions>,
    seen_persisted: u64,
    log: SyncSender<LogTask>,
    apply: SyncSender<ApplyTask>,
    network: Arc<dyn Network>,
    data: Arc<dyn Engine>,
    snapshots_dir: PathBuf,
    shared: Arc<Shared>,
    verifier: Arc<Verifier>,
    runs: HashMap<RunId, (Vec<Request>, oneshot::Sender<RunResult>)>,
    reads: HashMap<ReadId, oneshot::Sender<Result<u64, RequestError>>>,
    joins: HashMap<RequestId, oneshot::Sender<JoinAnswer>>,
    admin: HashMap<RequestId, oneshot::Sender<Result<(), RequestError>>>,
    verifications: HashMap<RequestId, oneshot::Sender<Result<VerifyResult, RequestError>>>,
    last_id: u64,
    /// Generated snapshots.
    outgoing: HashMap<SnapshotId, SnapshotFiles>,
    /// Snapshots being sent, as long as they are wanted.
    sending: HashMap<SnapshotId, Sending>,
    /// The files of snapshots received and not installed.
    incoming: Vec<(LogPosition, SnapshotFiles)>,
}

/// A snapshot on its way to a peer, as long as it is wanted.
struct Sending {
    to: u64,
    count: Arc<SnapshotCount>,
    _wanted: oneshot::Sender<()>,
}

impl Shell {
    fn run(mut self) {
        // The first turn has no event: what opening the group left to do.
        self.turn(Vec::new());
        loop {
            let appetite = Appetite { runs: self.core.wants_runs(), reads: self.core.wants_reads() };
            let after = self.core.waits_for_persist().then_some(self.seen_persisted);
            let events = if self.completions.want(self.core.waits_for_apply(), after) {
                Vec::new()
            } else {
                let turn = self.core.patience_ms().map(|ms| Instant::now() + Duration::from_millis(ms));
                self.events.mailbox.take(turn.map_or(self.next_tick, |turn| turn.min(self.next_tick)), appetite)
            };
            self.turn(events);
        }
    }

    fn turn(&mut self, events: Vec<Event>) {
        self.core.set_now(now(self.started));
        // First what is durable: an event may be the answer to a message that relied on it.
        self.take_completions();
        for event in events {
            self.event(event);
        }
        let instant = Instant::now();
        if instant >= self.next_tick {
            self.next_tick = instant + self.tick;
            self.core.tick();
            let going = self.persists.flush();
            self.store(going);
            self.publish_status();
        }
        let leader_before = self.shared.status().leader_id;
        let effects = self.core.effects();
        let counts = self.core.take_counts();
        let metrics = &self.shared.metrics;
        metrics.add(Metric::ReadRounds, counts.read_rounds);
        metrics.add(Metric::Elections, counts.group.elections);
        metrics.add(Metric::LeaderChanges, counts.group.leaders);
        counts.proposals.iter().for_each(|commands| metrics.distribution(Distribution::ProposalCommands).add(*commands, 1));
        if let Some(error) = self.core.group().log().failure() {
            stop_for(error, &format!("the Raft log cannot be read: {error}"));
        }
        let alone = &self.shared.alone;
        alone.commit.store(self.core.group().commit_index(), Ordering::Release);
        alone.leads.store(self.core.leads_alone(), Ordering::Release);
        for effect in effects {
            self.carry_out(effect);
        }
        self.replies.send(&mut self.answers);
        if self.core.group().leader() != leader_before {
            self.publish_status();
        }
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn deadline_ms(&self, deadline: Instant) -> u64 {
        milliseconds(deadline.saturating_duration_since(self.started))
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Run { requests, payload, commands, deadline, client } => {
                let id = RunId(self.next_id());
                self.runs.insert(id, (requests, client));
                self.core.run(NewRun { id, payload, commands, deadline_ms: self.deadline_ms(deadline) });
            }
            Event::Read { deadline, log_time_ms, client } => {
                let id = ReadId(self.next_id());
                self.reads.insert(id, client);
                self.core.read(id, self.deadline_ms(deadline), log_time_ms);
            }
            Event::Frame(from, frame) => self.core.frame(from, frame),
            Event::LaneUp(peer, lane) => self.core.lane_up(peer, lane),
            Event::Unreachable(peer) => self.core.unreachable(peer),
            Event::SnapshotReceived(received) => {
                let (message, files) = *received;
                let metadata = message.get_snapshot().get_metadata();
                // One before it was taken by raft at once, or never will be.
                for (_, unused) in self.incoming.drain(..) {
                    remove_dir(&unused.dir);
                }
                self.incoming.push((LogPosition { index: metadata.index, term: metadata.term }, files));
                self.core.snapshot_received(message);
            }
            Event::SnapshotGenerated(id, result) => match *result {
                Ok((snapshot, files)) => {
                    self.outgoing.insert(id, files);
                    self.core.snapshot_generated(id, snapshot);
                }
                // The lack of something is this snapshot's trouble; anything else was read from the data, or is the disk's.
                Err(error) if may_pass(&error) || matches!(error, EngineError::WouldBlock) => {
                    tracing::error!(%error, "cannot generate a snapshot");
                    self.shared.metrics.add(Metric::SnapshotsFailed, 1);
                    self.core.snapshot_sent(id, Err(()));
                }
                Err(error) => stop_for(&error, &format!("a snapshot cannot be made: {error}")),
            },
            Event::SnapshotSent(id, sent) => {
                self.sending.remove(&id);
                self.shared.metrics.add(if sent { Metric::SnapshotsSent } else { Metric::SnapshotsFailed }, 1);
                self.core.snapshot_sent(id, if sent { Ok(()) } else { Err(()) });
            }
            Event::Join(cluster_id, member, client) => {
                let id = RequestId(self.next_id());
                self.joins.insert(id, client);
                self.core.join(id, cluster_id.as_deref(), *member);
            }
            Event::Admin(request, client) => {
                let id = RequestId(self.next_id());
                self.admin.insert(id, client);
                self.core.admin(id, request);
            }
            Event::Verify(client) => {
                let id = RequestId(self.next_id());
                self.verifications.insert(id, client);
                self.core.verify(id);
            }
            Event::Resign => self.core.resign(),
        }
    }

    fn take_completions(&mut self) {
        let (persisted, finished) = self.completions.take();
        if let Some(applied) = finished.applied {
            self.core.applied(applied);
            if !Arc::ptr_eq(&self.members, &self.core.applied_state().members) {
                self.members_changed();
            }
        }
        if finished.installed {
            let going = self.persists.installed();
            self.store(going);
        }
        if persisted > self.seen_persisted {
            self.seen_persisted = persisted;
            go_on(self.core.persisted(persisted));
            if let Some(files) = self.persists.persisted(persisted) {
                send_task(&self.apply, ApplyTask::FinishInstall(files));
            }
        }
        if let Some(change) = finished.change {
            go_on(self.core.change_reached(change));
        }
        if finished.data_synced {
            self.core.data_synced();
        }
        match finished.digest {
            Some((entry, Some(digest))) => self.core.digested(entry, digest),
            Some((entry, None)) => self.core.digest_begun(entry),
            None => {}
        }
        if let Some((entry, part, detail)) = finished.detail {
            self.core.examined(entry, part, detail.digest, detail.first_key);
        }
    }

    fn members_changed(&mut self) {
        self.members = Arc::clone(&self.core.applied_state().members);
        if self.members.removed.contains(&self.identity.node_id) {
            stop_process(&format!("this node was removed from the cluster; {REJOIN}"));
        }
        self.network.set_members(&self.members);
        self.publish_status();
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send(to, lane, frame) => {
                if !self.network.send(to, lane, frame) {
                    match lane {
                        Lane::Append => self.core.unreachable(to),
                        Lane::Forward => self.core.forward_dropped(),
                        Lane::Control => {}
                    }
                }
            }
            Effect::Persist(persist) => self.persist(persist),
            Effect::Track(id, sequence) => {
                let (requests, client) = self.runs.remove(&id).expect("a run is sent once");
                self.tracked.push((TrackedRun { id, sequence, requests }, client));
            }
            Effect::Apply(entries) => self.apply(entries),
            Effect::Configure(configuration) => send_task(&self.apply, ApplyTask::Configure(configuration)),
            Effect::Install(snapshot) => self.install(&snapshot),
            Effect::FailRun(id, error) => {
                if let Some((_, client)) = self.runs.remove(&id) {
                    self.answers.push(Answer::Run(client, Err(error)));
                }
            }
            Effect::GiveUp(sequence) => {
                self.apply(Vec::new());
                send_task(&self.apply, ApplyTask::GiveUp(sequence));
            }
            Effect::ReadReady { id, now_ms } => {
                if let Some(client) = self.reads.remove(&id) {
                    self.answers.push(Answer::Read(client, Ok(now_ms)));
                }
            }
            Effect::FailRead(id, error) => {
                if let Some(client) = self.reads.remove(&id) {
                    self.answers.push(Answer::Read(client, Err(error)));
                }
            }
            Effect::GenerateSnapshot(to, id) => self.generate_snapshot(to, id),
            Effect::SendSnapshot(id, message) => self.send_snapshot(id, &message),
            Effect::DropSnapshot(id) => {
                self.sending.remove(&id);
                if let Some(files) = self.outgoing.remove(&id) {
                    remove_dir(&files.dir);
                }
            }
            Effect::SyncData => self.sync_data(),
            Effect::Truncate(to) => send_task(&self.log, LogTask::Truncate(to)),
            Effect::AnswerJoin(id, answer) => {
                if let Some(client) = self.joins.remove(&id) {
                    drop(client.send(answer));
                }
            }
            Effect::AnswerAdmin(id, result) => {
                if let Some(client) = self.admin.remove(&id) {
                    drop(client.send(result));
                }
            }
            Effect::ExaminePart(entry, part) => self.verifier.examine(entry, part),
            Effect::AnswerVerify(id, result) => {
                if let Some(client) = self.verifications.remove(&id) {
                    drop(client.send(result));
                }
            }
            Effect::Verified(result) => self.record(&result),
            Effect::StopDiverged(divergence) => self.stop_diverged(&divergence),
        }
    }

    /// This node has compared the replicas.
    fn record(&self, result: &VerifyResult) {
        let index = result.index;
        let differing = result.members.iter().filter(|member| member.difference.is_some()).count();
        self.shared.metrics.set(Metric::VerifyDiffering, differing as u64);
        for member in &result.members {
            match &member.difference {
                None if member.hash.is_empty() => tracing::warn!(index, node_id = member.node_id, "a replica was not compared"),
                None => {}
                Some(difference) => {
                    self.shared.metrics.add(Metric::VerifyMismatches, 1);
                    let place = place(difference);
                    tracing::error!(index, node_id = member.node_id, has_majority = result.has_majority, "a replica differs {place}");
                }
            }
        }
        tracing::info!(index, members = result.members.len(), "the replicas were compared");
    }

    fn stop_diverged(&self, Divergence { index, difference }: &Divergence) -> ! {
        self.shared.metrics.add(Metric::VerifyMismatches, 1);
        let place = place(difference);
        stop_for_good(&format!("this node cannot be trusted: as of index {index} its data differ from those of a majority {place}"));
    }

    fn persist(&mut self, mut persist: Persist) {
        // Only a leader of a new term has snapshots here; they need no sync and go their own way.
        for snapshot in persist.messages.extract_if(.., |message| message.get_msg_type() == MessageType::MsgSnapshot) {
            self.core.send_snapshot(snapshot);
        }
        let going = self.persists.push(persist);
        self.store(going);
    }

    fn store(&self, persists: Vec<Persist>) {
        for persist in persists {
            send_task(&self.log, LogTask::Persist(persist));
        }
    }

    fn apply(&mut self, entries: Vec<Entry>) {
        send_task(&self.apply, ApplyTask::Apply(std::mem::take(&mut self.tracked), entries));
    }

    /// The data first, then the log: the persist with the reset follows this effect and waits.
    fn install(&mut self, snapshot: &Snapshot) {
        let metadata = snapshot.get_metadata();
        let position = LogPosition { index: metadata.index, term: metadata.term };
        let at = self.incoming.iter().rposition(|(of, _)| *of == position).expect("raft installs only what was received");
        let (_, files) = self.incoming.remove(at);
        for (_, unused) in self.incoming.drain(..) {
            remove_dir(&unused.dir);
        }
        tracing::info!(index = position.index, "installing a snapshot");
        self.apply(Vec::new());
        self.persists.begin_installation(files.clone());
        send_task(&self.apply, ApplyTask::Install(files, position));
    }

    /// Apply goes on meanwhile: what it has written by now is what counts.
    fn sync_data(&self) {
        let (data, completions) = (Arc::clone(&self.data), Arc::clone(&self.completions));
        spawn("sync", move || match data.sync() {
            Ok(()) => completions.data_synced(),
            Err(error) => stop_for(&error, &format!("the data cannot be made durable: {error}")),
        });
    }

    fn generate_snapshot(&mut self, to: u64, id: SnapshotId) {
        let data = Arc::clone(&self.data);
        let (events, shared) = (self.events.clone(), Arc::clone(&self.shared));
        let dir = self.snapshots_dir.join(format!("out-{to}-{}", id.0));
        spawn("snapshot", move || {
            step_back();
            // No installation may pull the data away under the view.
            let _whole = shared.whole.read().expect("no holder of this lock panics");
            let result = generate_snapshot(data.as_ref(), &dir, &snapshot::Node::new(Arc::clone(&shared)));
            if result.is_err() && dir.exists() {
                remove_dir(&dir);
            }
            events.send_blocking(Event::SnapshotGenerated(id, Box::new(result)));
        });
    }

    fn send_snapshot(&mut self, id: SnapshotId, message: &Message) {
        let to = message.to;
        let files = self.outgoing.remove(&id).expect("the core sends what was generated, once");
        let bytes = message.write_to_bytes().expect("a message in memory can be encoded");
        let events = self.events.clone();
        let dir = files.dir.clone();
        let done = move |sent| {
            remove_dir(&dir);
            events.send_blocking(Event::SnapshotSent(id, sent));
        };
        let (wanted, until) = oneshot::channel();
        let count = Arc::new(SnapshotCount::new(Box::new(snapshot::Node::new(Arc::clone(&self.shared)))));
        self.sending.insert(id, Sending { to, count: Arc::clone(&count), _wanted: wanted });
        self.network.send_snapshot(to, bytes.into(), files, count, until, Box::new(done));
    }

    fn publish_status(&self) {
        let snapshot_to = |peer| self.sending.values().find(|sending| sending.to == peer).map(|sending| sending.count.get());
        *self.shared.status.write().expect("no holder of this lock panics") =
            Arc::new(NodeStatus::of(&self.core, &self.identity, &self.members, snapshot_to));
    }
}

/// Where data differ, for the log: keys are escaped, and long ones shortened.
fn place(Difference { family, key }: &Difference) -> String {
    let family = usize::try_from(*family).ok().and_then(|at| COLUMN_FAMILIES.get(at)).unwrap_or(&"?");
    match key {
        None => format!("in column family {family}"),
        Some(key) => {
            let shown = &key[..key.len().min(LOGGED_KEY_BYTES_MAX)];
            let more = if shown.len() < key.len() { "..." } else { "" };
            format!("in column family {family}, first at key \"{}{more}\"", shown.escape_ascii())
        }
    }
}

fn remove_dir(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir) {
        tracing::warn!(dir = %dir.display(), %error, "cannot remove a snapshot's files");
    }
}

fn send_task<T>(worker: &SyncSender<T>, task: T) {
    if worker.send(task).is_err() {
        stop_process("a worker thread is gone");
    }
}
