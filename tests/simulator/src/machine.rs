//! One machine: its two disks, its clock, and the node that runs on it while it has power.
//! It is what the threads of `redraft::node::shell` are in a process, cut into steps that the world schedules one by one: a turn of the
//! core, the log writer before and after its sync, the apply worker, and the work that goes on beside them. What has to happen outside is
//! left in `out`. `life` is the running node, `effects` what its core wants done, `power` what a crash leaves.
//! A crash takes the node in the middle of what it was doing. Everything that survives is on the disks and in the directory.

mod effects;
mod life;
mod power;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use raft::Storage as _;
use raft::eraftpb::{ConfChangeV2, Entry, Message, MessageType, Snapshot};
use raft::{GetEntriesContext, StateRole};
use raftlog::engine::{Cf, Engine, EngineError, EngineResult, ExportedFile, ViewKind, WriteBatch};
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
use redraft::net::peer::wire::{SnapshotChunk, SnapshotHeader};
use redraft::net::peer::{ReceivedSnapshot, Transfer};
use redraft::node::core::{
    Applied, COLUMN_FAMILIES, Core, CoreConfig, Effect, GROUP, Halt, JoinAnswer, Lane, Members, NewRun, Now, Reached, ReadId, RequestId,
    RunId, SnapshotContents, SnapshotId, StateMachine, TrackedRun, raft_frame, read_snapshot_contents,
};
use redraft::node::log_writer::{self, LogTask, LogWriter};
use redraft::node::persist_gate::PersistGate;
use redraft::node::shell::begin_mark;
use redraft::node::snapshot::{Surroundings, generate_snapshot};
use redraft::node::storage::{self, Identity, SnapshotFiles, Storage};
use redraft::node::{PeerProcess, Request, RunResult, Starts};
use resp::Reply;
use tokio::sync::mpsc;

use crate::counts::{Incident, Incidents};
use crate::disk::{Disk, Operation};
use crate::plan::Sizes;
use crate::planted::{self, Bug};
pub use life::Life;
use life::{ApplyTask, Finished, Reading, Sent, remove_dir};

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
    /// A client's reads are evaluated by this time of the leader.
    Evaluate(ReadId, u64),
    /// The sync of the data is done; when it began so many batches were unsynced.
    DataSync(usize),
    /// The making of a snapshot for a member begins, with a view of the data.
    Generate(u64, SnapshotId),
    /// Its files are complete.
    Generated(SnapshotId),
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
    /// A client's reads are evaluated by this time of a leader.
    ReadStamped(ReadId, u64),
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
    /// The table in the node's data has changed.
    TableChanged,
    /// The node has learned that it was removed.
    Removed,
    /// The node cannot go on, for this reason.
    Halted(String),
}

/// What is left on a machine that starts.
pub enum Started {
    /// It runs.
    Running,
    /// It has no identity and asks to join.
    Blank,
    /// The power failed before it ran.
    Interrupted,
    /// It refuses to run, for this reason.
    Refused(String),
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
    /// What has happened to the machine.
    pub incidents: Incidents,
    sizes: Sizes,
    bug: Option<Bug>,
    dir: PathBuf,
    /// The mark that the high-water file holds for certain, and those written since: any of them may be what a crash leaves.
    marks: Vec<Mark>,
    configuration_before: Option<Bytes>,
    /// The index of the snapshot whose installation began last.
    installed_index: u64,
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
            incidents: Incidents::default(),
            sizes,
            bug,
            dir: dir.join(slot.to_string()),
            marks: Vec::new(),
            configuration_before: None,
            installed_index: 0,
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
            // The power may be about to fail.
            drop(self.data.write(&batch));
        }
        match self.open(random.random()) {
            Err(_) if self.is_dark() => Started::Interrupted,
            Err(reason) => Started::Refused(reason),
            Ok(storage) if storage.identity().node_id == 0 => {
                self.put_out_fuses();
                self.blank = Some(storage);
                Started::Blank
            }
            Ok(storage) => self.live(storage, now, random),
        }
    }

    /// A blank machine was told that it is a member.
    pub fn joined(&mut self, members: &Members, node_id: u64, now: Now, random: &mut SmallRng) -> Started {
        let mut storage = self.blank.take().expect("only a blank machine joins");
        self.era += 1;
        if storage.join(members, node_id).is_err() {
            return Started::Interrupted;
        }
        self.live(storage, now, random)
    }

    fn is_dark(&self) -> bool {
        self.log.is_dark() || self.data.is_dark()
    }

    fn put_out_fuses(&self) {
        self.log.put_out_fuse();
        self.data.put_out_fuse();
    }

    fn live(&mut self, storage: Storage, now: Now, random: &mut SmallRng) -> Started {
        self.put_out_fuses();
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
        let (identity, starts, mark) = (storage.identity().clone(), storage.starts().clone(), storage.high_water_mark());
        let boot = starts.boot;
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
            replace_after_ms: self.sizes.replace_after_ms,
            silence_max_ms: self.sizes.silence_max_ms,
            seed,
        };
        Ok(Life {
            identity,
            starts,
            core: Core::new(core_config, group, applied, now),
            members,
            table,
            machine,
            log_writer: LogWriter::new(self.log.clone(), high_water),
            log_tasks: Vec::new(),
            log_busy: None,
            apply_tasks: VecDeque::new(),
            apply_scheduled: false,
            turn_scheduled: false,
            entries: VecDeque::new(),
            waiting_for_configuration: false,
            finished: Finished::default(),
            persists: PersistGate::default(),
            tracked: Vec::new(),
            runs: BTreeMap::new(),
            reads: BTreeMap::new(),
            random: fork(random),
            generated: BTreeMap::new(),
            outgoing: BTreeMap::new(),
            incoming: Vec::new(),
            replacing: None,
            last_id: 0,
            now,
            asked_round: 0,
            seen_persisted: 0,
        })
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
            (reply.round, reply.boot) = (life.asked_round, life.starts.boot);
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
        life.reads.insert(id, Reading { requests, replies: Vec::new(), allowed_at: None, begun_at: None });
        if self.bug == Some(Bug::ReadWithoutRound) {
            self.evaluate(id, now.wall_ms);
        } else if life.may_read_alone() {
            self.may_read(id, now.wall_ms);
        } else {
            self.event(now, |core| core.read(id, now.mono_ms + REQUEST_TIMEOUT_MS, 0));
        }
        Some(id)
    }

    /// Writes what has come of a snapshot to the disk.
    /// # Errors
    /// The transfer, when that is not all of it.
    pub fn receive(&self, from: u64, header: &SnapshotHeader, chunks: &[SnapshotChunk]) -> Result<SnapshotFiles, Box<Transfer>> {
        let dir = self.dir.join("snapshots");
        let mut transfer = Box::new(Transfer::new(&dir, from, header.clone()).expect("the header is a snapshot's"));
        let (sender, mut arrived) = mpsc::channel(chunks.len().max(1));
        chunks.iter().for_each(|chunk| sender.try_send(chunk.clone()).expect("there is room"));
        drop(sender);
        let Ok(ReceivedSnapshot { dir, files, .. }) = transfer.write(&mut arrived, || {}) else { return Err(transfer) };
        let file = |(cf, path)| ExportedFile { cf: Cf(cf), path, bytes: 0 };
        Ok(SnapshotFiles { dir, files: files.into_iter().map(file).collect() })
    }

    /// A snapshot was received completely.
    pub fn snapshot_received(&mut self, now: Now, message: Message, files: SnapshotFiles) {
        let Some(life) = &mut self.life else { return };
        let metadata = message.get_snapshot().get_metadata();
        let position = LogPosition { index: metadata.index, term: metadata.term };
        for (_, unused) in life.incoming.drain(..) {
            remove_dir(&unused.dir);
        }
        life.incoming.push((position, files));
        self.event(now, |core| core.snapshot_received(message));
    }

    /// Index of a snapshot that is being installed: as long as its marker is on the disk, a start finishes that.
    pub fn durable_installation(&self) -> Option<u64> {
        let marker = self.data.durable_view().get(STATE, &state_key(GroupId(0), "node/install")).expect("memory does not fail");
        marker.map(|_| self.installed_index)
    }

    /// A step that was left for later.
    pub fn work(&mut self, now: Now, work: Work) {
        let Some(life) = &mut self.life else { return };
        life.now = now;
        match work {
            Work::Tick => {
                self.event(now, Core::tick);
                self.flush();
                self.out.push(Out::Later(Work::Tick));
            }
            Work::Turn => self.event(now, |_| {}),
            Work::LogWrite => {
                let tasks = std::mem::take(&mut life.log_tasks);
                if self.bug == Some(Bug::AckBeforeSync) {
                    life.report_stored(&tasks, &mut self.out);
                }
                let must_sync = tasks.iter().any(LogTask::must_sync);
                life.log_busy = Some(tasks);
                if must_sync { self.out.push(Out::Later(Work::LogSync)) } else { self.log_synced() }
            }
            Work::LogSync => self.log_synced(),
            Work::Apply => {
                life.apply_scheduled = false;
                if let Err(halt) = life.apply(&self.data) {
                    self.out.push(Out::Halted(halt.to_string()));
                    return;
                }
                life.publish_replies(&mut self.out);
                if life.can_go_on() {
                    life.schedule_apply(&mut self.out);
                }
                let finished = &life.finished;
                if life.core.waits_for_apply() || finished.change.is_some() || finished.installed || finished.digest.is_some() {
                    life.schedule_turn(&mut self.out);
                }
            }
            Work::Evaluate(id, now_ms) => self.evaluate(id, now_ms),
            Work::DataSync(count) => {
                self.data.sync_first(count);
                life.finished.data_synced = true;
                life.schedule_turn(&mut self.out);
            }
            // An installation would pull the data away under the view; it waits for the end of this likewise.
            Work::Generate(..) if life.replaces_data() => self.out.push(Out::Later(work)),
            Work::Generate(to, id) => {
                let dir = self.dir.join("snapshots").join(format!("out-{to}-{}", id.0));
                life.generated.insert(id, generate_snapshot(self.data.as_ref(), &dir, &Unhurried).expect("memory does not fail"));
                self.out.push(Out::Later(Work::Generated(id)));
            }
            Work::Generated(id) => {
                let (snapshot, files) = life.generated.remove(&id).expect("it was begun");
                life.outgoing.insert(id, files);
                if life.can_go_on() {
                    life.schedule_apply(&mut self.out);
                }
                self.event(now, |core| core.snapshot_generated(id, snapshot));
            }
        }
    }

    fn log_synced(&mut self) {
        let Some(mut life) = self.life.take() else { return };
        let tasks = life.log_busy.take().expect("a sync follows a write");
        self.store(&mut life.log_writer, &tasks).expect("memory does not fail");
        if self.bug != Some(Bug::AckBeforeSync) {
            life.report_stored(&tasks, &mut self.out);
        }
        if !life.log_tasks.is_empty() {
            self.out.push(Out::Later(Work::LogWrite));
        }
        self.life = Some(life);
    }

    /// Whether the node leads.
    pub fn leads(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.core.group().role() == StateRole::Leader)
    }
}

/// A generator of its own, for what must not depend on how much chance others use.
pub fn fork(random: &mut SmallRng) -> SmallRng {
    SmallRng::seed_from_u64(random.random())
}

/// Simulated time stands still while a snapshot is made.
struct Unhurried;

impl Surroundings for Unhurried {
    fn may_go_on(&self) -> EngineResult<()> {
        Ok(())
    }

    fn is_busy(&self) -> bool {
        false
    }
}
