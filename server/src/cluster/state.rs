//! `cluster.json`, what is known of a cluster between two commands, and the lock that says who may write it.
//! The supervisor holds the lock while it runs and writes the file at every change; other commands read the file without the lock, which
//! is safe because it is replaced whole. Losing the file loses no data: nodes that have data find each other again.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ClusterError;
use super::layout::Layout;
use super::process::ProcessMark;

/// Version of the file that this program writes and reads.
const VERSION: u32 = 1;
const STATE_FILE: &str = "cluster.json";
const LOCK_FILE: &str = "supervisor.lock";

/// What is known of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClusterState {
    version: u32,
    pub(super) base_port: u16,
    /// Known once the nodes have formed the cluster; handed to every node that starts from then on.
    pub(super) cluster_id: Option<String>,
    /// The process that supervises; its end may have gone unrecorded.
    pub(super) supervisor: Option<ProcessMark>,
    /// Node 1 first; a node that was removed keeps its place while there are later ones.
    pub(super) nodes: Vec<NodeState>,
}

/// What is known of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeState {
    /// The process that was started last; its end may have gone unrecorded.
    pub(super) process: Option<ProcessMark>,
    /// Why the node is not started again.
    pub(super) given_up: Option<String>,
    /// How often the node was started to come back as a new one.
    #[serde(default)]
    pub(super) rejoins: u64,
    /// Whether there is no such node any more.
    #[serde(default)]
    pub(super) removed: bool,
}

impl ClusterState {
    pub(super) fn new(base_port: u16, nodes: u16) -> Self {
        Self { version: VERSION, base_port, cluster_id: None, supervisor: None, nodes: vec![NodeState::default(); usize::from(nodes)] }
    }

    /// Reads the state of the cluster in a directory; `None` if there has never been one.
    /// # Errors
    /// The file cannot be read or is not what this program writes.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, ClusterError> {
        let path = dir.join(STATE_FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(ClusterError::File { path, cause }),
        };
        Self::parse(&text).map(Some).map_err(|problem| ClusterError::BadFile { path, problem })
    }

    /// Reads the state of the cluster in a directory.
    /// # Errors
    /// As `read`, or there is no cluster.
    pub(super) fn read_existing(dir: &Path) -> Result<Self, ClusterError> {
        Self::read(dir)?.ok_or_else(|| ClusterError::NoCluster(dir.to_owned()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        // The version is looked at first: a later file may have fields that this program does not know.
        let value: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version == u64::from(VERSION) => {}
            Some(version) => return Err(format!("has version {version}, this program knows version {VERSION}")),
            None => return Err("has no version".to_owned()),
        }
        let state: Self = serde_json::from_value(value).map_err(|error| error.to_string())?;
        if state.base_port == 0 || state.numbers().is_empty() || state.nodes.len() > usize::from(super::NODES_MAX) {
            return Err(format!("has base port {} and {} nodes", state.base_port, state.numbers().len()));
        }
        Ok(state)
    }

    /// Numbers of the nodes that were not removed, rising.
    pub(super) fn numbers(&self) -> Vec<u16> {
        (1..).zip(&self.nodes).filter(|(_, node)| !node.removed).map(|(number, _)| number).collect()
    }

    /// Checks that there is a node of the number that a flag names.
    /// # Errors
    /// There is none.
    pub(super) fn check_number(&self, dir: &Path, flag: &str, node: usize) -> Result<(), ClusterError> {
        if self.numbers().into_iter().any(|number| usize::from(number) == node) {
            return Ok(());
        }
        let has = format!("the cluster in {} has {} nodes", dir.display(), self.node_count());
        Err(ClusterError::Options(format!("{flag}: '{node}' does not fit: {has}")))
    }

    pub(super) fn node_count(&self) -> u16 {
        u16::try_from(self.numbers().len()).expect("at most NODES_MAX")
    }

    /// What is known of a node; of one that was removed, nothing.
    pub(super) fn node(&self, node: usize) -> NodeState {
        self.nodes.get(node - 1).cloned().unwrap_or_default()
    }

    /// The number that the next node gets: the first that is free. `None` if there are as many nodes as there may be.
    pub(super) fn next_number(&self) -> Option<usize> {
        let gap = self.nodes.iter().position(|node| node.removed).map(|position| position + 1);
        gap.or(Some(self.nodes.len() + 1)).filter(|number| *number <= usize::from(super::NODES_MAX))
    }

    /// Takes a node in, under the next number.
    pub(super) fn add(&mut self, number: usize) {
        assert_eq!(self.next_number(), Some(number));
        if number > self.nodes.len() {
            self.nodes.push(NodeState::default());
        }
        self.nodes[number - 1] = NodeState::default();
    }

    /// Lets a node go. One remains.
    pub(super) fn remove(&mut self, number: usize) {
        assert!(self.node_count() > 1);
        self.nodes[number - 1] = NodeState { removed: true, ..NodeState::default() };
        while self.nodes.pop_if(|last| last.removed).is_some() {}
    }

    /// Where the parts of this cluster are.
    /// # Errors
    /// The ports recorded do not exist.
    pub(super) fn layout(&self, dir: &Path) -> Result<Layout, ClusterError> {
        Layout::of(dir, self.base_port, self.numbers())
    }

    /// Whether a supervisor is at work.
    pub(super) fn is_supervised(&self) -> bool {
        self.supervisor.as_ref().is_some_and(ProcessMark::is_alive)
    }

    /// Processes of nodes that run now.
    pub(super) fn running_nodes(&self) -> Vec<ProcessMark> {
        self.nodes.iter().filter_map(|node| node.process.clone()).filter(ProcessMark::is_alive).collect()
    }
}

/// The right to write a cluster's state and to start its nodes. Held until dropped, or until the process ends in any way.
#[derive(Debug)]
pub(super) struct ClusterLock {
    dir: PathBuf,
    _file: File,
}

impl ClusterLock {
    /// Takes the lock.
    /// # Errors
    /// Another process has it, or the file cannot be used.
    pub(super) fn take(dir: &Path) -> Result<Self, ClusterError> {
        let path = dir.join(LOCK_FILE);
        let failed = |cause| ClusterError::File { path: path.clone(), cause };
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), _file: file }),
            Err(TryLockError::WouldBlock) => Err(ClusterError::AlreadyRunning(dir.to_owned())),
            Err(TryLockError::Error(cause)) => Err(failed(cause)),
        }
    }

    /// Replaces the state file.
    /// # Errors
    /// The directory cannot be written.
    pub(super) fn write(&self, state: &ClusterState) -> Result<(), ClusterError> {
        let path = self.dir.join(STATE_FILE);
        let part = self.dir.join("cluster.json.part");
        let mut text = serde_json::to_string_pretty(state).expect("numbers and texts always become JSON");
        text.push('\n');
        let replace = || {
            let mut file = File::create(&part)?;
            file.write_all(text.as_bytes())?;
            // The cluster id must not be lost to a power failure, once nodes were told to form a cluster only without it.
            file.sync_all()?;
            std::fs::rename(&part, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        replace().map_err(|cause| ClusterError::File { path: path.clone(), cause })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(ClusterState::read(dir.path()).expect("readable"), None);
        assert!(matches!(ClusterState::read_existing(dir.path()), Err(ClusterError::NoCluster(_))));
        let mut state = ClusterState::new(7001, 3);
        state.cluster_id = Some("ab".repeat(20));
        state.supervisor = ProcessMark::of_this_process();
        state.nodes[1].process = ProcessMark::of_this_process();
        state.nodes[2].given_up = Some("removed".to_owned());
        state.nodes[2].rejoins = 2;
        ClusterLock::take(dir.path()).expect("free").write(&state).expect("writable");
        let read = ClusterState::read(dir.path()).expect("readable").expect("written");
        assert_eq!(read, state);
        assert!(read.is_supervised());
        assert_eq!(read.running_nodes().len(), 1);
    }

    #[test]
    fn bad_files_are_refused_with_a_reason() {
        let check = |text: &str, reason: &str| {
            let problem = ClusterState::parse(text).expect_err(text);
            assert!(problem.contains(reason) && !problem.contains('\n'), "{problem}");
        };
        check("", "EOF");
        check("[]", "has no version");
        check("{\"version\": 2, \"shape\": \"new\"}", "has version 2");
        check("{\"version\": 1}", "missing field");
        let valid = serde_json::to_string(&ClusterState::new(7001, 3)).expect("JSON");
        assert!(ClusterState::parse(&valid).is_ok());
        assert!(ClusterState::parse(&valid.replace(",\"rejoins\":0,\"removed\":false", "")).is_ok(), "the file of an earlier version");
        check(&valid.replace("7001", "0"), "base port 0");
        check(&valid.replace("7001", "70000"), "70000");
        check(&valid.replace("\"cluster_id\"", "\"cluster\""), "unknown field");
        let none = serde_json::to_string(&ClusterState::new(7001, 0)).expect("JSON");
        check(&none, "0 nodes");
        check(&valid.replace("\"removed\":false", "\"removed\":true"), "0 nodes");
    }

    #[test]
    fn nodes_come_and_go_and_numbers_are_used_again() {
        let mut state = ClusterState::new(7001, 3);
        assert_eq!((state.next_number(), state.node_count()), (Some(4), 3));
        state.add(4);
        state.nodes[1].rejoins = 7;
        state.remove(2);
        assert_eq!((state.numbers(), state.node_count(), state.next_number()), (vec![1, 3, 4], 3, Some(2)));
        assert_eq!(state.layout(Path::new("/c")).expect("fits").nodes().collect::<Vec<_>>(), [1, 3, 4]);
        state.add(2);
        assert_eq!((state.numbers(), state.node(2), state.next_number()), (vec![1, 2, 3, 4], NodeState::default(), Some(5)));
        state.remove(3);
        state.remove(4);
        assert_eq!((state.numbers(), state.nodes.len(), state.next_number()), (vec![1, 2], 2, Some(3)));
        assert_eq!(state.node(4), NodeState::default());
        let full = ClusterState::new(7001, super::super::NODES_MAX);
        assert_eq!(full.next_number(), None);
    }

    #[test]
    fn the_lock_has_one_holder() {
        let dir = tempfile::tempdir().expect("a directory");
        let lock = ClusterLock::take(dir.path()).expect("free");
        assert!(matches!(ClusterLock::take(dir.path()), Err(ClusterError::AlreadyRunning(_))));
        drop(lock);
        ClusterLock::take(dir.path()).expect("free again");
    }
}
