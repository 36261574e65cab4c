//! How a node's process ends when it cannot go on, and whether a supervisor may start it again.

use raftlog::engine::EngineError;

use super::fence;

/// Exit code of a node that must not be started again by a supervisor.
pub const EXIT_DO_NOT_RESTART: u8 = 3;
/// Exit code of a node that may be started again at once or later.
pub const EXIT_RESTART: u8 = 4;
/// The way back of a node that cannot be trusted or was removed, for its last message.
pub(crate) const REJOIN: &str = "if other nodes have the data, start this one once with --rejoin added to its flags to make it a new one, or, \
                                 under `redraft cluster`, run `redraft cluster rejoin --node N`";
/// What the system says when it lacks something that it may have again: descriptors (of the process or of the system), memory, a quota.
const PASSING_FAILURES: [&str; 5] =
    ["Too many open files", "Cannot allocate memory", "Disk quota exceeded", "Resource temporarily unavailable", "Interrupted system call"];
/// What RocksDB and we call the calls that make data durable.
const SYNCS: [&str; 3] = ["fsync", "fdatasync", "sync_file_range"];

/// Ends the process because this node cannot be trusted any further.
pub fn stop_process(reason: &str) -> ! {
    stop_with(EXIT_DO_NOT_RESTART, reason)
}

/// Ends the process because of an engine, in a way that tells a supervisor whether the cause may pass.
pub(crate) fn stop_for(error: &EngineError, reason: &str) -> ! {
    if may_pass(error) {
        stop_with(EXIT_RESTART, reason);
    }
    // A later start would not find out that a sync has failed: it reads what the system has in memory, which may never reach the disk.
    if matches!(error, EngineError::Corruption(_)) || is_failed_sync(error) {
        stop_for_good(reason);
    }
    stop_with(EXIT_DO_NOT_RESTART, &format!("{reason}; {REJOIN}"))
}

/// Ends the process because its data directory must never serve or vote again, and sees to it that no later start does. If that cannot be
/// noted in the directory, a later start finds out again.
pub(crate) fn stop_for_good(reason: &str) -> ! {
    forbid_restart(reason);
    stop_with(EXIT_DO_NOT_RESTART, &format!("{reason}; {REJOIN}"))
}

/// Sees to it that no later start of this data directory serves or votes, for a process that ends anyway.
pub(crate) fn forbid_restart(reason: &str) {
    fence::put_up(reason);
}

fn stop_with(exit_code: u8, reason: &str) -> ! {
    tracing::error!("{reason}");
    // The last line of a supervised node's log is what its operator is shown.
    eprintln!("redraft: {reason}");
    std::process::exit(exit_code.into());
}

/// Whether an engine's failure may be gone when the node is started next. If not, what is on the disk cannot be trusted, or an operator has
/// to look first. Engines tell the cause as text alone.
pub(crate) fn may_pass(error: &EngineError) -> bool {
    match error {
        EngineError::Io(text) => {
            error.is_disk_full() || (!is_failed_sync(error) && PASSING_FAILURES.iter().any(|cause| text.contains(cause)))
        }
        EngineError::WouldBlock | EngineError::Locked { .. } | EngineError::Corruption(_) => false,
    }
}

/// Whether data could not be made durable. What is on the disk is unknown then, whatever the cause was: the next sync may succeed without
/// having written what the first one lost.
pub(super) fn is_failed_sync(error: &EngineError) -> bool {
    matches!(error, EngineError::Io(text) if SYNCS.iter().any(|call| text.contains(call)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_judged_by_its_cause_and_a_failed_sync_never_passes() {
        let io = |text: &str| EngineError::Io(text.to_owned());
        let check = |error: EngineError, passes: bool| assert_eq!(may_pass(&error), passes, "{error}");
        check(io("IO error: While open a file for appending: /d/data/12.sst: Too many open files"), true);
        check(io("IO error: While mkdir if missing: /d/log: Too many open files in system"), true);
        check(io("IO error: While pread offset 0 len 4096: /d/data/12.sst: Cannot allocate memory"), true);
        check(io("IO error: No space left on device: While appending to file: /d/log/9.log: No space left on device"), true);
        check(io("IO error: While appending to file: /d/log/9.log: Disk quota exceeded"), true);
        check(io("/d/log: Interrupted system call (os error 4)"), true);
        check(io("Resource temporarily unavailable (os error 11)"), true);
        // A sync that failed stays failed; without room, nothing was promised that the disk does not have.
        check(io("IO error: While fdatasync: /d/log/9.log: Cannot allocate memory"), false);
        check(io("IO error: While fsync: /d/data/12.sst: Input/output error"), false);
        check(io("IO error: While sync_file_range returned error: /d/log/9.log: Interrupted system call"), false);
        check(io("IO error: No space left on device: While fdatasync: /d/log/9.log: No space left on device"), true);
        check(io("IO error: While pread offset 0 len 4096: /d/data/12.sst: Input/output error"), false);
        check(io("IO error: While appending to file: /d/log/9.log: Read-only file system"), false);
        check(EngineError::Corruption("block checksum mismatch in /d/data/12.sst: Too many open files".to_owned()), false);
        check(EngineError::Locked { path: "/d/log".into() }, false);
    }
}
