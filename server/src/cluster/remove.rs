//! `cluster remove`: a node goes for good. First another node has the group let it go, so that nobody counts on its vote any more; then the
//! supervisor ends its process and sets its directory aside. Nothing is deleted. Run again, it goes on where it stopped.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use super::probe::{self, Member};
use super::request::Request;
use super::status::{self, INFO_PATIENCE, of_node, read_running};
use super::{ClusterError, Password};

/// How long the group may take to let a member go; longer than it tries.
const GROUP_PATIENCE: Duration = Duration::from_secs(30);
/// How long the supervisor may take.
const SUPERVISOR_PATIENCE: Duration = Duration::from_secs(60);
/// How often the state is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// `cluster remove`.
/// # Errors
/// The cluster does not run, no other node has a leader, the group refuses, or the supervisor does not act in time.
pub(super) fn remove(dir: &Path, node: usize, password: Password<'_>, out: &mut dyn Write) -> Result<(), ClusterError> {
    let state = read_running(dir)?;
    state.check_number(dir, "--node", node)?;
    let layout = state.layout(dir)?;
    let reports = status::look(&state, &layout, password);
    let Some((asked, _)) = status::led(&reports)?.into_iter().find(|(report, _)| report.node != node) else {
        return Err(ClusterError::Unhealthy("no other node answers and has a leader".to_owned()));
    };
    let refused = |error: probe::ProbeError| ClusterError::Refused { node: asked.node, problem: error.to_string() };
    let members = probe::members(asked.listen(), password, INFO_PATIENCE).map_err(refused)?;
    let own_id = of_node(&reports, node).info.as_ref().ok().map(|info| info.node_id);
    if let Some(id) = member_id(&members, own_id, &layout.peer(node).to_string()) {
        writeln!(out, "node {node}: the group lets member {id} go")?;
        out.flush()?;
        probe::carry_out(asked.listen(), password, &["RAFT", "REMOVE", &id.to_string()], GROUP_PATIENCE).map_err(refused)?;
    }
    let place = layout.set_aside_dir(node);
    let request = Request::Remove(node);
    request.leave(dir)?;
    let outcome = wait_until_gone(dir, node);
    // If nobody has taken it up, nobody must do so later.
    request.withdraw(dir)?;
    outcome?;
    if place.exists() {
        writeln!(out, "node {node}: gone; what it had is in {}", place.display())?;
    } else {
        writeln!(out, "node {node}: gone; its directory is where it was, see {}", layout.supervisor_log().display())?;
    }
    out.flush()?;
    Ok(())
}

/// The id under which the group knows a node: what the node says, if it is true, else that of the member at its address. `None` if the
/// group knows no such member any more.
fn member_id(members: &[Member], own_id: Option<u64>, peer: &str) -> Option<u64> {
    let ids = || members.iter().rev();
    let says_so = ids().find(|member| Some(member.node_id) == own_id);
    says_so.or_else(|| ids().find(|member| member.peer == peer)).map(|member| member.node_id)
}

fn wait_until_gone(dir: &Path, node: usize) -> Result<(), ClusterError> {
    let start = Instant::now();
    while read_running(dir)?.check_number(dir, "", node).is_ok() {
        if start.elapsed() > SUPERVISOR_PATIENCE {
            return Err(ClusterError::TooSlow(format!("the supervisor has not let node {node} go; the group has")));
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_found_by_what_its_node_says_or_by_its_address() {
        let member = |node_id, peer: &str| Member { node_id, peer: peer.to_owned(), is_voter: true };
        let members = [member(1, "a:1"), member(2, "b:1"), member(7, "b:1")];
        let check = |own_id, peer, expected| assert_eq!(member_id(&members, own_id, peer), expected);
        check(Some(2), "b:1", Some(2));
        check(Some(1), "c:1", Some(1));
        // The node does not answer, or says what is not true any more.
        check(None, "b:1", Some(7));
        check(Some(0), "a:1", Some(1));
        check(Some(9), "c:1", None);
    }
}
