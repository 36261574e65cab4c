//! Where the parts of a cluster are: ports and paths, all computed from the directory, the base port and the number of nodes.
//! Nodes are numbered from 1. Node i listens on base-port+i-1, for peers 10000 and for the admin 1000 above that, on 127.0.0.1.

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
    nodes: u16,
}

impl Layout {
    /// # Errors
    /// The highest port would be above 65535.
    pub(super) fn new(dir: &Path, base_port: u16, nodes: u16) -> Result<Self, ClusterError> {
        assert!(base_port > 0);
        assert!((1..=super::NODES_MAX).contains(&nodes));
        let base_port_max = u16::MAX - PEER_OFFSET - (nodes - 1);
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

    /// Numbers of the nodes, from 1.
    pub(super) fn nodes(&self) -> impl Iterator<Item = usize> + use<> {
        1..=usize::from(self.nodes)
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

    pub(super) fn supervisor_log(&self) -> PathBuf {
        self.dir.join("supervisor.log")
    }

    fn address(&self, node: usize, offset: u16) -> SocketAddr {
        assert!((1..=usize::from(self.nodes)).contains(&node));
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
    fn ports_must_fit() {
        let fits = |base_port, nodes| Layout::new(Path::new("/c"), base_port, nodes).is_ok();
        assert!(fits(55_535, 1));
        assert!(!fits(55_536, 1));
        assert!(fits(55_533, 3));
        assert!(!fits(55_534, 3));
        assert!(fits(1, 9));
    }
}
