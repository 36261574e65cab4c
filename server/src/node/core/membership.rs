//! What the leader does about members: joins, promotion, replacement, removal, hand-over, feature level.
//! Everything here is a wish that is tried again until the replicated table or the configuration shows that it came true, since any
//! proposal may be lost with leadership. One membership entry is under way at a time.
//! A joiner is registered (it gets its id), added as a learner, caught up, and promoted while voters are fewer than the replication factor
//! and stay odd in number. A joiner at the peer address of a member that does not answer takes that member's place in one joint change.
//! A voter that has been gone for longer than `replace-after` gives its place to a learner that has caught up, also in one joint change: so
//! there are never fewer voters than before, and without a learner nothing happens. Absences add up until the voter has stayed for a while:
//! one that comes and goes is gone as well. Time in which it is heard never counts, however far it is behind.
//! A leader never removes itself: it hands leadership over first (raft 0.7.0 panics otherwise).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState};
use raftlog::entry::EntryKind;

use super::members::{Change, Ids, Member};
use super::{Core, Effect, LEVEL, Members, change_context};
use crate::error::RequestError;

/// Names a join or admin request between the core and the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// What a joiner is told.
#[derive(Clone, Debug, PartialEq)]
pub enum JoinAnswer {
    /// It is a member.
    Joined {
        /// Its id.
        node_id: u64,
        /// The table, so that it knows its peers before its snapshot arrives.
        members: Members,
    },
    /// Ask there.
    Leader(String),
    /// Ask again soon.
    Wait,
    /// It cannot become a member; the reason is one line.
    Refused(String),
}

/// What an administrator may ask the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminRequest {
    /// Remove a member for ever.
    Remove(u64),
    /// Hand leadership to a voter.
    Transfer(u64),
}

/// Entries a learner may be behind when it is promoted.
const CAUGHT_UP_ENTRIES: u64 = 1000;
/// How long a request waits for its wish to come true before it is told to come again.
const REQUEST_PATIENCE_MS: u64 = 3000;
/// How long a joint configuration may last before the leader proposes to leave it once more.
const JOINT_PATIENCE_MS: u64 = 2000;

struct Pending<T> {
    id: RequestId,
    ask: T,
    give_up_at_ms: u64,
}

/// Requests under way and the entry that serves them.
#[derive(Default)]
pub(super) struct Membership {
    joins: Vec<Pending<Member>>,
    admin: Vec<Pending<AdminRequest>>,
    /// Index of the membership entry proposed last, until it is applied or leadership changes.
    entry_in_flight: Option<(u64, u64)>,
    joint_since_ms: Option<u64>,
    /// Nodes whose removal was proposed and may still happen, whoever leads.
    removals_proposed: BTreeSet<u64>,
    absences: Absences,
    /// When it looked last, on the monotonic clock.
    looked_at_ms: u64,
}

/// How long a voter has to stay before its absence is forgotten: one of so many parts of the absence after which it is replaced.
const STAY_PARTS: u64 = 10;

/// The voters that this leader misses, or has missed a short while ago.
#[derive(Default)]
struct Absences(BTreeMap<u64, Absence>);

/// Times are in ms.
#[derive(Clone, Copy, Default)]
struct Absence {
    /// For how long it was missed, all in all.
    missed_ms: u64,
    /// For how long it has been back; `None` while it is missed.
    back_ms: Option<u64>,
}

impl Absences {
    /// Time has passed, with these voters, of which some are dead. Who was missed and stays for `stay_ms` was never away.
    fn pass(&mut self, passed_ms: u64, voters: &[u64], is_dead: impl Fn(u64) -> bool, stay_ms: u64) {
        self.0.retain(|voter, absence| {
            if is_dead(*voter) {
                *absence = Absence { missed_ms: absence.missed_ms + passed_ms, back_ms: None };
            } else {
                absence.back_ms = Some(absence.back_ms.unwrap_or(0) + passed_ms);
            }
            voters.contains(voter) && absence.back_ms.is_none_or(|back_ms| back_ms < stay_ms)
        });
        for voter in voters.iter().filter(|voter| is_dead(**voter)) {
            self.0.entry(*voter).or_default();
        }
    }

    /// Who is missed now, and was for the longest time, if that is so long.
    fn gone(&self, patience_ms: u64) -> Option<u64> {
        let gone = self.0.iter().filter(|(_, absence)| absence.back_ms.is_none() && absence.missed_ms >= patience_ms);
        gone.max_by_key(|(_, absence)| absence.missed_ms).map(|(voter, _)| *voter)
    }
}

impl Membership {
    pub(super) fn is_under_way(&self) -> bool {
        self.entry_in_flight.is_some() || !self.joins.is_empty() || !self.admin.is_empty()
    }
}

impl Core {
    /// A node asks to become a member, or, when `node` has an id, a member tells its addresses and level.
    pub fn join(&mut self, id: RequestId, cluster_id: Option<&str>, node: Member) {
        let give_up_at_ms = self.now.mono_ms + REQUEST_PATIENCE_MS;
        // A member without data does not know its own cluster yet.
        if self.applied.members.members.is_empty() {
            return self.effects.push(Effect::AnswerJoin(id, JoinAnswer::Wait));
        }
        if cluster_id.is_some_and(|wanted| wanted != self.applied.members.cluster_id) {
            let text = format!("this is cluster {}, not the one asked for", self.applied.members.cluster_id);
            return self.effects.push(Effect::AnswerJoin(id, JoinAnswer::Refused(text)));
        }
        if node.level < self.applied.members.level {
            let text = format!("the cluster needs feature level {}, the node supports {}", self.applied.members.level, node.level);
            return self.effects.push(Effect::AnswerJoin(id, JoinAnswer::Refused(text)));
        }
        if !self.group.is_leader() {
            return self.effects.push(Effect::AnswerJoin(id, self.where_the_leader_is()));
        }
        self.membership.joins.push(Pending { id, ask: node, give_up_at_ms });
        self.answer_members();
        self.tend_members();
    }

    /// An administrator's request.
    pub fn admin(&mut self, id: RequestId, ask: AdminRequest) {
        let refused = match ask {
            _ if !self.group.is_leader() => Some(RequestError::NoLeader),
            AdminRequest::Remove(node) => self.why_not_remove(node),
            AdminRequest::Transfer(node) if !self.group.configuration().voters.contains(&node) => {
                Some(RequestError::Refused(format!("node {node} is not a voter").into()))
            }
            AdminRequest::Transfer(_) => None,
        };
        if let Some(error) = refused {
            return self.effects.push(Effect::AnswerAdmin(id, Err(error)));
        }
        if let AdminRequest::Transfer(node) = ask {
            self.group.transfer_leader(node);
        }
        self.membership.admin.push(Pending { id, ask, give_up_at_ms: self.now.mono_ms + REQUEST_PATIENCE_MS });
        self.answer_members();
        self.tend_members();
    }

    fn where_the_leader_is(&self) -> JoinAnswer {
        let leader = self.group.leader().and_then(|leader| self.applied.members.get(leader));
        leader.map_or(JoinAnswer::Wait, |leader| JoinAnswer::Leader(leader.addresses.peer.clone()))
    }

    fn why_not_remove(&self, node: u64) -> Option<RequestError> {
        if self.applied.members.get(node).is_none() {
            return Some(RequestError::Refused(format!("node {node} is not a member").into()));
        }
        let rest: Vec<u64> = self.group.configuration().voters.into_iter().filter(|voter| *voter != node).collect();
        if rest.is_empty() {
            return Some(RequestError::Refused("the last voter cannot be removed".into()));
        }
        let alive = rest.iter().filter(|voter| self.is_alive(**voter)).count();
        if alive <= rest.len() / 2 {
            return Some(RequestError::TryAgain("too few of the other voters answer".into()));
        }
        None
    }

    /// Answers the requests whose wishes have come true, and those that have to be asked elsewhere or later.
    pub(super) fn answer_members(&mut self) {
        if let Some((index, term)) = self.membership.entry_in_flight
            && (index <= self.applied.position.index || term != self.group.term())
        {
            self.membership.entry_in_flight = None;
        }
        let leads = self.group.is_leader();
        let configuration = self.group.configuration();
        let mut joins = std::mem::take(&mut self.membership.joins);
        joins.retain(|join| {
            let known = self.applied.members.by_incarnation(join.ask.incarnation);
            let answer = match known {
                Some(member) if is_same(member, &join.ask) && is_configured(&configuration, member.node_id) => {
                    Some(JoinAnswer::Joined { node_id: member.node_id, members: Members::clone(&self.applied.members) })
                }
                _ if !leads => Some(self.where_the_leader_is()),
                // A member that tells its addresses, and was removed, before it asked or since: it would be registered as a new one, under
                // an id that nobody uses.
                None if join.ask.node_id != 0 => Some(JoinAnswer::Refused(format!("node {} is no member any more", join.ask.node_id))),
                _ if join.give_up_at_ms <= self.now.mono_ms => Some(JoinAnswer::Wait),
                _ => None,
            };
            let waits = answer.is_none();
            self.effects.extend(answer.map(|answer| Effect::AnswerJoin(join.id, answer)));
            waits
        });
        self.membership.joins = joins;

        let mut admin = std::mem::take(&mut self.membership.admin);
        admin.retain(|pending| {
            let done = match pending.ask {
                AdminRequest::Remove(node) => self.applied.members.get(node).is_none(),
                AdminRequest::Transfer(node) => self.group.leader() == Some(node),
            };
            let answer = if done {
                Some(Ok(()))
            } else if pending.give_up_at_ms <= self.now.mono_ms || !leads && self.group.leader().is_some() {
                let may_happen = matches!(pending.ask, AdminRequest::Remove(node) if self.membership.removals_proposed.contains(&node));
                let never = RequestError::TryAgain("the change did not happen in time".into());
                Some(Err(if may_happen { RequestError::Unknown } else { never }))
            } else {
                None
            };
            let waits = answer.is_none();
            self.effects.extend(answer.map(|answer| Effect::AnswerAdmin(pending.id, answer)));
            waits
        });
        self.membership.admin = admin;
        self.membership.removals_proposed.retain(|node| self.applied.members.get(*node).is_some());
    }

    /// Proposes the next membership entry that brings a wish closer to coming true.
    pub(super) fn tend_members(&mut self) {
        self.answer_members();
        if !self.group.is_leader() || !self.group.can_serve_reads() {
            self.membership.joint_since_ms = None;
            self.membership.absences = Absences::default();
            return;
        }
        self.miss_voters();
        if self.membership.entry_in_flight.is_some() || self.group.has_pending_change() || self.group.is_transferring() {
            return;
        }
        let configuration = self.group.configuration();
        if !configuration.voters_outgoing.is_empty() {
            return self.leave_joint();
        }
        self.membership.joint_since_ms = None;
        let _one_step = self.tend_joins(&configuration)
            || self.tend_removals()
            || self.tend_strangers(&configuration)
            || self.tend_promotions(&configuration)
            || self.tend_replacements(&configuration)
            || self.tend_level();
    }

    /// raft leaves a joint configuration by itself, unless the leader changed at the wrong moment.
    fn leave_joint(&mut self) {
        let since = *self.membership.joint_since_ms.get_or_insert(self.now.mono_ms);
        if self.now.mono_ms - since >= JOINT_PATIENCE_MS {
            self.membership.joint_since_ms = None;
            self.propose_change(&[], None);
        }
    }

    fn tend_joins(&mut self, configuration: &ConfState) -> bool {
        let asks: Vec<Member> = self.membership.joins.iter().map(|join| join.ask.clone()).collect();
        asks.into_iter().any(|ask| self.tend_join(configuration, ask))
    }

    fn tend_join(&mut self, configuration: &ConfState, ask: Member) -> bool {
        let known = self.applied.members.by_incarnation(ask.incarnation).cloned();
        match known {
            Some(member) if is_same(&member, &ask) => match self.member_at(configuration, &member) {
                None => self.propose_change(&[(ConfChangeType::AddLearnerNode, member.node_id)], None),
                Some(other) if !self.is_dead(other) => false,
                Some(other) => {
                    let was_voter = configuration.voters.contains(&other);
                    let kind = if was_voter { ConfChangeType::AddNode } else { ConfChangeType::AddLearnerNode };
                    tracing::info!(joiner = member.node_id, replaced = other, "a joiner takes the place of a dead member");
                    let changes = [(kind, member.node_id), (ConfChangeType::RemoveNode, other)];
                    self.propose_change(&changes, Some(Change::Remove(Ids { ids: vec![other] })))
                }
            },
            // While the member at its address lives, it is another node at the same address by mistake, and is not given an id.
            None if self.member_at(configuration, &ask).is_some_and(|other| !self.is_dead(other)) => false,
            _ => self.propose_table_change(Change::Register(ask)),
        }
    }

    /// The configured member that has the peer address of another node.
    fn member_at(&self, configuration: &ConfState, node: &Member) -> Option<u64> {
        let mut members = self.applied.members.members.iter();
        let found = members.find(|other| {
            other.node_id != node.node_id && other.addresses.peer == node.addresses.peer && is_configured(configuration, other.node_id)
        });
        found.map(|other| other.node_id)
    }

    fn tend_removals(&mut self) -> bool {
        let wanted = self.membership.admin.iter().find_map(|pending| match pending.ask {
            AdminRequest::Remove(node) => Some(node),
            AdminRequest::Transfer(_) => None,
        });
        let Some(node) = wanted else { return false };
        if node == self.config.node_id {
            if let Some(to) = self.closest_voter(&[]) {
                self.group.transfer_leader(to);
            }
            return true;
        }
        let proposed = self.propose_change(&[(ConfChangeType::RemoveNode, node)], Some(Change::Remove(Ids { ids: vec![node] })));
        if proposed {
            self.membership.removals_proposed.insert(node);
        }
        proposed
    }

    /// A node that was registered and never configured, and whose join is not under way, has given up.
    fn tend_strangers(&mut self, configuration: &ConfState) -> bool {
        let strangers: Vec<u64> = self
            .applied
            .members
            .members
            .iter()
            .filter(|member| !is_configured(configuration, member.node_id))
            .filter(|member| !self.membership.joins.iter().any(|join| join.ask.incarnation == member.incarnation))
            .filter(|member| {
                self.applied
                    .members
                    .members
                    .iter()
                    .any(|other| other.node_id != member.node_id && other.addresses.peer == member.addresses.peer)
            })
            .map(|member| member.node_id)
            .collect();
        !strangers.is_empty() && self.propose_table_change(Change::Remove(Ids { ids: strangers }))
    }

    fn tend_promotions(&mut self, configuration: &ConfState) -> bool {
        let ready: Vec<u64> = self.ready_learners(configuration).collect();
        let voters = configuration.voters.len();
        let reachable = (voters + ready.len()).min(self.config.replication_factor);
        let target = if reachable.is_multiple_of(2) { reachable.saturating_sub(1) } else { reachable };
        if target <= voters {
            return false;
        }
        let changes: Vec<_> = ready.into_iter().take(target - voters).map(|learner| (ConfChangeType::AddNode, learner)).collect();
        self.propose_change(&changes, None)
    }

    /// The learners that can take part in decisions at once.
    fn ready_learners<'a>(&'a self, configuration: &'a ConfState) -> impl Iterator<Item = u64> + 'a {
        let last = self.group.log().last();
        configuration.learners.iter().copied().filter(move |learner| {
            let matched = self.group.progress(*learner).map_or(0, |(matched, _)| matched);
            self.hears(*learner) && matched + CAUGHT_UP_ENTRIES >= last && matched > 0
        })
    }

    /// Notes for how long voters are missed. A new leader begins anew, and the time in which this node itself stood still does not count: it
    /// could not have heard anybody.
    fn miss_voters(&mut self) {
        let passed_ms = self.now.mono_ms.saturating_sub(std::mem::replace(&mut self.membership.looked_at_ms, self.now.mono_ms));
        let passed_ms = if passed_ms < self.config.silence_max_ms { passed_ms } else { 0 };
        let Some(patience_ms) = self.config.replace_after_ms else { return };
        let voters = self.group.configuration().voters;
        let mut absences = std::mem::take(&mut self.membership.absences);
        absences.pass(passed_ms, &voters, |voter| self.is_dead(voter), patience_ms / STAY_PARTS);
        self.membership.absences = absences;
    }

    fn tend_replacements(&mut self, configuration: &ConfState) -> bool {
        let Some(patience_ms) = self.config.replace_after_ms else { return false };
        let Some(gone) = self.membership.absences.gone(patience_ms) else { return false };
        let Some(learner) = self.ready_learners(configuration).next() else { return false };
        tracing::warn!(voter = gone, learner, "a voter has been gone for too long: a learner takes its place");
        // It stays a member: should it come back, it is a spare, and need not copy everything again.
        self.propose_change(&[(ConfChangeType::AddNode, learner), (ConfChangeType::AddLearnerNode, gone)], None)
    }

    fn tend_level(&mut self) -> bool {
        let members = &self.applied.members;
        let supported = members.members.iter().map(|member| member.level).min().unwrap_or(members.level).min(LEVEL);
        supported > members.level && self.propose_table_change(Change::Level(supported))
    }

    fn propose_change(&mut self, changes: &[(ConfChangeType, u64)], with: Option<Change>) -> bool {
        let mut change = ConfChangeV2::default();
        let single = |(kind, node_id): &(ConfChangeType, u64)| {
            let mut single = ConfChangeSingle { node_id: *node_id, ..ConfChangeSingle::default() };
            single.set_change_type(*kind);
            single
        };
        change.set_changes(changes.iter().map(single).collect::<Vec<_>>().into());
        let context = with.map_or_else(Bytes::new, change_context);
        let proposed = self.group.propose_change(&change, context).is_ok();
        self.note_proposal(proposed)
    }

    fn propose_table_change(&mut self, change: Change) -> bool {
        let proposed = self.propose(EntryKind::Membership, change.encode_to_bytes()).is_ok();
        self.note_proposal(proposed)
    }

    fn note_proposal(&mut self, proposed: bool) -> bool {
        if proposed {
            self.membership.entry_in_flight = Some((self.group.last_index(), self.group.term()));
        }
        proposed
    }

    fn is_alive(&self, node: u64) -> bool {
        node == self.config.node_id || self.hears(node)
    }

    fn is_dead(&self, node: u64) -> bool {
        node != self.config.node_id && self.is_silent(node)
    }

    /// The living voter with the longest log, apart from this node and those excluded.
    pub(super) fn closest_voter(&self, excluded: &[u64]) -> Option<u64> {
        let voters = self.group.configuration().voters.into_iter();
        voters
            .filter(|voter| *voter != self.config.node_id && !excluded.contains(voter) && self.is_alive(*voter))
            .max_by_key(|voter| self.group.progress(*voter).map(|(matched, _)| matched))
    }
}

fn is_same(member: &Member, ask: &Member) -> bool {
    member.addresses == ask.addresses && member.level == ask.level
}

fn is_configured(configuration: &ConfState, node: u64) -> bool {
    [&configuration.voters, &configuration.learners, &configuration.voters_outgoing, &configuration.learners_next]
        .iter()
        .any(|nodes| nodes.contains(&node))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE_MS: u64 = 600;
    const STAY_MS: u64 = PATIENCE_MS / STAY_PARTS;
    const LOOK_MS: u64 = 20;

    /// Voter 2 of three is dead and alive in turn for so long each, in ms, beginning with dead. Says whether it is replaced at the end.
    fn is_replaced(phases_ms: &[u64]) -> bool {
        let mut absences = Absences::default();
        for (number, phase_ms) in phases_ms.iter().enumerate() {
            for _ in 0..phase_ms / LOOK_MS {
                absences.pass(LOOK_MS, &[1, 2, 3], |voter| voter == 2 && number % 2 == 0, STAY_MS);
                assert!(absences.gone(PATIENCE_MS).is_none_or(|gone| gone == 2 && number % 2 == 0), "only who is missed now is replaced");
            }
        }
        absences.gone(PATIENCE_MS).is_some()
    }

    #[test]
    fn absences_add_up_until_a_voter_has_stayed() {
        assert!(!is_replaced(&[PATIENCE_MS]), "counted from when it is missed first");
        assert!(is_replaced(&[PATIENCE_MS + LOOK_MS]));
        // It crashes again and again.
        assert!(is_replaced(&[200, 40, 200, 40, 200, 40, 200]));
        assert!(is_replaced(&[100, 40].repeat(7)[..13]));
        // It stayed in between.
        assert!(!is_replaced(&[580, STAY_MS, 580]));
        assert!(!is_replaced(&[580, STAY_MS, 580, STAY_MS, 580]));
        // It came back late, when no learner was there to take its place, and is behind.
        assert!(!is_replaced(&[10 * PATIENCE_MS, LOOK_MS]));
        assert!(!is_replaced(&[10 * PATIENCE_MS, STAY_MS, 100]));
        assert!(!is_replaced(&[0, 100 * PATIENCE_MS]), "who is heard may be as slow as it is");
    }

    #[test]
    fn who_is_gone_for_longest_is_replaced_first_and_nobody_who_has_no_vote() {
        let mut absences = Absences::default();
        absences.pass(0, &[1, 2, 3], |voter| voter == 3, STAY_MS);
        absences.pass(LOOK_MS, &[1, 2, 3], |voter| voter != 1, STAY_MS);
        absences.pass(PATIENCE_MS, &[1, 2, 3], |voter| voter != 1, STAY_MS);
        assert_eq!(absences.gone(PATIENCE_MS), Some(3));
        absences.pass(LOOK_MS, &[1, 2], |voter| voter != 1, STAY_MS);
        assert_eq!(absences.gone(PATIENCE_MS), Some(2));
    }
}
