//! Processes that the tests start: they end with their owner, and with this process however it ends.
//! The kernel sends a child its parent-death signal when the *thread* that started it ends. So one thread, which lives as long as the
//! process, starts them all; `setpriv` of util-linux asks for the signal, since asking for it before `exec` is unsafe code.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tempfile::NamedTempFile;

use crate::wait::{PATIENCE, wait_until};

/// Names the binary `redraft` to test.
const BINARY_VARIABLE: &str = "REDRAFT_BIN";

type Order = (Command, SyncSender<io::Result<Child>>);

/// The thread that starts all processes.
static STARTER: OnceLock<SyncSender<Order>> = OnceLock::new();

/// The binary under test.
/// # Panics
/// There is none.
#[must_use]
pub fn redraft_binary() -> PathBuf {
    let path = std::env::var_os(BINARY_VARIABLE).map_or_else(beside_this_program, PathBuf::from);
    assert!(path.is_file(), "there is no {}: build it with `cargo build -p redraft`, or name it in {BINARY_VARIABLE}", path.display());
    path
}

/// Programs are in `<target>/<profile>`, tests in its directory `deps`.
fn beside_this_program() -> PathBuf {
    let program = std::env::current_exe().expect("this program has a path");
    let dir = program.parent().expect("a program is in a directory");
    let dir = if dir.ends_with("deps") { dir.parent().expect("deps is in the directory of the profile") } else { dir };
    dir.join("redraft")
}

/// Sends a signal to a process, which may have ended.
/// # Panics
/// The system refuses for another reason.
pub fn send_signal(pid: u32, signal: Signal) {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid of the system");
    match kill_process(raw, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("cannot signal process {pid}: {error}"),
    }
}

/// Whether a process runs: it is there and is more than its remains. One whose first thread has ended keeps its ports as long as another
/// thread has not.
#[must_use]
pub fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let threads = || fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    // The state is the first field behind the name, which is in parentheses and may hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']) || threads() > 1)
}

/// A running process, killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a program that writes to the given file.
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start(program: &Path, args: &[String], output: File) -> Self {
        Self::start_with(program, args, &[], output)
    }

    /// As `start`, with variables in its environment.
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start_with(program: &Path, args: &[String], variables: &[(String, String)], output: File) -> Self {
        let errors = output.try_clone().expect("a file can be shared");
        Self::start_on(program, args, variables, [Stdio::null(), output.into(), errors.into()])
    }

    /// As `start_with`, with these for its standard input, output and errors.
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start_on(program: &Path, args: &[String], variables: &[(String, String)], streams: [Stdio; 3]) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(args);
        let [input, output, errors] = streams;
        command.stdin(input).stdout(output).stderr(errors);
        // Options come from flags alone, whatever the environment of whoever runs the tests has.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("REDRAFT_")) {
            command.env_remove(name);
        }
        command.envs(variables.iter().cloned());
        let (answer, answered) = sync_channel(1);
        starter().send((command, answer)).expect("the starter lives as long as the process");
        let started = answered.recv().expect("the starter answers every order");
        Self { child: started.unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display())) }
    }

    /// Its id. `setpriv` becomes the program, so it is the program's.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        send_signal(self.pid(), signal);
    }

    /// How it ended, if it has.
    /// # Panics
    /// The system does not say.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Takes from it the right to open any further file, socket or the like.
    /// # Panics
    /// The system refuses.
    pub fn forbid_new_files(&self) {
        let pid = Pid::from_child(&self.child);
        let none = Rlimit { current: Some(0), maximum: Some(0) };
        prlimit(Some(pid), Resource::Nofile, none).expect("a child's limits can be set");
    }

    /// Waits for its end.
    /// # Panics
    /// It does not end in time.
    #[track_caller]
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let mut status = None;
        wait_until(Instant::now() + patience, || {
            status = self.try_wait();
            status.is_some()
        });
        status.unwrap_or_else(|| panic!("process {} does not end within {patience:?}", self.pid()))
    }

    /// Ends it at once: SIGKILL.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let status = self.wait(PATIENCE);
        assert!(status.signal().is_some() || status.code().is_some(), "it has ended");
    }

    /// Resident memory, in bytes.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        status_bytes(self.pid(), "VmRSS:")
    }

    /// The most resident memory so far, in bytes.
    #[must_use]
    pub fn resident_bytes_peak(&self) -> u64 {
        status_bytes(self.pid(), "VmHWM:")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            // Nothing can be done about a failure here; the parent-death signal is left.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

fn starter() -> &'static SyncSender<Order> {
    STARTER.get_or_init(|| {
        let (orders, received) = sync_channel::<Order>(0);
        let starting = thread::Builder::new().name("starter".to_owned()).spawn(move || {
            for (mut command, answer) in received {
                // Whoever ordered waits for the answer.
                drop(answer.send(command.spawn()));
            }
        });
        starting.expect("a thread can be started");
        orders
    })
}

/// A line `name:  123 kB` of `/proc/<pid>/status`, in bytes; 0 if the process has ended.
fn status_bytes(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let value = status.lines().find_map(|line| line.strip_prefix(name)).and_then(|rest| rest.split_whitespace().next());
    value.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// A program that has run to its end with an input.
#[derive(Debug)]
pub struct Answered {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub output: Vec<u8>,
    /// Its standard error.
    pub errors: String,
}

/// Runs a program to its end with a standard input.
/// # Panics
/// It does not end in time.
#[track_caller]
pub fn run_with_input(program: &Path, args: &[&str], variables: &[(String, String)], input: &[u8], patience: Duration) -> Answered {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let [given, output, errors] = [(); 3].map(|()| NamedTempFile::new().expect("a file can be created"));
    fs::write(given.path(), input).expect("a file can be written");
    let streams = [&given, &output, &errors].map(|file| file.reopen().expect("it was just created").into());
    let status = Process::start_on(program, &args, variables, streams).wait(patience);
    let read = |file: &NamedTempFile| fs::read(file.path()).expect("a file can be read");
    Answered { code: status.code(), output: read(&output), errors: String::from_utf8_lossy(&read(&errors)).into_owned() }
}

/// A program that has run to its end.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// All it said, on both outputs.
    pub output: String,
}

/// Runs `redraft` to its end.
/// # Panics
/// It does not end in time.
#[track_caller]
pub fn run_redraft(args: &[&str], patience: Duration) -> Finished {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let file = NamedTempFile::new().expect("a file can be created");
    let mut process = Process::start(&redraft_binary(), &args, file.reopen().expect("it was just created"));
    let status = process.wait(patience);
    Finished { code: status.code(), output: fs::read_to_string(file.path()).expect("it says text") }
}
