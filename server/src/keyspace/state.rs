//! The replicated state of the keyspace as a whole: the revision counter, the databases with their counters, leftovers, and how far
//! expiry has come.
//! The apply worker loads it once and keeps it; a `Writer` changes it in memory; `store` writes it once per batch, so that counting costs
//! no storage access per command. It is `Copy`, so that undoing a command is an assignment.
//! Invariant: each live namespace belongs to one database; `revision` never falls and stays below 2^53.

use raftlog::engine::{Direction, EngineResult, Overlay, View};

use super::encoding::{decode_expiry_key, decode_keyspace_state, encode_keyspace_state, expiry_range, keyspace_state_key};
use super::{DATABASES, EXPIRY, GroupId, Namespace, STATE, UnixMillis};

/// Revisions stay below this, so that JavaScript clients can hold them.
const REVISION_END: u64 = 1 << 53;
/// Revisions left out where some may have been given out of which this state knows nothing: those of 127 days with 100,000 writes a second. The
/// counter has room for 8,191 such gaps.
pub const REVISION_GAP: u64 = 1 << 40;

/// One of the databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Database {
    /// Where its keys are stored.
    pub namespace: Namespace,
    /// How many keys it has, due ones that await their purge included.
    pub keys: u64,
    /// How many of them have a deadline.
    pub expires: u64,
}

/// Counters and tables of a group's keyspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyspaceState {
    group: GroupId,
    /// Whether it differs from what is stored.
    pub(super) changed: bool,
    /// Raised once per key that a command modifies.
    pub(super) revision: u64,
    /// Where the search for an unused namespace begins.
    pub(super) next_namespace: Namespace,
    /// Namespaces that wait for the removal of their keys.
    pub(super) dead_namespaces: u32,
    /// No expiry record has an earlier deadline: a search for due keys starts here and so steps over no tombstones of earlier purges.
    pub(super) expiry_floor: UnixMillis,
    /// No expiry record has an earlier deadline, either; never below `expiry_floor`. Not stored, since it follows from how this replica
    /// batches: it also keeps the search from stepping, batch after batch, over the tombstones of keys that were changed before they were due.
    pub(super) expiry_from: UnixMillis,
    /// Whether `expiry_from` was looked for since the last purge. Not stored.
    pub(super) expiry_searched: bool,
    /// No namespace that waits for its sweep has a smaller id: the same for the tombstones of those that were swept. Not stored.
    pub(super) dead_from: Namespace,
    pub(super) databases: [Database; DATABASES as usize],
}

impl KeyspaceState {
    /// The state of a group that was never written to: database i is namespace i.
    pub(super) fn initial(group: GroupId) -> Self {
        let database = |namespace| Database { namespace: Namespace(namespace), keys: 0, expires: 0 };
        let mut databases = [database(0); DATABASES as usize];
        for (namespace, entry) in (0..).zip(&mut databases) {
            *entry = database(namespace);
        }
        let next_namespace = Namespace(u32::from(DATABASES));
        Self {
            group,
            changed: false,
            revision: 0,
            next_namespace,
            dead_namespaces: 0,
            expiry_floor: UnixMillis(0),
            expiry_from: UnixMillis(0),
            expiry_searched: false,
            dead_from: Namespace(0),
            databases,
        }
    }

    /// The state as a view has it.
    /// # Errors
    /// The engine's, and `Corruption`.
    pub fn load(view: &dyn View, group: GroupId) -> EngineResult<Self> {
        match view.get(STATE, &keyspace_state_key(group))? {
            Some(bytes) => decode_keyspace_state(group, bytes),
            None => Ok(Self::initial(group)),
        }
    }

    /// Writes the state if it has changed. To be called once per batch, after its last command.
    pub fn store(&mut self, overlay: &mut Overlay<'_>) {
        if self.changed {
            self.changed = false;
            overlay.put(STATE, keyspace_state_key(self.group), encode_keyspace_state(self));
        }
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// The revision of the last modification.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The databases, in the order of their numbers.
    #[must_use]
    pub fn databases(&self) -> &[Database] {
        &self.databases
    }

    /// One database.
    /// # Panics
    /// Panics if there is none of that number.
    #[must_use]
    pub fn database(&self, db: u8) -> Database {
        self.databases[usize::from(db)]
    }

    /// How many namespaces wait for a sweep.
    #[must_use]
    pub fn dead_namespaces(&self) -> u32 {
        self.dead_namespaces
    }

    /// No key of the group, of flushed databases too, has an earlier deadline; none if no key has any. Exact after a purge, when the
    /// search is worth its cost: it steps over the tombstones of all that was changed before it was due. Where the key of that deadline has
    /// been changed since, the next purge removes nothing. `view` has all changes of this state.
    /// # Errors
    /// The engine's.
    pub fn earliest_deadline(&mut self, view: &dyn View) -> EngineResult<Option<UnixMillis>> {
        if !self.expiry_searched {
            let range = expiry_range(self.group, self.expiry_from, UnixMillis(u64::MAX));
            self.expiry_from = match view.items(EXPIRY, &range, Direction::Forward).next() {
                Some(item) => decode_expiry_key(&item?.0)?.0,
                None => UnixMillis(u64::MAX),
            };
            self.expiry_searched = true;
        }
        Ok((self.expiry_from.0 < u64::MAX).then_some(self.expiry_from))
    }

    /// Leaves revisions out: `REVISION_GAP` of them, or, near the end of the counter, half of what is left, so that there is always a next one.
    pub fn leave_gap(&mut self) {
        self.changed = true;
        self.revision += REVISION_GAP.min((REVISION_END - 1 - self.revision) / 2);
    }

    pub(super) fn next_revision(&mut self) -> u64 {
        self.changed = true;
        self.revision += 1;
        assert!(self.revision < REVISION_END);
        self.revision
    }

    /// The database of a namespace, for a change of its counters; none for a dead namespace.
    pub(super) fn counters(&mut self, namespace: Namespace) -> Option<&mut Database> {
        self.changed = true;
        self.databases.iter_mut().find(|database| database.namespace == namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_leaves_revisions_out_and_never_the_last() {
        let mut state = KeyspaceState::initial(GroupId(1));
        assert_eq!(state.next_revision(), 1);
        state.leave_gap();
        assert_eq!(state.next_revision(), 2 + REVISION_GAP);
        // As often as that may ever be, and then some.
        for _ in 0..10_000 {
            let before = state.revision();
            state.leave_gap();
            assert!(state.revision() >= before && state.revision() < REVISION_END);
        }
        state.revision = REVISION_END - 3;
        state.leave_gap();
        assert_eq!(state.next_revision(), REVISION_END - 1, "the last one is left");
    }
}
