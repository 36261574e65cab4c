//! `cluster rejoin`: has the supervisor start one node, once, with `--rejoin`, so that it comes back as a new member with the others' data.
//! The command leaves a request, an empty file `rejoin-<node>` in the cluster's directory, since a signal cannot say which node is meant. The
//! supervisor looks for it, removes it, ends what may be left of the node, and counts the start in `cluster.json`.
//! Invariant: a request that nobody took up is withdrawn, by the command or by the next supervisor, so no data are set aside unasked.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::layout::Layout;
use super::probe::ProbeError;
use super::process::ProcessMark;
use super::start::this_program;
use super::status::{self, NodeReport, read_running};
use super::{ClusterError, Password};

/// How long a node may take to be back and caught up.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// `cluster rejoin`.
/// # Errors
/// The cluster does not run, the node is well, too few others are, or it does not come back in time.
pub(super) fn rejoin(dir: &Path, node: usize, password: Password<'_>, out: &mut dyn Write) -> Result<(), ClusterError> {
    let state = read_running(dir)?;
    let layout = state.layout(dir)?;
    if !layout.nodes().any(|known| known == node) {
        let has = format!("the cluster in {} has {} nodes", dir.display(), state.nodes.len());
        return Err(ClusterError::Options(format!("--node: '{node}' does not fit: {has}")));
    }
    let commit_index = ready_to_take_in(&status::look(&state, &layout, password), node)?;
    let starts_before = state.nodes[node - 1].rejoins;
    let request = request_path(&layout, node);
    std::fs::File::create(&request).map_err(|cause| ClusterError::File { path: request.clone(), cause })?;
    writeln!(out, "node {node}: its data are set aside, and it joins as a new member")?;
    out.flush()?;
    let outcome = wait_until_back(dir, &layout, password, node, starts_before, commit_index);
    // If nobody has taken it up, nobody must do so later.
    let withdrawn = remove_request(&layout, node);
    let (process, id, role, took) = outcome?;
    withdrawn?;
    writeln!(out, "node {node}: back as pid {} with id {id}, {role}, caught up after {:.1} s", process.pid, took.as_secs_f64())?;
    out.flush()?;
    Ok(())
}

/// Takes up the request for a node, if there is one.
pub(super) fn take_request(layout: &Layout, node: usize) -> bool {
    // Who cannot remove it would start the node anew again and again.
    remove_request(layout, node).inspect_err(|error| tracing::error!(%error, "cannot take up a request")).unwrap_or(false)
}

/// Removes requests that an earlier supervisor did not take up.
/// # Errors
/// One cannot be removed.
pub(super) fn withdraw_all(layout: &Layout) -> Result<(), ClusterError> {
    layout.nodes().try_for_each(|node| remove_request(layout, node).map(drop))
}

/// The command that brings a node back which stays down, as this program was called, so that the line can be used as it stands.
pub(super) fn advice(layout: &Layout, node: usize) -> String {
    let command = format!("{} cluster rejoin --node {node} --dir {}", this_program(), super::start::shell_word(layout.dir()));
    format!("to make node {node} a new one that gets its data from the other nodes:  {command}")
}

fn request_path(layout: &Layout, node: usize) -> PathBuf {
    layout.dir().join(format!("rejoin-{node}"))
}

/// Removes a request; whether there was one.
fn remove_request(layout: &Layout, node: usize) -> Result<bool, ClusterError> {
    let path = request_path(layout, node);
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(cause) => Err(ClusterError::File { path, cause }),
    }
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
    let own = &reports[node - 1];
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

/// Waits until the supervisor has started the node anew and the node has applied the log up to `commit_index`. Returns its process, id and
/// role, and how long it took.
fn wait_until_back(
    dir: &Path,
    layout: &Layout,
    password: Password<'_>,
    node: usize,
    starts_before: u64,
    commit_index: u64,
) -> Result<(ProcessMark, u64, String, Duration), ClusterError> {
    let start = Instant::now();
    loop {
        let state = read_running(dir)?;
        let is_taken_up = state.nodes[node - 1].rejoins > starts_before;
        let report = status::look(&state, layout, password).swap_remove(node - 1);
        if let Some(reason) = report.given_up.as_ref().filter(|_| is_taken_up) {
            return Err(ClusterError::Unhealthy(format!("node {node} stays down: {reason}")));
        }
        if let (true, Some(process), Ok(info)) = (is_taken_up, &report.process, &report.info)
            && info.leader_id != 0
            && info.applied_index >= commit_index
        {
            return Ok((process.clone(), info.node_id, info.role.clone(), start.elapsed()));
        }
        if start.elapsed() > CATCH_UP_PATIENCE {
            let trouble = if is_taken_up { report.trouble() } else { Some("the supervisor has not started it".to_owned()) };
            let trouble = trouble.unwrap_or_else(|| "it has not caught up".to_owned());
            return Err(ClusterError::TooSlow(format!("node {node} is not back after {} s: {trouble}", CATCH_UP_PATIENCE.as_secs())));
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe::RaftInfo;
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
    fn a_request_is_taken_up_once_and_does_not_outlive_its_supervisor() {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::new(dir.path(), 7001, 3).expect("fits");
        assert!(!take_request(&layout, 2));
        std::fs::write(request_path(&layout, 2), "").expect("writable");
        assert_eq!([1, 2, 2].map(|node| take_request(&layout, node)), [false, true, false]);
        std::fs::write(request_path(&layout, 3), "").expect("writable");
        withdraw_all(&layout).expect("withdrawn");
        assert!(!take_request(&layout, 3));
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
        assert!(!request_path(&state.layout(dir.path()).expect("fits"), 1).exists());
    }
}
