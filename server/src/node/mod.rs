//! The node: one member of the replicated group.
//! `core` decides (sans-I/O); the shell around it carries the effects out with threads, channels and timers. `handle` is what the
//! network layer sees of it.

mod apply_worker;
pub mod ballast;
mod completions;
pub mod core;
pub mod exit;
mod fence;
mod handle;
pub mod log_writer;
mod mailbox;
mod peer_record;
pub mod persist_gate;
mod priority;
mod replies;
mod request;
pub mod shell;
pub mod snapshot;
mod status;
pub mod storage;
mod verifier;

pub use fence::FILE_NAME as FENCE;
pub use handle::{NodeHandle, RaftCommand, Replies};
pub use peer_record::{PeerProcess, PeerProcesses, PeerRecord, Starts, Stopping, Unwelcome, judge};
pub(crate) use request::reply_bytes;
pub use request::{Consistency, Request, RunResult};
pub use status::{MemberStatus, NodeStatus, PeerState, Role, SnapshotCount, SnapshotSent};
