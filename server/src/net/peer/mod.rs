//! The network between nodes: lanes that carry frames, transfers of Raft snapshots, and calls (probe, form, join, admin), over gRPC.
//! This owns connections, the handshake and its checks; what a frame means is the node's business, who is a member is told by it. Frames
//! get lost when a lane breaks or is full, but what arrives on a lane arrives in order, and every loss by a break is told by `LaneUp`.
//! `wire` has the messages, `handshake` the proofs, `gate` who may come in, `outbound` the lanes to others, `inbound` the listener.
//! Invariant: no byte of a frame or snapshot is parsed before its sender has passed the gate, and no frame of an older process, an older
//! connection or a node that is no member is delivered after the gate has let in the newer one or learnt of the removal.

mod connection;
mod dial;
mod gate;
mod handshake;
mod inbound;
mod outbound;
mod queue;
mod snapshot;
#[cfg(test)]
mod tests;
pub mod wire;

use std::path::PathBuf;

use raftlog::message::Frame;
use tokio::sync::oneshot;

pub use dial::{CallError, FormAnswer, PeerClient};
pub use gate::{FormCall, Gate, Identity, Prospect};
pub use handshake::Seal;
pub use inbound::PeerServer;
pub use outbound::{Dropped, PeerNetwork};
pub use snapshot::{OutgoingSnapshot, ReceivedSnapshot, SnapshotError, Transfer, remove_received_snapshots};
pub use wire::{ProbeReply, Reason, Refused};

use crate::config::Config;
use crate::node::core::{AdminRequest, JoinAnswer, Lane, Member};

/// Largest frame that is sent or taken. Not derived from this node's own limits: the options of two nodes may differ, and what one node's
/// client was allowed to send, every other node has to take in.
pub const FRAME_BYTES_MAX: usize = (1 << 31) - 1;

/// What the peer network has to know of the configuration.
#[derive(Clone)]
pub struct PeerOptions {
    /// The secret of the cluster, or none.
    pub seal: Seal,
    /// Bytes of a piece of a Raft snapshot.
    pub snapshot_chunk_bytes: usize,
    /// Directory for snapshots that come in; created when it is needed.
    pub snapshots_dir: PathBuf,
}

impl PeerOptions {
    /// The options of a configuration.
    #[must_use]
    pub fn from_config(config: &Config) -> Self {
        Self {
            seal: Seal::new(config.peer_secret.as_ref().map(|secret| secret.expose().as_bytes())),
            snapshot_chunk_bytes: config.snapshot_chunk_bytes,
            snapshots_dir: config.data_dir.join("snapshots"),
        }
    }
}

/// What an administrator's request sent to another node led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAnswer {
    /// It is done.
    Done,
    /// Ask the leader, at this peer address.
    Leader(String),
    /// It was not done; the text of an error reply, with its prefix.
    Refused(String),
}

/// What the network tells the node. Events of one channel come in their order.
#[derive(Debug)]
pub enum PeerEvent {
    /// A lane is connected. Frames sent before this may be lost; frames sent after this event was received arrive in order.
    LaneUp {
        /// The node at the other end.
        peer: u64,
        /// The lane.
        lane: Lane,
    },
    /// A lane is lost; frames are dropped until it is up again.
    LaneDown {
        /// The node at the other end.
        peer: u64,
        /// The lane.
        lane: Lane,
    },
    /// A member has connected its control lane to us and says where it is reached and what it supports now.
    Hello {
        /// The member as it presented itself: id, incarnation, addresses, level.
        member: Member,
        /// Its boot counter.
        boot: u64,
    },
    /// A frame has come in.
    Frame {
        /// The member that sent it.
        from: u64,
        /// The sender's boot counter.
        boot: u64,
        /// The frame; its body is present.
        frame: Frame,
    },
    /// A Raft snapshot has come in whole and is durable.
    SnapshotReceived {
        /// The member that sent it.
        from: u64,
        /// The snapshot.
        snapshot: ReceivedSnapshot,
    },
    /// A member of this node's cluster says that this node was removed.
    RemovedFromCluster {
        /// The member that said so.
        by: u64,
    },
    /// A member says that another process has used this node's identity since: this data directory is a copy, or out of date.
    Disowned {
        /// The member that said so.
        by: u64,
        /// What it said.
        why: String,
    },
    /// A node asks to become a member. Dropping `reply` means `Wait`.
    Join {
        /// The cluster it must be, if it knows.
        cluster_id: Option<String>,
        /// The node; its id is 0.
        node: Member,
        /// Where the answer goes.
        reply: oneshot::Sender<JoinAnswer>,
    },
    /// Another node hands on an administrator's request.
    Admin {
        /// The request.
        request: AdminRequest,
        /// Where the answer goes.
        reply: oneshot::Sender<AdminAnswer>,
    },
}
