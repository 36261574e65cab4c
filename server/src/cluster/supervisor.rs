//! The supervisor: starts the nodes, brings back those that end, and stops them all when told to.
//! One loop owns everything; threads that wait for a process, for signals, or for the cluster's id send it events. A node that ends is
//! started again at once; one that ends again and again right after its start is tried less and less often. A node that exits with
//! `EXIT_DO_NOT_RESTART` stays down until `cluster rejoin` asks for it as a new node; `cluster add` and `remove` change which nodes there
//! are. Nodes have process groups of their own, so that Ctrl-C reaches the supervisor alone.
//! Invariant: a node is told to form a cluster only while no cluster id is recorded; afterwards an empty directory can only join.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::layout::Layout;
use super::node::{check_ports, node_args, set_aside};
use super::process::{ProcessMark, terminate};
use super::request::{self, Request};
use super::signals::{self, start_thread};
use super::state::{ClusterLock, ClusterState};
use super::{ClusterError, NODES_MAX, STOP_PATIENCE, log, probe};
use crate::cli::{EXIT_BAD_FLAG, EXIT_DO_NOT_RESTART, EXIT_USAGE};
use crate::config::Secret;

/// A node that ends sooner than this after its start has ended at once.
const AT_ONCE: Duration = Duration::from_secs(3);
/// How long to wait before the next start, by the number of times that the node has ended at once; the last one repeats.
const BACK_OFF: [Duration; 6] =
    [Duration::ZERO, Duration::ZERO, Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5)];
/// How often the nodes are asked for the cluster's id, until one knows it.
const IDENTITY_INTERVAL: Duration = Duration::from_millis(200);
/// How long a node may take to answer that.
const IDENTITY_PATIENCE: Duration = Duration::from_secs(1);
/// How long to wait before the state is written again when the disk did not take it.
const RECORD_INTERVAL: Duration = Duration::from_secs(1);
/// How often the loop looks whether a command asks for something.
const REQUEST_INTERVAL: Duration = Duration::from_millis(500);
/// A second signal to stop is meant as one when it comes this long after the first: terminals and make may send one twice.
const SECOND_STOP: Duration = Duration::from_secs(1);
/// Events that may wait for the loop; it is never busy for long.
const EVENTS_WAITING_MAX: usize = 64;

/// What happens to a supervisor.
#[derive(Debug)]
enum Event {
    /// A node's process has ended.
    Ended { node: usize, status: ExitStatus },
    /// The nodes have formed a cluster.
    Formed { cluster_id: String },
    /// A signal asks to stop.
    Stop,
}

/// What the loop knows of a node beyond its recorded state.
#[derive(Debug, Default)]
struct Slot {
    /// When the present process was started; `None` while there is none.
    running_since: Option<Instant>,
    /// When to start the node; `None` while it runs or stays down.
    due: Option<Instant>,
    starts: u64,
    /// How many times in a row it has ended at once.
    ended_at_once: usize,
    /// Length of the node's log when the present process was started.
    log_bytes: u64,
    /// Whether the next start is that of a new node.
    rejoins: bool,
    /// Whether the node came while the others ran: then it is no reason to stop them when it cannot start.
    is_added: bool,
    /// Whether the node goes for good as soon as its process has ended.
    leaves: bool,
}

/// Whether the supervisor goes on.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Continue,
    Stop,
}

struct Supervisor {
    lock: ClusterLock,
    /// That of `state`.
    layout: Layout,
    state: ClusterState,
    /// What is in the file; differs from `state` while the disk takes no writes.
    recorded: Option<ClusterState>,
    /// By the node's number, from 1; also for numbers that have no node.
    slots: Vec<Slot>,
    /// The program of the nodes: the path of this one, so that a restart after an upgrade starts the new one.
    program: PathBuf,
    sender: SyncSender<Event>,
    events: Receiver<Event>,
}

/// Supervises until a signal asks to stop; then stops the nodes.
/// # Errors
/// A port is taken, a node does not start, or the directory cannot be written. No node is left running.
pub(super) fn run(lock: ClusterLock, layout: Layout, state: ClusterState, password: Option<Secret>) -> Result<(), ClusterError> {
    let left_over = state.running_nodes();
    if !left_over.is_empty() {
        tracing::info!(nodes = left_over.len(), "stopping nodes that an earlier supervisor left behind");
        terminate(&left_over, STOP_PATIENCE);
    }
    check_ports(&layout)?;
    let program = std::env::current_exe().map_err(|cause| ClusterError::System { what: "cannot find this program's file", cause })?;
    let mut supervisor = Supervisor::new(lock, layout, state, program);
    let sender = supervisor.sender.clone();
    signals::listen(move || sender.send(Event::Stop))?;
    supervisor.run(password)
}

impl Supervisor {
    fn new(lock: ClusterLock, layout: Layout, state: ClusterState, program: PathBuf) -> Self {
        let (sender, events) = sync_channel(EVENTS_WAITING_MAX);
        let slots = (0..NODES_MAX).map(|_| Slot::default()).collect();
        Self { lock, layout, state, recorded: None, slots, program, sender, events }
    }

    fn run(&mut self, password: Option<Secret>) -> Result<(), ClusterError> {
        let outcome = self.supervise(password);
        self.stop_nodes();
        self.state.supervisor = None;
        self.record().and(outcome)
    }

    fn supervise(&mut self, password: Option<Secret>) -> Result<(), ClusterError> {
        self.state.supervisor = ProcessMark::of_this_process();
        let now = Instant::now();
        for node in self.layout.nodes() {
            self.slots[node - 1].due = Some(now);
            self.state.nodes[node - 1].given_up = None;
        }
        request::withdraw_all(self.layout.dir())?;
        if self.state.cluster_id.is_none() {
            watch_for_identity(self.layout.clone(), password, self.sender.clone())?;
        }
        // Once nodes run, a disk that takes no writes is no reason to stop them; before, it is one not to start.
        self.record()?;
        loop {
            self.take_requests();
            self.start_due_nodes()?;
            let unrecorded =
                self.record().inspect_err(|error| tracing::error!(%error, "cannot record the cluster's state; trying again")).is_err();
            let retry = unrecorded.then(|| Instant::now() + RECORD_INTERVAL);
            let due = self.slots.iter().filter_map(|slot| slot.due).chain(retry).min();
            let wait = due.map_or(REQUEST_INTERVAL, |due| due.saturating_duration_since(Instant::now()).min(REQUEST_INTERVAL));
            let event = match self.events.recv_timeout(wait) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => unreachable!("the supervisor holds a sender"),
            };
            if self.handle(event)? == Next::Stop {
                return Ok(());
            }
        }
    }

    fn handle(&mut self, event: Event) -> Result<Next, ClusterError> {
        match event {
            Event::Ended { node, status } => self.node_ended(node, status)?,
            Event::Formed { cluster_id } => {
                tracing::info!(cluster_id, "the cluster is formed");
                self.state.cluster_id = Some(cluster_id);
            }
            Event::Stop => return Ok(Next::Stop),
        }
        Ok(Next::Continue)
    }

    fn take_requests(&mut self) {
        for request in request::take_all(self.layout.dir()) {
            match request {
                Request::Add(node) => {
                    if let Err(error) = self.add_node(node) {
                        tracing::error!(node, %error, "the node cannot be added");
                    }
                }
                Request::Remove(node) if self.layout.has(node) && self.can_spare_one() => {
                    tracing::info!(node, "the node goes for good");
                    self.slots[node - 1].leaves = true;
                    if self.kill_rest(node) {
                        self.let_go(node);
                    }
                }
                Request::Rejoin(node) if self.layout.has(node) => {
                    tracing::info!(node, "the node shall come back as a new one");
                    let slot = &mut self.slots[node - 1];
                    slot.rejoins = true;
                    slot.ended_at_once = 0;
                    if self.kill_rest(node) {
                        self.slots[node - 1].due = Some(Instant::now());
                    }
                }
                Request::Remove(node) | Request::Rejoin(node) => tracing::error!(node, "a request for a node that cannot be carried out"),
            }
        }
    }

    /// Kills what may be left of a node whose data are set aside; whether nothing was. Otherwise an event tells its end.
    fn kill_rest(&self, node: usize) -> bool {
        if let Some(process) = &self.state.nodes[node - 1].process {
            process.signal(Signal::KILL);
        }
        self.slots[node - 1].running_since.is_none()
    }

    /// Whether a node remains when one goes.
    fn can_spare_one(&self) -> bool {
        self.layout.nodes().filter(|node| !self.slots[node - 1].leaves).count() > 1
    }

    /// Takes in a node that joins the others by itself.
    fn add_node(&mut self, node: usize) -> Result<(), ClusterError> {
        if self.state.cluster_id.is_none() || self.state.next_number() != Some(node) {
            return Err(ClusterError::Options("there is no cluster to join yet, or another node is next".to_owned()));
        }
        let mut state = self.state.clone();
        state.add(node);
        let layout = state.layout(self.layout.dir())?;
        // What a former node of this number left could only be refused.
        set_aside(&layout, node)?;
        tracing::info!(node, "a node is added");
        (self.state, self.layout) = (state, layout);
        self.slots[node - 1] = Slot { due: Some(Instant::now()), is_added: true, ..Slot::default() };
        Ok(())
    }

    /// Forgets a node whose process has ended.
    fn let_go(&mut self, node: usize) {
        self.slots[node - 1] = Slot::default();
        if let Err(error) = set_aside(&self.layout, node) {
            tracing::error!(node, %error, "the directory of a removed node stays where it is");
        }
        self.state.remove(node);
        self.layout = self.state.layout(self.layout.dir()).expect("fewer nodes need no other ports");
        tracing::info!(node, "the node is gone");
    }

    fn start_due_nodes(&mut self) -> Result<(), ClusterError> {
        let now = Instant::now();
        for node in self.layout.nodes() {
            if self.slots[node - 1].due.is_none_or(|due| due > now) {
                continue;
            }
            match self.start_node(node) {
                Ok(()) => {}
                // What works once may fail later, when files are scarce or a disk is full, and then work again.
                Err(error) if self.slots[node - 1].starts > 0 || self.slots[node - 1].is_added => {
                    tracing::error!(node, %error, "the node cannot be started; trying again");
                    self.slots[node - 1].due = Some(now + BACK_OFF[BACK_OFF.len() - 1]);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn start_node(&mut self, node: usize) -> Result<(), ClusterError> {
        let dir = self.layout.node_dir(node);
        std::fs::create_dir_all(&dir).map_err(|cause| ClusterError::File { path: dir, cause })?;
        let log = log::open(&self.layout.node_log(node))?;
        let failed = |cause| ClusterError::System { what: "cannot start a node", cause };
        let log_bytes = log.metadata().map_err(failed)?.len();
        let mut command = Command::new(&self.program);
        command.args(node_args(&self.layout, self.state.cluster_id.as_deref(), node));
        // The supervisor alone says what the nodes belong to.
        command.env_remove("REDRAFT_CLUSTER_ID");
        command.stdin(Stdio::null()).stdout(log.try_clone().map_err(failed)?).stderr(log).process_group(0);
        let slot = &mut self.slots[node - 1];
        if slot.rejoins {
            command.arg("--rejoin");
        }
        let child = command.spawn().map_err(failed)?;
        let pid = child.id();
        let state = &mut self.state.nodes[node - 1];
        // Nobody waits for the child yet, so its pid is still its own.
        state.process = ProcessMark::of(pid);
        if std::mem::take(&mut slot.rejoins) {
            state.rejoins += 1;
            state.given_up = None;
        }
        slot.running_since = Some(Instant::now());
        slot.due = None;
        slot.starts += 1;
        slot.log_bytes = log_bytes;
        wait_for_end(node, child, self.sender.clone())?;
        tracing::info!(node, pid, "started a node");
        Ok(())
    }

    fn node_ended(&mut self, node: usize, status: ExitStatus) -> Result<(), ClusterError> {
        let slot = &mut self.slots[node - 1];
        let ran = slot.running_since.take().expect("a node ends once per start").elapsed();
        self.state.nodes[node - 1].process = None;
        let words = log::last_words(&self.layout.node_log(node), slot.log_bytes);
        let ending = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => status.to_string(),
        };
        if slot.leaves {
            self.let_go(node);
            return Ok(());
        }
        if slot.rejoins {
            slot.due = Some(Instant::now());
            return Ok(());
        }
        if status.code() == Some(i32::from(EXIT_DO_NOT_RESTART)) {
            let reason = words.unwrap_or(ending);
            tracing::error!(node, reason, "the node must not be started again and stays down");
            self.state.nodes[node - 1].given_up = Some(reason);
            return Ok(());
        }
        let refused = status.code().is_some_and(|code| [EXIT_USAGE, EXIT_BAD_FLAG].map(i32::from).contains(&code));
        if refused && slot.starts == 1 && ran < AT_ONCE {
            let reason = words.unwrap_or(ending);
            if !slot.is_added {
                return Err(ClusterError::NodeFailed { node, reason });
            }
            tracing::error!(node, reason, "the added node does not start as it is told and stays down");
            self.state.nodes[node - 1].given_up = Some(reason);
            return Ok(());
        }
        slot.ended_at_once = if ran < AT_ONCE { slot.ended_at_once + 1 } else { 0 };
        let delay = BACK_OFF[slot.ended_at_once.min(BACK_OFF.len() - 1)];
        slot.due = Some(Instant::now() + delay);
        tracing::warn!(node, ending, delay_ms = delay.as_millis(), last_words = words.as_deref().unwrap_or(""), "the node ended");
        Ok(())
    }

    /// Stops all nodes: asks, waits, and kills those that take too long. A second signal to stop ends the patience.
    fn stop_nodes(&mut self) {
        let running = |slots: &[Slot]| slots.iter().any(|slot| slot.running_since.is_some());
        if running(&self.slots) {
            tracing::info!("stopping the nodes");
        }
        self.signal_nodes(Signal::TERM);
        let asked = Instant::now();
        let mut deadline = asked + STOP_PATIENCE;
        while running(&self.slots) {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Ended { node, .. }) => {
                    self.slots[node - 1].running_since = None;
                    self.state.nodes[node - 1].process = None;
                }
                Ok(Event::Formed { cluster_id }) => self.state.cluster_id = Some(cluster_id),
                Ok(Event::Stop) if asked.elapsed() < SECOND_STOP => {}
                Ok(Event::Stop) | Err(RecvTimeoutError::Timeout) => {
                    tracing::warn!("killing the nodes that still run");
                    self.signal_nodes(Signal::KILL);
                    deadline = Instant::now() + STOP_PATIENCE;
                }
                Err(RecvTimeoutError::Disconnected) => unreachable!("the supervisor holds a sender"),
            }
        }
    }

    fn signal_nodes(&self, signal: Signal) {
        for process in self.state.nodes.iter().filter_map(|node| node.process.as_ref()) {
            process.signal(signal);
        }
    }

    fn record(&mut self) -> Result<(), ClusterError> {
        if self.recorded.as_ref() != Some(&self.state) {
            self.lock.write(&self.state)?;
            self.recorded = Some(self.state.clone());
        }
        Ok(())
    }
}

/// Starts a thread that waits for a node's process to end.
fn wait_for_end(node: usize, mut child: Child, sender: SyncSender<Event>) -> Result<(), ClusterError> {
    start_thread(format!("node-{node}"), move || match child.wait() {
        // The supervisor may have ended meanwhile; then nobody wants to know.
        Ok(status) => drop(sender.send(Event::Ended { node, status })),
        Err(error) => tracing::error!(node, %error, "cannot wait for a node"),
    })
}

/// Starts a thread that asks the nodes until one of them is a member of a cluster.
fn watch_for_identity(layout: Layout, password: Option<Secret>, sender: SyncSender<Event>) -> Result<(), ClusterError> {
    start_thread("identity".to_owned(), move || {
        loop {
            for node in layout.nodes() {
                if let Ok(info) = probe::raft_info(layout.listen(node), password.as_ref(), IDENTITY_PATIENCE)
                    && !info.cluster_id.is_empty()
                {
                    // The supervisor may have ended meanwhile; the next one asks again.
                    drop(sender.send(Event::Formed { cluster_id: info.cluster_id }));
                    return;
                }
            }
            thread::sleep(IDENTITY_INTERVAL);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A supervisor over a shell script in the place of nodes: a node reads what to do from a file in its directory.
    struct Stage {
        dir: tempfile::TempDir,
        stop: SyncSender<Event>,
        supervisor: thread::JoinHandle<Result<(), ClusterError>>,
    }

    impl Stage {
        fn start(behaviours: [&str; 2]) -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let program = dir.path().join("node.sh");
            std::fs::write(&program, "#!/bin/sh\n. \"${2#--data-dir=}/behaviour\"\n").expect("writable");
            std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
            for (number, behaviour) in behaviours.iter().enumerate() {
                let node_dir = dir.path().join(format!("node-{}", number + 1));
                std::fs::create_dir(&node_dir).expect("writable");
                std::fs::write(node_dir.join("behaviour"), behaviour).expect("writable");
            }
            let mut state = ClusterState::new(7001, 2);
            state.cluster_id = Some("ab".repeat(20));
            let layout = state.layout(dir.path()).expect("fits");
            let mut supervisor = Supervisor::new(ClusterLock::take(dir.path()).expect("free"), layout, state, program);
            let stop = supervisor.sender.clone();
            Self { dir, stop, supervisor: thread::spawn(move || supervisor.run(None)) }
        }

        fn state(&self) -> ClusterState {
            ClusterState::read_existing(self.dir.path()).expect("written")
        }

        fn wait_until(&self, what: &str, condition: impl Fn(&ClusterState) -> bool) -> ClusterState {
            let deadline = Instant::now() + Duration::from_secs(30);
            loop {
                if let Ok(Some(state)) = ClusterState::read(self.dir.path())
                    && condition(&state)
                {
                    return state;
                }
                assert!(Instant::now() < deadline, "{what}: not in time");
                thread::sleep(Duration::from_millis(5));
            }
        }

        fn end(self) -> (Result<(), ClusterError>, ClusterState) {
            // It may have ended by itself.
            drop(self.stop.send(Event::Stop));
            let outcome = self.supervisor.join().expect("no panic");
            let state = ClusterState::read_existing(self.dir.path()).expect("written");
            (outcome, state)
        }
    }

    #[test]
    fn a_node_that_is_killed_comes_back_and_all_stop_at_the_end() {
        let stage = Stage::start(["exec sleep 600", "exec sleep 600"]);
        let state = stage.wait_until("both nodes run", |state| state.running_nodes().len() == 2);
        assert!(state.is_supervised());
        state.running_nodes()[0].signal(Signal::KILL);
        let before = state.nodes[0].process.clone();
        let state = stage.wait_until("the node is back", |now| now.nodes[0].process != before && now.running_nodes().len() == 2);
        assert_eq!(state.nodes[1], stage.state().nodes[1]);
        let started = state.running_nodes();
        let (outcome, state) = stage.end();
        outcome.expect("stopped as told");
        assert!(started.iter().all(|process| !process.is_alive()));
        assert_eq!((state.supervisor, state.nodes), (None, vec![Default::default(); 2]));
    }

    #[test]
    fn a_node_that_must_not_be_restarted_stays_down_with_its_reason() {
        let stage = Stage::start(["echo 'redraft: this node was removed' >&2; exit 3", "exec sleep 600"]);
        let state = stage.wait_until("the node is given up", |state| state.nodes[0].given_up.is_some());
        assert_eq!(state.nodes[0].given_up.as_deref(), Some("this node was removed"));
        stage.end().0.expect("the other node is no reason to fail");
    }

    #[test]
    fn a_node_comes_back_as_a_new_one_when_asked_and_once() {
        let stays_down = "case \"$*\" in *--rejoin*) echo x >>\"${2#--data-dir=}/rejoins\"; exec sleep 600;; *) exit 3;; esac";
        let stage = Stage::start([stays_down, "exec sleep 600"]);
        stage.wait_until("the node is given up", |state| state.nodes[0].given_up.is_some());
        let request = |node: usize| std::fs::write(stage.dir.path().join(format!("rejoin-{node}")), "").expect("writable");
        request(1);
        let state = stage.wait_until("the node is back", |state| state.nodes[0].rejoins == 1);
        assert_eq!((&state.nodes[0].given_up, state.running_nodes().len()), (&None, 2));
        assert!(!stage.dir.path().join("rejoin-1").exists(), "the request is for one start");
        // From then on it is started as ever.
        state.nodes[0].process.as_ref().expect("it runs").signal(Signal::KILL);
        stage.wait_until("the node is given up again", |state| state.nodes[0].given_up.is_some());
        assert_eq!(std::fs::read(stage.dir.path().join("node-1/rejoins")).expect("written").len(), 2);
        // A process that does nothing any more is ended first.
        let hung = state.nodes[1].process.clone().expect("it runs");
        hung.signal(Signal::STOP);
        request(2);
        let state = stage.wait_until("the other node is new", |state| state.nodes[1].rejoins == 1);
        assert!(!hung.is_alive() && state.nodes[1].process.as_ref().is_some_and(ProcessMark::is_alive));
        stage.end().0.expect("stopped as told");
    }

    #[test]
    fn nodes_come_and_go_while_the_others_run() {
        let stage = Stage::start(["exec sleep 600", "exec sleep 600"]);
        let before = stage.wait_until("both nodes run", |state| state.running_nodes().len() == 2);
        let ask = |request: Request| request.leave(stage.dir.path()).expect("writable");
        // What is left of a former node of this number is put out of the way; the new one finds nothing and cannot start.
        std::fs::create_dir(stage.dir.path().join("node-3")).expect("writable");
        ask(Request::Add(3));
        let state =
            stage.wait_until("a third node", |state| state.nodes.len() == 3 && stage.dir.path().join("node-3/redraft.log").exists());
        assert_eq!(state.nodes[..2], before.nodes);
        assert!(stage.dir.path().join("node-3-set-aside-1").exists());
        let gone = before.nodes[1].process.clone().expect("it runs");
        ask(Request::Remove(2));
        let state = stage.wait_until("the second node is gone", |state| state.nodes[1].removed);
        assert_eq!((state.numbers(), gone.is_alive()), (vec![1, 3], false));
        assert!(stage.dir.path().join("node-2-set-aside-1/behaviour").exists() && !stage.dir.path().join("node-2").exists());
        ask(Request::Add(2));
        stage.wait_until("the number is used again", |state| state.numbers() == [1, 2, 3]);
        ask(Request::Remove(2));
        ask(Request::Remove(3));
        stage.wait_until("one node is left", |state| state.nodes.len() == 1);
        // The last one stays, and a number that is not next is not given.
        for request in [Request::Remove(1), Request::Add(7), Request::Add(2)] {
            ask(request);
            stage.wait_until("the request is taken up", |_| !request.path(stage.dir.path()).exists());
        }
        let state = stage.wait_until("a second node", |state| state.nodes.len() == 2);
        assert_eq!(state.nodes[0], before.nodes[0]);
        stage.end().0.expect("stopped as told");
    }

    #[test]
    fn a_node_that_cannot_start_as_configured_ends_the_start() {
        let stage = Stage::start(["exec sleep 600", "echo 'redraft: port taken' >&2; exit 1"]);
        let outcome = stage.supervisor.join().expect("no panic");
        assert_eq!(outcome.expect_err("a reason to fail").to_string(), "node 2 did not start: port taken");
        let state = ClusterState::read_existing(stage.dir.path()).expect("written");
        assert!(state.running_nodes().is_empty());
    }

    #[test]
    fn a_node_that_ends_at_once_is_started_again_and_again() {
        let stage = Stage::start(["echo x >>\"${2#--data-dir=}/starts\"; kill -9 $$", "exec sleep 600"]);
        let starts = stage.dir.path().join("node-1/starts");
        stage.wait_until("three starts", |_| std::fs::read(&starts).is_ok_and(|starts| starts.len() >= 6));
        stage.end().0.expect("a crashing node is no reason to fail");
    }
}
