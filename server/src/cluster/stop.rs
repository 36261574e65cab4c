//! `cluster stop`: has the supervisor stop its nodes; without a supervisor, stops what it left behind.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::process::{ProcessMark, terminate};
use super::state::{ClusterLock, ClusterState};
use super::{ClusterError, STOP_PATIENCE};

/// How long a supervisor may take: it waits for its nodes, and once more after it has killed them.
const SUPERVISOR_PATIENCE: Duration = STOP_PATIENCE.saturating_mul(2).saturating_add(Duration::from_secs(5));

/// `cluster stop`. A cluster that does not run is left as it is.
/// # Errors
/// There is no cluster, or it cannot be stopped.
pub(super) fn stop(dir: &Path, out: &mut dyn Write) -> Result<(), ClusterError> {
    let state = ClusterState::read_existing(dir)?;
    let supervisor = state.supervisor.as_ref().filter(|supervisor| supervisor.is_alive());
    if let Some(supervisor) = supervisor {
        writeln!(out, "stopping {} nodes (supervisor pid {})", state.running_nodes().len(), supervisor.pid)?;
        out.flush()?;
        supervisor.signal(Signal::TERM);
        if !supervisor.wait_until_gone(SUPERVISOR_PATIENCE) {
            return Err(ClusterError::TooSlow(format!("the supervisor (pid {}) does not stop", supervisor.pid)));
        }
    }
    // A supervisor that was killed leaves nodes behind, and a record that says otherwise.
    let lock = ClusterLock::take(dir)?;
    let mut state = ClusterState::read_existing(dir)?;
    let left_over = state.running_nodes();
    if !left_over.is_empty() {
        writeln!(out, "stopping {} nodes that an earlier supervisor left behind", left_over.len())?;
        out.flush()?;
        terminate(&left_over, STOP_PATIENCE);
        if left_over.iter().any(ProcessMark::is_alive) {
            return Err(ClusterError::TooSlow("a node cannot be killed".to_owned()));
        }
    }
    let was_running = supervisor.is_some() || !left_over.is_empty();
    state.supervisor = None;
    for node in &mut state.nodes {
        node.process = None;
    }
    lock.write(&state)?;
    writeln!(out, "{}", if was_running { "stopped" } else { "the cluster was not running" })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn stop_in(dir: &Path) -> (Result<(), ClusterError>, String) {
        let mut out = Vec::new();
        let outcome = stop(dir, &mut out);
        (outcome, String::from_utf8(out).expect("text"))
    }

    #[test]
    fn what_a_killed_supervisor_left_behind_is_stopped() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut node = Command::new("sleep").arg("600").spawn().expect("sleep exists");
        let mut gone = Command::new("true").spawn().expect("true exists");
        let mut state = ClusterState::new(7001, 1);
        state.nodes[0].process = ProcessMark::of(node.id());
        state.supervisor = ProcessMark::of(gone.id());
        gone.wait().expect("ended");
        ClusterLock::take(dir.path()).expect("free").write(&state).expect("writable");
        let (outcome, said) = stop_in(dir.path());
        outcome.expect("stopped");
        assert_eq!(said, "stopping 1 nodes that an earlier supervisor left behind\nstopped\n");
        assert!(!node.wait().expect("ended").success());
        let state = ClusterState::read_existing(dir.path()).expect("readable");
        assert_eq!((state.supervisor, state.nodes[0].process.clone()), (None, None));
    }

    #[test]
    fn a_cluster_that_does_not_run_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(matches!(stop_in(dir.path()).0, Err(ClusterError::NoCluster(_))));
        ClusterLock::take(dir.path()).expect("free").write(&ClusterState::new(7001, 3)).expect("writable");
        let (outcome, said) = stop_in(dir.path());
        outcome.expect("nothing to do");
        assert_eq!(said, "the cluster was not running\n");
    }

    #[test]
    fn a_start_in_progress_is_not_disturbed() {
        let dir = tempfile::tempdir().expect("a directory");
        let lock = ClusterLock::take(dir.path()).expect("free");
        lock.write(&ClusterState::new(7001, 3)).expect("writable");
        assert!(matches!(stop_in(dir.path()).0, Err(ClusterError::AlreadyRunning(_))));
    }
}
