//! The thread that applies committed entries to the data and answers this node's clients.
//! It alone writes `data/`. Replies leave after the batch that holds their command is written, in the order of the log. At a
//! configuration change it stops until the core has said what configuration follows.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use raft::eraftpb::{ConfState, Entry};
use raftlog::engine::Engine;
use raftlog::log::LogPosition;
use tokio::sync::oneshot;

use super::completions::Completions;
use super::core::{Halt, Reached, RunId, StateMachine, TrackedRun};
use super::exit::{stop_for, stop_process};
use super::handle::Shared;
use super::replies::{Answer, Replies};
use super::request::RunResult;
use super::storage::{self, SnapshotFiles};
use super::verifier::Verifier;
use crate::metrics::{Distribution, Metric};

/// A run and the client who waits for its replies.
pub(super) type ClientRun = (TrackedRun, oneshot::Sender<RunResult>);

/// Tasks taken together, so that their entries share a batch.
const TURN_TASKS_MAX: usize = 256;

/// What the worker does.
pub(super) enum ApplyTask {
    /// The client of the run with this sequence waits no longer.
    GiveUp(u64),
    /// Runs whose replies are wanted, and committed entries.
    Apply(Vec<ClientRun>, Vec<Entry>),
    /// The configuration that follows the change at which apply stopped.
    Configure(ConfState),
    /// Replace the data by a snapshot's.
    Install(SnapshotFiles, LogPosition),
    /// The log was reset to the installed snapshot.
    FinishInstall(SnapshotFiles),
}

/// The worker's thread.
pub(super) struct ApplyWorker {
    pub(super) machine: StateMachine,
    pub(super) data: Arc<dyn Engine>,
    pub(super) tasks: Receiver<ApplyTask>,
    pub(super) completions: Arc<Completions>,
    shared: Arc<Shared>,
    verifier: Arc<Verifier>,
    entries: VecDeque<Entry>,
    waiting_for_configuration: bool,
    clients: HashMap<RunId, oneshot::Sender<RunResult>>,
    answers: Vec<Answer>,
    replies: Replies,
}

impl ApplyWorker {
    pub(super) fn new(
        machine: StateMachine,
        data: Arc<dyn Engine>,
        tasks: Receiver<ApplyTask>,
        completions: Arc<Completions>,
        shared: Arc<Shared>,
        verifier: Arc<Verifier>,
        replies: Replies,
    ) -> Self {
        let (entries, clients, answers) = (VecDeque::new(), HashMap::new(), Vec::new());
        Self { machine, data, tasks, completions, shared, verifier, entries, waiting_for_configuration: false, clients, answers, replies }
    }

    /// Works until the node is gone.
    pub(super) fn run(mut self) {
        while let Ok(first) = self.tasks.recv() {
            let tasks: Vec<_> = std::iter::once(first).chain(self.tasks.try_iter().take(TURN_TASKS_MAX)).collect();
            for task in tasks {
                self.check(|worker| worker.carry_out(task));
            }
            self.check(Self::apply);
        }
    }

    /// Another replica may be fine; this one must not serve or vote on.
    fn check(&mut self, step: impl FnOnce(&mut Self) -> Result<(), Halt>) {
        match step(self) {
            Ok(()) => {}
            Err(Halt::Engine(error)) => stop_for(&error, &format!("apply cannot go on: {error}")),
            Err(error) => stop_process(&format!("apply cannot go on: {error}")),
        }
    }

    fn carry_out(&mut self, task: ApplyTask) -> Result<(), Halt> {
        match task {
            ApplyTask::GiveUp(sequence) => self.machine.give_up(sequence),
            ApplyTask::Apply(runs, entries) => {
                for (run, client) in runs {
                    self.clients.insert(run.id, client);
                    self.machine.track(run);
                }
                self.entries.extend(entries);
            }
            ApplyTask::Configure(configuration) => {
                self.machine.configure(&mut self.entries, &configuration)?;
                self.waiting_for_configuration = false;
                self.publish();
            }
            ApplyTask::Install(files, position) => {
                assert!(self.entries.is_empty(), "a snapshot is installed when nothing else is under way");
                self.verifier.cancel();
                // Readers would see a mixture: those that have begun finish first, others are told to come again.
                self.shared.installs.store(true, Ordering::Relaxed);
                let whole = self.shared.whole.write().expect("no holder of this lock panics");
                storage::install(self.data.as_ref(), &files, position)?;
                drop(whole);
                self.shared.installs.store(false, Ordering::Relaxed);
                self.machine.load()?;
                self.shared.metrics.add(Metric::SnapshotsReceived, 1);
                self.completions.installed(self.machine.take_applied());
            }
            ApplyTask::FinishInstall(files) => storage::finish_install(self.data.as_ref(), &files)?,
        }
        Ok(())
    }

    /// What is written can be read, and the core may count on it.
    fn publish(&mut self) {
        self.shared.alone.applied.store(self.machine.applied().position.index, Ordering::Release);
        self.completions.applied(self.machine.take_applied());
    }

    fn apply(&mut self) -> Result<(), Halt> {
        while !self.waiting_for_configuration && !self.entries.is_empty() {
            let began = Instant::now();
            let reached = self.machine.apply(&mut self.entries)?;
            self.shared.metrics.took(Distribution::ApplyTime, began.elapsed(), 1);
            self.shared.metrics.add(Metric::ExpiredKeys, self.machine.take_purged_keys());
            self.publish();
            match reached {
                Reached::End => {}
                Reached::Verification(entry) => self.verifier.begin(entry),
                Reached::Change(change) => {
                    self.waiting_for_configuration = true;
                    self.completions.change_reached(change);
                }
            }
        }
        for (id, result) in self.machine.take_replies() {
            if let Some(client) = self.clients.remove(&id) {
                self.answers.push(Answer::Run(client, result));
            }
        }
        self.replies.send(&mut self.answers);
        Ok(())
    }
}
