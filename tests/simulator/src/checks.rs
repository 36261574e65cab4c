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
use raftlog::log::Persist;
use redraft::keyspace::group_range;
use redraft::node::core::{COLUMN_FAMILIES, GROUP, read_snapshot_contents};

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
}

/// The history of all nodes, as far as the checks need it.
#[derive(Default)]
pub struct Checks {
    /// Whether nothing is checked: what is left are the clients, and the end of the run.
    pub are_off: bool,
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
    /// Terms that had a leader.
    pub elections: u64,
}

fn contents(entry: &Entry) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&entry.data[..], &entry.context[..], entry.get_entry_type() as i32).hash(&mut hasher);
    hasher.finish()
}

impl Checks {
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
            return Err(format!("node {} voted for {voted} and for {vote} in term {}", message.from, message.term));
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
        };
        let before = self.seen.remove(&machine.slot).unwrap_or_default();
        now.led = if before.era == now.era { before.led } else { 0 };
        if before.era == now.era {
            if now.term < before.term || now.commit < before.commit || now.applied < before.applied {
                return Err(format!("node {node}: term, commit or applied index has fallen"));
            }
        } else if now.term < spoken {
            return Err(format!("node {node} comes back in term {}, but has spoken in term {spoken}", now.term));
        }
        if now.commit > group.last_index() {
            return Err(format!("node {node}: the commit index {} is beyond the log's end {}", now.commit, group.last_index()));
        }
        if machine.leads() {
            if now.led != now.term {
                now.led = now.term;
                self.begins_to_lead(machine, node, now.term)?;
            }
            if before.era != now.era || now.commit > before.commit {
                // Of the configurations of this step, the one that raft counted with.
                self.is_durable(machine, &before.configuration, &home, machines)
                    .or_else(|_| self.is_durable(machine, &now.configuration, &home, machines))?;
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

    /// The last committed entry is on the disks of a majority.
    fn is_durable(
        &self,
        leader: &Machine,
        configuration: &ConfState,
        home: &impl Fn(u64) -> Option<usize>,
        machines: &[Machine],
    ) -> Checked {
        if configuration.voters.is_empty() {
            return Err("no configuration".into());
        }
        let group = leader.life.as_ref().expect("it leads").core.group();
        let commit = group.commit_index();
        let Ok(entries) = group.log().entries(commit, commit + 1, None, GetEntriesContext::empty(false)) else { return Ok(()) };
        let mut batch = WriteBatch::default();
        Persist { entries, ..Persist::default() }.encode(GROUP, &mut batch);
        let Some(Change::Put(cf, key, value)) = batch.changes.first() else { return Ok(()) };
        let holds = |machine: &Machine| {
            machine.log.durable_view().get(*cf, key).is_ok_and(|stored| stored.as_ref() == Some(value))
                || read_snapshot_contents(machine.data.durable_view().as_ref()).is_ok_and(|contents| contents.position.index >= commit)
                || machine.durable_installation().is_some_and(|index| index >= commit)
        };
        for voters in [&configuration.voters, &configuration.voters_outgoing] {
            // A voter that has lost its disk may have had the entry.
            let copies = voters.iter().filter(|voter| home(**voter).is_none_or(|slot| holds(&machines[slot]))).count();
            if !voters.is_empty() && copies <= voters.len() / 2 {
                return Err(format!("entry {commit} is committed, but durable on {copies} of {} voters", voters.len()));
            }
        }
        Ok(())
    }
}

/// All replicated data of a view.
pub fn contents_of(view: &dyn View) -> Vec<(Cf, Bytes, Bytes)> {
    let families = (0..COLUMN_FAMILIES.len()).map(|cf| Cf(u8::try_from(cf).expect("few column families")));
    let items = |cf| {
        let items: Vec<_> = view.items(cf, &group_range(GROUP), Direction::Forward).collect();
        items.into_iter().map(move |item| item.map(|(key, value)| (cf, key, value)).expect("memory does not fail"))
    };
    families.flat_map(items).collect()
}
