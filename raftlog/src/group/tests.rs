//! Three drivers over in-memory logs, with persisting, delivery and crashes in random order from a seed.

use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::engine::{Engine, MemoryEngine, WriteBatch};
use crate::log::{GroupId, INITIAL_POSITION, LOG_COLUMN_FAMILIES, encode_bootstrap};

const GROUP: GroupId = GroupId(1);

struct Member {
    engine: Arc<MemoryEngine>,
    group: Group,
    persists: VecDeque<Persist>,
    committed: VecDeque<Entry>,
    applied: Vec<Entry>,
}

fn voters() -> ConfState {
    ConfState { voters: vec![1, 2, 3], ..ConfState::default() }
}

fn open_as(engine: &Arc<MemoryEngine>, node_id: u64, applied: LogPosition, configuration: ConfState, seed: u64) -> Group {
    let config = GroupConfig {
        node_id,
        election_ticks: 10,
        heartbeat_ticks: 2,
        append_bytes_max: 1000,
        uncommitted_bytes_max: 1 << 20,
        committed_bytes_max: 1 << 20,
        seed: seed ^ node_id,
    };
    let engine: Arc<dyn Engine> = Arc::<MemoryEngine>::clone(engine);
    let store = LogStore::open(engine, GROUP, applied, configuration, None).expect("the log is intact");
    Group::open(config, store, applied.index).expect("the state is consistent")
}

fn open(engine: &Arc<MemoryEngine>, node_id: u64, applied: LogPosition, seed: u64) -> Group {
    open_as(engine, node_id, applied, voters(), seed)
}

/// The log of a founding member.
fn founded() -> Arc<MemoryEngine> {
    let engine = Arc::new(MemoryEngine::new(LOG_COLUMN_FAMILIES.len()));
    let mut batch = WriteBatch::default();
    encode_bootstrap(GROUP, &mut batch);
    engine.write(&batch).expect("memory does not fail");
    engine.sync().expect("memory does not fail");
    engine
}

impl Member {
    fn new(node_id: u64, seed: u64) -> Self {
        let engine = founded();
        let group = open(&engine, node_id, INITIAL_POSITION, seed);
        Self::with(engine, group)
    }

    fn with(engine: Arc<MemoryEngine>, group: Group) -> Self {
        Self { engine, group, persists: VecDeque::new(), committed: VecDeque::new(), applied: Vec::new() }
    }

    fn restart(&mut self, node_id: u64, random: &mut SmallRng) {
        let kept = random.random_range(0..=self.engine.unsynced());
        self.engine.crash(kept);
        // The data survives up to some applied index; the log must hold what follows.
        self.applied.truncate(random.random_range(0..=self.applied.len()));
        let applied = self.applied.last().map_or(INITIAL_POSITION, |entry| LogPosition { index: entry.index, term: entry.term });
        self.group = open(&self.engine, node_id, applied, random.random());
        self.persists.clear();
        self.committed.clear();
    }

    /// Stores the oldest persist; its messages may leave.
    fn persist_one(&mut self) -> Vec<Message> {
        let Some(persist) = self.persists.pop_front() else { return Vec::new() };
        let mut batch = WriteBatch::default();
        persist.encode(GROUP, &mut batch);
        self.engine.write(&batch).expect("memory does not fail");
        if persist.must_sync {
            self.engine.sync().expect("memory does not fail");
        }
        self.group.persisted(persist.number);
        persist.messages
    }

    fn apply_one(&mut self) {
        if let Some(entry) = self.committed.pop_front() {
            self.group.applied(entry.index);
            self.applied.push(entry);
        }
    }
}

fn run(seed: u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut members: Vec<_> = (1..=3).map(|id| Member::new(id, seed)).collect();
    let mut network: Vec<Message> = Vec::new();
    let mut acknowledged: Vec<Entry> = Vec::new();
    let mut proposed = 0u64;
    for step in 0..6000 {
        let faulty = step < 5000;
        let at = random.random_range(0..3);
        match random.random_range(0..if faulty { 1000 } else { 995 }) {
            0..100 => members[at].group.tick(),
            100..300 => {
                let messages = members[at].persist_one();
                network.extend(messages);
            }
            300..500 => members[at].apply_one(),
            500..560 => {
                proposed += 1;
                // A refusal is certain; what is taken is found in the log or not.
                let _ = members[at].group.propose(vec![Bytes::from(proposed.to_string())]);
            }
            560..995 => {
                if !network.is_empty() {
                    let message = network.swap_remove(random.random_range(0..network.len()));
                    let lost = faulty && random.random_range(0..20) == 0;
                    if !lost {
                        members[usize::try_from(message.to - 1).expect("small")].group.step(message);
                    }
                }
            }
            _ => members[at].restart(at as u64 + 1, &mut random),
        }
        let effects = members[at].group.effects();
        network.extend(effects.messages);
        members[at].persists.extend(effects.persists);
        members[at].committed.extend(effects.committed);
        // State machine safety: whatever anybody applied at an index is what everybody applies there, crash or not.
        for member in &members {
            for entry in &member.applied {
                let at = usize::try_from(entry.index - INITIAL_POSITION.index - 1).expect("small");
                match acknowledged.get(at) {
                    Some(known) => assert_eq!(known, entry, "seed {seed}, step {step}"),
                    None => acknowledged.push(entry.clone()),
                }
            }
        }
    }
    assert!(acknowledged.len() > 20, "seed {seed}: the group made progress ({} entries)", acknowledged.len());
}

#[test]
fn what_is_applied_once_is_applied_everywhere() {
    for seed in 0..30 {
        run(seed);
    }
}

#[test]
fn a_sole_voter_sends_nothing_of_a_new_term_before_it_is_durable() {
    let configuration = ConfState { voters: vec![1], learners: vec![2], ..ConfState::default() };
    let mut group = open_as(&founded(), 1, INITIAL_POSITION, configuration, 0);
    group.campaign();
    let effects = group.effects();
    assert!(group.is_leader());
    assert!(effects.messages.is_empty());
    assert!(effects.persists.iter().any(|persist| persist.must_sync && !persist.messages.is_empty()));
    assert!(!group.can_serve_reads() && effects.committed.is_empty());
    // Not even a heartbeat of a later turn may leave.
    for _ in 0..5 {
        group.tick();
    }
    let later = group.effects();
    assert!(later.messages.is_empty() && later.persists.iter().any(|persist| !persist.messages.is_empty()));
    let last = effects.persists.last().expect("the new term is persisted").number;
    group.persisted(last);
    assert_eq!(group.effects().committed.len(), 1);
    assert!(group.can_serve_reads());
}

#[test]
fn a_follower_whose_apply_lags_refuses_entries_but_answers_heartbeats() {
    const ENTRIES: u64 = 5;
    let mut member = Member::new(2, 1);
    let value = Bytes::from(vec![0; UNAPPLIED_BYTES_MAX / 4]);
    let from_leader = |kind, commit| {
        let mut message = Message { from: 1, to: 2, term: 6, commit, ..Message::default() };
        message.set_msg_type(kind);
        message
    };
    let append = |after: LogPosition, count: u64| {
        let entry = |index| Entry { index, term: 6, data: value.clone(), ..Entry::default() };
        let entries: Vec<_> = (after.index + 1..=after.index + count).map(entry).collect();
        Message { index: after.index, log_term: after.term, entries: entries.into(), ..from_leader(MessageType::MsgAppend, 0) }
    };
    // What the follower answers, when everything is durable that it asked for.
    let step = |member: &mut Member, message| -> Vec<MessageType> {
        member.group.step(message);
        let mut answers = Vec::new();
        loop {
            let effects = member.group.effects();
            answers.extend(effects.messages.iter().map(Message::get_msg_type));
            member.persists.extend(effects.persists);
            member.committed.extend(effects.committed);
            if member.persists.is_empty() {
                return answers;
            }
            answers.extend(member.persist_one().iter().map(Message::get_msg_type));
        }
    };
    let last = LogPosition { index: INITIAL_POSITION.index + ENTRIES, term: 6 };
    step(&mut member, append(INITIAL_POSITION, ENTRIES));
    step(&mut member, from_leader(MessageType::MsgHeartbeat, last.index));
    assert_eq!(member.committed.len() as u64, ENTRIES, "all of it waits for apply");
    assert!(step(&mut member, append(last, 1)).is_empty());
    assert_eq!(member.group.log().last(), last.index);
    assert_eq!(step(&mut member, from_leader(MessageType::MsgHeartbeat, last.index)), [MessageType::MsgHeartbeatResponse]);
    while !member.committed.is_empty() {
        member.apply_one();
    }
    step(&mut member, append(last, 1));
    assert_eq!(member.group.log().last(), last.index + 1, "and is taken when apply has caught up");
}

#[test]
fn the_answer_to_a_heartbeat_waits_for_the_disk_in_a_new_term_only() {
    let mut member = Member::new(2, 1);
    let mut heartbeat = Message { from: 1, to: 2, term: 6, ..Message::default() };
    heartbeat.set_msg_type(MessageType::MsgHeartbeat);
    member.group.step(heartbeat.clone());
    let effects = member.group.effects();
    assert!(effects.messages.is_empty());
    let relying: usize = effects.persists.iter().map(|persist| persist.messages.len()).sum();
    assert_eq!(relying, 1);
    // Another of this term is no better while the first waits.
    member.group.step(heartbeat.clone());
    let again = member.group.effects();
    assert!(again.messages.is_empty());
    member.group.persisted(again.persists.last().or(effects.persists.last()).expect("the term is persisted").number);
    member.group.step(heartbeat);
    let kinds: Vec<_> = member.group.effects().messages.iter().map(Message::get_msg_type).collect();
    assert_eq!(kinds, [MessageType::MsgHeartbeatResponse]);
}

#[test]
fn a_leader_that_is_removed_leads_no_longer() {
    let mut member = Member::new(1, 7);
    member.group.campaign();
    // First the others would vote, then they do.
    for kind in [MessageType::MsgRequestPreVoteResponse, MessageType::MsgRequestVoteResponse] {
        let persists = member.group.effects().persists;
        member.persists.extend(persists);
        while !member.persists.is_empty() {
            member.persist_one();
        }
        for from in [2, 3] {
            let term = if kind == MessageType::MsgRequestVoteResponse { member.group.term() } else { member.group.term() + 1 };
            let mut vote = Message { from, to: 1, term, ..Message::default() };
            vote.set_msg_type(kind);
            member.group.step(vote);
        }
    }
    assert!(member.group.is_leader());
    let mut change = raft::eraftpb::ConfChangeSingle { node_id: 1, ..Default::default() };
    change.set_change_type(raft::eraftpb::ConfChangeType::RemoveNode);
    let removal = ConfChangeV2 { changes: vec![change].into(), ..ConfChangeV2::default() };
    assert_eq!(member.group.apply_change(&removal).expect("two voters are left").voters.len(), 2);
    assert!(!member.group.is_leader());
    // What it had on the way to its disk still arrives there.
    member.persists.extend(member.group.effects().persists);
    assert!(!member.persists.is_empty());
    while !member.persists.is_empty() {
        member.persist_one();
    }
}

#[test]
fn elections_and_leaders_are_counted_by_term() {
    let mut member = Member::new(1, 7);
    let step = |member: &mut Member, kind, from, term| {
        let mut message = Message { from, to: 1, term, ..Message::default() };
        message.set_msg_type(kind);
        member.group.step(message);
        member.persists.extend(member.group.effects().persists);
        while !member.persists.is_empty() {
            member.persist_one();
        }
    };
    let first = member.group.term();
    // Three times the others would vote for it, and then they do not.
    for elections in 0..3 {
        member.group.campaign();
        member.group.campaign();
        assert_eq!(member.group.counts, GroupCounts { elections, leaders: 0 }, "nobody has stood yet");
        for from in [2, 3] {
            step(&mut member, MessageType::MsgRequestPreVoteResponse, from, first + elections + 1);
        }
        assert_eq!(member.group.counts, GroupCounts { elections: elections + 1, leaders: 0 });
    }
    let term = member.group.term();
    assert_eq!(term, first + 3);
    for (from, term) in [(2, term), (2, term), (3, term + 1), (2, term + 5), (2, term + 5)] {
        step(&mut member, MessageType::MsgHeartbeat, from, term);
    }
    assert_eq!(member.group.take_counts(), GroupCounts { elections: 3, leaders: 3 });
    assert_eq!(member.group.take_counts(), GroupCounts::default());
}

#[test]
fn only_news_of_a_commit_that_a_later_append_tells_too_is_dropped() {
    let message = |kind, to, index, entries: usize, commit| {
        let mut message = Message { to, term: 4, index, log_term: 3, commit, ..Message::default() };
        message.set_entries(vec![Entry::default(); entries].into());
        message.set_msg_type(kind);
        message
    };
    let append = |to, index, entries, commit| message(MessageType::MsgAppend, to, index, entries, commit);
    let kept = |messages: &[Message]| {
        let mut left = messages.to_vec();
        drop_overtaken(&mut left);
        messages.iter().map(|message| left.contains(message)).collect::<Vec<_>>()
    };
    let with_entries = append(2, 7, 1, 5);
    assert_eq!(kept(&[append(2, 7, 0, 5), append(3, 7, 0, 5), with_entries.clone()]), [false, true, true]);
    assert_eq!(kept(&[append(2, 7, 0, 4), append(2, 7, 0, 5)]), [false, true], "the last of them stays");
    assert_eq!(kept(&[with_entries.clone(), append(2, 7, 0, 5)]), [true, true], "what comes later may tell more");
    assert_eq!(kept(&[append(2, 7, 2, 5), with_entries.clone()]), [true, true], "entries stay");
    assert_eq!(kept(&[append(2, 7, 0, 6), with_entries.clone()]), [true, true], "so does a higher commit index");
    assert_eq!(kept(&[append(2, 6, 0, 5), with_entries]), [true, true], "and one that begins elsewhere");
    assert_eq!(kept(&[message(MessageType::MsgHeartbeat, 2, 7, 0, 5), append(2, 7, 1, 5)]), [true, true]);
}

#[test]
fn a_follower_waits_for_its_disk_only_with_what_is_committed() {
    let mut member = Member::new(2, 1);
    let append = |index: u64, commit: u64| {
        let entry = Entry { index: index + 1, term: 6, ..Entry::default() };
        let log_term = if index == INITIAL_POSITION.index { INITIAL_POSITION.term } else { 6 };
        let mut message = Message { from: 1, to: 2, term: 6, index, log_term, commit, entries: vec![entry].into(), ..Message::default() };
        message.set_msg_type(MessageType::MsgAppend);
        message
    };
    let first = INITIAL_POSITION.index;
    // With the new term, and whether it has told anybody of it.
    member.group.step(append(first, first));
    member.persists.extend(member.group.effects().persists);
    assert!(member.group.waits_for_persist(), "answers of the new term wait");
    let settle = |member: &mut Member| {
        while !member.persists.is_empty() {
            member.persist_one();
        }
        let effects = member.group.effects();
        member.persists.extend(effects.persists);
        effects.committed.len()
    };
    settle(&mut member);
    assert!(!member.group.waits_for_persist());
    member.group.step(append(first + 1, first));
    member.persists.extend(member.group.effects().persists);
    assert!(!member.persists.is_empty() && !member.group.waits_for_persist(), "nobody says that it is committed");
    member.group.step(append(first + 2, first + 2));
    let effects = member.group.effects();
    member.persists.extend(effects.persists);
    assert!(member.group.waits_for_persist(), "what is committed can be applied when it is durable");
    assert_eq!(effects.committed.len() + settle(&mut member), 2);
    assert!(!member.group.waits_for_persist());
}

#[test]
fn a_change_takes_effect_when_it_is_durable_that_it_is_committed() {
    let sole_voter = ConfState { voters: vec![1], ..ConfState::default() };
    let engine = founded();
    let mut member = Member::with(Arc::clone(&engine), open_as(&engine, 1, INITIAL_POSITION, sole_voter.clone(), 0));
    let turn = |member: &mut Member| {
        let effects = member.group.effects();
        member.persists.extend(effects.persists);
        member.committed.extend(effects.committed);
    };
    member.group.campaign();
    let mut change = raft::eraftpb::ConfChangeSingle { node_id: 2, ..Default::default() };
    change.set_change_type(raft::eraftpb::ConfChangeType::AddNode);
    let addition = ConfChangeV2 { changes: vec![change].into(), ..ConfChangeV2::default() };
    turn(&mut member);
    member.persist_one();
    turn(&mut member);
    member.group.propose_change(&addition, Bytes::new()).expect("nothing else is under way");
    let is_change = |entry: &Entry| entry.get_entry_type() != EntryType::EntryNormal;
    while !member.committed.iter().any(is_change) {
        assert!(member.group.changes_are_durable(), "there is none");
        member.persist_one();
        turn(&mut member);
    }
    while !member.persists.is_empty() {
        assert!(!member.group.changes_are_durable());
        member.persist_one();
    }
    assert!(member.group.changes_are_durable());

    // The power fails, and the data know nothing of the change.
    engine.crash(0);
    let mut group = open_as(&engine, 1, INITIAL_POSITION, sole_voter, 0);
    group.campaign();
    assert!(!group.is_leader(), "two voters are committed");
    for entry in group.effects().committed {
        if is_change(&entry) {
            group.apply_change(&addition).expect("a possible change");
        }
        group.applied(entry.index);
    }
    group.campaign();
    assert!(!group.is_leader() && group.configuration().voters.len() == 2);
}

#[test]
fn a_turn_reads_one_message_from_the_disk_for_a_follower_that_is_far_behind() {
    let configuration = ConfState { voters: vec![1], learners: vec![2], ..ConfState::default() };
    let engine = founded();
    let mut member = Member::with(Arc::clone(&engine), open_as(&engine, 1, INITIAL_POSITION, configuration, 0));
    let turn = |member: &mut Member| -> Vec<Message> {
        let effects = member.group.effects();
        member.persists.extend(effects.persists);
        member.committed.extend(effects.committed);
        let mut messages = effects.messages;
        while !member.persists.is_empty() {
            messages.extend(member.persist_one());
        }
        while !member.committed.is_empty() {
            member.apply_one();
        }
        messages
    };
    member.group.campaign();
    let mut sent = turn(&mut member);
    // More than the cache holds, each entry larger than a message is meant to be.
    for _ in 0..80 {
        member.group.propose(vec![vec![7; 1 << 20].into()]).expect("little is uncommitted");
        sent.extend(turn(&mut member));
        sent.extend(turn(&mut member));
    }
    let (first_cached, last) = (member.group.log().cached_from(), member.group.log().last());
    assert!(first_cached > INITIAL_POSITION.index + 20, "{first_cached}");

    // The learner answers the first append that it got, with which it was probed.
    let probe = sent.iter().find(|message| message.get_msg_type() == MessageType::MsgAppend).expect("the learner is probed");
    let answer = |member: &mut Member, index| {
        let mut answer = Message { from: 2, to: 1, term: member.group.term(), index, ..Message::default() };
        answer.set_msg_type(MessageType::MsgAppendResponse);
        member.group.step(answer);
    };
    answer(&mut member, probe.index);
    let mut next = probe.index + 1;
    let mut turns = 0;
    let entries = |messages: Vec<Message>| -> Vec<u64> {
        let appends = messages.into_iter().filter(|message| message.get_msg_type() == MessageType::MsgAppend);
        appends.flat_map(|message| message.entries.into_iter().map(|entry| entry.index)).collect()
    };
    loop {
        let sent = entries(turn(&mut member));
        assert!(sent.iter().copied().eq(next..next + sent.len() as u64), "{sent:?} after {next}");
        assert!(sent.len() <= 2, "{sent:?} in a turn: one for the event, one that was put off");
        next += sent.len() as u64;
        turns += 1;
        if !member.group.wants_turn() {
            break;
        }
    }
    assert_eq!((next, turns > 20), (first_cached, true), "all that is read from the disk is on its way, in {turns} turns");
    // The rest follows as soon as the learner answers.
    answer(&mut member, next - 1);
    assert!(entries(turn(&mut member)).into_iter().eq(next..=last));
}
