//! The thread that applies committed entries to the data and answers this node's clients.
//! It alone writes `data/`. Replies leave after the batch that holds their command is written, in the order of the log. At a
//! configuration change it stops until the core has said what configuration follows.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use raft::eraftpb::{ConfState, Entry};
use raftlog::engine::Engine;
use raftlog::log::LogPosition;
use tokio::sync::oneshot;

use super::core::{Halt, Reached, RunId, StateMachine, TrackedRun};
use super::handle::Shared;
use super::request::RunResult;
use super::shell::{Completions, stop_process};
use super::storage::{self, SnapshotFiles};

/// Tasks taken together, so that their entries share a batch.
const TURN_TASKS_MAX: usize = 256;

/// What the worker does.
pub(super) enum ApplyTask {
    /// The replies of this run are wanted.
    Track(TrackedRun, oneshot::Sender<RunResult>),
    /// The client of the run with this sequence waits no longer.
    GiveUp(u64),
    /// Committed entries.
    Apply(Vec<Entry>),
    /// The configuration that follows the change at which apply stopped.
    Configure(ConfState),
    /// Replace the data by a snapshot's.
    Install(SnapshotFiles, LogPosition),
    /// The log was reset to the installed snapshot.
    FinishInstall(SnapshotFiles),
    /// Make the data durable.
    Sync,
}

/// The worker's thread.
pub(super) struct ApplyWorker {
    pub(super) machine: StateMachine,
    pub(super) data: Arc<dyn Engine>,
    pub(super) tasks: Receiver<ApplyTask>,
    pub(super) completions: Arc<Completions>,
    shared: Arc<Shared>,
    entries: VecDeque<Entry>,
    waiting_for_configuration: bool,
    clients: HashMap<RunId, oneshot::Sender<RunResult>>,
}

impl ApplyWorker {
    pub(super) fn new(
        machine: StateMachine,
        data: Arc<dyn Engine>,
        tasks: Receiver<ApplyTask>,
        completions: Arc<Completions>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            machine,
            data,
            tasks,
            completions,
            shared,
            entries: VecDeque::new(),
            waiting_for_configuration: false,
            clients: HashMap::new(),
        }
    }

    /// Works until the node is gone.
    pub(super) fn run(mut self) {
        while let Ok(first) = self.tasks.recv() {
            let tasks: Vec<_> = std::iter::once(first).chain(self.tasks.try_iter().take(TURN_TASKS_MAX)).collect();
            for task in tasks {
                if let Err(error) = self.carry_out(task) {
                    // Another replica may be fine; this one must not serve or vote on.
                    stop_process(&format!("apply cannot go on: {error}"));
                }
            }
            if let Err(error) = self.apply() {
                stop_process(&format!("apply cannot go on: {error}"));
            }
        }
    }

    fn carry_out(&mut self, task: ApplyTask) -> Result<(), Halt> {
        match task {
            ApplyTask::Track(run, client) => {
                self.clients.insert(run.id, client);
                self.machine.track(run);
            }
            ApplyTask::GiveUp(sequence) => self.machine.give_up(sequence),
            ApplyTask::Apply(entries) => self.entries.extend(entries),
            ApplyTask::Configure(configuration) => {
                self.machine.configure(&mut self.entries, &configuration)?;
                self.waiting_for_configuration = false;
                self.publish();
            }
            ApplyTask::Install(files, position) => {
                assert!(self.entries.is_empty(), "a snapshot is installed when nothing else is under way");
                storage::install(self.data.as_ref(), &files, position)?;
                self.machine.load()?;
                self.completions.installed(self.machine.take_applied());
            }
            ApplyTask::FinishInstall(files) => storage::finish_install(self.data.as_ref(), &files)?,
            ApplyTask::Sync => {
                self.data.sync()?;
                self.completions.data_synced();
            }
        }
        Ok(())
    }

    /// What is written can be read, and the core may count on it.
    fn publish(&mut self) {
        self.shared.alone.applied.store(self.machine.applied().position.index, Ordering::Release);
        self.completions.applied(self.machine.take_applied());
    }

    fn apply(&mut self) -> Result<(), Halt> {
        if !self.waiting_for_configuration && !self.entries.is_empty() {
            let reached = self.machine.apply(&mut self.entries)?;
            self.publish();
            if let Reached::Change(change) = reached {
                self.waiting_for_configuration = true;
                self.completions.change_reached(change);
            }
        }
        for (id, result) in self.machine.take_replies() {
            if let Some(client) = self.clients.remove(&id) {
                // A client that has gone away wants no reply.
                drop(client.send(result));
            }
        }
        Ok(())
    }
}
