//! One node as the supervisor starts it: how it is told its place among the others, and what becomes of its directory when it goes.

use std::io;
use std::net::TcpListener;

use super::ClusterError;
use super::layout::Layout;

/// The command line of a node. Options that are not here come from the environment, which the node inherits.
pub(super) fn node_args(layout: &Layout, cluster_id: Option<&str>, node: usize) -> Vec<String> {
    let [listen, peer, admin] = [layout.listen(node), layout.peer(node), layout.admin(node)].map(|address| address.to_string());
    let peers: Vec<String> = layout.nodes().map(|node| layout.peer(node).to_string()).collect();
    let mut args = vec!["server".to_owned(), format!("--data-dir={}", layout.node_dir(node).display())];
    args.extend([format!("--listen={listen}"), format!("--advertise={listen}")]);
    args.extend([format!("--peer-listen={peer}"), format!("--advertise-peer={peer}")]);
    args.extend([format!("--admin-listen={admin}"), format!("--advertise-admin={admin}")]);
    args.extend(["--bootstrap=no".to_owned(), format!("--join={}", peers.join(","))]);
    args.extend(match cluster_id {
        Some(id) => [format!("--cluster-id={id}"), "--bootstrap-expect=0".to_owned()],
        None => ["--cluster-id=".to_owned(), format!("--bootstrap-expect={}", peers.len())],
    });
    args
}

/// Checks that no other program has a port of the nodes, so that the first error names the port and not a log file.
/// # Errors
/// One is taken.
pub(super) fn check_ports(layout: &Layout) -> Result<(), ClusterError> {
    layout.nodes().try_for_each(|node| check_ports_of(layout, node))
}

/// As `check_ports`, for one node.
/// # Errors
/// One is taken.
pub(super) fn check_ports_of(layout: &Layout, node: usize) -> Result<(), ClusterError> {
    for address in [layout.listen(node), layout.peer(node), layout.admin(node)] {
        TcpListener::bind(address).map_err(|cause| ClusterError::PortTaken { node, address, cause })?;
    }
    Ok(())
}

/// Moves the directory of a node that is no more out of the way, if there is one.
/// # Errors
/// It cannot be moved.
pub(super) fn set_aside(layout: &Layout, node: usize) -> Result<(), ClusterError> {
    let (dir, place) = (layout.node_dir(node), layout.set_aside_dir(node));
    match std::fs::rename(&dir, place) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(ClusterError::File { path: dir, cause }),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cli::{Action, parse};

    fn args(cluster_id: Option<&str>, node: usize) -> crate::config::Config {
        let layout = Layout::new(Path::new("/c"), 7001, 3).expect("fits");
        let line = std::iter::once("redraft".to_owned()).chain(node_args(&layout, cluster_id, node));
        match parse(line.map(Into::into)) {
            Ok(Action::Server(config)) => *config,
            other => panic!("not a server: {other:?}"),
        }
    }

    #[test]
    fn nodes_form_a_cluster_only_before_its_id_is_known() {
        let config = args(None, 2);
        assert_eq!((config.bootstrap_expect, config.cluster_id.as_deref(), config.bootstraps_alone()), (Some(3), None, false));
        let id = "ab".repeat(20);
        let config = args(Some(&id), 2);
        assert_eq!((config.bootstrap_expect, config.cluster_id.as_deref(), config.bootstraps_alone()), (None, Some(&*id), false));
    }

    #[test]
    fn nodes_are_told_their_places_and_their_peers() {
        let config = args(None, 3);
        assert_eq!(config.data_dir, Path::new("/c/node-3"));
        let addresses = [&config.listen, &config.peer_listen, &config.admin_listen].map(ToString::to_string);
        assert_eq!(addresses, ["127.0.0.1:7003", "127.0.0.1:17003", "127.0.0.1:8003"]);
        let join: Vec<String> = config.join.iter().map(ToString::to_string).collect();
        assert_eq!(join, ["127.0.0.1:17001", "127.0.0.1:17002", "127.0.0.1:17003"]);
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = taken.local_addr().expect("bound").port();
        // Whatever port the system gave, it is the peer port of a cluster that starts 10000 below.
        let layout = Layout::new(Path::new("/c"), port - 10_000, 1).expect("fits");
        let error = check_ports(&layout).expect_err("taken");
        assert!(matches!(error, ClusterError::PortTaken { node: 1, .. }), "{error}");
    }
}
