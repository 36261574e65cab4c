//! Messages between nodes that are not frames, and the gRPC services that carry them.
//! Service `Peer` (small messages): `Challenge` gives a random number to this connection, `Call` carries one sealed request and its sealed
//! reply. Service `Lanes`: `Stream` and `Snapshot` carry a sealed `Hello` in their headers, so that it is judged before the body is read;
//! the first message of the reply is a sealed `HelloReply`.
//! Wire format: Protocol Buffers by field number; fields are never renumbered or reused.

use bytes::Bytes;

use crate::node::Starts;
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
pub struct Nothing {}

/// What the next sealed message on this connection has to prove itself against.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Challenge {
    /// Random bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub random: Bytes,
}

/// A message with the proof that its sender knows the secret.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sealed {
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
pub enum Purpose {
    /// Never written; what a missing field decodes to.
    Unspecified = 0,
    /// As the lane of that name.
    Control = 1,
    /// As the lane of that name.
    Append = 2,
    /// As the lane of that name.
    Forward = 3,
    /// The transfer of a Raft snapshot.
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
pub struct Hello {
    /// The cluster it belongs to.
    #[prost(string, tag = "1")]
    pub cluster_id: String,
    /// Its id.
    #[prost(uint64, tag = "2")]
    pub node_id: u64,
    /// Of its data directory.
    #[prost(uint64, tag = "3")]
    pub incarnation: u64,
    /// The starts of that directory.
    #[prost(message, required, tag = "11")]
    pub starts: Starts,
    /// Highest feature level its binary supports.
    #[prost(uint32, tag = "6")]
    pub level: u32,
    /// The node it wants to speak to.
    #[prost(uint64, tag = "7")]
    pub to_node_id: u64,
    /// What the stream is for.
    #[prost(enumeration = "Purpose", tag = "8")]
    pub purpose: i32,
    /// Where it is reached.
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
#[derive(Clone, PartialEq, prost::Message)]
pub struct Welcome {
    /// Of its data directory.
    #[prost(uint64, tag = "1")]
    pub incarnation: u64,
    /// The starts of that directory.
    #[prost(message, required, tag = "5")]
    pub starts: Starts,
    /// Highest feature level its binary supports.
    #[prost(uint32, tag = "4")]
    pub level: u32,
}

/// The answer to a `Hello`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HelloReply {
    /// In or not.
    #[prost(oneof = "HelloOutcome", tags = "1, 2")]
    pub outcome: Option<HelloOutcome>,
}

/// Whether a stream is open.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum HelloOutcome {
    /// The stream is open.
    #[prost(message, tag = "1")]
    Welcome(Welcome),
    /// The stream is not open.
    #[prost(message, tag = "2")]
    Refused(Refused),
}

/// A small request.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CallRequest {
    /// What is asked; nothing that this binary knows is answered as `Malformed`.
    #[prost(oneof = "Ask", tags = "1, 2, 3, 4, 5")]
    pub ask: Option<Ask>,
}

/// What a call asks.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Ask {
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

/// A node that wants to become a member.
#[derive(Clone, PartialEq, prost::Message)]
pub struct JoinRequest {
    /// Empty when the joiner takes any.
    #[prost(string, tag = "1")]
    pub cluster_id: String,
    /// Of the joiner's data directory.
    #[prost(uint64, tag = "2")]
    pub incarnation: u64,
    /// Where the joiner is reached.
    #[prost(message, required, tag = "3")]
    pub addresses: Addresses,
    /// Highest feature level its binary supports.
    #[prost(uint32, tag = "4")]
    pub level: u32,
    /// Its id, if it is a member already and tells its addresses; 0 for a joiner.
    #[prost(uint64, tag = "5")]
    pub node_id: u64,
}

/// The answer to a call.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CallReply {
    /// The answer.
    #[prost(oneof = "Answer", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub answer: Option<Answer>,
}

/// The answers.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Answer {
    /// Who this is.
    #[prost(message, tag = "1")]
    Probe(ProbeReply),
    /// A form was accepted, or an admin request is done.
    #[prost(message, tag = "2")]
    Done(Nothing),
    /// The joiner is in the table.
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

/// What a new member has to know.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Joined {
    /// The joiner's id.
    #[prost(uint64, tag = "1")]
    pub node_id: u64,
    /// The table with the joiner in it.
    #[prost(message, required, tag = "2")]
    pub members: Members,
}

/// A part of a snapshot transfer: one header, then the files' bytes in order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SnapshotPart {
    /// The part; one that this binary does not know ends the transfer.
    #[prost(oneof = "Part", tags = "1, 2")]
    pub part: Option<Part>,
}

/// The parts of a transfer.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Part {
    /// What is coming. Always first.
    #[prost(message, tag = "1")]
    Header(SnapshotHeader),
    /// The next bytes.
    #[prost(message, tag = "2")]
    Chunk(SnapshotChunk),
}

/// What a transfer consists of.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SnapshotHeader {
    /// The group it belongs to.
    #[prost(uint32, tag = "1")]
    pub group: u32,
    /// Index of the snapshot.
    #[prost(uint64, tag = "2")]
    pub index: u64,
    /// The `raft::eraftpb::Message` with the snapshot's metadata.
    #[prost(bytes = "bytes", tag = "3")]
    pub message: Bytes,
    /// Its files, in the order in which their bytes come.
    #[prost(message, repeated, tag = "4")]
    pub files: Vec<SnapshotFile>,
}

/// A file of a snapshot. It has no name: the receiver gives it one.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct SnapshotFile {
    /// Column family.
    #[prost(uint32, tag = "1")]
    pub cf: u32,
    /// How long it is.
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
}

/// A piece of a file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SnapshotChunk {
    /// Position of the file in the header.
    #[prost(uint32, tag = "1")]
    pub file: u32,
    /// Where in the file the bytes belong.
    #[prost(uint64, tag = "2")]
    pub offset: u64,
    /// Of `data`.
    #[prost(fixed32, tag = "3")]
    pub crc32: u32,
    /// The bytes.
    #[prost(bytes = "bytes", tag = "4")]
    pub data: Bytes,
}

/// What the receiver says during a transfer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SnapshotReply {
    /// How the transfer stands.
    #[prost(oneof = "SnapshotState", tags = "1, 2, 3, 4")]
    pub state: Option<SnapshotState>,
}

/// How a transfer stands.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum SnapshotState {
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

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn refused() -> Refused {
        Refused { reason: Reason::OldBoot.into(), detail: "why".to_owned() }
    }

    /// Whether a message is read as it was written. A tag that its oneof does not list would be skipped.
    fn survives<M: Message + Default + PartialEq>(message: &M) -> bool {
        M::decode(&message.encode_to_vec()[..]).as_ref() == Ok(message)
    }

    #[test]
    fn every_kind_of_message_is_read_as_it_was_written() {
        let join = JoinRequest { level: 1, ..JoinRequest::default() };
        for ask in [Ask::Probe(Nothing {}), Ask::Form(Members::default()), Ask::Join(join), Ask::Remove(4), Ask::Transfer(5)] {
            assert!(survives(&CallRequest { ask: Some(ask.clone()) }), "{ask:?}");
        }
        for answer in [
            Answer::Probe(ProbeReply::default()),
            Answer::Done(Nothing {}),
            Answer::Joined(Joined::default()),
            Answer::Leader("a:1".to_owned()),
            Answer::Wait(Nothing {}),
            Answer::Refused("why".to_owned()),
            Answer::NotHeard(refused()),
        ] {
            assert!(survives(&CallReply { answer: Some(answer.clone()) }), "{answer:?}");
        }
        for outcome in [HelloOutcome::Welcome(Welcome::default()), HelloOutcome::Refused(refused())] {
            assert!(survives(&HelloReply { outcome: Some(outcome.clone()) }), "{outcome:?}");
        }
        for part in [Part::Header(SnapshotHeader::default()), Part::Chunk(SnapshotChunk::default())] {
            assert!(survives(&SnapshotPart { part: Some(part.clone()) }), "{part:?}");
        }
        for state in [
            SnapshotState::Hello(Sealed::default()),
            SnapshotState::Progress(Nothing {}),
            SnapshotState::Done(Nothing {}),
            SnapshotState::Failed("why".to_owned()),
        ] {
            assert!(survives(&SnapshotReply { state: Some(state.clone()) }), "{state:?}");
        }
    }

    /// A tag that a oneof lists and has no variant for would panic.
    #[test]
    fn fields_of_newer_binaries_are_skipped() {
        for tag in 10u8..=15 {
            // An empty string or message.
            let bytes = &[tag << 3 | 2, 0][..];
            assert_eq!(CallRequest::decode(bytes), Ok(CallRequest::default()));
            assert_eq!(CallReply::decode(bytes), Ok(CallReply::default()));
        }
        for tag in 1u8..=15 {
            for bytes in [[tag << 3 | 2, 0], [tag << 3, 0]] {
                // Not every tag may be of this kind, but none may panic.
                let _ = CallRequest::decode(&bytes[..]);
                let _ = CallReply::decode(&bytes[..]);
                let _ = HelloReply::decode(&bytes[..]);
                let _ = SnapshotPart::decode(&bytes[..]);
                let _ = SnapshotReply::decode(&bytes[..]);
            }
        }
    }
}
