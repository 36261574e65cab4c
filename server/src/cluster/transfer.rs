//! `cluster transfer`: another node leads, without an election that clients could notice.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::probe::{self, RaftInfo};
use super::status::{self, NodeReport, of_node, read_running};
use super::{ClusterError, Password};

/// How long a transfer may take; longer than the group tries.
const PATIENCE: Duration = Duration::from_secs(30);

/// `cluster transfer`: to a node, or to the follower with the longest log.
/// # Errors
/// The cluster does not run or has no leader, or the group refuses.
pub(super) fn transfer(dir: &Path, to: Option<usize>, password: Password<'_>, out: &mut dyn Write) -> Result<(), ClusterError> {
    let state = read_running(dir)?;
    if let Some(node) = to {
        state.check_number(dir, "--to", node)?;
    }
    let reports = status::look(&state, &state.layout(dir)?, password);
    let led = status::led(&reports)?;
    let Some((leader, _)) = led.iter().find(|(_, info)| info.role == "leader") else {
        return Err(ClusterError::Unhealthy("no node leads".to_owned()));
    };
    let (target, id) = match to {
        Some(node) => chosen(&reports, node)?,
        None => furthest(&led).ok_or_else(|| ClusterError::Unhealthy("no other node could lead".to_owned()))?,
    };
    if target == leader.node {
        writeln!(out, "node {target} leads already")?;
        return Ok(());
    }
    let refused = |error: probe::ProbeError| ClusterError::Refused { node: leader.node, problem: error.to_string() };
    probe::carry_out(leader.listen(), password, &["RAFT", "TRANSFER", &id.to_string()], PATIENCE).map_err(refused)?;
    writeln!(out, "node {target} leads; before, node {} did", leader.node)?;
    out.flush()?;
    Ok(())
}

/// The number and the member's id of a node that was named.
fn chosen(reports: &[NodeReport], node: usize) -> Result<(usize, u64), ClusterError> {
    match &of_node(reports, node).info {
        Ok(info) => Ok((node, info.node_id)),
        Err(error) => Err(ClusterError::Refused { node, problem: error.to_string() }),
    }
}

/// Number and id of the follower that has applied most.
fn furthest(led: &[(&NodeReport, &RaftInfo)]) -> Option<(usize, u64)> {
    let followers = led.iter().filter(|(_, info)| info.role == "follower");
    followers.max_by_key(|(_, info)| info.applied_index).map(|(report, info)| (report.node, info.node_id))
}
