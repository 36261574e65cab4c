//! A replica in memory for the targets: the state machine over an engine, with entries that follow each other.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, EntryType};
use raftlog::engine::{Engine, MemoryEngine};
use raftlog::entry::{ENVELOPE_VERSION, EntryKind, Envelope, Run};
use redraft::keyspace::STRING_BYTES_MAX;
use redraft::node::core::{Addresses, COLUMN_FAMILIES, Halt, InitialState, LEVEL, Members, Reached, StateMachine};

/// This node, and another member.
pub(crate) const HERE: u64 = 1;
pub(crate) const ELSEWHERE: u64 = 2;
pub(crate) const BOOT: u64 = 1;
/// Small, so that batches end inside entries.
const BATCH_BYTES: usize = 1000;

pub(crate) struct Replica {
    pub(crate) engine: Arc<MemoryEngine>,
    pub(crate) machine: StateMachine,
}

/// A data engine with what a cluster of two begins with.
pub(crate) fn founded_engine() -> Arc<MemoryEngine> {
    let engine = Arc::new(MemoryEngine::new(COLUMN_FAMILIES.len()));
    let nodes = [HERE, ELSEWHERE].map(|id| (id, Addresses::default()));
    let state = InitialState { members: Members::initial("cluster".to_owned(), LEVEL, nodes) };
    state.write(engine.as_ref()).expect("memory does not fail");
    engine
}

pub(crate) fn open(engine: &Arc<MemoryEngine>) -> StateMachine {
    let engine: Arc<dyn Engine> = Arc::<MemoryEngine>::clone(engine);
    StateMachine::open(engine, HERE, BOOT).expect("data that a replica wrote can be read").with_batch_bytes(BATCH_BYTES)
}

impl Replica {
    pub(crate) fn found() -> Self {
        let engine = founded_engine();
        let machine = open(&engine);
        Self { engine, machine }
    }

    pub(crate) fn apply(&mut self, kind: EntryType, data: Bytes, context: Bytes) -> Result<(), Halt> {
        let index = self.machine.applied().position.index + 1;
        let mut entry = Entry { index, term: 9, data, context, ..Entry::default() };
        entry.set_entry_type(kind);
        let mut entries = VecDeque::from([entry]);
        if let Reached::Change(_) = self.machine.apply(&mut entries)? {
            let configuration = ConfState { voters: vec![HERE], learners: vec![ELSEWHERE], ..ConfState::default() };
            self.machine.configure(&mut entries, &configuration)?;
        }
        assert_eq!(self.machine.applied().position.index, index);
        Ok(())
    }
}

/// An entry's contents, stamped.
pub(crate) fn envelope(kind: EntryKind, now_ms: u64, runs: Vec<Run>, payload: Bytes) -> Bytes {
    Envelope { version: ENVELOPE_VERSION, level: LEVEL, kind: kind.into(), now_ms, seed: 7, runs, payload }.encode_to_bytes()
}

/// Whether a logged command may make a value of this length out of a few bytes: numbers may be lengths. Values up to the limit of strings
/// are allowed, and apply holds one of them at a time; but here all of them stay in the memory of the engine, and some take more than a
/// fuzzer is given.
pub(crate) fn may_be_large(args: &[Bytes]) -> bool {
    args.iter().any(|arg| str::from_utf8(arg).is_ok_and(|text| text.parse().is_ok_and(|number: u64| LARGE.contains(&number))))
}

const LARGE: std::ops::RangeInclusive<u64> = 1 << 16..=STRING_BYTES_MAX as u64;
