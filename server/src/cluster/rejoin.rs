//! `cluster rejoin`: has the supervisor start one node, once, with `--rejoin`, so that it comes back as a new member with the others' data.
//! The supervisor ends what may be left of the node, and counts the start in `cluster.json`.

use std::io::Write;
use std::path::Path;

use super::layout::Layout;
use super::probe::{self, ProbeError};
use super::request::Request;
use super::start::this_program;
use super::status::{self, INFO_PATIENCE, NodeReport, of_node, read_running};
use super::{ClusterError, Password, arrival};

/// `cluster rejoin`.
/// # Errors
/// The cluster does not run, the node is well, too few others are, or it does not come back in time.
pub(super) fn rejoin(dir: &Path, node: usize, password: Password<'_>, out: &mut dyn Write) -> Result<(), ClusterError> {
    let state = read_running(dir)?;
    let layout = state.layout(dir)?;
    state.check_number(dir, "--node", node)?;
    let reports = status::look(&state, &layout, password);
    let commit_index = ready_to_take_in(&reports, node, &voters(&reports, node, password)?)?;
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

/// Ids of the voters, as one of the other nodes knows them that has a leader; none if there is no such node.
fn voters(reports: &[NodeReport], node: usize, password: Password<'_>) -> Result<Vec<u64>, ClusterError> {
    let led = status::led(reports).unwrap_or_default();
    let Some((asked, _)) = led.into_iter().find(|(report, _)| report.node != node) else { return Ok(Vec::new()) };
    let refused = |error: ProbeError| ClusterError::Refused { node: asked.node, problem: error.to_string() };
    let members = probe::members(asked.listen(), password, INFO_PATIENCE).map_err(refused)?;
    Ok(members.into_iter().filter(|member| member.is_voter).map(|member| member.node_id).collect())
}

/// Checks that a node is not well and that the others can take it in, and says up to where their log is committed. Those that are led must
/// be more than half of the voters without this one: what they have is all that there will be. That somebody is led does not prove it: a
/// leader may have been lost a moment ago, and a node that says nothing may still be one of the majority.
fn ready_to_take_in(reports: &[NodeReport], node: usize, voters: &[u64]) -> Result<u64, ClusterError> {
    let (mut led, mut led_voters, mut troubles) = (Vec::new(), 0, Vec::new());
    for report in reports.iter().filter(|report| report.node != node) {
        match (&report.info, report.trouble()) {
            (Ok(info), None) if info.leader_id != 0 => {
                led.push((report.listen_port(), info.commit_index));
                led_voters += usize::from(voters.contains(&info.node_id));
            }
            (_, Some(trouble)) => troubles.push(format!("; node {}: {trouble}", report.node)),
            (_, None) => troubles.push(format!("; node {} knows no leader", report.node)),
        }
    }
    let (wanted, commit_index) = (voters.len() / 2 + 1, led.iter().map(|(_, commit_index)| *commit_index).max());
    let (Some((port, _)), Some(commit_index), true) = (led.first(), commit_index, led_voters >= wanted) else {
        let found = format!("{led_voters} of the other voters answer and have a leader, and it takes {wanted}");
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
        let check_voters =
            |voters: &[u64], reports: &[NodeReport], expected: Result<u64, &str>| match (ready_to_take_in(reports, 1, voters), expected) {
                (Ok(commit_index), Ok(expected)) => assert_eq!(commit_index, expected),
                (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
                (found, expected) => panic!("{found:?} instead of {expected:?}"),
            };
        let all = |nodes: usize| (11..).take(nodes).collect::<Vec<u64>>();
        let check = |reports: &[NodeReport], expected| check_voters(&all(reports.len()), reports, expected);
        check(&[down(1), led_by(2, 12), led_by(3, 12)], Ok(23));
        check(&[down(1), led_by(2, 12), down(3)], Err("1 of the other voters answer and have a leader, and it takes 2; node 3: damaged"));
        check(&[down(1), led_by(2, 12), led_by(3, 0)], Err("; node 3 knows no leader"));
        check(&[down(1), led_by(2, 12), led_by(3, 12), led_by(4, 12), down(5)], Ok(24));
        check(
            &[down(1), led_by(2, 12), led_by(3, 12), down(4), down(5)],
            Err("2 of the other voters answer and have a leader, and it takes 3; "),
        );
        // Of an even number, half is no majority.
        check(&[down(1), led_by(2, 12), led_by(3, 12), down(4)], Err("2 of the other voters answer and have a leader, and it takes 3"));
        check(&[down(1), led_by(2, 12)], Err("1 of the other voters answer and have a leader, and it takes 2"));
        check_voters(&[], &[down(1)], Err("0 of the other voters answer and have a leader, and it takes 1"));
        // Learners count for nothing, neither those that are down nor those that are there.
        check_voters(&all(3), &[down(1), led_by(2, 12), led_by(3, 12), down(4), down(5)], Ok(23));
        check_voters(&all(3), &[down(1), led_by(2, 12), down(3), led_by(4, 12), led_by(5, 12)], Err("1 of the other voters answer"));
        // Nor does the node itself, if it has no vote.
        check_voters(&[12, 13, 14], &[down(1), led_by(2, 12), led_by(3, 12), down(4)], Ok(23));
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
