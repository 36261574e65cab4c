//! The nodes of the demonstration: three processes of this program, their directory, and their ports.
//! Ports lie below those that the system gives to outgoing connections, so none of those can take one while a node is down.
//! Invariant: after `strike` nothing is left and nothing starts any more.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::super::ClusterError;
use super::super::layout::{Layout, NODES};
use super::super::log;
use super::super::node::{check_ports, node_args};

/// First ports that are tried; with 10,000 added for the peers they are below 32,768.
const BASE_PORTS: std::ops::Range<u16> = 12_000..22_000;
/// A slow machine may need longer for an election than a command waits by default; the story is to show a pause then, not an error.
const NODE_PATIENCE: &str = "--request-timeout=20000";
/// Distance of two first ports.
const BASE_PORT_STEP: u16 = 10;

/// The nodes.
pub(super) struct Stage {
    layout: Layout,
    program: PathBuf,
    /// Node 1 first; `None` while it does not run.
    children: Vec<Option<Child>>,
    /// `None` after `strike`.
    dir: Option<TempDir>,
}

impl Stage {
    /// A directory and ports; no node runs yet.
    /// # Errors
    /// There is no room for a directory, or no port is free.
    pub(super) fn set_up() -> Result<Self, ClusterError> {
        let failed = |what| move |cause| ClusterError::System { what, cause };
        let dir = tempfile::Builder::new().prefix("redraft-demo-").tempdir().map_err(failed("cannot create a directory"))?;
        let program = std::env::current_exe().map_err(failed("cannot find this program's file"))?;
        let layout = free_layout(&dir)?;
        let children = layout.nodes().map(|_| None).collect();
        Ok(Self { layout, program, children, dir: Some(dir) })
    }

    /// Where the nodes are.
    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether a node was started and not killed since.
    pub(super) fn runs(&self, node: usize) -> bool {
        self.children[node - 1].is_some()
    }

    /// Starts a node that does not run.
    /// # Errors
    /// The system refuses, or the demonstration is over.
    pub(super) fn start(&mut self, node: usize) -> Result<(), ClusterError> {
        assert!(self.children[node - 1].is_none());
        if self.dir.is_none() {
            return Err(ClusterError::Interrupted);
        }
        let dir = self.layout.node_dir(node);
        std::fs::create_dir_all(&dir).map_err(|cause| ClusterError::File { path: dir, cause })?;
        let output = log::open(&self.layout.node_log(node))?;
        let failed = |cause| ClusterError::System { what: "cannot start a node", cause };
        let mut command = Command::new(&self.program);
        command.args(node_args(&self.layout, None, node)).arg(NODE_PATIENCE);
        // The demonstration is the same whatever the nodes of this machine are told.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("REDRAFT_")) {
            command.env_remove(name);
        }
        // In a group of its own, so that Ctrl-C does not end it behind the story's back.
        command.stdin(Stdio::null()).stdout(output.try_clone().map_err(failed)?).stderr(output).process_group(0);
        self.children[node - 1] = Some(command.spawn().map_err(failed)?);
        Ok(())
    }

    /// Kills a node: SIGKILL.
    pub(super) fn kill(&mut self, node: usize) {
        if let Some(mut child) = self.children[node - 1].take() {
            // What has ended by itself needs no signal, and is waited for all the same.
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// The last words of the nodes, for whoever wants to know why they are not in time.
    pub(super) fn last_words(&self) -> String {
        let words =
            self.layout.nodes().filter_map(|node| Some(format!("node {node}: {}", log::last_words(&self.layout.node_log(node), 0)?)));
        words.collect::<Vec<_>>().join("; ")
    }

    /// Ends it: kills all nodes and removes the directory.
    pub(super) fn strike(&mut self) {
        for node in self.layout.nodes() {
            self.kill(node);
        }
        if let Some(Err(error)) = self.dir.take().map(TempDir::close) {
            tracing::warn!(%error, "the directory of the demonstration stays");
        }
    }
}

/// A layout whose ports are all free. Demonstrations that run beside each other begin to look at different places.
fn free_layout(dir: &TempDir) -> Result<Layout, ClusterError> {
    let ports: Vec<u16> = BASE_PORTS.step_by(usize::from(BASE_PORT_STEP)).collect();
    let first = std::process::id() as usize % ports.len();
    let mut last = None;
    for base_port in ports[first..].iter().chain(&ports[..first]) {
        let layout = Layout::new(dir.path(), *base_port, NODES)?;
        match check_ports(&layout) {
            Ok(()) => return Ok(layout),
            Err(error) => last = Some(error),
        }
    }
    Err(last.expect("there are ports to try"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn ports_that_are_taken_are_passed_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = free_layout(&dir).expect("a port is free");
        let _taken = TcpListener::bind(layout.listen(1)).expect("it was free");
        let other = free_layout(&dir).expect("a port is free");
        assert_ne!(layout.listen(1), other.listen(1));
        assert!(BASE_PORTS.contains(&other.listen(1).port()));
    }

    #[test]
    fn nothing_is_left_behind_and_nothing_starts_any_more() {
        let mut stage = Stage::set_up().expect("room");
        let dir = stage.layout().dir().to_owned();
        assert!(dir.exists());
        stage.children[1] = Some(Command::new("sleep").arg("600").spawn().expect("sleep exists"));
        stage.strike();
        assert!(!dir.exists() && stage.children.iter().all(Option::is_none));
        assert!(matches!(stage.start(1), Err(ClusterError::Interrupted)));
    }
}
