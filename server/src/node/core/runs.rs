//! Runs of commands on their way from this node's clients to the leader.
//! A run waits without a number until there is a leader to send it to; until then it is certain that it was not executed. Sending gives it
//! the next sequence number of this boot, and from then on it stays here until the log has resolved it, even if its client was told that
//! the outcome is unknown: apply takes sequences of an origin only without gaps, each once, so a run may be sent again and again.
//! Invariant: `sent` holds consecutive sequences, and every run before its first is resolved.

use std::collections::VecDeque;

use bytes::Bytes;
use raftlog::entry::Run;
use raftlog::message::Forward;

/// Names a run between the core and the shell, which holds the client's side of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(pub u64);

/// A run as the shell hands it in.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// The shell's name for it.
    pub id: RunId,
    /// The encoded writes.
    pub payload: Bytes,
    /// How many writes.
    pub commands: u32,
    /// Monotonic time after which the client is told that it failed.
    pub deadline_ms: u64,
}

/// Bytes of runs sent and not yet resolved; more wait, and fail as *not executed* if that takes too long.
const SENT_BYTES_MAX: usize = 128 << 20;
/// Without progress for so long, the unresolved runs are sent again, whatever the reason.
const RESEND_AFTER_MS: u64 = 2000;

struct Sent {
    run: Run,
    deadline_ms: u64,
    given_up: bool,
}

/// The runs of this node's clients.
pub(super) struct Runs {
    node_id: u64,
    boot: u64,
    waiting: VecDeque<NewRun>,
    sent: VecDeque<Sent>,
    sent_bytes: usize,
    next_sequence: u64,
    attempt: u64,
    progress_at_ms: u64,
    /// Something is known to be lost on the way.
    stalled: bool,
}

impl Runs {
    pub(super) fn new(node_id: u64, boot: u64) -> Self {
        Self {
            node_id,
            boot,
            waiting: VecDeque::new(),
            sent: VecDeque::new(),
            sent_bytes: 0,
            next_sequence: 1,
            attempt: 0,
            progress_at_ms: 0,
            stalled: false,
        }
    }

    pub(super) fn push(&mut self, run: NewRun) {
        self.waiting.push_back(run);
    }

    /// Gives the next waiting run its sequence, if the window has room; the caller sends it.
    pub(super) fn send_next(&mut self, now_ms: u64) -> Option<(RunId, Forward)> {
        let room = self.sent.is_empty() || self.sent_bytes < SENT_BYTES_MAX;
        let NewRun { id, payload, commands, deadline_ms } = if room { self.waiting.pop_front()? } else { return None };
        let run = Run { node_id: self.node_id, boot: self.boot, sequence: self.next_sequence, payload, commands };
        self.next_sequence += 1;
        self.sent_bytes += run.payload.len();
        if self.sent.is_empty() {
            self.progress_at_ms = now_ms;
        }
        self.sent.push_back(Sent { run: run.clone(), deadline_ms, given_up: false });
        Some((id, Forward { attempt: self.attempt, run: Some(run) }))
    }

    /// Starts again from the oldest unresolved run: what the caller has to send, in order.
    pub(super) fn send_again(&mut self, now_ms: u64) -> Vec<Forward> {
        self.attempt += 1;
        self.stalled = false;
        self.progress_at_ms = now_ms;
        self.sent.iter().map(|sent| Forward { attempt: self.attempt, run: Some(sent.run.clone()) }).collect()
    }

    /// The log has executed this node's runs up to a sequence.
    pub(super) fn resolved(&mut self, sequence: u64, now_ms: u64) {
        while self.sent.front().is_some_and(|sent| sent.run.sequence <= sequence) {
            if let Some(sent) = self.sent.pop_front() {
                self.sent_bytes -= sent.run.payload.len();
                self.progress_at_ms = now_ms;
            }
        }
    }

    /// Makes the unresolved runs go out again soon.
    pub(super) fn stall(&mut self) {
        self.stalled = true;
    }

    pub(super) fn is_stalled(&self, now_ms: u64) -> bool {
        !self.sent.is_empty() && (self.stalled || now_ms.saturating_sub(self.progress_at_ms) >= RESEND_AFTER_MS)
    }

    /// Waiting runs whose deadline has passed; they were certainly not executed.
    pub(super) fn expire_waiting(&mut self, now_ms: u64) -> Vec<RunId> {
        let mut late = Vec::new();
        self.waiting.retain(|run| {
            let on_time = run.deadline_ms > now_ms;
            if !on_time {
                late.push(run.id);
            }
            on_time
        });
        late
    }

    /// Sequences of sent runs whose deadline has passed: their clients are told that the outcome is unknown.
    pub(super) fn expire_sent(&mut self, now_ms: u64) -> Vec<u64> {
        let late = self.sent.iter_mut().filter(|sent| !sent.given_up && sent.deadline_ms <= now_ms);
        late.map(|sent| {
            sent.given_up = true;
            sent.run.sequence
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_run(id: u64, deadline_ms: u64) -> NewRun {
        NewRun { id: RunId(id), payload: Bytes::from_static(b"x"), commands: 1, deadline_ms }
    }

    fn sequences(forwards: &[Forward]) -> Vec<(u64, u64)> {
        forwards.iter().map(|forward| (forward.attempt, forward.run.as_ref().map_or(0, |run| run.sequence))).collect()
    }

    #[test]
    fn runs_get_their_number_when_they_are_sent_and_keep_it() {
        let mut runs = Runs::new(1, 1);
        for id in 0..4 {
            runs.push(new_run(id, if id == 1 { 5 } else { 50 }));
        }
        assert_eq!(runs.send_next(0).map(|(id, forward)| (id, sequences(&[forward]))), Some((RunId(0), vec![(0, 1)])));
        assert_eq!(runs.expire_waiting(5), [RunId(1)], "a run that was never sent leaves no gap");
        assert_eq!(runs.send_next(6).map(|(id, forward)| (id, sequences(&[forward]))), Some((RunId(2), vec![(0, 2)])));
        assert_eq!(sequences(&runs.send_again(7)), [(1, 1), (1, 2)]);
        assert_eq!(runs.expire_sent(60), [1, 2]);
        assert!(runs.expire_sent(61).is_empty(), "told once");
        assert_eq!(sequences(&runs.send_again(62)), [(2, 1), (2, 2)], "given up is not forgotten");
        runs.resolved(1, 63);
        assert_eq!(sequences(&runs.send_again(64)), [(3, 2)]);
        assert!(!runs.is_stalled(64 + RESEND_AFTER_MS - 1));
        assert!(runs.is_stalled(64 + RESEND_AFTER_MS));
    }
}
