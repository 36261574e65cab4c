//! RAFT VERIFY: do the replicas hold the same data, and if not, who is wrong and where.
//! The leader proposes an entry; every replica that applies it digests its data as of that entry in the background. The leader asks all
//! members for their digests until each has answered or was silent for too long, and compares. Where they differ it narrows the difference
//! down to a key, by asking one replica of each kind for digests of ever smaller parts. A replica whose data more than half of the members
//! contradict is told so, and stops. Without such a majority nobody stops.
//! Every step is asked for again until it is answered, so frames may get lost; a new leader begins anew. The entry's position names the
//! verification, and a replica believes a verdict only if it repeats what the replica itself has reported for that entry.
//! Bounds: one verification at a time, `ASKS_MAX` who wait, `PATIENCE_MS` for a silent member, `VERIFICATION_MS_MAX` for everything.

use std::collections::BTreeMap;

use bytes::Bytes;
use raftlog::entry::EntryKind;
use raftlog::log::LogPosition;
use raftlog::message::{
    Body, Difference, EntryPosition, GroupDigest, Part, RangeDigest, VerifiedMember, Verify, VerifyAsk, VerifyDetail, VerifyExamine,
    VerifyOutcome, VerifyReport, VerifyResult, VerifyStep, VerifyVerdict,
};

use super::{Core, Effect, Lane, RequestId};
use crate::error::RequestError;
use crate::keyspace::digest::{self, Next};

/// How long a member, or the leader, may be silent.
pub const PATIENCE_MS: u64 = 10_000;
/// How long replicas may compute.
const VERIFICATION_MS_MAX: u64 = 3_600_000;
/// Clients of one node, and asks at the leader, that wait.
const ASKS_MAX: usize = 64;
/// How often a closer look is asked for again: it takes longer than an answer to the other questions.
const EXAMINE_AGAIN_MS: u64 = 1_000;
/// Closer looks in one search; each is over a part smaller by `CHUNKS_MAX`, or the last but one.
const LOOKS_MAX: u32 = 16;
/// How long a replica that was told to stop goes on: so long the answers to those who asked have to get away.
const STOP_GRACE_MS: u64 = 500;

/// This replica's data differ from those of a majority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The index as of which they do.
    pub index: u64,
    /// Where they begin to.
    pub difference: Difference,
}

/// What is going on.
#[derive(Default)]
pub(super) struct Verification {
    /// This replica's latest digest; `None` inside while it is being computed.
    own: Option<(EntryPosition, Option<GroupDigest>)>,
    /// As of this index the data come from a snapshot; a digest of those before says nothing.
    replaced_at: u64,
    /// When to stop, and why.
    stop: Option<(u64, Divergence)>,
    /// This node's clients.
    asks: Vec<Ask>,
    last_number: u64,
    /// The rest is the leader's: who wants a verification that has not begun yet,
    waiting: Vec<Asker>,
    /// the one under way,
    running: Option<Running>,
    /// the last one, for those whose outcome got lost,
    finished: Option<(Vec<Asker>, VerifyResult)>,
    /// and replicas that have to be told that they are wrong, until when.
    verdicts: Vec<(u64, VerifyVerdict, u64)>,
}

/// A client of this node.
struct Ask {
    id: RequestId,
    number: u64,
    /// Put off at each sign of life of the leader.
    give_up_at_ms: u64,
}

/// A node whose client wants to know.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Asker {
    node_id: u64,
    ask: VerifyAsk,
}

struct Running {
    entry: EntryPosition,
    give_up_at_ms: u64,
    askers: Vec<Asker>,
    members: Vec<Examined>,
    /// When all members were heard: what has to be found out about those that differ, one after the other.
    searches: Option<Vec<Search>>,
}

/// A member as the comparer sees it.
struct Examined {
    node_id: u64,
    heard_ms: u64,
    report: Report,
    difference: Option<Difference>,
}

enum Report {
    Awaited,
    Here(GroupDigest),
    Missing,
}

/// The search for the first key in which the data of two replicas differ.
struct Search {
    reference: u64,
    member: u64,
    part: Part,
    looks: u32,
    /// What the two have answered.
    answers: BTreeMap<u64, (RangeDigest, Option<Bytes>)>,
    /// When this part was asked for first, and last.
    asked: Option<(u64, u64)>,
}

impl Search {
    fn new(reference: u64, member: u64, chunk: Part) -> Self {
        Self { reference, member, part: digest::closer(chunk), looks: 0, answers: BTreeMap::new(), asked: None }
    }

    /// What has been found out, once both have answered or it took too long.
    fn advance(&mut self, now_ms: u64) -> Option<Difference> {
        let family = self.part.family;
        let end = |key| Some(Difference { family, key });
        if let (Some((one, one_key)), Some((other, other_key))) = (self.answers.get(&self.reference), self.answers.get(&self.member)) {
            match digest::next(self.part, one, other) {
                Next::Found => return end(digest::first_key(one_key.clone(), other_key.clone())),
                Next::Lost => return end(None),
                Next::Examine(part) => {
                    self.looks += 1;
                    self.part = part;
                    self.answers.clear();
                    self.asked = None;
                }
            }
        }
        let is_late = self.asked.is_some_and(|(first_ms, _)| now_ms.saturating_sub(first_ms) >= PATIENCE_MS);
        if is_late || self.looks >= LOOKS_MAX { end(None) } else { None }
    }

    /// Whom to ask now.
    fn whom_to_ask(&mut self, now_ms: u64) -> Vec<u64> {
        if self.asked.is_some_and(|(_, last_ms)| now_ms.saturating_sub(last_ms) < EXAMINE_AGAIN_MS) {
            return Vec::new();
        }
        let first_ms = self.asked.map_or(now_ms, |(first_ms, _)| first_ms);
        self.asked = Some((first_ms, now_ms));
        [self.reference, self.member].into_iter().filter(|node_id| !self.answers.contains_key(node_id)).collect()
    }
}

impl Running {
    fn member(&mut self, node_id: u64) -> Option<&mut Examined> {
        self.members.iter_mut().find(|member| member.node_id == node_id)
    }

    /// Whoever was silent for too long is missing. Returns whether nobody is waited for any more.
    fn settle(&mut self, now_ms: u64) -> bool {
        let is_over = now_ms >= self.give_up_at_ms;
        for member in &mut self.members {
            let is_silent = now_ms.saturating_sub(member.heard_ms) >= PATIENCE_MS;
            if matches!(member.report, Report::Awaited) && (is_silent || is_over) {
                member.report = Report::Missing;
            }
        }
        !self.members.iter().any(|member| matches!(member.report, Report::Awaited))
    }

    fn reports(&self) -> impl Iterator<Item = (u64, &GroupDigest)> {
        self.members.iter().filter_map(|member| match &member.report {
            Report::Here(digest) => Some((member.node_id, digest)),
            Report::Awaited | Report::Missing => None,
        })
    }

    /// The digest that most members have, with how many; among equals that of `preferred`, then that of the lowest id.
    fn commonest(&self, preferred: u64) -> Option<(&GroupDigest, usize)> {
        let count = |digest: &GroupDigest| self.reports().filter(|(_, other)| same(digest, other)).count();
        let counted = self.reports().map(|(node_id, digest)| (count(digest), node_id == preferred, u64::MAX - node_id, digest));
        counted.max_by_key(|(count, preferred, order, _)| (*count, *preferred, *order)).map(|(count, _, _, digest)| (digest, count))
    }

    /// Whether more than half of all members have the commonest digest.
    fn has_majority(&self, preferred: u64) -> bool {
        self.commonest(preferred).is_some_and(|(_, count)| count > self.members.len() / 2)
    }

    /// A search for each member whose data differ from the commonest.
    fn searches(&self, preferred: u64) -> Vec<Search> {
        let Some((common, _)) = self.commonest(preferred) else { return Vec::new() };
        let mut references: Vec<u64> = self.reports().filter(|(_, digest)| same(common, digest)).map(|(node_id, _)| node_id).collect();
        references.sort_by_key(|node_id| *node_id != preferred);
        let differing = self.reports().filter_map(|(node_id, digest)| {
            let chunk = digest::first_differing_part(common, digest)?;
            Some(Search::new(references[0], node_id, chunk))
        });
        differing.collect()
    }

    fn result(&self, preferred: u64) -> VerifyResult {
        let member = |member: &Examined| VerifiedMember {
            node_id: member.node_id,
            hash: match &member.report {
                Report::Here(report) => digest::hash(report),
                Report::Awaited | Report::Missing => Bytes::new(),
            },
            difference: member.difference.clone(),
        };
        let members = self.members.iter().map(member).collect();
        VerifyResult { index: self.entry.index, members, has_majority: self.has_majority(preferred) }
    }
}

fn same(one: &GroupDigest, other: &GroupDigest) -> bool {
    digest::hash(one) == digest::hash(other)
}

fn position(entry: LogPosition) -> EntryPosition {
    EntryPosition { index: entry.index, term: entry.term }
}

impl Core {
    /// A client wants the replicas to be compared; answered by `AnswerVerify`.
    pub fn verify(&mut self, id: RequestId) {
        if self.verification.asks.len() >= ASKS_MAX {
            let error = RequestError::TryAgain("too many verifications are waited for".into());
            return self.effects.push(Effect::AnswerVerify(id, Err(error)));
        }
        self.verification.last_number += 1;
        let (number, give_up_at_ms) = (self.verification.last_number, self.now.mono_ms + PATIENCE_MS);
        self.verification.asks.push(Ask { id, number, give_up_at_ms });
        self.send_asks();
    }

    /// Apply has reached a verification, and its view is taken: the digest is being computed.
    pub fn digest_begun(&mut self, entry: LogPosition) {
        self.note_own(position(entry), None);
    }

    /// The digest of this replica's data as of a verification.
    pub fn digested(&mut self, entry: LogPosition, digest: GroupDigest) {
        self.note_own(position(entry), Some(digest));
        if let Some(leader) = self.group.leader() {
            self.verify_step(leader, VerifyStep::Want(position(entry)));
        }
    }

    /// A snapshot takes the place of the data: whatever was wrong with them is gone.
    pub(super) fn data_replaced(&mut self, index: u64) {
        self.verification.own = None;
        self.verification.stop = None;
        self.verification.replaced_at = index;
    }

    #[cfg(test)]
    pub(super) fn is_condemned(&self) -> bool {
        self.verification.stop.is_some()
    }

    /// What comes from an earlier verification than the latest is late.
    fn note_own(&mut self, entry: EntryPosition, digest: Option<GroupDigest>) {
        if entry.index <= self.verification.replaced_at {
            return;
        }
        if self.verification.own.as_ref().is_none_or(|(known, _)| known.index <= entry.index) {
            self.verification.own = Some((entry, digest));
        }
    }

    /// The closer look that `ExaminePart` asked for.
    pub fn examined(&mut self, entry: LogPosition, part: Part, digest: RangeDigest, first_key: Option<Bytes>) {
        if let Some(leader) = self.group.leader() {
            let detail = VerifyDetail { entry: position(entry), part, digest, first_key };
            self.send_step(leader, VerifyStep::Detail(detail));
        }
    }

    /// Another leader, or term: what this node did as the leader is over. Who asked asks again.
    pub(super) fn abandon_verification(&mut self) {
        self.verification.waiting.clear();
        self.verification.running = None;
        self.verification.verdicts.clear();
    }

    /// Asks again for what is missing, and goes on with what is there.
    pub(super) fn tend_verification(&mut self) {
        let now_ms = self.now.mono_ms;
        if let Some((_, divergence)) = self.verification.stop.take_if(|(at_ms, _)| *at_ms <= now_ms) {
            // Nothing more is believed about it.
            self.verification.own = None;
            self.effects.push(Effect::StopDiverged(divergence));
        }
        for ask in self.verification.asks.extract_if(.., |ask| ask.give_up_at_ms <= now_ms) {
            self.effects.push(Effect::AnswerVerify(ask.id, Err(RequestError::NoLeader)));
        }
        if self.group.is_leader() {
            self.begin_verification();
            self.advance_verification();
            self.verification.verdicts.retain(|(_, _, until_ms)| *until_ms > now_ms);
            for (to, verdict, _) in self.verification.verdicts.clone() {
                self.send_step(to, VerifyStep::Verdict(verdict));
            }
        }
    }

    /// Asks whoever leads, again.
    pub(super) fn send_asks(&mut self) {
        let Some(leader) = self.group.leader() else { return };
        let numbers: Vec<u64> = self.verification.asks.iter().map(|ask| ask.number).collect();
        for number in numbers {
            self.send_step(leader, VerifyStep::Ask(VerifyAsk { boot: self.config.boot, number }));
        }
    }

    fn begin_verification(&mut self) {
        let may_begin = self.verification.running.is_none() && self.group.can_serve_reads() && !self.group.is_transferring();
        if self.verification.waiting.is_empty() || !may_begin || self.propose(EntryKind::Verify, Bytes::new()).is_err() {
            return;
        }
        let entry = EntryPosition { index: self.group.last_index(), term: self.group.term() };
        let configuration = self.group.configuration();
        let mut members =
            [configuration.voters, configuration.learners, configuration.voters_outgoing, configuration.learners_next].concat();
        members.sort_unstable();
        members.dedup();
        let heard_ms = self.now.mono_ms;
        let examined = |node_id| Examined { node_id, heard_ms, report: Report::Awaited, difference: None };
        let askers = std::mem::take(&mut self.verification.waiting);
        let give_up_at_ms = heard_ms + VERIFICATION_MS_MAX;
        let members = members.into_iter().map(examined).collect();
        tracing::info!(index = entry.index, "comparing the replicas");
        self.verification.running = Some(Running { entry, give_up_at_ms, askers, members, searches: None });
    }

    fn advance_verification(&mut self) {
        let (now_ms, own_id) = (self.now.mono_ms, self.config.node_id);
        let Some(mut running) = self.verification.running.take() else { return };
        let entry = running.entry;
        let mut steps = Vec::new();
        if running.settle(now_ms) {
            let mut searches = running.searches.take().unwrap_or_else(|| running.searches(own_id));
            while let Some(search) = searches.first_mut() {
                let Some(difference) = search.advance(now_ms) else {
                    let step = VerifyStep::Examine(VerifyExamine { entry, part: search.part });
                    steps.extend(search.whom_to_ask(now_ms).into_iter().map(|node_id| (node_id, step.clone())));
                    break;
                };
                let search = searches.remove(0);
                running.member(search.member).expect("a search is about a member").difference = Some(difference);
            }
            if searches.is_empty() {
                return self.finish_verification(&running);
            }
            running.searches = Some(searches);
        } else {
            let awaited = running.members.iter().filter(|member| matches!(member.report, Report::Awaited));
            steps.extend(awaited.map(|member| (member.node_id, VerifyStep::Want(entry))));
        }
        self.verification.running = Some(running);
        for (to, step) in steps {
            self.send_step(to, step);
        }
    }

    fn finish_verification(&mut self, running: &Running) {
        let result = running.result(self.config.node_id);
        self.effects.push(Effect::Verified(result.clone()));
        self.verification.finished = Some((running.askers.clone(), result.clone()));
        for asker in &running.askers {
            let outcome = VerifyOutcome { ask: asker.ask, result: Some(result.clone()) };
            self.send_step(asker.node_id, VerifyStep::Outcome(outcome));
        }
        if result.has_majority {
            let until_ms = self.now.mono_ms + PATIENCE_MS;
            let verdict = |member: &VerifiedMember| {
                let difference = member.difference.clone()?;
                Some((member.node_id, VerifyVerdict { entry: running.entry, hash: member.hash.clone(), difference }, until_ms))
            };
            self.verification.verdicts = result.members.iter().filter_map(verdict).collect();
        }
    }

    fn send_step(&mut self, to: u64, step: VerifyStep) {
        if to == self.config.node_id {
            self.verify_step(to, step);
        } else {
            self.send(to, Lane::Control, Body::Verify(Box::new(Verify { step: Some(step) })));
        }
    }

    /// A step from a member, or from this node itself.
    pub(super) fn verify_step(&mut self, from: u64, step: VerifyStep) {
        let from_leader = self.group.leader() == Some(from);
        match step {
            VerifyStep::Ask(ask) if self.group.is_leader() => self.asked(Asker { node_id: from, ask }),
            VerifyStep::Report(report) => self.reported(from, report),
            VerifyStep::Detail(detail) => self.detailed(from, detail),
            VerifyStep::Outcome(outcome) if from_leader && outcome.ask.boot == self.config.boot => self.learnt(outcome),
            VerifyStep::Want(entry) if from_leader => {
                if let Some((_, digest)) = self.verification.own.as_ref().filter(|(own, _)| *own == entry) {
                    let report = VerifyReport { entry, digest: digest.clone() };
                    self.send_step(from, VerifyStep::Report(report));
                }
            }
            VerifyStep::Examine(VerifyExamine { entry, part }) if from_leader => {
                let position = LogPosition { index: entry.index, term: entry.term };
                self.effects.push(Effect::ExaminePart(position, part));
            }
            VerifyStep::Verdict(verdict) if from_leader => self.condemned(verdict),
            // Somebody else leads by now.
            VerifyStep::Ask(_) | VerifyStep::Outcome(_) | VerifyStep::Want(_) | VerifyStep::Examine(_) | VerifyStep::Verdict(_) => {}
        }
    }

    fn asked(&mut self, asker: Asker) {
        let verification = &mut self.verification;
        let finished = verification.finished.as_ref().filter(|(askers, _)| askers.contains(&asker));
        let result = finished.map(|(_, result)| result.clone());
        let is_known =
            verification.waiting.contains(&asker) || verification.running.as_ref().is_some_and(|running| running.askers.contains(&asker));
        if result.is_none() && !is_known {
            if verification.waiting.len() >= ASKS_MAX {
                return;
            }
            verification.waiting.push(asker);
            self.begin_verification();
        }
        self.send_step(asker.node_id, VerifyStep::Outcome(VerifyOutcome { ask: asker.ask, result }));
    }

    fn learnt(&mut self, VerifyOutcome { ask, result }: VerifyOutcome) {
        let Some(at) = self.verification.asks.iter().position(|known| known.number == ask.number) else { return };
        match result {
            None => self.verification.asks[at].give_up_at_ms = self.now.mono_ms + PATIENCE_MS,
            Some(result) => {
                let ask = self.verification.asks.remove(at);
                self.effects.push(Effect::AnswerVerify(ask.id, Ok(result)));
            }
        }
    }

    fn reported(&mut self, from: u64, report: VerifyReport) {
        let now_ms = self.now.mono_ms;
        let Some(running) = self.verification.running.as_mut().filter(|running| running.entry == report.entry) else { return };
        let Some(member) = running.member(from).filter(|member| matches!(member.report, Report::Awaited)) else { return };
        match report.digest {
            None => member.heard_ms = now_ms,
            Some(digest) if digest::is_valid(&digest) => {
                member.report = Report::Here(digest);
                self.advance_verification();
            }
            Some(_) => tracing::warn!(from, "a replica's digest makes no sense to this binary"),
        }
    }

    fn detailed(&mut self, from: u64, detail: VerifyDetail) {
        let Some(running) = self.verification.running.as_mut().filter(|running| running.entry == detail.entry) else { return };
        let Some(search) = running.searches.as_mut().and_then(|searches| searches.first_mut()) else { return };
        let is_wanted = search.part == detail.part && [search.reference, search.member].contains(&from);
        if is_wanted && digest::is_valid_range(&detail.digest) {
            search.answers.insert(from, (detail.digest, detail.first_key));
            self.advance_verification();
        }
    }

    /// The leader says that a majority has other data. It is believed if it knows what this replica has reported.
    fn condemned(&mut self, verdict: VerifyVerdict) {
        let own = self.verification.own.as_ref().filter(|(entry, _)| *entry == verdict.entry);
        let reported = own.and_then(|(_, digest)| digest.as_ref()).map(digest::hash);
        if self.verification.stop.is_none() && reported == Some(verdict.hash) {
            let divergence = Divergence { index: verdict.entry.index, difference: verdict.difference };
            self.verification.stop = Some((self.now.mono_ms + STOP_GRACE_MS, divergence));
            self.resign();
        }
    }
}
