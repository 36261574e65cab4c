//! Entries over an engine in memory, also one that a crash left in the middle of an entry.

use std::path::Path;
use std::sync::Mutex;

use raftlog::engine::{Change, ExportedFile, KeyRange, MemoryEngine, WriteBatch};
use raftlog::entry::ENVELOPE_VERSION;

use super::super::members::Member;
use super::*;
use crate::command::{Handler, table};
use crate::keyspace::group_range;

fn request(words: &[&[u8]]) -> Request {
    let args: Vec<_> = words.iter().map(|word| Bytes::copy_from_slice(word)).collect();
    Request { spec: table::resolve(&args).expect("a valid command"), args, db: 0 }
}

/// What the data of a founding member begins with.
fn founded(engine: &dyn Engine) {
    let members = Members { members: vec![Member { node_id: 1, ..Member::default() }], ..Members::default() };
    InitialState { members }.write(engine).expect("memory does not fail");
}

/// A founding member's state machine, alone.
fn machine() -> StateMachine {
    let engine = Arc::new(MemoryEngine::new(COLUMN_FAMILIES.len()));
    founded(engine.as_ref());
    StateMachine::open(engine, 1, 1).expect("good data")
}

/// The entry after those of the beginning, with runs of this node.
fn entry_of_runs(runs: &[&[Request]]) -> Entry {
    let mut envelope =
        Envelope { version: ENVELOPE_VERSION, level: LEVEL, kind: EntryKind::Commands.into(), now_ms: 1, ..Envelope::default() };
    for (sequence, requests) in (1..).zip(runs) {
        let mut payload = Vec::new();
        for request in *requests {
            if let Handler::Write { id, .. } = request.spec.handler {
                codec::encode(id, request.db, &request.args, &mut payload);
            }
        }
        envelope.runs.push(Run { node_id: 1, boot: 1, sequence, payload: payload.into(), commands: 1 });
    }
    Entry { index: INITIAL_POSITION.index + 1, term: 9, data: envelope.encode_to_bytes(), ..Entry::default() }
}

/// What a client of this node is answered for its first run.
fn run(machine: &mut StateMachine, requests: Vec<Request>) -> Vec<Reply> {
    let entry = entry_of_runs(&[&requests]);
    machine.track(TrackedRun { id: RunId(1), sequence: 1, requests });
    machine.apply(&mut VecDeque::from([entry])).expect("good entry");
    let (_, result) = machine.take_replies().pop().expect("one run");
    result.expect("executed")
}

fn value(machine: &StateMachine, key: &[u8]) -> Option<Bytes> {
    let view = machine.engine.view(ViewKind::Snapshot);
    let context = ReadContext { group: GROUP, db: 0, now: None, log_time: None, state: None, seed: 0 };
    let get = request(&[b"get", key]);
    match get.spec.read(&get.args, &Reader::new(view.as_ref(), context)).expect("no deadline is met") {
        Reply::Bulk(value) => Some(value),
        _ => None,
    }
}

/// Keeps the sizes of the batches.
struct Scales {
    memory: MemoryEngine,
    batches: Mutex<Vec<usize>>,
}

impl Engine for Scales {
    fn view(&self, kind: ViewKind) -> Box<dyn View + '_> {
        self.memory.view(kind)
    }

    fn write(&self, batch: &WriteBatch) -> EngineResult<()> {
        let length = |change: &Change| if let Change::Put(_, key, value) = change { key.len() + value.len() } else { 0 };
        self.batches.lock().expect("nobody panics").push(batch.changes.iter().map(length).sum());
        self.memory.write(batch)
    }

    fn sync(&self) -> EngineResult<()> {
        self.memory.sync()
    }

    fn export(&self, view: &dyn View, range: &KeyRange, dir: &Path) -> EngineResult<Vec<ExportedFile>> {
        self.memory.export(view, range, dir)
    }

    fn import(&self, range: &KeyRange, files: &[ExportedFile]) -> EngineResult<()> {
        self.memory.import(range, files)
    }
}

#[test]
fn changes_in_memory_are_bounded_whatever_an_entry_does() {
    const VALUE_BYTES: usize = 1 << 20;
    let engine = Arc::new(Scales { memory: MemoryEngine::new(COLUMN_FAMILIES.len()), batches: Mutex::default() });
    founded(engine.as_ref());
    let mut machine = StateMachine::open(engine.clone(), 1, 1).expect("good data");
    // Each has a few bytes in the log, and what it makes comes to many batches.
    let offset = (VALUE_BYTES - 1).to_string();
    let grow = |key: usize| request(&[b"setrange", key.to_string().as_bytes(), offset.as_bytes(), b"x"]);
    let mut requests: Vec<_> = (0..64).map(grow).collect();
    requests.extend((0..64).map(|key| request(&[b"copy", key.to_string().as_bytes(), format!("copy {key}").as_bytes()])));
    let replies = run(&mut machine, requests);
    assert!(replies[..64].iter().all(|reply| *reply == Reply::Integer(VALUE_BYTES as i64)));
    assert!(replies[64..].iter().all(|reply| *reply == Reply::Integer(1)));
    let batches = engine.batches.lock().expect("nobody panics");
    let largest = batches.iter().max().expect("batches were written");
    assert!(*largest < BATCH_BYTES + VALUE_BYTES, "{largest} bytes at once");
    assert!(batches.len() >= 128 * VALUE_BYTES / (BATCH_BYTES + VALUE_BYTES));
}

#[test]
fn a_place_within_an_entry_keeps_its_bytes() {
    let engine = MemoryEngine::new(COLUMN_FAMILIES.len());
    let view = engine.view(ViewKind::Latest);
    let mut overlay = Overlay::new(view.as_ref(), COLUMN_FAMILIES.len());
    let place = Place { entry: LogPosition { index: 6, term: 0x0102 }, run: 3, commands: 300 };
    put_within(&mut overlay, place);
    let stored = overlay.get(STATE, b"\0\0\0\x01raft/within").expect("memory does not fail").expect("it is there");
    assert_eq!(&stored[..], b"\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\x01\x2c");
    assert_eq!(read_within(&overlay).expect("good data"), Some(place));
}

/// Three runs on `k`, of which the second leaves `abc` and reads on the way.
fn three_runs() -> [Vec<Request>; 3] {
    let append = |text: &[u8]| request(&[b"append", b"k", text]);
    [vec![append(b"a")], vec![request(&[b"get", b"k"]), append(b"b"), request(&[b"get", b"k"]), append(b"c")], vec![append(b"d")]]
}

fn track(machine: &mut StateMachine, runs: &[Vec<Request>]) {
    for (sequence, requests) in (1..).zip(runs) {
        machine.track(TrackedRun { id: RunId(sequence), sequence, requests: requests.clone() });
    }
}

/// An engine that a crash left in the second of `three_runs`, behind its first command.
fn cut_within(entry: &Entry) -> Arc<MemoryEngine> {
    for kept in 1.. {
        let engine = Arc::new(MemoryEngine::new(COLUMN_FAMILIES.len()));
        founded(engine.as_ref());
        let mut machine = StateMachine::open(engine.clone(), 1, 1).expect("good data").with_batch_bytes(1);
        machine.apply(&mut VecDeque::from([entry.clone()])).expect("good entry");
        if kept > engine.unsynced() {
            break;
        }
        engine.crash(kept);
        let place = read_within(engine.view(ViewKind::Latest).as_ref()).expect("good data");
        if place.is_some_and(|place| (place.run, place.commands) == (1, 1)) {
            return engine;
        }
    }
    panic!("no batch ended behind the first command of the second run");
}

#[test]
fn an_entry_that_a_crash_cut_is_completed_after_the_restart() {
    let runs = three_runs();
    let entry = entry_of_runs(&runs.each_ref().map(Vec::as_slice));
    let engine = cut_within(&entry);
    let mut machine = StateMachine::open(engine, 1, 2).expect("good data");
    assert_eq!((machine.applied().position, value(&machine, b"k")), (INITIAL_POSITION, Some("ab".into())));
    machine.apply(&mut VecDeque::from([entry])).expect("good entry");
    assert_eq!(value(&machine, b"k"), Some("abcd".into()));
    assert_eq!(read_within(machine.engine.view(ViewKind::Latest).as_ref()).expect("good data"), None);
}

#[test]
fn an_entry_of_which_a_snapshot_has_a_part_is_completed_and_its_later_runs_are_answered() {
    let runs = three_runs();
    let entry = entry_of_runs(&runs.each_ref().map(Vec::as_slice));
    let source = cut_within(&entry);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let files = source.export(source.view(ViewKind::Snapshot).as_ref(), &group_range(GROUP), dir.path()).expect("a sound directory");
    let mut machine = machine();
    track(&mut machine, &runs);
    machine.engine.import(&group_range(GROUP), &files).expect("good files");
    machine.load().expect("good data");
    machine.apply(&mut VecDeque::from([entry])).expect("good entry");
    assert_eq!(value(&machine, b"k"), Some("abcd".into()));
    let expected = [Err(RequestError::Unknown), Err(RequestError::Unknown), Ok(vec![Reply::Integer(4)])];
    assert_eq!(machine.take_replies(), (1..).map(RunId).zip(expected).collect::<Vec<_>>());
}

#[test]
fn batches_that_end_within_an_entry_lose_no_reply() {
    let runs = three_runs();
    let mut machine = machine().with_batch_bytes(1);
    track(&mut machine, &runs);
    machine.apply(&mut VecDeque::from([entry_of_runs(&runs.each_ref().map(Vec::as_slice))])).expect("good entry");
    let second = vec![Reply::Bulk("a".into()), Reply::Integer(2), Reply::Bulk("ab".into()), Reply::Integer(3)];
    let expected = [vec![Reply::Integer(1)], second, vec![Reply::Integer(4)]];
    assert_eq!(machine.take_replies(), (1..).map(RunId).zip(expected.map(Ok)).collect::<Vec<_>>());
}

#[test]
fn a_part_of_another_entry_is_never_completed() {
    let runs = three_runs();
    let entry = entry_of_runs(&runs.each_ref().map(Vec::as_slice));
    let mut machine = StateMachine::open(cut_within(&entry), 1, 2).expect("good data");
    let halt = machine.apply(&mut VecDeque::from([Entry { term: entry.term + 1, ..entry }]));
    assert!(matches!(halt, Err(Halt::Engine(EngineError::Corruption(_)))), "{halt:?}");
}

/// An entry without runs.
fn entry(index: u64, kind: EntryKind) -> Entry {
    let envelope = Envelope { version: ENVELOPE_VERSION, level: LEVEL, kind: kind.into(), now_ms: index, ..Envelope::default() };
    Entry { index, term: 9, data: envelope.encode_to_bytes(), ..Entry::default() }
}

#[test]
fn apply_stops_behind_a_verification_with_everything_before_it_written() {
    let mut machine = machine();
    let first = machine.applied().position.index + 1;
    let kinds = [EntryKind::Purge, EntryKind::Verify, EntryKind::Verify, EntryKind::Purge];
    let mut entries: VecDeque<Entry> = (first..).zip(kinds).map(|(index, kind)| entry(index, kind)).collect();
    for reached in [first + 1, first + 2] {
        let position = LogPosition { index: reached, term: 9 };
        assert_eq!(machine.apply(&mut entries).expect("good entries"), Reached::Verification(position));
        let view = machine.engine.view(ViewKind::Snapshot);
        assert_eq!(read_snapshot_contents(view.as_ref()).expect("good data").position, position);
        assert_eq!(read_numbers::<1>(view.as_ref(), "raft/log_time").expect("good data"), Some([reached]));
    }
    assert_eq!(machine.apply(&mut entries).expect("good entries"), Reached::End);
    assert!(entries.is_empty());
}

#[test]
fn the_same_configuration_is_stored_as_the_same_bytes() {
    let engine = MemoryEngine::new(COLUMN_FAMILIES.len());
    let stored = |voters: &[u64], learners: &[u64]| {
        let view = engine.view(ViewKind::Latest);
        let mut overlay = Overlay::new(view.as_ref(), COLUMN_FAMILIES.len());
        put_configuration(&mut overlay, &ConfState { voters: voters.to_vec(), learners: learners.to_vec(), ..ConfState::default() });
        overlay.get(STATE, &state_key(GROUP, "raft/configuration")).expect("memory does not fail")
    };
    assert_eq!(stored(&[3, 1, 2], &[5, 4]), stored(&[1, 2, 3], &[4, 5]));
    assert_ne!(stored(&[1, 2, 3], &[4, 5]), stored(&[1, 2, 3], &[4]));
}

#[test]
fn reads_between_writes_stop_at_their_bytes_but_the_writes_go_on() {
    let value = vec![b'x'; 32 << 20];
    let mut requests = vec![request(&[b"set", b"k", &value])];
    requests.extend((0..12).map(|_| request(&[b"get", b"k"])));
    requests.push(request(&[b"append", b"k", b"y"]));
    let replies = run(&mut machine(), requests);
    let refused = |reply: &Reply| matches!(reply, Reply::Error(text) if text.starts_with("TRYAGAIN"));
    assert!(replies[1..=8].iter().all(|reply| *reply == Reply::Bulk(value.clone().into())));
    assert!(replies[10..13].iter().all(refused));
    assert_eq!(replies[13], Reply::Integer(value.len() as i64 + 1));
}
