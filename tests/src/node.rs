//! One node: the real binary with a directory, addresses and a log of its own, which can be stopped in every way and started again.
//! A node keeps its directory and addresses over restarts, as a machine would. What it writes goes to `<directory>.log`, over all its
//! lives; when a test fails, the end of that is printed.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::address;
use crate::client::{Client, ClientError, text};
use crate::dir::TestDir;
use crate::process::{Process, redraft_binary};
use crate::shim::{Preload, environment};
use crate::wait::{PATIENCE, eventually};

/// How long a node may take to say what it is.
const STATUS_PATIENCE: Duration = Duration::from_secs(2);
/// How much of a log is printed when a test fails, in bytes.
const LOG_TAIL_BYTES: u64 = 6 * 1024;

/// A node's part in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Leads.
    Leader,
    /// Follows and votes.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Follows without a vote.
    Learner,
}

/// What INFO's section `raft` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftStatus {
    /// The cluster.
    pub cluster_id: String,
    /// The node.
    pub node_id: u64,
    /// Its part.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// The leader it knows; 0 if it knows none.
    pub leader_id: u64,
    /// Last index known to be committed.
    pub commit_index: u64,
    /// Last index that was applied.
    pub applied_index: u64,
    /// First index that the log still has.
    pub first_index: u64,
    /// Last index of the log.
    pub last_index: u64,
    /// All members, by rising id.
    pub members: Vec<MemberStatus>,
}

/// A member as a node's table has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its id.
    pub node_id: u64,
    /// Its address for clients.
    pub listen: String,
    /// Whether it votes.
    pub voter: bool,
}

impl RaftStatus {
    /// Ids of the voters.
    #[must_use]
    pub fn voters(&self) -> Vec<u64> {
        self.members.iter().filter(|member| member.voter).map(|member| member.node_id).collect()
    }
}

/// One node.
#[derive(Debug)]
pub struct Node {
    dir: PathBuf,
    listen: SocketAddr,
    peer_listen: SocketAddr,
    admin_listen: SocketAddr,
    /// Options beyond directory and addresses, as flags.
    flags: Vec<String>,
    /// Libraries that its process is given.
    preloads: Vec<Preload>,
    process: Option<Process>,
    paused: bool,
    /// A node alone owns the directory that its own is in.
    _own: Option<TestDir>,
}

impl Node {
    /// A node that has not been started, in the directory `dir`, with options as flags.
    #[must_use]
    pub fn new(dir: PathBuf, flags: &[&str]) -> Self {
        let [listen, peer_listen, admin_listen] = [(); 3].map(|()| address::reserve());
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Self { dir, listen, peer_listen, admin_listen, flags, preloads: Vec::new(), process: None, paused: false, _own: None }
    }

    /// A node that is a cluster of its own and answers.
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn alone(flags: &[&str]) -> Self {
        Self::alone_in(TestDir::new(), flags)
    }

    /// As `alone`, in a directory that was chosen.
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn alone_in(dir: TestDir, flags: &[&str]) -> Self {
        let mut node = Self::new(dir.join("node-1"), flags);
        node.flags.push("--bootstrap".to_owned());
        node._own = Some(dir);
        node.start();
        node.wait_ready();
        node
    }

    /// Gives the node other addresses from its next start on.
    /// # Panics
    /// It runs.
    pub fn move_away(&mut self) {
        assert!(self.process.is_none(), "the node runs");
        [self.listen, self.peer_listen, self.admin_listen] = [(); 3].map(|()| address::reserve());
    }

    /// Adds options for the next start.
    pub fn add_flags(&mut self, flags: &[&str]) {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
    }

    /// Adds a library for the next start.
    pub fn preload(&mut self, preload: Preload) {
        self.preloads.push(preload);
    }

    /// Takes an option without a value away.
    pub fn remove_flag(&mut self, flag: &str) {
        self.flags.retain(|given| given != flag);
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listen
    }

    /// Where other nodes connect.
    #[must_use]
    pub fn peer_address(&self) -> SocketAddr {
        self.peer_listen
    }

    /// The data directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All flags of the node, as it was or will be started.
    #[must_use]
    pub fn command_line(&self) -> Vec<String> {
        let mut line = vec!["server".to_owned(), "--data-dir".to_owned(), self.dir.display().to_string()];
        for (flag, address) in [("--listen", self.listen), ("--peer-listen", self.peer_listen), ("--admin-listen", self.admin_listen)] {
            line.extend([flag.to_owned(), address.to_string()]);
        }
        line.extend(self.flags.iter().cloned());
        line
    }
}

/// Its process.
impl Node {
    /// Starts the process. The node answers some time later.
    /// # Panics
    /// It runs already, or cannot be started.
    #[track_caller]
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.dir.display());
        let mut log = File::options().create(true).append(true).open(self.log_path()).expect("a log can be opened");
        writeln!(log, "---- started").expect("a log can be written");
        self.process = Some(Process::start_with(&redraft_binary(), &self.command_line(), &environment(&self.preloads), log));
        self.paused = false;
    }

    /// Waits until the node answers.
    /// # Panics
    /// It does not in time, or its process ends.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        eventually("the node answers", || {
            let process = self.process.as_mut().expect("the node was started");
            if let Some(status) = process.try_wait() {
                panic!("{} ended: {status}", self.dir.display());
            }
            self.try_client()?.call(&["PING"]).ok()
        });
    }

    /// Waits until the node answers, or its process ends; how it ended.
    /// # Panics
    /// It does neither in time.
    #[track_caller]
    pub fn wait_ready_or_end(&mut self) -> Option<ExitStatus> {
        let ended = eventually("the node answers or ends", || {
            let status = self.process.as_mut().expect("the node was started").try_wait();
            if status.is_some() {
                return Some(status);
            }
            self.try_client()?.call(&["PING"]).ok().map(|_| None)
        });
        if ended.is_some() {
            self.process = None;
        }
        ended
    }

    /// How the process ended, if it has ended by itself; then the node does not run any more.
    pub fn take_end(&mut self) -> Option<ExitStatus> {
        let status = self.process.as_mut()?.try_wait()?;
        self.process = None;
        Some(status)
    }

    /// Whether the node was started and has not been told to end.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// Whether the node was ever started.
    #[must_use]
    pub fn was_started(&self) -> bool {
        self.log_path().exists()
    }

    /// Whether the process is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether the process runs and is not paused.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.process.is_some() && !self.paused
    }

    /// The process.
    /// # Panics
    /// The node does not run.
    #[must_use]
    #[track_caller]
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("the node runs")
    }

    /// Ends the process at once: SIGKILL.
    /// # Panics
    /// The node does not run.
    #[track_caller]
    pub fn kill(&mut self) {
        self.process.take().expect("the node runs").kill();
        self.paused = false;
    }

    /// Asks the process to stop: SIGTERM. It ends some time later.
    /// # Panics
    /// The node does not run.
    #[track_caller]
    pub fn terminate(&self) {
        self.process().signal(Signal::TERM);
    }

    /// Waits for the process to end by itself.
    /// # Panics
    /// It does not in time.
    #[track_caller]
    pub fn wait_end(&mut self) -> ExitStatus {
        let status = self.process.as_mut().expect("the node runs").wait(PATIENCE);
        self.process = None;
        status
    }

    /// Stops the node in order, and expects that it says so by its exit code.
    /// # Panics
    /// It does not stop in time, or fails.
    #[track_caller]
    pub fn stop(&mut self) {
        self.terminate();
        let status = self.wait_end();
        assert!(status.success(), "{} was told to stop and ended with {status}", self.dir.display());
    }

    /// Stops the process's time: SIGSTOP.
    /// # Panics
    /// The node does not run.
    #[track_caller]
    pub fn pause(&mut self) {
        self.process().signal(Signal::STOP);
        self.paused = true;
    }

    /// Lets a paused process go on: SIGCONT.
    /// # Panics
    /// The node does not run.
    #[track_caller]
    pub fn resume(&mut self) {
        self.process().signal(Signal::CONT);
        self.paused = false;
    }

    /// Removes all that the node has stored.
    /// # Panics
    /// It runs, or the directory cannot be removed.
    #[track_caller]
    pub fn wipe(&self) {
        assert!(self.process.is_none(), "the node runs");
        fs::remove_dir_all(&self.dir).expect("the directory can be removed");
    }

    fn log_path(&self) -> PathBuf {
        self.dir.with_extension("log")
    }

    /// All that the process has written, over all its lives.
    /// # Panics
    /// The log cannot be read.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).expect("a log can be read")).into_owned()
    }

    fn log_tail(&self) -> String {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(self.log_path()) {
            let length = file.metadata().map_or(0, |metadata| metadata.len());
            // What cannot be read is not shown.
            drop(file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES))));
            drop(file.read_to_end(&mut bytes));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Its clients.
impl Node {
    /// A connection.
    /// # Panics
    /// The node does not take it.
    #[must_use]
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.listen).unwrap_or_else(|error| panic!("cannot connect to {}: {error}", self.dir.display()))
    }

    /// A connection, if the node takes it.
    #[must_use]
    pub fn try_client(&self) -> Option<Client> {
        Client::connect(self.listen).ok()
    }

    /// What the node says of its group; `None` if it does not answer.
    #[must_use]
    pub fn try_status(&self) -> Option<RaftStatus> {
        if !self.is_active() {
            return None;
        }
        status_at(self.listen)
    }

    /// What the node says of its group.
    /// # Panics
    /// It says nothing.
    #[must_use]
    #[track_caller]
    pub fn status(&self) -> RaftStatus {
        eventually("the node tells its part in the group", || self.try_status())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("---- end of the log of {} ({})\n{}", self.dir.display(), self.listen, self.log_tail());
        }
    }
}

/// What a node says of its group; `None` if it does not answer.
pub(crate) fn status_at(listen: SocketAddr) -> Option<RaftStatus> {
    ask_status(&mut Client::connect(listen).ok()?.with_patience(STATUS_PATIENCE)).ok()
}

fn ask_status(client: &mut Client) -> Result<RaftStatus, ClientError> {
    Ok(parse_status(&text(&client.call(&["INFO", "raft"])?)))
}

/// # Panics
/// The text is not what INFO says.
fn parse_status(info: &str) -> RaftStatus {
    let lines = || info.lines().filter_map(|line| line.split_once(':'));
    let field = |name: &str| lines().find(|(field, _)| *field == name).unwrap_or_else(|| panic!("INFO raft has no {name}:\n{info}")).1;
    let number = |name: &str| field(name).parse().unwrap_or_else(|_| panic!("{name} is no number:\n{info}"));
    let mut members: Vec<MemberStatus> = lines().filter_map(|(name, value)| parse_member(name, value)).collect();
    members.sort_by_key(|member| member.node_id);
    RaftStatus {
        cluster_id: field("cluster_id").to_owned(),
        node_id: number("node_id"),
        // Not `role`, which Redis has for something else.
        role: match field("raft_role") {
            "leader" => Role::Leader,
            "follower" => Role::Follower,
            "candidate" => Role::Candidate,
            "learner" => Role::Learner,
            other => panic!("unknown role {other}"),
        },
        term: number("term"),
        leader_id: number("leader_id"),
        commit_index: number("commit_index"),
        applied_index: number("applied_index"),
        first_index: number("first_index"),
        last_index: number("last_index"),
        members,
    }
}

/// A line `node7:listen=...,voter=1,...`; other fields begin with `node`, too.
fn parse_member(name: &str, value: &str) -> Option<MemberStatus> {
    let node_id = name.strip_prefix("node")?.parse().ok()?;
    let part = |wanted: &str| value.split(',').filter_map(|part| part.split_once('=')).find(|(name, _)| *name == wanted);
    Some(MemberStatus { node_id, listen: part("listen")?.1.to_owned(), voter: part("voter")?.1 == "1" })
}

/// Waits until a condition on a node's status holds.
/// # Panics
/// It does not in time.
#[track_caller]
pub fn wait_status(node: &Node, what: &str, condition: impl Fn(&RaftStatus) -> bool) -> RaftStatus {
    eventually(what, || node.try_status().filter(&condition))
}

/// Waits until a node answers a linearizable read, and says how long that took.
/// # Panics
/// It does not in time.
#[track_caller]
pub fn wait_readable(node: &Node) -> Duration {
    let began = Instant::now();
    eventually("the node answers a read", || {
        let reply = node.try_client()?.call(&["EXISTS", "any"]).ok()?;
        matches!(reply, resp::Value::Integer(_)).then_some(())
    });
    began.elapsed()
}
