//! Where a server's processor time goes: by its threads, each of which is a stage on a command's way (docs/architecture.md).

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;

use rustix::io::Errno;
use serde::Serialize;

use super::accounting::{TICK_US, ticks};

/// What a thread is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Clients and peers: the system calls of their sockets, parsing and replies.
    Network,
    /// The node's decisions: what is proposed, forwarded, read.
    Core,
    /// Encodes, writes and syncs the Raft log.
    Log,
    /// Executes committed commands.
    Apply,
    /// What nobody waits for: layers handed down, flushes, compactions.
    Background,
}

impl Stage {
    /// All of them, on a command's way.
    pub const ALL: [Stage; 5] = [Stage::Network, Stage::Core, Stage::Log, Stage::Apply, Stage::Background];

    /// That of a thread with this name.
    fn of(thread: &str) -> Stage {
        match thread {
            "network" => Stage::Network,
            "core" => Stage::Core,
            "log" => Stage::Log,
            "apply" => Stage::Apply,
            _ => Stage::Background,
        }
    }

    /// What people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stage::Network => "network",
            Stage::Core => "core",
            Stage::Log => "log",
            Stage::Apply => "apply",
            Stage::Background => "background",
        }
    }
}

/// Processor time of a process's threads since each began, in microseconds by stage. That of threads that have ended is not in it.
pub type StageTimes = BTreeMap<Stage, f64>;

/// Reads them.
/// # Errors
/// The system does not tell: one line.
pub fn read(pid: u32) -> Result<StageTimes, String> {
    let tasks = format!("/proc/{pid}/task");
    let told = |error| format!("{tasks}: {error}");
    let mut times = StageTimes::new();
    for task in fs::read_dir(&tasks).map_err(told)? {
        let task = task.map_err(told)?.path();
        let look = |name: &str| fs::read_to_string(task.join(name));
        let (name, stat) = match look("comm").and_then(|name| Ok((name, look("stat")?))) {
            // It has ended since the directory was read.
            Err(error) if error.kind() == ErrorKind::NotFound || Errno::from_io_error(&error) == Some(Errno::SRCH) => continue,
            read => read.map_err(told)?,
        };
        let ticks = ticks(&stat).ok_or_else(|| format!("{tasks}: stat has another form"))?;
        *times.entry(Stage::of(name.trim_end())).or_default() += ticks as f64 * TICK_US;
    }
    Ok(times)
}

/// What was spent between two looks.
#[must_use]
pub fn since(earlier: &StageTimes, now: &StageTimes) -> StageTimes {
    now.iter().map(|(stage, micros)| (*stage, (micros - earlier.get(stage).unwrap_or(&0.0)).max(0.0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_counted_by_its_name() {
        let (sender, stop) = std::sync::mpsc::channel::<()>();
        let apply = std::thread::Builder::new().name("apply".to_owned()).spawn(move || {
            let mut number = 1u64;
            while stop.try_recv().is_err() {
                number = std::hint::black_box(number.wrapping_mul(3));
            }
        });
        let apply = apply.expect("a thread to spare");
        let before = read(std::process::id()).expect("Linux tells");
        while since(&before, &read(std::process::id()).expect("Linux tells")).get(&Stage::Apply).is_none_or(|micros| *micros == 0.0) {
            std::thread::yield_now();
        }
        sender.send(()).expect("it listens");
        apply.join().expect("no panic");
    }
}
