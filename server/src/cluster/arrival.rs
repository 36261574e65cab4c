//! Waiting for a node that comes as a new member: the supervisor starts it, and it joins, gets the data of the others, and catches up.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::process::ProcessMark;
use super::request::Request;
use super::state::ClusterState;
use super::status::{self, NodeReport, read_running};
use super::{ClusterError, Password};

/// How long a node may take to arrive.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A node that has arrived.
#[derive(Debug)]
pub(super) struct Arrival {
    process: ProcessMark,
    /// Its id as a member.
    id: u64,
    role: String,
    took: Duration,
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} with id {}, {}, caught up after {:.1} s", self.process.pid, self.id, self.role, self.took.as_secs_f64())
    }
}

/// Waits until the supervisor has taken up a request, and its node has applied the log up to `commit_index`. A request that was not taken
/// up is withdrawn.
/// # Errors
/// The node does not start or arrive in time, or the cluster does not run any more.
pub(super) fn wait(
    dir: &Path,
    password: Password<'_>,
    request: Request,
    commit_index: u64,
    is_taken_up: impl Fn(&ClusterState) -> bool,
) -> Result<Arrival, ClusterError> {
    let arrival = wait_for_node(dir, password, request.node(), commit_index, is_taken_up);
    // If nobody has taken it up, nobody must do so later.
    let withdrawn = request.withdraw(dir);
    let arrival = arrival?;
    withdrawn?;
    Ok(arrival)
}

fn wait_for_node(
    dir: &Path,
    password: Password<'_>,
    node: usize,
    commit_index: u64,
    is_taken_up: impl Fn(&ClusterState) -> bool,
) -> Result<Arrival, ClusterError> {
    let start = Instant::now();
    loop {
        let state = read_running(dir)?;
        let reports = if is_taken_up(&state) { status::look(&state, &state.layout(dir)?, password) } else { Vec::new() };
        let report = reports.into_iter().find(|report| report.node == node);
        if let Some(reason) = report.as_ref().and_then(|report| report.given_up.as_ref()) {
            return Err(ClusterError::Unhealthy(format!("node {node} stays down: {reason}")));
        }
        if let Some(NodeReport { process: Some(process), info: Ok(info), .. }) = &report
            && info.leader_id != 0
            && info.applied_index >= commit_index
        {
            return Ok(Arrival { process: process.clone(), id: info.node_id, role: info.role.clone(), took: start.elapsed() });
        }
        if start.elapsed() > PATIENCE {
            let trouble = match &report {
                Some(report) => report.trouble().unwrap_or_else(|| "it has not caught up".to_owned()),
                None => "the supervisor has not started it".to_owned(),
            };
            return Err(ClusterError::TooSlow(format!("node {node} is not there after {} s: {trouble}", PATIENCE.as_secs())));
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}
