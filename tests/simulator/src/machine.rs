//! One machine: its two disks, its clock, and the node that runs on it while it has power.
//! It is what the threads of `redraft::node::shell` are in a process, cut into steps that the world schedules one by one: a turn of the
//! core, the log writer before and after its sync, the apply worker, and the work that goes on beside them. What has to happen outside is
//! left in `out`.
//! A crash takes the node in the middle of what it was doing. Everything that survives is on the disks and in the directory.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use raft::Storage as _;
use raft::eraftpb::{ConfChangeV2, Entry, Message, MessageType, Snapshot};
use raft::{GetEntriesContext, StateRole};
use raftlog::engine::{Engine, EngineError, ExportedFile, ViewKind, WriteBatch};
use raftlog::group::{Group, GroupConfig};
use raftlog::log::{HighWater, LOG_COLUMN_FAMILIES, LogPosition, LogStore, Mark, Persist};
use raftlog::message::{Body, Frame, GroupDigest};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use redraft::command::{Handler, codec};
use redraft::error::RequestError;
use redraft::keyspace::digest::digest;
use redraft::keyspace::{GroupId, KeyspaceState, ReadContext, ReadError, Reader, STATE, UnixMillis, state_key};
use redraft::node::core::{
    Applied, COLUMN_FAMILIES, Core, CoreConfig, Effect, GROUP, Halt, JoinAnswer, Lane, Members, NewRun, Now, Reached, ReadId, RequestId,
    RunId, SnapshotContents, SnapshotId, StateMachine, TrackedRun, raft_frame, read_snapshot_contents,
};
use redraft::node::log_writer::{self, LogTask};
use redraft::node::shell::{begin_mark, generate_snapshot};
use redraft::node::storage::{self, Identity, SnapshotFiles, Storage};
use redraft::node::{Request, RunResult};
use resp::Reply;

use crate::disk::Disk;
use crate::plan::Sizes;
use crate::planted::{self, Bug};

/// Patience of a client's request, in ms; as the default of `request-timeout`.
const REQUEST_TIMEOUT_MS: u64 = 5_000;

/// A step of a node that was left for later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// One unit of Raft's time.
    Tick,
    /// A turn of the core: a worker has finished something.
    Turn,
    /// The log writer takes what waits.
    LogWrite,
    /// Its sync is done.
    LogSync,
    /// The apply worker takes what waits.
    Apply,
    /// The sync of the data is done; when it began so many batches were unsynced.
    DataSync(usize),
    /// A snapshot for a member.
    Generate(u64, SnapshotId),
}

/// What a node has for the world.
#[derive(Debug)]
pub enum Out {
    /// Do this later.
    Later(Work),
    /// A frame for a member.
    Send(u64, Lane, Frame),
    /// A snapshot to be streamed to the receiver of the message.
    Stream(SnapshotId, Box<Message>, SnapshotFiles),
    /// A client's run has its outcome.
    RunDone(RunId, RunResult),
    /// A client's reads have their outcome.
    ReadDone(ReadId, Result<Vec<Reply>, RequestError>),
    /// A join request is answered.
    JoinDone(RequestId, JoinAnswer),
    /// An administrator's request is answered.
    AdminDone(Result<(), RequestError>),
    /// These entries are committed, as far as this node knows.
    Committed(Vec<Entry>),
    /// These entries are about to be in the node's log.
    Logged(Vec<Entry>),
    /// A comparison of the replicas has ended.
    Compared(Result<(), RequestError>),
    /// A comparison of the replicas has found a difference.
    Differs(String),
    /// The node has learned that it was removed.
    Removed,
}

/// What is left on a machine that starts.
pub enum Started {
    /// It runs.
    Running,
    /// It has no identity and asks to join.
    Blank,
    /// It refuses to run, for this reason.
    Refused(String),
}

#[derive(Default)]
struct Finished {
    persisted: u64,
    applied: Option<Applied>,
    installed: bool,
    change: Option<ConfChangeV2>,
    data_synced: bool,
    digest: Option<(LogPosition, GroupDigest)>,
}

enum ApplyTask {
    GiveUp(u64),
    Apply(Vec<TrackedRun>, Vec<Entry>),
    Configure(raft::eraftpb::ConfState),
    Install(SnapshotFiles, LogPosition),
    FinishInstall(SnapshotFiles),
}

/// A run that is on its way.
struct Sent {
    requests: Vec<Request>,
    payload: Bytes,
    commands: u32,
}

/// A running node: all that a crash takes.
pub struct Life {
    /// Who it is.
    pub identity: Identity,
    /// Its boot.
    pub boot: u64,
    /// Random number of this start.
    pub nonce: u64,
    /// The decisions.
    pub core: Core,
    /// The newest table of members that the node has heard of.
    pub members: Arc<Members>,
    /// The table in its data, as of the last turn.
    table: Arc<Members>,
    machine: StateMachine,
    high_water: HighWater,
    log_tasks: Vec<LogTask>,
    log_busy: Option<Vec<LogTask>>,
    apply_tasks: VecDeque<ApplyTask>,
    apply_scheduled: bool,
    turn_scheduled: bool,
    entries: VecDeque<Entry>,
    waiting_for_configuration: bool,
    finished: Finished,
    unsynced: Vec<Persist>,
    tracked: Vec<TrackedRun>,
    runs: BTreeMap<RunId, Sent>,
    reads: BTreeMap<ReadId, Vec<Request>>,
    outgoing: BTreeMap<SnapshotId, SnapshotFiles>,
    incoming: Vec<(LogPosition, SnapshotFiles)>,
    installing: Option<(SnapshotFiles, Vec<Persist>)>,
    last_id: u64,
    now: Now,
    asked_round: u64,
    seen_persisted: u64,
}

/// One machine.
pub struct Machine {
    /// Its place in the world, and so its address.
    pub slot: usize,
    /// The log's disk.
    pub log: Arc<Disk>,
    /// The data's disk.
    pub data: Arc<Disk>,
    /// What runs on it.
    pub life: Option<Life>,
    /// A node without an identity.
    pub blank: Option<Storage>,
    /// Lives and blank starts so far; whatever was scheduled for an earlier one is void.
    pub era: u64,
    /// What the node has left to do for the world.
    pub out: Vec<Out>,
    /// A file of the log was damaged: the node may refuse to start.
    pub damaged: bool,
    sizes: Sizes,
    bug: Option<Bug>,
    dir: PathBuf,
    /// The mark that the high-water file holds for certain, and those written since: any of them may be what a crash leaves.
    marks: Vec<Mark>,
    configuration_before: Option<Bytes>,
    received: u64,
}

impl Machine {
    /// A new machine with empty disks.
    pub fn new(slot: usize, dir: &Path, sizes: Sizes, bug: Option<Bug>) -> Self {
        let mut machine = Self {
            slot,
            log: Arc::new(Disk::new(0, None, slot)),
            data: Arc::new(Disk::new(0, None, slot)),
            life: None,
            blank: None,
            era: 0,
            out: Vec::new(),
            damaged: false,
            sizes,
            bug,
            dir: dir.join(slot.to_string()),
            marks: Vec::new(),
            configuration_before: None,
            received: 0,
        };
        machine.wipe();
        machine
    }

    /// New disks.
    pub fn wipe(&mut self) {
        assert!(self.life.is_none() && self.blank.is_none(), "a machine is wiped while it is down");
        self.log = Arc::new(Disk::new(LOG_COLUMN_FAMILIES.len(), None, self.slot));
        self.data = Arc::new(Disk::new(COLUMN_FAMILIES.len(), self.bug, self.slot));
        if self.dir.exists() {
            fs::remove_dir_all(&self.dir).expect("the directory is ours");
        }
        fs::create_dir_all(&self.dir).expect("the directory is ours");
        self.damaged = false;
        self.marks.clear();
        self.configuration_before = None;
    }

    fn open(&self, random: u64) -> Result<Storage, String> {
        Storage::over(&self.dir, self.log.clone(), self.data.clone(), random).map_err(|error| error.to_string())
    }

    /// Makes the machine a founding member of a new cluster.
    pub fn found(&mut self, members: Members, node_id: u64, incarnation: u64) {
        let mut storage = self.open(incarnation).expect("empty disks are in order");
        storage.found(members, node_id).expect("memory does not fail");
    }

    /// Makes a wiped machine a member with an id it was not given.
    pub fn impersonate(&mut self, members: &Members, node_id: u64, incarnation: u64) {
        let mut storage = self.open(incarnation).expect("empty disks are in order");
        storage.join(members, node_id).expect("memory does not fail");
    }

    /// Switches the machine on.
    pub fn start(&mut self, now: Now, random: &mut SmallRng) -> Started {
        assert!(self.life.is_none() && self.blank.is_none(), "a machine is started while it is down");
        self.era += 1;
        if self.bug == Some(Bug::ShortLogAccepted) {
            drop(fs::remove_file(self.mark_path()));
        }
        if self.bug == Some(Bug::HalfSnapshot) {
            let mut batch = WriteBatch::default();
            batch.delete(STATE, state_key(GroupId(0), "node/install"));
            self.data.write(&batch).expect("memory does not fail");
        }
        match self.open(random.random()) {
            Err(reason) => Started::Refused(reason),
            Ok(storage) if storage.identity().node_id == 0 => {
                self.blank = Some(storage);
                Started::Blank
            }
            Ok(storage) => self.live(storage, now, random),
        }
    }

    /// A blank machine was told that it is a member.
    pub fn joined(&mut self, members: &Members, node_id: u64, now: Now, random: &mut SmallRng) -> Started {
        let mut storage = self.blank.take().expect("only a blank machine joins");
        storage.join(members, node_id).expect("memory does not fail");
        self.era += 1;
        self.live(storage, now, random)
    }

    fn live(&mut self, storage: Storage, now: Now, random: &mut SmallRng) -> Started {
        match self.open_life(storage, now, random) {
            Ok(life) => {
                self.life = Some(life);
                self.out.push(Out::Later(Work::Tick));
                self.event(now, |_| {});
                Started::Running
            }
            Err(reason) => Started::Refused(reason),
        }
    }

    fn open_life(&mut self, storage: Storage, now: Now, random: &mut SmallRng) -> Result<Life, String> {
        let (identity, boot, mark) = (storage.identity().clone(), storage.boot(), storage.high_water_mark());
        let hints = storage.hints().map_err(|error| error.to_string())?;
        let (log, data, mut high_water) = storage.into_parts();
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let SnapshotContents { position, configuration } =
            read_snapshot_contents(data.view(ViewKind::Latest).as_ref()).map_err(|error| text(&error))?;
        let store = LogStore::open(log, GROUP, position, configuration, mark).map_err(|error| text(&error))?;
        begin_mark(&mut high_water, &store).map_err(|error| text(&error))?;
        self.marks = vec![high_water.mark()];
        let seed = random.random();
        let group_config = GroupConfig {
            node_id: identity.node_id,
            election_ticks: self.sizes.election_ticks,
            heartbeat_ticks: 2,
            append_bytes_max: self.sizes.append_bytes_max,
            uncommitted_bytes_max: 1 << 20,
            committed_bytes_max: self.sizes.committed_bytes_max,
            seed,
        };
        let group = Group::open(group_config, store, position.index).map_err(|error| text(&error))?;
        let machine = StateMachine::open(data, identity.node_id, boot).map_err(|error| text(&error))?;
        let mut machine = machine.with_batch_bytes(self.sizes.batch_bytes);
        let applied = machine.take_applied();
        let table = Arc::clone(&applied.members);
        let members = if table.members.is_empty() { Arc::new(hints) } else { Arc::clone(&table) };
        let core_config = CoreConfig {
            node_id: identity.node_id,
            boot,
            entry_bytes_max: self.sizes.entry_bytes_max,
            entry_commands_max: 64,
            log_bytes_max: self.sizes.log_bytes_max,
            replication_factor: self.sizes.replication_factor,
            clock_skew_max_ms: self.sizes.clock_skew_max_ms,
            seed,
        };
        Ok(Life {
            identity,
            boot,
            nonce: random.random(),
            core: Core::new(core_config, group, applied, now),
            members,
            table,
            machine,
            high_water,
            log_tasks: Vec::new(),
            log_busy: None,
            apply_tasks: VecDeque::new(),
            apply_scheduled: false,
            turn_scheduled: false,
            entries: VecDeque::new(),
            waiting_for_configuration: false,
            finished: Finished::default(),
            unsynced: Vec::new(),
            tracked: Vec::new(),
            runs: BTreeMap::new(),
            reads: BTreeMap::new(),
            outgoing: BTreeMap::new(),
            incoming: Vec::new(),
            installing: None,
            last_id: 0,
            now,
            asked_round: 0,
            seen_persisted: 0,
        })
    }

    /// Takes the power away. What the workers were about to do may be done in part, and each disk loses a suffix of what was not synced.
    pub fn crash(&mut self, random: &mut SmallRng) {
        self.era += 1;
        self.out.clear();
        self.blank = None;
        if let Some(mut life) = self.life.take() {
            if random.random_bool(0.5)
                && let Some(tasks) = life.log_busy.take()
            {
                self.log.light_fuse(random.random_range(0..4));
                drop(self.store(&mut life.high_water, &tasks));
            }
            if life.installs() || random.random_bool(0.5) {
                self.data.light_fuse(random.random_range(0..24));
                drop(life.apply(&self.data));
            }
        }
        self.log.crash(random.random_range(0..=self.log.unsynced()));
        self.data.crash(random.random_range(0..=self.data.unsynced()));
        self.lose_mark(random);
        if self.bug == Some(Bug::LostConfiguration)
            && let Some(before) = self.configuration_before.take()
        {
            let mut batch = WriteBatch::default();
            batch.put(STATE, state_key(GROUP, "raft/configuration"), before);
            self.data.write(&batch).expect("memory does not fail");
        }
    }

    /// The high-water file is not synced when the mark rises: a crash leaves any state since the last sync.
    fn lose_mark(&self, random: &mut SmallRng) {
        if let Some(mark) = self.marks.choose(random) {
            let (mut file, _) = HighWater::open(&self.mark_path()).expect("the directory is ours");
            file.begin(*mark).expect("the directory is ours");
        }
    }

    fn mark_path(&self) -> PathBuf {
        self.dir.join("high-water")
    }

    /// The disk loses entries that were synced, from the end of the log. False if it has none that nothing but the mark would miss.
    pub fn lose_tail(&mut self, random: &mut SmallRng) -> bool {
        let contents = read_snapshot_contents(self.data.view(ViewKind::Latest).as_ref()).expect("good data");
        let Ok(store) = LogStore::open(self.log.clone(), GROUP, contents.position, contents.configuration, None) else { return false };
        let least = contents.position.index.max(store.hard_state().commit).max(store.first());
        let Some(mark) = self.marks.last().copied() else { return false };
        if least >= store.last() {
            return false;
        }
        let kept = random.random_range(least..store.last());
        let Ok(entries) = store.entries(kept, kept + 1, None, GetEntriesContext::empty(false)) else { return false };
        let mut batch = WriteBatch::default();
        Persist { entries, stale_to: store.last(), ..Persist::default() }.encode(GROUP, &mut batch);
        self.log.write(&batch).and_then(|()| self.log.sync()).expect("memory does not fail");
        // The mark had reached the disk.
        let (mut file, _) = HighWater::open(&self.mark_path()).expect("the directory is ours");
        file.begin(Mark { last: store.last_position(), ..mark }).expect("the directory is ours");
        self.damaged = true;
        true
    }

    /// The log writer's work, and what of the high-water mark is certain after it.
    fn store(&mut self, high_water: &mut HighWater, tasks: &[LogTask]) -> Result<(), EngineError> {
        let before = high_water.mark();
        if let Some(last) = log_writer::kept(tasks, before.last.index) {
            self.marks = vec![Mark { last, ..before }];
        }
        let stored = log_writer::store(self.log.as_ref(), high_water, tasks);
        self.marks.push(high_water.mark());
        stored
    }

    /// Something happens to the core: a turn.
    pub fn event(&mut self, now: Now, happen: impl FnOnce(&mut Core)) {
        let Some(life) = &mut self.life else { return };
        life.now = now;
        life.turn_scheduled = false;
        life.core.set_now(now);
        life.take_completions(&mut self.out);
        happen(&mut life.core);
        self.carry_out();
    }

    /// A frame of a peer.
    pub fn frame(&mut self, now: Now, from: u64, mut frame: Frame) {
        if self.bug == Some(Bug::ReusedReadContext)
            && let (Some(Body::ReadReply(reply)), Some(life)) = (&mut frame.body, &self.life)
        {
            (reply.round, reply.boot) = (life.asked_round, life.boot);
        }
        self.event(now, |core| core.frame(from, frame));
    }

    /// A lane is connected.
    pub fn lane_up(&mut self, now: Now, peer: u64, lane: Lane) {
        if self.bug == Some(Bug::ForwardTwice)
            && lane == Lane::Forward
            && let Some(life) = &mut self.life
        {
            let deadline_ms = now.mono_ms + REQUEST_TIMEOUT_MS;
            let again: Vec<_> = life.runs.values().map(|sent| (sent.requests.clone(), sent.payload.clone(), sent.commands)).collect();
            for (requests, payload, commands) in again {
                life.last_id += 1;
                let id = RunId(life.last_id);
                life.runs.insert(id, Sent { requests, payload: payload.clone(), commands });
                life.core.run(NewRun { id, payload, commands, deadline_ms });
            }
        }
        self.event(now, |core| core.lane_up(peer, lane));
    }

    /// A client's run with writes.
    pub fn run(&mut self, now: Now, requests: Vec<Request>) -> Option<RunId> {
        let life = self.life.as_mut()?;
        let (mut payload, mut commands) = (Vec::new(), 0);
        for request in &requests {
            if let Handler::Write { id, .. } = request.spec.handler {
                codec::encode(id, request.db, &request.args, &mut payload);
                commands += 1;
            }
        }
        life.last_id += 1;
        let id = RunId(life.last_id);
        let payload = Bytes::from(payload);
        life.runs.insert(id, Sent { requests, payload: payload.clone(), commands });
        self.event(now, |core| core.run(NewRun { id, payload, commands, deadline_ms: now.mono_ms + REQUEST_TIMEOUT_MS }));
        Some(id)
    }

    /// A client's reads.
    pub fn read(&mut self, now: Now, requests: Vec<Request>) -> Option<ReadId> {
        let life = self.life.as_mut()?;
        life.last_id += 1;
        let id = ReadId(life.last_id);
        life.reads.insert(id, requests);
        if self.bug == Some(Bug::ReadWithoutRound) {
            self.evaluate(id, now.wall_ms);
        } else {
            self.event(now, |core| core.read(id, now.mono_ms + REQUEST_TIMEOUT_MS, 0));
        }
        Some(id)
    }

    /// A snapshot's files have arrived in another machine's directory; they are copied into this one's.
    pub fn snapshot_received(&mut self, now: Now, message: Message, files: &[(ExportedFile, Vec<u8>)]) {
        let Some(life) = &mut self.life else { return };
        self.received += 1;
        let dir = self.dir.join("snapshots").join(format!("in-{}", self.received));
        fs::create_dir_all(&dir).expect("the directory is ours");
        let mut copies = Vec::new();
        for (file, contents) in files {
            let path = dir.join(file.path.file_name().expect("an exported file has a name"));
            fs::write(&path, contents).expect("the directory is ours");
            copies.push(ExportedFile { path, ..file.clone() });
        }
        let metadata = message.get_snapshot().get_metadata();
        let position = LogPosition { index: metadata.index, term: metadata.term };
        for (_, unused) in life.incoming.drain(..) {
            remove_dir(&unused.dir);
        }
        life.incoming.push((position, SnapshotFiles { dir, files: copies }));
        self.event(now, |core| core.snapshot_received(message));
    }

    /// A step that was left for later.
    pub fn work(&mut self, now: Now, work: Work) {
        let Some(life) = &mut self.life else { return };
        life.now = now;
        match work {
            Work::Tick => {
                self.event(now, Core::tick);
                self.store_unsynced();
                self.out.push(Out::Later(Work::Tick));
            }
            Work::Turn => self.event(now, |_| {}),
            Work::LogWrite => {
                let tasks = std::mem::take(&mut life.log_tasks);
                if self.bug == Some(Bug::AckBeforeSync) {
                    life.report_stored(&tasks, &mut self.out);
                }
                let must_sync = tasks.iter().any(|task| matches!(task, LogTask::Persist(persist) if persist.must_sync));
                life.log_busy = Some(tasks);
                if must_sync { self.out.push(Out::Later(Work::LogSync)) } else { self.log_synced() }
            }
            Work::LogSync => self.log_synced(),
            Work::Apply => {
                life.apply_scheduled = false;
                if let Err(halt) = life.apply(&self.data) {
                    panic!("apply on machine {} cannot go on: {halt}", self.slot);
                }
                life.publish_replies(&mut self.out);
                let finished = &life.finished;
                if life.core.waits_for_apply() || finished.change.is_some() || finished.installed || finished.digest.is_some() {
                    life.schedule_turn(&mut self.out);
                }
            }
            Work::DataSync(count) => {
                self.data.sync_first(count);
                life.finished.data_synced = true;
                life.schedule_turn(&mut self.out);
            }
            Work::Generate(to, id) => {
                let dir = self.dir.join("snapshots").join(format!("out-{to}-{}", id.0));
                let (snapshot, files) = generate_snapshot(self.data.as_ref(), &dir).expect("memory does not fail");
                life.outgoing.insert(id, files);
                self.event(now, |core| core.snapshot_generated(id, snapshot));
            }
        }
    }

    fn log_synced(&mut self) {
        let Some(mut life) = self.life.take() else { return };
        let tasks = life.log_busy.take().expect("a sync follows a write");
        self.store(&mut life.high_water, &tasks).expect("memory does not fail");
        if self.bug != Some(Bug::AckBeforeSync) {
            life.report_stored(&tasks, &mut self.out);
        }
        if !life.log_tasks.is_empty() {
            self.out.push(Out::Later(Work::LogWrite));
        }
        self.life = Some(life);
    }

    fn carry_out(&mut self) {
        loop {
            let Some(life) = &mut self.life else { return };
            let effects = life.core.effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.carry_out_one(effect);
            }
        }
    }

    fn carry_out_one(&mut self, effect: Effect) {
        let Some(life) = &mut self.life else { return };
        match effect {
            Effect::Send(to, lane, frame) => {
                if let Some(Body::ReadRequest(request)) = &frame.body
                    && request.round > 0
                {
                    life.asked_round = request.round;
                }
                self.out.push(Out::Send(to, lane, frame));
            }
            Effect::Persist(persist) => self.persist(persist),
            Effect::Track(id, sequence) => {
                let requests = life.runs.get(&id).expect("a run is sent once").requests.clone();
                life.tracked.push(TrackedRun { id, sequence, requests });
            }
            Effect::Apply(entries) => {
                self.out.push(Out::Committed(entries.clone()));
                let entries = if self.bug == Some(Bug::LocalClock) {
                    entries.iter().map(|entry| planted::stamped(entry, life.now.wall_ms)).collect()
                } else {
                    entries
                };
                life.apply_later(entries, &mut self.out);
            }
            Effect::Configure(configuration) => {
                let view = self.data.view(ViewKind::Latest);
                self.configuration_before = view.get(STATE, &state_key(GROUP, "raft/configuration")).expect("memory does not fail");
                life.task(ApplyTask::Configure(configuration), &mut self.out);
            }
            Effect::Install(snapshot) => life.install(&snapshot, &mut self.out),
            Effect::FailRun(id, error) => {
                life.runs.remove(&id);
                self.out.push(Out::RunDone(id, Err(error)));
            }
            Effect::GiveUp(sequence) => {
                life.apply_later(Vec::new(), &mut self.out);
                life.task(ApplyTask::GiveUp(sequence), &mut self.out);
            }
            Effect::ReadReady { id, now_ms } => self.evaluate(id, now_ms),
            Effect::FailRead(id, error) => {
                life.reads.remove(&id);
                self.out.push(Out::ReadDone(id, Err(error)));
            }
            Effect::GenerateSnapshot(to, id) => self.out.push(Out::Later(Work::Generate(to, id))),
            Effect::SendSnapshot(id, message) => {
                let files = life.outgoing.remove(&id).expect("the core sends what was generated, once");
                self.out.push(Out::Stream(id, Box::new(message), files));
            }
            Effect::DropSnapshot(id) => {
                if let Some(files) = life.outgoing.remove(&id) {
                    remove_dir(&files.dir);
                }
            }
            Effect::SyncData if self.bug == Some(Bug::TruncateBeforeSync) => {
                life.finished.data_synced = true;
                life.schedule_turn(&mut self.out);
            }
            Effect::SyncData => self.out.push(Out::Later(Work::DataSync(self.data.unsynced()))),
            Effect::Truncate(from, to) => life.log_task(LogTask::Truncate(from, to), &mut self.out),
            Effect::AnswerJoin(id, answer) => self.out.push(Out::JoinDone(id, answer)),
            // Digests that differ are a finding, wherever the difference is.
            Effect::ExaminePart(entry, part) => self.out.push(Out::Differs(format!("at {entry:?} in {part:?}"))),
            Effect::StopDiverged(divergence) => self.out.push(Out::Differs(format!("{divergence:?}"))),
            Effect::AnswerVerify(_, result) => self.out.push(Out::Compared(result.map(|_| ()))),
            Effect::Verified(_) => {}
            Effect::AnswerAdmin(_, result) => self.out.push(Out::AdminDone(result)),
        }
    }

    fn persist(&mut self, mut persist: Persist) {
        let Some(life) = &mut self.life else { return };
        self.out.push(Out::Logged(persist.entries.clone()));
        if self.bug == Some(Bug::VoteInMemory) {
            persist.hard_state = persist.hard_state.as_ref().map(planted::without_vote);
        }
        if self.bug == Some(Bug::EarlyVotes) {
            let is_vote =
                |message: &mut Message| matches!(message.get_msg_type(), MessageType::MsgRequestVote | MessageType::MsgRequestVoteResponse);
            for message in persist.messages.extract_if(.., is_vote) {
                let (to, lane, frame) = raft_frame(&message, life.now.wall_ms);
                self.out.push(Out::Send(to, lane, frame));
            }
        }
        for snapshot in persist.messages.extract_if(.., |message| message.get_msg_type() == MessageType::MsgSnapshot) {
            life.core.send_snapshot(snapshot);
        }
        if let Some((_, persists)) = &mut life.installing {
            persists.push(persist);
        } else if persist.must_sync || !persist.messages.is_empty() {
            self.store_unsynced();
            if let Some(life) = &mut self.life {
                life.log_task(LogTask::Persist(persist), &mut self.out);
            }
        } else {
            life.unsynced.push(persist);
        }
    }

    fn store_unsynced(&mut self) {
        let Some(life) = &mut self.life else { return };
        for persist in std::mem::take(&mut life.unsynced) {
            life.log_task(LogTask::Persist(persist), &mut self.out);
        }
    }

    /// Evaluates a client's reads on the data as it is now, by the leader's time.
    fn evaluate(&mut self, id: ReadId, now_ms: u64) {
        let Some(life) = &mut self.life else { return };
        let Some(requests) = life.reads.get(&id) else { return };
        let view = self.data.view(ViewKind::Snapshot);
        let state = KeyspaceState::load(view.as_ref(), GROUP).expect("good data");
        let mut replies = Vec::new();
        for request in requests {
            let context =
                ReadContext { group: GROUP, db: request.db, now: Some(UnixMillis(now_ms)), log_time: None, state: Some(&state), seed: 0 };
            match request.spec.read(&request.args, &Reader::new(view.as_ref(), context)) {
                Ok(reply) => replies.push(reply),
                Err(ReadError::TimeNeeded(time)) => {
                    life.core.read(id, life.now.mono_ms + REQUEST_TIMEOUT_MS, time.0);
                    life.schedule_turn(&mut self.out);
                    return;
                }
                Err(ReadError::Engine(error)) => panic!("memory does not fail: {error}"),
            }
        }
        life.reads.remove(&id);
        self.out.push(Out::ReadDone(id, Ok(replies)));
    }

    /// Whether the node leads.
    pub fn leads(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.core.group().role() == StateRole::Leader)
    }
}

impl Life {
    fn task(&mut self, task: ApplyTask, out: &mut Vec<Out>) {
        self.apply_tasks.push_back(task);
        if !std::mem::replace(&mut self.apply_scheduled, true) {
            out.push(Out::Later(Work::Apply));
        }
    }

    fn apply_later(&mut self, entries: Vec<Entry>, out: &mut Vec<Out>) {
        let tracked = std::mem::take(&mut self.tracked);
        self.task(ApplyTask::Apply(tracked, entries), out);
    }

    fn log_task(&mut self, task: LogTask, out: &mut Vec<Out>) {
        self.log_tasks.push(task);
        if self.log_tasks.len() == 1 && self.log_busy.is_none() {
            out.push(Out::Later(Work::LogWrite));
        }
    }

    fn schedule_turn(&mut self, out: &mut Vec<Out>) {
        if !std::mem::replace(&mut self.turn_scheduled, true) {
            out.push(Out::Later(Work::Turn));
        }
    }

    fn report_stored(&mut self, tasks: &[LogTask], out: &mut Vec<Out>) {
        let persists = || tasks.iter().filter_map(|task| if let LogTask::Persist(persist) = task { Some(persist) } else { None });
        if let Some(last) = persists().last() {
            self.finished.persisted = last.number;
            self.schedule_turn(out);
        }
        for message in persists().flat_map(|persist| &persist.messages) {
            let (to, lane, frame) = raft_frame(message, self.now.wall_ms);
            out.push(Out::Send(to, lane, frame));
        }
    }

    fn take_completions(&mut self, out: &mut Vec<Out>) {
        let finished = std::mem::take(&mut self.finished);
        self.finished.persisted = finished.persisted;
        if let Some(applied) = finished.applied {
            self.core.applied(applied);
            if !Arc::ptr_eq(&self.table, &self.core.applied_state().members) {
                self.table = Arc::clone(&self.core.applied_state().members);
                self.hear_of(Arc::clone(&self.table));
                if self.table.removed.contains(&self.identity.node_id) {
                    out.push(Out::Removed);
                }
            }
        }
        if finished.installed
            && let Some((_, persists)) = &mut self.installing
        {
            for persist in std::mem::take(persists) {
                self.log_task(LogTask::Persist(persist), out);
            }
        }
        if finished.persisted > self.seen_persisted {
            self.seen_persisted = finished.persisted;
            self.core.persisted(finished.persisted);
            if let Some((files, _)) = self.installing.take_if(|(_, persists)| persists.is_empty()) {
                self.task(ApplyTask::FinishInstall(files), out);
            }
        }
        if let Some(change) = finished.change {
            self.core.change_reached(&change).expect("a committed change is possible");
        }
        if finished.data_synced {
            self.core.data_synced();
        }
        if let Some((entry, digest)) = finished.digest {
            self.core.digest_begun(entry);
            self.core.digested(entry, digest);
        }
    }

    /// A table of members, from its own data or from another member.
    pub fn hear_of(&mut self, members: Arc<Members>) {
        if !members.is_older_than(&self.members) {
            self.members = members;
        }
    }

    fn install(&mut self, snapshot: &Snapshot, out: &mut Vec<Out>) {
        let metadata = snapshot.get_metadata();
        let position = LogPosition { index: metadata.index, term: metadata.term };
        let at = self.incoming.iter().rposition(|(of, _)| *of == position).expect("raft installs only what was received");
        let (_, files) = self.incoming.remove(at);
        for (_, unused) in self.incoming.drain(..) {
            remove_dir(&unused.dir);
        }
        self.apply_later(Vec::new(), out);
        self.installing = Some((files.clone(), Vec::new()));
        self.task(ApplyTask::Install(files, position), out);
    }

    /// The apply worker's turn.
    fn apply(&mut self, data: &Disk) -> Result<(), Halt> {
        while let Some(task) = self.apply_tasks.pop_front() {
            match task {
                ApplyTask::GiveUp(sequence) => self.machine.give_up(sequence),
                ApplyTask::Apply(runs, entries) => {
                    runs.into_iter().for_each(|run| self.machine.track(run));
                    self.entries.extend(entries);
                }
                ApplyTask::Configure(configuration) => {
                    self.machine.configure(&mut self.entries, &configuration)?;
                    self.waiting_for_configuration = false;
                    self.publish();
                }
                ApplyTask::Install(files, position) => {
                    assert!(self.entries.is_empty(), "a snapshot is installed when nothing else is under way");
                    storage::install(data, &files, position)?;
                    self.machine.load()?;
                    self.finished.applied = Some(self.machine.take_applied());
                    self.finished.installed = true;
                }
                ApplyTask::FinishInstall(files) => storage::finish_install(data, &files)?,
            }
        }
        while !self.waiting_for_configuration && !self.entries.is_empty() {
            let reached = self.machine.apply(&mut self.entries)?;
            self.publish();
            match reached {
                Reached::End => {}
                Reached::Verification(entry) => {
                    let digested = digest(data.view(ViewKind::Snapshot).as_ref(), GROUP, &|| true)?;
                    self.finished.digest = digested.map(|digested| (entry, digested.digest));
                }
                Reached::Change(change) => {
                    self.waiting_for_configuration = true;
                    data.sync()?;
                    self.finished.change = Some(change);
                }
            }
        }
        Ok(())
    }

    fn publish(&mut self) {
        let applied = self.machine.take_applied();
        let gap = applied.gap || self.finished.applied.as_ref().is_some_and(|earlier| earlier.gap);
        self.finished.applied = Some(Applied { gap, ..applied });
    }

    fn publish_replies(&mut self, out: &mut Vec<Out>) {
        if self.finished.applied.as_ref().is_some_and(|applied| applied.gap) {
            self.schedule_turn(out);
        }
        for (id, result) in self.machine.take_replies() {
            self.runs.remove(&id);
            out.push(Out::RunDone(id, result));
        }
    }

    /// Whether a snapshot is about to replace the data, which takes its time.
    pub fn installs(&self) -> bool {
        self.apply_tasks.iter().any(|task| matches!(task, ApplyTask::Install(..)))
    }

    /// What is applied to the data.
    pub fn applied(&self) -> &Applied {
        self.machine.applied()
    }

    /// What is under way in this node, by name.
    pub fn under_way(&self) -> Vec<&'static str> {
        let parts = [
            ("runs", !self.runs.is_empty()),
            ("reads", !self.reads.is_empty()),
            ("entries", !self.entries.is_empty()),
            ("apply", !self.apply_tasks.is_empty()),
            ("snapshot", self.installing.is_some()),
        ];
        parts.into_iter().filter(|(_, is_under_way)| *is_under_way).map(|(name, _)| name).collect()
    }
}

fn remove_dir(dir: &Path) {
    fs::remove_dir_all(dir).expect("the directory is ours");
}

/// A generator of its own, for what must not depend on how much chance others use.
pub fn fork(random: &mut SmallRng) -> SmallRng {
    SmallRng::seed_from_u64(random.random())
}
