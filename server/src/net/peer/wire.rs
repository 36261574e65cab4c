//! Messages between nodes that are not frames, and the gRPC services that carry them.
//! Service `Peer` (small messages): `Challenge` gives a random number to this connection, `Call` carries one sealed request and its sealed
//! reply. Service `Lanes`: `Stream` and `Snapshot` carry a sealed `Hello` in their headers, so that it is judged before the body is read;
//! the first message of the reply is a sealed `HelloReply`.
//! Wire format: Protocol Buffers by field number; fields are never renumbered or reused.

use bytes::Bytes;

use crate::node::core::{Addresses, Lane, Members};

/// Code that `build.rs` generates: servers, clients and traits of the two services.
pub(super) mod service {
    include!(concat!(env!("OUT_DIR"), "/redraft.Peer.rs"));
    include!(concat!(env!("OUT_DIR"), "/redraft.Lanes.rs"));
}

/// Header of `Stream` and `Snapshot` with the bytes of a `Sealed` whose body is a `Hello`.
pub(super) const HELLO_HEADER: &str = "redraft-hello-bin";

/// An empty message.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Nothing {}

/// What the next sealed message on this connection has to prove itself against.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Challenge {
    #[prost(bytes = "bytes", tag = "1")]
    pub random: Bytes,
}

/// A message with the proof that its sender knows the secret.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Sealed {
    /// The message.
    #[prost(bytes = "bytes", tag = "1")]
    pub body: Bytes,
    /// Random bytes of a request, so that an old reply does not fit it.
    #[prost(bytes = "bytes", tag = "2")]
    pub salt: Bytes,
    /// HMAC-SHA256; empty without a secret.
    #[prost(bytes = "bytes", tag = "3")]
    pub proof: Bytes,
}

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Purpose {
    /// Never written; what a missing field decodes to.
    Unspecified = 0,
    Control = 1,
    Append = 2,
    Forward = 3,
    Snapshot = 4,
}

impl From<Lane> for Purpose {
    fn from(lane: Lane) -> Self {
        match lane {
            Lane::Control => Self::Control,
            Lane::Append => Self::Append,
            Lane::Forward => Self::Forward,
        }
    }
}

/// Who wants to open a stream, and what it takes the other end for.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Hello {
    #[prost(string, tag = "1")]
    pub cluster_id: String,
    #[prost(uint64, tag = "2")]
    pub node_id: u64,
    #[prost(uint64, tag = "3")]
    pub incarnation: u64,
    #[prost(uint64, tag = "4")]
    pub boot: u64,
    #[prost(uint64, tag = "5")]
    pub nonce: u64,
    #[prost(uint32, tag = "6")]
    pub level: u32,
    #[prost(uint64, tag = "7")]
    pub to_node_id: u64,
    #[prost(enumeration = "Purpose", tag = "8")]
    pub purpose: i32,
    #[prost(message, required, tag = "9")]
    pub addresses: Addresses,
    /// Raised with every connection of one process: an older one does not displace a newer one.
    #[prost(uint64, tag = "10")]
    pub attempt: u64,
}

/// Why a stream or a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Reason {
    /// Never written; what a missing or unknown value decodes to.
    Unspecified = 0,
    /// The other end belongs to another cluster.
    WrongCluster = 1,
    /// The other end is not the node it was taken for.
    WrongNode = 2,
    /// The sender is not in the other end's table.
    NotMember = 3,
    /// The sender was removed from the cluster for ever.
    Removed = 4,
    /// The sender's id belongs to another data directory.
    WrongIncarnation = 5,
    /// A later process with the sender's data directory has been seen.
    OldBoot = 6,
    /// Another process runs with a copy of the sender's data directory.
    DuplicateIncarnation = 7,
    /// The secrets differ.
    BadSecret = 8,
    /// The sender does not support the cluster's feature level.
    Level = 9,
    /// The other end has no identity yet.
    NotReady = 10,
    /// A later connection of the same process has taken this one's place.
    Superseded = 11,
    /// The request makes no sense to the other end.
    Malformed = 12,
}

/// A refusal.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Refused {
    /// Why.
    #[prost(enumeration = "Reason", tag = "1")]
    pub reason: i32,
    /// For a log: what was expected.
    #[prost(string, tag = "2")]
    pub detail: String,
}

/// Who the other end of a stream is.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Welcome {
    #[prost(uint64, tag = "1")]
    pub incarnation: u64,
    #[prost(uint64, tag = "2")]
    pub boot: u64,
    #[prost(uint64, tag = "3")]
    pub nonce: u64,
    #[prost(uint32, tag = "4")]
    pub level: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HelloReply {
    #[prost(oneof = "HelloOutcome", tags = "1, 2")]
    pub outcome: Option<HelloOutcome>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum HelloOutcome {
    #[prost(message, tag = "1")]
    Welcome(Welcome),
    #[prost(message, tag = "2")]
    Refused(Refused),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CallRequest {
    #[prost(oneof = "Ask", tags = "1, 2, 3, 4")]
    pub ask: Option<Ask>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Ask {
    /// Who are you?
    #[prost(message, tag = "1")]
    Probe(Nothing),
    /// Start a cluster with this table.
    #[prost(message, tag = "2")]
    Form(Members),
    /// Take me in.
    #[prost(message, tag = "3")]
    Join(JoinRequest),
    /// Remove this member.
    #[prost(uint64, tag = "4")]
    Remove(u64),
    /// Hand leadership to this member.
    #[prost(uint64, tag = "5")]
    Transfer(u64),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct JoinRequest {
    /// Empty when the joiner takes any.
    #[prost(string, tag = "1")]
    pub cluster_id: String,
    #[prost(uint64, tag = "2")]
    pub incarnation: u64,
    #[prost(message, required, tag = "3")]
    pub addresses: Addresses,
    #[prost(uint32, tag = "4")]
    pub level: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CallReply {
    #[prost(oneof = "Answer", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub answer: Option<Answer>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Answer {
    #[prost(message, tag = "1")]
    Probe(ProbeReply),
    /// A form was accepted, or an admin request is done.
    #[prost(message, tag = "2")]
    Done(Nothing),
    #[prost(message, tag = "3")]
    Joined(Joined),
    /// Peer address of the leader.
    #[prost(string, tag = "4")]
    Leader(String),
    /// Ask again soon.
    #[prost(message, tag = "5")]
    Wait(Nothing),
    /// One line of text.
    #[prost(string, tag = "6")]
    Refused(String),
    /// The call itself did not pass.
    #[prost(message, tag = "7")]
    NotHeard(Refused),
}

/// How a node stands that was asked who it is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ProbeReply {
    /// Of its data directory.
    #[prost(uint64, tag = "1")]
    pub incarnation: u64,
    /// The cluster it belongs to; empty while it belongs to none.
    #[prost(string, tag = "2")]
    pub cluster_id: String,
    /// Its id; 0 while it has none.
    #[prost(uint64, tag = "3")]
    pub node_id: u64,
    /// How many nodes it wants to form a cluster with, itself included; 0 when it only joins.
    #[prost(uint32, tag = "4")]
    pub bootstrap_expect: u32,
    /// The addresses of those nodes as its options give them, sorted.
    #[prost(string, repeated, tag = "5")]
    pub roster: Vec<String>,
    /// Where it is reached.
    #[prost(message, required, tag = "6")]
    pub addresses: Addresses,
    /// Highest feature level its binary supports.
    #[prost(uint32, tag = "7")]
    pub level: u32,
}

impl ProbeReply {
    /// Whether the node belongs to a cluster.
    #[must_use]
    pub fn is_formed(&self) -> bool {
        !self.cluster_id.is_empty()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Joined {
    #[prost(uint64, tag = "1")]
    pub node_id: u64,
    #[prost(message, required, tag = "2")]
    pub members: Members,
}

/// A part of a snapshot transfer: one header, then the files' bytes in order.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SnapshotPart {
    #[prost(oneof = "Part", tags = "1, 2")]
    pub part: Option<Part>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Part {
    #[prost(message, tag = "1")]
    Header(SnapshotHeader),
    #[prost(message, tag = "2")]
    Chunk(SnapshotChunk),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SnapshotHeader {
    #[prost(uint32, tag = "1")]
    pub group: u32,
    /// Index of the snapshot.
    #[prost(uint64, tag = "2")]
    pub index: u64,
    /// The `raft::eraftpb::Message` with the snapshot's metadata.
    #[prost(bytes = "bytes", tag = "3")]
    pub message: Bytes,
    #[prost(message, repeated, tag = "4")]
    pub files: Vec<SnapshotFile>,
}

/// A file of a snapshot. It has no name: the receiver gives it one.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct SnapshotFile {
    /// Column family.
    #[prost(uint32, tag = "1")]
    pub cf: u32,
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SnapshotChunk {
    /// Position of the file in the header.
    #[prost(uint32, tag = "1")]
    pub file: u32,
    #[prost(uint64, tag = "2")]
    pub offset: u64,
    /// Of `data`.
    #[prost(fixed32, tag = "3")]
    pub crc32: u32,
    #[prost(bytes = "bytes", tag = "4")]
    pub data: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SnapshotReply {
    #[prost(oneof = "SnapshotState", tags = "1, 2, 3, 4")]
    pub state: Option<SnapshotState>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum SnapshotState {
    /// Always first: the sealed `HelloReply`.
    #[prost(message, tag = "1")]
    Hello(Sealed),
    /// Something more is on the receiver's disk.
    #[prost(message, tag = "2")]
    Progress(Nothing),
    /// All of it is durable and handed to the node.
    #[prost(message, tag = "3")]
    Done(Nothing),
    /// It failed; one line.
    #[prost(string, tag = "4")]
    Failed(String),
}
