//! What must hold at every step, whatever happens: Raft's safety properties (Ongaro & Ousterhout, figure 3), and those of our own that a
//! client cannot see.
//! Nodes are known by their ids, terms and indexes as everywhere; a check that fails ends the run with a sentence.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use raft::GetEntriesContext;
use raft::Storage as _;
use raft::eraftpb::{ConfState, Entry, Message, MessageType};
use raftlog::engine::{Cf, Change, Direction, View, WriteBatch};
use raftlog::log::{INITIAL_POSITION, LOG_COLUMN_FAMILIES, LogStore, Persist};
use redraft::keyspace::group_range;
use redraft::node::core::{COLUMN_FAMILIES, GROUP, read_snapshot_contents};

use crate::Oracle;
use crate::machine::Machine;

/// A property that does not hold.
pub type Checked = Result<(), String>;

/// What was seen of one life of a node.
#[derive(Clone, Default)]
struct Seen {
    era: u64,
    term: u64,
    commit: u64,
    applied: u64,
    led: u64,
    configuration: ConfState,
    /// What it has heard as a leader of the voters' logs, last, of those that are voters no longer too.
    matches: BTreeMap<u64, u64>,
}

/// The history of all nodes, as far as the checks need it.
#[derive(Default)]
pub struct Checks {
    /// Whether nothing is checked: what is left are the clients.
    are_off: bool,
    /// Who leads a term.
    leaders: BTreeMap<u64, u64>,
    /// Contents of the entry at an index and term, and the term of the one before it where that is known.
    logged: BTreeMap<(u64, u64), (u64, Option<u64>)>,
    /// Term and contents of the committed entry at an index, and a term in which it was committed already: an entry may be older than that.
    committed: BTreeMap<u64, (u64, u64, u64)>,
    seen: BTreeMap<usize, Seen>,
    /// The highest term in which a node of this id and incarnation has spoken.
    spoken: BTreeMap<(u64, u64), u64>,
    /// Whom it has voted for in a term.
    votes: BTreeMap<(u64, u64, u64), u64>,
    /// What nodes had on disks that they have lost.
    lost: BTreeMap<u64, Lost>,
    /// The last entries that leaders found committed, and who had them then.
    witnessed: BTreeMap<u64, Witnessed>,
    /// Terms that had a leader.
    pub elections: u64,
}

/// So many committed entries are remembered with their majorities.
const WITNESSED_MAX: usize = 200;

/// An entry as a log stores it.
struct Record {
    index: u64,
    cf: Cf,
    key: Bytes,
    value: Bytes,
}

impl Record {
    /// None if the entry is not in the log.
    fn of(log: &LogStore, index: u64) -> Option<Self> {
        let entries = log.entries(index, index + 1, None, GetEntriesContext::empty(false)).ok()?;
        let mut batch = WriteBatch::default();
        Persist { entries, ..Persist::default() }.encode(GROUP, &mut batch);
        let Some(Change::Put(cf, key, value)) = batch.changes.into_iter().next() else { return None };
        Some(Self { index, cf, key, value })
    }

    /// Whether a machine has it on its disks, as an entry or in its data.
    fn is_on(&self, machine: &Machine) -> bool {
        machine.log.durable_view().get(self.cf, &self.key).is_ok_and(|stored| stored.as_ref() == Some(&self.value))
            || durable_data(machine) >= self.index
    }
}

/// Up to where entries are in the data on a machine's disks.
fn durable_data(machine: &Machine) -> u64 {
    let contents = read_snapshot_contents(machine.data.durable_view().as_ref());
    contents.map_or(0, |contents| contents.position.index).max(machine.durable_installation().unwrap_or(0))
}

/// What was on disks that are gone.
struct Lost {
    log: BTreeMap<(Cf, Bytes), Bytes>,
    data: u64,
}

/// An entry that was committed, and the voters that had it on their disks at that moment.
struct Witnessed {
    record: Record,
    nodes: Vec<u64>,
}

fn contents(entry: &Entry) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&entry.data[..], &entry.context[..], entry.get_entry_type() as i32).hash(&mut hasher);
    hasher.finish()
}

impl Checks {
    /// The checks that somebody judges by.
    pub fn of(oracle: Oracle) -> Self {
        Self { are_off: oracle == Oracle::Clients, ..Self::default() }
    }

    /// Log matching: an index and a term name one entry, with one predecessor.
    pub fn logged(&mut self, entries: &[Entry]) -> Checked {
        if self.are_off {
            return Ok(());
        }
        let mut before = None;
        for entry in entries {
            let (known, known_before) = self.logged.entry((entry.index, entry.term)).or_insert((contents(entry), before));
            if *known != contents(entry) || (before.is_some() && known_before.is_some() && *known_before != before) {
                return Err(format!("log matching: there are two entries with index {} and term {}", entry.index, entry.term));
            }
            *known_before = known_before.or(before);
            before = Some(entry.term);
        }
        Ok(())
    }

    /// State machine safety: all nodes apply the same entry at an index.
    pub fn committed(&mut self, node: u64, in_term: u64, entries: &[Entry]) -> Checked {
        if self.are_off {
            return Ok(());
        }
        for entry in entries {
            let this = (entry.term, contents(entry));
            let known = self.committed.entry(entry.index).or_insert((this.0, this.1, in_term));
            known.2 = known.2.min(in_term);
            if (known.0, known.1) != this {
                return Err(format!(
                    "state machine safety: at index {} node {node} applies an entry of term {}, others one of term {}",
                    entry.index, entry.term, known.0
                ));
            }
        }
        Ok(())
    }

    /// A node speaks in terms that do not fall, and gives one vote in each.
    pub fn spoken(&mut self, incarnation: u64, message: &Message) -> Checked {
        let kind = message.get_msg_type();
        if self.are_off || matches!(kind, MessageType::MsgRequestPreVote | MessageType::MsgRequestPreVoteResponse) {
            return Ok(());
        }
        let spoken = self.spoken.entry((message.from, incarnation)).or_default();
        *spoken = message.term.max(*spoken);
        let vote = match kind {
            MessageType::MsgRequestVoteResponse if !message.reject => message.to,
            MessageType::MsgRequestVote => message.from,
            _ => return Ok(()),
        };
        let voted = *self.votes.entry((message.from, incarnation, message.term)).or_insert(vote);
        if voted != vote {
            return Err(format!("one vote: node {} voted for {voted} and for {vote} in term {}", message.from, message.term));
        }
        Ok(())
    }

    /// What a node says of itself after a step. `home` is the machine of a node, as long as that has its disks.
    pub fn node(&mut self, machine: &Machine, home: impl Fn(u64) -> Option<usize>, machines: &[Machine]) -> Checked {
        let Some(life) = machine.life.as_ref().filter(|_| !self.are_off) else { return Ok(()) };
        let (node, group) = (life.identity.node_id, life.core.group());
        let spoken = self.spoken.get(&(node, life.identity.incarnation)).copied().unwrap_or(0);
        let mut now = Seen {
            era: machine.era,
            term: group.term(),
            commit: group.commit_index(),
            applied: group.applied_index(),
            led: 0,
            configuration: group.configuration(),
            matches: BTreeMap::new(),
        };
        if machine.leads() {
            now.matches = now.configuration.voters.iter().map(|voter| (*voter, life.core.match_index(*voter))).collect();
        }
        let before = self.seen.remove(&machine.slot).unwrap_or_default();
        for (voter, matched) in before.matches.iter().filter(|_| before.era == now.era) {
            now.matches.entry(*voter).or_insert(*matched);
        }
        now.led = if before.era == now.era { before.led } else { 0 };
        if before.era == now.era {
            if now.term < before.term || now.commit < before.commit || now.applied < before.applied {
                return Err(format!("monotony: node {node}'s term, commit or applied index has fallen"));
            }
        } else if now.term < spoken {
            return Err(format!("monotony of terms: node {node} comes back in term {}, but has spoken in term {spoken}", now.term));
        }
        if now.commit > group.last_index() {
            return Err(format!("commit index: node {node}'s {} is beyond the log's end {}", now.commit, group.last_index()));
        }
        let has_led = before.era == now.era && before.led == before.term;
        if machine.leads() && now.led != now.term {
            now.led = now.term;
            self.begins_to_lead(machine, node, now.term)?;
        }
        if (machine.leads() || has_led) && (before.era != now.era || now.commit > before.commit) {
            // Of the configurations of this step, the one that raft counted with.
            let witnessed = Self::witness(&self.lost, machine, &before.configuration, &now.matches, &home, machines)
                .or_else(|_| Self::witness(&self.lost, machine, &now.configuration, &now.matches, &home, machines));
            match witnessed {
                Ok(witnessed) => self.witnessed.extend(witnessed.map(|witnessed| (witnessed.record.index, witnessed))),
                // It may have learned of its successor's commit in the step in which it learned of its successor.
                Err(_) if !machine.leads() => {}
                Err(problem) => return Err(problem),
            }
            while self.witnessed.len() > WITNESSED_MAX {
                self.witnessed.pop_first();
            }
        }
        self.seen.insert(machine.slot, now);
        Ok(())
    }

    /// Election safety and leader completeness.
    fn begins_to_lead(&mut self, machine: &Machine, node: u64, term: u64) -> Checked {
        self.elections += u64::from(!self.leaders.contains_key(&term));
        let leader = *self.leaders.entry(term).or_insert(node);
        if leader != node {
            return Err(format!("election safety: nodes {leader} and {node} lead in term {term}"));
        }
        let log = machine.life.as_ref().expect("it leads").core.group().log();
        for (index, (of, _, in_term)) in self.committed.iter().rev().take(50) {
            if *index >= log.first() && *in_term < term && log.term_at(*index) != Some(*of) {
                return Err(format!("leader completeness: node {node} leads in term {term} without the entry at {index} of term {of}"));
            }
        }
        Ok(())
    }

    /// A node loses its disks, or what is on one.
    pub fn loses(&mut self, node: u64, machine: &Machine) {
        let log = items(machine.log.durable_view().as_ref(), LOG_COLUMN_FAMILIES.len());
        let log = log.into_iter().map(|(cf, key, value)| ((cf, key), value)).collect();
        self.lost.insert(node, Lost { log, data: durable_data(machine) });
    }

    /// The last committed entry is on the disks of a majority. A voter that has lost its disks counts if it had the entry before and the
    /// leader had heard so: it is the leader's word that an entry is committed, and then that was a majority. None if the leader's log does
    /// not have the entry any more.
    fn witness(
        lost: &BTreeMap<u64, Lost>,
        leader: &Machine,
        configuration: &ConfState,
        matches: &BTreeMap<u64, u64>,
        home: &impl Fn(u64) -> Option<usize>,
        machines: &[Machine],
    ) -> Result<Option<Witnessed>, String> {
        if configuration.voters.is_empty() {
            return Err("durability: no configuration".into());
        }
        let core = &leader.life.as_ref().expect("it runs").core;
        let commit = core.group().commit_index();
        let Some(record) = Record::of(core.group().log(), commit) else { return Ok(None) };
        let had = |lost: &Lost| lost.data >= commit || lost.log.get(&(record.cf, record.key.clone())) == Some(&record.value);
        let has = |voter: &u64| match home(*voter) {
            Some(slot) => record.is_on(&machines[slot]),
            None => matches.get(voter).is_some_and(|matched| *matched >= commit) && lost.get(voter).is_some_and(had),
        };
        let mut nodes = Vec::new();
        for voters in [&configuration.voters, &configuration.voters_outgoing] {
            let copies: Vec<u64> = voters.iter().copied().filter(has).collect();
            if !voters.is_empty() && copies.len() <= voters.len() / 2 {
                return Err(format!("durability: entry {commit} is committed, but durable on {} of {} voters", copies.len(), voters.len()));
            }
            nodes.extend(copies);
        }
        Ok(Some(Witnessed { record, nodes }))
    }

    /// A client is told something, from the data as applied: all of that was committed, and is on the disks of the majority that had it then,
    /// as far as these have their disks.
    pub fn told(&self, machine: &Machine, home: impl Fn(u64) -> Option<usize>, machines: &[Machine]) -> Checked {
        let Some(life) = machine.life.as_ref().filter(|_| !self.are_off) else { return Ok(()) };
        let (node, index) = (life.identity.node_id, life.applied().position.index);
        if index <= INITIAL_POSITION.index {
            return Ok(());
        }
        let Some(Witnessed { record, nodes }) = self.witnessed.range(index..).next().map(|(_, witnessed)| witnessed) else {
            return Err(format!("answers: node {node} answers with entry {index} applied, which no leader has found committed"));
        };
        match nodes.iter().find(|voter| home(**voter).is_some_and(|slot| !record.is_on(&machines[slot]))) {
            Some(voter) => {
                Err(format!("answers: node {node} answers with entry {index} applied, which node {voter} has on its disks no longer"))
            }
            None => Ok(()),
        }
    }
}

/// All replicated data of a view.
pub fn contents_of(view: &dyn View) -> Vec<(Cf, Bytes, Bytes)> {
    items(view, COLUMN_FAMILIES.len())
}

/// What the group has in the column families of a view.
fn items(view: &dyn View, families: usize) -> Vec<(Cf, Bytes, Bytes)> {
    let families = (0..families).map(|cf| Cf(u8::try_from(cf).expect("few column families")));
    let items = |cf| {
        let items = view.items(cf, &group_range(GROUP), Direction::Forward);
        items.map(move |item| item.map(|(key, value)| (cf, key, value)).expect("memory does not fail"))
    };
    families.flat_map(items).collect()
}
