//! The node's state at one moment, as INFO, RAFT and the admin listener tell it: published by the core's thread, never changed.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use raft::ProgressState;

use super::core::{Core, Member, Members};
use super::snapshot::{Pace, Surroundings};
use super::storage::Identity;
use crate::info::role_name;

/// A role in the Raft group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Orders the log.
    Leader,
    /// Votes and replicates.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Replicates without a vote.
    Learner,
}

/// One member of the group as this node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// The member's id.
    pub node_id: u64,
    /// Where clients reach it.
    pub listen: String,
    /// Where peers reach it.
    pub peer: String,
    /// Where its admin port is.
    pub admin: String,
    /// Whether it votes.
    pub voter: bool,
    /// What the leader knows to be on the member's disk; on a follower as of its last read round.
    pub match_index: u64,
    /// What the leader sends it next; 0 elsewhere.
    pub next_index: u64,
    /// How the leader sends to it.
    pub state: PeerState,
    /// Whether it answered the leader within the last election timeout; elsewhere no.
    pub active: bool,
    /// Bytes of the entries that the leader does not know to be on the member's disk, as far as its log still has them; 0 elsewhere.
    pub lag_bytes: u64,
    /// A snapshot that is being sent to it.
    pub snapshot: Option<SnapshotSent>,
}

/// How much of a snapshot was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotSent {
    /// Bytes of its files that were sent.
    pub sent_bytes: u64,
    /// Bytes of all of its files; 0 until they are known.
    pub total_bytes: u64,
}

impl SnapshotSent {
    /// The part of it that was sent, from 0 to 1.
    #[must_use]
    pub fn progress(self) -> f64 {
        self.sent_bytes as f64 / self.total_bytes.max(1) as f64
    }
}

/// The same, while it grows: whoever sends counts, and takes its time while the node has other work; whoever tells of it reads.
#[derive(Default)]
pub struct SnapshotCount {
    sent_bytes: AtomicU64,
    total_bytes: AtomicU64,
    /// With what tells how the node is. A mutex because it is shared with those who read.
    pace: Mutex<(Pace, Option<Box<dyn Surroundings + Send>>)>,
}

impl fmt::Debug for SnapshotCount {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(out)
    }
}

impl SnapshotCount {
    pub(super) fn new(surroundings: Box<dyn Surroundings + Send>) -> Self {
        Self { pace: Mutex::new((Pace::default(), Some(surroundings))), ..Self::default() }
    }

    /// There are so many bytes in all.
    pub fn begin(&self, total_bytes: u64) {
        self.total_bytes.store(total_bytes, Ordering::Relaxed);
    }

    /// So many bytes more were sent. Blocks for a while when the node has other work.
    pub fn add(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let (pace, surroundings) = &mut *self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.advance(bytes, || surroundings.as_ref().is_some_and(|surroundings| surroundings.is_busy()));
    }

    /// As it is now.
    #[must_use]
    pub fn get(&self) -> SnapshotSent {
        SnapshotSent { sent_bytes: self.sent_bytes.load(Ordering::Relaxed), total_bytes: self.total_bytes.load(Ordering::Relaxed) }
    }
}

/// How a leader sends to a peer, as raft calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// One append at a time, until it is known what the peer has.
    Probe,
    /// As fast as it goes.
    Replicate,
    /// A snapshot is on its way.
    Snapshot,
    /// This node does not lead, or is that peer.
    Unknown,
}

/// The node's state at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// 40 hex digits that name the cluster.
    pub cluster_id: String,
    /// This node's id; 0 before it is a member.
    pub node_id: u64,
    /// Its role.
    pub role: Role,
    /// Current term.
    pub term: u64,
    /// The known leader.
    pub leader_id: Option<u64>,
    /// Highest committed index known here.
    pub commit_index: u64,
    /// Highest applied index.
    pub applied_index: u64,
    /// Last index of the log.
    pub last_index: u64,
    /// First index still in the log.
    pub first_index: u64,
    /// Time of the log, in ms since the Unix epoch.
    pub log_time_ms: u64,
    /// All members, this node included.
    pub members: Vec<MemberStatus>,
}

impl NodeStatus {
    /// The state that the core is in. `snapshot_to` tells of the snapshot that is being sent to a member.
    pub(super) fn of(core: &Core, identity: &Identity, members: &Members, snapshot_to: impl Fn(u64) -> Option<SnapshotSent>) -> Self {
        let group = core.group();
        let configuration = group.configuration();
        let role = match group.role() {
            raft::StateRole::Leader => Role::Leader,
            raft::StateRole::Candidate | raft::StateRole::PreCandidate => Role::Candidate,
            raft::StateRole::Follower if configuration.voters.contains(&identity.node_id) => Role::Follower,
            raft::StateRole::Follower => Role::Learner,
        };
        let member = |member: &Member| {
            let replication = group.replication(member.node_id);
            MemberStatus {
                node_id: member.node_id,
                listen: member.addresses.listen.clone(),
                peer: member.addresses.peer.clone(),
                admin: member.addresses.admin.clone(),
                voter: configuration.voters.contains(&member.node_id),
                match_index: core.match_index(member.node_id),
                next_index: replication.map_or(0, |progress| progress.next_idx),
                state: replication
                    .filter(|_| member.node_id != identity.node_id)
                    .map_or(PeerState::Unknown, |progress| progress.state.into()),
                active: replication.is_some() && core.hears(member.node_id),
                lag_bytes: replication.map_or(0, |progress| group.log().bytes_after(progress.matched) as u64),
                snapshot: snapshot_to(member.node_id),
            }
        };
        Self {
            cluster_id: identity.cluster_id.clone(),
            node_id: identity.node_id,
            role,
            term: group.term(),
            leader_id: group.leader(),
            commit_index: group.commit_index(),
            applied_index: core.applied_state().position.index,
            last_index: group.log().last(),
            first_index: group.log().first(),
            log_time_ms: core.applied_state().log_time_ms,
            members: members.members.iter().map(member).collect(),
        }
    }

    /// What a member is, as far as this node knows: of the others, only the leader is known for what it is.
    #[must_use]
    pub fn role_of(&self, member: &MemberStatus) -> &'static str {
        if Some(member.node_id) == self.leader_id {
            "leader"
        } else if member.node_id == self.node_id {
            role_name(self.role)
        } else if member.voter {
            "follower"
        } else {
            "learner"
        }
    }
}

impl From<ProgressState> for PeerState {
    fn from(state: ProgressState) -> Self {
        match state {
            ProgressState::Probe => Self::Probe,
            ProgressState::Replicate => Self::Replicate,
            ProgressState::Snapshot => Self::Snapshot,
        }
    }
}
