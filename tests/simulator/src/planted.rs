//! Bugs planted on purpose, to see that the simulator finds them. Each is a faulty version of what the simulator puts in the place of the
//! shell, the disk or the peer port; nothing of this is part of the product.

use raft::eraftpb::{Entry, EntryType, HardState};
use raftlog::engine::{Cf, Change, WriteBatch};
use raftlog::entry::Envelope;
use redraft::keyspace::{META, STATE};

/// A faulty implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The log writer reports and answers before its sync.
    AckBeforeSync,
    /// The applied position is written in a batch of its own, before the data. (After them, repeated entries find that their runs were
    /// executed.)
    AppliedApart,
    /// Reads are answered from the node's own data at once.
    ReadWithoutRound,
    /// A follower takes any answer of the leader for the answer to its present read round.
    ReusedReadContext,
    /// Data counts as durable without a sync, so that the log is truncated too early.
    TruncateBeforeSync,
    /// After a reconnection the entry node sends its runs once more as new ones.
    ForwardTwice,
    /// Apply judges expiry by the node's own clock instead of the entry's stamp.
    LocalClock,
    /// The vote is kept in memory alone.
    VoteInMemory,
    /// An interrupted installation of a snapshot is taken for a finished one.
    HalfSnapshot,
    /// A wiped machine comes back with its node id, and the peers let it in.
    ReusedNodeId,
    /// A crash loses the configuration that was applied last, but not the applied position.
    LostConfiguration,
    /// One replica applies something that depends on itself.
    NondeterministicApply,
    /// Votes leave before they are durable.
    EarlyVotes,
    /// A log that has lost its tail is taken as it is.
    ShortLogAccepted,
    /// A member that is behind takes no newer table of members, and so does not let in a leader that joined meanwhile.
    OldMembers,
}

impl Bug {
    /// All of them, in the order of the table in the documentation.
    pub const ALL: [Self; 15] = [
        Self::AckBeforeSync,
        Self::AppliedApart,
        Self::ReadWithoutRound,
        Self::ReusedReadContext,
        Self::TruncateBeforeSync,
        Self::ForwardTwice,
        Self::LocalClock,
        Self::VoteInMemory,
        Self::HalfSnapshot,
        Self::ReusedNodeId,
        Self::LostConfiguration,
        Self::NondeterministicApply,
        Self::EarlyVotes,
        Self::ShortLogAccepted,
        Self::OldMembers,
    ];

    /// What the finding of a run with it begins with. It was not found by a run that ends with anything else.
    pub const fn finding(self) -> &'static str {
        match self {
            Self::AckBeforeSync => "durability: ",
            Self::AppliedApart => "refusal to start: corrupt data: the place within an entry ",
            Self::ReadWithoutRound | Self::ReusedReadContext | Self::ForwardTwice => "linearizability: ",
            Self::TruncateBeforeSync => "refusal to start: the Raft log is damaged: it begins at ",
            Self::LocalClock | Self::LostConfiguration | Self::NondeterministicApply => "different data: ",
            Self::VoteInMemory => "one vote: ",
            Self::HalfSnapshot => "refusal to start: the Raft log is damaged: it ends at ",
            Self::ReusedNodeId | Self::OldMembers => "not at rest: ",
            Self::EarlyVotes => "monotony of terms: ",
            Self::ShortLogAccepted => "panic: to_commit ",
        }
    }
}

/// A bug in what is written to `data/`.
#[derive(Debug)]
pub enum DataFault {
    /// See `Bug::AppliedApart`.
    AppliedApart,
    /// See `Bug::NondeterministicApply`.
    Nondeterministic,
}

impl DataFault {
    /// The fault that a bug is on the machine in this slot.
    pub fn of(bug: Bug, slot: usize) -> Option<Self> {
        match bug {
            Bug::AppliedApart => Some(Self::AppliedApart),
            Bug::NondeterministicApply if slot == 1 => Some(Self::Nondeterministic),
            _ => None,
        }
    }

    /// What is written in the place of a batch.
    pub fn distort(&self, batch: &WriteBatch) -> Vec<WriteBatch> {
        match self {
            Self::AppliedApart => {
                let is_position = |change: &Change| matches!(change, Change::Put(STATE, key, _) if key.ends_with(b"raft/applied"));
                let (position, data) = batch.changes.iter().cloned().partition(is_position);
                vec![WriteBatch { changes: position }, WriteBatch { changes: data }]
            }
            Self::Nondeterministic => {
                let mut batch = batch.clone();
                for change in &mut batch.changes {
                    if let Change::Put(cf, key, value) = change
                        && is_unlucky(*cf, key, value)
                    {
                        let mut bytes = value.to_vec();
                        *bytes.last_mut().expect("not empty") ^= 1;
                        *value = bytes.into();
                    }
                }
                vec![batch]
            }
        }
    }
}

/// One record in a hundred.
fn is_unlucky(cf: Cf, key: &[u8], value: &[u8]) -> bool {
    cf == META
        && !value.is_empty()
        && key.iter().chain(value).fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into())) % 100 == 0
}

/// An entry that is stamped with a node's own time.
pub fn stamped(entry: &Entry, now_ms: u64) -> Entry {
    match Envelope::read(entry.data.clone()) {
        Ok(envelope) if entry.get_entry_type() == EntryType::EntryNormal => {
            Entry { data: Envelope { now_ms, ..envelope }.encode_to_bytes(), ..entry.clone() }
        }
        Ok(_) | Err(_) => entry.clone(),
    }
}

/// A hard state without its vote.
pub fn without_vote(hard_state: &HardState) -> HardState {
    HardState { vote: 0, ..hard_state.clone() }
}
