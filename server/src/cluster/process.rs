//! Processes by identity: a pid alone may have been given to a stranger since it was written down.
//! A mark is pid, start time and boot. Linux only: read from `/proc`. A signal goes out only after the mark was compared; the moment
//! between the two is too short for the kernel to come round to the same pid.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// How often a process that should end is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Names one process for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessMark {
    pub(super) pid: u32,
    /// Start of the process in clock ticks since boot.
    start_ticks: u64,
    /// The kernel's id of the boot in which that was.
    boot_id: String,
}

impl ProcessMark {
    /// The mark of a process that runs now.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        Some(Self { pid, start_ticks: start_ticks(pid)?, boot_id })
    }

    /// The mark of this process.
    pub(super) fn of_this_process() -> Option<Self> {
        Self::of(std::process::id())
    }

    /// Whether the process still runs.
    pub(super) fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Sends a signal, if the process still runs.
    pub(super) fn signal(&self, signal: Signal) {
        if !self.is_alive() {
            return;
        }
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw)
            && let Err(error) = kill_process(pid, signal)
            && error != rustix::io::Errno::SRCH
        {
            tracing::warn!(pid = self.pid, ?signal, %error, "cannot send a signal");
        }
    }

    /// Waits until the process has ended, and says whether it has.
    pub(super) fn wait_until_gone(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        true
    }
}

/// Asks processes to stop, and kills those that do not in time.
pub(super) fn terminate(processes: &[ProcessMark], patience: Duration) {
    for process in processes {
        process.signal(Signal::TERM);
    }
    let deadline = Instant::now() + patience;
    for process in processes {
        if !process.wait_until_gone(deadline.saturating_duration_since(Instant::now())) {
            tracing::warn!(pid = process.pid, "the process does not stop and is killed");
            process.signal(Signal::KILL);
            process.wait_until_gone(patience);
        }
    }
}

/// Start time of a process that runs; `None` if there is none, or only its remains.
fn start_ticks(pid: u32) -> Option<u64> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 22 of `/proc/<pid>/stat` (proc_pid_stat(5)), unless field 3 says that the process is dead. Field 2, the name, may hold blanks and
/// parentheses, so fields are counted from its last parenthesis.
fn parse_stat(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn stat_is_read_behind_the_name() {
        let rest = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(parse_stat(&format!("12 (redraft) S {rest}")), Some(4711));
        assert_eq!(parse_stat(&format!("12 (a) b) (c) R {rest}")), Some(4711));
        assert_eq!(parse_stat(&format!("12 (redraft) Z {rest}")), None);
        assert_eq!(parse_stat("12 (redraft) S 1 2"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn a_mark_outlives_neither_its_process_nor_its_boot() {
        let mark = ProcessMark::of_this_process().expect("this process runs");
        assert!(mark.is_alive());
        assert!(!ProcessMark { start_ticks: mark.start_ticks + 1, ..mark.clone() }.is_alive());
        assert!(!ProcessMark { boot_id: "another".to_owned(), ..mark }.is_alive());
    }

    #[test]
    fn a_process_that_ignores_the_request_is_killed() {
        let mut polite = Command::new("sleep").arg("600").spawn().expect("sleep exists");
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' TERM; echo ready; read forever"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut stubborn = shell.spawn().expect("sh exists");
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stubborn.stdout.take().expect("piped")), &mut line).expect("ready");
        let marks = [&polite, &stubborn].map(|child| ProcessMark::of(child.id()).expect("it runs"));
        terminate(&marks, Duration::from_millis(300));
        assert!(marks.iter().all(|mark| !mark.is_alive()));
        for child in [&mut polite, &mut stubborn] {
            child.wait().expect("ended");
        }
    }
}
