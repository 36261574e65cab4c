//! `cluster rejoin`: has the supervisor start one node, once, with `--rejoin`, so that it comes back as a new member with the others' data.
//! The supervisor ends what may be left of the node, and counts the start in `cluster.json`.

use std::io::Write;
use std::path::Path;

use super::layout::Layout;
use super::probe::ProbeError;
use super::request::Request;
use super::start::this_program;
use super::status::{self, NodeReport, of_node, read_running};
use super::{ClusterError, Password, arrival};

/// `cluster rejoin`.
/// # Errors
/// The cluster does not run, the node is well, too few others are, or it does not come back in time.
pub(super) fn rejoin(dir: &Path, node: usize, password: Password<'_>, out: &mut dyn Write) -> Result<(), ClusterError> {
    let state = read_running(dir)?;
    let layout = state.layout(dir)?;
    state.check_number(dir, "--node", node)?;
    let commit_index = ready_to_take_in(&status::look(&state, &layout, password), node)?;
    let starts_before = state.node(node).rejoins;
    let request = Request::Rejoin(node);
    request.leave(dir)?;
    writeln!(out, "node {node}: its data are set aside, and it joins as a new member")?;
    out.flush()?;
    let arrival = arrival::wait(dir, password, request, commit_index, |state| state.node(node).rejoins > starts_before)?;
    writeln!(out, "node {node}: back as {arrival}")?;
    out.flush()?;
    Ok(())
}

/// The command that brings a node back which stays down, as this program was called, so that the line can be used as it stands.
pub(super) fn advice(layout: &Layout, node: usize) -> String {
    let command = format!("{} cluster rejoin --node {node} --dir {}", this_program(), super::start::shell_word(layout.dir()));
    format!("to make node {node} a new one that gets its data from the other nodes:  {command}")
}

/// Checks that a node is not well and that the others can take it in, and says up to where their log is committed. They must be led, and
/// more than half of all nodes without this one: what they have is all that there will be.
fn ready_to_take_in(reports: &[NodeReport], node: usize) -> Result<u64, ClusterError> {
    let (mut led, mut troubles) = (Vec::new(), Vec::new());
    for report in reports.iter().filter(|report| report.node != node) {
        match (&report.info, report.trouble()) {
            (Ok(info), None) if info.leader_id != 0 => led.push((report.listen_port(), info.commit_index)),
            (_, Some(trouble)) => troubles.push(format!("; node {}: {trouble}", report.node)),
            (_, None) => troubles.push(format!("; node {} knows no leader", report.node)),
        }
    }
    let (wanted, commit_index) = (reports.len() / 2 + 1, led.iter().map(|(_, commit_index)| *commit_index).max());
    let (Some((port, _)), Some(commit_index), true) = (led.first(), commit_index, led.len() >= wanted) else {
        let found = format!("{} of the other nodes answer and have a leader, and it takes {wanted}", led.len());
        return Err(ClusterError::Unhealthy(found + &troubles.concat()));
    };
    let own = of_node(reports, node);
    match (&own.info, own.trouble()) {
        (Ok(info), None) => Err(ClusterError::Options(format!(
            "--node: '{node}' is alive and answers; to make it a new one all the same, remove it first: redis-cli -p {port} RAFT REMOVE {}",
            info.node_id
        ))),
        (Err(ProbeError::ErrorReply(text)), Some(_)) => {
            Err(ClusterError::Options(format!("--node: '{node}' is alive and answers with an error: {text}")))
        }
        (Ok(_) | Err(_), _) => Ok(commit_index),
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe::RaftInfo;
    use super::super::process::ProcessMark;
    use super::super::state::{ClusterLock, ClusterState};
    use super::*;

    fn layout(nodes: u16) -> Layout {
        Layout::new(Path::new("/c"), 7001, nodes).expect("fits")
    }

    /// A node that answers and knows this leader.
    fn led_by(node: usize, leader_id: u64) -> NodeReport {
        let info = RaftInfo {
            cluster_id: "ab".repeat(20),
            node_id: node as u64 + 10,
            role: "follower".to_owned(),
            term: 3,
            applied_index: 20,
            commit_index: 20 + node as u64,
            leader_id,
            commands: 0,
            memory_bytes: 0,
        };
        NodeReport::found(&layout(5), node, ProcessMark::of_this_process(), None, Ok(info))
    }

    fn down(node: usize) -> NodeReport {
        NodeReport::found(&layout(5), node, None, Some("damaged".to_owned()), Err(ProbeError::Refused("no process".to_owned())))
    }

    #[test]
    fn a_node_comes_back_only_to_a_led_majority_of_the_others() {
        let check = |reports: &[NodeReport], expected: Result<u64, &str>| match (ready_to_take_in(reports, 1), expected) {
            (Ok(commit_index), Ok(expected)) => assert_eq!(commit_index, expected),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        };
        check(&[down(1), led_by(2, 12), led_by(3, 12)], Ok(23));
        check(&[down(1), led_by(2, 12), down(3)], Err("1 of the other nodes answer and have a leader, and it takes 2; node 3: damaged"));
        check(&[down(1), led_by(2, 12), led_by(3, 0)], Err("; node 3 knows no leader"));
        check(&[down(1), led_by(2, 12), led_by(3, 12), led_by(4, 12), down(5)], Ok(24));
        check(
            &[down(1), led_by(2, 12), led_by(3, 12), down(4), down(5)],
            Err("2 of the other nodes answer and have a leader, and it takes 3; "),
        );
        // Of an even number, half is no majority.
        check(&[down(1), led_by(2, 12), led_by(3, 12), down(4)], Err("2 of the other nodes answer and have a leader, and it takes 3"));
        check(&[down(1), led_by(2, 12)], Err("1 of the other nodes answer and have a leader, and it takes 2"));
        check(&[down(1)], Err("0 of the other nodes answer and have a leader, and it takes 1"));
        let full = NodeReport::found(
            &layout(5),
            1,
            ProcessMark::of_this_process(),
            None,
            Err(ProbeError::ErrorReply("ERR max number of clients reached".to_owned())),
        );
        check(&[full, led_by(2, 12), led_by(3, 12)], Err("answers with an error: ERR max number of clients reached"));
        check(&[led_by(1, 12), led_by(2, 12), led_by(3, 12)], Err("'1' is alive and answers"));
        check(&[led_by(1, 12), led_by(2, 12), led_by(3, 12)], Err("redis-cli -p 7002 RAFT REMOVE 11"));
    }

    #[test]
    fn without_a_supervisor_or_such_a_node_nothing_is_asked_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let refused = |node| rejoin(dir.path(), node, None, &mut Vec::<u8>::new()).expect_err("refused");
        assert!(matches!(refused(1), ClusterError::NoCluster(_)));
        let lock = ClusterLock::take(dir.path()).expect("free");
        let mut state = ClusterState::new(7001, 3);
        lock.write(&state).expect("writable");
        assert!(matches!(refused(1), ClusterError::NotRunning(_)));
        state.supervisor = ProcessMark::of_this_process();
        lock.write(&state).expect("writable");
        assert!(refused(4).to_string().starts_with("--node: '4' does not fit: the cluster in "));
        // Nobody else answers.
        assert!(matches!(refused(1), ClusterError::Unhealthy(_)));
        assert!(!Request::Rejoin(1).path(dir.path()).exists());
    }
}
