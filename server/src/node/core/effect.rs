//! What the core wants done. The shell (or the simulator) carries it out, in the order of the list, and reports what the core has to know.

use raft::eraftpb::{ConfState, Entry, Message, Snapshot};
use raftlog::log::{LogPosition, Persist};
use raftlog::message::{Frame, Part, VerifyResult};

use super::membership::{JoinAnswer, RequestId};
use super::reads::ReadId;
use super::runs::RunId;
use super::verify::Divergence;
use crate::error::RequestError;

/// The stream a frame travels on, so that a large append delays no heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Votes, heartbeats and read rounds.
    Control,
    /// Log entries.
    Append,
    /// Runs on their way to the leader.
    Forward,
}

/// Names a snapshot on its way to a follower, so that nothing of an earlier one is taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotId(pub u64);

/// What the shell has to do, in the order of the list.
#[derive(Debug)]
pub enum Effect {
    /// Send a frame; it may get lost, but frames of one lane keep their order.
    Send(u64, Lane, Frame),
    /// Store in the log, then send the messages in it and report `persisted`.
    Persist(Persist),
    /// From now on the apply worker answers this run's client when the sequence is applied.
    Track(RunId, u64),
    /// Apply these entries and report `applied` or, at a configuration change, `change_reached`.
    Apply(Vec<Entry>),
    /// Record the configuration with the change that apply waits at, and go on applying.
    Configure(ConfState),
    /// Replace the data by this snapshot's, durably, and report `applied`.
    Install(Snapshot),
    /// Answer the client of this run: it was not executed.
    FailRun(RunId, RequestError),
    /// Answer the client of the run with this sequence, if it is not answered yet: outcome unknown.
    GiveUp(u64),
    /// This read may be evaluated now; `now_ms` is the leader's time.
    ReadReady {
        /// The read.
        id: ReadId,
        /// The leader's time, in ms since the Unix epoch.
        now_ms: u64,
    },
    /// This read cannot be answered. It was not executed.
    FailRead(ReadId, RequestError),
    /// Generate a snapshot of the data for a follower, under this name, and report `snapshot_generated`, or a failure with `snapshot_sent`.
    GenerateSnapshot(u64, SnapshotId),
    /// Stream the snapshot of this name, with this message, to its receiver and report `snapshot_sent`.
    SendSnapshot(SnapshotId, Message),
    /// The snapshot of this name is not wanted any more: its files can go, and if it is being sent, that can end.
    DropSnapshot(SnapshotId),
    /// Make `data/` durable and report `data_synced`.
    SyncData,
    /// Let the log begin after this position.
    Truncate(LogPosition),
    /// Answer a join request.
    AnswerJoin(RequestId, JoinAnswer),
    /// Answer an admin request: done, or why not.
    AnswerAdmin(RequestId, Result<(), RequestError>),
    /// Look closer at a part of this replica's data as of a verification, and report `examined`. It may be forgotten: it is asked for again.
    ExaminePart(LogPosition, Part),
    /// Answer a client who wanted the replicas to be compared. If there is an error, nothing was found out.
    AnswerVerify(RequestId, Result<VerifyResult, RequestError>),
    /// The replicas were compared by this node; for the record.
    Verified(VerifyResult),
    /// This replica has other data than a majority: it must not serve or vote any more, now or after a restart.
    StopDiverged(Divergence),
}
