//! `cluster rolling-restart`. One node at a time is asked to stop, the supervisor brings it back, and only when it has applied
//! all that was committed before does the next one follow; so a majority serves all the while. The leader comes last, since each turn
//! of a leader costs an election or a hand-over.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::layout::Layout;
use super::process::ProcessMark;
use super::status::{self, NodeReport, of_node, read_running};
use super::{ClusterError, Password};

/// How long a node may take to be back and caught up.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// `cluster rolling-restart`.
/// # Errors
/// The cluster does not run, is not well enough to lose a node, or a node does not come back in time.
pub(super) fn restart(dir: &Path, password: Password<'_>, out: &mut dyn Write) -> Result<(), ClusterError> {
    let state = read_running(dir)?;
    let layout = state.layout(dir)?;
    let mut reports = status::look(&state, &layout, password);
    // The order is settled once; leadership may move meanwhile, which costs an election and no more.
    reports.sort_by_key(|report| report.role() == "leader");
    for node in reports.iter().map(|report| report.node).collect::<Vec<_>>() {
        let state = read_running(dir)?;
        let reports = status::look(&state, &layout, password);
        let commit_index = ready_to_lose_a_node(&reports)?;
        let process = of_node(&reports, node).process.clone().expect("a node without trouble has a process");
        writeln!(out, "node {node}: stopping pid {}", process.pid)?;
        out.flush()?;
        process.signal(Signal::TERM);
        let (pid, took) = wait_until_caught_up(dir, &layout, password, node, &process, commit_index)?;
        writeln!(out, "node {node}: back as pid {pid} and caught up after {:.1} s", took.as_secs_f64())?;
        out.flush()?;
    }
    Ok(())
}

/// Checks that all nodes are there and led, and says up to where the log is committed.
fn ready_to_lose_a_node(reports: &[NodeReport]) -> Result<u64, ClusterError> {
    let mut commit_index = 0;
    for report in reports {
        match (&report.info, report.trouble()) {
            (Ok(info), None) if info.leader_id != 0 => commit_index = commit_index.max(info.commit_index),
            (_, Some(trouble)) => return Err(ClusterError::Unhealthy(format!("node {}: {trouble}", report.node))),
            (_, None) => return Err(ClusterError::Unhealthy(format!("node {} knows no leader", report.node))),
        }
    }
    Ok(commit_index)
}

/// Waits until a node runs as another process and has applied the log up to `commit_index`. Returns its pid and how long it took.
fn wait_until_caught_up(
    dir: &Path,
    layout: &Layout,
    password: Password<'_>,
    node: usize,
    before: &ProcessMark,
    commit_index: u64,
) -> Result<(u32, Duration), ClusterError> {
    let start = Instant::now();
    loop {
        let state = read_running(dir)?;
        let reports = status::look(&state, layout, password);
        let report = of_node(&reports, node);
        if let Some(reason) = &report.given_up {
            return Err(ClusterError::Unhealthy(format!("node {node} stays down: {reason}")));
        }
        let caught_up = report.info.as_ref().is_ok_and(|info| info.leader_id != 0 && info.applied_index >= commit_index);
        // The others must have a leader, too, or the next stop would find the cluster unwell.
        if let Some(process) = report.process.as_ref().filter(|process| *process != before)
            && caught_up
            && ready_to_lose_a_node(&reports).is_ok()
        {
            return Ok((process.pid, start.elapsed()));
        }
        if start.elapsed() > CATCH_UP_PATIENCE {
            let trouble = report.trouble().unwrap_or_else(|| "it has not caught up".to_owned());
            return Err(ClusterError::TooSlow(format!("node {node} is not back after {} s: {trouble}", CATCH_UP_PATIENCE.as_secs())));
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}
