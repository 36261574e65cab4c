//! What a node finds in `log/` when it starts: records and the high-water file of any contents. Either the log is refused, or all of it can
//! be read and raft starts on it.
//! Input: the high-water file, the applied position, the stored hard state and truncation, then records of entries.

use std::cell::RefCell;
use std::fs;
use std::sync::Arc;

use raft::eraftpb::ConfState;
use raft::{GetEntriesContext, Storage};
use raftlog::engine::{Engine, MemoryEngine, WriteBatch};
use raftlog::group::{Group, GroupConfig};
use raftlog::log::{ENTRIES_CF, Found, GroupId, HighWater, LOG_CF, LOG_COLUMN_FAMILIES, LogPosition, LogStore, Mark};
use tempfile::TempDir;

use crate::input::Input;

const GROUP: GroupId = GroupId(1);

thread_local! {
    static DIRECTORY: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

pub(crate) fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let mark = high_water(&mut input);
    let applied = LogPosition { index: input.number(), term: input.number() };
    let engine = Arc::new(MemoryEngine::new(LOG_COLUMN_FAMILIES.len()));
    let mut batch = WriteBatch::default();
    let mut next_index = 1;
    for letter in [b'h', b't'] {
        match input.byte() % 3 {
            0 => {}
            1 => batch.put(LOG_CF, key(letter), input.bytes()),
            _ => {
                let count = if letter == b'h' { 3 } else { 2 };
                let numbers: Vec<u64> = (0..count).map(|_| input.number()).collect();
                next_index = if letter == b't' { numbers[0].wrapping_add(1) } else { next_index };
                batch.put(LOG_CF, key(letter), record(&numbers));
            }
        }
    }
    while !input.is_empty() {
        let operation = input.byte();
        let index = if operation < 16 { input.number() } else { next_index };
        let entry_key = [GROUP.0.to_be_bytes().to_vec(), index.to_be_bytes().to_vec()].concat();
        next_index = index.wrapping_add(1);
        let value = match operation % 4 {
            0 => input.bytes(),
            _ => {
                let mut value = vec![1, operation / 16 % 3];
                value.extend(input.number().to_be_bytes());
                let context = input.string();
                value.extend((context.len() as u32).to_be_bytes());
                value.extend(context);
                value.extend(input.string());
                value.into()
            }
        };
        batch.put(ENTRIES_CF, entry_key, value);
    }
    engine.write(&batch).expect("memory does not fail");

    let voters = ConfState { voters: vec![1], ..ConfState::default() };
    let Ok(store) = LogStore::open(engine, GROUP, applied, voters, mark) else { return };
    let (first, last) = (store.first(), store.last());
    assert!(first <= last + 1 && store.hard_state().commit <= last && applied.index <= last);
    let entries = store.entries(first, last + 1, None, GetEntriesContext::empty(false)).expect("a log that opens can be read");
    assert_eq!(entries.len() as u64, last + 1 - first);
    for entry in entries {
        assert_eq!(store.term(entry.index).ok(), Some(entry.term));
    }
    let config = GroupConfig {
        node_id: 1,
        election_ticks: 10,
        heartbeat_ticks: 2,
        append_bytes_max: 1 << 20,
        uncommitted_bytes_max: 1 << 20,
        committed_bytes_max: 1 << 20,
        seed: 1,
    };
    assert!(Group::open(config, store, applied.index).is_ok(), "raft starts on a log that opens");
}

/// The mark that a file holds: any file, or a whole one.
fn high_water(input: &mut Input<'_>) -> Option<Mark> {
    let mark = match input.byte() % 3 {
        0 => return None,
        1 => None,
        _ => {
            let mut number = || input.number();
            Some(Mark { last: LogPosition { index: number(), term: number() }, term: number(), vote: number() })
        }
    };
    DIRECTORY.with_borrow_mut(|directory| {
        let directory = directory.get_or_insert_with(crate::directory);
        let path = directory.path().join("high-water");
        let contents = if mark.is_none() { input.string() } else { &[] };
        fs::write(&path, contents).expect("a temporary file can be written");
        let (mut file, found) = HighWater::open(&path).expect("any file can be opened");
        if let Some(mark) = mark {
            assert_eq!(found, Found::Damaged);
            file.begin(mark).expect("a temporary file can be written");
        }
        match HighWater::open(&path).expect("any file can be opened").1 {
            Found::Mark(found) => {
                assert!(mark.is_none_or(|mark| mark == found), "what was written is read");
                Some(found)
            }
            Found::Nothing | Found::Damaged => {
                assert_eq!(mark, None);
                None
            }
        }
    })
}

fn key(letter: u8) -> Vec<u8> {
    [&GROUP.0.to_be_bytes()[..], &[letter]].concat()
}

fn record(numbers: &[u64]) -> Vec<u8> {
    let numbers = numbers.iter().flat_map(|number| number.to_be_bytes());
    std::iter::once(1).chain(numbers).collect()
}
