//! Frames from members: a leader takes any of them and goes on serving its clients, unless a command that it was handed cannot be read, which
//! halts it. Raft's own messages are decoded and not stepped: raft relies on its members (a commit index beyond the log panics there).
//! Input: events, each a byte and what belongs to it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use protobuf::Message as _;
use raft::eraftpb::{ConfState, Entry, Message};
use raftlog::engine::{Engine, MemoryEngine, ViewKind, WriteBatch};
use raftlog::entry::Run;
use raftlog::group::{Group, GroupConfig};
use raftlog::log::{INITIAL_POSITION, LOG_COLUMN_FAMILIES, LogStore, encode_bootstrap, encode_truncation};
use raftlog::message::{Body, Forward, Frame, Match, ReadReply, ReadRequest};
use redraft::command::{Handler, codec, table};
use redraft::keyspace::digest::digest;
use redraft::keyspace::{STATE, state_key};
use redraft::node::Request;
use redraft::node::core::{Core, CoreConfig, Effect, GROUP, Lane, NewRun, Now, Reached, ReadId, RunId, StateMachine, TrackedRun};

use crate::input::Input;
use crate::replica::{self, BOOT, ELSEWHERE, HERE};

/// Turns after which a run must have its replies.
const TURNS_MAX: usize = 50;
const TURN_MS: u64 = 20;
/// A node that is no member; the gate lets none in, but it may have been removed a moment ago.
const STRANGER: u64 = 7;

pub(crate) fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let mut node = Node::start();
    let mut last_run = 0;
    while !input.is_empty() && !node.halted {
        let operation = input.byte();
        let from = [ELSEWHERE, ELSEWHERE, ELSEWHERE, STRANGER][usize::from(operation / 8) % 4];
        let body = match operation % 8 {
            0 => {
                let Ok(frame) = Frame::decode(input.string()) else { continue };
                node.take(from, frame);
                continue;
            }
            1 | 2 => Body::Forward(forward(from, &mut input)),
            3 => Body::ReadRequest(ReadRequest { round: input.number(), boot: input.number(), log_time_ms: input.number() }),
            4 => {
                let matches = vec![Match { node_id: input.number(), index: input.number() }];
                let (round, boot, index, now_ms) = (input.number(), input.number(), input.number(), input.number());
                Body::ReadReply(ReadReply { round, boot, index, now_ms, matches })
            }
            5 => {
                node.pass(input.number() % 3000);
                continue;
            }
            6 => {
                let lane = [Lane::Control, Lane::Append, Lane::Forward][usize::from(input.byte()) % 3];
                node.core.lane_up(from, lane);
                continue;
            }
            _ => {
                last_run += 1;
                node.client_run(last_run);
                continue;
            }
        };
        let wall_ms = if operation < 128 { 0 } else { input.number() };
        node.take(from, Frame { group: GROUP.0, wall_ms, body: Some(body) });
    }
    last_run += 1;
    node.client_run(last_run);
    for _ in 0..TURNS_MAX {
        node.pass(TURN_MS);
    }
    assert!(node.halted || node.unanswered.is_empty(), "clients are served");
}

fn forward(from: u64, input: &mut Input<'_>) -> Forward {
    let attempt = input.number();
    if attempt == 17 {
        return Forward { attempt, run: None };
    }
    let node_id = if attempt == 18 { input.number() } else { from };
    let (boot, sequence, commands) = (input.number(), input.number(), input.number() as u32);
    Forward { attempt, run: Some(Run { node_id, boot, sequence, payload: input.bytes(), commands }) }
}

/// A node that leads alone, with a learner.
struct Node {
    log: Arc<MemoryEngine>,
    data: Arc<MemoryEngine>,
    core: Core,
    machine: StateMachine,
    now: Now,
    entries: VecDeque<Entry>,
    unanswered: HashMap<RunId, Request>,
    halted: bool,
}

impl Node {
    fn start() -> Self {
        let log = Arc::new(MemoryEngine::new(LOG_COLUMN_FAMILIES.len()));
        let data = replica::founded_engine();
        let configuration = ConfState { voters: vec![HERE], learners: vec![ELSEWHERE], ..ConfState::default() };
        let mut batch = WriteBatch::default();
        batch.put(STATE, state_key(GROUP, "raft/configuration"), configuration.write_to_bytes().expect("a small message"));
        data.write(&batch).expect("memory does not fail");
        let mut batch = WriteBatch::default();
        encode_bootstrap(GROUP, &mut batch);
        log.write(&batch).expect("memory does not fail");

        let store = LogStore::open(Arc::<MemoryEngine>::clone(&log), GROUP, INITIAL_POSITION, configuration, None).expect("a sound log");
        let config = GroupConfig {
            node_id: HERE,
            election_ticks: 10,
            heartbeat_ticks: 2,
            append_bytes_max: 1 << 20,
            uncommitted_bytes_max: 1 << 20,
            committed_bytes_max: 1 << 20,
            seed: 1,
        };
        let group = Group::open(config, store, INITIAL_POSITION.index).expect("a sound log");
        let config = CoreConfig {
            node_id: HERE,
            boot: BOOT,
            entry_bytes_max: 1000,
            entry_commands_max: 10,
            log_bytes_max: 3000,
            replication_factor: 1,
            clock_skew_max_ms: 500,
            replace_after_ms: None,
            silence_max_ms: 1000,
            seed: 1,
        };
        let now = Now { mono_ms: 1000, wall_ms: 1_000_000_000_000 };
        let mut machine = replica::open(&data);
        let core = Core::new(config, group, machine.take_applied(), now);
        let mut node = Self { log, data, core, machine, now, entries: VecDeque::new(), unanswered: HashMap::new(), halted: false };
        node.turn();
        node
    }

    fn take(&mut self, from: u64, frame: Frame) {
        if let Some(Body::Raft(bytes)) = &frame.body
            && Message::parse_from_bytes(bytes).is_ok_and(|message| message.from == from)
        {
            return;
        }
        self.core.frame(from, frame);
        self.turn();
    }

    /// Lets time pass, with a tick of raft's clock.
    fn pass(&mut self, millis: u64) {
        self.now.mono_ms += millis;
        self.now.wall_ms += millis;
        self.core.set_now(self.now);
        self.core.tick();
        self.turn();
    }

    fn client_run(&mut self, number: u64) {
        let args = ["incr", "n"].map(|word| Bytes::from_static(word.as_bytes())).to_vec();
        let spec = table::resolve(&args).expect("a command of the table");
        let Handler::Write { id, .. } = spec.handler else { unreachable!("INCR is logged") };
        let mut payload = Vec::new();
        codec::encode(id, 0, &args, &mut payload);
        self.unanswered.insert(RunId(number), Request { spec, args, db: 0 });
        let deadline_ms = u64::MAX;
        self.core.run(NewRun { id: RunId(number), payload: payload.into(), commands: 1, deadline_ms });
        self.core.read(ReadId(number), deadline_ms, 0);
        self.turn();
    }

    fn turn(&mut self) {
        self.core.set_now(self.now);
        loop {
            let effects = self.core.effects();
            if effects.is_empty() || self.halted {
                return;
            }
            for effect in effects {
                self.carry_out(effect);
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Persist(persist) => {
                let mut batch = WriteBatch::default();
                persist.encode(GROUP, &mut batch);
                self.log.write(&batch).expect("memory does not fail");
                self.log.sync().expect("memory does not fail");
                self.core.persisted(persist.number).expect("the core's own change");
            }
            Effect::Track(id, sequence) => {
                let requests = vec![self.unanswered[&id].clone()];
                self.machine.track(TrackedRun { id, sequence, requests });
            }
            Effect::Apply(entries) => {
                self.entries.extend(entries);
                self.apply();
            }
            Effect::Configure(configuration) => {
                self.machine.configure(&mut self.entries, &configuration).expect("the core's own change");
                self.apply();
            }
            Effect::SyncData => {
                self.data.sync().expect("memory does not fail");
                self.core.data_synced();
            }
            Effect::Truncate(to) => {
                let mut batch = WriteBatch::default();
                encode_truncation(GROUP, to, &mut batch);
                self.log.write(&batch).expect("memory does not fail");
            }
            Effect::GenerateSnapshot(_, id) => self.core.snapshot_sent(id, Err(())),
            Effect::Install(_) | Effect::FailRun(..) | Effect::GiveUp(_) | Effect::FailRead(..) => {
                unreachable!("a sole voter leads, and nothing has a deadline")
            }
            Effect::Send(..)
            | Effect::ReadReady { .. }
            | Effect::SendSnapshot(..)
            | Effect::DropSnapshot(_)
            | Effect::AnswerJoin(..)
            | Effect::AnswerAdmin(..)
            | Effect::AnswerVerify(..)
            | Effect::Verified(_)
            | Effect::ExaminePart(..) => {}
            Effect::StopDiverged(_) => self.halted = true,
        }
    }

    fn apply(&mut self) {
        match self.machine.apply(&mut self.entries) {
            Ok(reached) => {
                self.core.applied(self.machine.take_applied());
                match reached {
                    Reached::End => {}
                    Reached::Change(change) => self.core.change_reached(change).expect("the core's own change"),
                    Reached::Verification(entry) => {
                        let digested = digest(self.data.view(ViewKind::Snapshot).as_ref(), GROUP, &|| true).expect("memory does not fail");
                        self.core.digest_begun(entry);
                        self.core.digested(entry, digested.expect("not interrupted").digest);
                        self.apply();
                    }
                }
            }
            Err(_) => self.halted = true,
        }
        for (id, result) in self.machine.take_replies() {
            assert!(self.unanswered.remove(&id).is_some(), "a run is answered once");
            assert_eq!(result.expect("the run was executed").len(), 1);
        }
    }
}
