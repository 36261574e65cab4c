//! The one writer of `log/`.
//! It takes everything that waits, writes it as one batch, syncs once, and only then lets the messages leave that rely on it. A sync that
//! fails ends the process: what is on the disk is unknown then, and trying again would hide it (Rebello et al., ATC 2020).

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use raftlog::engine::{Engine, EngineError, WriteBatch};
use raftlog::log::{HighWater, LogPosition, Persist, encode_truncation};

use super::core::{GROUP, raft_frame};
use super::shell::{Completions, Network, stop_process, wall_ms};

/// Batches are closed at this many tasks, so that the first of them does not wait for ever.
const BATCH_TASKS_MAX: usize = 1024;

/// What the writer does.
pub(super) enum LogTask {
    /// Stores a persist and sends its messages.
    Persist(Persist),
    /// Deletes entries from this index up to the position.
    Truncate(u64, LogPosition),
}

/// The writer's thread.
pub(super) struct LogWriter {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) high_water: HighWater,
    pub(super) tasks: Receiver<LogTask>,
    pub(super) network: Arc<dyn Network>,
    pub(super) completions: Arc<Completions>,
}

impl LogWriter {
    /// Works until the node is gone.
    pub(super) fn run(self) {
        while let Ok(first) = self.tasks.recv() {
            let tasks: Vec<_> = std::iter::once(first).chain(self.tasks.try_iter().take(BATCH_TASKS_MAX)).collect();
            if let Err(error) = self.store(&tasks) {
                stop_process(&format!("the Raft log cannot be written: {error}"));
            }
            let mut last = None;
            for task in tasks {
                if let LogTask::Persist(persist) = task {
                    for message in &persist.messages {
                        let (to, lane, frame) = raft_frame(message, wall_ms());
                        self.network.send(to, lane, frame);
                    }
                    last = Some(persist.number);
                }
            }
            if let Some(number) = last {
                self.completions.persisted(number);
            }
        }
    }

    fn store(&self, tasks: &[LogTask]) -> Result<(), EngineError> {
        let mut batch = WriteBatch::default();
        let mut must_sync = false;
        let mut durable = None;
        for task in tasks {
            match task {
                LogTask::Persist(persist) => {
                    persist.encode(GROUP, &mut batch);
                    must_sync |= persist.must_sync;
                    durable = persist.reset.or(durable);
                    durable = persist.entries.last().map(|entry| LogPosition { index: entry.index, term: entry.term }).or(durable);
                }
                LogTask::Truncate(from, to) => encode_truncation(GROUP, *from, *to, &mut batch),
            }
        }
        if !batch.changes.is_empty() {
            self.engine.write(&batch)?;
        }
        if must_sync {
            self.engine.sync()?;
        }
        if let Some(position) = durable {
            self.high_water.raise(position).map_err(|error| EngineError::Io(error.to_string()))?;
        }
        Ok(())
    }
}
