//! Runs that have reached the leader and wait to be proposed.
//! Runs of one origin arrive in order; each attempt of an origin begins at its oldest unresolved run. Within an attempt only the next
//! sequence is taken, so that neither a repetition nor what follows a lost run gets into the log needlessly. Safety does not rest on this:
//! apply checks the sequences again.
//! Invariant: an entry holds at most `entry_bytes_max` bytes and `entry_commands_max` commands, or a single run.

use std::collections::{HashMap, VecDeque};

use raftlog::entry::Run;
use raftlog::message::Forward;

/// Bytes waiting to be proposed; beyond that forwards are dropped, and come again with their origin's next attempt.
const QUEUE_BYTES_MAX: usize = 256 << 20;

#[derive(Clone, Copy)]
struct LastTaken {
    boot: u64,
    attempt: u64,
    sequence: u64,
}

/// The queue of a leader. A node that loses leadership clears it: the origins send again.
#[derive(Default)]
pub(super) struct Inbox {
    last_taken: HashMap<u64, LastTaken>,
    queue: VecDeque<Run>,
    bytes: usize,
    commands: u64,
}

impl Inbox {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many commands wait.
    pub(super) fn commands(&self) -> u64 {
        self.commands
    }

    pub(super) fn take(&mut self, Forward { attempt, run }: Forward) {
        let Some(run) = run else { return };
        let this = LastTaken { boot: run.boot, attempt, sequence: run.sequence };
        let is_next = match self.last_taken.get(&run.node_id) {
            None => true,
            Some(last) if (last.boot, last.attempt) == (this.boot, this.attempt) => Some(this.sequence) == last.sequence.checked_add(1),
            Some(last) => (this.boot, this.attempt) > (last.boot, last.attempt),
        };
        if !is_next || self.bytes > QUEUE_BYTES_MAX {
            return;
        }
        self.last_taken.insert(run.node_id, this);
        self.bytes += run.payload.len();
        self.commands += u64::from(run.commands);
        self.queue.push_back(run);
    }

    /// The runs of the next entry, oldest first.
    pub(super) fn next_entry(&mut self, bytes_max: usize, commands_max: u32) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let (mut bytes, mut commands) = (0, 0);
        while let Some(run) = self.queue.front() {
            bytes += run.payload.len();
            commands += u64::from(run.commands);
            if !runs.is_empty() && (bytes > bytes_max || commands > u64::from(commands_max)) {
                break;
            }
            self.bytes -= run.payload.len();
            self.commands -= u64::from(run.commands);
            runs.extend(self.queue.pop_front());
        }
        runs
    }

    /// Puts back what could not be proposed.
    pub(super) fn put_back(&mut self, runs: Vec<Run>) {
        for run in runs.into_iter().rev() {
            self.bytes += run.payload.len();
            self.commands += u64::from(run.commands);
            self.queue.push_front(run);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn forward(boot: u64, attempt: u64, sequence: u64) -> Forward {
        let run = Run { node_id: 1, boot, sequence, payload: Bytes::from(vec![0; 10]), commands: 2 };
        Forward { attempt, run: Some(run) }
    }

    #[test]
    fn only_the_next_run_of_an_attempt_is_taken() {
        let mut inbox = Inbox::default();
        for (boot, attempt, sequence) in
            [(1, 1, 3), (1, 1, 3), (1, 1, 5), (1, 1, 4), (1, 0, 5), (1, 2, 3), (1, 1, 5), (1, 2, 4), (2, 1, 1), (1, 3, 5)]
        {
            inbox.take(forward(boot, attempt, sequence));
        }
        let taken: Vec<_> = inbox.next_entry(1000, 1000).iter().map(|run| (run.boot, run.sequence)).collect();
        assert_eq!(taken, [(1, 3), (1, 4), (1, 3), (1, 4), (2, 1)]);
    }

    #[test]
    fn numbers_at_their_ends_are_no_trouble() {
        let mut inbox = Inbox::default();
        for sequence in [u64::MAX - 1, u64::MAX, 0, u64::MAX, 1] {
            let mut forward = forward(1, 1, sequence);
            forward.run.as_mut().expect("a run").commands = u32::MAX;
            inbox.take(forward);
        }
        let taken: Vec<_> = [0; 3].map(|_| inbox.next_entry(1000, 1000)).iter().flatten().map(|run| run.sequence).collect();
        assert_eq!(taken, [u64::MAX - 1, u64::MAX], "each travels alone");
    }

    #[test]
    fn entries_close_at_their_limits() {
        let mut inbox = Inbox::default();
        (1..=6).for_each(|sequence| inbox.take(forward(1, 1, sequence)));
        assert_eq!(inbox.next_entry(5, 100).len(), 1, "a run larger than an entry travels alone");
        assert_eq!(inbox.next_entry(20, 100).len(), 2);
        let put_back = inbox.next_entry(1000, 2);
        assert_eq!(put_back.len(), 1);
        inbox.put_back(put_back);
        assert_eq!(inbox.next_entry(1000, 100).len(), 3);
        assert!(inbox.is_empty());
    }
}
