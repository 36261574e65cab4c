//! Where the parts of a cluster are: ports and paths, all computed from the directory, the base port and the numbers of the nodes.
//! Nodes are numbered from 1; a number is missing when its node was removed. Node i listens on base-port+i-1, for peers 10000 and for the
//! admin 1000 above that, on 127.0.0.1.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::ClusterError;

/// Distance of the peer ports from the client ports.
const PEER_OFFSET: u16 = 10_000;
/// Distance of the admin ports from the client ports.
const ADMIN_OFFSET: u16 = 1_000;
/// Port of node 1 unless told otherwise.
pub(super) const BASE_PORT: u16 = 7001;
/// Number of nodes unless told otherwise.
pub(super) const NODES: u16 = 3;

/// The places of a cluster's parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    dir: PathBuf,
    base_port: u16,
    /// Rising, at least one.
    nodes: Vec<u16>,
}

impl Layout {
    /// A layout without a gap.
    /// # Errors
    /// The highest port would be above 65535.
    pub(super) fn new(dir: &Path, base_port: u16, nodes: u16) -> Result<Self, ClusterError> {
        Self::of(dir, base_port, (1..=nodes).collect())
    }

    /// The layout of the nodes with these rising numbers.
    /// # Errors
    /// The highest port would be above 65535.
    pub(super) fn of(dir: &Path, base_port: u16, nodes: Vec<u16>) -> Result<Self, ClusterError> {
        assert!(base_port > 0);
        assert!(nodes.is_sorted_by(|one, other| one < other));
        let last = *nodes.last().expect("a cluster has a node");
        assert!((1..=super::NODES_MAX).contains(&last) && nodes[0] > 0);
        let base_port_max = u16::MAX - PEER_OFFSET - (last - 1);
        if base_port > base_port_max {
            return Err(ClusterError::Options(format!(
                "--base-port: '{base_port}' is too high: the last peer port would be above 65535; at most {base_port_max}"
            )));
        }
        Ok(Self { dir: dir.to_owned(), base_port, nodes })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Numbers of the nodes, rising.
    pub(super) fn nodes(&self) -> impl Iterator<Item = usize> + use<> {
        self.nodes.clone().into_iter().map(usize::from)
    }

    /// Whether there is a node of this number.
    pub(super) fn has(&self, node: usize) -> bool {
        self.nodes().any(|known| known == node)
    }

    pub(super) fn listen(&self, node: usize) -> SocketAddr {
        self.address(node, 0)
    }

    pub(super) fn peer(&self, node: usize) -> SocketAddr {
        self.address(node, PEER_OFFSET)
    }

    pub(super) fn admin(&self, node: usize) -> SocketAddr {
        self.address(node, ADMIN_OFFSET)
    }

    /// Directory of a node: its data, and beside it its log.
    pub(super) fn node_dir(&self, node: usize) -> PathBuf {
        self.dir.join(format!("node-{node}"))
    }

    pub(super) fn node_log(&self, node: usize) -> PathBuf {
        self.node_dir(node).join("redraft.log")
    }

    /// Where what a removed node leaves is kept: a directory that does not exist yet.
    pub(super) fn set_aside_dir(&self, node: usize) -> PathBuf {
        let place = |number: u32| self.dir.join(format!("node-{node}-set-aside-{number}"));
        (1..).map(place).find(|place| !place.exists()).expect("there are enough numbers")
    }

    pub(super) fn supervisor_log(&self) -> PathBuf {
        self.dir.join("supervisor.log")
    }

    fn address(&self, node: usize, offset: u16) -> SocketAddr {
        assert!(self.has(node));
        let number = u16::try_from(node).expect("at most NODES_MAX");
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.base_port + (number - 1) + offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_follow_from_the_base_port() {
        let layout = Layout::new(Path::new("/c"), 7001, 3).expect("fits");
        let ports = |node| [layout.listen(node), layout.peer(node), layout.admin(node)].map(|address| address.port());
        assert_eq!(ports(1), [7001, 17001, 8001]);
        assert_eq!(ports(3), [7003, 17003, 8003]);
        assert_eq!(layout.nodes().collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(layout.node_log(2), Path::new("/c/node-2/redraft.log"));
    }

    #[test]
    fn a_removed_node_leaves_a_gap() {
        let layout = Layout::of(Path::new("/c"), 7001, vec![1, 3]).expect("fits");
        assert_eq!(layout.nodes().collect::<Vec<_>>(), [1, 3]);
        assert_eq!([1, 2, 3, 4].map(|node| layout.has(node)), [true, false, true, false]);
        assert_eq!(layout.listen(3).port(), 7003);
    }

    #[test]
    fn what_is_set_aside_never_takes_the_place_of_something() {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::new(dir.path(), 7001, 3).expect("fits");
        let first = layout.set_aside_dir(2);
        assert_eq!(first, dir.path().join("node-2-set-aside-1"));
        std::fs::create_dir(&first).expect("writable");
        assert_eq!(layout.set_aside_dir(2), dir.path().join("node-2-set-aside-2"));
    }

    #[test]
    fn ports_must_fit() {
        let fits = |base_port, nodes| Layout::new(Path::new("/c"), base_port, nodes).is_ok();
        assert!(fits(55_535, 1));
        assert!(!fits(55_536, 1));
        assert!(fits(55_533, 3));
        assert!(!fits(55_534, 3));
        assert!(fits(1, 9));
    }
}
