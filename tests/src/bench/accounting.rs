//! What a run has cost, by the operating system's accounts, which anybody may read.
//! Processor time: `utime` and `stime` of all threads (`/proc/PID/stat`), in ticks of 10 ms, so a run of seconds has two or three digits.
//! Bytes written: `write_bytes` of `/proc/PID/io`, the pages that the process made dirty; a short append dirties a whole page of 4 KiB, and
//! what is written after the run, by a later compaction, is not in it.
//! Syncs: flushes that the disk has completed (`/sys/dev/block/.../stat`, field 16). That counts for the whole disk, whoever asked; while
//! one server works and the others idle they are its. Syncs of several processes at the same moment share a flush. A file system without
//! a disk of its own has no such count.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{major, minor};

use super::stages::{self, StageTimes};
use super::subjects::Part;

/// Microseconds of a tick: `USER_HZ` is 100, a part of the system's interface wherever redraft runs.
pub(super) const TICK_US: f64 = 10_000.0;

/// What a run has cost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cost {
    /// Processor time of each process, in microseconds.
    pub cpu_us: Vec<(Part, f64)>,
    /// The same by stage.
    pub stages_us: Vec<(Part, StageTimes)>,
    /// Bytes that all processes wrote.
    pub written_bytes: f64,
    /// Flushes of the disk per second, if they are counted.
    pub syncs_per_second: Option<f64>,
}

/// The accounts at one moment.
#[derive(Debug)]
pub struct Accounts {
    moment: Instant,
    processes: Vec<(Part, u32)>,
    usages: Vec<Usage>,
    stages: Vec<StageTimes>,
    disk: Option<PathBuf>,
    flushes: Option<u64>,
}

impl Accounts {
    /// Reads the accounts of some processes, and of the disk that a directory is on.
    /// # Errors
    /// The system does not tell: one line.
    pub fn read(processes: Vec<(Part, u32)>, dir: &Path) -> Result<Accounts, String> {
        let usages = processes.iter().map(|(_, pid)| Usage::read(*pid)).collect::<Result<_, _>>()?;
        let stages = processes.iter().map(|(_, pid)| stages::read(*pid)).collect::<Result<_, _>>()?;
        let disk = disk_of(dir);
        let flushes = disk.as_deref().and_then(flushes);
        Ok(Accounts { moment: Instant::now(), processes, usages, stages, disk, flushes })
    }

    /// What was spent since.
    /// # Errors
    /// The system does not tell: one line.
    pub fn cost_since(&self) -> Result<Cost, String> {
        let mut cost = Cost::default();
        for (((part, pid), before), stages) in self.processes.iter().zip(&self.usages).zip(&self.stages) {
            let now = Usage::read(*pid)?;
            cost.cpu_us.push((*part, now.cpu_us_since(before)));
            cost.stages_us.push((*part, stages::since(stages, &stages::read(*pid)?)));
            cost.written_bytes += now.written_bytes_since(before) as f64;
        }
        let flushes_now = self.disk.as_deref().and_then(flushes);
        let seconds = self.moment.elapsed().as_secs_f64();
        cost.syncs_per_second = self.flushes.zip(flushes_now).map(|(before, now)| now.saturating_sub(before) as f64 / seconds);
        Ok(cost)
    }
}

/// What a process has used since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    ticks: u64,
    written_bytes: u64,
}

impl Usage {
    /// That of a process.
    /// # Errors
    /// The system does not tell: one line.
    pub fn read(pid: u32) -> Result<Usage, String> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))
        };
        let ticks = ticks(&read("stat")?).ok_or_else(|| format!("/proc/{pid}/stat has another form"))?;
        let written_bytes = written_bytes(&read("io")?).ok_or_else(|| format!("/proc/{pid}/io has another form"))?;
        Ok(Usage { ticks, written_bytes })
    }

    /// Processor time since an earlier look at the same process, in microseconds.
    #[must_use]
    pub fn cpu_us_since(&self, earlier: &Usage) -> f64 {
        self.ticks.saturating_sub(earlier.ticks) as f64 * TICK_US
    }

    /// Bytes written since an earlier look at the same process.
    #[must_use]
    pub fn written_bytes_since(&self, earlier: &Usage) -> u64 {
        self.written_bytes.saturating_sub(earlier.written_bytes)
    }
}

/// Fields 14 and 15; the second is the name, in parentheses, and may hold anything.
pub(super) fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut times = rest.split(' ').skip(11).map(str::parse::<u64>);
    Some(times.next()?.ok()? + times.next()?.ok()?)
}

fn written_bytes(io: &str) -> Option<u64> {
    io.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.parse().ok()
}

/// Where the system tells about the disk that a directory is on. A partition's flushes are counted for the whole disk.
fn disk_of(dir: &Path) -> Option<PathBuf> {
    let device = fs::metadata(dir).ok()?.dev();
    let device = fs::canonicalize(format!("/sys/dev/block/{}:{}", major(device), minor(device))).ok()?;
    let disk = if device.join("partition").exists() { device.parent()?.to_owned() } else { device };
    Some(disk.join("stat"))
}

fn flushes(stat: &Path) -> Option<u64> {
    fs::read_to_string(stat).ok()?.split_whitespace().nth(15)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_by_their_places() {
        let stat = "42 (a) b) c) S 1 42 42 0 -1 4194304 2500 0 0 0 123 45 6 7 20 0 8 0 9000 1 2 3\n";
        assert_eq!(ticks(stat), Some(168));
        assert_eq!(ticks("42 (cut"), None);
        assert_eq!(written_bytes("rchar: 1\nwchar: 2\nread_bytes: 3\nwrite_bytes: 4096\ncancelled_write_bytes: 5\n"), Some(4096));
    }

    #[test]
    fn this_process_has_accounts() {
        let accounts = Accounts::read(vec![(Part::Alone, std::process::id())], Path::new("/")).expect("Linux tells");
        let mut number = 1u64;
        while accounts.cost_since().expect("Linux tells").cpu_us[0].1 == 0.0 {
            number = std::hint::black_box(number.wrapping_mul(3));
        }
    }
}
