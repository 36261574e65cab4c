//! What a loss of power, and a disk that loses what was synced, leave of a machine.

use super::*;

impl Machine {
    /// Takes the power away. What the workers were about to do may be done in part, and each disk loses a suffix of what was not synced.
    pub fn crash(&mut self, random: &mut SmallRng) {
        self.era += 1;
        self.out.clear();
        self.blank = None;
        if let Some(mut life) = self.life.take() {
            self.note_crash(&life);
            if random.random_bool(0.5)
                && let Some(tasks) = life.log_busy.take()
            {
                let operations = random.random_range(0..4);
                self.log.light_fuse(operations);
                if self.store(&mut life.log_writer, &tasks).is_err() && operations > 0 {
                    self.incidents.note(Incident::CrashInLogBatch);
                }
            }
            if random.random_bool(0.5) {
                let operations = random.random_range(0..5);
                self.data.light_fuse(operations);
                if life.apply(&self.data).is_err() && operations > 0 {
                    self.incidents.note(Incident::CrashInApply);
                }
            }
            self.lose_mark(random);
        }
        for (disk, incident) in [(&self.log, Incident::LostLogBatch), (&self.data, Incident::LostDataBatch)] {
            let kept = random.random_range(0..=disk.unsynced());
            if kept < disk.unsynced() {
                self.incidents.note(incident);
            }
            disk.crash(kept);
        }
        if self.bug == Some(Bug::LostConfiguration)
            && let Some(before) = self.configuration_before.take()
        {
            let mut batch = WriteBatch::default();
            batch.put(STATE, state_key(GROUP, "raft/configuration"), before);
            self.data.write(&batch).expect("memory does not fail");
        }
    }

    /// Counts what of a snapshot's way the crash comes upon.
    fn note_crash(&mut self, life: &Life) {
        if !life.generated.is_empty() {
            self.incidents.note(Incident::CrashMakingSnapshot);
        }
        match self.durable_installation() {
            Some(_) if life.replaces_data() => self.incidents.note(Incident::CrashReplacingData),
            Some(_) => self.incidents.note(Incident::CrashBeforeMarkerGoes),
            None if life.core.group().is_installing() || !life.incoming.is_empty() => {
                self.incidents.note(Incident::CrashBeforeInstallation);
            }
            None => {}
        }
    }

    /// The high-water file is not synced when the mark rises: a crash leaves any state since the last sync.
    fn lose_mark(&mut self, random: &mut SmallRng) {
        if let Some(mark) = self.marks.choose(random) {
            if self.marks.last() != Some(mark) {
                self.incidents.note(Incident::MarkFallsBack);
            }
            let (mut file, _) = HighWater::open(&self.mark_path()).expect("the directory is ours");
            file.begin(*mark).expect("the directory is ours");
        }
    }

    pub(super) fn mark_path(&self) -> PathBuf {
        self.dir.join("high-water")
    }

    /// The log, if it has entries at its end that nothing but the mark would miss; and the least index that something would miss.
    fn losable(&self) -> Option<(LogStore, u64)> {
        // A start would finish that, and replace the log with all that it has lost.
        if self.durable_installation().is_some() {
            return None;
        }
        let contents = read_snapshot_contents(self.data.view(ViewKind::Latest).as_ref()).expect("good data");
        let store = LogStore::open(self.log.clone(), GROUP, contents.position, contents.configuration, None).ok()?;
        let least = contents.position.index.max(store.hard_state().commit).max(store.first());
        let entries = store.entries(least, store.last(), None, GetEntriesContext::empty(false));
        (least < store.last() && !self.marks.is_empty() && entries.is_ok()).then_some((store, least))
    }

    /// Whether `lose_tail` can lose anything.
    pub fn can_lose_tail(&self) -> bool {
        self.losable().is_some()
    }

    /// The disk loses entries that were synced, from the end of the log.
    pub fn lose_tail(&mut self, random: &mut SmallRng) {
        let Some((store, least)) = self.losable() else { return };
        let kept = random.random_range(least..store.last());
        let entries = store.entries(kept, kept + 1, None, GetEntriesContext::empty(false)).expect("it is in the log");
        let mut batch = WriteBatch::default();
        Persist { entries, stale_to: store.last(), ..Persist::default() }.encode(GROUP, &mut batch);
        self.log.write(&batch).and_then(|()| self.log.sync()).expect("memory does not fail");
        // The mark had reached the disk.
        let (mut file, _) = HighWater::open(&self.mark_path()).expect("the directory is ours");
        let mark = Mark { last: store.last_position(), ..*self.marks.last().expect("there is one") };
        file.begin(mark).expect("the directory is ours");
        self.damaged = true;
    }

    /// The log writer's work, and what of the high-water mark is certain after it.
    pub(super) fn store(&mut self, writer: &mut LogWriter, tasks: &[LogTask]) -> Result<(), EngineError> {
        let before = writer.mark();
        if let Some(last) = log_writer::kept(tasks, before.last.index) {
            self.marks = vec![Mark { last, ..before }];
        }
        let stored = writer.store(tasks);
        self.marks.push(writer.mark());
        stored
    }
}
