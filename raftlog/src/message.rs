//! Frames between two nodes of a cluster, after their handshake.
//! Raft's own messages travel as opaque bytes; the other frames are ours: runs on their way to the leader, and read rounds.
//! Wire format: Protocol Buffers by field number; fields are never renumbered or reused.

use bytes::Bytes;

use crate::entry::Run;

/// One frame of a peer stream.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Frame {
    /// The group it concerns.
    #[prost(uint32, tag = "1")]
    pub group: u32,
    /// The sender's wall time, in ms since the Unix epoch; 0 when it does not say.
    #[prost(uint64, tag = "6")]
    pub wall_ms: u64,
    /// What it carries; a frame without a body this binary knows is ignored.
    #[prost(oneof = "Body", tags = "2, 3, 4, 5")]
    pub body: Option<Body>,
}

/// What a frame carries.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Body {
    /// A `raft::eraftpb::Message`.
    #[prost(bytes = "bytes", tag = "2")]
    Raft(Bytes),
    /// A run on its way to the leader.
    #[prost(message, tag = "3")]
    Forward(Forward),
    /// A follower asks the leader for a read index.
    #[prost(message, tag = "4")]
    ReadRequest(ReadRequest),
    /// The leader's answer.
    #[prost(message, tag = "5")]
    ReadReply(ReadReply),
}

/// A run on its way to the leader.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Forward {
    /// Raised each time the sender starts again from its oldest unresolved run; within one attempt sequences have no gaps.
    #[prost(uint64, tag = "1")]
    pub attempt: u64,
    /// The run.
    #[prost(message, optional, tag = "2")]
    pub run: Option<Run>,
}

/// A follower asks the leader for a read index.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ReadRequest {
    /// The asker's number of this round, never used twice by one boot.
    #[prost(uint64, tag = "1")]
    pub round: u64,
    /// The asker's boot.
    #[prost(uint64, tag = "2")]
    pub boot: u64,
    /// When not 0: log time must have reached this, in ms since the Unix epoch, at the index of the answer.
    #[prost(uint64, tag = "3")]
    pub log_time_ms: u64,
}

/// How far a member's log is known to be on its disk.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Match {
    /// The member.
    #[prost(uint64, tag = "1")]
    pub node_id: u64,
    /// Its match index.
    #[prost(uint64, tag = "2")]
    pub index: u64,
}

/// The leader's answer to a `ReadRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ReadReply {
    /// The round it answers.
    #[prost(uint64, tag = "1")]
    pub round: u64,
    /// The boot it answers.
    #[prost(uint64, tag = "2")]
    pub boot: u64,
    /// Reads of the round see everything once this index is applied.
    #[prost(uint64, tag = "3")]
    pub index: u64,
    /// The leader's time, in ms since the Unix epoch.
    #[prost(uint64, tag = "4")]
    pub now_ms: u64,
    /// Match indexes of all members, for WAIT on followers.
    #[prost(message, repeated, tag = "5")]
    pub matches: Vec<Match>,
}
