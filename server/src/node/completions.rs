//! What the node's other threads have finished, on its way back to the core.
//! It holds the newest state and never blocks, and wakes the core only with progress that it waits for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use raft::eraftpb::ConfChangeV2;
use raftlog::log::LogPosition;
use raftlog::message::{GroupDigest, Part};

use super::core::Applied;
use super::mailbox::Mailbox;
use crate::keyspace::digest::Detail;

/// What workers have finished, for the core to pick up.
pub(super) struct Completions {
    persisted: AtomicU64,
    rest: Mutex<Finished>,
    mailbox: Arc<Mailbox>,
    /// Whether the core waits for progress of the log.
    persisted_wanted: AtomicBool,
    /// Whether it waits for progress of apply.
    applied_wanted: AtomicBool,
}

#[derive(Default)]
pub(super) struct Finished {
    pub(super) applied: Option<Applied>,
    pub(super) installed: bool,
    pub(super) change: Option<ConfChangeV2>,
    pub(super) data_synced: bool,
    /// The latest verification; without a digest while it is being computed.
    pub(super) digest: Option<(LogPosition, Option<GroupDigest>)>,
    /// The latest closer look.
    pub(super) detail: Option<(LogPosition, Part, Detail)>,
}

impl Completions {
    /// Nothing is finished. The mailbox is the core's.
    pub(super) fn new(mailbox: Arc<Mailbox>) -> Self {
        let (persisted_wanted, applied_wanted) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { persisted: AtomicU64::new(0), rest: Mutex::default(), mailbox, persisted_wanted, applied_wanted }
    }

    pub(super) fn persisted(&self, number: u64) {
        self.persisted.store(number, Ordering::SeqCst);
        if self.persisted_wanted.load(Ordering::SeqCst) {
            self.mailbox.wake();
        }
    }

    pub(super) fn applied(&self, applied: Applied) {
        let gap = applied.gap;
        self.update(|finished| {
            let gap_before = finished.applied.as_ref().is_some_and(|earlier| earlier.gap);
            finished.applied = Some(Applied { gap: gap || gap_before, ..applied });
        });
        if gap || self.applied_wanted.load(Ordering::SeqCst) {
            self.mailbox.wake();
        }
    }

    pub(super) fn installed(&self, applied: Applied) {
        self.update(|finished| {
            finished.applied = Some(applied);
            finished.installed = true;
        });
        self.mailbox.wake();
    }

    pub(super) fn change_reached(&self, change: ConfChangeV2) {
        self.update(|finished| finished.change = Some(change));
        self.mailbox.wake();
    }

    pub(super) fn data_synced(&self) {
        self.update(|finished| finished.data_synced = true);
        self.mailbox.wake();
    }

    /// The digest of a verification, or none when it has only begun. One that was given up may end after the next has begun.
    pub(super) fn digested(&self, entry: LogPosition, digest: Option<GroupDigest>) {
        self.update(|finished| {
            if finished.digest.as_ref().is_none_or(|(known, _)| known.index <= entry.index) {
                finished.digest = Some((entry, digest));
            }
        });
        self.mailbox.wake();
    }

    pub(super) fn examined(&self, entry: LogPosition, part: Part, detail: Detail) {
        self.update(|finished| finished.detail = Some((entry, part, detail)));
        self.mailbox.wake();
    }

    fn update(&self, change: impl FnOnce(&mut Finished)) {
        change(&mut self.rest.lock().expect("no holder of this lock panics"));
    }

    /// Says whether mere progress has to wake the core: that of apply, and that of the log beyond the persist `after`. Returns whether there
    /// is such progress already.
    pub(super) fn want(&self, applied: bool, after: Option<u64>) -> bool {
        self.applied_wanted.store(applied, Ordering::SeqCst);
        self.persisted_wanted.store(after.is_some(), Ordering::SeqCst);
        applied && self.rest.lock().expect("no holder of this lock panics").applied.is_some()
            || after.is_some_and(|number| self.persisted.load(Ordering::SeqCst) > number)
    }

    pub(super) fn take(&self) -> (u64, Finished) {
        let finished = std::mem::take(&mut *self.rest.lock().expect("no holder of this lock panics"));
        (self.persisted.load(Ordering::Acquire), finished)
    }
}
