//! A cluster under `redraft cluster`, as a user of one machine has it: started, asked and stopped by its command line alone.
//! Supervisor and nodes are nobody's children, so `cluster stop` ends them when the value is dropped.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;

use crate::address::reserve_base_port;
use crate::client::Client;
use crate::dir::TestDir;
use crate::node::{RaftStatus, status_at};
use crate::process::{Finished, is_running, run_redraft, send_signal};
use crate::wait::{PATIENCE, eventually};

/// How long a command of `redraft cluster` may take.
const COMMAND_PATIENCE: Duration = Duration::from_secs(120);

/// A node as `cluster status --json` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// Its id as a member, if it says so.
    pub node_id: Option<u64>,
    /// Its process, if one runs.
    pub pid: Option<u32>,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Whether its process runs.
    pub alive: bool,
    /// `leader`, `follower`, or what keeps it from being either.
    pub role: String,
}

/// A cluster of three nodes under a supervisor.
#[derive(Debug)]
pub struct Supervised {
    dir: TestDir,
    base_port: u16,
}

impl Supervised {
    /// Starts a cluster of three in a new directory.
    /// # Panics
    /// It does not start.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        let cluster = Self { dir: TestDir::new(), base_port: reserve_base_port(3) };
        cluster.start_again();
        cluster
    }

    /// `cluster start`; returns when the cluster serves.
    /// # Panics
    /// It fails.
    #[track_caller]
    pub fn start_again(&self) {
        let finished = self.command(&["start", "--nodes", "3", "--base-port", &self.base_port.to_string()]);
        assert_eq!(finished.code, Some(0), "cluster start: {}", finished.output);
    }

    /// Runs `redraft cluster <args> --dir <directory>`.
    /// # Panics
    /// It does not end in time.
    #[track_caller]
    pub fn command(&self, args: &[&str]) -> Finished {
        let dir = self.dir().display().to_string();
        let line: Vec<&str> = ["cluster"].into_iter().chain(args.iter().copied()).chain(["--dir", &dir]).collect();
        run_redraft(&line, COMMAND_PATIENCE)
    }

    /// The cluster's directory.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.dir.join("cluster")
    }

    /// The directory of a node, by its position.
    #[must_use]
    pub fn node_dir(&self, position: usize) -> PathBuf {
        self.dir().join(format!("node-{}", position + 1))
    }

    /// Where clients connect, node by node, as the cluster was started.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        (0..3).map(|position| self.address(position)).collect()
    }

    /// Where clients connect to the node of a position, be it there or not.
    /// # Panics
    /// There is no such port.
    #[must_use]
    pub fn address(&self, position: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.base_port + u16::try_from(position).expect("a port")))
    }

    /// A connection to a node.
    /// # Panics
    /// It takes none in time.
    #[must_use]
    #[track_caller]
    pub fn client(&self, position: usize) -> Client {
        eventually("the node takes a connection", || Client::connect(self.address(position)).ok())
    }

    /// `cluster status --json`.
    /// # Panics
    /// It fails or says something else.
    #[must_use]
    #[track_caller]
    pub fn status(&self) -> Vec<NodeRow> {
        let finished = self.command(&["status", "--json"]);
        assert_eq!(finished.code, Some(0), "cluster status: {}", finished.output);
        let rows: serde_json::Value = serde_json::from_str(&finished.output).expect("status is JSON");
        rows.as_array().expect("an array").iter().map(parse_row).collect()
    }

    /// What a node says of its group; `None` if it does not answer.
    #[must_use]
    pub fn raft_status(&self, position: usize) -> Option<RaftStatus> {
        status_at(self.address(position))
    }

    /// Waits until one node leads and two follow.
    /// # Panics
    /// They do not in time.
    #[track_caller]
    pub fn wait_whole(&self) -> Vec<NodeRow> {
        eventually("one leader and two followers", || {
            let rows = self.status();
            let count = |role: &str| rows.iter().filter(|row| row.alive && row.role == role).count();
            ((count("leader"), count("follower")) == (1, 2)).then_some(rows)
        })
    }

    /// SIGKILL to the supervisor, so that it brings nothing back, and then to all nodes.
    /// # Panics
    /// They do not end in time.
    #[track_caller]
    pub fn kill_everything(&self) {
        let nodes = self.status().into_iter().filter_map(|row| row.pid);
        let all: Vec<u32> = self.supervisor_pid().into_iter().chain(nodes).collect();
        all.iter().for_each(|pid| send_signal(*pid, Signal::KILL));
        eventually("all processes have ended", || all.iter().all(|pid| !is_running(*pid)).then_some(()));
    }

    fn supervisor_pid(&self) -> Option<u32> {
        let state = std::fs::read_to_string(self.dir().join("cluster.json")).ok()?;
        let state: serde_json::Value = serde_json::from_str(&state).ok()?;
        u32::try_from(state["supervisor"]["pid"].as_u64()?).ok()
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for position in 0..3 {
                let log = std::fs::read_to_string(self.node_dir(position).join("redraft.log")).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                eprintln!("---- end of the log of node {}\n{}", position + 1, lines[lines.len().saturating_sub(30)..].join("\n"));
            }
        }
        let finished = self.command(&["stop"]);
        if finished.code != Some(0) {
            eprintln!("cluster stop: {}", finished.output);
        }
    }
}

fn parse_row(row: &serde_json::Value) -> NodeRow {
    NodeRow {
        node_id: row["node_id"].as_u64(),
        pid: row["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()),
        listen: row["listen"].as_str().and_then(|address| address.parse().ok()).expect("an address"),
        alive: row["alive"].as_bool().expect("alive is a boolean"),
        role: row["role"].as_str().expect("role is text").to_owned(),
    }
}

/// Waits until a node's process is another one and is alive; how long that took.
/// # Panics
/// It is not in time.
#[track_caller]
pub fn wait_back(cluster: &Supervised, position: usize, former_pid: u32) -> Duration {
    let began = std::time::Instant::now();
    crate::wait::eventually_within(PATIENCE, "the supervisor brings the node back", || {
        let row = &cluster.status()[position];
        (row.alive && row.pid != Some(former_pid)).then_some(())
    });
    began.elapsed()
}
