//! Linearizable reads: rounds that find out at which index, and at which time of the leader, reads may be answered.
//! One round is in flight at a time; reads that arrive meanwhile wait for the next, since a round proves leadership only for what arrived
//! before it began. On the leader a round is raft's ReadIndex, on a follower a request to the leader, who lets it join a round of its own.
//! A round that is not answered in time, or whose leader or term is gone, is forgotten and its reads join a new one with a fresh number:
//! an answer to a forgotten round is ignored (etcd #20418 is what happens otherwise).
//! A leader asks no more followers than it needs, those whose answers made the last majority; the others when these take too long.
//! A read that met a key whose deadline has passed on the leader's clock, and not in the log, first waits for log time.
//! Invariant: a read is in exactly one place: waiting for log time, waiting for a round, in the round, or confirmed and waiting for apply.

use raft::eraftpb::Message;
use raftlog::message::{Body, Match, ReadReply, ReadRequest};

use super::{Core, Effect, Lane};
use crate::error::RequestError;

/// Names a read between the core and the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReadId(pub u64);

/// Who waits for a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// A client of this node; `deadline_ms` is monotonic.
    Client { id: ReadId, deadline_ms: u64 },
    /// A follower.
    Peer { node_id: u64, request: ReadRequest },
}

/// A read that has everything but the applied index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Confirmed {
    pub(super) id: ReadId,
    pub(super) index: u64,
    pub(super) now_ms: u64,
    pub(super) deadline_ms: u64,
}

struct Round {
    number: u64,
    started_ms: u64,
    askers: Vec<Asker>,
    /// Questions to followers whose answers are not needed if the others answer.
    spares: Vec<Message>,
    /// Answers of voters that were among the first.
    answers: usize,
}

/// How long a leader waits for those whom it asks before it asks the others, in ms.
const SPARES_WAIT_MS: u64 = 10;
/// A round without an answer for so long is begun again.
const ROUND_TIMEOUT_MS: u64 = 500;

/// The reads of a node, and on the leader those of its followers.
#[derive(Default)]
pub(super) struct Reads {
    waiting: Vec<Asker>,
    round: Option<Round>,
    confirmed: Vec<Confirmed>,
    last_number: u64,
    /// Voters whose answers counted, the latest first.
    answering: Vec<u64>,
}

impl Reads {
    pub(super) fn push(&mut self, asker: Asker) {
        self.waiting.push(asker);
    }

    /// Begins a round with all waiting reads, if there are any and none is in flight. Returns its number, new in this boot.
    pub(super) fn begin_round(&mut self, now_ms: u64) -> Option<u64> {
        if self.round.is_some() || self.waiting.is_empty() {
            return None;
        }
        self.last_number += 1;
        let askers = std::mem::take(&mut self.waiting);
        self.round = Some(Round { number: self.last_number, started_ms: now_ms, askers, spares: Vec::new(), answers: 0 });
        Some(self.last_number)
    }

    /// A voter has answered a round. It counts if `enough` have not yet, and the round is in flight: the slowest is always the last.
    pub(super) fn answered(&mut self, peer: u64, number: u64, enough: usize) {
        let Some(round) = self.round.as_mut().filter(|round| round.number == number && round.answers < enough) else { return };
        round.answers += 1;
        if self.answering.first() != Some(&peer) {
            self.answering.retain(|known| *known != peer);
            self.answering.insert(0, peer);
        }
    }

    /// Voters whose answers counted, the latest first.
    pub(super) fn answering(&self) -> impl Iterator<Item = u64> {
        self.answering.iter().copied()
    }

    /// Keeps a question of the round in flight back.
    pub(super) fn spare(&mut self, message: Message) {
        if let Some(round) = &mut self.round {
            round.spares.push(message);
        }
    }

    /// Until when questions are kept back, on the monotonic clock; `None` if there are none.
    pub(super) fn spares_wait_until_ms(&self) -> Option<u64> {
        let round = self.round.as_ref().filter(|round| !round.spares.is_empty())?;
        Some(round.started_ms + SPARES_WAIT_MS)
    }

    /// Takes the questions that were kept back, when the round takes too long.
    pub(super) fn take_spares(&mut self, now_ms: u64) -> Vec<Message> {
        let late = self.round.as_mut().filter(|round| now_ms.saturating_sub(round.started_ms) >= SPARES_WAIT_MS);
        late.map(|round| std::mem::take(&mut round.spares)).unwrap_or_default()
    }

    /// Forgets the round in flight; its reads wait again. Followers ask again by themselves when the leader changes.
    pub(super) fn cancel_round(&mut self) {
        if let Some(mut round) = self.round.take() {
            round.askers.append(&mut self.waiting);
            self.waiting = round.askers;
        }
    }

    /// Forgets what followers asked and answered: this node is not their leader any more.
    pub(super) fn drop_peers(&mut self) {
        self.answering.clear();
        self.waiting.retain(|asker| matches!(asker, Asker::Client { .. }));
        if let Some(round) = &mut self.round {
            round.askers.retain(|asker| matches!(asker, Asker::Client { .. }));
        }
    }

    pub(super) fn round_in_flight(&self) -> bool {
        self.round.is_some()
    }

    pub(super) fn round_is_late(&self, now_ms: u64) -> bool {
        self.round.as_ref().is_some_and(|round| now_ms.saturating_sub(round.started_ms) >= ROUND_TIMEOUT_MS)
    }

    /// The round with this number is answered: clients' reads wait for apply, the answers to followers are returned.
    pub(super) fn confirm(&mut self, number: u64, index: u64, now_ms: u64) -> Vec<(u64, ReadReply)> {
        let Some(round) = self.round.take_if(|round| round.number == number) else { return Vec::new() };
        let mut replies = Vec::new();
        for asker in round.askers {
            match asker {
                Asker::Client { id, deadline_ms } => self.confirmed.push(Confirmed { id, index, now_ms, deadline_ms }),
                Asker::Peer { node_id, request } => {
                    replies.push((node_id, ReadReply { round: request.round, boot: request.boot, index, now_ms, matches: Vec::new() }));
                }
            }
        }
        replies
    }

    /// Takes the confirmed reads that can be answered at this applied index.
    pub(super) fn take_ready(&mut self, applied: u64) -> Vec<Confirmed> {
        if self.confirmed.is_empty() {
            return Vec::new();
        }
        let (ready, later) = std::mem::take(&mut self.confirmed).into_iter().partition(|read| read.index <= applied);
        self.confirmed = later;
        ready
    }

    /// Takes the reads whose deadline has passed.
    pub(super) fn expire(&mut self, now_ms: u64) -> Vec<ReadId> {
        let mut late = Vec::new();
        let mut keep = |asker: &Asker| match asker {
            Asker::Client { id, deadline_ms } if *deadline_ms <= now_ms => {
                late.push(*id);
                false
            }
            Asker::Client { .. } | Asker::Peer { .. } => true,
        };
        self.waiting.retain(&mut keep);
        if let Some(round) = &mut self.round {
            round.askers.retain(&mut keep);
        }
        self.confirmed.retain(|read| {
            let on_time = read.deadline_ms > now_ms;
            if !on_time {
                late.push(read.id);
            }
            on_time
        });
        late
    }

    pub(super) fn waits_for_apply(&self) -> bool {
        !self.confirmed.is_empty()
    }
}

impl Core {
    pub(super) fn read_reply(&mut self, from: u64, reply: ReadReply) {
        if reply.boot == self.config.boot && self.group.leader() == Some(from) {
            self.leader_matches = reply.matches;
            self.reads.confirm(reply.round, reply.index, reply.now_ms);
        }
    }

    pub(super) fn read_request(&mut self, from: u64, request: ReadRequest) {
        if !self.group.is_leader() {
            return;
        }
        let asker = Asker::Peer { node_id: from, request };
        // A follower repeats what it waits for.
        self.time_waiters.retain(|(_, waiter)| !matches!(waiter, Asker::Peer { node_id, .. } if *node_id == from));
        if request.log_time_ms > self.applied.log_time_ms {
            self.time_waiters.push((request.log_time_ms, asker));
        } else {
            self.reads.push(asker);
        }
    }

    /// Begins a round for the reads that wait, if none is in flight. A leader gets what its heartbeats ask the followers.
    pub(super) fn begin_read_round(&mut self) -> Option<Vec<u8>> {
        let leader = self.group.leader()?;
        let here = leader == self.config.node_id;
        if here && !self.group.can_serve_reads() {
            return None;
        }
        let round = self.reads.begin_round(self.now.mono_ms)?;
        if here {
            let question = [self.config.boot.to_be_bytes(), round.to_be_bytes()].concat();
            if self.group.read_index(question.clone()) {
                self.counts.read_rounds += 1;
                return Some(question);
            }
            self.reads.cancel_round();
        } else {
            let request = ReadRequest { round, boot: self.config.boot, log_time_ms: 0 };
            self.send(leader, Lane::Control, Body::ReadRequest(request));
        }
        None
    }

    /// The round that a question of this process was about.
    pub(super) fn round_of(&self, question: &[u8]) -> Option<u64> {
        let (boot, round) = question.split_at_checked(8)?;
        let round = <[u8; 8]>::try_from(round).ok()?;
        (boot == self.config.boot.to_be_bytes()).then(|| u64::from_be_bytes(round))
    }

    /// A peer has answered a heartbeat, which may have been a question.
    pub(super) fn heartbeat_answered(&mut self, from: u64, context: &[u8]) {
        let Some(round) = self.round_of(context) else { return };
        let voters = self.group.configuration().voters;
        if voters.contains(&from) {
            self.reads.answered(from, round, self.answers_needed(&voters));
        }
    }

    /// How many other voters are a majority with this node; a leader may be a learner.
    fn answers_needed(&self, voters: &[u64]) -> usize {
        voters.len() / 2 + usize::from(!voters.contains(&self.config.node_id))
    }

    /// Voters that answered the last rounds and are a majority with this one; `None` if there are not enough.
    pub(super) fn enough_voters(&self) -> Option<Vec<u64>> {
        let configuration = self.group.configuration();
        let others = self.answers_needed(&configuration.voters);
        let answering = self.reads.answering().filter(|peer| configuration.voters.contains(peer) && self.hears(*peer));
        let enough: Vec<u64> = answering.take(others).collect();
        (configuration.voters_outgoing.is_empty() && enough.len() == others).then_some(enough)
    }

    pub(super) fn send_read_reply(&mut self, peer: u64, mut reply: ReadReply) {
        let members = self.applied.members.members.iter();
        reply.matches = members.map(|member| Match { node_id: member.node_id, index: self.match_index(member.node_id) }).collect();
        self.send(peer, Lane::Control, Body::ReadReply(reply));
    }

    /// Waiters for log time: the leader proposes a purge, which carries its time; a follower asks the leader for one.
    pub(super) fn ask_for_time(&mut self) {
        let Some(leader) = self.group.leader().filter(|leader| *leader != self.config.node_id) else { return };
        if let Some(log_time_ms) = self.time_waiters.iter().map(|(time, _)| *time).max() {
            // Round 0 is never begun, so the answer is ignored: what is waited for is the entry.
            let request = ReadRequest { round: 0, boot: self.config.boot, log_time_ms };
            self.send(leader, Lane::Control, Body::ReadRequest(request));
        }
    }

    pub(super) fn release_time_waiters(&mut self) {
        let log_time_ms = self.applied.log_time_ms;
        let (released, waiting) = std::mem::take(&mut self.time_waiters).into_iter().partition(|(time, _)| *time <= log_time_ms);
        self.time_waiters = waiting;
        for (_, asker) in Vec::<(u64, Asker)>::into_iter(released) {
            self.reads.push(asker);
        }
    }

    pub(super) fn expire_time_waiters(&mut self) {
        let now_ms = self.now.mono_ms;
        let effects = &mut self.effects;
        self.time_waiters.retain(|(_, asker)| match asker {
            Asker::Client { id, deadline_ms } if *deadline_ms <= now_ms => {
                effects.push(Effect::FailRead(*id, RequestError::NoLeader));
                false
            }
            Asker::Client { .. } | Asker::Peer { .. } => true,
        });
        if self.time_waiters.iter().any(|(_, asker)| matches!(asker, Asker::Client { .. })) {
            self.ask_for_time();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: u64) -> Asker {
        Asker::Client { id: ReadId(id), deadline_ms: 100 }
    }

    fn ready(reads: &mut Reads, applied: u64) -> Vec<(u64, u64)> {
        reads.take_ready(applied).iter().map(|read| (read.id.0, read.now_ms)).collect()
    }

    #[test]
    fn a_read_joins_only_a_round_that_begins_after_it() {
        let mut reads = Reads::default();
        assert_eq!(reads.begin_round(0), None);
        reads.push(client(1));
        assert_eq!(reads.begin_round(0), Some(1));
        reads.push(client(2));
        assert_eq!(reads.begin_round(0), None);
        assert!(reads.confirm(7, 9, 50).is_empty());
        assert_eq!(ready(&mut reads, 99), [], "an answer to another round confirms nothing");
        reads.confirm(1, 9, 50);
        assert_eq!(ready(&mut reads, 8), []);
        assert_eq!(ready(&mut reads, 9), [(1, 50)]);
        assert_eq!(reads.begin_round(1), Some(2));
    }

    #[test]
    fn a_cancelled_round_is_begun_again_under_another_number() {
        let mut reads = Reads::default();
        let request = ReadRequest { round: 5, boot: 2, log_time_ms: 0 };
        reads.push(Asker::Peer { node_id: 3, request });
        reads.push(client(1));
        assert_eq!(reads.begin_round(0), Some(1));
        assert!(!reads.round_is_late(ROUND_TIMEOUT_MS - 1));
        assert!(reads.round_is_late(ROUND_TIMEOUT_MS));
        reads.cancel_round();
        assert_eq!(reads.begin_round(1), Some(2));
        assert!(reads.confirm(1, 4, 50).is_empty());
        assert_eq!(reads.confirm(2, 4, 60), [(3, ReadReply { round: 5, boot: 2, index: 4, now_ms: 60, matches: Vec::new() })]);
        assert_eq!(ready(&mut reads, 4), [(1, 60)]);
        assert!(reads.waiting.is_empty() && reads.round.is_none() && reads.confirmed.is_empty());
    }

    #[test]
    fn late_reads_are_found_wherever_they_are() {
        let mut reads = Reads::default();
        reads.push(client(1));
        reads.begin_round(0);
        reads.confirm(1, 9, 0);
        reads.push(client(2));
        reads.begin_round(0);
        reads.push(client(3));
        let mut late = reads.expire(100);
        late.sort_unstable();
        assert_eq!(late, [ReadId(1), ReadId(2), ReadId(3)]);
    }
}
