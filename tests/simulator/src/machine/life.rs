//! A running node: the core and its workers, with what waits for them. All of it is gone with a crash.

use super::*;

#[derive(Default)]
pub(super) struct Finished {
    pub(super) persisted: u64,
    pub(super) applied: Option<Applied>,
    pub(super) installed: bool,
    pub(super) change: Option<ConfChangeV2>,
    pub(super) data_synced: bool,
    pub(super) digest: Option<(LogPosition, GroupDigest)>,
}

pub(super) enum ApplyTask {
    GiveUp(u64),
    Apply(Vec<TrackedRun>, Vec<Entry>),
    Configure(raft::eraftpb::ConfState),
    Install(SnapshotFiles, LogPosition),
    FinishInstall(SnapshotFiles),
}

/// A run that is on its way.
pub(super) struct Sent {
    pub(super) requests: Vec<Request>,
    pub(super) payload: Bytes,
    pub(super) commands: u32,
}

/// A client's reads, as far as they are evaluated.
pub(super) struct Reading {
    pub(super) requests: Vec<Request>,
    pub(super) replies: Vec<Reply>,
    /// The applied index when they were allowed, and when the first of them was evaluated.
    pub(super) allowed_at: Option<u64>,
    /// See `allowed_at`.
    pub(super) begun_at: Option<u64>,
}

/// A running node: all that a crash takes.
pub struct Life {
    /// Who it is.
    pub identity: Identity,
    /// The starts of its disks.
    pub starts: Starts,
    /// The decisions.
    pub core: Core,
    /// The newest table of members that the node has heard of.
    pub members: Arc<Members>,
    /// The table in its data, as of the last turn.
    pub(super) table: Arc<Members>,
    pub(super) machine: StateMachine,
    pub(super) log_writer: LogWriter,
    pub(super) log_tasks: Vec<LogTask>,
    pub(super) log_busy: Option<Vec<LogTask>>,
    pub(super) apply_tasks: VecDeque<ApplyTask>,
    pub(super) apply_scheduled: bool,
    pub(super) turn_scheduled: bool,
    pub(super) entries: VecDeque<Entry>,
    pub(super) waiting_for_configuration: bool,
    pub(super) finished: Finished,
    pub(super) persists: PersistGate,
    pub(super) tracked: Vec<TrackedRun>,
    pub(super) runs: BTreeMap<RunId, Sent>,
    pub(super) reads: BTreeMap<ReadId, Reading>,
    /// Chance of the node's own threads.
    pub(super) random: SmallRng,
    /// Snapshots that are being made.
    pub(super) generated: BTreeMap<SnapshotId, (Snapshot, SnapshotFiles)>,
    pub(super) outgoing: BTreeMap<SnapshotId, SnapshotFiles>,
    pub(super) incoming: Vec<(LogPosition, SnapshotFiles)>,
    /// What is left to do until the data is the snapshot's.
    pub(super) replacing: Option<VecDeque<Operation>>,
    pub(super) last_id: u64,
    pub(super) now: Now,
    pub(super) asked_round: u64,
    pub(super) seen_persisted: u64,
}

impl Life {
    pub(super) fn task(&mut self, task: ApplyTask, out: &mut Vec<Out>) {
        self.apply_tasks.push_back(task);
        self.schedule_apply(out);
    }

    pub(super) fn schedule_apply(&mut self, out: &mut Vec<Out>) {
        if !std::mem::replace(&mut self.apply_scheduled, true) {
            out.push(Out::Later(Work::Apply));
        }
    }

    pub(super) fn apply_later(&mut self, entries: Vec<Entry>, out: &mut Vec<Out>) {
        let tracked = std::mem::take(&mut self.tracked);
        self.task(ApplyTask::Apply(tracked, entries), out);
    }

    pub(super) fn log_task(&mut self, task: LogTask, out: &mut Vec<Out>) {
        self.log_tasks.push(task);
        if self.log_tasks.len() == 1 && self.log_busy.is_none() {
            out.push(Out::Later(Work::LogWrite));
        }
    }

    pub(super) fn persist_later(&mut self, persists: Vec<Persist>, out: &mut Vec<Out>) {
        for persist in persists {
            self.log_task(LogTask::Persist(persist), out);
        }
    }

    pub(super) fn schedule_turn(&mut self, out: &mut Vec<Out>) {
        if !std::mem::replace(&mut self.turn_scheduled, true) {
            out.push(Out::Later(Work::Turn));
        }
    }

    pub(super) fn report_stored(&mut self, tasks: &[LogTask], out: &mut Vec<Out>) {
        if let Some(last) = log_writer::persists(tasks).last() {
            self.finished.persisted = last.number;
            if self.core.waits_for_persist() {
                self.schedule_turn(out);
            }
        }
        for message in log_writer::persists(tasks).flat_map(|persist| &persist.messages) {
            let (to, lane, frame) = raft_frame(message, self.now.wall_ms);
            out.push(Out::Send(to, lane, frame));
        }
    }

    pub(super) fn take_completions(&mut self, out: &mut Vec<Out>) {
        let finished = std::mem::take(&mut self.finished);
        self.finished.persisted = finished.persisted;
        if let Some(applied) = finished.applied {
            self.core.applied(applied);
            if !Arc::ptr_eq(&self.table, &self.core.applied_state().members) {
                self.table = Arc::clone(&self.core.applied_state().members);
                self.hear_of(Arc::clone(&self.table));
                out.push(Out::TableChanged);
                if self.table.removed.contains(&self.identity.node_id) {
                    out.push(Out::Removed);
                }
            }
        }
        if finished.installed {
            let going = self.persists.installed();
            self.persist_later(going, out);
        }
        if finished.persisted > self.seen_persisted {
            self.seen_persisted = finished.persisted;
            self.core.persisted(finished.persisted).expect("a committed change is possible");
            if let Some(files) = self.persists.persisted(finished.persisted) {
                self.task(ApplyTask::FinishInstall(files), out);
            }
        }
        if let Some(change) = finished.change {
            self.core.change_reached(change).expect("a committed change is possible");
        }
        if finished.data_synced {
            self.core.data_synced();
        }
        if let Some((entry, digest)) = finished.digest {
            self.core.digest_begun(entry);
            self.core.digested(entry, digest);
        }
    }

    /// A table of members, from its own data or from another member.
    pub fn hear_of(&mut self, members: Arc<Members>) {
        if !members.is_older_than(&self.members) {
            self.members = members;
        }
    }

    pub(super) fn install(&mut self, snapshot: &Snapshot, out: &mut Vec<Out>) {
        let metadata = snapshot.get_metadata();
        let position = LogPosition { index: metadata.index, term: metadata.term };
        let at = self.incoming.iter().rposition(|(of, _)| *of == position).expect("raft installs only what was received");
        let (_, files) = self.incoming.remove(at);
        for (_, unused) in self.incoming.drain(..) {
            remove_dir(&unused.dir);
        }
        self.apply_later(Vec::new(), out);
        self.persists.begin_installation(files.clone());
        self.task(ApplyTask::Install(files, position), out);
    }

    /// The apply worker's turn: one step of an installation, or everything that waits.
    pub(super) fn apply(&mut self, data: &Disk) -> Result<(), Halt> {
        if let Some(mut operations) = self.replacing.take() {
            if let Some(operation) = operations.pop_front() {
                data.carry_out(operation)?;
                self.replacing = Some(operations);
                return Ok(());
            }
            self.machine.load()?;
            self.finished.applied = Some(self.machine.take_applied());
            self.finished.installed = true;
        }
        while let Some(task) = self.apply_tasks.pop_front() {
            match task {
                ApplyTask::GiveUp(sequence) => self.machine.give_up(sequence),
                ApplyTask::Apply(runs, entries) => {
                    runs.into_iter().for_each(|run| self.machine.track(run));
                    self.entries.extend(entries);
                }
                ApplyTask::Configure(configuration) => {
                    self.machine.configure(&mut self.entries, &configuration)?;
                    self.waiting_for_configuration = false;
                    self.publish();
                }
                ApplyTask::Install(files, position) => {
                    assert!(self.entries.is_empty(), "a snapshot is installed when nothing else is under way");
                    if self.generated.is_empty() {
                        self.replacing = Some(data.record(|data| storage::install(data, &files, position))?);
                    } else {
                        self.apply_tasks.push_front(ApplyTask::Install(files, position));
                    }
                    return Ok(());
                }
                ApplyTask::FinishInstall(files) => storage::finish_install(data, &files)?,
            }
        }
        while !self.waiting_for_configuration && !self.entries.is_empty() {
            let reached = self.machine.apply(&mut self.entries)?;
            self.publish();
            match reached {
                Reached::End => {}
                Reached::Verification(entry) => {
                    let digested = digest(data.view(ViewKind::Snapshot).as_ref(), GROUP, &|| true)?;
                    self.finished.digest = digested.map(|digested| (entry, digested.digest));
                }
                Reached::Change(change) => {
                    self.waiting_for_configuration = true;
                    self.finished.change = Some(change);
                }
            }
        }
        Ok(())
    }

    fn publish(&mut self) {
        let applied = self.machine.take_applied();
        let gap = applied.gap || self.finished.applied.as_ref().is_some_and(|earlier| earlier.gap);
        self.finished.applied = Some(Applied { gap, ..applied });
    }

    pub(super) fn publish_replies(&mut self, out: &mut Vec<Out>) {
        if self.finished.applied.as_ref().is_some_and(|applied| applied.gap) {
            self.schedule_turn(out);
        }
        for (id, result) in self.machine.take_replies() {
            self.runs.remove(&id);
            out.push(Out::RunDone(id, result));
        }
    }

    /// Whether a snapshot is replacing the data.
    pub fn replaces_data(&self) -> bool {
        self.replacing.is_some()
    }

    /// Whether the apply worker is in the middle of something and does not wait for others.
    pub(super) fn can_go_on(&self) -> bool {
        self.replaces_data() || (!self.apply_tasks.is_empty() && self.generated.is_empty())
    }

    /// Whether the node may read its own data without a round, as a sole voter does.
    pub(super) fn may_read_alone(&self) -> bool {
        self.core.leads_alone() && self.applied().position.index >= self.core.group().commit_index()
    }

    /// How it presents itself to others.
    pub fn process(&self) -> PeerProcess {
        self.starts.process(self.identity.node_id)
    }

    /// What is applied to the data.
    pub fn applied(&self) -> &Applied {
        self.machine.applied()
    }

    /// What is under way in this node, by name.
    pub fn under_way(&self) -> Vec<&'static str> {
        let parts = [
            ("runs", !self.runs.is_empty()),
            ("reads", !self.reads.is_empty()),
            ("entries", !self.entries.is_empty()),
            ("apply", !self.apply_tasks.is_empty()),
            ("snapshot", self.core.group().is_installing()),
        ];
        parts.into_iter().filter(|(_, is_under_way)| *is_under_way).map(|(name, _)| name).collect()
    }
}

pub(super) fn remove_dir(dir: &Path) {
    fs::remove_dir_all(dir).expect("the directory is ours");
}
