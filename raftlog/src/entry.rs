//! The envelope of a log entry: what every replica must agree on before it applies the commands inside.
//! The envelope carries the leader's stamp (time and seed, the only sources of time and chance in apply), the feature level, and the runs
//! of commands with their origins. What a run's payload means is the state machine's business.
//! Wire format: Protocol Buffers by field number; fields are never renumbered or reused. `ENVELOPE_VERSION` changes only when an older
//! binary could misread an entry; it refuses such an entry and stops.

use bytes::Bytes;
use prost::Message;

/// The version this binary writes, and the highest it reads.
pub const ENVELOPE_VERSION: u32 = 1;

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum EntryKind {
    /// Never written; what a missing field decodes to.
    Unspecified = 0,
    /// Runs of commands.
    Commands = 1,
    /// Moves log time forward and removes keys that are due by then.
    Purge = 2,
    /// Removes a bounded part of what deleted namespaces left behind.
    Sweep = 3,
    /// A change of the membership table; the payload says which.
    Membership = 4,
    /// The payload of a configuration change: what the state machine records together with it.
    Configuration = 5,
    /// Every replica computes a digest of its data as of this entry; the entry's position names the verification.
    Verify = 6,
}

/// A log entry's contents.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Envelope {
    /// `ENVELOPE_VERSION` of the writer.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Feature level whose semantics the entry has.
    #[prost(uint32, tag = "2")]
    pub level: u32,
    /// What the entry is for.
    #[prost(enumeration = "EntryKind", tag = "3")]
    pub kind: i32,
    /// The leader's stamp, in milliseconds since the Unix epoch.
    #[prost(uint64, tag = "4")]
    pub now_ms: u64,
    /// The leader's random number for this entry.
    #[prost(uint64, tag = "5")]
    pub seed: u64,
    /// Runs of commands, in the order of their execution.
    #[prost(message, repeated, tag = "6")]
    pub runs: Vec<Run>,
    /// Contents of kinds other than `Commands`.
    #[prost(bytes = "bytes", tag = "7")]
    pub payload: Bytes,
}

/// Commands of one connection that travel together, with the origin that makes them execute at most once.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Run {
    /// The node whose client sent the run.
    #[prost(uint64, tag = "1")]
    pub node_id: u64,
    /// That node's boot counter when it took the run in.
    #[prost(uint64, tag = "2")]
    pub boot: u64,
    /// Position among the runs of this node and boot; 1 is the first, without gaps.
    #[prost(uint64, tag = "3")]
    pub sequence: u64,
    /// The encoded commands.
    #[prost(bytes = "bytes", tag = "4")]
    pub payload: Bytes,
    /// How many commands the payload holds.
    #[prost(uint32, tag = "5")]
    pub commands: u32,
}

/// An entry that cannot be read by this binary.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The bytes are not an envelope.
    #[error("the log entry is malformed: {0}")]
    Malformed(String),
    /// A newer binary wrote the entry.
    #[error("the log entry has version {found}, this binary knows {ENVELOPE_VERSION}; install a newer redraft")]
    Version {
        /// The entry's version.
        found: u32,
    },
}

impl Envelope {
    /// The bytes of an entry.
    #[must_use]
    pub fn encode_to_bytes(&self) -> Bytes {
        self.encode_to_vec().into()
    }

    /// Reads an entry; payloads share the memory of `data`.
    /// # Errors
    /// `Malformed` and `Version`; the node must not go on past such an entry.
    pub fn read(data: Bytes) -> Result<Self, EnvelopeError> {
        let envelope = Self::decode(data).map_err(|error| EnvelopeError::Malformed(error.to_string()))?;
        if envelope.version > ENVELOPE_VERSION {
            return Err(EnvelopeError::Version { found: envelope.version });
        }
        if envelope.version == 0 || envelope.kind() == EntryKind::Unspecified {
            return Err(EnvelopeError::Malformed("no version or kind".into()));
        }
        Ok(envelope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Envelope {
        let run = Run { node_id: 2, boot: 3, sequence: 4, payload: Bytes::from_static(b"ab"), commands: 1 };
        Envelope {
            version: ENVELOPE_VERSION,
            level: 1,
            kind: EntryKind::Commands.into(),
            now_ms: 300,
            seed: 5,
            runs: vec![run],
            payload: Bytes::new(),
        }
    }

    #[test]
    fn bytes_of_an_envelope_do_not_change() {
        let golden = b"\x08\x01\x10\x01\x18\x01\x20\xac\x02\x28\x05\x32\x0c\x08\x02\x10\x03\x18\x04\x22\x02ab\x28\x01";
        assert_eq!(&sample().encode_to_bytes()[..], golden);
        assert_eq!(Envelope::read(Bytes::from_static(golden)), Ok(sample()));
    }

    #[test]
    fn bytes_of_a_verify_entry_do_not_change() {
        let verify = Envelope { kind: EntryKind::Verify.into(), runs: Vec::new(), ..sample() };
        let golden = b"\x08\x01\x10\x01\x18\x06\x20\xac\x02\x28\x05";
        assert_eq!(&verify.encode_to_bytes()[..], golden);
        assert_eq!(Envelope::read(Bytes::from_static(golden)), Ok(verify));
    }

    #[test]
    fn a_newer_or_broken_envelope_is_refused() {
        let newer = Envelope { version: ENVELOPE_VERSION + 1, ..sample() };
        assert_eq!(Envelope::read(newer.encode_to_bytes()), Err(EnvelopeError::Version { found: ENVELOPE_VERSION + 1 }));
        assert!(matches!(Envelope::read(Bytes::new()), Err(EnvelopeError::Malformed(_))));
        assert!(matches!(Envelope::read(Bytes::from_static(b"\xff\xff")), Err(EnvelopeError::Malformed(_))));
    }
}
