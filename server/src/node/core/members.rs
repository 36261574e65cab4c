//! The membership table: who belongs to the cluster, where they are reached, and which ids are gone for ever.
//! It is replicated state, changed by log entries alone and stored with the data; the raft configuration says who votes, this table who
//! is who. Ids come from the table's counter, keyed by the joiner's incarnation, so that a repeated join is the same join.
//! Invariant: no id is ever given out twice, and an id in `removed` never comes back into `members`.
//! Wire and storage format: Protocol Buffers by field number; fields are never renumbered or reused.

use bytes::Bytes;
use prost::Message;

/// Where a node is reached, as `host:port`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Addresses {
    /// The RESP port.
    #[prost(string, tag = "1")]
    pub listen: String,
    /// The peer port.
    #[prost(string, tag = "2")]
    pub peer: String,
    /// The admin port.
    #[prost(string, tag = "3")]
    pub admin: String,
}

/// A node of the cluster.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Member {
    /// Its id, at least 1.
    #[prost(uint64, tag = "1")]
    pub node_id: u64,
    /// Random number of its data directory: a wiped node has another one, and so is another node.
    #[prost(uint64, tag = "2")]
    pub incarnation: u64,
    /// Where it is reached.
    #[prost(message, required, tag = "3")]
    pub addresses: Addresses,
    /// Highest feature level its binary supports.
    #[prost(uint32, tag = "4")]
    pub level: u32,
}

/// The table.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Members {
    /// 40 hex digits.
    #[prost(string, tag = "1")]
    pub cluster_id: String,
    /// The id the next new node gets.
    #[prost(uint64, tag = "2")]
    pub next_id: u64,
    /// Feature level in force.
    #[prost(uint32, tag = "3")]
    pub level: u32,
    /// Present members, by id.
    #[prost(message, repeated, tag = "4")]
    pub members: Vec<Member>,
    /// Ids that were removed.
    #[prost(uint64, repeated, tag = "5")]
    pub removed: Vec<u64>,
    /// Changes since the cluster was founded.
    #[prost(uint64, tag = "6")]
    pub changes: u64,
}

/// A change of the table, as an entry of kind `Membership` or with a configuration change.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MembershipChange {
    /// What to change; a change this binary does not know stops the node.
    #[prost(oneof = "Change", tags = "1, 2, 3, 4")]
    pub change: Option<Change>,
}

/// The changes.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum Change {
    /// A node wants an id. The id in it is ignored. Repeated with the same incarnation it changes the addresses.
    #[prost(message, tag = "1")]
    Register(Member),
    /// A member is at other addresses, or runs another binary.
    #[prost(message, tag = "2")]
    Update(Member),
    /// These members are removed for ever.
    #[prost(message, tag = "3")]
    Remove(Ids),
    /// The feature level is raised to this.
    #[prost(uint32, tag = "4")]
    Level(u32),
}

/// A list of node ids.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Ids {
    /// The ids.
    #[prost(uint64, repeated, tag = "1")]
    pub ids: Vec<u64>,
}

impl Change {
    /// The bytes of a change for the log.
    #[must_use]
    pub fn encode_to_bytes(self) -> Bytes {
        MembershipChange { change: Some(self) }.encode_to_vec().into()
    }
}

impl Members {
    /// The table a cluster starts with: nodes in the order of their ids, from 1.
    #[must_use]
    pub fn initial(cluster_id: String, level: u32, nodes: impl IntoIterator<Item = (u64, Addresses)>) -> Self {
        let members: Vec<_> =
            (1..).zip(nodes).map(|(node_id, (incarnation, addresses))| Member { node_id, incarnation, addresses, level }).collect();
        Self { cluster_id, next_id: members.len() as u64 + 1, level, members, removed: Vec::new(), changes: 0 }
    }

    /// The member with an id.
    #[must_use]
    pub fn get(&self, node_id: u64) -> Option<&Member> {
        self.members.iter().find(|member| member.node_id == node_id)
    }

    /// Whether another table of this cluster is a later one.
    #[must_use]
    pub fn is_older_than(&self, other: &Self) -> bool {
        self.changes < other.changes
    }

    /// The member with an incarnation.
    #[must_use]
    pub fn by_incarnation(&self, incarnation: u64) -> Option<&Member> {
        self.members.iter().find(|member| member.incarnation == incarnation)
    }

    /// Applies a change. Deterministic; a change that does not fit the table is ignored.
    pub fn apply(&mut self, change: &Change) {
        self.changes += 1;
        match change {
            Change::Register(node) => {
                if let Some(known) = self.members.iter_mut().find(|member| member.incarnation == node.incarnation) {
                    known.addresses = node.addresses.clone();
                    known.level = node.level;
                } else {
                    self.members.push(Member { node_id: self.next_id, ..node.clone() });
                    self.next_id += 1;
                }
            }
            Change::Update(node) => {
                if let Some(known) = self.members.iter_mut().find(|member| member.node_id == node.node_id) {
                    known.addresses = node.addresses.clone();
                    known.level = node.level;
                }
            }
            Change::Remove(Ids { ids }) => {
                let (gone, kept) = std::mem::take(&mut self.members).into_iter().partition(|member| ids.contains(&member.node_id));
                self.members = kept;
                self.removed.extend(Vec::<Member>::into_iter(gone).map(|member| member.node_id));
            }
            Change::Level(level) => self.level = self.level.max(*level),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(incarnation: u64, port: &str) -> Member {
        let addresses = Addresses { listen: port.into(), peer: port.into(), admin: port.into() };
        Member { node_id: 0, incarnation, addresses, level: 1 }
    }

    #[test]
    fn ids_are_given_once_per_incarnation_and_never_again() {
        let mut members = Members::initial("c".into(), 1, [(100, node(100, "a").addresses)]);
        members.apply(&Change::Register(node(7, "b")));
        members.apply(&Change::Register(node(7, "c")));
        assert_eq!(members.by_incarnation(7).map(|member| (member.node_id, member.addresses.peer.as_str())), Some((2, "c")));
        members.apply(&Change::Remove(Ids { ids: vec![2, 9] }));
        members.apply(&Change::Register(node(7, "b")));
        assert_eq!(members.by_incarnation(7).map(|member| member.node_id), Some(3));
        assert_eq!(members.removed, [2]);
        members.apply(&Change::Level(3));
        members.apply(&Change::Level(2));
        assert_eq!(members.level, 3);
    }

    #[test]
    fn a_table_is_older_than_what_became_of_it() {
        let mut members = Members::initial("c".into(), 1, [(100, node(100, "a").addresses)]);
        let moved = Member { node_id: 1, ..node(100, "b") };
        for change in [Change::Register(node(7, "b")), Change::Update(moved), Change::Remove(Ids { ids: vec![2] }), Change::Level(3)] {
            let before = members.clone();
            members.apply(&change);
            assert!(before.is_older_than(&members) && !members.is_older_than(&before), "{change:?}");
            assert!(!members.is_older_than(&members));
        }
    }
}
