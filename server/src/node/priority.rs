//! Priorities of threads: work in the background goes after what clients wait for.
//! The kernel schedules by thread, so a thread lowers itself, and RocksDB's are found by the names that it gives them.

use std::fs;
use std::io;

use rustix::process::setpriority_process;
use rustix::thread::{Pid, gettid};

/// Nice value of threads for which nobody waits: a tenth of the share of others.
const BACKGROUND_NICE: i32 = 10;
/// Names of the threads that compact, and of those that they start.
const COMPACTION_THREADS: &str = "rocksdb:low";

/// Lets the node's other threads go before this one, for which nobody waits from now on.
pub(super) fn step_back() {
    if let Err(error) = setpriority_process(Some(gettid()), BACKGROUND_NICE) {
        tracing::debug!(%error, "a thread in the background has the priority of the others");
    }
}

/// Lets all others go before the threads with which this process compacts. A database must be open: that starts them.
/// RocksDB itself could lower them to the least priority only. Then reads that keep all processors busy leave a compaction nothing, level 0
/// fills up, and writes stop for as long as the reads go on.
pub(super) fn compactions_step_back() {
    if let Err(error) = lower(COMPACTION_THREADS, BACKGROUND_NICE) {
        tracing::debug!(%error, "compactions have the priority of the other threads");
    }
}

/// # Errors
/// `Io`: there is no `/proc`, or it may not be done.
fn lower(name: &str, nice: i32) -> io::Result<()> {
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?;
        // One that has ended meanwhile needs nothing.
        if !fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name) {
            continue;
        }
        let id = task.file_name().to_str().and_then(|id| id.parse().ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            setpriority_process(Some(id), nice)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use raftlog::engine::{Durability, RocksEngine, RocksOptions};

    use super::*;

    /// The nice values of this process's threads of that name.
    fn nice_values(name: &str) -> Vec<i32> {
        let tasks = fs::read_dir("/proc/self/task").expect("/proc is there").flatten();
        let nice = |stat: String| {
            // The 19th field; the second is the name in parentheses.
            let (_, rest) = stat.rsplit_once(')').filter(|(front, _)| front.ends_with(&format!("({name}")))?;
            rest.split_whitespace().nth(16)?.parse().ok()
        };
        tasks.filter_map(|task| nice(fs::read_to_string(task.path().join("stat")).ok()?)).collect()
    }

    #[test]
    fn compactions_go_after_the_rest() {
        let dir = tempfile::tempdir().expect("a directory");
        let (memtable_bytes, block_cache_bytes) = (8 << 20, 1 << 20);
        let (column_families, queues) = (vec!["state"], Vec::new());
        let options = RocksOptions { column_families, queues, memtable_bytes, block_cache_bytes, durability: Durability::Flush };
        let _engine = RocksEngine::open(dir.path(), &options).expect("open");
        compactions_step_back();
        let compactions = nice_values(COMPACTION_THREADS);
        assert!(!compactions.is_empty() && compactions.iter().all(|nice| *nice == BACKGROUND_NICE), "{compactions:?}");
        let flushes = nice_values("rocksdb:high");
        assert!(!flushes.is_empty() && flushes.iter().all(|nice| *nice < BACKGROUND_NICE), "{flushes:?}");
    }
}
