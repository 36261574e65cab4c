//! What the state machine does for a node that goes on alone after a majority was lost for ever (decision 0011): offline, while a marker keeps
//! the directory from being started, so that nobody sees what is in between.
//! The log's configuration changes are void, since what follows is settled: this node is the only voter. What they do to the table of members
//! they still do: ids that they give out or remove stay given out and removed, and runs of members count as they did.
//! Revisions go on behind a gap: what was lost may have been acknowledged, and its revisions, which clients hold as ETags and fencing numbers,
//! must not be given out a second time.

use std::collections::VecDeque;
use std::sync::Arc;

use raft::eraftpb::{ConfState, Entry};
use raftlog::engine::{EngineResult, Overlay, ViewKind};

use super::{COLUMN_FAMILIES, Halt, Reached, StateMachine, put_configuration, put_members};
use crate::node::core::members::{Change, Ids, Member};

impl StateMachine {
    /// Applies entries in their order, all of them.
    /// # Errors
    /// The replica cannot go on.
    pub fn apply_alone(&mut self, entries: &mut VecDeque<Entry>) -> Result<(), Halt> {
        while !entries.is_empty() {
            match self.apply(entries)? {
                Reached::End | Reached::Verification(_) => {}
                Reached::Change(_) => self.configure(entries, &self.only_voter())?,
            }
        }
        Ok(())
    }

    /// Makes this node the only member of another cluster, as of the applied position. `own` is its place in the table, which an entry may
    /// have taken from it: whether that was ever committed nobody knows.
    /// # Errors
    /// The engine's.
    pub fn stand_alone(&mut self, cluster_id: &str, own: &Member) -> EngineResult<()> {
        assert_eq!(own.node_id, self.node_id);
        let engine = Arc::clone(&self.engine);
        let view = engine.view(ViewKind::Latest);
        let mut overlay = Overlay::new(view.as_ref(), COLUMN_FAMILIES.len());
        let others = self.applied.members.members.iter().map(|member| member.node_id).filter(|id| *id != own.node_id).collect();
        self.change_table(Change::Remove(Ids { ids: others }), &mut overlay);
        let members = Arc::make_mut(&mut self.applied.members);
        if members.get(own.node_id).is_none() {
            members.members.push(own.clone());
            members.removed.retain(|removed| *removed != own.node_id);
        }
        // Done once, however often it is tried again.
        if members.cluster_id != cluster_id {
            self.keyspace.leave_gap();
            self.keyspace.store(&mut overlay);
        }
        cluster_id.clone_into(&mut members.cluster_id);
        put_members(&mut overlay, members);
        put_configuration(&mut overlay, &self.only_voter());
        engine.write(&overlay.into_batch())
    }

    fn only_voter(&self) -> ConfState {
        ConfState { voters: vec![self.node_id], ..ConfState::default() }
    }
}
