//! `cluster status` and `cluster health`: what the nodes are and whether all is well.
//! A node counts as alive while its process runs; what it is in the group it must say itself.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::layout::Layout;
use super::probe::{self, ProbeError, RaftInfo};
use super::process::ProcessMark;
use super::state::ClusterState;
use super::{ClusterError, Password, rejoin, table};

/// How long a node may take to say what it is.
pub(super) const INFO_PATIENCE: Duration = Duration::from_secs(1);
/// How long a node may take for a linearizable read; longer than an election.
const READ_PATIENCE: Duration = Duration::from_secs(6);

/// How `status` is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Table,
    /// For scripts.
    Json,
}

/// One node as it was found.
#[derive(Debug)]
pub(super) struct NodeReport {
    /// Number of the node, from 1.
    pub(super) node: usize,
    /// Its process, if it runs.
    pub(super) process: Option<ProcessMark>,
    /// Why it is not started again.
    pub(super) given_up: Option<String>,
    /// What it says of itself, or why it says nothing.
    pub(super) info: Result<RaftInfo, ProbeError>,
    listen: SocketAddr,
    peer: SocketAddr,
    admin: SocketAddr,
}

/// A node in `status --json`. Scripts rely on these names.
#[derive(Debug, Serialize)]
struct JsonRow {
    /// Null while the node does not answer.
    node_id: Option<u64>,
    /// Null while no process runs.
    pid: Option<u32>,
    listen: String,
    peer: String,
    admin: String,
    /// Whether its process runs.
    alive: bool,
    /// What it is in the group; `down`, `stopped` (not to be started again) or `unknown` (no answer) if it does not say.
    role: String,
    term: Option<u64>,
    applied_index: Option<u64>,
}

impl NodeReport {
    /// The node's role, or what stands in its place.
    pub(super) fn role(&self) -> &str {
        match (&self.given_up, &self.process, &self.info) {
            (Some(_), _, _) => "stopped",
            (None, None, _) => "down",
            (None, Some(_), Err(_)) => "unknown",
            (None, Some(_), Ok(info)) => &info.role,
        }
    }

    /// What is wrong with the node, if anything is.
    pub(super) fn trouble(&self) -> Option<String> {
        match (&self.given_up, &self.process, &self.info) {
            (Some(reason), _, _) => Some(reason.clone()),
            (None, None, _) => Some("no process".to_owned()),
            (None, Some(_), Err(reason)) => Some(reason.to_string()),
            (None, Some(_), Ok(_)) => None,
        }
    }

    /// Port for clients.
    pub(super) fn listen_port(&self) -> u16 {
        self.listen.port()
    }

    /// Where clients connect.
    pub(super) fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// A node as it was found, at its places.
    pub(super) fn found(
        layout: &Layout,
        node: usize,
        process: Option<ProcessMark>,
        given_up: Option<String>,
        info: Result<RaftInfo, ProbeError>,
    ) -> Self {
        let [listen, peer, admin] = [layout.listen(node), layout.peer(node), layout.admin(node)];
        Self { node, process, given_up, info, listen, peer, admin }
    }

    fn json_row(&self) -> JsonRow {
        let info = self.info.as_ref().ok();
        JsonRow {
            node_id: info.map(|info| info.node_id),
            pid: self.process.as_ref().map(|process| process.pid),
            listen: self.listen.to_string(),
            peer: self.peer.to_string(),
            admin: self.admin.to_string(),
            alive: self.process.is_some(),
            role: self.role().to_owned(),
            term: info.map(|info| info.term),
            applied_index: info.map(|info| info.applied_index),
        }
    }
}

/// Asks all nodes at the same time, so that one that does not answer delays nobody.
pub(super) fn look(state: &ClusterState, layout: &Layout, password: Password<'_>) -> Vec<NodeReport> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = layout.nodes().map(|node| scope.spawn(move || look_at(state, layout, password, node))).collect();
        asked.into_iter().map(|thread| thread.join().expect("asking does not panic")).collect()
    })
}

fn look_at(state: &ClusterState, layout: &Layout, password: Password<'_>, node: usize) -> NodeReport {
    let recorded = state.node(node);
    let process = recorded.process.filter(ProcessMark::is_alive);
    let info = if process.is_some() { probe::raft_info(layout.listen(node), password, INFO_PATIENCE) } else { Err(no_process()) };
    NodeReport::found(layout, node, process, recorded.given_up, info)
}

/// The report of a node that was looked at.
pub(super) fn of_node(reports: &[NodeReport], node: usize) -> &NodeReport {
    reports.iter().find(|report| report.node == node).expect("every node of a layout is looked at")
}

/// What a node without a process would answer.
fn no_process() -> ProbeError {
    ProbeError::Refused("no process".to_owned())
}

/// The nodes that answer and have a leader, with what they say; the leader comes first.
/// # Errors
/// There is none.
pub(super) fn led(reports: &[NodeReport]) -> Result<Vec<(&NodeReport, &RaftInfo)>, ClusterError> {
    let well = reports.iter().filter(|report| report.trouble().is_none());
    let mut led: Vec<_> =
        well.filter_map(|report| Some((report, report.info.as_ref().ok()?))).filter(|(_, info)| info.leader_id != 0).collect();
    led.sort_by_key(|(_, info)| info.role != "leader");
    if led.is_empty() { Err(ClusterError::Unhealthy("no node answers and has a leader".to_owned())) } else { Ok(led) }
}

/// The state of a cluster that is supervised.
/// # Errors
/// There is none.
pub(super) fn read_running(dir: &Path) -> Result<ClusterState, ClusterError> {
    let state = ClusterState::read_existing(dir)?;
    if state.is_supervised() { Ok(state) } else { Err(ClusterError::NotRunning(dir.to_owned())) }
}

/// `cluster status`.
/// # Errors
/// The cluster does not run.
pub(super) fn show(dir: &Path, password: Password<'_>, form: Form, out: &mut dyn Write) -> Result<(), ClusterError> {
    let state = read_running(dir)?;
    let layout = state.layout(dir)?;
    let reports = look(&state, &layout, password);
    match form {
        Form::Json => {
            let rows: Vec<JsonRow> = reports.iter().map(NodeReport::json_row).collect();
            writeln!(out, "{}", serde_json::to_string(&rows).expect("numbers and texts always become JSON"))?;
        }
        Form::Table => {
            out.write_all(status_table(&reports).as_bytes())?;
            for report in reports.iter().filter(|report| report.given_up.is_some()) {
                writeln!(out, "{}", rejoin::advice(&layout, report.node))?;
            }
        }
    }
    Ok(())
}

/// The nodes as columns under headings.
fn status_table(reports: &[NodeReport]) -> String {
    let rows = reports.iter().map(|report| {
        let row = report.json_row();
        let pid = table::number(row.pid.map(u64::from));
        let (id, term, applied) = (table::number(row.node_id), table::number(row.term), table::number(row.applied_index));
        let trouble = report.trouble().unwrap_or_default();
        vec![report.node.to_string(), id, pid, row.role, term, applied, row.listen, row.peer, row.admin, trouble]
    });
    table::render(&["NODE", "ID", "PID", "ROLE", "TERM", "APPLIED", "CLIENTS", "PEERS", "ADMIN", ""], rows.collect())
}

/// `cluster health`: one line per node, and success only if all is well.
/// # Errors
/// The cluster does not run, a node does not answer a linearizable read, or there is not exactly one leader.
pub(super) fn health(dir: &Path, password: Password<'_>, out: &mut dyn Write) -> Result<(), ClusterError> {
    let state = read_running(dir)?;
    let reports = look(&state, &state.layout(dir)?, password);
    let reads: Vec<Result<Duration, String>> = std::thread::scope(|scope| {
        let asked: Vec<_> = reports.iter().map(|report| scope.spawn(|| timed_read(report, password))).collect();
        asked.into_iter().map(|thread| thread.join().expect("asking does not panic")).collect()
    });
    let mut failed = Vec::new();
    for (report, read) in reports.iter().zip(reads) {
        match read {
            Ok(took) => writeln!(out, "node {}: ok, {}, read in {:.1} ms", report.node, report.role(), took.as_secs_f64() * 1e3)?,
            Err(reason) => {
                writeln!(out, "node {}: failed, {}: {reason}", report.node, report.role())?;
                failed.push(report.node.to_string());
            }
        }
    }
    let leaders = reports.iter().filter(|report| report.role() == "leader").count();
    if !failed.is_empty() {
        Err(ClusterError::Unhealthy(format!("no answer from node {}", failed.join(", "))))
    } else if leaders != 1 {
        Err(ClusterError::Unhealthy(format!("{leaders} nodes lead")))
    } else {
        Ok(())
    }
}

/// How long a node takes for a linearizable read.
fn timed_read(report: &NodeReport, password: Password<'_>) -> Result<Duration, String> {
    if let Some(trouble) = report.trouble() {
        return Err(trouble);
    }
    let start = Instant::now();
    probe::linearizable_read(report.listen, password, READ_PATIENCE).map_err(|error| error.to_string())?;
    Ok(start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(node: usize, process: Option<ProcessMark>, given_up: Option<&str>, info: Result<RaftInfo, ProbeError>) -> NodeReport {
        let layout = Layout::new(Path::new("/c"), 7001, 3).expect("fits");
        NodeReport::found(&layout, node, process, given_up.map(str::to_owned), info)
    }

    fn leader() -> RaftInfo {
        RaftInfo {
            cluster_id: "ab".repeat(20),
            node_id: 4,
            role: "leader".to_owned(),
            term: 3,
            applied_index: 120,
            commit_index: 121,
            leader_id: 4,
            commands: 0,
            memory_bytes: 0,
        }
    }

    #[test]
    fn json_has_the_promised_fields() {
        let mark = ProcessMark::of_this_process().expect("this process runs");
        let pid = mark.pid;
        let check = |report: NodeReport, expected: String| {
            assert_eq!(serde_json::to_string(&report.json_row()).expect("JSON"), expected);
        };
        let places = "\"listen\":\"127.0.0.1:7001\",\"peer\":\"127.0.0.1:17001\",\"admin\":\"127.0.0.1:8001\"";
        check(
            report(1, Some(mark.clone()), None, Ok(leader())),
            format!("{{\"node_id\":4,\"pid\":{pid},{places},\"alive\":true,\"role\":\"leader\",\"term\":3,\"applied_index\":120}}"),
        );
        check(
            report(1, None, None, Err(no_process())),
            format!("{{\"node_id\":null,\"pid\":null,{places},\"alive\":false,\"role\":\"down\",\"term\":null,\"applied_index\":null}}"),
        );
        let role = |report: NodeReport| report.json_row().role;
        assert_eq!(role(report(1, Some(mark), None, Err(ProbeError::Refused("no answer in time".to_owned())))), "unknown");
        assert_eq!(role(report(1, None, Some("removed"), Err(no_process()))), "stopped");
    }

    #[test]
    fn the_table_lines_up_and_says_what_is_wrong() {
        let reports = [
            report(1, ProcessMark::of_this_process(), None, Ok(leader())),
            report(2, None, Some("the node was removed"), Err(no_process())),
        ];
        let text = status_table(&reports);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0].find("ROLE"), lines[1].find("leader"));
        assert_eq!(lines[0].find("PEERS"), lines[2].find("127.0.0.1:17002"));
        assert!(lines[2].ends_with("the node was removed"));
    }

    #[test]
    fn a_cluster_without_a_supervisor_does_not_run() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(matches!(read_running(dir.path()), Err(ClusterError::NoCluster(_))));
        super::super::state::ClusterLock::take(dir.path()).expect("free").write(&ClusterState::new(7001, 3)).expect("writable");
        assert!(matches!(read_running(dir.path()), Err(ClusterError::NotRunning(_))));
    }
}
