//! `cluster start`: settles what to start, puts a supervisor to work, and waits until the cluster serves.
//! In the background the supervisor is this program once more, in a session of its own, with `supervisor.log` for its output. Starting a
//! cluster that runs is no error: it is waited for all the same, so scripts may start without asking first.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::layout::{BASE_PORT, Layout, NODES};
use super::probe::ProbeError;
use super::state::{ClusterLock, ClusterState};
use super::{ClusterError, Password, StartOptions, log, probe, rejoin, status, supervisor};
use crate::config::Secret;

/// How long a cluster may take until it serves.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How often the state of affairs is told even if it has not changed.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// How long a node may take for the read that shows that it serves; the next look asks again.
const READ_PATIENCE: Duration = Duration::from_secs(2);

/// `cluster start`.
/// # Errors
/// The options do not fit, the nodes do not start, or the cluster does not serve in time.
pub(super) fn start(options: &StartOptions, password: Password<'_>, out: &mut dyn Write) -> Result<(), ClusterError> {
    let (dir, state) = settle(options)?;
    let layout = state.layout(&dir)?;
    let running = state.supervisor.as_ref().filter(|supervisor| supervisor.is_alive());
    let mut child = None;
    if let Some(supervisor) = running {
        writeln!(out, "a cluster already runs in {} (supervisor pid {})", dir.display(), supervisor.pid)?;
    } else {
        child = Some(Supervisor::spawn(&layout, &state)?);
    }
    wait_until_it_serves(&layout, password, out, || child.as_mut().map_or(Ok(()), Supervisor::check))?;
    announce(&layout, out)
}

/// `cluster start --foreground`: supervises in this process until a signal.
/// # Errors
/// The options do not fit, a cluster runs there already, or the nodes do not start.
pub(super) fn start_in_foreground(options: &StartOptions, password: Password<'_>) -> Result<(), ClusterError> {
    let (dir, state) = settle(options)?;
    let layout = state.layout(&dir)?;
    let lock = ClusterLock::take(&dir)?;
    let (announced, asked_with) = (layout.clone(), password.cloned());
    // It ends with the process; the supervisor does not wait for it.
    let announcer = std::thread::Builder::new().name("announcer".to_owned()).spawn(move || {
        let mut out = std::io::stdout();
        let told = wait_until_it_serves(&announced, asked_with.as_ref(), &mut out, || Ok(())).and_then(|()| announce(&announced, &mut out));
        if let Err(error) = told {
            tracing::warn!(%error, "the supervisor goes on");
        }
    });
    announcer.map_err(|cause| ClusterError::System { what: "cannot start a thread", cause })?;
    supervisor::run(lock, layout, state, password.cloned())
}

/// What `start` leaves in the background.
/// # Errors
/// As `start_in_foreground`; the one who started it reads them from the log.
pub(super) fn supervise(options: &StartOptions, password: Option<&Secret>) -> Result<(), ClusterError> {
    // A session of its own: no terminal's hang-up or Ctrl-C reaches it.
    rustix::process::setsid().map_err(|errno| ClusterError::System { what: "cannot open a session", cause: errno.into() })?;
    let (dir, state) = settle(options)?;
    let layout = state.layout(&dir)?;
    let lock = ClusterLock::take(&dir)?;
    supervisor::run(lock, layout, state, password.cloned())
}

/// Creates the directory if need be, and brings what was asked for together with what is recorded.
fn settle(options: &StartOptions) -> Result<(PathBuf, ClusterState), ClusterError> {
    let failed = |cause| ClusterError::File { path: options.dir.clone(), cause };
    std::fs::create_dir_all(&options.dir).map_err(failed)?;
    let dir = options.dir.canonicalize().map_err(failed)?;
    let Some(state) = ClusterState::read(&dir)? else {
        return Ok((dir, ClusterState::new(options.base_port.unwrap_or(BASE_PORT), options.nodes.unwrap_or(NODES))));
    };
    let has = format!("the cluster in {} has {} nodes from port {}", dir.display(), state.node_count(), state.base_port);
    if let Some(nodes) = options.nodes.filter(|nodes| *nodes != state.node_count()) {
        return Err(ClusterError::Options(format!("--nodes: '{nodes}' does not fit: {has}")));
    }
    if let Some(base_port) = options.base_port.filter(|base_port| *base_port != state.base_port) {
        return Err(ClusterError::Options(format!("--base-port: '{base_port}' does not fit: {has}")));
    }
    Ok((dir, state))
}

/// A supervisor in the background, as its parent sees it.
struct Supervisor {
    child: Child,
    log: PathBuf,
    /// Length of its log before it was started.
    log_bytes: u64,
}

impl Supervisor {
    fn spawn(layout: &Layout, state: &ClusterState) -> Result<Self, ClusterError> {
        let failed = |cause| ClusterError::System { what: "cannot start a supervisor", cause };
        let path = layout.supervisor_log();
        let log = log::open(&path)?;
        let log_bytes = log.metadata().map_err(failed)?.len();
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.args(["cluster", "supervise", "--dir"]).arg(layout.dir());
        command.arg(format!("--nodes={}", state.node_count())).arg(format!("--base-port={}", state.base_port));
        command.stdin(Stdio::null()).stdout(log.try_clone().map_err(failed)?).stderr(log);
        Ok(Self { child: command.spawn().map_err(failed)?, log: path, log_bytes })
    }

    /// # Errors
    /// The supervisor has ended; its last words say why.
    fn check(&mut self) -> Result<(), ClusterError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                let words = log::last_words(&self.log, self.log_bytes);
                Err(ClusterError::SupervisorFailed(words.unwrap_or_else(|| format!("the supervisor ended: {status}"))))
            }
            Err(cause) => Err(ClusterError::System { what: "cannot wait for the supervisor", cause }),
        }
    }
}

/// Waits until the cluster's id is recorded and every node that is not given up answers a linearizable read; tells what it is waiting for. `check` is asked before
/// every look whether waiting still makes sense.
fn wait_until_it_serves(
    layout: &Layout,
    password: Password<'_>,
    out: &mut dyn Write,
    mut check: impl FnMut() -> Result<(), ClusterError>,
) -> Result<(), ClusterError> {
    let start = Instant::now();
    let (mut told, mut told_at) = (String::new(), start);
    loop {
        check()?;
        let state = ClusterState::read(layout.dir())?.filter(ClusterState::is_supervised);
        // Before the id is recorded, a node that loses its directory could still help to form another cluster.
        let identified = state.as_ref().is_some_and(|state| state.cluster_id.is_some());
        let reports = state.map(|state| status::look(&state, layout, password)).unwrap_or_default();
        let waiting: Vec<&status::NodeReport> = reports.iter().filter(|report| !serves(report, layout, password)).collect();
        let given_up = waiting.iter().filter(|report| report.given_up.is_some()).count();
        if identified && waiting.len() == given_up && given_up < reports.len() {
            for report in waiting {
                writeln!(out, "warning: node {} stays down: {}", report.node, report.trouble().unwrap_or_default())?;
                writeln!(out, "{}", rejoin::advice(layout, report.node))?;
            }
            return Ok(());
        }
        if start.elapsed() > START_PATIENCE {
            return Err(too_slow(layout, &waiting));
        }
        let progress = describe(&reports);
        if progress != told || told_at.elapsed() > PROGRESS_INTERVAL {
            writeln!(out, "{:3} s: {progress}", start.elapsed().as_secs())?;
            out.flush()?;
            (told, told_at) = (progress, Instant::now());
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

fn serves(report: &status::NodeReport, layout: &Layout, password: Password<'_>) -> bool {
    let led = report.trouble().is_none() && report.info.as_ref().is_ok_and(|info| info.leader_id != 0);
    led && probe::linearizable_read(layout.listen(report.node), password, READ_PATIENCE).is_ok()
}

/// The state of affairs in one line.
fn describe(reports: &[status::NodeReport]) -> String {
    if reports.is_empty() {
        return "starting the supervisor".to_owned();
    }
    let nodes: Vec<String> = reports
        .iter()
        .map(|report| match &report.info {
            Ok(info) if info.leader_id == 0 => format!("node {} has no leader yet", report.node),
            Ok(_) => format!("node {} is {}", report.node, report.role()),
            // Nobody listens yet.
            Err(ProbeError::Connection(_)) => format!("node {} is starting", report.node),
            Err(error @ (ProbeError::Refused(_) | ProbeError::ErrorReply(_))) => format!("node {}: {error}", report.node),
        })
        .collect();
    nodes.join(", ")
}

fn too_slow(layout: &Layout, waiting: &[&status::NodeReport]) -> ClusterError {
    let seconds = START_PATIENCE.as_secs();
    let Some(report) = waiting.iter().find(|report| report.given_up.is_none()).or(waiting.first()) else {
        return ClusterError::TooSlow(format!("after {seconds} s there is no supervisor; see {}", layout.supervisor_log().display()));
    };
    let path = layout.node_log(report.node);
    let words = log::last_words(&path, 0).unwrap_or_else(|| "nothing".to_owned());
    let trouble = report.trouble().unwrap_or_else(|| "no linearizable read yet".to_owned());
    ClusterError::TooSlow(format!(
        "after {seconds} s node {} does not serve ({trouble}); it is still being tried; the end of {}: {words}",
        report.node,
        path.display()
    ))
}

/// Tells where the nodes are and what to do next.
fn announce(layout: &Layout, out: &mut dyn Write) -> Result<(), ClusterError> {
    writeln!(out, "the cluster serves:")?;
    for node in layout.nodes() {
        writeln!(out, "  node {node}  {}", layout.listen(node))?;
    }
    let program = this_program();
    if let Some(first) = layout.nodes().next() {
        let port = layout.listen(first).port();
        writeln!(out, "in a browser  http://{}/", layout.admin(first))?;
        writeln!(out, "connect with  {program} cli -p {port}   (or redis-cli -p {port})")?;
    }
    for (purpose, command) in [("look at it  ", "status"), ("stop it     ", "stop")] {
        writeln!(out, "{purpose}  {program} cluster {command} --dir {}", shell_word(layout.dir()))?;
    }
    out.flush()?;
    Ok(())
}

/// This program as it was called, so that a line with it can be used as it stands.
pub(super) fn this_program() -> String {
    shell_word(&std::env::args_os().next().map_or_else(|| PathBuf::from("redraft"), PathBuf::from))
}

/// A path as a shell takes it.
pub(super) fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(dir: &Path, nodes: Option<u16>, base_port: Option<u16>) -> StartOptions {
        StartOptions { dir: dir.to_owned(), nodes, base_port }
    }

    #[test]
    fn what_is_recorded_holds_and_contradictions_are_refused() {
        let root = tempfile::tempdir().expect("a directory");
        let dir = root.path().join("cluster");
        let (canonical, state) = settle(&options(&dir, None, None)).expect("a new cluster");
        assert_eq!((state.base_port, state.nodes.len()), (7001, 3));
        ClusterLock::take(&canonical).expect("free").write(&ClusterState::new(9001, 5)).expect("writable");
        for (nodes, base_port) in [(None, None), (Some(5), None), (None, Some(9001))] {
            let (_, state) = settle(&options(&dir, nodes, base_port)).expect("fits");
            assert_eq!((state.base_port, state.nodes.len()), (9001, 5));
        }
        let refused = |nodes, base_port| settle(&options(&dir, nodes, base_port)).expect_err("does not fit").to_string();
        let has = format!("does not fit: the cluster in {} has 5 nodes from port 9001", canonical.display());
        assert_eq!(refused(Some(3), None), format!("--nodes: '3' {has}"));
        assert_eq!(refused(None, Some(7001)), format!("--base-port: '7001' {has}"));
    }

    #[test]
    fn paths_are_quoted_for_the_shell() {
        for (path, word) in [("/a/b-1.c", "/a/b-1.c"), ("/a b", "'/a b'"), ("/it's", "'/it'\\''s'")] {
            assert_eq!(shell_word(Path::new(path)), word);
        }
    }
}
