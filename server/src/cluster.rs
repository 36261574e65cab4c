//! `redraft cluster`: several nodes on this machine under one supervisor; also `redraft status`, which looks at them, and `redraft demo`, which
//! has three of its own.
//! `layout` says where everything is, `state` is the file that commands and supervisor share, `supervisor` starts and restarts the nodes as
//! `node` says, `request` is what commands ask of it. `start`, `stop`, `restart`, `rejoin`, `recover`, `add`, `remove`, `transfer`, `verify`,
//! `status`, `watch` and `demo` are the commands; `arrival` waits for a new member, `probe` asks a node over RESP, `process` knows pids, `signals` and
//! `log` serve all. Threads and blocking calls throughout: nothing here is on a path of data.
//! Invariant: whoever writes `cluster.json` or starts nodes holds the lock on `supervisor.lock`, so there is one supervisor per directory.
//! A process is named by pid, start time and boot, never by pid alone, so that no signal goes to a stranger.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

mod add;
mod arrival;
mod demo;
mod layout;
mod log;
mod node;
mod probe;
mod process;
mod recover;
mod rejoin;
mod remove;
mod request;
mod restart;
mod signals;
mod start;
mod state;
mod status;
mod stop;
mod supervisor;
mod table;
mod transfer;
mod verify;
mod watch;

use crate::config::{Config, ConfigError, Secret};
use crate::node::storage::{RecoveryError, StorageOptions};

/// Most nodes that one supervisor takes; a test bed, not a data centre.
pub const NODES_MAX: u16 = 9;

/// How long a node may take to stop before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// What `start` was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartOptions {
    /// Directory of the cluster.
    pub dir: PathBuf,
    /// Number of nodes; `None` is what the directory has, or 3.
    pub nodes: Option<u16>,
    /// Port of node 1; `None` is what the directory has, or 7001.
    pub base_port: Option<u16>,
}

/// What `recover` was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoverOptions {
    /// Where the survivors are.
    pub survivors: Survivors,
    /// Whether it was agreed to already.
    pub yes: bool,
    /// Whether that holds although voters that are taken for lost seem to live.
    pub despite_answers: bool,
    /// Whether the report is for scripts.
    pub json: bool,
}

/// Directories of nodes that are left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Survivors {
    /// Those in the directory of a cluster.
    Cluster(PathBuf),
    /// Data directories of nodes that were run without a supervisor; at least one.
    DataDirs(Vec<PathBuf>),
}

/// A cluster command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterCommand {
    /// Start in the background and return when the cluster serves.
    Start(StartOptions),
    /// Start, and supervise until a signal.
    StartInForeground(StartOptions),
    /// What `Start` leaves in the background.
    Supervise(StartOptions),
    /// Show the nodes as a table.
    Status {
        /// Directory of the cluster.
        dir: PathBuf,
    },
    /// Show the nodes as JSON.
    StatusJson {
        /// Directory of the cluster.
        dir: PathBuf,
    },
    /// Stop everything.
    Stop {
        /// Directory of the cluster.
        dir: PathBuf,
    },
    /// Restart the nodes one at a time.
    RollingRestart {
        /// Directory of the cluster.
        dir: PathBuf,
    },
    /// Start one node more.
    Add {
        /// Directory of the cluster.
        dir: PathBuf,
    },
    /// Have a node leave for good.
    Remove {
        /// Directory of the cluster.
        dir: PathBuf,
        /// Number of the node, from 1.
        node: usize,
    },
    /// Have another node lead.
    Transfer {
        /// Directory of the cluster.
        dir: PathBuf,
        /// Number of the node; `None` is the follower with the longest log.
        to: Option<usize>,
    },
    /// Compare the data of all nodes.
    Verify {
        /// Directory of the cluster.
        dir: PathBuf,
    },
    /// Show how the nodes do.
    Overview {
        /// Directory of the cluster.
        dir: PathBuf,
    },
    /// Show how the nodes do, again and again.
    Watch {
        /// Directory of the cluster.
        dir: PathBuf,
    },
    /// Bring a node that stays down back as a new one.
    Rejoin {
        /// Directory of the cluster.
        dir: PathBuf,
        /// Number of the node, from 1.
        node: usize,
    },
    /// Make a survivor a cluster of its own after a majority was lost for ever.
    Recover(RecoverOptions),
    /// Check that everything is well.
    Health {
        /// Directory of the cluster.
        dir: PathBuf,
    },
}

/// Why a cluster command failed. Every text is one line.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The environment or the file that it names has a bad option.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file or directory cannot be used.
    #[error("{}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// A file of the cluster does not have the form that it should.
    #[error("{}: {problem}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// There has never been a cluster in the directory.
    #[error("there is no cluster in {}", .0.display())]
    NoCluster(PathBuf),
    /// The cluster exists and does not run.
    #[error("the cluster in {} is not running", .0.display())]
    NotRunning(PathBuf),
    /// Another supervisor, or another `start` or `stop`, is at work.
    #[error("a cluster already runs in {}", .0.display())]
    AlreadyRunning(PathBuf),
    /// The options do not fit what is there.
    #[error("{0}")]
    Options(String),
    /// A port of a node is in use by another program.
    #[error("node {node} cannot listen on {address}: {cause}")]
    PortTaken {
        /// Number of the node.
        node: usize,
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// A node ended at once and starting it again will not help.
    #[error("node {node} did not start: {reason}")]
    NodeFailed {
        /// Number of the node.
        node: usize,
        /// The last words of its log.
        reason: String,
    },
    /// The supervisor ended before the cluster served.
    #[error("{0}")]
    SupervisorFailed(String),
    /// The cluster took too long.
    #[error("{0}")]
    TooSlow(String),
    /// A node does not do what it is asked for.
    #[error("node {node}: {problem}")]
    Refused {
        /// Number of the node.
        node: usize,
        /// What it says, or that it says nothing.
        problem: String,
    },
    /// What is there cannot be recovered from, or need not be, or nobody has agreed to it.
    #[error("{0}")]
    NotRecovered(String),
    /// The recovery of a directory failed.
    #[error("{}: {cause}", dir.display())]
    Recovery {
        /// The directory.
        dir: PathBuf,
        /// Why.
        #[source]
        cause: RecoveryError,
    },
    /// A recovery failed after it was begun: the survivor is neither what it was nor what it shall be.
    #[error("{cause}; {advice}")]
    Unfinished {
        /// Why.
        #[source]
        cause: Box<ClusterError>,
        /// What to do.
        advice: &'static str,
    },
    /// A signal came before the end.
    #[error("stopped by a signal")]
    Interrupted,
    /// A node cannot be restarted now, or the cluster is not well.
    #[error("the cluster is not healthy: {0}")]
    Unhealthy(String),
    /// The system refused something: a process, a thread, a signal.
    #[error("{what}: {cause}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Standard output is closed.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

/// Carries a cluster command out; what there is to say goes to standard output.
/// # Errors
/// The command failed, or what it reports is not well: one line says why.
pub fn run(command: &ClusterCommand) -> Result<(), ClusterError> {
    // The nodes take their options from this environment, so it is also where the password for asking them is.
    let config = Config::from_environment()?;
    let password = config.runtime.values().requirepass.clone();
    let password = password.as_ref();
    let mut out = io::stdout().lock();
    match command {
        ClusterCommand::Start(options) => start::start(options, password, &mut out),
        ClusterCommand::StartInForeground(options) => {
            // The supervisor's loop takes this thread; another one announces that the cluster serves.
            drop(out);
            start::start_in_foreground(options, password)
        }
        ClusterCommand::Supervise(options) => start::supervise(options, password),
        ClusterCommand::Status { dir } => status::show(dir, password, status::Form::Table, &mut out),
        ClusterCommand::StatusJson { dir } => status::show(dir, password, status::Form::Json, &mut out),
        ClusterCommand::Stop { dir } => stop::stop(dir, &mut out),
        ClusterCommand::RollingRestart { dir } => restart::restart(dir, password, &mut out),
        ClusterCommand::Add { dir } => add::add(dir, password, &mut out),
        ClusterCommand::Remove { dir, node } => remove::remove(dir, *node, password, &mut out),
        ClusterCommand::Transfer { dir, to } => transfer::transfer(dir, *to, password, &mut out),
        ClusterCommand::Verify { dir } => verify::verify(dir, password, &mut out),
        ClusterCommand::Overview { dir } => watch::show(dir, password, &mut out),
        ClusterCommand::Watch { dir } => {
            // It draws on the terminal by itself.
            drop(out);
            watch::watch(dir, password)
        }
        ClusterCommand::Rejoin { dir, node } => rejoin::rejoin(dir, *node, password, &mut out),
        ClusterCommand::Recover(options) => {
            let sizes = StorageOptions { block_cache_bytes: config.block_cache_bytes, memtable_bytes: config.memtable_bytes };
            recover::recover(options, sizes, &mut out)
        }
        ClusterCommand::Health { dir } => status::health(dir, password, &mut out),
    }
}

/// `redraft demo`: shows on three nodes of its own what they promise, and leaves nothing behind.
/// # Errors
/// The nodes do not start or do what they should not, or a signal ended it: one line says why.
pub fn demo() -> Result<(), ClusterError> {
    demo::run()
}

/// A password for asking nodes, if they want one.
type Password<'a> = Option<&'a Secret>;
