//! `redraft status`: how the cluster does, once or again every second until a key or a signal ends it.
//! A rate is what a node's counter of commands rose by between two looks, so it takes two of them; a node that was started meanwhile has none.
//! What is shown is asked for as `cluster status` asks.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::process::ProcessMark;
use super::status::{self, NodeReport, read_running};
use super::{ClusterError, Password, signals, table};
use crate::info::human;
use crate::terminal::{self, Screen};

/// Time between two looks while somebody watches.
const INTERVAL: Duration = Duration::from_secs(1);
/// Time between the two looks that one view takes.
const RATE_INTERVAL: Duration = Duration::from_millis(300);
/// How long a signal may go unnoticed.
const KEY_PATIENCE: Duration = Duration::from_millis(100);
/// Ctrl-C and Ctrl-D, should the terminal pass them on.
const CONTROL_KEYS: [u8; 2] = [0x03, 0x04];

/// What the nodes were at one moment.
struct Look {
    at: Instant,
    reports: Vec<NodeReport>,
}

/// `redraft status`: one view.
/// # Errors
/// The cluster does not run.
pub(super) fn show(dir: &Path, password: Password<'_>, out: &mut dyn Write) -> Result<(), ClusterError> {
    let before = look(dir, password)?;
    // A rate needs a time to count in.
    std::thread::sleep(RATE_INTERVAL);
    let now = look(dir, password)?;
    out.write_all(render(&now, Some(&before)).as_bytes())?;
    Ok(())
}

/// `redraft status --watch`.
/// # Errors
/// The cluster does not run, or there is no terminal.
pub(super) fn watch(dir: &Path, password: Password<'_>) -> Result<(), ClusterError> {
    if !terminal::is_attended() {
        return Err(ClusterError::Options("--watch needs a terminal; without it the nodes are shown once".to_owned()));
    }
    let mut before = look(dir, password)?;
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    signals::listen(move || {
        over.store(true, Ordering::Release);
        Ok::<(), ()>(())
    })?;
    let screen = Screen::enter()?;
    let mut view = render(&before, None);
    loop {
        let lines = [format!("{}   q ends this", dir.display()), String::new()].into_iter().chain(view.lines().map(str::to_owned));
        screen.show(&lines.collect::<Vec<_>>())?;
        if is_left(&screen, &is_over, Instant::now() + INTERVAL)? {
            return Ok(());
        }
        view = match look(dir, password) {
            Ok(now) => {
                let view = render(&now, Some(&before));
                before = now;
                view
            }
            // It may come back, and somebody may be waiting for that.
            Err(error) => error.to_string(),
        };
    }
}

/// Waits until it is time for the next look, or somebody wants to leave; whether somebody does.
fn is_left(screen: &Screen, is_over: &AtomicBool, next_look: Instant) -> Result<bool, ClusterError> {
    while Instant::now() < next_look {
        if is_over.load(Ordering::Acquire) {
            return Ok(true);
        }
        let patience = next_look.saturating_duration_since(Instant::now()).min(KEY_PATIENCE);
        if let Some(key) = screen.key(patience)?
            && (key.eq_ignore_ascii_case(&b'q') || CONTROL_KEYS.contains(&key))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn look(dir: &Path, password: Password<'_>) -> Result<Look, ClusterError> {
    let state = read_running(dir)?;
    let reports = status::look(&state, &state.layout(dir)?, password);
    Ok(Look { at: Instant::now(), reports })
}

/// The nodes as columns under headings; with an earlier look, commands per second.
fn render(now: &Look, before: Option<&Look>) -> String {
    let commit_index = now.reports.iter().filter_map(|report| report.info.as_ref().ok()).map(|info| info.commit_index).max().unwrap_or(0);
    let rates = before.map(|before| rates(now, before)).unwrap_or_default();
    let rows = now.reports.iter().map(|report| {
        let info = report.info.as_ref().ok();
        vec![
            report.node.to_string(),
            report.listen().to_string(),
            report.role().to_owned(),
            table::number(info.map(|info| info.term)),
            table::number(info.map(|info| info.applied_index)),
            table::number(info.map(|info| commit_index.saturating_sub(info.applied_index))),
            table::number(rates.get(&report.node).copied()),
            info.map_or_else(|| table::number(None), |info| human(info.memory_bytes)),
            if report.process.is_some() { "yes" } else { "no" }.to_owned(),
            report.trouble().unwrap_or_default(),
        ]
    });
    table::render(&["NODE", "ADDRESS", "ROLE", "TERM", "APPLIED", "LAG", "COMMANDS/S", "MEMORY", "ALIVE", ""], rows.collect())
}

/// Commands per second, by the number of the node.
fn rates(now: &Look, before: &Look) -> BTreeMap<usize, u64> {
    let seconds = now.at.saturating_duration_since(before.at).as_secs_f64().max(0.001);
    let counts: BTreeMap<usize, (&ProcessMark, u64)> = before.reports.iter().filter_map(count).collect();
    let rate = |report| {
        let (node, (process, commands)) = count(report)?;
        // Another process counts from zero.
        let (_, earlier) = counts.get(&node).filter(|(former, _)| *former == process)?;
        Some((node, (commands.saturating_sub(*earlier) as f64 / seconds).round() as u64))
    };
    now.reports.iter().filter_map(rate).collect()
}

/// How many commands which process of a node has carried out.
fn count(report: &NodeReport) -> Option<(usize, (&ProcessMark, u64))> {
    let info = report.info.as_ref().ok()?;
    Some((report.node, (report.process.as_ref()?, info.commands)))
}

#[cfg(test)]
mod tests {
    use super::super::layout::Layout;
    use super::super::probe::{ProbeError, RaftInfo};
    use super::*;

    fn leader(commands: u64) -> RaftInfo {
        RaftInfo {
            cluster_id: "ab".repeat(20),
            node_id: 4,
            role: "leader".to_owned(),
            term: 3,
            applied_index: 118,
            commit_index: 121,
            leader_id: 4,
            commands,
            memory_bytes: 3 << 20,
        }
    }

    fn look(at: Instant, commands: u64, process: &ProcessMark) -> Look {
        let layout = Layout::new(Path::new("/c"), 7001, 2).expect("fits");
        let gone = Err(ProbeError::Refused("no process".to_owned()));
        let reports = vec![
            NodeReport::found(&layout, 1, Some(process.clone()), None, Ok(leader(commands))),
            NodeReport::found(&layout, 2, None, None, gone),
        ];
        Look { at, reports }
    }

    #[test]
    fn nodes_are_shown_with_their_lag_and_rate() {
        let mark = ProcessMark::of_this_process().expect("this process runs");
        let start = Instant::now();
        let (before, now) = (look(start, 100, &mark), look(start + Duration::from_secs(2), 500, &mark));
        let cells =
            |text: &str, line: usize| text.lines().nth(line).expect("a line").split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let text = render(&now, Some(&before));
        assert_eq!(cells(&text, 1), ["1", "127.0.0.1:7001", "leader", "3", "118", "3", "200", "3.00M", "yes"]);
        assert_eq!(cells(&text, 2)[..9], ["2", "127.0.0.1:7002", "down", "-", "-", "-", "-", "-", "no"]);
        assert_eq!(cells(&render(&now, None), 1)[6], "-");
    }

    #[test]
    fn another_process_has_no_rate_yet() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().expect("sleep exists");
        let other = ProcessMark::of(child.id()).expect("it runs");
        let mark = ProcessMark::of_this_process().expect("this process runs");
        let start = Instant::now();
        assert!(rates(&look(start + INTERVAL, 500, &mark), &look(start, 100, &other)).is_empty());
        child.kill().expect("ours");
        child.wait().expect("ended");
    }
}
