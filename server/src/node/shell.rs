//! The shell around the core: threads, channels and clocks that bring events in and carry effects out.
//! One thread owns the core, one writes the log, one applies. Work flows forward through bounded channels; completions flow back through
//! `Completions`, which never blocks, so that no two threads can wait for each other. The core's thread sleeps until an event or the next
//! tick; a stall costs at most one tick, so that a node that was paused does not rush into an election.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeV2, Message, MessageType, Snapshot};
use raftlog::engine::{Engine, EngineError, ViewKind};
use raftlog::group::{Group, GroupConfig};
use raftlog::log::{LogPosition, LogStore, Persist};
use raftlog::message::Frame;
use tokio::sync::oneshot;

use super::apply_worker::{ApplyTask, ApplyWorker};
use super::core::{
    AdminRequest, Applied, Core, CoreConfig, Effect, GROUP, JoinAnswer, Lane, Member, Members, NewRun, Now, ReadId, RequestId, RunId,
    SnapshotContents, StateMachine, TrackedRun, read_snapshot_contents,
};
use super::handle::{Alone, MemberStatus, NodeHandle, NodeStatus, Role, Shared};
use super::log_writer::{LogTask, LogWriter};
use super::request::{Request, RunResult};
use super::storage::{Identity, SnapshotFiles, Storage};
use crate::config::Config;
use crate::error::RequestError;
use crate::keyspace::group_range;

/// Exit code of a node that must not be started again by a supervisor.
pub const EXIT_DO_NOT_RESTART: i32 = 3;
/// Events waiting for the core; senders beyond that wait or are refused.
const EVENTS_MAX: usize = 1 << 16;
/// Tasks waiting for a worker; the core waits beyond that.
const TASKS_MAX: usize = 1 << 14;
/// Events of one turn of the core.
const TURN_EVENTS_MAX: usize = 4096;
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
    /// Streams a snapshot; `done` is called once, whatever happens.
    fn send_snapshot(&self, to: u64, message: Bytes, files: SnapshotFiles, done: Box<dyn FnOnce(bool) + Send>);
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
    /// A snapshot was generated for a peer.
    SnapshotGenerated(u64, Box<Result<(Snapshot, SnapshotFiles), EngineError>>),
    /// The sending of a snapshot ended.
    SnapshotSent(u64, bool),
    /// A node wants to join, or tells its new addresses.
    Join(Option<String>, Box<Member>, oneshot::Sender<JoinAnswer>),
    /// An administrator's request.
    Admin(AdminRequest, oneshot::Sender<Result<(), RequestError>>),
    /// Hand leadership over, if there is anybody to take it.
    Resign,
    /// Look at the completions.
    Wake,
}

/// Sends events to the core.
#[derive(Clone)]
pub struct Events {
    sender: SyncSender<Event>,
}

impl Events {
    /// Sends an event if there is room.
    /// # Errors
    /// The event, when there is none or the node is gone.
    pub fn try_send(&self, event: Event) -> Result<(), Event> {
        self.sender.try_send(event).map_err(|error| match error {
            TrySendError::Full(event) | TrySendError::Disconnected(event) => event,
        })
    }

    /// Sends an event, waiting for room without blocking a thread.
    pub async fn send(&self, event: Event) {
        let mut event = event;
        while let Err(TrySendError::Full(refused)) = self.sender.try_send(event) {
            event = refused;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Sends an event from a thread of the node's own that may wait.
    fn send_blocking(&self, event: Event) {
        // The core outlives the threads that report to it, but for the end of the process.
        drop(self.sender.send(event));
    }
}

/// What workers have finished, for the core to pick up.
pub(super) struct Completions {
    persisted: AtomicU64,
    rest: Mutex<Finished>,
    events: Events,
    awake: AtomicBool,
}

#[derive(Default)]
struct Finished {
    applied: Option<Applied>,
    installed: bool,
    change: Option<ConfChangeV2>,
    data_synced: bool,
}

impl Completions {
    pub(super) fn persisted(&self, number: u64) {
        self.persisted.store(number, Ordering::Release);
        self.wake();
    }

    pub(super) fn applied(&self, applied: Applied) {
        self.update(|finished| {
            let gap = finished.applied.as_ref().is_some_and(|earlier| earlier.gap);
            finished.applied = Some(Applied { gap: applied.gap || gap, ..applied });
        });
    }

    pub(super) fn installed(&self, applied: Applied) {
        self.update(|finished| {
            finished.applied = Some(applied);
            finished.installed = true;
        });
    }

    pub(super) fn change_reached(&self, change: ConfChangeV2) {
        self.update(|finished| finished.change = Some(change));
    }

    pub(super) fn data_synced(&self) {
        self.update(|finished| finished.data_synced = true);
    }

    fn update(&self, change: impl FnOnce(&mut Finished)) {
        change(&mut self.rest.lock().expect("no holder of this lock panics"));
        self.wake();
    }

    fn wake(&self) {
        // When there is no room, the core is not asleep.
        if !self.awake.swap(true, Ordering::AcqRel) {
            drop(self.events.try_send(Event::Wake));
        }
    }

    fn take(&self) -> (u64, Finished) {
        self.awake.store(false, Ordering::Release);
        let finished = std::mem::take(&mut *self.rest.lock().expect("no holder of this lock panics"));
        (self.persisted.load(Ordering::Acquire), finished)
    }
}

/// Ends the process because this node cannot be trusted any further.
pub fn stop_process(reason: &str) -> ! {
    tracing::error!("{reason}");
    eprintln!("redraft: {reason}");
    std::process::exit(EXIT_DO_NOT_RESTART);
}

/// Why a node could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] raftlog::log::LogError),
    /// The data cannot be used.
    #[error(transparent)]
    Data(#[from] EngineError),
    /// raft refuses the state it is given.
    #[error("the Raft state cannot be used: {0}")]
    Raft(#[from] raft::Error),
}

/// A channel for events, made before the node so that the network can be started first.
#[must_use]
pub fn events() -> (Events, Receiver<Event>) {
    let (sender, receiver) = sync_channel(EVENTS_MAX);
    (Events { sender }, receiver)
}

/// Starts the threads of a node that has an identity.
/// # Errors
/// See `StartError`.
pub fn start(
    storage: Storage,
    config: Arc<Config>,
    events: Events,
    received: Receiver<Event>,
    network: Arc<dyn Network>,
    random: u64,
) -> Result<NodeHandle, StartError> {
    let identity = storage.identity().clone();
    let boot = storage.boot();
    let mark = storage.high_water_mark();
    let hints = storage.hints().unwrap_or_default();
    let snapshots_dir = storage.snapshots_dir();
    let (log, data, high_water) = storage.into_parts();

    let SnapshotContents { position, configuration } = read_snapshot_contents(data.view(ViewKind::Latest).as_ref())?;
    let store = LogStore::open(Arc::clone(&log), GROUP, position, configuration, mark)?;
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
        clock_skew_max_ms: milliseconds(config.clock_skew_max),
        seed: random,
    };
    let started = Instant::now();
    let core = Core::new(core_config, group, applied, now(started));
    let completions = Arc::new(Completions {
        persisted: AtomicU64::new(0),
        rest: Mutex::default(),
        events: events.clone(),
        awake: AtomicBool::new(false),
    });
    let (log_sender, log_tasks) = sync_channel(TASKS_MAX);
    let (apply_sender, apply_tasks) = sync_channel(TASKS_MAX);
    let writer =
        LogWriter { engine: log, high_water, tasks: log_tasks, network: Arc::clone(&network), completions: Arc::clone(&completions) };
    let status = status(&core, &identity, &members);
    let shared = Arc::new(Shared {
        data: Arc::clone(&data),
        status: RwLock::new(Arc::new(status)),
        serve_from,
        alone: Alone::default(),
        disk_is_full: AtomicBool::new(false),
        network: Arc::clone(&network),
        config,
    });
    let worker = ApplyWorker::new(machine, Arc::clone(&data), apply_tasks, Arc::clone(&completions), Arc::clone(&shared));
    let shell = Shell {
        core,
        identity,
        members,
        started,
        tick,
        next_tick: Instant::now() + tick,
        received,
        events: events.clone(),
        completions,
        seen_persisted: 0,
        log: log_sender,
        apply: apply_sender,
        network,
        data,
        snapshots_dir,
        shared: Arc::clone(&shared),
        runs: HashMap::new(),
        reads: HashMap::new(),
        joins: HashMap::new(),
        admin: HashMap::new(),
        last_id: 0,
        outgoing: HashMap::new(),
        incoming: None,
        installing: None,
    };
    spawn("log", move || writer.run());
    spawn("apply", move || worker.run());
    spawn("core", move || shell.run());
    Ok(NodeHandle::new(events, shared))
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) {
    thread::Builder::new().name(name.to_owned()).spawn(body).expect("the system has a thread to spare at start");
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

struct ClientRun {
    requests: Vec<Request>,
    client: oneshot::Sender<RunResult>,
}

/// The core's thread.
struct Shell {
    core: Core,
    identity: Identity,
    members: Arc<Members>,
    started: Instant,
    tick: Duration,
    next_tick: Instant,
    received: Receiver<Event>,
    events: Events,
    completions: Arc<Completions>,
    seen_persisted: u64,
    log: SyncSender<LogTask>,
    apply: SyncSender<ApplyTask>,
    network: Arc<dyn Network>,
    data: Arc<dyn Engine>,
    snapshots_dir: PathBuf,
    shared: Arc<Shared>,
    runs: HashMap<RunId, ClientRun>,
    reads: HashMap<ReadId, oneshot::Sender<Result<u64, RequestError>>>,
    joins: HashMap<RequestId, oneshot::Sender<JoinAnswer>>,
    admin: HashMap<RequestId, oneshot::Sender<Result<(), RequestError>>>,
    last_id: u64,
    /// Generated snapshots by receiver.
    outgoing: HashMap<u64, SnapshotFiles>,
    /// The files of the snapshot received last.
    incoming: Option<(LogPosition, SnapshotFiles)>,
    /// The snapshot being installed, with the persist that has to wait for it.
    installing: Option<(SnapshotFiles, Vec<Persist>)>,
}

impl Shell {
    fn run(mut self) {
        // The first turn has no event: what opening the group left to do.
        self.turn(None);
        loop {
            let wait = self.next_tick.saturating_duration_since(Instant::now());
            match self.received.recv_timeout(wait) {
                Ok(event) => self.turn(Some(event)),
                Err(RecvTimeoutError::Timeout) => self.turn(None),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn turn(&mut self, first: Option<Event>) {
        self.core.set_now(now(self.started));
        let mut next = first;
        let mut count = 0;
        while let Some(event) = next.take() {
            self.event(event);
            count += 1;
            if count < TURN_EVENTS_MAX {
                next = self.received.try_recv().ok();
            }
        }
        self.take_completions();
        let instant = Instant::now();
        if instant >= self.next_tick {
            self.next_tick = instant + self.tick;
            self.core.tick();
            self.publish_status();
        }
        // Applying effects can make more of them, but only through events.
        let leader_before = self.shared.status().leader_id;
        let effects = self.core.effects();
        let alone = &self.shared.alone;
        alone.commit.store(self.core.group().commit_index(), Ordering::Release);
        alone.leads.store(self.core.leads_alone(), Ordering::Release);
        for effect in effects {
            self.carry_out(effect);
        }
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
                self.runs.insert(id, ClientRun { requests, client });
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
                self.incoming = Some((LogPosition { index: metadata.index, term: metadata.term }, files));
                self.core.snapshot_received(message);
            }
            Event::SnapshotGenerated(to, result) => match *result {
                Ok((snapshot, files)) => {
                    self.outgoing.insert(to, files);
                    self.core.snapshot_generated(to, snapshot);
                }
                Err(error) => {
                    tracing::error!(to, %error, "cannot generate a snapshot");
                    self.core.snapshot_sent(to, Err(()));
                }
            },
            Event::SnapshotSent(to, sent) => self.core.snapshot_sent(to, if sent { Ok(()) } else { Err(()) }),
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
            Event::Resign => self.core.resign(),
            Event::Wake => {}
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
        if finished.installed
            && let Some((_, persists)) = &mut self.installing
        {
            for persist in std::mem::take(persists) {
                send_task(&self.log, LogTask::Persist(persist));
            }
        }
        if persisted > self.seen_persisted {
            self.seen_persisted = persisted;
            self.core.persisted(persisted);
            if let Some((files, _)) = self.installing.take_if(|(_, persists)| persists.is_empty()) {
                send_task(&self.apply, ApplyTask::FinishInstall(files));
            }
        }
        if let Some(change) = finished.change
            && let Err(error) = self.core.change_reached(&change)
        {
            stop_process(&format!("a committed configuration change cannot be applied: {error}"));
        }
        if finished.data_synced {
            self.core.data_synced();
        }
    }

    fn members_changed(&mut self) {
        self.members = Arc::clone(&self.core.applied_state().members);
        if self.members.removed.contains(&self.identity.node_id) {
            stop_process("this node was removed from the cluster");
        }
        self.network.set_members(&self.members);
        self.publish_status();
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send(to, lane, frame) => {
                if !self.network.send(to, lane, frame) && lane == Lane::Append {
                    self.core.unreachable(to);
                }
            }
            Effect::Persist(persist) => self.persist(persist),
            Effect::Track(id, sequence) => {
                let ClientRun { requests, client } = self.runs.remove(&id).expect("a run is sent once");
                send_task(&self.apply, ApplyTask::Track(TrackedRun { id, sequence, requests }, client));
            }
            Effect::Apply(entries) => send_task(&self.apply, ApplyTask::Apply(entries)),
            Effect::Configure(configuration) => send_task(&self.apply, ApplyTask::Configure(configuration)),
            Effect::Install(snapshot) => self.install(&snapshot),
            Effect::FailRun(id, error) => {
                if let Some(run) = self.runs.remove(&id) {
                    drop(run.client.send(Err(error)));
                }
            }
            Effect::GiveUp(sequence) => send_task(&self.apply, ApplyTask::GiveUp(sequence)),
            Effect::ReadReady { id, now_ms } => {
                if let Some(client) = self.reads.remove(&id) {
                    drop(client.send(Ok(now_ms)));
                }
            }
            Effect::FailRead(id, error) => {
                if let Some(client) = self.reads.remove(&id) {
                    drop(client.send(Err(error)));
                }
            }
            Effect::GenerateSnapshot(to) => self.generate_snapshot(to),
            Effect::SendSnapshot(message) => self.send_snapshot(&message),
            Effect::SyncData => send_task(&self.apply, ApplyTask::Sync),
            Effect::Truncate(from, to) => send_task(&self.log, LogTask::Truncate(from, to)),
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
        }
    }

    fn persist(&mut self, mut persist: Persist) {
        if let Some(at) = persist.messages.iter().position(|message| message.get_msg_type() == MessageType::MsgSnapshot) {
            // Only a leader of a new term has one here; raft sends another when this one is reported as failed.
            let message = persist.messages.remove(at);
            self.core.snapshot_sent(message.to, Err(()));
        }
        match &mut self.installing {
            Some((_, persists)) => persists.push(persist),
            None => send_task(&self.log, LogTask::Persist(persist)),
        }
    }

    /// The data first, then the log: the persist with the reset follows this effect and waits.
    fn install(&mut self, snapshot: &Snapshot) {
        let metadata = snapshot.get_metadata();
        let position = LogPosition { index: metadata.index, term: metadata.term };
        let (of, files) = self.incoming.take().expect("raft installs only what was received");
        assert_eq!(of, position, "raft installs the snapshot received last");
        tracing::info!(index = position.index, "installing a snapshot");
        self.installing = Some((files.clone(), Vec::new()));
        send_task(&self.apply, ApplyTask::Install(files, position));
    }

    fn generate_snapshot(&mut self, to: u64) {
        let data = Arc::clone(&self.data);
        let events = self.events.clone();
        let dir = self.snapshots_dir.join(format!("out-{to}"));
        spawn("snapshot", move || {
            let result = generate_snapshot(data.as_ref(), &dir);
            events.send_blocking(Event::SnapshotGenerated(to, Box::new(result)));
        });
    }

    fn send_snapshot(&mut self, message: &Message) {
        let to = message.to;
        let Some(files) = self.outgoing.remove(&to) else {
            self.core.snapshot_sent(to, Err(()));
            return;
        };
        let bytes = message.write_to_bytes().expect("a message in memory can be encoded");
        let events = self.events.clone();
        let dir = files.dir.clone();
        let done = move |sent| {
            if let Err(error) = std::fs::remove_dir_all(&dir) {
                tracing::warn!(dir = %dir.display(), %error, "cannot remove a snapshot's files");
            }
            events.send_blocking(Event::SnapshotSent(to, sent));
        };
        self.network.send_snapshot(to, bytes.into(), files, Box::new(done));
    }

    fn publish_status(&self) {
        *self.shared.status.write().expect("no holder of this lock panics") = Arc::new(status(&self.core, &self.identity, &self.members));
    }
}

fn send_task<T>(worker: &SyncSender<T>, task: T) {
    if worker.send(task).is_err() {
        stop_process("a worker thread is gone");
    }
}

/// Exports the data of one view and describes it for raft.
fn generate_snapshot(data: &dyn Engine, dir: &Path) -> Result<(Snapshot, SnapshotFiles), EngineError> {
    let io = |error: std::io::Error| EngineError::Io(format!("{}: {error}", dir.display()));
    if dir.exists() {
        std::fs::remove_dir_all(dir).map_err(io)?;
    }
    std::fs::create_dir_all(dir).map_err(io)?;
    let view = data.view(ViewKind::Snapshot);
    let SnapshotContents { position, configuration } = read_snapshot_contents(view.as_ref())?;
    let files = data.export(view.as_ref(), &group_range(GROUP), dir)?;
    let mut snapshot = Snapshot::default();
    let metadata = snapshot.mut_metadata();
    metadata.index = position.index;
    metadata.term = position.term;
    metadata.set_conf_state(configuration);
    Ok((snapshot, SnapshotFiles { dir: dir.to_owned(), files }))
}

fn status(core: &Core, identity: &Identity, members: &Members) -> NodeStatus {
    let group = core.group();
    let configuration = group.configuration();
    let role = match group.role() {
        raft::StateRole::Leader => Role::Leader,
        raft::StateRole::Candidate | raft::StateRole::PreCandidate => Role::Candidate,
        raft::StateRole::Follower if configuration.voters.contains(&identity.node_id) => Role::Follower,
        raft::StateRole::Follower => Role::Learner,
    };
    let member = |member: &Member| MemberStatus {
        node_id: member.node_id,
        listen: member.addresses.listen.clone(),
        peer: member.addresses.peer.clone(),
        admin: member.addresses.admin.clone(),
        voter: configuration.voters.contains(&member.node_id),
        match_index: group.progress(member.node_id).map_or(0, |(matched, _)| matched),
    };
    NodeStatus {
        cluster_id: identity.cluster_id.clone(),
        node_id: identity.node_id,
        role,
        term: group.term(),
        leader_id: group.leader(),
        commit_index: group.commit_index(),
        applied_index: core.applied_state().position.index,
        last_index: group.log().last(),
        first_index: group.log().first(),
        log_time_ms: core.applied_state().log_time_ms,
        members: members.members.iter().map(member).collect(),
    }
}
