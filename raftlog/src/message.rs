//! Frames between two nodes of a cluster, after their handshake.
//! Raft's own messages travel as opaque bytes; the other frames are ours: runs on their way to the leader, read rounds, and the comparison
//! of replicas.
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
    #[prost(oneof = "Body", tags = "2, 3, 4, 5, 7")]
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
    /// A step of the comparison of replicas.
    #[prost(message, boxed, tag = "7")]
    Verify(Box<Verify>),
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

/// A step of the comparison of replicas.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Verify {
    /// Which; a step this binary does not know is ignored.
    #[prost(oneof = "VerifyStep", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub step: Option<VerifyStep>,
}

/// The steps.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum VerifyStep {
    /// A node asks the leader to compare the replicas, again and again until it has the outcome.
    #[prost(message, tag = "1")]
    Ask(VerifyAsk),
    /// The leader's answer.
    #[prost(message, tag = "2")]
    Outcome(VerifyOutcome),
    /// The leader asks a replica for the digest of its data as of this entry.
    #[prost(message, tag = "3")]
    Want(EntryPosition),
    /// The replica's answer.
    #[prost(message, tag = "4")]
    Report(VerifyReport),
    /// The leader asks a replica for a closer look at a part of the same data.
    #[prost(message, tag = "5")]
    Examine(VerifyExamine),
    /// The replica's answer.
    #[prost(message, tag = "6")]
    Detail(VerifyDetail),
    /// The leader tells a replica that a majority has other data.
    #[prost(message, tag = "7")]
    Verdict(VerifyVerdict),
}

/// Names an entry of the log for good: there is only one of a term at an index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Message)]
pub struct EntryPosition {
    /// Its index.
    #[prost(uint64, tag = "1")]
    pub index: u64,
    /// Its term.
    #[prost(uint64, tag = "2")]
    pub term: u64,
}

/// Names what a node wants to have compared.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct VerifyAsk {
    /// The asker's boot.
    #[prost(uint64, tag = "1")]
    pub boot: u64,
    /// Its number in this boot.
    #[prost(uint64, tag = "2")]
    pub number: u64,
}

/// What has become of an ask.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct VerifyOutcome {
    /// The ask.
    #[prost(message, required, tag = "1")]
    pub ask: VerifyAsk,
    /// The result; none while it is under way.
    #[prost(message, optional, tag = "2")]
    pub result: Option<VerifyResult>,
}

/// How the replicas compare.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct VerifyResult {
    /// The index at which they were compared.
    #[prost(uint64, tag = "1")]
    pub index: u64,
    /// All members at that time, by id.
    #[prost(message, repeated, tag = "2")]
    pub members: Vec<VerifiedMember>,
    /// Whether more than half of the members have equal data.
    #[prost(bool, tag = "3")]
    pub has_majority: bool,
}

/// A member's part in a result.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct VerifiedMember {
    /// The member.
    #[prost(uint64, tag = "1")]
    pub node_id: u64,
    /// What stands for all of its data; empty when it did not report in time.
    #[prost(bytes = "bytes", tag = "2")]
    pub hash: Bytes,
    /// Where its data begin to differ from those of the majority; without one, from those of most others.
    #[prost(message, optional, tag = "3")]
    pub difference: Option<Difference>,
}

/// Where the data of two replicas begin to differ.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Difference {
    /// The first column family with a difference.
    #[prost(uint32, tag = "1")]
    pub family: u32,
    /// The first key in it that one of them lacks or that has different values, as it is stored; none when it could not be found out.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub key: Option<Bytes>,
}

/// What a replica has to say about its data as of an entry.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct VerifyReport {
    /// The entry.
    #[prost(message, required, tag = "1")]
    pub entry: EntryPosition,
    /// The digest; none while it is being computed.
    #[prost(message, optional, tag = "2")]
    pub digest: Option<GroupDigest>,
}

/// A digest of all that a group has stored.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct GroupDigest {
    /// One per column family, in their order.
    #[prost(message, repeated, tag = "1")]
    pub families: Vec<RangeDigest>,
}

/// A digest of a range of keys and their values, in chunks, so that two of them tell where their ranges begin to differ.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RangeDigest {
    /// How many keys.
    #[prost(uint64, tag = "1")]
    pub items: u64,
    /// Keys in a chunk, a power of two; the last chunk may have less.
    #[prost(uint64, tag = "2")]
    pub chunk_items: u64,
    /// A hash of 16 bytes per chunk, over everything from the beginning of the range to the end of the chunk.
    #[prost(bytes = "bytes", tag = "3")]
    pub hashes: Bytes,
}

/// A part of a column family, to be digested in chunks of a given size.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Part {
    /// The column family.
    #[prost(uint32, tag = "1")]
    pub family: u32,
    /// How many keys come before the part.
    #[prost(uint64, tag = "2")]
    pub first_item: u64,
    /// Keys in a chunk, a power of two.
    #[prost(uint64, tag = "3")]
    pub chunk_items: u64,
}

/// A closer look at a part is wanted.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct VerifyExamine {
    /// The entry of the verification.
    #[prost(message, required, tag = "1")]
    pub entry: EntryPosition,
    /// The part.
    #[prost(message, required, tag = "2")]
    pub part: Part,
}

/// A closer look at a part.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct VerifyDetail {
    /// The entry of the verification.
    #[prost(message, required, tag = "1")]
    pub entry: EntryPosition,
    /// The part.
    #[prost(message, required, tag = "2")]
    pub part: Part,
    /// Its digest.
    #[prost(message, required, tag = "3")]
    pub digest: RangeDigest,
    /// Its first key; none when the column family ends before it.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub first_key: Option<Bytes>,
}

/// A majority has other data.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct VerifyVerdict {
    /// The entry of the verification.
    #[prost(message, required, tag = "1")]
    pub entry: EntryPosition,
    /// The hash that the receiver's report amounts to.
    #[prost(bytes = "bytes", tag = "2")]
    pub hash: Bytes,
    /// Where its data begin to differ.
    #[prost(message, required, tag = "3")]
    pub difference: Difference,
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[track_caller]
    fn check(step: VerifyStep, golden: &'static [u8]) {
        let frame = Frame { group: 1, wall_ms: 0, body: Some(Body::Verify(Box::new(Verify { step: Some(step) }))) };
        assert_eq!(frame.encode_to_vec().escape_ascii().to_string(), golden.escape_ascii().to_string());
        assert_eq!(Frame::decode(golden), Ok(frame));
    }

    #[test]
    fn bytes_of_the_steps_of_a_comparison_do_not_change() {
        let ask = VerifyAsk { boot: 2, number: 3 };
        let entry = EntryPosition { index: 300, term: 4 };
        let part = Part { family: 1, first_item: 5, chunk_items: 8 };
        let digest = RangeDigest { items: 1, chunk_items: 8, hashes: Bytes::from_static(b"hash") };
        let difference = Difference { family: 1, key: Some(Bytes::from_static(b"k")) };
        let members = vec![
            VerifiedMember { node_id: 1, hash: Bytes::from_static(b"h"), difference: Some(difference.clone()) },
            VerifiedMember { node_id: 2, ..VerifiedMember::default() },
        ];
        let result = VerifyResult { index: 300, members, has_majority: true };
        let families = vec![digest.clone()];
        check(VerifyStep::Ask(ask), b"\x08\x01\x3a\x06\x0a\x04\x08\x02\x10\x03");
        check(VerifyStep::Outcome(VerifyOutcome { ask, result: None }), b"\x08\x01\x3a\x08\x12\x06\x0a\x04\x08\x02\x10\x03");
        check(
            VerifyStep::Outcome(VerifyOutcome { ask, result: Some(result) }),
            b"\x08\x01\x3a\x21\x12\x1f\x0a\x04\x08\x02\x10\x03\x12\x17\x08\xac\x02\x12\x0c\x08\x01\x12\x01h\x1a\x05\x08\x01\x12\x01k\x12\x02\x08\x02\x18\x01",
        );
        check(VerifyStep::Want(entry), b"\x08\x01\x3a\x07\x1a\x05\x08\xac\x02\x10\x04");
        check(
            VerifyStep::Report(VerifyReport { entry, digest: Some(GroupDigest { families }) }),
            b"\x08\x01\x3a\x17\x22\x15\x0a\x05\x08\xac\x02\x10\x04\x12\x0c\x0a\x0a\x08\x01\x10\x08\x1a\x04hash",
        );
        check(
            VerifyStep::Examine(VerifyExamine { entry, part }),
            b"\x08\x01\x3a\x11\x2a\x0f\x0a\x05\x08\xac\x02\x10\x04\x12\x06\x08\x01\x10\x05\x18\x08",
        );
        check(
            VerifyStep::Detail(VerifyDetail { entry, part, digest, first_key: Some(Bytes::from_static(b"k")) }),
            b"\x08\x01\x3a\x20\x32\x1e\x0a\x05\x08\xac\x02\x10\x04\x12\x06\x08\x01\x10\x05\x18\x08\x1a\x0a\x08\x01\x10\x08\x1a\x04hash\x22\x01k",
        );
        check(
            VerifyStep::Verdict(VerifyVerdict { entry, hash: Bytes::from_static(b"h"), difference }),
            b"\x08\x01\x3a\x13\x3a\x11\x0a\x05\x08\xac\x02\x10\x04\x12\x01h\x1a\x05\x08\x01\x12\x01k",
        );
    }

    #[test]
    fn a_frame_of_an_unknown_kind_has_no_body() {
        let frame = Frame::decode(&b"\x08\x01\x7a\x01x"[..]).expect("fields that are not known are skipped");
        assert_eq!(frame, Frame { group: 1, wall_ms: 0, body: None });
    }
}
