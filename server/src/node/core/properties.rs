//! What holds for every command of the table, whatever its arguments, over random histories: apply does not panic, all engines agree, and
//! the bytes of the data follow from the log alone, not from how it was cut into batches, nor from crashes on the way.
//! A history is made from its seed before anything is applied, so it does not depend on what replicas do. It has runs of two nodes, of
//! which some come again or leave a gap, purges, sweeps, changes of the table and of the configuration, and stamps that step back.
//! The environment variable `REDRAFT_PROPERTY_SEEDS` says how many histories each test takes, and `REDRAFT_PROPERTY_SEED_FROM` which is
//! the first. A test that fails prints the seed: with these two it can be repeated alone. Seeds mean something else after commands change.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use raft::eraftpb::{ConfState, Entry, EntryType};
use raftlog::engine::{Cf, Direction, Durability, Engine, KeyRange, LayeredEngine, MemoryEngine, RocksEngine, RocksOptions, ViewKind};
use raftlog::log::INITIAL_POSITION;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use resp::Reply;
use tempfile::TempDir;

use super::*;
use crate::command::vocabulary::{Vocabulary, check, data_commands};
use crate::command::{Handler, codec};
use crate::keyspace::{KeyspaceState, ReadContext, Reader, STATE, UnixMillis, check_invariants, group_range, state_key};
use crate::node::Request;

/// Histories of each test, unless the environment says otherwise.
const SEEDS: u64 = 24;
const ENTRIES: u64 = 120;
const RUNS_PER_ENTRY_MAX: usize = 3;
const COMMANDS_PER_RUN_MAX: usize = 6;
/// Databases that requests select.
const DATABASES: u8 = 3;
/// Two origins of runs: the replica that answers, and another node.
const HERE: u64 = 1;
const ELSEWHERE: u64 = 2;
const BOOT: u64 = 1;
/// Small, so that layers are handed down all the time.
const LAYER_BYTES: usize = 20 << 10;

fn seeds() -> Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("the variable holds a number"));
    let from = number("REDRAFT_PROPERTY_SEED_FROM").unwrap_or(0);
    from..from + number("REDRAFT_PROPERTY_SEEDS").unwrap_or(SEEDS)
}

/// Says which seed it was when the test fails, whatever the reason.
struct Announced(u64);

impl Drop for Announced {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the history has seed {0}: REDRAFT_PROPERTY_SEEDS=1 REDRAFT_PROPERTY_SEED_FROM={0}", self.0);
        }
    }
}

/// A log, and the requests of the runs that are answered here, by sequence.
struct History {
    entries: Vec<Entry>,
    requests: BTreeMap<u64, Vec<Request>>,
    /// Log time at the end.
    now: u64,
}

struct Author {
    random: SmallRng,
    vocabulary: Vocabulary,
    now: u64,
    /// The last run of each origin.
    last_runs: HashMap<u64, Run>,
    requests: BTreeMap<u64, Vec<Request>>,
}

impl History {
    fn from_seed(seed: u64) -> Self {
        let random = SmallRng::seed_from_u64(seed);
        let (vocabulary, now) = (Vocabulary::of_the_table(), 1_000_000_000_000);
        let mut author = Author { random, vocabulary, now, last_runs: HashMap::new(), requests: BTreeMap::new() };
        let entries = (1..=ENTRIES).map(|number| author.entry(INITIAL_POSITION.index + number)).collect();
        Self { entries, requests: author.requests, now: author.now }
    }

    fn last_sequence(&self) -> u64 {
        self.requests.keys().next_back().copied().unwrap_or(0)
    }
}

impl Author {
    fn entry(&mut self, index: u64) -> Entry {
        self.now += match self.random.random_range(0..10) {
            0 => self.random.random_range(0..3000),
            1..=3 => 0,
            _ => self.random.random_range(0..60),
        };
        let mut entry = Entry { index, term: INITIAL_POSITION.term + index / 30, ..Entry::default() };
        match self.random.random_range(0..100) {
            0..=2 => {}
            3..=4 => {
                entry.set_entry_type(EntryType::EntryConfChangeV2);
                let change = self.change();
                entry.context = self.envelope(EntryKind::Configuration, Vec::new(), change);
            }
            5..=8 => {
                let change = self.change();
                entry.data = self.envelope(EntryKind::Membership, Vec::new(), change);
            }
            9..=16 => entry.data = self.envelope(EntryKind::Purge, Vec::new(), Bytes::new()),
            17..=22 => entry.data = self.envelope(EntryKind::Sweep, Vec::new(), Bytes::new()),
            _ => {
                let runs = (0..self.random.random_range(1..=RUNS_PER_ENTRY_MAX)).map(|_| self.run()).collect();
                entry.data = self.envelope(EntryKind::Commands, runs, Bytes::new());
            }
        }
        entry
    }

    fn envelope(&mut self, kind: EntryKind, runs: Vec<Run>, payload: Bytes) -> Bytes {
        // A stamp may be behind log time, which is the highest one so far.
        let now_ms = self.now - if self.random.random_range(0..5) == 0 { self.random.random_range(0..500) } else { 0 };
        let seed = self.random.random();
        Envelope { version: ENVELOPE_VERSION, level: LEVEL, kind: kind.into(), now_ms, seed, runs, payload }.encode_to_bytes()
    }

    /// A change of the membership table that leaves both origins in it.
    fn change(&mut self) -> Bytes {
        let incarnation = self.random.random_range(100..105);
        let node = Member { node_id: 0, incarnation, level: LEVEL, ..Member::default() };
        let id = self.random.random_range(3..12);
        let change = match self.random.random_range(0..4) {
            0 | 1 => Change::Register(node),
            2 => Change::Update(Member { node_id: id, ..node }),
            _ => Change::Remove(Ids { ids: vec![id] }),
        };
        change.encode_to_bytes()
    }

    fn run(&mut self) -> Run {
        let node_id = if self.random.random_range(0..4) == 0 { ELSEWHERE } else { HERE };
        let last = self.last_runs.get(&node_id);
        match (last, self.random.random_range(0..20)) {
            // It comes a second time.
            (Some(last), 0) => return last.clone(),
            // One before it is missing.
            (Some(last), 1) => return Run { sequence: last.sequence + 2, ..last.clone() },
            _ => {}
        }
        let sequence = last.map_or(1, |last| last.sequence + 1);
        let mut requests: Vec<Request> = Vec::new();
        for _ in 0..self.random.random_range(1..=COMMANDS_PER_RUN_MAX) {
            let (spec, args) = self.vocabulary.command(&mut self.random, self.now);
            // Arguments that the command refuses do not get into the log by way of a client, but apply must bear them.
            requests.push(Request { spec, args, db: self.random.random_range(0..DATABASES) });
        }
        let mut payload = Vec::new();
        let mut commands = 0;
        for request in &requests {
            if let Handler::Write { id, .. } = request.spec.handler {
                codec::encode(id, request.db, &request.args, &mut payload);
                commands += 1;
            }
        }
        let run = Run { node_id, boot: BOOT, sequence, payload: payload.into(), commands };
        self.last_runs.insert(node_id, run.clone());
        if node_id == HERE {
            self.requests.insert(sequence, requests);
        }
        run
    }
}

/// A replica of the group.
struct Replica {
    engine: Arc<dyn Engine>,
    machine: StateMachine,
}

impl Replica {
    /// The replica of a founding member on an empty engine.
    fn found(engine: Arc<dyn Engine>, node_id: u64) -> Self {
        let nodes = [HERE, ELSEWHERE].map(|id| (id, Addresses::default()));
        InitialState { members: Members::initial("cluster".to_owned(), LEVEL, nodes) }.write(engine.as_ref()).expect("a sound engine");
        Self::open(engine, node_id, BOOT)
    }

    fn open(engine: Arc<dyn Engine>, node_id: u64, boot: u64) -> Self {
        let machine = StateMachine::open(Arc::clone(&engine), node_id, boot).expect("sound data");
        Self { engine, machine }
    }

    /// Lets batches end inside entries, often.
    fn in_small_batches(mut self, random: &mut SmallRng) -> Self {
        self.machine = self.machine.with_batch_bytes(random.random_range(1..3000));
        self
    }

    fn track(&mut self, history: &History) {
        for (sequence, requests) in &history.requests {
            self.machine.track(TrackedRun { id: RunId(*sequence), sequence: *sequence, requests: requests.clone() });
        }
    }

    fn apply(&mut self, entries: &[Entry]) {
        let mut entries: VecDeque<Entry> = entries.iter().cloned().collect();
        while let Reached::Change(_) = self.machine.apply(&mut entries).expect("the log has nothing unknown") {
            let index = entries.front().expect("apply stopped at an entry").index;
            let configuration = ConfState { voters: vec![HERE, ELSEWHERE], learners: vec![index], ..ConfState::default() };
            self.machine.configure(&mut entries, &configuration).expect("the log has nothing unknown");
        }
    }

    /// Index of the next entry.
    fn next_index(&self) -> u64 {
        self.machine.applied().position.index + 1
    }

    /// Everything stored, byte by byte, by column family.
    fn contents(&self) -> Vec<Vec<(Bytes, Bytes)>> {
        let view = self.engine.view(ViewKind::Snapshot);
        let all = KeyRange { from: Vec::new(), to: vec![0xff; 5] };
        let family = |cf| view.items(Cf(cf), &all, Direction::Forward).map(|item| item.expect("a sound engine")).collect();
        (0..COLUMN_FAMILIES.len() as u8).map(family).collect()
    }

    fn check_invariants(&self) {
        let view = self.engine.view(ViewKind::Snapshot);
        let state = KeyspaceState::load(view.as_ref(), GROUP).expect("sound data");
        check_invariants(view.as_ref(), &state);
    }

    /// What a client reads outside a run.
    fn read(&self, request: &Request, now: u64, seed: u64) -> String {
        let view = self.engine.view(ViewKind::Snapshot);
        let context = ReadContext { group: GROUP, db: request.db, now: Some(UnixMillis(now)), log_time: None, state: None, seed };
        format!("{:?}", request.spec.read(&request.args, &Reader::new(view.as_ref(), context)))
    }
}

/// A directory in memory where there is such a place: nothing here is about what a disk keeps.
fn directory() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).expect("temporary directory")
}

fn memory() -> Arc<MemoryEngine> {
    Arc::new(MemoryEngine::new(COLUMN_FAMILIES.len()))
}

fn rocks(dir: &TempDir) -> RocksEngine {
    let options = RocksOptions {
        column_families: COLUMN_FAMILIES.to_vec(),
        queues: Vec::new(),
        memtable_bytes: 8 << 20,
        block_cache_bytes: 1 << 20,
        durability: Durability::Flush,
    };
    RocksEngine::open(dir.path(), &options).expect("an empty directory becomes a database")
}

/// Cuts a history into batches at random.
fn batches<'h>(history: &'h History, random: &mut SmallRng) -> Vec<&'h [Entry]> {
    let mut rest = &history.entries[..];
    let mut batches = Vec::new();
    while !rest.is_empty() {
        let (batch, after) = rest.split_at(random.random_range(1..=rest.len().min(12)));
        batches.push(batch);
        rest = after;
    }
    batches
}

/// The first place where two replicas differ, for people; contents as a whole are long.
#[track_caller]
fn assert_same_contents(replica: &Replica, reference: &Replica, what: &str) {
    for (name, (ours, theirs)) in COLUMN_FAMILIES.iter().zip(replica.contents().into_iter().zip(reference.contents())) {
        if ours != theirs {
            let differ = ours.iter().zip(&theirs).position(|(one, other)| one != other).unwrap_or(ours.len().min(theirs.len()));
            panic!("{what}: record {differ} of {name} is {:?} instead of {:?}", ours.get(differ), theirs.get(differ));
        }
    }
}

#[test]
fn engines_agree_on_replies_and_bytes() {
    for seed in seeds() {
        let _announced = Announced(seed);
        let history = History::from_seed(seed);
        let mut random = SmallRng::seed_from_u64(seed);
        let (alone, below) = (directory(), directory());
        let layered = LayeredEngine::new(Box::new(rocks(&below)), COLUMN_FAMILIES.len(), LAYER_BYTES);
        let mut reference = Replica::found(memory(), HERE);
        let mut others =
            [("RocksDB", Replica::found(Arc::new(rocks(&alone)), HERE)), ("layers over RocksDB", Replica::found(Arc::new(layered), HERE))];
        reference.track(&history);
        others.iter_mut().for_each(|(_, replica)| replica.track(&history));
        for batch in batches(&history, &mut random) {
            reference.apply(batch);
            let expected = reference.machine.take_replies();
            for (name, replica) in &mut others {
                replica.apply(batch);
                let replies = replica.machine.take_replies();
                assert_eq!(replies, expected, "{name}");
                assert_eq!(replica.machine.applied(), reference.machine.applied(), "{name}");
            }
        }
        assert_eq!(reference.machine.applied().own_sequence, history.last_sequence());
        reference.check_invariants();
        for (name, replica) in &others {
            assert_same_contents(replica, &reference, name);
        }
        let vocabulary = Vocabulary::of_the_table();
        for _ in 0..300 {
            let (spec, args) = vocabulary.command(&mut random, history.now);
            if !spec.is_write() && check(spec, &args) {
                let request = Request { spec, args, db: random.random_range(0..DATABASES) };
                let (now, seed) = (history.now + random.random_range(0..100), random.random());
                let expected = reference.read(&request, now, seed);
                for (name, replica) in &others {
                    assert_eq!(replica.read(&request, now, seed), expected, "{name}: {:?}", request.args);
                }
            }
        }
    }
}

#[test]
fn bytes_follow_from_the_log_alone() {
    for seed in seeds() {
        let _announced = Announced(seed);
        let history = History::from_seed(seed);
        let mut random = SmallRng::seed_from_u64(seed);
        // Answers clients, an entry at a time.
        let mut reference = Replica::found(memory(), HERE);
        reference.track(&history);
        for entry in &history.entries {
            reference.apply(std::slice::from_ref(entry));
        }
        let mut at_once = Replica::found(memory(), ELSEWHERE);
        at_once.apply(&history.entries);
        assert_same_contents(&at_once, &reference, "all entries in one batch");
        let mut in_batches = Replica::found(memory(), 7);
        for batch in batches(&history, &mut random) {
            in_batches.apply(batch);
        }
        assert_same_contents(&in_batches, &reference, "entries in batches");
        let mut in_small_batches = Replica::found(memory(), HERE).in_small_batches(&mut random);
        in_small_batches.track(&history);
        for batch in batches(&history, &mut random) {
            in_small_batches.apply(batch);
        }
        assert_same_contents(&in_small_batches, &reference, "batches that end inside entries");
        assert_eq!(in_small_batches.machine.take_replies(), reference.machine.take_replies());
    }
}

#[test]
fn a_crash_leaves_what_the_rest_of_the_log_completes() {
    for seed in seeds() {
        let _announced = Announced(seed);
        let history = History::from_seed(seed);
        let mut random = SmallRng::seed_from_u64(seed);
        let mut reference = Replica::found(memory(), HERE);
        reference.apply(&history.entries);
        let engine = memory();
        let mut replica = Replica::found(engine.clone(), HERE).in_small_batches(&mut random);
        engine.sync().expect("memory does not fail");
        let (mut boot, mut crashes) = (BOOT, 0);
        let end = INITIAL_POSITION.index + ENTRIES + 1;
        while replica.next_index() < end {
            let from = (replica.next_index() - INITIAL_POSITION.index - 1) as usize;
            let to = random.random_range(from + 1..=history.entries.len().min(from + 10));
            replica.apply(&history.entries[from..to]);
            match random.random_range(0..6) {
                0 if crashes < 20 => {
                    crashes += 1;
                    boot += 1;
                    engine.crash(random.random_range(0..=engine.unsynced()));
                    replica = Replica::open(engine.clone(), HERE, boot).in_small_batches(&mut random);
                    replica.check_invariants();
                }
                1 => engine.sync().expect("memory does not fail"),
                _ => {}
            }
        }
        assert_same_contents(&replica, &reference, "after crashes");
    }
}

#[test]
fn a_snapshot_of_any_batch_is_completed_by_the_rest_of_the_log() {
    let mut within = 0;
    for seed in seeds() {
        let _announced = Announced(seed);
        let history = History::from_seed(seed);
        let mut random = SmallRng::seed_from_u64(seed);
        let mut reference = Replica::found(memory(), HERE);
        reference.apply(&history.entries);
        let dir = directory();
        let engine = memory();
        let mut source = Replica::found(engine.clone(), HERE).in_small_batches(&mut random);
        engine.sync().expect("memory does not fail");
        // Configurations are synced: what a crash may cut is behind the last one.
        source.apply(&history.entries[..random.random_range(1..history.entries.len())]);
        engine.crash(random.random_range(0..=engine.unsynced()));
        let files = engine.export(engine.view(ViewKind::Snapshot).as_ref(), &group_range(GROUP), dir.path()).expect("a sound directory");
        let installed = memory();
        installed.import(&group_range(GROUP), &files).expect("good files");
        within +=
            u64::from(installed.view(ViewKind::Latest).get(STATE, &state_key(GROUP, "raft/within")).expect("a sound engine").is_some());
        let mut replica = Replica::open(installed, ELSEWHERE, BOOT).in_small_batches(&mut random);
        replica.check_invariants();
        replica.apply(&history.entries[(replica.next_index() - INITIAL_POSITION.index - 1) as usize..]);
        assert_same_contents(&replica, &reference, "after a snapshot");
    }
    assert!(within > 0 || seeds().count() < SEEDS as usize, "no snapshot was taken inside an entry");
}

/// The properties above say something about a command only if it is executed.
#[test]
fn every_data_command_succeeds_in_some_history() {
    let mut missing: BTreeSet<&str> = data_commands().map(|spec| spec.name).collect();
    for seed in 0..SEEDS {
        let _announced = Announced(seed);
        let history = History::from_seed(seed);
        let mut replica = Replica::found(memory(), HERE);
        replica.track(&history);
        replica.apply(&history.entries);
        for (RunId(sequence), result) in replica.machine.take_replies() {
            let replies = result.expect("the run is executed");
            for (request, reply) in history.requests[&sequence].iter().zip(replies) {
                if !matches!(reply, Reply::Error(_)) {
                    missing.remove(request.spec.name);
                }
            }
        }
    }
    assert!(missing.is_empty(), "never executed: {missing:?}; let the vocabulary draw arguments that they take");
}
