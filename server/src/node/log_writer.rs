//! The one writer of the Raft log; beside it `log/` has records of the node, which others write.
//! It takes everything that waits, writes it as one batch, synced, and only then lets the messages leave that rely on it. A sync that
//! fails ends the process: what is on the disk is unknown then, and trying again would hide it (Rebello et al., ATC 2020).

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use raft::eraftpb::Entry;
use raftlog::engine::{Engine, EngineError, WriteBatch};
use raftlog::log::{ENTRIES_CF, HighWater, LogPosition, Mark, Persist, encode_truncation, truncated_range};

use super::completions::Completions;
use super::core::{GROUP, raft_frame};
use super::exit::stop_for;
use super::shell::{Network, wall_ms};
use crate::metrics::{Distribution, Metric, Metrics};

/// Batches are closed at this many tasks, so that the first of them does not wait for ever.
const BATCH_TASKS_MAX: usize = 1024;
/// What need not be durable is made so when nothing that must be has come for this long.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// What the writer does.
pub enum LogTask {
    /// Stores a persist and sends its messages.
    Persist(Persist),
    /// Lets the log begin after this position.
    Truncate(LogPosition),
}

impl LogTask {
    /// Whether it must be durable before anything else happens. A commit index alone need not be: it can be found out again. What was
    /// truncated would take room until the next entry comes, and on a full disk none does.
    #[must_use]
    pub const fn must_sync(&self) -> bool {
        match self {
            Self::Persist(persist) => persist.must_sync,
            Self::Truncate(_) => true,
        }
    }
}

/// The persists among some tasks.
pub fn persists(tasks: &[LogTask]) -> impl Iterator<Item = &Persist> {
    tasks.iter().filter_map(|task| if let LogTask::Persist(persist) = task { Some(persist) } else { None })
}

/// The log on disk, and what it held at least.
/// Invariant: every record of the WAL is synced before the next one is written, so a power cut finds at most one that may be torn.
pub struct LogWriter {
    engine: Arc<dyn Engine>,
    high_water: HighWater,
    /// What need not be durable, for the next batch that must.
    waiting: WriteBatch,
}

impl LogWriter {
    /// Writes to this engine, whose high-water mark is begun.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>, high_water: HighWater) -> Self {
        Self { engine, high_water, waiting: WriteBatch::default() }
    }

    /// What the log holds at least.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.high_water.mark()
    }

    /// Makes everything durable as one batch, if any of it must be; else it waits.
    /// # Errors
    /// The engine's, and those of the high-water file: the node must stop.
    pub fn store(&mut self, tasks: &[LogTask]) -> Result<(), EngineError> {
        let mut durable = None;
        let mut vote = None;
        let mut truncated = None;
        for task in tasks {
            match task {
                LogTask::Persist(persist) => {
                    persist.encode(GROUP, &mut self.waiting);
                    vote = persist.hard_state.as_ref().map(|state| (state.term, state.vote)).or(vote);
                    durable = persist.reset.or(durable);
                    durable = persist.entries.last().map(|entry| LogPosition { index: entry.index, term: entry.term }).or(durable);
                }
                LogTask::Truncate(to) => {
                    encode_truncation(GROUP, *to, &mut self.waiting);
                    truncated = Some(*to);
                }
            }
        }
        if !tasks.iter().any(LogTask::must_sync) {
            return Ok(());
        }
        let io = |error: std::io::Error| EngineError::Io(error.to_string());
        if let Some(position) = kept(tasks, self.mark().last.index) {
            self.high_water.lower(position).map_err(io)?;
        }
        self.engine.write_synced(&std::mem::take(&mut self.waiting))?;
        self.high_water.raise(durable, vote).map_err(io)?;
        truncated.map_or(Ok(()), |to| self.engine.forget(ENTRIES_CF, &truncated_range(GROUP, to)))
    }

    /// Whether something need not be durable, and is not.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.waiting.changes.is_empty()
    }

    /// Makes durable what waits. Worth a sync when nothing else comes: a node that restarts answers local reads from the commit index on.
    /// # Errors
    /// The engine's: the node must stop.
    pub fn flush(&mut self) -> Result<(), EngineError> {
        if self.waits() { self.engine.write_synced(&std::mem::take(&mut self.waiting)) } else { Ok(()) }
    }
}

/// Bytes of the entries of these tasks.
fn entry_bytes(tasks: &[LogTask]) -> u64 {
    let persists = tasks.iter().filter_map(|task| match task {
        LogTask::Persist(persist) => Some(persist),
        LogTask::Truncate(_) => None,
    });
    persists.flat_map(|persist| &persist.entries).map(|entry| entry.data.len() as u64).sum()
}

/// The writer's thread.
pub(super) struct LogThread {
    pub(super) writer: LogWriter,
    pub(super) tasks: Receiver<LogTask>,
    pub(super) network: Arc<dyn Network>,
    pub(super) completions: Arc<Completions>,
    pub(super) metrics: Arc<Metrics>,
}

impl LogThread {
    /// Works until the node is gone.
    pub(super) fn run(mut self) {
        let mut waiting_since = None;
        loop {
            let received = if self.writer.waits() { self.tasks.recv_timeout(WAIT_MAX) } else { self.tasks.recv().map_err(Into::into) };
            let tasks: Vec<_> = match received {
                Ok(first) => std::iter::once(first).chain(self.tasks.try_iter().take(BATCH_TASKS_MAX)).collect(),
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let (began, synced) = (Instant::now(), tasks.iter().any(LogTask::must_sync));
            written(self.writer.store(&tasks));
            if synced {
                self.metrics.took(Distribution::LogSyncTime, began.elapsed(), 1);
                self.metrics.add(Metric::LogSyncs, 1);
                self.metrics.add(Metric::LogBytes, entry_bytes(&tasks));
            }
            if self.writer.waits() && waiting_since.get_or_insert_with(Instant::now).elapsed() >= WAIT_MAX {
                written(self.writer.flush());
            }
            if !self.writer.waits() {
                waiting_since = None;
            }
            // The core has to know what is durable before it can be asked to act on an answer to these messages.
            if let Some(last) = persists(&tasks).last() {
                self.completions.persisted(last.number);
            }
            for message in persists(&tasks).flat_map(|persist| &persist.messages) {
                let (to, lane, frame) = raft_frame(message, wall_ms());
                self.network.send(to, lane, frame);
            }
        }
    }
}

fn written(result: Result<(), EngineError>) {
    if let Err(error) = result {
        stop_for(&error, &format!("the Raft log cannot be written: {error}"));
    }
}

/// Where the log still ends at least if a crash comes before tasks that replace or drop entries up to the marked index are carried out, or
/// in their middle; none if they only add. What they write may be lost, and an entry in a replaced one's place may have a lower term than
/// that (Raft paper, figure 8), also where as many entries come as go.
#[must_use]
pub fn kept(tasks: &[LogTask], marked: u64) -> Option<LogPosition> {
    let replaces = |persist: &Persist| persist.entries.first().is_some_and(|first| first.index <= marked);
    if !persists(tasks).any(|persist| replaces(persist) || persist.reset.is_some()) {
        return None;
    }
    // The term of the entry before is not at hand.
    let before = |entry: &Entry| LogPosition { index: entry.index - 1, term: 0 };
    // A reset follows a marker in `data/`, with which a start finishes it.
    persists(tasks)
        .filter_map(|persist| persist.reset.or_else(|| persist.entries.first().map(before)))
        .min_by_key(|position| position.index)
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::HardState;
    use raftlog::engine::MemoryEngine;
    use raftlog::log::{Durable, Found, LOG_COLUMN_FAMILIES, LogStore};

    use super::*;

    #[test]
    fn a_vote_is_in_the_mark_once_it_is_durable() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("high-water");
        let (mut high_water, _) = HighWater::open(&path).expect("open");
        high_water.begin(Mark::default()).expect("write");
        let mut writer = LogWriter::new(Arc::new(MemoryEngine::new(LOG_COLUMN_FAMILIES.len())), high_water);
        let mut check = |vote, must_sync, expected: (u64, u64)| {
            let hard_state = Some(HardState { term: 7, vote, ..HardState::default() });
            let persist = Persist { hard_state, must_sync, ..Persist::default() };
            writer.store(&[LogTask::Persist(persist)]).expect("memory does not fail");
            let (term, vote) = expected;
            assert_eq!(HighWater::open(&path).expect("open").1, Found::Mark(Mark { term, vote, ..Mark::default() }));
        };
        check(0, false, (0, 0));
        check(0, true, (7, 0));
        check(3, true, (7, 3));
    }

    #[test]
    fn nothing_is_written_before_it_is_synced() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (mut high_water, _) = HighWater::open(&dir.path().join("high-water")).expect("open");
        high_water.begin(Mark::default()).expect("write");
        let engine = Arc::new(MemoryEngine::new(LOG_COLUMN_FAMILIES.len()));
        let mut writer = LogWriter::new(engine.clone(), high_water);
        let mut check = |task: LogTask, expected: (u64, u64, u64)| {
            writer.store(&[task]).expect("memory does not fail");
            assert_eq!(engine.unsynced(), 0);
            let Durable { hard_state, truncated, .. } = LogStore::durable(engine.as_ref(), GROUP).expect("a sound engine");
            assert_eq!((hard_state.term, hard_state.commit, truncated.index), expected);
        };
        let state = |commit, must_sync| {
            let hard_state = Some(HardState { term: 7, commit, ..HardState::default() });
            LogTask::Persist(Persist { hard_state, must_sync, ..Persist::default() })
        };
        check(state(3, true), (7, 3, 0));
        check(state(4, false), (7, 3, 0));
        check(state(5, false), (7, 3, 0));
        check(LogTask::Truncate(LogPosition { index: 2, term: 1 }), (7, 5, 2));
        check(state(6, false), (7, 5, 2));
        check(LogTask::Persist(Persist { must_sync: true, ..Persist::default() }), (7, 6, 2));
        check(state(7, false), (7, 6, 2));
        assert!(writer.waits());
        writer.flush().expect("memory does not fail");
        assert_eq!(LogStore::durable(engine.as_ref(), GROUP).expect("a sound engine").hard_state.commit, 7);
        assert!(!writer.waits() && engine.unsynced() == 0);
    }

    #[test]
    fn the_mark_lies_before_all_that_is_written_with_a_replaced_entry() {
        let persist = |indexes: std::ops::RangeInclusive<u64>| {
            let entries = indexes.map(|index| Entry { index, term: 3, ..Entry::default() }).collect();
            Persist { entries, ..Persist::default() }
        };
        let check = |persists: Vec<Persist>, marked: u64, expected: Option<u64>| {
            let tasks: Vec<_> = persists.into_iter().map(LogTask::Persist).collect();
            assert_eq!(kept(&tasks, marked).map(|position| position.index), expected);
        };
        check(vec![persist(96..=120)], 95, None);
        check(vec![persist(91..=95)], 100, Some(90));
        check(vec![persist(91..=95), persist(96..=120)], 100, Some(90));
        check(vec![persist(90..=100), persist(96..=97)], 95, Some(89));
        check(vec![persist(90..=100), persist(96..=97)], 89, None);
        let reset = Some(LogPosition { index: 70, term: 2 });
        check(vec![Persist { reset, ..persist(71..=75) }], 60, Some(70));
        assert!(kept(&[LogTask::Truncate(LogPosition { index: 9, term: 1 })], 9).is_none());
    }

    #[test]
    fn an_entry_replaced_by_one_of_a_lower_term_is_no_damage_after_a_crash() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("high-water");
        let engine = Arc::new(MemoryEngine::new(LOG_COLUMN_FAMILIES.len()));
        let mut batch = WriteBatch::default();
        raftlog::log::encode_bootstrap(GROUP, &mut batch);
        engine.write(&batch).expect("memory does not fail");
        let (mut high_water, _) = HighWater::open(&path).expect("open");
        high_water.begin(Mark::default()).expect("write");
        let persist = |index: u64, term: u64| {
            let hard_state = Some(HardState { term: 7, vote: 1, commit: 5, ..HardState::default() });
            LogTask::Persist(Persist {
                entries: vec![Entry { index, term, ..Entry::default() }],
                hard_state,
                must_sync: true,
                ..Persist::default()
            })
        };
        let mut writer = LogWriter::new(engine.clone(), high_water);
        writer.store(&[persist(6, 7)]).expect("memory does not fail");
        // Made durable as a start does it.
        writer.high_water.begin(Mark { last: LogPosition { index: 6, term: 7 }, term: 7, vote: 1 }).expect("write");
        // As many come as go; the power fails after the sync, and what the file got since then is lost.
        let after_sync = kept(&[persist(6, 6)], writer.mark().last.index).expect("something is replaced");
        writer.store(&[persist(6, 6)]).expect("memory does not fail");
        writer.high_water.lower(after_sync).expect("write");
        let Found::Mark(mark) = HighWater::open(&path).expect("open").1 else { panic!("there is a mark") };
        let configuration = raft::eraftpb::ConfState { voters: vec![1], ..Default::default() };
        let applied = LogPosition { index: 5, term: 5 };
        assert!(LogStore::open(engine, GROUP, applied, configuration, Some(mark)).is_ok());
    }
}
