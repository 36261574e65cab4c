//! How long the log is kept, and snapshots for those who need what is gone of it.
//! The log is truncated by size, as far as the data is durable, but not while a snapshot is on its way to a member, nor before that member
//! has caught up with what follows it.

use raft::eraftpb::{Message, Snapshot};

use super::{Core, Effect, SnapshotId};

/// Bytes and number of log entries that a start may have to apply again, beyond which the data is synced.
const REPLAY_BYTES_MAX: usize = 64 << 20;
const REPLAY_ENTRIES_MAX: u64 = 100_000;
/// How much larger than its limit the log may grow for a follower that catches up after a snapshot.
const CATCH_UP_LOGS_MAX: usize = 4;

/// A snapshot on its way to a follower.
pub(super) struct SnapshotOut {
    pub(super) id: SnapshotId,
    pub(super) to: u64,
    /// Its index; 0 while it is generated, which keeps the whole log.
    pub(super) index: u64,
    pub(super) sending: bool,
}

impl Core {
    /// raft has no entries for a follower that is so far behind.
    pub(super) fn want_snapshot(&mut self, to: u64) {
        // One that is ready and not taken has become too old.
        self.drop_snapshots(|out| out.to == to && out.index != 0 && !out.sending);
        if !self.snapshots.iter().any(|out| out.to == to) {
            self.last_snapshot_id += 1;
            let id = SnapshotId(self.last_snapshot_id);
            self.snapshots.push(SnapshotOut { id, to, index: 0, sending: false });
            self.effects.push(Effect::GenerateSnapshot(to, id));
        }
    }

    /// The data is durable at least up to what was applied when `SyncData` was asked for.
    pub fn data_synced(&mut self) {
        if let Some(index) = self.syncing_at.take() {
            self.synced_index = self.synced_index.max(index);
            self.tend_log();
        }
    }

    /// A snapshot is ready to be sent, if it is still wanted.
    pub fn snapshot_generated(&mut self, id: SnapshotId, snapshot: Snapshot) {
        match self.snapshots.iter_mut().find(|out| out.id == id) {
            Some(out) => {
                out.index = snapshot.get_metadata().index;
                self.group.snapshot_generated(out.to, snapshot);
            }
            None => self.effects.push(Effect::DropSnapshot(id)),
        }
    }

    /// The generation or the sending of a snapshot ended.
    pub fn snapshot_sent(&mut self, id: SnapshotId, result: Result<(), ()>) {
        if let Some(at) = self.snapshots.iter().position(|out| out.id == id) {
            let out = self.snapshots.remove(at);
            self.group.report_snapshot(out.to, result);
            if result.is_ok() {
                self.catching_up.insert(out.to, out.index);
            }
        }
    }

    /// Sends the snapshot that raft has put into a message. Also for messages that waited for a persist.
    pub fn send_snapshot(&mut self, message: Message) {
        let index = message.get_snapshot().get_metadata().index;
        match self.snapshots.iter_mut().find(|out| out.to == message.to && out.index == index && !out.sending) {
            Some(out) => {
                out.sending = true;
                self.effects.push(Effect::SendSnapshot(out.id, message));
            }
            None => self.group.report_snapshot(message.to, Err(())),
        }
    }

    /// A snapshot that is ready and whose receiver has gone away would keep the log for ever.
    pub(super) fn forget_unwanted_snapshots(&mut self) {
        let is_there = |peer: &u64| self.group.progress(*peer).is_some() && !self.is_silent(*peer);
        let wanted: Vec<u64> = self.snapshots.iter().map(|out| out.to).filter(is_there).collect();
        self.drop_snapshots(|out| !out.sending && out.index != 0 && !wanted.contains(&out.to));
    }

    pub(super) fn drop_snapshots(&mut self, is_unwanted: impl Fn(&SnapshotOut) -> bool) {
        let effects = &mut self.effects;
        self.snapshots.retain(|out| {
            let unwanted = is_unwanted(out);
            if unwanted {
                effects.push(Effect::DropSnapshot(out.id));
            }
            !unwanted
        });
    }

    /// Up to where the log may go for those that have got a snapshot and not yet what follows it. Whoever has gone away, or is slower than
    /// the log grows, will need another one.
    fn needed_to_catch_up(&mut self) -> u64 {
        let log = self.group.log();
        let is_too_large = log.bytes() > CATCH_UP_LOGS_MAX * self.config.log_bytes_max;
        let mut needed = u64::MAX;
        let mut catching_up = std::mem::take(&mut self.catching_up);
        catching_up.retain(|peer, snapshot| {
            let Some((matched, _)) = self.group.progress(*peer) else { return false };
            let has_caught_up = matched >= *snapshot && log.bytes_after(matched) <= self.config.log_bytes_max / 2;
            let is_kept = !has_caught_up && !is_too_large && !self.is_silent(*peer);
            if is_kept {
                needed = needed.min(matched.max(*snapshot));
            }
            is_kept
        });
        self.catching_up = catching_up;
        needed
    }

    /// Truncates a log that has become too large, and has the data synced when that, the next start, or a rejoin needs it.
    pub(super) fn tend_log(&mut self) {
        let log = self.group.log();
        let unsynced_bytes = log.bytes_after(self.synced_index).saturating_sub(log.bytes_after(self.applied.position.index));
        let mut is_due = unsynced_bytes > REPLAY_BYTES_MAX;
        if log.bytes() > self.config.log_bytes_max {
            let wanted = log.index_leaving(self.config.log_bytes_max / 2);
            is_due |= wanted > self.synced_index;
            let in_flight = self.snapshots.iter().map(|snapshot| snapshot.index).min().unwrap_or(u64::MAX);
            let needed = self.needed_to_catch_up();
            if let Some(to) = self.group.truncate(wanted.min(self.synced_index).min(in_flight).min(needed)) {
                self.effects.push(Effect::Truncate(to));
            }
        }
        let unsynced = self.applied.position.index.saturating_sub(self.synced_index);
        // A node whose log is damaged knows from the table in its data whom to join.
        is_due |= unsynced > REPLAY_ENTRIES_MAX || self.table_index > self.synced_index;
        if is_due && unsynced > 0 && self.syncing_at.is_none() {
            self.syncing_at = Some(self.applied.position.index);
            self.effects.push(Effect::SyncData);
        }
    }
}
