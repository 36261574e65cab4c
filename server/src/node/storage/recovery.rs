//! Makes the data directory of a survivor a cluster of its own when a majority is lost for ever (decision 0011). The node does not run.
//! `begin` writes a marker to `log/`, with the new cluster's id; from then on the directory is not started before `finish` came to its end,
//! and `finish` can be repeated. It applies all of the log, then makes this node the only member in `data/`, durably, and last, in one batch
//! of `log/`, empties the log behind the last entry, raises the term, takes the new cluster's id and removes the marker.
//! So the next start finds what it would find behind an installed snapshot: nothing to apply, and one voter. In the log as it was there could
//! be configuration changes, which a start would obey.
//! A sync that fails ends it for this directory: what is on the disk is unknown then, and the fence keeps it from being used any further.
//! Invariant: without the marker the directory is as before, or recovered.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use prost::Message as _;
use raft::eraftpb::{ConfChangeV2, ConfState, Entry, HardState};
use raft::{GetEntriesContext, Storage as _};
use raftlog::engine::{EngineError, ViewKind, WriteBatch};
use raftlog::group::{Group, GroupConfig};
use raftlog::log::{LOG_CF, LogError, LogPosition, LogStore, Mark, Persist};

use super::{Identity, NODE, Storage, StorageError, StorageOptions, claim, fence, in_high_water, is_failed_sync, may_pass, open_engines};
use crate::keyspace::{STATE, state_key};
use crate::node::core::{GROUP, Halt, Member, StateMachine, configuration_change, read_envelope, read_snapshot_contents};

/// The marker, in `log/`.
const MARKER: &str = "node/recovery";
/// Bytes of entries applied together.
const ENTRIES_BYTES_MAX: u64 = 16 << 20;

/// A recovery that was decided on.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Recovery {
    /// The new cluster.
    #[prost(string, tag = "1")]
    cluster_id: String,
    /// The node as the table had it.
    #[prost(message, required, tag = "2")]
    own: Member,
}

/// Why a directory cannot be recovered from.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// It is not the directory of a node.
    #[error("it has no log/ and data/ of a node")]
    NoData,
    /// Its node is no member: it has not become one yet, or is none any more.
    #[error("its node is no member of a cluster")]
    NoMember,
    /// It cannot be used, or a node runs in it.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Its log cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// An engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// raft refuses its state.
    #[error("the Raft state cannot be used: {0}")]
    Raft(#[from] raft::Error),
    /// Entries of its log cannot be read.
    #[error("the Raft log cannot be read: {0}")]
    Entries(String),
    /// An entry cannot be applied.
    #[error(transparent)]
    Halt(#[from] Halt),
}

impl RecoveryError {
    /// Whether another process has the directory.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Storage(StorageError::Engine { source: EngineError::Locked { .. }, .. }))
    }

    /// Whether something could not be made durable, for another reason than want of room. What the disk has is unknown then, and a later run
    /// would not find that out. The directory has a fence now.
    #[must_use]
    pub fn is_failed_sync(&self) -> bool {
        match self {
            Self::Storage(error) => error.is_failed_sync() && !error.may_pass(),
            Self::Log(LogError::Engine(error)) | Self::Engine(error) | Self::Halt(Halt::Engine(error)) => {
                is_failed_sync(error) && !may_pass(error)
            }
            Self::NoData | Self::NoMember | Self::Log(_) | Self::Raft(_) | Self::Entries(_) | Self::Halt(_) => false,
        }
    }
}

/// What a directory says of its node.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// The cluster.
    pub cluster_id: String,
    /// The node.
    pub node_id: u64,
    /// The node in its own table of members; `None` if it was removed, or has no data yet.
    pub own: Option<Member>,
    /// The other members.
    pub others: Vec<Member>,
    /// The configuration that a start of the node would come to before it could vote for itself.
    pub configuration: ConfState,
    /// The highest term it has seen.
    pub term: u64,
    /// Index up to which its data are applied.
    pub applied: u64,
    /// The last entry that it knows to be committed.
    pub commit: LogPosition,
    /// Its last entry.
    pub last: LogPosition,
    /// The first entry of each term behind the applied index, rising.
    pub terms: Vec<LogPosition>,
    /// Log time at the last entry, in ms since the Unix epoch; 0 if nothing has a time.
    pub log_time_ms: u64,
    /// The cluster that a recovery is making of it, if one was begun.
    pub begun: Option<String>,
}

impl Account {
    /// Whether the node votes.
    #[must_use]
    pub fn is_voter(&self) -> bool {
        let voters = [&self.configuration.voters, &self.configuration.voters_outgoing];
        self.own.is_some() && voters.iter().any(|ids| ids.contains(&self.node_id))
    }

    /// Whether the node holds a copy without a vote.
    #[must_use]
    pub fn is_learner(&self) -> bool {
        let learners = [&self.configuration.learners, &self.configuration.learners_next];
        self.own.is_some() && !self.is_voter() && learners.iter().any(|ids| ids.contains(&self.node_id))
    }

    /// All who vote, rising; while the configuration changes, on both sides.
    #[must_use]
    pub fn voters(&self) -> Vec<u64> {
        let ids: BTreeSet<u64> = self.configuration.voters.iter().chain(&self.configuration.voters_outgoing).copied().collect();
        ids.into_iter().collect()
    }

    /// Whether the group could go on with these nodes alone.
    #[must_use]
    pub fn is_majority(&self, present: &[u64]) -> bool {
        let sides = [&self.configuration.voters, &self.configuration.voters_outgoing];
        let has_most = |side: &Vec<u64>| side.iter().filter(|voter| present.contains(voter)).count() > side.len() / 2;
        sides.into_iter().filter(|side| !side.is_empty()).all(has_most)
    }

    /// Whether its data or its log have an entry that was committed somewhere. What is applied is committed, and so the same everywhere.
    #[must_use]
    pub fn has(&self, committed: LogPosition) -> bool {
        let first = self.terms.iter().rfind(|first| first.index <= committed.index);
        let is_in_log = committed.index <= self.last.index && first.is_some_and(|first| first.term == committed.term);
        committed.index <= self.applied || is_in_log
    }

    /// Whether the node is a voter or a learner.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.is_voter() || self.is_learner()
    }
}

/// The directory of a node that does not run, open and locked.
pub struct Survivor {
    storage: Storage,
    account: Account,
    begun: Option<Recovery>,
    /// Keeps the node from being started.
    _lock: Option<File>,
}

impl Storage {
    /// The recovery that was begun and not finished.
    pub(super) fn begun_recovery(&self) -> Result<Option<Recovery>, StorageError> {
        self.read(self.log.as_ref(), LOG_CF, MARKER)
    }
}

impl Survivor {
    /// Opens a directory and looks at it. Of what a start does, it finishes the installation of a snapshot.
    /// # Errors
    /// A node runs in it, or it cannot be used.
    pub fn open(dir: &Path, options: StorageOptions) -> Result<Self, RecoveryError> {
        if !["log", "data"].iter().all(|part| dir.join(part).is_dir()) {
            return Err(RecoveryError::NoData);
        }
        let lock = claim(dir)?;
        let open = || {
            let (log, data) = open_engines(dir, options)?;
            Self::over(Storage::attach(dir, Arc::new(log), Arc::new(data), rand::random())?, Some(lock))
        };
        fenced(dir, open())
    }

    fn over(storage: Storage, lock: Option<File>) -> Result<Self, RecoveryError> {
        let begun = storage.begun_recovery()?;
        let account = look(&storage, begun.as_ref())?;
        Ok(Self { storage, account, begun, _lock: lock })
    }

    /// What it says.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Decides that the node becomes the cluster of this id, durably; where that was decided before, nothing changes.
    /// # Errors
    /// The node is no member, or `log/` cannot be written.
    pub fn begin(&mut self, cluster_id: &str) -> Result<(), RecoveryError> {
        if self.begun.is_none() {
            let own = self.account.own.clone().filter(|_| self.account.is_member()).ok_or(RecoveryError::NoMember)?;
            let begun = Recovery { cluster_id: cluster_id.to_owned(), own };
            let put = self.storage.put(self.storage.log.as_ref(), LOG_CF, MARKER, Some(begun.encode_to_vec()));
            fenced(&self.storage.dir, put.map_err(RecoveryError::from))?;
            self.begun = Some(begun);
        }
        Ok(())
    }

    /// Applies all of the log to the data, the first part of what was decided: what can fail for what is in the log fails here.
    /// # Errors
    /// As `finish`.
    /// # Panics
    /// Nothing was decided.
    pub fn apply_log(&self) -> Result<(), RecoveryError> {
        assert!(self.begun.is_some(), "a recovery is begun before anything is applied that is not known to be committed");
        fenced(&self.storage.dir, self.applied().map(drop))
    }

    /// The data and the log, with nothing left to apply.
    fn applied(&self) -> Result<(StateMachine, LogStore), RecoveryError> {
        let Storage { log, data, high_water_mark, identity, .. } = &self.storage;
        let contents = read_snapshot_contents(data.view(ViewKind::Latest).as_ref())?;
        let store = LogStore::open(Arc::clone(log), GROUP, contents.position, contents.configuration, *high_water_mark)?;
        let mut machine = StateMachine::open(Arc::clone(data), identity.node_id, 0)?;
        let (applied, last) = (machine.applied().position.index, store.last_position());
        for_entries(&store, applied, last.index, |entries| Ok(machine.apply_alone(&mut entries.into())?))?;
        assert_eq!(machine.applied().position, last, "nothing of the log is left");
        Ok((machine, store))
    }

    /// Does what was decided.
    /// # Errors
    /// The directory cannot be written, or an entry not be applied; it can be tried again, unless a sync has failed.
    /// # Panics
    /// Nothing was decided.
    pub fn finish(self) -> Result<(), RecoveryError> {
        let dir = self.storage.dir.clone();
        fenced(&dir, self.become_another())
    }

    fn become_another(self) -> Result<(), RecoveryError> {
        let (mut machine, store) = self.applied()?;
        let last = store.last_position();
        let Recovery { cluster_id, own } = self.begun.expect("a recovery is begun before it is finished");
        let Storage { dir, log, data, mut high_water, identity, .. } = self.storage;
        let identity = Identity { cluster_id, ..identity };
        machine.stand_alone(&identity.cluster_id, &own)?;
        let mut batch = WriteBatch::default();
        batch.put(STATE, state_key(NODE, "node/identity"), identity.encode_to_vec());
        data.write_synced(&batch)?;

        let term = store.hard_state().term.max(last.term) + 1;
        let hard_state = HardState { term, commit: last.index, ..HardState::default() };
        let persist = Persist { hard_state: Some(hard_state), reset: Some(last), ..Persist::default() };
        let mut batch = WriteBatch::default();
        persist.encode(GROUP, &mut batch);
        batch.put(LOG_CF, state_key(NODE, "node/identity"), identity.encode_to_vec());
        // The first table of the former cluster must be told to nobody any more. An id that it gave out in what is lost is given out again, and
        // the process that had it then must not be taken for a later one of the new node.
        for name in ["node/form", "node/hints", "node/peers", MARKER] {
            batch.delete(LOG_CF, state_key(NODE, name));
        }
        log.write_synced(&batch)?;
        // The mark of before is right as well, as a lower bound.
        let begun = high_water.begin(Mark { last, term, vote: 0 });
        Ok(begun.map_err(|source| in_high_water(&dir, source))?)
    }
}

/// Has no later start or recovery use a directory in which a sync has failed.
fn fenced<T>(dir: &Path, result: Result<T, RecoveryError>) -> Result<T, RecoveryError> {
    result.inspect_err(|error| {
        if error.is_failed_sync() {
            fence::put_up_in(dir, &error.to_string());
        }
    })
}

fn look(storage: &Storage, begun: Option<&Recovery>) -> Result<Account, RecoveryError> {
    let identity = storage.identity();
    if identity.node_id == 0 {
        return Err(RecoveryError::NoMember);
    }
    let contents = read_snapshot_contents(storage.data.view(ViewKind::Latest).as_ref())?;
    let machine = StateMachine::open(Arc::clone(&storage.data), identity.node_id, 0)?;
    let table = &machine.applied().members;
    let store = LogStore::open(Arc::clone(&storage.log), GROUP, contents.position, contents.configuration, storage.high_water_mark())?;
    let HardState { term, commit, .. } = *store.hard_state();
    let commit = LogPosition { index: commit, term: store.term_at(commit).expect("the log has what is committed and not truncated") };
    let last = store.last_position();
    let applied = contents.position.index;
    let (mut changes, mut terms) = (Vec::new(), Vec::<LogPosition>::new());
    let mut log_time_ms = machine.applied().log_time_ms;
    for_entries(&store, applied, last.index, |entries| {
        for entry in &entries {
            if terms.last().is_none_or(|first| first.term != entry.term) {
                terms.push(LogPosition { index: entry.index, term: entry.term });
            }
            match configuration_change(entry)? {
                // Where a recovery was begun, some of them may be behind it, and what follows is settled.
                Some(change) if entry.index <= commit.index && begun.is_none() => changes.push(change),
                Some(_) => {}
                None if entry.data.is_empty() => {}
                None => log_time_ms = log_time_ms.max(read_envelope(entry)?.now_ms),
            }
        }
        Ok(())
    })?;
    Ok(Account {
        cluster_id: identity.cluster_id.clone(),
        node_id: identity.node_id,
        own: table.get(identity.node_id).or(begun.map(|begun| &begun.own)).cloned(),
        others: table.members.iter().filter(|member| member.node_id != identity.node_id).cloned().collect(),
        configuration: configuration_after(identity.node_id, store, applied, &changes)?,
        term,
        applied,
        commit,
        last,
        terms,
        log_time_ms,
        begun: begun.map(|begun| begun.cluster_id.clone()),
    })
}

/// The configuration that follows from the one at the applied index. raft computes it; the group does nothing else.
fn configuration_after(node_id: u64, store: LogStore, applied: u64, changes: &[ConfChangeV2]) -> Result<ConfState, RecoveryError> {
    let config = GroupConfig {
        node_id,
        election_ticks: 2,
        heartbeat_ticks: 1,
        append_bytes_max: 0,
        uncommitted_bytes_max: 0,
        committed_bytes_max: 0,
        seed: 0,
    };
    let mut group = Group::open(config, store, applied)?;
    for change in changes {
        group.apply_change(change)?;
    }
    Ok(group.configuration())
}

/// Hands out the entries behind one index up to another, some at a time.
fn for_entries(
    store: &LogStore,
    from: u64,
    to: u64,
    mut take: impl FnMut(Vec<Entry>) -> Result<(), RecoveryError>,
) -> Result<(), RecoveryError> {
    let mut next = from + 1;
    while next <= to {
        let read = store.entries(next, to + 1, ENTRIES_BYTES_MAX, GetEntriesContext::empty(false));
        let entries = read.map_err(|error| match store.failure() {
            Some(failure) => RecoveryError::Entries(failure.to_string()),
            None => error.into(),
        })?;
        next += entries.len() as u64;
        take(entries)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
