//! `cluster add`: one node more, under the next number, with the ports that follow from it. The supervisor starts it; it joins the others by
//! itself, as a learner first, and votes if there are fewer voters than `replication-factor`.

use std::io::Write;
use std::path::Path;

use super::node::check_ports_of;
use super::request::Request;
use super::status::{self, read_running};
use super::{ClusterError, Password, arrival};

/// `cluster add`.
/// # Errors
/// The cluster does not run or has no leader, there are as many nodes as there may be, a port is taken, or the node does not arrive.
pub(super) fn add(dir: &Path, password: Password<'_>, out: &mut dyn Write) -> Result<(), ClusterError> {
    let state = read_running(dir)?;
    let Some(node) = state.next_number() else {
        let most = format!("the cluster in {} has {} nodes, the most that one supervisor takes", dir.display(), state.node_count());
        return Err(ClusterError::Options(most));
    };
    if state.cluster_id.is_none() {
        return Err(ClusterError::Unhealthy("the nodes have not formed it yet".to_owned()));
    }
    let reports = status::look(&state, &state.layout(dir)?, password);
    let commit_index = status::led(&reports)?.iter().map(|(_, info)| info.commit_index).max().unwrap_or(0);
    let mut grown = state;
    grown.add(node);
    let layout = grown.layout(dir)?;
    check_ports_of(&layout, node)?;
    let request = Request::Add(node);
    request.leave(dir)?;
    writeln!(out, "node {node}: joins the others, for clients on {}", layout.listen(node))?;
    out.flush()?;
    let arrival = arrival::wait(dir, password, request, commit_index, |state| state.check_number(dir, "", node).is_ok())?;
    writeln!(out, "node {node}: runs as {arrival}")?;
    out.flush()?;
    Ok(())
}
