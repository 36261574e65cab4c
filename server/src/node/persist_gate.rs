//! When the core's persists go to the log writer. They go in order, at once, with two exceptions: those that nothing waits for go with the
//! next one that something does, or with the next tick; and while a snapshot takes the place of the data everything is held back, since the
//! log is reset only when the data are complete. The snapshot's marker goes when that reset is durable.
//! Invariant: persists leave in the order in which they came.

use raftlog::log::Persist;

use super::storage::SnapshotFiles;

/// The persists on their way from the core to the log writer.
#[derive(Default)]
pub struct PersistGate {
    /// Nothing waits for these.
    lazy: Vec<Persist>,
    installation: Option<Installation>,
}

/// A snapshot that takes the place of data and log.
struct Installation {
    files: SnapshotFiles,
    /// What came since it began; first what resets the log.
    held: Vec<Persist>,
    /// The number of the persist that resets the log, once that is let go.
    reset: Option<u64>,
}

impl PersistGate {
    /// The data begin to be replaced by these files.
    pub fn begin_installation(&mut self, files: SnapshotFiles) {
        self.installation = Some(Installation { files, held: Vec::new(), reset: None });
    }

    /// A persist of the core. What goes to the log writer now.
    #[must_use]
    pub fn push(&mut self, persist: Persist) -> Vec<Persist> {
        if let Some(installation) = self.installation.as_mut().filter(|installation| installation.reset.is_none()) {
            installation.held.push(persist);
            return Vec::new();
        }
        let is_lazy = !persist.must_sync && persist.messages.is_empty();
        self.lazy.push(persist);
        if is_lazy { Vec::new() } else { self.flush() }
    }

    /// What nothing waits for goes as well: before a snapshot is taken over all of it must be stored.
    #[must_use]
    pub fn flush(&mut self) -> Vec<Persist> {
        std::mem::take(&mut self.lazy)
    }

    /// The data are the snapshot's. What goes to the log writer now.
    /// # Panics
    /// Nothing was being installed, or nothing came that resets the log.
    #[must_use]
    pub fn installed(&mut self) -> Vec<Persist> {
        let installation = self.installation.as_mut().expect("an installation has begun");
        installation.reset = installation.held.first().map(|persist| persist.number);
        assert!(installation.reset.is_some(), "the log's reset comes with the snapshot");
        let mut going = std::mem::take(&mut self.lazy);
        going.append(&mut installation.held);
        going
    }

    /// Everything up to the persist `number` is durable. The files of a snapshot whose installation that completes.
    #[must_use]
    pub fn persisted(&mut self, number: u64) -> Option<SnapshotFiles> {
        let is_complete = |installation: &mut Installation| installation.reset.is_some_and(|reset| reset <= number);
        self.installation.take_if(is_complete).map(|installation| installation.files)
    }
}

#[cfg(test)]
mod tests {
    use raftlog::log::LogPosition;

    use super::*;

    fn persist(number: u64, must_sync: bool) -> Persist {
        Persist { number, must_sync, ..Persist::default() }
    }

    fn reset(number: u64) -> Persist {
        Persist { reset: Some(LogPosition { index: 9, term: 2 }), ..persist(number, true) }
    }

    fn files() -> SnapshotFiles {
        SnapshotFiles { dir: "snapshot".into(), files: Vec::new() }
    }

    #[track_caller]
    fn check_go(going: &[Persist], numbers: &[u64]) {
        assert_eq!(going.iter().map(|persist| persist.number).collect::<Vec<_>>(), numbers);
    }

    #[test]
    fn what_nothing_waits_for_goes_with_the_next_or_at_a_tick() {
        let mut gate = PersistGate::default();
        check_go(&gate.push(persist(1, true)), &[1]);
        check_go(&gate.push(persist(2, false)), &[]);
        check_go(&gate.push(persist(3, false)), &[]);
        check_go(&gate.push(persist(4, true)), &[2, 3, 4]);
        check_go(&gate.push(persist(5, false)), &[]);
        check_go(&gate.flush(), &[5]);
        check_go(&gate.push(Persist { messages: vec![raft::eraftpb::Message::default()], ..persist(6, false) }), &[6]);
    }

    #[test]
    fn the_log_is_reset_when_the_data_are_complete() {
        let mut gate = PersistGate::default();
        check_go(&gate.push(persist(1, false)), &[]);
        gate.begin_installation(files());
        check_go(&gate.push(reset(2)), &[]);
        check_go(&gate.push(persist(3, true)), &[]);
        check_go(&gate.installed(), &[1, 2, 3]);
        check_go(&gate.push(persist(4, true)), &[4]);
    }

    #[test]
    fn an_installation_is_complete_when_its_own_reset_is_durable() {
        let mut gate = PersistGate::default();
        check_go(&gate.push(persist(1, true)), &[1]);
        gate.begin_installation(files());
        check_go(&gate.push(reset(2)), &[]);
        assert!(gate.persisted(0).is_none());
        check_go(&gate.installed(), &[2]);
        // An older one, which was slow.
        assert!(gate.persisted(1).is_none());
        assert!(gate.persisted(2).is_some());
        assert!(gate.persisted(3).is_none());
    }
}
