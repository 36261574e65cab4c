//! Whole nodes in one thread: cores, state machines and in-memory engines, with a network that loses connections and nodes that crash and
//! lose what was not synced. Clients increment one counter and read it; every reply is checked.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, Snapshot};
use raftlog::engine::{Cf, Direction, Engine, MemoryEngine, ViewKind, WriteBatch};
use raftlog::group::GroupConfig;
use raftlog::log::{LOG_COLUMN_FAMILIES, LogPosition, LogStore, Persist, encode_bootstrap, encode_truncation};
use raftlog::message::VerifyResult;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use resp::Reply;

use super::*;
use crate::command::{Handler, codec, table};
use crate::keyspace::digest::{self, Digested};
use crate::keyspace::{ReadContext, Reader, UnixMillis};
use crate::node::request::{Request, RunResult};

mod liveness;
mod verify;

const NODES: u64 = 3;

struct Node {
    log: Arc<MemoryEngine>,
    data: Arc<MemoryEngine>,
    boot: u64,
    life: Option<Life>,
}

/// What a crash loses.
struct Life {
    core: Core,
    machine: StateMachine,
    persists: VecDeque<Persist>,
    entries: VecDeque<Entry>,
    change_reached: bool,
    runs: HashMap<RunId, Vec<Request>>,
    /// The latest verification, with a copy of the data as of it.
    digested: Option<(LogPosition, MemoryEngine, Digested)>,
}

type Loss = Box<dyn FnMut(u64, &Frame) -> bool>;

struct Simulation {
    random: SmallRng,
    nodes: BTreeMap<u64, Node>,
    /// Frames under way, in order per sender, receiver and lane.
    network: BTreeMap<(u64, u64, u8), VecDeque<Frame>>,
    now: Now,
    next_id: u64,
    /// Replies to increments that were acknowledged.
    acknowledged: Vec<i64>,
    unknown: usize,
    /// Counter value known when a read was issued.
    reads: HashMap<(u64, u64), i64>,
    reads_answered: usize,
    snapshots: usize,
    /// What clients learnt from comparisons of the replicas, and where.
    compared: Vec<(u64, Result<VerifyResult, RequestError>)>,
    /// Snapshots that were not wanted any more.
    dropped: Vec<SnapshotId>,
    /// What administrators were told.
    administered: Vec<Result<(), RequestError>>,
    /// Replicas that had to stop.
    diverged: Vec<(u64, Divergence)>,
    /// Whether a frame of this sender gets lost.
    is_lost: Loss,
}

fn members() -> Members {
    let addresses = |id: u64| Addresses { listen: format!("c{id}"), peer: format!("p{id}"), admin: format!("a{id}") };
    Members::initial("cluster".into(), LEVEL, (1..=NODES).map(|id| (id, addresses(id))))
}

fn request(line: &str) -> Request {
    let args: Vec<Bytes> = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
    Request { spec: table::resolve(&args).expect("a good command"), args, db: 0 }
}

fn group_config(node_id: u64, seed: u64) -> GroupConfig {
    GroupConfig {
        node_id,
        election_ticks: 10,
        heartbeat_ticks: 2,
        append_bytes_max: 500,
        uncommitted_bytes_max: 1 << 20,
        committed_bytes_max: 1 << 20,
        seed,
    }
}

fn core_config(node_id: u64, boot: u64, seed: u64) -> CoreConfig {
    CoreConfig {
        node_id,
        boot,
        entry_bytes_max: 100,
        entry_commands_max: 10,
        log_bytes_max: 3000,
        replication_factor: 3,
        clock_skew_max_ms: 500,
        replace_after_ms: None,
        silence_max_ms: 1000,
        seed,
    }
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut simulation = Self {
            random: SmallRng::seed_from_u64(seed),
            nodes: BTreeMap::new(),
            network: BTreeMap::new(),
            now: Now { mono_ms: 0, wall_ms: 1_000_000 },
            next_id: 0,
            acknowledged: Vec::new(),
            unknown: 0,
            reads: HashMap::new(),
            reads_answered: 0,
            snapshots: 0,
            compared: Vec::new(),
            dropped: Vec::new(),
            administered: Vec::new(),
            diverged: Vec::new(),
            is_lost: Box::new(|_, _| false),
        };
        for id in 1..=NODES {
            let log = Arc::new(MemoryEngine::new(LOG_COLUMN_FAMILIES.len()));
            let data = Arc::new(MemoryEngine::new(COLUMN_FAMILIES.len()));
            let mut batch = WriteBatch::default();
            encode_bootstrap(GROUP, &mut batch);
            log.write(&batch).expect("memory does not fail");
            InitialState { members: members() }.write(data.as_ref()).expect("memory does not fail");
            log.sync().expect("memory does not fail");
            data.sync().expect("memory does not fail");
            simulation.nodes.insert(id, Node { log, data, boot: 0, life: None });
            simulation.start(id);
        }
        simulation
    }

    fn start(&mut self, id: u64) {
        let seed = self.random.random();
        let node = self.nodes.get_mut(&id).expect("a known node");
        node.boot += 1;
        let data: Arc<dyn Engine> = Arc::<MemoryEngine>::clone(&node.data);
        let log: Arc<dyn Engine> = Arc::<MemoryEngine>::clone(&node.log);
        let contents = read_snapshot_contents(data.view(ViewKind::Latest).as_ref()).expect("good data");
        let store = LogStore::open(log, GROUP, contents.position, contents.configuration, None).expect("a good log");
        let group = Group::open(group_config(id, seed), store, contents.position.index).expect("a consistent state");
        let mut machine = StateMachine::open(data, id, node.boot).expect("good data");
        let core = Core::new(core_config(id, node.boot, seed), group, machine.take_applied(), self.now);
        let (persists, entries, runs) = (VecDeque::new(), VecDeque::new(), HashMap::new());
        node.life = Some(Life { core, machine, persists, entries, change_reached: false, runs, digested: None });
        for other in (1..=NODES).filter(|other| *other != id) {
            self.reconnect(id, other);
        }
    }

    fn crash(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).expect("a known node");
        let Some(life) = node.life.take() else { return };
        self.unknown += life.runs.len();
        self.reads.retain(|(at, _), _| *at != id);
        // The log and the data lose independent suffixes of what was not synced.
        node.log.crash(self.random.random_range(0..=node.log.unsynced()));
        node.data.crash(self.random.random_range(0..=node.data.unsynced()));
        self.network.retain(|(from, to, _), _| *from != id && *to != id);
    }

    /// Breaks the connections between two nodes; what was under way is lost.
    fn reconnect(&mut self, one: u64, other: u64) {
        for (from, to) in [(one, other), (other, one)] {
            for lane in [Lane::Control, Lane::Append, Lane::Forward] {
                self.network.remove(&(from, to, lane as u8));
                if let Some(life) = self.life(from) {
                    life.core.lane_up(to, lane);
                }
            }
        }
    }

    fn life(&mut self, id: u64) -> Option<&mut Life> {
        self.nodes.get_mut(&id).and_then(|node| node.life.as_mut())
    }

    fn write(&mut self, at: u64) {
        let now = self.now;
        self.next_id += 1;
        let id = RunId(self.next_id);
        let Some(life) = self.life(at) else { return };
        let requests: Vec<_> = ["get n", "incr n", "get n"].map(request).into();
        let mut payload = Vec::new();
        for request in &requests {
            if let Handler::Write { id, .. } = request.spec.handler {
                codec::encode(id, 0, &request.args, &mut payload);
            }
        }
        life.runs.insert(id, requests);
        life.core.run(NewRun { id, payload: payload.into(), commands: 1, deadline_ms: now.mono_ms + 5000 });
    }

    fn read(&mut self, at: u64) {
        let floor = self.acknowledged.iter().copied().max().unwrap_or(0);
        let deadline = self.now.mono_ms + 5000;
        self.next_id += 1;
        let id = self.next_id;
        if let Some(life) = self.life(at) {
            life.core.read(ReadId(id), deadline, 0);
            self.reads.insert((at, id), floor);
        }
    }

    fn turn(&mut self, id: u64) {
        let now = self.now;
        let Some(life) = self.life(id) else { return };
        life.core.set_now(now);
        let effects = life.core.effects();
        assert_ne!(life.core.patience_ms(), Some(0), "the core would turn without a pause");
        for effect in effects {
            self.carry_out(id, effect);
        }
    }

    fn carry_out(&mut self, id: u64, effect: Effect) {
        match effect {
            Effect::Send(_, _, frame) if (self.is_lost)(id, &frame) => {}
            Effect::Send(to, lane, frame) => self.network.entry((id, to, lane as u8)).or_default().push_back(frame),
            Effect::ReadReady { id: read, now_ms } => self.answer_read(id, read.0, now_ms),
            Effect::FailRead(read, _) => {
                self.reads.remove(&(id, read.0));
            }
            Effect::GenerateSnapshot(_, name) => {
                let data = Arc::clone(&self.nodes[&id].data);
                let contents = read_snapshot_contents(data.view(ViewKind::Snapshot).as_ref()).expect("good data");
                let mut snapshot = Snapshot::default();
                snapshot.mut_metadata().index = contents.position.index;
                snapshot.mut_metadata().term = contents.position.term;
                snapshot.mut_metadata().set_conf_state(contents.configuration);
                let dir = tempfile::tempdir().expect("a temporary directory");
                let range = crate::keyspace::group_range(GROUP);
                let files = data.export(data.view(ViewKind::Snapshot).as_ref(), &range, dir.path()).expect("export");
                let files = files.iter().map(|file| (file.cf.0, std::fs::read(&file.path).expect("a file"))).collect::<Vec<_>>();
                // The simulated transfer carries the files in the snapshot itself.
                let mut data = Vec::new();
                for (cf, contents) in files {
                    data.push(cf);
                    data.extend((contents.len() as u32).to_be_bytes());
                    data.extend(contents);
                }
                snapshot.data = data.into();
                self.life(id).expect("alive").core.snapshot_generated(name, snapshot);
            }
            Effect::SendSnapshot(name, message) => {
                let (to, lost) = (message.to, self.random.random_range(0..3) == 0);
                let arrived = !lost && self.life(to).map(|life| life.core.snapshot_received(message)).is_some();
                let life = self.life(id).expect("alive");
                life.core.snapshot_sent(name, if arrived { Ok(()) } else { Err(()) });
            }
            Effect::AnswerVerify(_, result) => self.compared.push((id, result)),
            Effect::DropSnapshot(snapshot) => self.dropped.push(snapshot),
            Effect::AnswerAdmin(_, result) => self.administered.push(result),
            Effect::StopDiverged(divergence) => self.diverged.push((id, divergence)),
            effect => self.carry_out_here(id, effect),
        }
    }

    fn carry_out_here(&mut self, id: u64, effect: Effect) {
        let node = self.nodes.get_mut(&id).expect("a known node");
        let life = node.life.as_mut().expect("alive");
        match effect {
            Effect::Persist(persist) => life.persists.push_back(persist),
            Effect::Track(run, sequence) => {
                let requests = life.runs.get(&run).cloned().expect("a run is sent once");
                life.machine.track(TrackedRun { id: run, sequence, requests });
            }
            Effect::Apply(entries) => life.entries.extend(entries),
            Effect::Configure(configuration) => {
                life.machine.configure(&mut life.entries, &configuration).expect("good entries");
                life.change_reached = false;
                let applied = life.machine.take_applied();
                life.core.applied(applied);
            }
            Effect::Install(snapshot) => {
                assert!(life.entries.is_empty(), "nothing else is under way");
                let mut data = snapshot.data.clone();
                let dir = tempfile::tempdir().expect("a temporary directory");
                let mut files = Vec::new();
                while !data.is_empty() {
                    let cf = data.split_to(1)[0];
                    let length = u32::from_be_bytes(data.split_to(4)[..].try_into().expect("four bytes"));
                    let path = dir.path().join(cf.to_string());
                    std::fs::write(&path, data.split_to(length as usize)).expect("a file");
                    files.push(raftlog::engine::ExportedFile { cf: raftlog::engine::Cf(cf), path, bytes: u64::from(length) });
                }
                node.data.import(&crate::keyspace::group_range(GROUP), &files).expect("import");
                // Here data and log change together; the marker that replaces this is the storage's.
                let mut batch = WriteBatch::default();
                let metadata = snapshot.get_metadata();
                let reset = Some(LogPosition { index: metadata.index, term: metadata.term });
                Persist { reset, ..Persist::default() }.encode(GROUP, &mut batch);
                node.log.write(&batch).expect("memory does not fail");
                node.log.sync().expect("memory does not fail");
                life.machine.load().expect("good data");
                let applied = life.machine.take_applied();
                life.core.applied(applied);
                self.snapshots += 1;
            }
            Effect::FailRun(run, _) => {
                life.runs.remove(&run);
            }
            Effect::GiveUp(sequence) => life.machine.give_up(sequence),
            Effect::SyncData => {
                node.data.sync().expect("memory does not fail");
                life.core.data_synced();
            }
            Effect::Truncate(to) => {
                let mut batch = WriteBatch::default();
                encode_truncation(GROUP, to, &mut batch);
                node.log.write(&batch).expect("memory does not fail");
            }
            Effect::ExaminePart(entry, part) => {
                if let Some((_, data, digested)) = life.digested.as_ref().filter(|(of, ..)| *of == entry) {
                    let detail = digest::detail(data.view(ViewKind::Snapshot).as_ref(), GROUP, digested, part, &|| true);
                    let detail = detail.expect("memory does not fail").expect("not interrupted");
                    life.core.examined(entry, part, detail.digest, detail.first_key);
                }
            }
            Effect::AnswerJoin(..) | Effect::Verified(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }

    fn persist_one(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).expect("a known node");
        let Some(life) = node.life.as_mut() else { return };
        let Some(persist) = life.persists.pop_front() else { return };
        let mut batch = WriteBatch::default();
        persist.encode(GROUP, &mut batch);
        node.log.write(&batch).expect("memory does not fail");
        if persist.must_sync {
            node.log.sync().expect("memory does not fail");
        }
        life.core.persisted(persist.number).expect("a possible change");
        for message in persist.messages {
            let (to, lane, frame) = raft_frame(&message, 0);
            if !(self.is_lost)(id, &frame) {
                self.network.entry((id, to, lane as u8)).or_default().push_back(frame);
            }
        }
    }

    fn apply(&mut self, id: u64) {
        let Some(life) = self.life(id) else { return };
        if !life.change_reached && !life.entries.is_empty() {
            let reached = life.machine.apply(&mut life.entries).expect("good entries");
            let applied = life.machine.take_applied();
            life.core.applied(applied);
            match reached {
                Reached::End => {}
                Reached::Change(change) => {
                    life.change_reached = true;
                    life.core.change_reached(change).expect("a possible change");
                }
                Reached::Verification(entry) => self.digest(id, entry),
            }
        }
        let life = self.life(id).expect("alive");
        for (run, result) in life.machine.take_replies() {
            self.answer_run(id, run, result);
        }
    }

    fn digest(&mut self, id: u64, entry: LogPosition) {
        let node = self.nodes.get_mut(&id).expect("a known node");
        let copy = MemoryEngine::new(COLUMN_FAMILIES.len());
        let mut batch = WriteBatch::default();
        let view = node.data.view(ViewKind::Snapshot);
        for cf in (0..COLUMN_FAMILIES.len() as u8).map(Cf) {
            for item in view.items(cf, &crate::keyspace::group_range(GROUP), Direction::Forward) {
                let (key, value) = item.expect("memory does not fail");
                batch.put(cf, key, value);
            }
        }
        copy.write(&batch).expect("memory does not fail");
        let digested = digest::digest(copy.view(ViewKind::Snapshot).as_ref(), GROUP, &|| true);
        let digested = digested.expect("memory does not fail").expect("not interrupted");
        let life = node.life.as_mut().expect("alive");
        life.core.digest_begun(entry);
        life.core.digested(entry, digested.digest.clone());
        life.digested = Some((entry, copy, digested));
    }

    fn answer_run(&mut self, id: u64, run: RunId, result: RunResult) {
        self.life(id).expect("alive").runs.remove(&run);
        match result {
            Ok(replies) => {
                let [before, Reply::Integer(value), Reply::Bulk(after)] = &replies[..] else { panic!("unexpected {replies:?}") };
                let before = match before {
                    Reply::Bulk(text) => String::from_utf8_lossy(text).parse::<i64>().expect("a number"),
                    _ => 0,
                };
                assert_eq!((before + 1, value.to_string().as_bytes()), (*value, &after[..]), "a run is one place in the log");
                assert!(!self.acknowledged.contains(value), "an increment was executed twice");
                self.acknowledged.push(*value);
            }
            Err(_) => self.unknown += 1,
        }
    }

    fn answer_read(&mut self, id: u64, read: u64, now_ms: u64) {
        let Some(floor) = self.reads.remove(&(id, read)) else { return };
        let value = self.counter(id, Some(UnixMillis(now_ms)));
        assert!(value >= floor, "a read on node {id} saw {value} after {floor} was acknowledged");
        self.reads_answered += 1;
    }

    fn counter(&self, id: u64, now: Option<UnixMillis>) -> i64 {
        let view = self.nodes[&id].data.view(ViewKind::Snapshot);
        let context = ReadContext { group: GROUP, db: 0, now, log_time: None, state: None, seed: 0 };
        let get = request("get n");
        match get.spec.read(&get.args, &Reader::new(view.as_ref(), context)).expect("no deadline is met") {
            Reply::Bulk(text) => String::from_utf8_lossy(&text).parse().expect("a number"),
            _ => 0,
        }
    }

    fn deliver_one(&mut self) {
        let paths: Vec<_> = self.network.iter().filter(|(_, frames)| !frames.is_empty()).map(|(path, _)| *path).collect();
        if paths.is_empty() {
            return;
        }
        let path = paths[self.random.random_range(0..paths.len())];
        let frame = self.network.get_mut(&path).and_then(VecDeque::pop_front).expect("a frame");
        if let Some(life) = self.life(path.1) {
            life.core.frame(path.0, frame);
        }
    }

    fn step(&mut self, faulty: bool) {
        let id = self.random.random_range(1..=NODES);
        match self.random.random_range(0..if faulty { 1000 } else { 990 }) {
            0..40 => {
                self.now.mono_ms += 10;
                self.now.wall_ms += 10;
                let now = self.now;
                for id in 1..=NODES {
                    if let Some(life) = self.life(id) {
                        life.core.set_now(now);
                        life.core.tick();
                    }
                }
            }
            40..60 => self.write(id),
            60..80 => self.read(id),
            80..250 => self.persist_one(id),
            250..450 => self.apply(id),
            450..990 => self.deliver_one(),
            990..994 => self.reconnect(id, id % NODES + 1),
            994..996 => self.crash(id),
            _ => {
                if self.nodes[&id].life.is_none() {
                    self.start(id);
                }
            }
        }
        self.turn(id);
    }

    fn run(mut self, seed: u64) -> Self {
        for _ in 0..20_000 {
            self.step(true);
        }
        for id in 1..=NODES {
            if self.nodes[&id].life.is_none() {
                self.start(id);
            }
        }
        for _ in 0..20_000 {
            self.step(false);
        }
        // Nothing new: everything that is under way comes to its end on all nodes alike.
        let mut rounds = 0;
        while !self.is_settled() {
            rounds += 1;
            assert!(rounds < 100_000, "seed {seed}: the nodes settle");
            let id = self.random.random_range(1..=NODES);
            match rounds % 12 {
                0 => self.now = Now { mono_ms: self.now.mono_ms + 10, wall_ms: self.now.wall_ms + 10 },
                1 => {
                    let now = self.now;
                    let life = self.life(id).expect("alive");
                    life.core.set_now(now);
                    life.core.tick();
                }
                2..4 => self.persist_one(id),
                4..6 => self.apply(id),
                _ => self.deliver_one(),
            }
            self.turn(id);
        }
        let value = self.counter(1, None);
        assert!(value >= self.acknowledged.len() as i64, "seed {seed}: an acknowledged increment is missing");
        assert!(value <= (self.acknowledged.len() + self.unknown) as i64, "seed {seed}: an increment was executed twice");
        for id in 2..=NODES {
            assert_eq!(self.counter(id, None), value, "seed {seed}: replicas agree");
        }
        assert!(self.acknowledged.len() > 20 && self.reads_answered > 20, "seed {seed}: there was progress");
        self
    }

    fn is_settled(&self) -> bool {
        let lives: Vec<_> = self.nodes.values().filter_map(|node| node.life.as_ref()).collect();
        let applied = |life: &&Life| life.core.applied_state().position;
        lives.len() == NODES as usize
            && lives.iter().all(|life| life.runs.is_empty() && life.entries.is_empty() && life.persists.is_empty())
            && lives.windows(2).all(|pair| applied(&pair[0]) == applied(&pair[1]))
    }
}

/// Three nodes that have executed something and are at rest, with a leader.
fn settled(seed: u64) -> (Simulation, u64) {
    let mut simulation = Simulation::new(seed);
    run_until(&mut simulation, |simulation| leader(simulation).is_some());
    for node in 1..=NODES {
        simulation.write(node);
    }
    run_until(&mut simulation, |simulation| simulation.acknowledged.len() == 3 && simulation.is_settled());
    let leader = leader(&simulation).expect("somebody leads");
    (simulation, leader)
}

fn leader(simulation: &Simulation) -> Option<u64> {
    let leads = |node: &Node| node.life.as_ref().is_some_and(|life| life.core.group().can_serve_reads());
    simulation.nodes.iter().find(|(_, node)| leads(node)).map(|(id, _)| *id)
}

fn followers(leader: u64) -> [u64; 2] {
    let others: Vec<u64> = (1..=NODES).filter(|id| *id != leader).collect();
    [others[0], others[1]]
}

/// Lets time pass and everything happen.
fn run_until(simulation: &mut Simulation, is_done: impl Fn(&Simulation) -> bool) {
    run_without_disk(simulation, None, is_done);
}

/// Lets time pass and everything happen but for what the disk of one node does.
fn run_without_disk(simulation: &mut Simulation, stuck: Option<u64>, is_done: impl Fn(&Simulation) -> bool) {
    for _ in 0..400_000 {
        if is_done(simulation) {
            return;
        }
        let id = simulation.random.random_range(1..=NODES);
        match simulation.random.random_range(0..100) {
            0..8 => {
                simulation.now = Now { mono_ms: simulation.now.mono_ms + 10, wall_ms: simulation.now.wall_ms + 10 };
                let now = simulation.now;
                for life in simulation.nodes.values_mut().filter_map(|node| node.life.as_mut()) {
                    life.core.set_now(now);
                    life.core.tick();
                }
                (1..=NODES).for_each(|id| simulation.turn(id));
            }
            8..25 if stuck != Some(id) => simulation.persist_one(id),
            25..45 => simulation.apply(id),
            _ => simulation.deliver_one(),
        }
        simulation.turn(id);
    }
    panic!("it takes too long");
}

#[test]
fn increments_are_executed_once_and_reads_see_what_was_acknowledged() {
    let (mut snapshots, mut unknown) = (0, 0);
    for seed in 0..12 {
        let simulation = Simulation::new(seed).run(seed);
        snapshots += simulation.snapshots;
        unknown += simulation.unknown;
    }
    assert!(snapshots > 0 && unknown > 0, "the faults had their effects: {snapshots} snapshots, {unknown} unknown outcomes");
}

#[test]
fn a_snapshot_without_its_files_is_not_installed() {
    let mut simulation = Simulation::new(1);
    let life = simulation.life(1).expect("alive");
    let mut message = Message { from: 2, to: 1, term: 99, ..Message::default() };
    message.set_msg_type(MessageType::MsgSnapshot);
    let metadata = message.mut_snapshot().mut_metadata();
    (metadata.index, metadata.term) = (1_000, 99);
    metadata.mut_conf_state().voters = vec![1, 2, 3];
    let bytes = message.write_to_bytes().expect("a small message").into();
    life.core.frame(2, Frame { group: GROUP.0, wall_ms: 0, body: Some(Body::Raft(bytes)) });
    assert!(!life.core.effects().iter().any(|effect| matches!(effect, Effect::Install(_))));
    assert!(life.core.group().term() < 99);
}

#[test]
fn a_member_without_data_sends_a_joiner_away_for_a_moment() {
    let log: Arc<dyn Engine> = Arc::new(MemoryEngine::new(LOG_COLUMN_FAMILIES.len()));
    let store = LogStore::open(log, GROUP, LogPosition::default(), ConfState::default(), None).expect("an empty log");
    let group = Group::open(group_config(4, 1), store, 0).expect("a consistent state");
    let data = Arc::new(MemoryEngine::new(COLUMN_FAMILIES.len()));
    let mut machine = StateMachine::open(data, 4, 1).expect("good data");
    let mut core = Core::new(core_config(4, 1, 1), group, machine.take_applied(), Now::default());
    core.join(RequestId(1), Some("cluster"), Member::default());
    assert!(matches!(core.effects()[..], [Effect::AnswerJoin(RequestId(1), JoinAnswer::Wait)]));
}
